//! The two programs of a port: one forwards segments of connections that it was taught, the other keeps those from the
//! director.
//!
//! ```text
//! frame comes in -> packet socket: Filter                  -> not known: into the ring, to the director
//!                   |                                         known: left out
//!                   v
//!                   interface: Ingress                     -> not known: the kernel's own stack
//!                                                             known: counted, rewritten, sent by the other port
//! ```
//!
//! Both ask the same questions about the same frame ([`recognise`]), so that one of them has it. Linux hands frames to
//! packet sockets first. A frame in between while the connection is closed is lost, which TCP makes good; so is one
//! that another program takes before `Ingress`, which shows in the counters: `Filter` counts what it leaves out.

use super::maps::{Numbers, cell, direction, rewrite, route};
use super::recognise::{
    Gate, LEAVE_IT, LOAD_BYTES, TRANSPORT_V6, copy, fold, is_plain, is_to, may_pass, packet, recognise, stack,
};
use crate::bpf::ebpf::{Assembler, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, STACK, Size, When};
use crate::sys::bpf::Instruction;

/// Which frames the socket gets.
pub(super) fn filter(gate: &Gate, maps: &Numbers) -> Option<Vec<Instruction>> {
    let mut program = Assembler::default();
    program.copy(R6, R1);
    // This program takes the place of the socket's classic filter, so it asks what that one asked.
    if gate.shares {
        program
            .load(Size::Word, R1, R6, packet::KIND)
            .jump(When::IsNot(R1, OUTGOING), "not outgoing")
            .set(R0, 0)
            .exit()
            .label("not outgoing");
    }
    recognise(&mut program, gate, maps);
    program
        .load(Size::Double, R0, STACK, stack::CELL)
        .load(Size::Word, R1, STACK, stack::FLAGS)
        .jump(When::Has(R1, CLOSING), "closing");
    may_pass(&mut program);
    is_plain(&mut program);
    program
        .load(Size::Double, R0, STACK, stack::CELL)
        .set(R1, 1)
        .add_to_memory(R0, cell::LEFT_OUT, R1)
        .set(R0, 0)
        .exit()
        .label("closing")
        // From now on the director sees all of it.
        .set(R1, 1)
        .store(Size::Double, R0, cell::CLOSED, R1)
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
pub(super) fn ingress(gate: &Gate, maps: &Numbers) -> Option<Vec<Instruction>> {
    let mut program = Assembler::default();
    program.copy(R6, R1);
    recognise(&mut program, gate, maps);
    may_pass(&mut program);
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

fn count(program: &mut Assembler) {
    program
        .load(Size::Double, R3, STACK, stack::CELL)
        .load(Size::Word, R2, R9, route::DIRECTION)
        .set(R1, 1)
        .jump(When::Is(R2, direction::REPLY), "a reply")
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
    fold(program);
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

/// Writes the beginning of the frame back. What cannot be written is lost: the director was not installed it.
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

/// FIN, SYN, RST.
const CLOSING: u32 = 0x07;
/// `PACKET_OUTGOING`.
const OUTGOING: u32 = 4;
/// More bytes than any frame has.
const WHOLE: i32 = i32::MAX;
/// `TCX_NEXT`: whoever comes after this program, and then the kernel.
pub(super) const NEXT: i32 = -1;
/// `TCX_DROP`.
pub(super) const SHOT: i32 = 2;
/// `BPF_F_PSEUDO_HDR`.
pub(super) const PSEUDO_HEADER: i32 = 1 << 4;
/// `BPF_FUNC_skb_store_bytes` and further ones of `linux/bpf.h`.
pub(super) const STORE_BYTES: i32 = 9;
pub(super) const REPLACE_CHECKSUM: i32 = 11;
pub(super) const REDIRECT: i32 = 23;
pub(super) const CHANGE_TAIL: i32 = 38;
