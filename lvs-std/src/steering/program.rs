//! [`Steer`] as a program of the kernel's: the number of a frame's worker.
//!
//! ```text
//! behind one VLAN tag or none (the kernel takes an outer one out itself):
//!     IPv4 or IPv6 with TCP, UDP, SCTP, ESP (IPv4: AH too) at once behind its header:
//!         to an address of the director's              -> the sender's worker
//!         to any other                                 -> the receiver's worker
//!     a fragment: the same where ports do not count    -> otherwise worker 0
//! anything else                                        -> worker 0
//! ```
//!
//! What is left to worker 0 is rare, and [handed on](super::dispatch) from there.

use core::net::IpAddr;

use libc::sock_filter;

use super::{By, LAST_FACTOR, Steer, words};
use crate::bpf::cbpf::{Assembler, Label, Size, When};
use lvs_core::Family;

/// The program for a director with these addresses. `None` when they are too many: some 1,300 IPv4 addresses fit, and
/// some 1,000 of IPv6 that differ in their last 32 bits only.
pub(crate) fn build(steer: &Steer, addresses: &[IpAddr]) -> Option<Vec<sock_filter>> {
    let mut v4: Vec<[u32; 1]> = Vec::new();
    let mut v6: Vec<[u32; 4]> = Vec::new();
    for address in addresses {
        let words = words(*address);
        match words.as_slice() {
            [word] => v4.push([*word]),
            [a, b, c, d] => v6.push([*a, *b, *c, *d]),
            _ => {}
        }
    }
    // Sorted for the search tree that the program contains, since classic BPF has no maps.
    v4.sort_unstable();
    v4.dedup();
    v6.sort_unstable();
    v6.dedup();
    let mut program = Assembler::default();
    let [first, tag, untagged, is_v4, is_v6] = [(); 5].map(|()| program.label());
    program
        .set_index(0)
        .load_said(libc::SKF_AD_PROTOCOL)
        .jump(When::Is(TAG), tag)
        .jump(When::Is(SERVICE_TAG), tag)
        .go(untagged)
        .place(tag)
        .load(Size::Half, 2, false)
        .set_index(4)
        .place(untagged)
        .jump(When::Is(IPV4), is_v4)
        .jump(When::Is(IPV6), is_v6)
        .go(first);
    ipv4(&mut program, steer, &v4, is_v4, first);
    ipv6(&mut program, steer, &v6, is_v6, first);
    program.place(first).answer_number(0);
    program.finish()
}

/// RFC 791 §3.1. `X` has the offset of the header.
fn ipv4(program: &mut Assembler, steer: &Steer, own: &[[u32; 1]], here: Label, first: Label) {
    let [balanced, keyed, request, reply, client, port, key_exchange, hash] =
        [(); 8].map(|()| program.label());
    program.place(here).load(Size::Byte, 9, true);
    for protocol in BALANCED.into_iter().chain([AH]) {
        program.jump(When::Is(protocol), balanced);
    }
    program.go(first).place(balanced);
    if steer.by == By::Endpoint {
        // More fragments, or an offset.
        program.load(Size::Half, 6, true).jump(When::Has(0x3fff), first);
    }
    program.go(keyed).place(keyed).load(Size::Word, 16, true);
    search(program, own, 0, 16, request, reply);
    let mask = steer.masks(Family::V4)[0];
    let mut of = |label: Label, address: u32, port: u32| {
        program.place(label).set(port).store(PORT).load(Size::Word, address, true);
        if mask != u32::MAX {
            program.and(mask);
        }
        program.store(0).go(client);
    };
    of(request, 12, 0);
    of(reply, 16, 2);
    program.place(client);
    if steer.by == By::Endpoint {
        program
            .load(Size::Byte, 9, true)
            .jump(When::Is(ESP), key_exchange)
            .jump(When::Is(AH), key_exchange)
            // The header's length in words of four bytes.
            .load(Size::Byte, 0, true)
            .and(15)
            .shift_left(2)
            .add_index()
            .go(port)
            .place(port)
            .fetch_index(PORT)
            .add_index()
            .copy_to_index()
            .load(Size::Half, 0, true)
            .store(PORT)
            .go(hash)
            .place(key_exchange)
            .set(KEY_EXCHANGE)
            .store(PORT)
            .place(hash);
    }
    finish(program, steer, 1);
}

