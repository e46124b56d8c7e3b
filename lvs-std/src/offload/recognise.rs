//! Which frames belong to a connection that has an offload: the beginning of both programs, so that they agree.

use super::maps::{Numbers, cell, common, key, route};
use crate::bpf::ebpf::{Assembler, R0, R1, R2, R3, R4, R6, R7, R8, R9, Register, STACK, Size, When};

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

/// Goes on with the route in `R9`, where the TCP header begins in `R7`, the IP packet's length in `R8`, and cell, flags
/// and frame on the stack; or at [`LEAVE_IT`].
///
/// It asks for what tells connections apart and for nothing else: whatever closes one has to be known as its own,
/// however odd it is otherwise. Whether the frame may pass is for [`may_pass`] to say.
pub(super) fn recognise(program: &mut Assembler, gate: &Gate, maps: &Numbers) {
    program
        // Asked before anything else, so that frames cost next to nothing while no connection has an offload.
        .map_value(R1, maps.common)
        .load(Size::Double, R1, R1, common::IN_USE)
        .jump(When::Is(R1, 0), LEAVE_IT)
        .load(Size::Word, R1, R6, packet::IS_TAGGED)
        .jump(When::IsNot(R1, 0), LEAVE_IT);
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
    look_up(program, maps.routes, stack::KEY);
    program.jump(When::Null(R0), LEAVE_IT).copy(R9, R0).load(Size::Word, R1, R9, route::CELL).store(
        Size::Word,
        STACK,
        stack::NUMBER,
        R1,
    );
    look_up(program, maps.cells, stack::NUMBER);
    program
        .jump(When::Null(R0), LEAVE_IT)
        .load(Size::Double, R1, R0, cell::CLOSED)
        .jump(When::IsNot(R1, 0), LEAVE_IT)
        .store(Size::Double, STACK, stack::CELL, R0);
}

/// Goes on if a recognised frame is as the interface it leaves by can send it; else at [`LEAVE_IT`]. Keeps what
/// [`recognise`] has found.
pub(super) fn may_pass(program: &mut Assembler) {
    program.jump(When::Is(R7, TRANSPORT_V6), "IPv6 hops");
    has_hops(program, stack::NETWORK + 8);
    program.jump(When::Always, "hops to go").label("IPv6 hops");
    has_hops(program, stack::NETWORK + 7);
    program
        .label("hops to go")
        // A header that is shorter than TCP's is nothing that an interface could cut segments by.
        .load(Size::Word, R1, STACK, stack::HEADERS)
        .copy(R2, R7)
        .add(R2, TCP_HEADER - 14)
        .jump(When::Beyond(R2, R1), LEAVE_IT)
        // The packet ends behind its headers.
        .jump(When::Beyond(R1, R8), LEAVE_IT)
        // Cut short.
        .load(Size::Word, R1, R6, packet::LENGTH)
        .copy(R2, R8)
        .add(R2, 14)
        .jump(When::Beyond(R2, R1), LEAVE_IT)
        .copy(R3, R1)
        .copy(R4, R2)
        // Of a merged frame, each segment has to fit.
        .copy(R2, R8)
        .load(Size::Word, R1, R6, packet::SEGMENT)
        .jump(When::Is(R1, 0), "one segment")
        // What stands behind the packet cannot be taken off without the kernel forgetting that the frame is merged.
        .jump(When::Beyond(R3, R4), LEAVE_IT)
        .load(Size::Word, R2, STACK, stack::HEADERS)
        .sum(R2, R1)
        .label("one segment")
        .load(Size::Word, R3, R9, route::MTU)
        .jump(When::Beyond(R2, R3), LEAVE_IT)
        .jump(When::Is(R7, TRANSPORT_V6), "it may pass");
    is_sound(program);
    program.label("it may pass");
}

fn has_hops(program: &mut Assembler, hops: i16) {
    program.load(Size::Byte, R1, STACK, hops).jump(When::Is(R1, 0), LEAVE_IT).jump(When::Is(R1, 1), LEAVE_IT);
}

/// RFC 791 §3.1: an IPv4 header's words add up to all ones.
fn is_sound(program: &mut Assembler) {
    program.set(R1, 0);
    for word in (0..20).step_by(2) {
        program.load(Size::Half, R2, STACK, stack::NETWORK + word).sum(R1, R2);
    }
    fold(program);
    program.jump(When::IsNot(R1, 0xffff), LEAVE_IT);
}

/// Brings the sum of 16-bit words in `R1` into 16 bits.
pub(super) fn fold(program: &mut Assembler) {
    for _ in 0..2 {
        program.copy(R2, R1).shift_right(R2, 16).mask(R1, 0xffff).sum(R1, R2);
    }
}

