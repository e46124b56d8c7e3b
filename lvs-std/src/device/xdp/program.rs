//! Which frames are the director's: a program that the kernel runs on each frame before it looks at it itself.
//!
//! ```text
//! frame to another host's MAC                          -> kernel
//! frame to the director's own MAC                      -> director
//! frame to the MAC that director and machine share:
//!     ARP or IP to an address of the director's        -> director
//!     IP to an address of the machine's                -> kernel
//!     IP from a real server                            -> director
//! frame to a group:
//!     ARP or neighbour solicitation for an address of the director's,
//!     announcement by a real server or a gateway       -> director
//! anything else                                        -> kernel
//! ```

use crate::bpf::ebpf::{Assembler, R0, R1, R2, R3, R4, R6, R7, R8, R9, Size, When};
use crate::bpf::xdp::{QUEUE, REDIRECT_MAP, behind_tags, frame, has, look_up_v4, look_up_v6, network_order};
use crate::steering::{Steer, xdp as steering};
use crate::sys::bpf::Instruction;

/// What the sets say of an address, one byte.
pub(super) mod class {
    /// The director answers for it.
    pub(in super::super) const DIRECTOR: u8 = 1;
    /// What comes from it is the director's: a real server's, a gateway's.
    pub(in super::super) const PEER: u8 = 2;
    /// The machine's own stack answers for it.
    pub(in super::super) const MACHINE: u8 = 4;
}

/// Whose frames the program looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Station {
    /// The director has this MAC address for itself.
    Own([u8; 6]),
    /// The director shares this one, the interface's, with the machine.
    Shared([u8; 6]),
}

/// The maps of a program, by their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    /// Addresses as keys, and a [class] as value.
    pub(super) v4: i32,
    pub(super) v6: i32,
    /// Sockets: those of a queue's workers together, in their order, and the queues in theirs.
    pub(super) sockets: i32,
}

/// Builds the program for one interface, of which so many queues have sockets, one for each worker.
///
/// The director's frames go to their worker's socket. Where that is gone, they are dropped: the kernel would answer
/// them. `None` never happens: it would mean that the program jumps to nowhere.
pub(super) fn build(station: Station, maps: Maps, steer: &Steer, queues: u32) -> Option<Vec<Instruction>> {
    let mut program = Assembler::default();
    link_layer(&mut program, station);
    arp(&mut program, maps.v4);
    ipv4(&mut program, maps.v4);
    ipv6(&mut program, maps.v6);
    program.label(TAKE_IT);
    if steer.workers() > 1 {
        steering::write(
            &mut program,
            steer,
            steering::Own { v4: maps.v4, v6: maps.v6, bit: class::DIRECTOR },
        );
    }
    program
        .load(Size::Word, R2, R6, QUEUE)
        .set_word(R3, queues.saturating_sub(1))
        .jump(When::Beyond(R2, R3), LEAVE_IT);
    if steer.workers() > 1 {
        program.multiply_word(R2, steer.workers() as u32).sum(R2, R7);
    }
    program
        .map(R1, maps.sockets)
        .set(R3, DROP)
        .call(REDIRECT_MAP)
        .exit()
        .label(LEAVE_IT)
        .set(R0, PASS)
        .exit();
    program.finish()
}