/// RFC 8200 §3, without extension headers, but for one: Linux puts a hop-by-hop header of eight bytes into merged TCP
/// frames beyond 64 KiB, which are lent without it.
fn ipv6(program: &mut Assembler, steer: &Steer, own: &[[u32; 4]], here: Label, first: Label) {
    let [balanced, jumbo, request, reply, client, behind, port, key_exchange, hash] =
        [(); 9].map(|()| program.label());
    program.place(here).load(Size::Byte, 6, true);
    for protocol in BALANCED {
        program.jump(When::Is(protocol), balanced);
    }
    if steer.by != By::Endpoint {
        // Only the first fragment has ports, but every one has the addresses.
        program.jump(When::Is(FRAGMENT), balanced);
    }
    program
        .jump(When::Is(HOP_BY_HOP), jumbo)
        .go(first)
        .place(jumbo)
        .load(Size::Half, 40, true)
        .jump(When::Is(TCP_BEHIND_EIGHT), balanced)
        .go(first)
        .place(balanced)
        .load(Size::Word, 24, true);
    search(program, own, 0, 24, request, reply);
    let masks = steer.masks(Family::V6);
    let mut of = |label: Label, address: u32, port: u32| {
        program.place(label).set(port).store(PORT);
        for (word, mask) in (0..).zip(masks) {
            program.load(Size::Word, address + 4 * word, true);
            if mask != u32::MAX {
                program.and(mask);
            }
            program.store(word);
        }
        program.go(client);
    };
    of(request, 8, 40);
    of(reply, 24, 42);
    program.place(client);
    if steer.by == By::Endpoint {
        program
            .load(Size::Byte, 6, true)
            .jump(When::Is(ESP), key_exchange)
            .jump(When::Is(HOP_BY_HOP), behind)
            .set(0)
            .go(port)
            .place(behind)
            .set(8)
            .go(port)
            .place(port)
            .add_index()
            .fetch_index(PORT)
            .add_index()
            .copy_to_index()
            .load(Size::Half, 0, true)
            .store(PORT)
            .go(hash)
            .place(key_exchange)
            .set(KEY_EXCHANGE)
            .store(PORT)
            .place(hash);
    }
    finish(program, steer, 4);
}

/// Looks for an address, of which the word at `level` is in the accumulator, among sorted ones that are equal before
/// it. Of what is loaded next, the first word is at `offset` behind `X`.
fn search<const W: usize>(
    program: &mut Assembler,
    own: &[[u32; W]],
    level: usize,
    offset: u32,
    found: Label,
    missing: Label,
) {
    let mut groups: Vec<&[[u32; W]]> = Vec::new();
    for group in own.chunk_by(|one, other| one.get(level) == other.get(level)) {
        groups.push(group);
    }
    choose(program, &groups, level, offset, found, missing);
}

/// Halves the groups until few are left, which are compared one by one.
fn choose<const W: usize>(
    program: &mut Assembler,
    groups: &[&[[u32; W]]],
    level: usize,
    offset: u32,
    found: Label,
    missing: Label,
) {
    let word = |group: &[[u32; W]]| group.first().and_then(|address| address.get(level)).copied();
    if groups.len() > FEW {
        let (lower, upper) = groups.split_at(groups.len() / 2);
        let Some(middle) = upper.first().and_then(|group| word(group)) else { return };
        let above = program.label();
        program.jump(When::AtLeast(middle), above);
        choose(program, lower, level, offset, found, missing);
        program.place(above);
        choose(program, upper, level, offset, found, missing);
        return;
    }
    let last = level + 1 == W;
    let mut deeper = Vec::new();
    for group in groups {
        let Some(word) = word(group) else { continue };
        if last {
            program.jump(When::Is(word), found);
        } else {
            let label = program.label();
            program.jump(When::Is(word), label);
            deeper.push((label, *group));
        }
    }
    program.go(missing);
    for (label, group) in deeper {
        let next = offset + 4;
        program.place(label).load(Size::Word, next, true);
        search(program, group, level + 1, next, found, missing);
    }
}

/// The hash of what was kept, as [`Steer::owner_of`] makes it.
fn finish(program: &mut Assembler, steer: &Steer, words: u32) {
    program.set(steer.start);
    let port = (steer.by == By::Endpoint).then_some(PORT);
    for cell in (0..words).chain(port) {
        program.fetch_index(cell).xor_index().multiply(steer.factor);
        program.copy_to_index().shift_right(15).xor_index();
    }
    program.copy_to_index().shift_right(16).xor_index().multiply(LAST_FACTOR);
    program.copy_to_index().shift_right(13).xor_index();
    program.shift_right(16).multiply(steer.workers).shift_right(16).answer();
}

