//! A source of packets: as many as a socket sends.

use core::error::Error;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;

use lvs_forward::checksum::Sum;
use lvs_forward::{Frame, PortId};
use lvs_std::device::Device;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::device::xdp::{self, Attach, XdpOptions};

use super::stage::{SOURCE_PROCESSOR, Stage, pin};

/// A running flood.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Where it is to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entrance {
    pub(super) mac: [u8; 6],
    pub(super) to: SocketAddrV4,
}

impl Flood {
    pub(super) fn start(stage: &Stage, entrance: Entrance) -> Result<Self, Box<dyn Error>> {
        let mut device = stage.source.run(|| open("eth0"))??;
        let mut frames: Vec<[u8; LENGTH]> = (0..FLOWS).map(|flow| frame(flow, entrance)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = stage.source.spawn("flood", move || {
            pin(SOURCE_PROCESSOR);
            let mut flow = 0_usize;
            while !until.load(Ordering::Relaxed) {
                for _ in 0..BATCH {
                    // An odd step visits every flow, and none near the one before.
                    flow = (flow + STEP) % FLOWS as usize;
                    let Some(bytes) = frames.get_mut(flow) else { return };
                    let Some(frame) = Frame::new(bytes, 0, LENGTH, PortId(0)) else { return };
                    // One that finds no room is not sent.
                    let _ = device.transmit.transmit(&frame);
                }
                if device.transmit.flush().is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic in there shows as no packets.
        drop(self.thread.join());
    }
}

/// An interface of the source's by an `AF_XDP` socket, whose packets the kernel makes in one piece, with the headroom
/// that an XDP program further on needs, as it does for those of ordinary sockets. Where that cannot be had, by the
/// ring of a packet socket, whose packets are in pieces: whoever needs them in one has to copy them.
pub(super) fn open(interface: &str) -> Result<Device, packet::OpenError> {
    let mut options = XdpOptions::default();
    options.attach = Attach::Generic;
    match xdp::open(&[(interface, Some(MAC))], &options) {
        Ok((mut opened, _)) if !opened.is_empty() => Ok(opened.remove(0).device),
        Ok(_) | Err(_) => {
            let mut options = PacketOptions::default();
            options.receive_slots = 15;
            packet::open(interface, &options).map(|packet| packet.device)
        }
    }
}

/// A datagram of one of the flows: 256 clients with 256 ports each.
pub(super) fn frame(flow: u32, entrance: Entrance) -> [u8; LENGTH] {
    let [_, _, client, port] = flow.to_be_bytes();
    let from = SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, client), 40_000 + u16::from(port));
    let (mut bytes, payload) = ([0; LENGTH], LENGTH - HEADERS);
    let mut at = 0;
    let mut put = |part: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + part.len()) {
            place.copy_from_slice(part);
        }
        at += part.len();
    };
    let (udp, ip) = ((8 + payload) as u16, (28 + payload) as u16);
    let to = entrance.to;
    let header = [&[0x45, 0][..], &ip.to_be_bytes(), &[0; 4], &[64, 17]].concat();
    let addresses = [from.ip().octets(), to.ip().octets()].concat();
    let sum = Sum::ZERO.bytes(&header).bytes(&addresses).checksum();
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes(), udp.to_be_bytes()].concat();
    let udp_sum = Sum::pseudo_v4(*from.ip(), *to.ip(), 17, udp.into()).bytes(&ports).udp_checksum();
    put(&entrance.mac);
    put(&MAC);
    put(&[8, 0]);
    put(&header);
    put(&sum.to_be_bytes());
    put(&addresses);
    put(&ports);
    put(&udp_sum.to_be_bytes());
    bytes
}

/// Whom the frames are from.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
/// Flows: pairs of a client's address and port.
const FLOWS: u32 = 1 << 16;
const STEP: usize = 40_503;
/// Frames between two system calls.
const BATCH: u32 = 64;
/// Bytes of a frame: the shortest that Ethernet carries, without its check sequence of 4.
pub(super) const LENGTH: usize = 60;
/// Bytes before its payload.
pub(super) const HEADERS: usize = 14 + 20 + 8;