/// Leaves the frame's network header in `R8`, whether it goes to a group in `R9`, and the end of its bytes in `R3`.
fn link_layer(program: &mut Assembler, station: Station) {
    let (Station::Own(mac) | Station::Shared(mac)) = station;
    let [a, b, c, d, e, f] = mac;
    program.copy(R6, R1);
    frame(program, LEAVE_IT);
    program
        .load(Size::Byte, R9, R2, 0)
        .mask(R9, 1)
        .jump(When::IsNot(R9, 0), "type")
        .load(Size::Word, R4, R2, 0)
        .jump(When::IsNot(R4, u32::from_ne_bytes([a, b, c, d])), LEAVE_IT)
        .load(Size::Half, R4, R2, 4)
        .jump(When::IsNot(R4, u32::from(u16::from_ne_bytes([e, f]))), LEAVE_IT);
    // Nobody else has this address, so what is inside the frame does not matter.
    if let Station::Own(_) = station {
        program.jump(When::Always, TAKE_IT);
    }
    program.label("type");
    behind_tags(program, ["tag", "second tag", "untagged"], LEAVE_IT);
    program
        .jump(When::Is(R7, network_order(0x0806)), "arp")
        .jump(When::Is(R7, network_order(0x0800)), "ipv4")
        .jump(When::Is(R7, network_order(0x86dd)), "ipv6")
        .jump(When::Always, LEAVE_IT);
}

/// RFC 826: the sender's address at 14, the target's at 24. In an announcement they are equal (RFC 5227 §1.1).
fn arp(program: &mut Assembler, v4: i32) {
    program.label("arp");
    has(program, 28, LEAVE_IT);
    look_up_v4(program, v4, 24);
    program
        .jump(When::Null(R0), LEAVE_IT)
        .load(Size::Byte, R1, R0, 0)
        .jump(When::Has(R1, u32::from(class::DIRECTOR)), TAKE_IT)
        .jump(When::Has(R1, u32::from(class::PEER)), "announced")
        .jump(When::Always, LEAVE_IT)
        .label("announced")
        .load(Size::Word, R1, R8, 14)
        .load(Size::Word, R2, R8, 24)
        // Compared by their difference: conditions compare with numbers.
        .subtract(R1, R2)
        .jump(When::Null(R1), TAKE_IT)
        .jump(When::Always, LEAVE_IT);
}

fn ipv4(program: &mut Assembler, v4: i32) {
    // No service has a group's address.
    program.label("ipv4").jump(When::IsNot(R9, 0), LEAVE_IT);
    has(program, 20, LEAVE_IT);
    look_up_v4(program, v4, 16);
    program
        .jump(When::Null(R0), "source")
        .load(Size::Byte, R1, R0, 0)
        .jump(When::Has(R1, u32::from(class::DIRECTOR)), TAKE_IT)
        // Asked before the source is, because real servers also talk with the machine itself: they answer its checks.
        .jump(When::Has(R1, u32::from(class::MACHINE)), LEAVE_IT)
        .label("source");
    look_up_v4(program, v4, 12);
    from_peer(program);
}

/// RFC 8200; neighbour discovery is RFC 4861 §4.3 and §4.4: the type behind the fixed header, the target 8 bytes
/// further.
fn ipv6(program: &mut Assembler, v6: i32) {
    program.label("ipv6");
    has(program, 40, LEAVE_IT);
    program.jump(When::IsNot(R9, 0), "discovery");
    look_up_v6(program, v6, 24);
    program
        .jump(When::Null(R0), "source of IPv6")
        .load(Size::Byte, R1, R0, 0)
        .jump(When::Has(R1, u32::from(class::DIRECTOR)), TAKE_IT)
        .jump(When::Has(R1, u32::from(class::MACHINE)), LEAVE_IT)
        .label("source of IPv6");
    look_up_v6(program, v6, 8);
    from_peer(program);
    program
        .label("discovery")
        .load(Size::Byte, R1, R8, 6)
        .jump(When::IsNot(R1, 58), LEAVE_IT)
        .copy(R4, R8)
        .add(R4, 64)
        .jump(When::Beyond(R4, R3), LEAVE_IT)
        .load(Size::Byte, R7, R8, 40);
    look_up_v6(program, v6, 48);
    program
        .jump(When::Null(R0), LEAVE_IT)
        .load(Size::Byte, R1, R0, 0)
        .jump(When::Is(R7, 135), "solicited")
        .jump(When::IsNot(R7, 136), LEAVE_IT)
        .jump(When::Has(R1, u32::from(class::PEER)), TAKE_IT)
        .jump(When::Always, LEAVE_IT)
        .label("solicited")
        .jump(When::Has(R1, u32::from(class::DIRECTOR)), TAKE_IT)
        .jump(When::Always, LEAVE_IT);
}