/// The cell with the client's port, and before that with where it stands. Those before it have its address.
const PORT: u32 = 4;
/// Addresses that are compared one by one.
const FEW: usize = 4;
pub(super) const TAG: u32 = 0x8100;
pub(super) const SERVICE_TAG: u32 = 0x88a8;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
pub(super) const ESP: u32 = 50;
pub(super) const AH: u32 = 51;
pub(super) const FRAGMENT: u32 = 44;
pub(super) const HOP_BY_HOP: u32 = 0;
/// The first two bytes of a header of eight bytes (0 further ones) that TCP (6) follows.
pub(super) const TCP_BEHIND_EIGHT: u32 = 0x0600;
/// TCP, UDP, SCTP, and what belongs to a key exchange.
pub(super) const BALANCED: [u32; 4] = [6, 17, 132, ESP];
/// The port of the Internet key exchange, whose worker AH and ESP belong to.
pub(super) const KEY_EXCHANGE: u32 = 500;

#[cfg(test)]
mod tests {
    use lvs_core::Seed;
    use lvs_forward::parse::{Link, Meaning, Parsed, parse};
    use lvs_forward::{Frame, PortId};

    use super::*;
    use crate::bpf::cbpf_machine::run;
    use crate::steering::dispatch::is_steered;
    use crate::steering::samples::{frame, steers};
    use crate::steering::simulation::worker;

    fn by_program(program: &[sock_filter], frame: &[u8]) -> usize {
        worker(program, frame).unwrap()
    }

    fn by_function(steer: &Steer, own: &[IpAddr], frame: &mut [u8]) -> Option<usize> {
        let end = frame.len();
        let frame = Frame::new(frame, 0, end, PortId(0)).unwrap();
        match parse(&frame, Link::Ethernet) {
            Ok(Parsed::Ip(_, Meaning::Flow(packet))) => {
                let request = own.contains(&packet.flow.addresses.destination());
                Some(steer.owner(&packet.flow, request))
            }
            _ => None,
        }
    }

    /// Own addresses: alone in a family, neighbours, and far apart.
    fn own() -> Vec<IpAddr> {
        let mut own: Vec<IpAddr> = (0..=40_u8).map(|n| IpAddr::from([192, 0, 2, 2 * n])).collect();
        own.extend([[10, 0, 1, 254], [0, 0, 0, 1], [255, 255, 255, 254]].map(IpAddr::from));
        own.extend((0..20_u16).map(|n| IpAddr::from([0x2001, 0xdb8, n % 3, 0, 0, n % 2, 0, 3 * n])));
        own
    }

    #[test]
    fn the_program_answers_as_the_function_does() {
        let own = own();
        let mut others: Vec<IpAddr> = (0..=40_u8).map(|n| [192, 0, 2, 2 * n + 1].into()).collect();
        others.extend((0..20_u16).map(|n| IpAddr::from([0x2001, 0xdb8, n % 3, 0, 0, n % 2, 0, 3 * n + 1])));
        for steer in steers() {
            let program = build(&steer, &own).unwrap();
            let mut seen = std::collections::BTreeSet::new();
            for (n, source) in (0_u16..).zip(&others) {
                let wanted = own.iter().chain(&others).filter(|to| to.is_ipv4() == source.is_ipv4());
                for (m, destination) in (0_u16..).zip(wanted) {
                    for (tags, tcp) in [(0, true), (1, false), (2, true)] {
                        let ports = (1_024 + 97 * n + m, 80);
                        let mut bytes = frame(*source, *destination, ports, tcp, tags);
                        let answer = by_program(&program, &bytes);
                        assert!(is_steered(&bytes, steer.by()), "worker 0 need not look at it");
                        assert_eq!(
                            Some(answer),
                            by_function(&steer, &own, &mut bytes),
                            "{source} {destination}"
                        );
                        seen.insert(answer);
                    }
                }
            }
            assert!(steer.by() != By::Endpoint || seen.len() == steer.workers(), "{seen:?}");
        }
    }

    #[test]
    fn headers_with_options_and_ipsec_are_steered_too() {
        let (own, client) = ([IpAddr::from([192, 0, 2, 100])], IpAddr::from([198, 51, 100, 7]));
        let steer = Steer::new(Seed::from_bytes([1; 16]), 64, By::Endpoint);
        let program = build(&steer, &own).unwrap();
        let mut bytes = frame(client, own[0], (500, 500), false, 0);
        let exchange = by_program(&program, &bytes);
        for protocol in [50, 51] {
            bytes[23] = protocol;
            assert_eq!(by_program(&program, &bytes), exchange);
        }
        bytes[23] = 1;
        assert_eq!((by_program(&program, &bytes), is_steered(&bytes, steer.by())), (0, false), "ICMP");
        let plain = frame(client, own[0], (4_711, 80), true, 0);
        let with_options = [&plain[..14], &[0x47], &plain[15..34], &[1; 8], &plain[34..]].concat();
        assert_eq!(by_program(&program, &with_options), by_program(&program, &plain));
        assert!(is_steered(&with_options, steer.by()));
    }

