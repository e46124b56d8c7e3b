//! The two programs of a port: one forwards segments of connections that it was taught, the other keeps those from the director.
//!
//! ```text
//! frame comes in -> packet socket: Filter                  -> not known: into the ring, to the director
//!                   |                                         known: left out
//!                   v
//!                   interface: Ingress                     -> not known: the kernel's own stack
//!                                                             known: counted, rewritten, sent by the other port
//! ```
//!
//! Both ask the same questions about the same frame ([`recognise`]), so that exactly one of them has it. Linux hands frames to packet
//! sockets first.

use crate::assembler::{Assembler, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Register, STACK, Size, When};
use crate::sys::bpf::{Instruction, Map};

/// What the programs of a port need to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate {
    /// The MAC address that frames to the director have.
    pub(super) mac: [u8; 6],
    /// Whether the socket takes frames to that one and to groups only.
    pub(super) chooses: bool,
    /// Whether the socket is one of several that share frames, which must not be given what this machine sends.
    pub(super) shares: bool,
    /// The interface's number.
    pub(super) interface: u32,
}

/// Which frames the socket gets.
pub(super) fn filter(gate: &Gate, routes: &Map, cells: &Map) -> Option<Vec<Instruction>> {
    let mut program = Assembler::default();
    program.copy(R6, R1);
    if gate.shares {
        program
            .load(Size::Word, R1, R6, packet::KIND)
            .jump(When::IsNot(R1, OUTGOING), "not outgoing")
            .set(R0, 0)
            .exit()
            .label("not outgoing");
    }
    recognise(&mut program, gate, routes, cells);
    program
        .load(Size::Double, R0, STACK, stack::CELL)
        .load(Size::Word, R1, STACK, stack::FLAGS)
        .jump(When::Has(R1, CLOSING), "closing");
    is_plain(&mut program);
    program
        .set(R0, 0)
        .exit()
        .label("closing")
        // From now on the director sees all of it.
        .set(R1, 1)
        .store(Size::Word, R0, cell::CLOSED, R1)
        .label(LEAVE_IT);
    if gate.chooses {
        program
            .set(R2, 0)
            .copy(R3, STACK)
            .add(R3, stack::FRAME.into())
            .set(R4, 6)
            .copy(R1, R6)
            .call(LOAD_BYTES);
        program
            .jump(When::IsNot(R0, 0), "not for the director")
            .load(Size::Byte, R1, STACK, stack::FRAME)
            .jump(When::Has(R1, 1), "for the director");
        is_to(&mut program, gate.mac, "not for the director");
        program
            .label("for the director")
            .set(R0, WHOLE)
            .exit()
            .label("not for the director")
            .set(R0, 0)
            .exit();
    } else {
        program.set(R0, WHOLE).exit();
    }
    program.finish()
}

/// What the interface does with a frame.
pub(super) fn ingress(gate: &Gate, routes: &Map, cells: &Map) -> Option<Vec<Instruction>> {
    let mut program = Assembler::default();
    program.copy(R6, R1);
    recognise(&mut program, gate, routes, cells);
    is_plain(&mut program);
    count(&mut program);
    trim(&mut program);
    for at in (0..12).step_by(2) {
        copy(&mut program, Size::Half, (R9, route::MACS + at), stack::FRAME + at);
    }
    program.jump(When::Is(R7, TRANSPORT_V6), "rewrite IPv6");
    rewrite_v4(&mut program);
    write_back(&mut program, 14 + 20 + 4);
    program.jump(When::Always, "checksum").label("rewrite IPv6");
    rewrite_v6(&mut program);
    write_back(&mut program, 14 + 40 + 4);
    program
        .label("checksum")
        .load(Size::Word, R1, R9, route::REWRITE)
        .jump(When::Is(R1, rewrite::NOTHING), "send")
        .add(R7, 16);
    for (delta, flags) in [(route::PSEUDO_DELTA, PSEUDO_HEADER), (route::PORTS_DELTA, 0)] {
        program.copy(R1, R6).copy(R2, R7).set(R3, 0).load(Size::Word, R4, R9, delta).set(R5, flags);
        program.call(REPLACE_CHECKSUM).jump(When::IsNot(R0, 0), "lost");
    }
    program
        .label("send")
        .load(Size::Word, R1, R9, route::INTERFACE)
        .set(R2, 0)
        .call(REDIRECT)
        .exit()
        .label("lost")
        .set(R0, SHOT)
        .exit()
        .label(LEAVE_IT)
        .set(R0, NEXT)
        .exit();
    program.finish()
}

