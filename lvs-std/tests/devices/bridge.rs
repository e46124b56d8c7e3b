//! Two hosts and a program between them that copies every frame from one device to the other.

use core::error::Error;
use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use lvs_forward::{Checksum, HEADROOM, PortId};
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::device::tun::{self, Layer};
use lvs_std::device::{Device, ReceiveCounters, TransmitCounters};
use lvs_std::lab::{Lab, Node};

pub(crate) const LEFT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const RIGHT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) type Counted = (ReceiveCounters, TransmitCounters);

/// Two nodes joined by a third, which copies every frame from one of its interfaces to the other by devices.
pub(crate) struct Bridge {
    pub(crate) left: Node,
    pub(crate) right: Node,
    pub(crate) partial: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Counted, Counted)>,
}

impl Bridge {
    /// Packet sockets in the middle of two cables.
    pub(crate) fn by_packet(lab: Lab, options: &PacketOptions) -> Result<Self, Box<dyn Error>> {
        let (left, middle, right) = (lab.node("left")?, lab.node("middle")?, lab.node("right")?);
        lab.connect((&left, "eth0"), (&middle, "eth0"))?;
        lab.connect((&right, "eth0"), (&middle, "eth1"))?;
        left.add_address("eth0", LEFT.into(), 24)?;
        right.add_address("eth0", RIGHT.into(), 24)?;
        let one = middle.run(|| packet::open("eth0", options))??.device;
        let other = middle.run(|| packet::open("eth1", options))??.device;
        Ok(Self::start(left, right, one, other))
    }

    /// A TUN or TAP interface on either side.
    pub(crate) fn by_tun(lab: Lab, layer: Layer) -> Result<Self, Box<dyn Error>> {
        let mut ends = Vec::new();
        for (name, address) in [("left", LEFT), ("right", RIGHT)] {
            let node = lab.node(name)?;
            let tun = node.run(|| tun::open("lvs%d", layer))??;
            assert_eq!(tun.name, "lvs0");
            assert_eq!(tun.mac, node.interface("lvs0")?.mac);
            node.add_address(&tun.name, address.into(), 24)?;
            ends.push((node, tun.device));
        }
        let ((right, other), (left, one)) = (ends.remove(1), ends.remove(0));
        Ok(Self::start(left, right, one, other))
    }

    fn start(left: Node, right: Node, one: Device, other: Device) -> Self {
        let (stop, partial) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (stop, partial) = (stop.clone(), partial.clone());
            thread::spawn(move || copy(one, other, &stop, &partial))
        };
        Self { left, right, partial, stop, thread }
    }

    /// Sends `length` bytes by TCP from left to right; returns how many arrived.
    pub(crate) fn transfer(&self, length: usize) -> Result<usize, Box<dyn Error>> {
        let listener = self.right.run(|| TcpListener::bind((RIGHT, 80)))??;
        let sender = self.left.spawn("sender", move || {
            let mut stream = TcpStream::connect((RIGHT, 80))?;
            let block: Vec<u8> = (0..1 << 16).map(|n| (n % 251) as u8).collect();
            for _ in 0..length / block.len() {
                stream.write_all(&block)?;
            }
            Ok::<(), std::io::Error>(())
        })?;
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        sender.join().expect("the sender does not panic")?;
        let wrong = received.iter().enumerate().find(|(at, byte)| **byte != ((at % (1 << 16)) % 251) as u8);
        assert_eq!(wrong, None, "every byte arrives as sent");
        Ok(received.len())
    }

    pub(crate) fn stop(self) -> (Counted, Counted) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the bridge does not panic")
    }
}

fn copy(mut one: Device, mut other: Device, stop: &AtomicBool, partial: &AtomicBool) -> (Counted, Counted) {
    while !stop.load(Ordering::Relaxed) {
        let mut moved = 0;
        for (from, to) in [(&mut one.receive, &mut other.transmit), (&mut other.receive, &mut one.transmit)] {
            moved += from
                .receive(PortId(0), &mut |frames| {
                    for frame in frames {
                        if matches!(frame.offload.checksum, Checksum::Partial { .. }) {
                            partial.store(true, Ordering::Relaxed);
                        }
                        assert!(frame.headroom() >= HEADROOM);
                        let _ = to.transmit(frame);
                    }
                })
                .expect("the interface stays");
            to.flush().expect("the interface stays");
        }
        if moved == 0 {
            thread::sleep(Duration::from_micros(100));
        }
    }
    let counted = |device: &mut Device| (device.receive.counters(), device.transmit.counters());
    (counted(&mut one), counted(&mut other))
}
