//! [`Steer`] as a part of a program for XDP: the number of a frame's worker.
//!
//! The part answers as the [classic program](super::program) does, with one difference: the director's addresses are
//! in maps, so that there may be any number of them, and a change is a change of the maps alone. What it does not tell
//! goes to worker 0, from where it is [handed on](super::dispatch).

use super::program::{AH, BALANCED, ESP, FRAGMENT, HOP_BY_HOP, KEY_EXCHANGE, TCP_BEHIND_EIGHT};
use super::{By, LAST_FACTOR, Steer};
use crate::bpf::ebpf::{Assembler, Label, R1, R2, R3, R4, R5, R6, R7, R8, R9, Size, When};
use crate::bpf::xdp::{DATA_END, found, has, look_up_v4, look_up_v6, network_header, network_order};
use lvs_core::Family;

/// Where the director's addresses are, by the numbers of the maps: those whose value has the bit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) v4: i32,
    pub(crate) v6: i32,
    pub(crate) bit: u8,
}

/// Writes the part, after which `R7` has the worker's number. `R6` has the context and keeps it; all other registers
/// are spoilt.
pub(crate) fn write(program: &mut Assembler, steer: &Steer, own: Own) {
    network_header(program, ["worker: tag", "worker: second tag", "worker: untagged"], FIRST);
    program
        .jump(When::Is(R7, network_order(0x0800)), "worker: IPv4")
        .jump(When::IsNot(R7, network_order(0x86dd)), FIRST);
    ipv6(program, steer, own);
    ipv4(program, steer, own);
    finish(program, steer);
}

/// RFC 791 §3.1.
fn ipv4(program: &mut Assembler, steer: &Steer, own: Own) {
    const KEYED: Label = "worker: IPsec over IPv4";
    program.label("worker: IPv4");
    has(program, 20, FIRST);
    program.load(Size::Byte, R1, R8, 9);
    for protocol in BALANCED.into_iter().chain([AH]) {
        program.jump(When::Is(R1, protocol), "worker: balanced IPv4");
    }
    program.jump(When::Always, FIRST).label("worker: balanced IPv4");
    if steer.by == By::Endpoint {
        // More fragments, or an offset.
        program.load(Size::Half, R1, R8, 6).jump(When::Has(R1, network_order(0x3fff)), FIRST);
    }
    look_up_v4(program, own.v4, 16);
    // The client's address, and where its port is. First as if it were a reply.
    program.load(Size::Word, R5, R8, 16).set(R9, 2);
    found(program, R1, CLIENT_V4);
    program
        .jump(When::Has(R1, own.bit.into()), "worker: request over IPv4")
        .jump(When::Always, CLIENT_V4)
        .label("worker: request over IPv4")
        .load(Size::Word, R5, R8, 12)
        .set(R9, 0)
        .label(CLIENT_V4)
        .set_word(R7, steer.start);
    absorb_word(program, steer, steer.masks(Family::V4)[0]);
    if steer.by != By::Endpoint {
        program.jump(When::Always, MIX);
        return;
    }
    program
        .load(Size::Byte, R1, R8, 9)
        .jump(When::Is(R1, ESP), KEYED)
        .jump(When::Is(R1, AH), KEYED)
        // The header's length in words of four bytes.
        .load(Size::Byte, R1, R8, 0)
        .mask(R1, 15)
        .sum(R1, R1)
        .sum(R1, R1)
        .sum(R9, R1);
    port(program);
    program.label(KEYED);
    key_exchange(program);
}