/// Goes on with the route in `R9`, where the TCP header begins in `R7`, the IP packet's length in `R8`, and cell, flags and frame on
/// the stack; or at [`LEAVE_IT`].
fn recognise(program: &mut Assembler, gate: &Gate, routes: &Map, cells: &Map) {
    program.load(Size::Word, R1, R6, packet::IS_TAGGED).jump(When::IsNot(R1, 0), LEAVE_IT);
    read(program, 0, 54);
    is_to(program, gate.mac, LEAVE_IT);
    program
        .load(Size::Half, R1, STACK, stack::FRAME + 12)
        .jump(When::Is(R1, network_order(0x0800)), "IPv4")
        .jump(When::IsNot(R1, network_order(0x86dd)), LEAVE_IT);
    recognise_v6(program);
    program.jump(When::Always, "key");
    recognise_v4(program);
    program.label("key").set(R1, gate.interface.cast_signed()).store(
        Size::Word,
        STACK,
        stack::KEY + key::INTERFACE,
        R1,
    );
    look_up(program, routes, stack::KEY);
    program.jump(When::Null(R0), LEAVE_IT).copy(R9, R0).load(Size::Word, R1, R9, route::CELL).store(
        Size::Word,
        STACK,
        stack::NUMBER,
        R1,
    );
    look_up(program, cells, stack::NUMBER);
    program
        .jump(When::Null(R0), LEAVE_IT)
        .load(Size::Word, R1, R0, cell::CLOSED)
        .jump(When::IsNot(R1, 0), LEAVE_IT)
        .store(Size::Double, STACK, stack::CELL, R0)
        // Cut short.
        .load(Size::Word, R1, R6, packet::LENGTH)
        .copy(R2, R8)
        .add(R2, 14)
        .jump(When::Beyond(R2, R1), LEAVE_IT)
        // Of a merged frame, each segment has to fit.
        .copy(R2, R8)
        .load(Size::Word, R1, R6, packet::SEGMENT)
        .jump(When::Is(R1, 0), "one segment")
        .load(Size::Word, R2, STACK, stack::HEADERS)
        .sum(R2, R1)
        .label("one segment")
        .load(Size::Word, R3, R9, route::MTU)
        .jump(When::Beyond(R2, R3), LEAVE_IT);
}

/// RFC 791: no options, whole, TCP, with hops to go.
fn recognise_v4(program: &mut Assembler) {
    let at = |offset: i16| stack::NETWORK + offset;
    program
        .label("IPv4")
        .load(Size::Byte, R1, STACK, at(0))
        .jump(When::IsNot(R1, 0x45), LEAVE_IT)
        .load(Size::Half, R1, STACK, at(6))
        .jump(When::Has(R1, network_order(0x3fff)), LEAVE_IT)
        .load(Size::Byte, R1, STACK, at(9))
        .jump(When::IsNot(R1, TCP), LEAVE_IT)
        .load(Size::Byte, R1, STACK, at(8))
        .jump(When::Is(R1, 0), LEAVE_IT)
        .jump(When::Is(R1, 1), LEAVE_IT)
        .load(Size::Half, R8, STACK, at(2))
        .swap_half(R8)
        .set(R7, 34);
    clear_key(program);
    copy(program, Size::Word, (STACK, at(12)), stack::KEY + key::SOURCE);
    copy(program, Size::Word, (STACK, at(16)), stack::KEY + key::DESTINATION);
    tcp(program, 20);
}

