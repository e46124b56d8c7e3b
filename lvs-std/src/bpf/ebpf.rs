//! An assembler for BPF programs of a page or two (RFC 9669): instructions by name, jumps by label.

use crate::sys::bpf::Instruction;

/// A register. [`R0`] has results; a call takes its arguments from [`R1`] on and spoils them to [`R5`]; [`R6`] to
/// [`R9`] are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(u8);

pub(crate) const R0: Register = Register(0);
pub(crate) const R1: Register = Register(1);
pub(crate) const R2: Register = Register(2);
pub(crate) const R3: Register = Register(3);
pub(crate) const R4: Register = Register(4);
pub(crate) const R5: Register = Register(5);
pub(crate) const R6: Register = Register(6);
pub(crate) const R7: Register = Register(7);
pub(crate) const R8: Register = Register(8);
pub(crate) const R9: Register = Register(9);
/// The end of the stack.
pub(crate) const STACK: Register = Register(10);

/// How much is loaded or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Byte = 0x10,
    Double = 0x18,
    Half = 0x08,
    Word = 0x00,
}

/// When a jump is taken. Comparisons with numbers look at the lower half of the register only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The register equals the number.
    Is(Register, u32),
    /// The register differs from the number.
    IsNot(Register, u32),
    /// The register has one of the number's bits.
    Has(Register, u32),
    /// The register is larger than the other one: all bits of both count.
    Beyond(Register, Register),
    /// All bits of the register are 0.
    Null(Register),
    Always,
}

/// A place to jump to, by name. Jumps go forwards only.
pub(crate) type Label = &'static str;

/// A program in the making.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    instructions: Vec<Instruction>,
    /// Jumps whose target is not known yet.
    open: Vec<(usize, Label)>,
    /// What was used wrongly: a jump to nowhere, or too far.
    broken: bool,
}

impl Assembler {
    /// Loads from memory, with zeros before it in the register.
    pub(crate) fn load(&mut self, size: Size, to: Register, from: Register, offset: i16) -> &mut Self {
        self.push(MEMORY_LOAD | size as u8, to, from, offset, 0)
    }

    /// Stores into memory.
    pub(crate) fn store(&mut self, size: Size, to: Register, offset: i16, from: Register) -> &mut Self {
        self.push(MEMORY_STORE | size as u8, to, from, offset, 0)
    }

    /// Copies a register.
    pub(crate) fn copy(&mut self, to: Register, from: Register) -> &mut Self {
        self.push(COPY_REGISTER, to, from, 0, 0)
    }

    /// Sets a register to a number, of whose sign all upper bits are.
    pub(crate) fn set(&mut self, to: Register, number: i32) -> &mut Self {
        self.push(SET_NUMBER, to, R0, 0, number)
    }

    /// Adds a number.
    pub(crate) fn add(&mut self, to: Register, number: i32) -> &mut Self {
        self.push(ADD_NUMBER, to, R0, 0, number)
    }

    /// Adds another register.
    pub(crate) fn sum(&mut self, to: Register, what: Register) -> &mut Self {
        self.push(ADD, to, what, 0, 0)
    }

    /// Moves all bits to the right.
    pub(crate) fn shift_right(&mut self, to: Register, bits: i32) -> &mut Self {
        self.push(SHIFT_RIGHT, to, R0, 0, bits)
    }

    /// Turns all bits over.
    pub(crate) fn invert(&mut self, to: Register) -> &mut Self {
        self.push(XOR_NUMBER, to, R0, 0, -1)
    }

    /// Copies the lower half, with zeros above it.
    pub(crate) fn copy_word(&mut self, to: Register, from: Register) -> &mut Self {
        self.push(COPY_WORD, to, from, 0, 0)
    }

    /// Sets the lower half to a number, and the upper one to 0.
    pub(crate) fn set_word(&mut self, to: Register, number: u32) -> &mut Self {
        self.push(SET_WORD, to, R0, 0, number.cast_signed())
    }

    /// Multiplies the lower half, of which the lower half of the result stays.
    pub(crate) fn multiply_word(&mut self, to: Register, factor: u32) -> &mut Self {
        self.push(MULTIPLY_WORD, to, R0, 0, factor.cast_signed())
    }

    /// Turns those bits of the lower half over that the other one has; the upper half becomes 0.
    pub(crate) fn xor_word(&mut self, to: Register, what: Register) -> &mut Self {
        self.push(XOR_WORD, to, what, 0, 0)
    }

    /// Moves the bits of the lower half to the right; the upper half becomes 0.
    pub(crate) fn shift_right_word(&mut self, to: Register, bits: i32) -> &mut Self {
        self.push(SHIFT_RIGHT_WORD, to, R0, 0, bits)
    }

    /// Keeps some bits of the lower half only.
    pub(crate) fn mask_word(&mut self, to: Register, bits: u32) -> &mut Self {
        self.push(AND_WORD, to, R0, 0, bits.cast_signed())
    }

    /// Between this machine's byte order and the network's, 32 bits.
    pub(crate) fn swap_word(&mut self, to: Register) -> &mut Self {
        self.push(TO_BIG_ENDIAN, to, R0, 0, 32)
    }

    /// Between this machine's byte order and the network's, 16 bits.
    pub(crate) fn swap_half(&mut self, to: Register) -> &mut Self {
        self.push(TO_BIG_ENDIAN, to, R0, 0, 16)
    }

    /// Adds a register to eight bytes of memory, in one piece for all processors.
    pub(crate) fn add_to_memory(&mut self, to: Register, offset: i16, what: Register) -> &mut Self {
        self.push(ATOMIC_ADD, to, what, offset, 0)
    }

    /// Subtracts another register.
    pub(crate) fn subtract(&mut self, from: Register, what: Register) -> &mut Self {
        self.push(SUBTRACT, from, what, 0, 0)
    }