    #[test]
    fn a_merged_frame_beyond_64_kib_is_steered_as_its_parts() {
        let (own, client) =
            ([IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])], [0x2001, 0xdb8, 7, 0, 0, 0, 0, 7].into());
        for steer in steers() {
            let program = build(&steer, &own).unwrap();
            for port in 4_000..4_050 {
                for (source, destination, ports) in
                    [(client, own[0], (port, 80)), (own[0], client, (80, port))]
                {
                    let plain = frame(source, destination, ports, true, 0);
                    let behind = |header: [u8; 8]| {
                        [&plain[..20], &[0], &plain[21..54], &header, &plain[54..]].concat()
                    };
                    let merged = behind([6, 0, 0xc2, 4, 0, 2, 0, 0]);
                    assert_eq!(by_program(&program, &merged), by_program(&program, &plain));
                    // TCP does not begin where it would have to, or something else does.
                    for other in [[6, 1, 0xc2, 4, 0, 2, 0, 0], [58, 0, 5, 2, 0, 0, 1, 0]] {
                        assert_eq!(by_program(&program, &behind(other)), 0);
                    }
                }
            }
        }
    }

    #[test]
    fn fragments_are_steered_where_ports_do_not_count() {
        let (own, client) = ([IpAddr::from([192, 0, 2, 100])], IpAddr::from([198, 51, 100, 7]));
        let whole = frame(client, own[0], (4_711, 80), false, 0);
        for (by, steered) in [(By::Endpoint, false), (By::ADDRESS, true)] {
            let steer = Steer::new(Seed::from_bytes([1; 16]), 64, by);
            let program = build(&steer, &own).unwrap();
            for flags in [[0x20, 0], [0x20, 7], [0, 9]] {
                let mut bytes = whole.clone();
                bytes[20..22].copy_from_slice(&flags);
                let owner = if steered { by_program(&program, &whole) } else { 0 };
                assert_eq!(by_program(&program, &bytes), owner);
                assert_eq!(is_steered(&bytes, by), steered);
            }
        }
        assert_ne!(
            by_program(
                &build(&Steer::new(Seed::from_bytes([1; 16]), 64, By::ADDRESS), &own).unwrap(),
                &whole
            ),
            0,
            "this client shows something"
        );
    }

    #[test]
    fn what_ends_too_early_or_is_no_ip_goes_to_the_first_worker() {
        let own = own();
        for steer in steers() {
            let program = build(&steer, &own).unwrap();
            for whole in [
                frame([198, 51, 100, 7].into(), own[0], (4_711, 80), true, 1),
                frame([0x2001, 0xdb8, 7, 0, 0, 0, 0, 7].into(), own[50], (4_711, 80), true, 0),
            ] {
                for end in 18..whole.len() {
                    assert!(by_program(&program, &whole[..end]) < steer.workers());
                }
            }
            assert_eq!(run(&program, &[0; 60], 0x0806), Some(0));
            assert_eq!(run(&program, &[], 0x0800), Some(0));
        }
    }

    #[test]
    fn a_director_with_all_addresses_that_it_can_have_fits() {
        let steer = Steer::new(Seed::from_bytes([1; 16]), 2, By::Endpoint);
        let many: Vec<IpAddr> = (0..1_024_u32).map(|n| IpAddr::V4((n * 99_991).into())).collect();
        let program = build(&steer, &many).unwrap();
        assert!(program.len() < 4_096);
        let client = IpAddr::from([198, 51, 100, 7]);
        for to in many.iter().skip(1) {
            let mut bytes = frame(client, *to, (4_711, 80), true, 0);
            assert_eq!(Some(by_program(&program, &bytes)), by_function(&steer, &many, &mut bytes));
        }
        let many: Vec<IpAddr> =
            (0..1_000_u16).map(|n| IpAddr::from([0x2001, 0xdb8, 1, 2, 3, 4, n % 2, 7 * n])).collect();
        assert!(build(&steer, &many).is_some());
        let scattered: Vec<IpAddr> =
            (0..4_000_u128).map(|n| IpAddr::V6((n * 0x9e37_79b9_7f4a_7c15_f39c_0d3b).into())).collect();
        assert!(build(&steer, &scattered).is_none());
    }
}