/// RFC 8200: no extension headers, TCP, with hops to go.
fn recognise_v6(program: &mut Assembler) {
    let at = |offset: i16| stack::NETWORK + offset;
    read(program, 54, 20);
    program
        .load(Size::Byte, R1, STACK, at(0))
        .mask(R1, 0xf0)
        .jump(When::IsNot(R1, 0x60), LEAVE_IT)
        .load(Size::Byte, R1, STACK, at(6))
        .jump(When::IsNot(R1, TCP), LEAVE_IT)
        .load(Size::Byte, R1, STACK, at(7))
        .jump(When::Is(R1, 0), LEAVE_IT)
        .jump(When::Is(R1, 1), LEAVE_IT)
        .load(Size::Half, R8, STACK, at(4))
        .swap_half(R8)
        .add(R8, 40)
        .set(R7, TRANSPORT_V6.cast_signed());
    for word in (0..16).step_by(4) {
        copy(program, Size::Word, (STACK, at(8) + word), stack::KEY + key::SOURCE + word);
        copy(program, Size::Word, (STACK, at(24) + word), stack::KEY + key::DESTINATION + word);
    }
    tcp(program, 40);
}

/// Ports into the key; flags, and how long the headers are (RFC 9293 §3.1), onto the stack.
fn tcp(program: &mut Assembler, network: i16) {
    let at = |offset: i16| stack::NETWORK + network + offset;
    copy(program, Size::Word, (STACK, at(0)), stack::KEY + key::PORTS);
    program
        .load(Size::Byte, R1, STACK, at(13))
        .store(Size::Word, STACK, stack::FLAGS, R1)
        .load(Size::Byte, R1, STACK, at(12))
        .shift_right(R1, 2)
        .mask(R1, 0x3c)
        .add(R1, network.into())
        .store(Size::Word, STACK, stack::HEADERS, R1)
        // The packet ends behind its headers.
        .jump(When::Beyond(R1, R8), LEAVE_IT);
}

/// Of SYN, FIN, RST, URG and ACK, only ACK is set.
fn is_plain(program: &mut Assembler) {
    program.load(Size::Word, R1, STACK, stack::FLAGS).mask(R1, 0x37).jump(When::IsNot(R1, 0x10), LEAVE_IT);
}

/// Frames to another MAC address go to `elsewhere`.
fn is_to(program: &mut Assembler, mac: [u8; 6], elsewhere: &'static str) {
    let [a, b, c, d, e, f] = mac;
    for (at, two) in [(0, [a, b]), (2, [c, d]), (4, [e, f])] {
        program
            .load(Size::Half, R1, STACK, stack::FRAME + at)
            .jump(When::IsNot(R1, u32::from(u16::from_ne_bytes(two))), elsewhere);
    }
}

fn count(program: &mut Assembler) {
    program
        .load(Size::Double, R3, STACK, stack::CELL)
        .load(Size::Word, R2, R9, route::REWRITE)
        .set(R1, 1)
        .jump(When::Is(R2, rewrite::SOURCE), "a reply")
        .add_to_memory(R3, cell::REQUESTS, R1)
        .add_to_memory(R3, cell::REQUESTS + 8, R8)
        .jump(When::Always, "counted")
        .label("a reply")
        .add_to_memory(R3, cell::REPLIES, R1)
        .add_to_memory(R3, cell::REPLIES + 8, R8)
        .label("counted");
}

/// Takes off what filled a short frame up.
fn trim(program: &mut Assembler) {
    program
        .load(Size::Word, R1, R6, packet::LENGTH)
        .copy(R2, R8)
        .add(R2, 14)
        .subtract(R1, R2)
        .jump(When::Null(R1), "trimmed")
        .copy(R1, R6)
        .set(R3, 0)
        .call(CHANGE_TAIL)
        .jump(When::IsNot(R0, 0), "lost")
        .label("trimmed");
}

