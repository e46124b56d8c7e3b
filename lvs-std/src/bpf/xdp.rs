//! What programs for XDP have in common: the frame's bytes, its network header, addresses that are looked up.

use super::ebpf::{Assembler, Label, R0, R1, R2, R3, R4, R5, R6, R7, R8, Register, STACK, Size, When};

/// Leaves the network header in `R8`, its type (in the network's byte order, as it is loaded) in `R7`, the frame's
/// first byte in `R2` and the end of its bytes in `R3`. Goes to `cut` when the frame ends before that. The context is
/// in `R6`; `labels` are for this use alone.
pub(crate) fn network_header(program: &mut Assembler, labels: [Label; 3], cut: Label) {
    frame(program, cut);
    behind_tags(program, labels, cut);
}

/// Leaves the frame's first byte in `R2` and the end of its bytes in `R3`, if it has an Ethernet header.
pub(crate) fn frame(program: &mut Assembler, cut: Label) {
    program
        .load(Size::Word, R2, R6, DATA)
        .load(Size::Word, R3, R6, DATA_END)
        .copy(R4, R2)
        .add(R4, 14)
        .jump(When::Beyond(R4, R3), cut);
}

/// As [`network_header`], after [`frame`].
pub(crate) fn behind_tags(program: &mut Assembler, [first, second, untagged]: [Label; 3], cut: Label) {
    program.load(Size::Half, R7, R2, 12).copy(R8, R2).add(R8, 14);
    for tag in [first, second] {
        program
            .jump(When::Is(R7, network_order(0x8100)), tag)
            .jump(When::IsNot(R7, network_order(0x88a8)), untagged)
            .label(tag);
        has(program, 4, cut);
        program.load(Size::Half, R7, R8, 2).add(R8, 4);
    }
    program.label(untagged);
}

/// Goes to `cut` unless so many bytes are there from the network header on.
pub(crate) fn has(program: &mut Assembler, bytes: i32, cut: Label) {
    program.copy(R4, R8).add(R4, bytes).jump(When::Beyond(R4, R3), cut);
}

/// Looks up the IPv4 address at `offset` of the network header, which is inside of the frame, in a map. `R0` has the
/// place of its value, or is null.
pub(crate) fn look_up_v4(program: &mut Assembler, map: i32, offset: i16) {
    program.load(Size::Word, R5, R8, offset).store(Size::Word, STACK, -4, R5);
    look_up(program, map, -4);
}

/// Looks an IPv6 address up, as [`look_up_v4`] does with one of IPv4.
pub(crate) fn look_up_v6(program: &mut Assembler, map: i32, offset: i16) {
    for word in [0, 4, 8, 12] {
        program.load(Size::Word, R5, R8, offset + word).store(Size::Word, STACK, word - 16, R5);
    }
    look_up(program, map, -16);
}

fn look_up(program: &mut Assembler, map: i32, key: i32) {
    program.copy(R2, STACK).add(R2, key).map(R1, map).call(LOOK_UP);
}

/// What was found is loaded into a register; goes to `missing` if nothing was.
pub(crate) fn found(program: &mut Assembler, to: Register, missing: Label) {
    program.jump(When::Null(R0), missing).load(Size::Byte, to, R0, 0);
}

/// A 16-bit field of a header as it is found when it is loaded.
pub(crate) fn network_order(value: u16) -> u32 {
    u32::from(value.to_be())
}

/// `BPF_FUNC_map_lookup_elem`.
pub(crate) const LOOK_UP: i32 = 1;
/// `BPF_FUNC_redirect_map`.
pub(crate) const REDIRECT_MAP: i32 = 51;
/// Where `struct xdp_md` has them.
pub(crate) const DATA: i16 = 0;
pub(crate) const DATA_END: i16 = 4;
pub(crate) const QUEUE: i16 = 16;
