//! An interface that several workers share: the kernel's program and the function say the same of every frame.

use core::error::Error;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::net::UdpSocket;
use std::time::Instant;

use etherparse::PacketBuilder;
use lvs_core::{Flow, Protocol, Seed};
use lvs_forward::PortId;
use lvs_std::device::packet::{self, Fanned, PacketOptions};
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Lab, Node};
use lvs_std::steering::{By, Steer};

use crate::bridge::PATIENCE;

const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FAR: [u8; 6] = [2, 0, 0, 0, 0, 2];
const WORKERS: usize = 3;

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    vec![
        trial("the kernel steers by the client's endpoint as the function does", move || {
            as_the_function_does(lab, By::Endpoint)
        }),
        trial("the kernel steers by the client's network as the function does", move || {
            as_the_function_does(lab, By::Address { v4: [255, 255, 255, 0].into(), v6: 64 })
        }),
        trial("other addresses are in effect for the next frame", addresses_change(lab)),
        trial("what this machine sends itself comes to no worker", move || {
            let cable = Cable::new(lab, By::ADDRESS)?;
            cable.left.add_address("eth0", "192.0.2.1".parse()?, 24)?;
            cable.right.add_address("eth0", "192.0.2.2".parse()?, 24)?;
            let mut near = cable.near()?;
            let mut fanned = cable.fanned;
            let socket = cable.right.run(|| UdpSocket::bind(("192.0.2.2", 0)))??;
            socket.send_to(b"from the machine", ("192.0.2.1", 9))?;
            near.send(&frame(client(0), vip(0), 0))?;
            let seen = arrivals(&mut fanned, 1)?;
            assert_eq!(seen.len(), 1, "{seen:?}");
            Ok(())
        }),
    ]
}

/// Two interfaces joined to each other, of which the right one is shared.
struct Cable {
    left: Node,
    right: Node,
    fanned: Fanned,
    steer: Steer,
}

impl Cable {
    fn new(lab: Lab, by: By) -> Outcome<Self> {
        let (left, right) = (lab.node("left")?, lab.node("right")?);
        for node in [&left, &right] {
            node.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        lab.connect((&left, "eth0"), (&right, "eth0"))?;
        let steer = Steer::new(Seed::from_bytes(*b"a seed for tests"), WORKERS, by);
        let mut options = PacketOptions::default();
        (options.mac, options.receive_slots) = (Some(FAR), 255);
        let vips = [vip(0).ip(), vip(1).ip()];
        let fanned = right.run(|| packet::open_fanned("eth0", &options, steer, &vips))??;
        Ok(Self { left, right, fanned, steer })
    }

    /// The other end.
    fn near(&self) -> Result<lvs_std::device::Device, Box<dyn Error>> {
        let mut options = PacketOptions::default();
        options.receive_slots = 15;
        Ok(self.left.run(|| packet::open("eth0", &options))??.device)
    }
}

fn vip(family: usize) -> SocketAddr {
    [SocketAddr::from(([192, 0, 2, 100], 80)), "[2001:db8::100]:80".parse().expect("an address")][family]
}

fn client(number: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, number as u8, 7], 1_024 + number))
}

fn client6(number: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([0x2001, 0xdb8, 7, number, 0, 0, 0, 9]), 1_024 + number)
}

fn frame(from: SocketAddr, to: SocketAddr, tags: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(NEAR, FAR);
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("two families"),
    };
    let mut bytes = Vec::new();
    builder.udp(from.port(), to.port()).write(&mut bytes, &[7; 20]).expect("a vector grows");
    [&bytes[..12], &[0x81, 0, 0, 5].repeat(tags), &bytes[12..]].concat()
}

/// Frames with the worker that got them.
type Arrivals = Vec<(usize, Vec<u8>)>;

/// Which worker got what, until so many frames have come, and a moment longer.
fn arrivals(fanned: &mut Fanned, count: usize) -> Outcome<Arrivals> {
    let (mut seen, begun) = (Vec::new(), Instant::now());
    let mut last = Instant::now();
    while begun.elapsed() < PATIENCE && (seen.len() < count || last.elapsed() < Duration::from_millis(50)) {
        for (worker, device) in fanned.devices.iter_mut().enumerate() {
            let taken = device.receive.receive(PortId(0), &mut |frames| {
                seen.extend(frames.iter().map(|frame| (worker, frame.bytes().to_vec())));
            })?;
            if taken > 0 {
                last = Instant::now();
            }
        }
    }
    Ok(seen)
}

fn as_the_function_does(lab: Lab, by: By) -> Outcome {
    let mut cable = Cable::new(lab, by)?;
    let mut near = cable.near()?;
    let mut used = [0; WORKERS];
    for number in 0..60 {
        let server = SocketAddr::from(([10, 0, 1, 11], 8_080));
        let server6: SocketAddr = "[2001:db8:1::11]:8080".parse()?;
        let cases = [
            (client(number), vip(0), true),
            (server, client(number), false),
            (vip(0), client(number), false),
            (client6(number), vip(1), true),
            (server6, client6(number), false),
        ];
        let tags = usize::from(number) % 3;
        for (from, to, _) in cases {
            near.send(&frame(from, to, tags))?;
        }
        let mut seen = arrivals(&mut cable.fanned, cases.len())?;
        assert_eq!(seen.len(), cases.len());
        for (from, to, request) in cases {
            let flow = Flow::new(Protocol::Udp, from, to).ok_or("one family")?;
            let owner = cable.steer.owner(&flow, request);
            let bytes = frame(from, to, tags);
            let at = seen.iter().position(|(_, seen)| *seen == bytes).ok_or("it came")?;
            assert_eq!(seen.swap_remove(at).0, owner, "{flow}, {tags} tags");
            used[owner] += 1;
        }
    }
    assert!(used.iter().all(|used| *used > 50), "{used:?}");
    // What the program cannot tell comes to the first: here ARP.
    let arp = [&[0xff; 6][..], &NEAR, &[8, 6], &[0; 46]].concat();
    near.send(&arp)?;
    assert_eq!(arrivals(&mut cable.fanned, 1)?, [(0, arp)]);
    Ok(())
}

fn addresses_change(lab: Lab) -> impl FnOnce() -> Outcome + Send + 'static {
    move || {
        let mut cable = Cable::new(lab, By::Endpoint)?;
        let mut near = cable.near()?;
        let new = SocketAddr::from(([192, 0, 2, 101], 80));
        let apart = |number: &u16| {
            let flow = Flow::new(Protocol::Udp, client(*number), new).expect("one family");
            cable.steer.owner(&flow, true) != cable.steer.owner(&flow, false)
        };
        let number = (0..100).find(apart).ok_or("one shows something")?;
        let flow = Flow::new(Protocol::Udp, client(number), new).ok_or("one family")?;
        for (addresses, request) in
            [(vec![vip(0).ip()], false), (vec![vip(0).ip(), new.ip()], true), (vec![], false)]
        {
            cable.fanned.fan.set(&addresses)?;
            near.send(&frame(client(number), new, 0))?;
            let seen = arrivals(&mut cable.fanned, 1)?;
            assert_eq!(seen.len(), 1);
            assert_eq!(seen[0].0, cable.steer.owner(&flow, request), "with {addresses:?}");
        }
        Ok(())
    }
}
