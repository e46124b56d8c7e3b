//! Source, middle and sink, joined by two cables; and a third one past the middle.

use core::error::Error;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::fs;
use std::time::Instant;

use lvs_forward::PortId;
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::lab::{Lab, Node};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The place of the measurement.
pub(super) struct Stage {
    pub(super) source: Node,
    pub(super) middle: Node,
    pub(super) sink: Node,
}

impl Stage {
    pub(super) fn new(lab: Lab) -> Result<Self, Box<dyn Error>> {
        let (source, middle, sink) = (lab.node("source")?, lab.node("middle")?, lab.node("sink")?);
        for node in [&source, &middle, &sink] {
            node.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        lab.connect((&source, "eth0"), (&middle, "eth0"))?;
        lab.connect((&sink, "eth0"), (&middle, "eth1"))?;
        lab.connect((&source, "eth1"), (&sink, "eth1"))?;
        for client in [CLIENT_OF_KERNEL, CLIENT_OF_NAT, CLIENT_OF_DR] {
            source.add_address("eth0", client.into(), 24)?;
        }
        sink.add_address("eth0", (*SERVER.ip()).into(), 24)?;
        middle.add_address("eth0", KERNEL_OUTSIDE.into(), 24)?;
        middle.add_address("eth1", KERNEL_INSIDE.into(), 24)?;
        middle.set_sysctl("net.ipv4.ip_forward", "1")?;
        // The sink drops a flood early, since it knows no way back to its clients.
        sink.set_sysctl("net.ipv4.conf.all.rp_filter", "2")?;
        // It answers TCP by the way that belongs to each method; under direct routing as the virtual address, past
        // the middle.
        sink.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
        sink.set_sysctl("net.ipv4.conf.all.arp_announce", "2")?;
        sink.add_address("lo", (*SERVICE.ip()).into(), 32)?;
        source.add_address("eth1", PAST_SOURCE.into(), 24)?;
        sink.add_address("eth1", PAST_SINK.into(), 24)?;
        sink.add_route(CLIENT_OF_KERNEL.into(), 32, KERNEL_INSIDE.into())?;
        sink.add_route(CLIENT_OF_NAT.into(), 32, DIRECTOR_INSIDE.into())?;
        sink.add_route(CLIENT_OF_DR.into(), 32, PAST_SOURCE.into())?;
        Ok(Self { source, middle, sink })
    }

    /// Makes sure that a packet to this address arrives within some seconds.
    pub(super) fn check_arrival(&self, at: SocketAddrV4) -> Result<(), Box<dyn Error>> {
        let mut options = PacketOptions::default();
        options.receive_slots = 15;
        let mut device = self.sink.run(|| packet::open("eth0", &options))??.device;
        let began = Instant::now();
        let mut arrived = false;
        while !arrived && began.elapsed() < PATIENCE {
            device.receive.receive(PortId(0), &mut |frames| {
                arrived |= frames.iter().any(|frame| {
                    let bytes = frame.bytes();
                    bytes.get(30..34) == Some(&at.ip().octets())
                        && bytes.get(36..38) == Some(&at.port().to_be_bytes())
                });
            })?;
        }
        if arrived { Ok(()) } else { Err(format!("nothing arrives at {at}").into()) }
    }

    /// Packets that have come to the sink.
    pub(super) fn arrived(&self) -> Result<u64, Box<dyn Error>> {
        let text = self.sink.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix("eth0:")).ok_or("no eth0")?;
        Ok(line.split_whitespace().nth(1).ok_or("no count of packets")?.parse()?)
    }
}

/// Keeps the calling thread on one processor, if the machine has that many.
pub(super) fn pin(processor: usize) {
    let mut set = CpuSet::new();
    if processor < CpuSet::MAX_CPU {
        set.set(processor);
    }
    // Where there is only one, or this process may not use it, nothing is gained by a failure.
    let _ = sched_setaffinity(None, &set);
}

/// Where the source sends, and where a director works.
pub(super) const SOURCE_PROCESSOR: usize = 0;
pub(super) const DIRECTOR_PROCESSOR: usize = 1;
/// The virtual service, and the only real server.
pub(super) const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 100), 80);
pub(super) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, 11), 8_080);
/// Clients whose connections go by the kernel in the middle, and by a director.
pub(super) const CLIENT_OF_KERNEL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub(super) const CLIENT_OF_NAT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);
pub(super) const CLIENT_OF_DR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// The ends of the cable past the middle.
const PAST_SOURCE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const PAST_SINK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The kernel's own addresses in the middle, and the director's.
pub(super) const KERNEL_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const KERNEL_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
pub(super) const DIRECTOR_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
pub(super) const DIRECTOR_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 254);
const PATIENCE: Duration = Duration::from_secs(5);