    /// Keeps some bits only.
    pub(crate) fn mask(&mut self, to: Register, bits: i32) -> &mut Self {
        self.push(AND_NUMBER, to, R0, 0, bits)
    }

    /// Sets a register to the address of the map with this number. Takes the place of two instructions.
    pub(crate) fn map(&mut self, to: Register, map: i32) -> &mut Self {
        // The source's number says that the number is a descriptor.
        self.push(LOAD_WIDE, to, R1, 0, map);
        self.push(0, R0, R0, 0, 0)
    }

    /// Sets a register to the address of the value of the array map with this number, which has one value alone. Takes
    /// the place of two instructions.
    pub(crate) fn map_value(&mut self, to: Register, map: i32) -> &mut Self {
        // The source's number says that the number is a descriptor, and the value's address is wanted
        // (`BPF_PSEUDO_MAP_VALUE`).
        self.push(LOAD_WIDE, to, R2, 0, map);
        self.push(0, R0, R0, 0, 0)
    }

    /// Calls a function of the kernel's (`BPF_FUNC_*`).
    pub(crate) fn call(&mut self, function: i32) -> &mut Self {
        self.push(CALL, R0, R0, 0, function)
    }

    /// Ends the program with what is in [`R0`].
    pub(crate) fn exit(&mut self) -> &mut Self {
        self.push(EXIT, R0, R0, 0, 0)
    }

    /// Goes on at a label further down.
    pub(crate) fn jump(&mut self, when: When, label: Label) -> &mut Self {
        self.open.push((self.instructions.len(), label));
        match when {
            When::Is(register, number) => self.push(JUMP_IS, register, R0, 0, number as i32),
            When::IsNot(register, number) => self.push(JUMP_IS_NOT, register, R0, 0, number as i32),
            When::Has(register, number) => self.push(JUMP_HAS, register, R0, 0, number as i32),
            When::Beyond(register, other) => self.push(JUMP_BEYOND, register, other, 0, 0),
            When::Null(register) => self.push(JUMP_NULL, register, R0, 0, 0),
            When::Always => self.push(JUMP_ALWAYS, R0, R0, 0, 0),
        }
    }

    /// Here is where jumps to `label` land.
    pub(crate) fn label(&mut self, label: Label) -> &mut Self {
        let here = self.instructions.len();
        let Self { instructions, open, broken } = self;
        open.retain(|(at, wanted)| {
            if *wanted != label {
                return true;
            }
            // A jump counts from the instruction behind it.
            match (instructions.get_mut(*at), i16::try_from(here - at - 1)) {
                (Some(instruction), Ok(distance)) => instruction.offset = distance,
                (None, _) | (_, Err(_)) => *broken = true,
            }
            false
        });
        self
    }

    /// The program; `None` when a jump leads nowhere.
    pub(crate) fn finish(self) -> Option<Vec<Instruction>> {
        (!self.broken && self.open.is_empty()).then_some(self.instructions)
    }

    fn push(&mut self, code: u8, to: Register, from: Register, offset: i16, immediate: i32) -> &mut Self {
        let registers = if cfg!(target_endian = "little") { from.0 << 4 | to.0 } else { to.0 << 4 | from.0 };
        self.instructions.push(Instruction { code, registers, offset, immediate });
        self
    }
}

pub(super) const MEMORY_LOAD: u8 = 0x61;
pub(super) const MEMORY_STORE: u8 = 0x63;
pub(super) const LOAD_WIDE: u8 = 0x18;
pub(super) const COPY_REGISTER: u8 = 0xbf;
pub(super) const SET_NUMBER: u8 = 0xb7;
pub(super) const ADD_NUMBER: u8 = 0x07;
pub(super) const ADD: u8 = 0x0f;
pub(super) const SUBTRACT: u8 = 0x1f;
pub(super) const SHIFT_RIGHT: u8 = 0x77;
pub(super) const XOR_NUMBER: u8 = 0xa7;
pub(super) const TO_BIG_ENDIAN: u8 = 0xdc;
pub(super) const ATOMIC_ADD: u8 = 0xdb;
pub(super) const AND_NUMBER: u8 = 0x57;
pub(super) const COPY_WORD: u8 = 0xbc;
pub(super) const SET_WORD: u8 = 0xb4;
pub(super) const MULTIPLY_WORD: u8 = 0x24;
pub(super) const XOR_WORD: u8 = 0xac;
pub(super) const SHIFT_RIGHT_WORD: u8 = 0x74;
pub(super) const AND_WORD: u8 = 0x54;
pub(super) const JUMP_ALWAYS: u8 = 0x05;
pub(super) const JUMP_IS: u8 = 0x16;
pub(super) const JUMP_IS_NOT: u8 = 0x56;
pub(super) const JUMP_HAS: u8 = 0x46;
pub(super) const JUMP_BEYOND: u8 = 0x2d;
pub(super) const JUMP_NULL: u8 = 0x15;
pub(super) const CALL: u8 = 0x85;
pub(super) const EXIT: u8 = 0x95;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_count_from_the_instruction_behind_them() {
        let mut program = Assembler::default();
        program.set(R0, 1).jump(When::Is(R0, 1), "end").set(R0, 2).label("end").exit();
        let program = program.finish().unwrap();
        let bytes = |at: usize| (program[at].code, program[at].offset, program[at].immediate);
        assert_eq!(bytes(1), (0x16, 1, 1));
        assert_eq!(bytes(3), (0x95, 0, 0));
    }

    #[test]
    fn a_jump_to_nowhere_makes_no_program() {
        let mut program = Assembler::default();
        program.jump(When::Always, "nowhere").label("somewhere").exit();
        assert!(program.finish().is_none());
    }
}