/// A hop less, the checksum of that and of the addresses (RFC 1624 §3, equation 3), addresses and ports.
fn rewrite_v4(program: &mut Assembler) {
    let at = |offset: i16| stack::NETWORK + offset;
    program
        .load(Size::Byte, R1, STACK, at(8))
        .add(R1, -1)
        .store(Size::Byte, STACK, at(8), R1)
        .load(Size::Half, R1, STACK, at(10))
        .invert(R1)
        .mask(R1, 0xffff)
        .load(Size::Word, R2, R9, route::NETWORK_DELTA)
        .sum(R1, R2);
    for _ in 0..2 {
        program.copy(R2, R1).shift_right(R2, 16).mask(R1, 0xffff).sum(R1, R2);
    }
    program.invert(R1).mask(R1, 0xffff).store(Size::Half, STACK, at(10), R1);
    program
        .load(Size::Word, R3, R9, route::REWRITE)
        .jump(When::Is(R3, rewrite::NOTHING), "IPv4 is rewritten")
        .load(Size::Word, R1, R9, route::PORTS)
        .store(Size::Word, STACK, at(20), R1)
        .load(Size::Word, R1, R9, route::ADDRESS)
        .jump(When::Is(R3, rewrite::SOURCE), "IPv4 source")
        .store(Size::Word, STACK, at(16), R1)
        .jump(When::Always, "IPv4 is rewritten")
        .label("IPv4 source")
        .store(Size::Word, STACK, at(12), R1)
        .label("IPv4 is rewritten");
}

fn rewrite_v6(program: &mut Assembler) {
    let at = |offset: i16| stack::NETWORK + offset;
    program
        .load(Size::Byte, R1, STACK, at(7))
        .add(R1, -1)
        .store(Size::Byte, STACK, at(7), R1)
        .load(Size::Word, R3, R9, route::REWRITE)
        .jump(When::Is(R3, rewrite::NOTHING), "IPv6 is rewritten")
        .load(Size::Word, R1, R9, route::PORTS)
        .store(Size::Word, STACK, at(40), R1)
        .jump(When::Is(R3, rewrite::SOURCE), "IPv6 source");
    for word in (0..16).step_by(4) {
        copy(program, Size::Word, (R9, route::ADDRESS + word), at(24) + word);
    }
    program.jump(When::Always, "IPv6 is rewritten").label("IPv6 source");
    for word in (0..16).step_by(4) {
        copy(program, Size::Word, (R9, route::ADDRESS + word), at(8) + word);
    }
    program.label("IPv6 is rewritten");
}

/// Reads bytes of the frame onto the stack.
fn read(program: &mut Assembler, from: i32, length: i32) {
    program
        .copy(R1, R6)
        .set(R2, from)
        .copy(R3, STACK)
        .add(R3, i32::from(stack::FRAME) + from)
        .set(R4, length)
        .call(LOAD_BYTES)
        .jump(When::IsNot(R0, 0), LEAVE_IT);
}

/// Writes the beginning of the frame back. What cannot be written is lost: the director was not shown it.
fn write_back(program: &mut Assembler, length: i32) {
    program
        .copy(R1, R6)
        .set(R2, 0)
        .copy(R3, STACK)
        .add(R3, stack::FRAME.into())
        .set(R4, length)
        .set(R5, 0)
        .call(STORE_BYTES)
        .jump(When::IsNot(R0, 0), "lost");
}

fn clear_key(program: &mut Assembler) {
    program.set(R1, 0);
    for at in (0..key::LEN as i16).step_by(8) {
        program.store(Size::Double, STACK, stack::KEY + at, R1);
    }
}

/// From memory to the stack.
fn copy(program: &mut Assembler, size: Size, from: (Register, i16), to: i16) {
    program.load(size, R1, from.0, from.1).store(size, STACK, to, R1);
}

fn look_up(program: &mut Assembler, map: &Map, at: i16) {
    program.copy(R2, STACK).add(R2, at.into()).map(R1, map).call(LOOK_UP);
}

/// A 16-bit field of a header as it is found when it is loaded.
fn network_order(value: u16) -> u32 {
    u32::from(value.to_be())
}