/// RFC 791: no options, whole, TCP.
fn recognise_v4(program: &mut Assembler) {
    let at = |offset: i16| stack::NETWORK + offset;
    program
        .label("IPv4")
        .load(Size::Byte, R1, STACK, at(0))
        .jump(When::IsNot(R1, 0x45), LEAVE_IT)
        .load(Size::Half, R1, STACK, at(6))
        .jump(When::Has(R1, network_order(0x3fff)), LEAVE_IT);
    is_tcp(program, at(9));
    program.load(Size::Half, R8, STACK, at(2)).swap_half(R8).set(R7, 34);
    clear_key(program);
    copy(program, Size::Word, (STACK, at(12)), stack::KEY + key::SOURCE);
    copy(program, Size::Word, (STACK, at(16)), stack::KEY + key::DESTINATION);
    tcp(program, 20);
}

/// RFC 8200: no extension headers, TCP.
fn recognise_v6(program: &mut Assembler) {
    let at = |offset: i16| stack::NETWORK + offset;
    read(program, 54, 20);
    program.load(Size::Byte, R1, STACK, at(0)).mask(R1, 0xf0).jump(When::IsNot(R1, 0x60), LEAVE_IT);
    is_tcp(program, at(6));
    program.load(Size::Half, R8, STACK, at(4)).swap_half(R8).add(R8, 40).set(R7, TRANSPORT_V6.cast_signed());
    for word in (0..16).step_by(4) {
        copy(program, Size::Word, (STACK, at(8) + word), stack::KEY + key::SOURCE + word);
        copy(program, Size::Word, (STACK, at(24) + word), stack::KEY + key::DESTINATION + word);
    }
    tcp(program, 40);
}

/// By the field of an IP header that says so.
fn is_tcp(program: &mut Assembler, protocol: i16) {
    program.load(Size::Byte, R1, STACK, protocol).jump(When::IsNot(R1, TCP), LEAVE_IT);
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
        .store(Size::Word, STACK, stack::HEADERS, R1);
}

/// Of SYN, FIN, RST, URG and ACK, only ACK is set.
pub(super) fn is_plain(program: &mut Assembler) {
    program.load(Size::Word, R1, STACK, stack::FLAGS).mask(R1, 0x37).jump(When::IsNot(R1, 0x10), LEAVE_IT);
}

/// Frames to another MAC address go to `elsewhere`.
pub(super) fn is_to(program: &mut Assembler, mac: [u8; 6], elsewhere: &'static str) {
    let [a, b, c, d, e, f] = mac;
    for (at, two) in [(0, [a, b]), (2, [c, d]), (4, [e, f])] {
        program
            .load(Size::Half, R1, STACK, stack::FRAME + at)
            .jump(When::IsNot(R1, u32::from(u16::from_ne_bytes(two))), elsewhere);
    }
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

fn clear_key(program: &mut Assembler) {
    program.set(R1, 0);
    for at in (0..key::LEN as i16).step_by(8) {
        program.store(Size::Double, STACK, stack::KEY + at, R1);
    }
}

/// From memory to the stack.
pub(super) fn copy(program: &mut Assembler, size: Size, from: (Register, i16), to: i16) {
    program.load(size, R1, from.0, from.1).store(size, STACK, to, R1);
}

fn look_up(program: &mut Assembler, map: i32, at: i16) {
    program.copy(R2, STACK).add(R2, at.into()).map(R1, map).call(LOOK_UP);
}

/// A 16-bit field of a header as it is found when it is loaded.
fn network_order(value: u16) -> u32 {
    u32::from(value.to_be())
}

/// Where things are on the stack, whose accesses have to be aligned.
pub(super) mod stack {
    /// Ethernet header; behind it IP and TCP headers.
    pub(in super::super) const FRAME: i16 = NETWORK - 14;
    pub(in super::super) const NETWORK: i16 = -68;
    pub(in super::super) const KEY: i16 = -128;
    pub(in super::super) const NUMBER: i16 = -132;
    pub(in super::super) const FLAGS: i16 = -136;
    pub(in super::super) const HEADERS: i16 = -140;
    pub(in super::super) const CELL: i16 = -152;
}

/// Where `struct __sk_buff` has them.
pub(super) mod packet {
    pub(in super::super) const LENGTH: i16 = 0;
    pub(in super::super) const KIND: i16 = 4;
    pub(in super::super) const IS_TAGGED: i16 = 20;
    pub(in super::super) const SEGMENT: i16 = 176;
}

pub(super) const LEAVE_IT: &str = "leave";
/// Where an IPv6 packet's TCP header begins.
pub(super) const TRANSPORT_V6: u32 = 54;
const TCP: u32 = 6;
/// Bytes of a TCP header without options.
const TCP_HEADER: i32 = 20;
/// `BPF_FUNC_map_lookup_elem` and another one of `linux/bpf.h`.
pub(super) const LOOK_UP: i32 = 1;
pub(super) const LOAD_BYTES: i32 = 26;
