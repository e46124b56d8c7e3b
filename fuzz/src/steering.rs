//! The kernel's steering program against the function that it computes.

use core::net::{IpAddr, Ipv4Addr};

use lvs_core::Seed;
use lvs_forward::parse::{Link, Meaning, Parsed, parse};
use lvs_forward::{Frame, PortId};
use lvs_std::steering::simulation::Simulation;
use lvs_std::steering::{By, Steer};

use crate::bytes::Bytes;

/// The first bytes choose the seed, how many workers there are, what tells clients apart, and the director's addresses.
/// The rest are frames, each behind its length; of an IP packet that ends early the frame keeps only as much.
///
/// # Panics
///
/// When the program gives a frame to another worker than the function says, gives one to a worker that is not there, or
/// gives one that the workers do not rely on it for to any but the first.
pub fn steering(data: &[u8]) {
    let Some((&[seed, workers, by, mask, prefix, addresses], rest)) = data.split_first_chunk() else {
        return;
    };
    let by = match by % 3 {
        0 => By::Endpoint,
        1 => By::ADDRESS,
        _ => {
            let bits = u32::MAX.checked_shl(u32::from(mask % 33)).unwrap_or(0);
            By::Address { v4: Ipv4Addr::from_bits(bits), v6: prefix % 129 }
        }
    };
    let steer = Steer::new(Seed::from_bytes([seed; 16]), usize::from(workers % 64) + 1, by);
    let (own, mut rest) = own(addresses, rest);
    let Some(program) = Simulation::new(&steer, &own) else {
        unreachable!("so few addresses fit");
    };
    while let Some((&[length], behind)) = rest.split_first_chunk() {
        let (frame, behind) = behind.split_at(behind.len().min(length.into()));
        rest = behind;
        compare(&steer, &own, &program, frame);
    }
}

/// Addresses of the director: some that are near each other, and some that are in the input.
fn own(count: u8, data: &[u8]) -> (Vec<IpAddr>, &[u8]) {
    let mut own: Vec<IpAddr> =
        (0..count % 16).map(|at| IpAddr::from([192, 0, 2, at.wrapping_mul(3)])).collect();
    own.extend((0..count >> 4).map(|at| {
        let at = u16::from(at);
        IpAddr::from([0x2001, 0xdb8, at % 2, 0, 0, at % 3, 0, at])
    }));
    let (taken, rest) = data.split_at(data.len().min(20));
    let mut bytes = Bytes::of(taken);
    own.push(IpAddr::from([(); 4].map(|()| bytes.next())));
    own.push(IpAddr::from([(); 16].map(|()| bytes.next())));
    (own, rest)
}

fn compare(steer: &Steer, own: &[IpAddr], program: &Simulation, bytes: &[u8]) {
    let worker = program.worker(bytes).unwrap_or_else(|| panic!("the kernel would refuse the program"));
    assert!(worker < steer.workers(), "worker {worker}");
    if !program.is_steered(bytes) {
        assert_eq!(worker, 0, "the first one does not look for its worker");
        return;
    }
    let mut copy = bytes.to_vec();
    let Some(frame) = Frame::new(&mut copy, 0, bytes.len(), PortId(0)) else { return };
    // What is no packet of a connection may be anybody's.
    if let Ok(Parsed::Ip(_, Meaning::Flow(packet))) = parse(&frame, Link::Ethernet) {
        let request = own.contains(&packet.flow.addresses.destination());
        assert_eq!(worker, steer.owner(&packet.flow, request), "{packet:?}");
    }
}