/// What a route is found by.
pub(super) mod key {
    pub(in super::super) const SOURCE: i16 = 0;
    pub(in super::super) const DESTINATION: i16 = 16;
    pub(in super::super) const PORTS: i16 = 32;
    /// Where it comes in.
    pub(in super::super) const INTERFACE: i16 = 36;
    pub(in super::super) const LEN: usize = 40;
}

/// What is done to packets of a route.
pub(super) mod route {
    /// The frame's new beginning.
    pub(in super::super) const MACS: i16 = 0;
    /// The longest IP packet, of a merged frame the longest segment.
    pub(in super::super) const MTU: i16 = 12;
    /// Where it goes out.
    pub(in super::super) const INTERFACE: i16 = 16;
    /// Which counters it has.
    pub(in super::super) const CELL: i16 = 20;
    /// One of [`rewrite`](super::rewrite).
    pub(in super::super) const REWRITE: i16 = 24;
    pub(in super::super) const ADDRESS: i16 = 32;
    pub(in super::super) const PORTS: i16 = 48;
    /// What is added to the IPv4 header's sum, the hop included.
    pub(in super::super) const NETWORK_DELTA: i16 = 52;
    /// To the pseudo-header's.
    pub(in super::super) const PSEUDO_DELTA: i16 = 56;
    /// To the ports'.
    pub(in super::super) const PORTS_DELTA: i16 = 60;
    pub(in super::super) const LEN: usize = 64;
}

/// Which address is rewritten.
pub(super) mod rewrite {
    /// None: direct routing.
    pub(in super::super) const NOTHING: u32 = 0;
    pub(in super::super) const DESTINATION: u32 = 1;
    /// Only a reply's is.
    pub(in super::super) const SOURCE: u32 = 2;
}

/// Counters of a connection: packets, and bytes behind them.
pub(super) mod cell {
    pub(in super::super) const REQUESTS: i16 = 0;
    pub(in super::super) const REPLIES: i16 = 16;
    /// Not 0: its packets are all the director's.
    pub(in super::super) const CLOSED: i16 = 32;
}

/// Where things are on the stack, whose accesses have to be aligned.
mod stack {
    /// Ethernet header; behind it IP and TCP headers.
    pub(super) const FRAME: i16 = NETWORK - 14;
    pub(super) const NETWORK: i16 = -68;
    pub(super) const KEY: i16 = -128;
    pub(super) const NUMBER: i16 = -132;
    pub(super) const FLAGS: i16 = -136;
    pub(super) const HEADERS: i16 = -140;
    pub(super) const CELL: i16 = -152;
}

/// Where `struct __sk_buff` has them.
mod packet {
    pub(super) const LENGTH: i16 = 0;
    pub(super) const KIND: i16 = 4;
    pub(super) const IS_TAGGED: i16 = 20;
    pub(super) const SEGMENT: i16 = 176;
}

const LEAVE_IT: &str = "leave";
/// Where an IPv6 packet's TCP header begins.
const TRANSPORT_V6: u32 = 54;
const TCP: u32 = 6;
/// FIN, SYN, RST.
const CLOSING: u32 = 0x07;
/// `PACKET_OUTGOING`.
const OUTGOING: u32 = 4;
/// More bytes than any frame has.
const WHOLE: i32 = i32::MAX;
/// `TCX_NEXT`: whoever comes after this program, and then the kernel.
pub(super) const NEXT: i32 = -1;
/// `TCX_DROP`.
const SHOT: i32 = 2;
/// `BPF_F_PSEUDO_HDR`.
const PSEUDO_HEADER: i32 = 1 << 4;
/// `BPF_FUNC_map_lookup_elem` and further ones of `linux/bpf.h`.
const LOOK_UP: i32 = 1;
const STORE_BYTES: i32 = 9;
const REPLACE_CHECKSUM: i32 = 11;
const REDIRECT: i32 = 23;
const LOAD_BYTES: i32 = 26;
const CHANGE_TAIL: i32 = 38;
