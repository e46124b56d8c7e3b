//! An FTP control connection through NAT, in segments of any content.

use core::net::{IpAddr, SocketAddr};

use lvs_core::{Method, Scheduler, ServerConfig, ServiceConfig, ServiceKey, Tick};
use lvs_forward::alg::ftp::Controls;
use lvs_forward::checksum::Sum;
use lvs_forward::{Checksum, Offload, Outcome};

use crate::forward::{Buffer, ETHERNET, OWN_MAC, WORLD, check, site, transport_is_right};

/// The first byte chooses the family. Each segment is a byte for its direction and flags, one for options, one for its
/// length, and its payload.
///
/// # Panics
///
/// When what leaves does not parse or has a wrong checksum, or a byte outside a frame's room changed.
pub fn helper(data: &[u8]) {
    let Some((&[family], mut rest)) = data.split_first_chunk() else { return };
    let world = &WORLD[usize::from(family & 1)];
    let mut site = site(Method::Nat, true);
    site.forwarder.set_ftp(Controls::with_room(2));
    let key = ServiceKey::tcp(world.vip, 21);
    let added = site.director.add_service(key, ServiceConfig::new(Scheduler::default()));
    assert!(added.is_ok(), "{added:?}");
    let server = SocketAddr::new(world.server, 21);
    let added = site.director.add_server(key, ServerConfig::new(server, Method::Nat));
    assert!(added.is_ok(), "{added:?}");
    let client = if world.vip.is_ipv4() { "192.0.2.7:40000" } else { "[2001:db8:c::7]:40000" };
    let Ok(client) = client.parse::<SocketAddr>() else { return };
    let virt = SocketAddr::new(world.vip, 21);
    let mut sequences = [1_000_u32, 5_000];
    // The handshake, so that the helper reads.
    let opening: [(usize, u8); 3] = [(0, 0x02), (1, 0x12), (0, 0x10)];
    let mut now = Tick::from_millis(1_000);
    let mut segments = opening.map(|(side, flags)| (side, flags, 0, Vec::new())).to_vec();
    while let Some((&[choices, options, len], behind)) = rest.split_first_chunk() {
        let (payload, behind) = behind.split_at(behind.len().min(usize::from(len)));
        rest = behind;
        let flags = if choices & 0x40 != 0 { choices & 0x17 } else { 0x18 };
        segments.push((usize::from(choices >> 7), flags, options, payload.to_vec()));
    }
    for (side, flags, options, payload) in segments {
        now = now.plus_millis(100);
        let (from, to) = if side == 0 { (client, virt) } else { (server, client) };
        let acknowledged = sequences[1 - side];
        let partial = options & 0x80 != 0;
        let segment = segment(from, to, flags, sequences[side], acknowledged, options, &payload, partial);
        // Some are said again.
        if options & 0x40 == 0 {
            let takes = payload.len() as u32 + u32::from(flags & 3 != 0);
            sequences[side] = sequences[side].wrapping_add(takes);
        }
        let start = segment.len() - transport_len(&payload, options);
        let mut buffer = Buffer::new(&segment);
        let mut frame = buffer.frame(ETHERNET);
        let offset = 16;
        let state = Checksum::Partial { start: start as u16, offset };
        frame = frame.with_offload(Offload {
            checksum: if partial { state } else { Checksum::Complete },
            merged: None,
        });
        let before = transport_is_right(&frame, ETHERNET);
        if let Outcome::Send = site.forwarder.process(&mut site.director, now, &mut frame) {
            check(&mut frame, before);
        }
        buffer.check_fences();
    }
}

/// Length of a TCP header with options, and its payload.
fn transport_len(payload: &[u8], options: u8) -> usize {
    20 + options_of(options, 0).len() + payload.len()
}

/// Selective acknowledgements, or what looks like some.
fn options_of(options: u8, acknowledged: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    if options & 1 != 0 {
        bytes.extend([1, 1, 5, 10]);
        bytes.extend(acknowledged.wrapping_sub(5).to_be_bytes());
        bytes.extend(acknowledged.wrapping_add(u32::from(options)).to_be_bytes());
    }
    if options & 2 != 0 {
        bytes.extend([5, options, 0, 0]);
    }
    if options & 4 != 0 {
        bytes.extend([1, 5, 6, 1, 2, 3, 4, 0]);
    }
    bytes
}

#[expect(clippy::too_many_arguments, reason = "a segment has this many parts")]
fn segment(
    from: SocketAddr,
    to: SocketAddr,
    flags: u8,
    sequence: u32,
    acknowledged: u32,
    options: u8,
    payload: &[u8],
    partial: bool,
) -> Vec<u8> {
    let options = options_of(options, acknowledged);
    let mut tcp = Vec::new();
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(acknowledged.to_be_bytes());
    tcp.extend([((20 + options.len()) as u8 / 4) << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.extend(payload);
    let mut frame = [OWN_MAC, [2, 0, 0, 0, 0, 0xaa]].concat();
    let pseudo = match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([8, 0]);
            let mut header = vec![0x45, 0];
            header.extend((20 + tcp.len() as u16).to_be_bytes());
            header.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let checksum = Sum::ZERO.bytes(&header).checksum();
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend(header);
            Sum::pseudo_v4(source, destination, 6, tcp.len())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((tcp.len() as u16).to_be_bytes());
            frame.extend([6, 64]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
            Sum::pseudo_v6(source, destination, 6, tcp.len())
        }
        _ => unreachable!("both are of one family"),
    };
    let checksum = if partial { pseudo.fold() } else { pseudo.bytes(&tcp).checksum() };
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(tcp);
    frame
}
