//! TUN and TAP interfaces.

use core::sync::atomic::Ordering;
use std::net::UdpSocket;

use etherparse::PacketBuilder;
use lvs_std::device::tun::{self, Layer};
use lvs_std::lab::Lab;
use lvs_std::lab::harness::{Trial, trial};

use crate::bridge::{Bridge, LEFT, PATIENCE, RIGHT};

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    vec![
        trial("merged TCP passes two TUN interfaces merged and arrives whole", move || {
            merged(Bridge::by_tun(lab, Layer::Ip)?)
        }),
        trial("merged TCP passes two TAP interfaces merged and arrives whole", move || {
            merged(Bridge::by_tun(lab, Layer::Ethernet)?)
        }),
        trial("a TUN interface that cannot be made is named in the error", move || {
            let node = lab.node("alone")?;
            let first = node.run(|| tun::open("same", Layer::Ip))??;
            let error = node.run(|| tun::open("same", Layer::Ip))?.expect_err("the first has it");
            assert!(error.to_string().starts_with("tun interface `same`: cannot be made"), "{error}");
            drop(first);
            node.run(|| tun::open("same", Layer::Ip))??;
            Ok(())
        }),
        trial("answers of this machine come back by the queue that took the question", move || {
            let node = lab.node("many")?;
            let mut tun = node.run(|| tun::open_queues("many", Layer::Ip, QUEUES))??;
            assert_eq!((tun.name.as_str(), tun.devices.len()), ("many", QUEUES));
            node.add_address("many", LEFT.into(), 24)?;
            let socket = node.run(|| UdpSocket::bind((LEFT, 7)))??;
            socket.set_read_timeout(Some(PATIENCE))?;
            for port in 40_000..40_060 {
                let queue = usize::from(port) % QUEUES;
                let mut question = Vec::new();
                PacketBuilder::ipv4(RIGHT.octets(), LEFT.octets(), 64)
                    .udp(port, 7)
                    .write(&mut question, b"who?")?;
                tun.devices[queue].send(&question)?;
                let mut buffer = [0; 10];
                let (length, from) = socket.recv_from(&mut buffer)?;
                assert_eq!((&buffer[..length], from), (&b"who?"[..], (RIGHT, port).into()));
                socket.send_to(b"me", from)?;
                for (index, device) in tun.devices.iter_mut().enumerate() {
                    let answers = udp_to(port, device.drain()?);
                    assert_eq!(answers, usize::from(index == queue), "port {port} by queue {index}");
                }
            }
            Ok(())
        }),
        trial("an interface keeps its last queues when others are closed", move || {
            let node = lab.node("many")?;
            let mut tun = node.run(|| tun::open_queues("many", Layer::Ip, 2))??;
            drop(tun.devices.remove(0));
            tun.devices[0].receive.recover()?;
            node.interface("many")?;
            drop(tun);
            assert!(node.interface("many").is_err(), "the last one takes the interface along");
            Ok(())
        }),
        trial("a TUN interface that is gone ends its device with an error", move || {
            let node = lab.node("alone")?;
            let mut tun = node.run(|| tun::open("gone", Layer::Ip))??;
            tun.device.receive.recover()?;
            node.remove_interface("gone")?;
            assert!(tun.device.receive.recover().is_err());
            assert!(tun.device.send(&[0x45; 40]).is_err());
            assert_eq!(tun.device.transmit.counters().down, 1);
            Ok(())
        }),
    ]
}

/// How many of these packets are UDP to this port.
fn udp_to(port: u16, packets: Vec<Vec<u8>>) -> usize {
    packets
        .iter()
        .filter(|packet| packet[0] == 0x45 && packet[9] == 17 && packet[22..24] == port.to_be_bytes())
        .count()
}

const QUEUES: usize = 3;

fn merged(bridge: Bridge) -> Result<(), Box<dyn core::error::Error>> {
    assert_eq!(bridge.transfer(16 << 20)?, 16 << 20);
    assert!(bridge.partial.load(Ordering::Relaxed), "the kernel leaves checksums partial");
    let (left, right) = bridge.stop();
    assert!(left.0.merged > 100, "the kernel hands merged frames over: {left:?}");
    assert_eq!(right.1.merged, left.0.merged, "as many go out merged: {right:?}");
    assert_eq!(left.0.invalid + right.0.invalid + left.1.lost() + right.1.lost(), 0);
    Ok(())
}