/// What was found about the source decides.
fn from_peer(program: &mut Assembler) {
    program
        .jump(When::Null(R0), LEAVE_IT)
        .load(Size::Byte, R1, R0, 0)
        .jump(When::Has(R1, u32::from(class::PEER)), TAKE_IT)
        .jump(When::Always, LEAVE_IT);
}

/// `XDP_PASS`: the frame is the kernel's.
const PASS: i32 = 2;
/// `XDP_DROP`.
const DROP: i32 = 1;
const TAKE_IT: &str = "take";
const LEAVE_IT: &str = "leave";

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use etherparse::PacketBuilder;

    use super::*;
    use crate::device::xdp::{AddressClass, AddressFilter};
    use crate::sys::bpf::{Kind, Map, Program, Purpose};

    const OWN: [u8; 6] = [2, 0, 0x5e, 0, 0x53, 0xfe];
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
    const MACHINE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 11);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0x100);
    const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x11);
    const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7);
    /// What becomes of the director's frames in a test run, which has no sockets.
    const TAKEN: u32 = DROP as u32;

    /// Whether the director gets each of these frames. `None` where this process may not load programs, which is an
    /// error if `LVS_REQUIRE_XDP` is 1.
    fn taken(station: Station, frames: &[Vec<u8>]) -> Option<Vec<bool>> {
        let filter = match AddressFilter::new() {
            Ok(filter) => filter,
            Err(error) => {
                let required = std::env::var_os("LVS_REQUIRE_XDP").is_some_and(|value| value == "1");
                assert!(!required, "BPF is refused: {error}");
                eprintln!("NOT TESTED: BPF is refused ({error}); run as root of the machine itself");
                return None;
            }
        };
        let sockets = Map::new(Kind::Sockets, 4, 4, 1).unwrap();
        let known: [(IpAddr, AddressClass); 5] = [
            (VIP.into(), AddressClass::Director),
            (VIP6.into(), AddressClass::Director),
            (MACHINE.into(), AddressClass::Machine),
            (SERVER.into(), AddressClass::Peer),
            (SERVER6.into(), AddressClass::Peer),
        ];
        filter.set(known).unwrap();
        let sets = filter.sets();
        let maps = Maps { v4: sets.v4.number(), v6: sets.v6.number(), sockets: sockets.number() };
        let program = build(station, maps, &Steer::alone(), 1).unwrap();
        let program = Program::load(Purpose::Xdp, &program).unwrap();
        Some(frames.iter().map(|frame| program.run(&mut frame.clone()).unwrap() == TAKEN).collect())
    }

    fn udp(to: [u8; 6], from: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], to).ipv4(from.octets(), destination.octets(), 64);
        builder.udp(1, 2).write(&mut bytes, &[0; 20]).unwrap();
        bytes
    }

    fn udp6(to: [u8; 6], from: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], to).ipv6(from.octets(), destination.octets(), 64);
        builder.udp(1, 2).write(&mut bytes, &[0; 20]).unwrap();
        bytes
    }

    fn arp(to: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        let mut bytes = [&to[..], &[2; 6], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[2; 6]].concat();
        bytes.extend([&sender.octets()[..], &[0; 6], &target.octets(), &[0; 18]].concat());
        bytes
    }

    /// A solicitation (135) or an advertisement (136).
    fn discovery(kind: u8, target: Ipv6Addr) -> Vec<u8> {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x100);
        let mut bytes = udp6([0x33, 0x33, 0xff, 0, 1, 0], CLIENT6, group);
        bytes[20] = 58;
        bytes.truncate(54);
        bytes.extend([&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[0; 8]].concat());
        bytes
    }

    fn tagged(frame: &[u8], tags: usize) -> Vec<u8> {
        [&frame[..12], &[0x81, 0, 0, 5].repeat(tags), &frame[12..]].concat()
    }

    const EVERYONE: [u8; 6] = [0xff; 6];

    #[test]
    fn with_an_address_of_its_own_the_director_gets_what_goes_there_and_questions_about_its_addresses() {
        let frames = [
            (true, udp(OWN, CLIENT, CLIENT)),
            (false, udp([2; 6], CLIENT, VIP)),
            (false, udp(EVERYONE, SERVER, VIP)),
            (true, arp(EVERYONE, CLIENT, VIP)),
            (false, arp(EVERYONE, CLIENT, MACHINE)),
            (false, arp(EVERYONE, SERVER, MACHINE)),
            (true, arp(EVERYONE, SERVER, SERVER)),
            (false, arp(EVERYONE, CLIENT, CLIENT)),
            (true, tagged(&arp(EVERYONE, CLIENT, VIP), 1)),
            (true, tagged(&arp(EVERYONE, CLIENT, VIP), 2)),
            (false, tagged(&arp(EVERYONE, CLIENT, VIP), 3)),
            (true, discovery(135, VIP6)),
            (false, discovery(135, SERVER6)),
            (true, discovery(136, SERVER6)),
            (false, discovery(136, VIP6)),
            (false, discovery(133, VIP6)),
            (false, udp6([0x33, 0x33, 0, 0, 0, 1], CLIENT6, VIP6)),
        ];
        holds(Station::Own(OWN), &frames);
    }

    #[test]
    fn with_the_machines_address_the_director_gets_its_addresses_and_what_real_servers_answer() {
        let frames = [
            (true, udp(OWN, CLIENT, VIP)),
            (false, udp([4; 6], CLIENT, VIP)),
            (true, udp(OWN, SERVER, CLIENT)),
            (false, udp(OWN, SERVER, MACHINE)),
            (false, udp(OWN, CLIENT, MACHINE)),
            (false, udp(OWN, CLIENT, CLIENT)),
            (true, udp6(OWN, CLIENT6, VIP6)),
            (true, udp6(OWN, SERVER6, CLIENT6)),
            (false, udp6(OWN, CLIENT6, CLIENT6)),
            (true, arp(OWN, SERVER, VIP)),
            (false, arp(OWN, SERVER, MACHINE)),
            (true, arp(EVERYONE, CLIENT, VIP)),
            (true, tagged(&udp(OWN, CLIENT, VIP), 2)),
            (false, udp(EVERYONE, SERVER, CLIENT)),
        ];
        holds(Station::Shared(OWN), &frames);
    }

    #[test]
    fn frames_that_are_cut_off_are_left_to_the_kernel() {
        for frame in
            [udp(OWN, CLIENT, VIP), udp6(OWN, CLIENT6, VIP6), arp(OWN, CLIENT, VIP), discovery(135, VIP6)]
        {
            let header = if frame[12..14] == [8, 6] {
                28
            } else if frame[0] == 0x33 {
                64
            } else if frame[14] >> 4 == 4 {
                20
            } else {
                40
            };
            let frames: Vec<_> = (14..14 + header).map(|length| (false, frame[..length].to_vec())).collect();
            holds(Station::Shared(OWN), &frames);
            holds(Station::Shared(OWN), &[(true, frame[..14 + header].to_vec())]);
        }
    }

    fn holds(station: Station, frames: &[(bool, Vec<u8>)]) {
        let bytes: Vec<_> = frames.iter().map(|(_, bytes)| bytes.clone()).collect();
        let Some(taken) = taken(station, &bytes) else { return };
        for ((wanted, frame), taken) in frames.iter().zip(taken) {
            assert_eq!(taken, *wanted, "{frame:02x?}");
        }
    }
}
