//! Packet sockets with mapped rings, over veth with the offloads that it has by default.

use core::error::Error;
use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use libtest_mimic::Trial;
use lvs_forward::{Checksum, HEADROOM, PortId};
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::device::{Device, ReceiveCounters, TransmitCounters};
use lvs_std::lab::{Lab, Node};

use crate::trial;

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    vec![
        trial("merged TCP passes two rings merged and arrives whole", move || {
            let bridge = Bridge::new(lab)?;
            let received = bridge.transfer(32 << 20)?;
            assert_eq!(received, 32 << 20);
            let (left, right) = bridge.stop();
            assert!(left.0.merged > 100, "veth hands merged frames over: {left:?}");
            assert_eq!(right.1.merged, left.0.merged, "as many go out merged: {right:?}");
            assert_eq!(left.0.cut + left.0.invalid + right.0.cut + right.0.invalid, 0);
            assert_eq!((left.1.lost(), right.1.lost()), (0, 0));
            Ok(())
        }),
        trial("a partial checksum survives the way through both rings", move || {
            let bridge = Bridge::new(lab)?;
            let to = bridge.right.run(|| UdpSocket::bind((RIGHT, 7)))??;
            let from = bridge.left.run(|| UdpSocket::bind((LEFT, 0)))??;
            to.set_read_timeout(Some(PATIENCE))?;
            from.send_to(b"a datagram of which the sender's kernel left the sum open", (RIGHT, 7))?;
            let mut buffer = [0; 100];
            let (length, _) = to.recv_from(&mut buffer)?;
            assert_eq!(&buffer[..length], b"a datagram of which the sender's kernel left the sum open");
            assert!(bridge.partial.load(Ordering::Relaxed), "veth leaves checksums partial");
            bridge.stop();
            Ok(())
        }),
    ]
}

const LEFT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const PATIENCE: Duration = Duration::from_secs(10);

type Counted = (ReceiveCounters, TransmitCounters);

/// Two nodes joined by a third, which copies every frame from one of its interfaces to the other by devices.
struct Bridge {
    left: Node,
    right: Node,
    partial: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Counted, Counted)>,
}

impl Bridge {
    fn new(lab: Lab) -> Result<Self, Box<dyn Error>> {
        let (left, middle, right) = (lab.node("left")?, lab.node("middle")?, lab.node("right")?);
        lab.connect((&left, "eth0"), (&middle, "eth0"))?;
        lab.connect((&right, "eth0"), (&middle, "eth1"))?;
        left.add_address("eth0", LEFT.into(), 24)?;
        right.add_address("eth0", RIGHT.into(), 24)?;
        let options = PacketOptions::default();
        let one = middle.run(|| packet::open("eth0", &options))??.device;
        let other = middle.run(|| packet::open("eth1", &options))??.device;
        let (stop, partial) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (stop, partial) = (stop.clone(), partial.clone());
            middle.spawn("bridge", move || copy(one, other, &stop, &partial))?
        };
        Ok(Self { left, right, partial, stop, thread })
    }

    /// Sends `length` bytes by TCP from left to right; returns how many arrived.
    fn transfer(&self, length: usize) -> Result<usize, Box<dyn Error>> {
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

    fn stop(self) -> (Counted, Counted) {
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