/// RFC 8200 §3, with the one extension header that the classic program knows.
fn ipv6(program: &mut Assembler, steer: &Steer, own: Own) {
    const KEYED: Label = "worker: IPsec over IPv6";
    has(program, 40, FIRST);
    program.load(Size::Byte, R1, R8, 6);
    for protocol in BALANCED {
        program.jump(When::Is(R1, protocol), "worker: balanced IPv6");
    }
    if steer.by != By::Endpoint {
        // Only the first fragment has ports, but every one has the addresses.
        program.jump(When::Is(R1, FRAGMENT), "worker: balanced IPv6");
    }
    program.jump(When::IsNot(R1, HOP_BY_HOP), FIRST);
    has(program, 42, FIRST);
    program
        .load(Size::Half, R1, R8, 40)
        .jump(When::IsNot(R1, network_order(TCP_BEHIND_EIGHT as u16)), FIRST)
        .label("worker: balanced IPv6");
    look_up_v6(program, own.v6, 24);
    program.copy(R2, R8).add(R2, 24).set(R9, 42);
    found(program, R1, CLIENT_V6);
    program
        .jump(When::Has(R1, own.bit.into()), "worker: request over IPv6")
        .jump(When::Always, CLIENT_V6)
        .label("worker: request over IPv6")
        .copy(R2, R8)
        .add(R2, 8)
        .set(R9, 40)
        .label(CLIENT_V6)
        .set_word(R7, steer.start);
    for (offset, mask) in [0, 4, 8, 12].into_iter().zip(steer.masks(Family::V6)) {
        program.load(Size::Word, R5, R2, offset);
        absorb_word(program, steer, mask);
    }
    if steer.by != By::Endpoint {
        program.jump(When::Always, MIX);
        return;
    }
    program
        .load(Size::Byte, R1, R8, 6)
        .jump(When::Is(R1, ESP), KEYED)
        .jump(When::IsNot(R1, HOP_BY_HOP), "worker: port over IPv6")
        .add(R9, 8)
        .label("worker: port over IPv6");
    port(program);
    program.label(KEYED);
    key_exchange(program);
}

/// Takes a word of the client's address in.
fn absorb_word(program: &mut Assembler, steer: &Steer, mask: u32) {
    program.swap_word(R5);
    if mask != u32::MAX {
        program.mask_word(R5, mask);
    }
    absorb(program, steer);
}

/// As [`Steer::owner_of`] takes a word in, which is in `R5`.
fn absorb(program: &mut Assembler, steer: &Steer) {
    program.xor_word(R7, R5).multiply_word(R7, steer.factor);
    program.copy_word(R1, R7).shift_right_word(R1, 15).xor_word(R7, R1);
}

/// The port that is `R9` behind the network header.
fn port(program: &mut Assembler) {
    program
        .copy(R2, R8)
        .sum(R2, R9)
        .load(Size::Word, R3, R6, DATA_END)
        .copy(R4, R2)
        .add(R4, 2)
        .jump(When::Beyond(R4, R3), FIRST)
        .load(Size::Half, R5, R2, 0)
        .swap_half(R5)
        .jump(When::Always, HASH);
}

fn key_exchange(program: &mut Assembler) {
    program.set_word(R5, KEY_EXCHANGE).jump(When::Always, HASH);
}

/// The hash of what was taken in, and the worker by it.
fn finish(program: &mut Assembler, steer: &Steer) {
    if steer.by == By::Endpoint {
        program.label(HASH);
        absorb(program, steer);
    }
    program.label(MIX);
    program.copy_word(R1, R7).shift_right_word(R1, 16).xor_word(R7, R1).multiply_word(R7, LAST_FACTOR);
    program.copy_word(R1, R7).shift_right_word(R1, 13).xor_word(R7, R1);
    program
        .shift_right_word(R7, 16)
        .multiply_word(R7, steer.workers)
        .shift_right_word(R7, 16)
        .jump(When::Always, "worker: known")
        .label(FIRST)
        .set(R7, 0)
        .label("worker: known");
}

const FIRST: Label = "worker: first";
const CLIENT_V4: Label = "worker: client over IPv4";
const CLIENT_V6: Label = "worker: client over IPv6";
const HASH: Label = "worker: port is known";
const MIX: Label = "worker: client is known";

#[cfg(test)]
mod tests;
