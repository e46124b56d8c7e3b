//! Runs programs of [`ebpf`](super::ebpf) as the kernel would (RFC 9669), for tests: without privilege, and on any
//! input.
//!
//! It also refuses what the kernel's checker refuses when it loads a program: registers that nothing was put into,
//! memory that is nobody's, accesses to the stack that are not aligned, jumps back.

use core::fmt;

use super::ebpf::{
    ADD, ADD_NUMBER, AND_NUMBER, AND_WORD, ATOMIC_ADD, CALL, COPY_REGISTER, COPY_WORD, EXIT, JUMP_ALWAYS,
    JUMP_BEYOND, JUMP_HAS, JUMP_IS, JUMP_IS_NOT, JUMP_NULL, LOAD_WIDE, MEMORY_LOAD, MEMORY_STORE,
    MULTIPLY_WORD, SET_NUMBER, SET_WORD, SHIFT_RIGHT, SHIFT_RIGHT_WORD, SUBTRACT, TO_BIG_ENDIAN, XOR_NUMBER,
    XOR_WORD,
};
use crate::sys::bpf::Instruction;

/// What a program meets outside of its registers and its stack.
pub(crate) trait Kernel {
    /// A word of the context, which is what the program is called with.
    fn context(&self, offset: u64) -> Option<u32>;

    /// Bytes of a map's value, or of the frame below [`CONTEXT`], in this machine's order, with zeros above them.
    fn load(&self, address: u64, size: usize) -> Option<u64>;

    /// Sets eight bytes of a map's value.
    fn store(&mut self, _address: u64, _value: u64) -> Option<()> {
        None
    }

    /// Adds to eight bytes of a map's value.
    fn add(&mut self, _address: u64, _value: u64) -> Option<()> {
        None
    }

    /// Where the one value of the map with this number is: at [`VALUES`] or above.
    fn map_value(&self, _number: i32) -> Option<u64> {
        None
    }

    /// One of the kernel's functions (`BPF_FUNC_*`). Maps are told by [`MAPS`] and their number.
    fn call(&mut self, function: i32, arguments: [u64; 5], stack: &mut Stack) -> Option<u64>;
}

/// Where the context is.
pub(crate) const CONTEXT: u64 = 1 << 60;
/// Where the stack ends.
const STACK_END: u64 = 2 << 60;
/// The address of a map is this and its number.
pub(crate) const MAPS: u64 = 3 << 60;
/// Map values have addresses from here on.
pub(crate) const VALUES: u64 = 4 << 60;

/// A program's own memory.
#[derive(Debug)]
pub(crate) struct Stack([u8; Self::SIZE]);

impl Stack {
    /// `MAX_BPF_STACK`.
    const SIZE: usize = 512;

    fn place(address: u64, len: usize) -> Option<core::ops::Range<usize>> {
        let start = usize::try_from(address.checked_sub(STACK_END - Self::SIZE as u64)?).ok()?;
        Some(start..start.checked_add(len)?)
    }

    pub(crate) fn bytes(&self, address: u64, len: usize) -> Option<&[u8]> {
        self.0.get(Self::place(address, len)?)
    }

    pub(crate) fn bytes_mut(&mut self, address: u64, len: usize) -> Option<&mut [u8]> {
        self.0.get_mut(Self::place(address, len)?)
    }
}

/// An instruction that the kernel would not have let a program come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The instruction's number.
    at: usize,
    code: u8,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, code } = self;
        write!(f, "instruction {at} (code {code:#04x}) does what no program may do")
    }
}

/// What a program answers.
pub(crate) fn run(program: &[Instruction], kernel: &mut impl Kernel) -> Result<u64, Fault> {
    let mut machine = Machine { registers: [None; 11], stack: Stack([0; Stack::SIZE]) };
    (machine.registers[1], machine.registers[10]) = (Some(CONTEXT), Some(STACK_END));
    let mut at = 0;
    loop {
        let code = program.get(at).map_or(0, |instruction| instruction.code);
        let next = match machine.step(program, at, kernel) {
            Some(Step::Next(count)) => at + 1 + count,
            Some(Step::End(answer)) => return Ok(answer),
            None => return Err(Fault { at, code }),
        };
        at = next;
    }
}

enum Step {
    /// Goes on with the next instruction, or leaves out so many before that.
    Next(usize),
    End(u64),
}

struct Machine {
    /// `None` before anything is in it.
    registers: [Option<u64>; 11],
    stack: Stack,
}

impl Machine {
    fn step(&mut self, program: &[Instruction], at: usize, kernel: &mut impl Kernel) -> Option<Step> {
        let Instruction { code, registers, offset, immediate } = *program.get(at)?;
        let (upper, lower) = (usize::from(registers >> 4), usize::from(registers & 15));
        let (to, from) = if cfg!(target_endian = "little") { (lower, upper) } else { (upper, lower) };
        let number = i64::from(immediate).cast_unsigned();
        let half = |value: u64| value as u32;
        let holds = match code {
            JUMP_ALWAYS => true,
            JUMP_IS => half(self.get(to)?) == immediate.cast_unsigned(),
            JUMP_IS_NOT => half(self.get(to)?) != immediate.cast_unsigned(),
            JUMP_HAS => half(self.get(to)?) & immediate.cast_unsigned() != 0,
            JUMP_BEYOND => self.get(to)? > self.get(from)?,
            JUMP_NULL => self.get(to)? == number,
            CALL => {
                let mut arguments = [0; 5];
                for (argument, register) in arguments.iter_mut().zip(self.registers.get(1..6)?) {
                    // What a function does not take need not be there.
                    *argument = register.unwrap_or_default();
                }
                let answer = kernel.call(immediate, arguments, &mut self.stack)?;
                self.registers.get_mut(1..6)?.fill(None);
                self.set(0, answer)?;
                return Some(Step::Next(0));
            }
            EXIT => return Some(Step::End(self.get(0)?)),
            LOAD_WIDE => {
                let address = match from {
                    1 => MAPS + u64::try_from(immediate).ok()?,
                    2 => kernel.map_value(immediate)?,
                    _ => return None,
                };
                self.set(to, address)?;
                return Some(Step::Next(1));
            }
            ATOMIC_ADD => {
                let address = self.get(to)?.wrapping_add_signed(offset.into());
                kernel.add(address, self.get(from)?)?;
                return Some(Step::Next(0));
            }
            _ if code & !0x18 == MEMORY_LOAD => {
                let address = self.get(from)?.wrapping_add_signed(offset.into());
                let value = self.load(address, size(code), kernel)?;
                self.set(to, value)?;
                return Some(Step::Next(0));
            }
            _ if code & !0x18 == MEMORY_STORE => {
                let address = self.get(to)?.wrapping_add_signed(offset.into());
                self.store(address, size(code), self.get(from)?, kernel)?;
                return Some(Step::Next(0));
            }
            _ => {
                let value = match code {
                    COPY_REGISTER => self.get(from)?,
                    SET_NUMBER => number,
                    ADD_NUMBER => self.get(to)?.wrapping_add(number),
                    ADD => self.get(to)?.wrapping_add(self.get(from)?),
                    SUBTRACT => self.get(to)?.wrapping_sub(self.get(from)?),
                    SHIFT_RIGHT => self.get(to)?.checked_shr(immediate.cast_unsigned())?,
                    XOR_NUMBER => self.get(to)? ^ number,
                    AND_NUMBER => self.get(to)? & number,
                    TO_BIG_ENDIAN if immediate == 16 => (self.get(to)? as u16).to_be().into(),
                    TO_BIG_ENDIAN if immediate == 32 => half(self.get(to)?).to_be().into(),
                    COPY_WORD => half(self.get(from)?).into(),
                    SET_WORD => immediate.cast_unsigned().into(),
                    MULTIPLY_WORD => half(self.get(to)?).wrapping_mul(immediate.cast_unsigned()).into(),
                    XOR_WORD => (half(self.get(to)?) ^ half(self.get(from)?)).into(),
                    SHIFT_RIGHT_WORD => half(self.get(to)?).checked_shr(immediate.cast_unsigned())?.into(),
                    AND_WORD => (half(self.get(to)?) & immediate.cast_unsigned()).into(),
                    _ => return None,
                };
                self.set(to, value)?;
                return Some(Step::Next(0));
            }
        };
        Some(Step::Next(if holds { usize::try_from(offset).ok()? } else { 0 }))
    }

    fn load(&self, address: u64, size: usize, kernel: &impl Kernel) -> Option<u64> {
        if !(CONTEXT..VALUES).contains(&address) {
            return kernel.load(address, size);
        }
        if let Some(bytes) = self.stack.bytes(address, size) {
            return (address.is_multiple_of(size as u64)).then(|| number(bytes));
        }
        // The kernel lets programs have words of the context alone.
        (size == 4).then(|| kernel.context(address.wrapping_sub(CONTEXT))).flatten().map(u64::from)
    }

    fn store(&mut self, address: u64, size: usize, value: u64, kernel: &mut impl Kernel) -> Option<()> {
        if address >= VALUES {
            return (size == 8).then(|| kernel.store(address, value)).flatten();
        }
        let bytes = self.stack.bytes_mut(address, size).filter(|_| address.is_multiple_of(size as u64))?;
        let value = value.to_ne_bytes();
        let part = if cfg!(target_endian = "little") { value.get(..size) } else { value.get(8 - size..) };
        bytes.copy_from_slice(part?);
        Some(())
    }

    fn get(&self, register: usize) -> Option<u64> {
        *self.registers.get(register)?
    }

    fn set(&mut self, register: usize, value: u64) -> Option<()> {
        // The last one, the stack's end, is not to be written.
        let last = self.registers.len() - 1;
        *self.registers.get_mut(register).filter(|_| register < last)? = Some(value);
        Some(())
    }
}

/// Bytes of a load or store.
const fn size(code: u8) -> usize {
    match code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

/// The number that these bytes are in this machine's order, eight at most.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    let place = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if cfg!(target_endian = "little") {
        bytes.iter().rev().fold(0, place)
    } else {
        bytes.iter().fold(0, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::ebpf::{Assembler, R0, R1, R2, R3, STACK, Size, When};

    /// A kernel that has nothing.
    struct Nothing;

    impl Kernel for Nothing {
        fn context(&self, offset: u64) -> Option<u32> {
            (offset == 4).then_some(77)
        }

        fn load(&self, _: u64, _: usize) -> Option<u64> {
            None
        }

        fn call(&mut self, _: i32, arguments: [u64; 5], _: &mut Stack) -> Option<u64> {
            Some(arguments[0])
        }
    }

    fn answer(write: impl Fn(&mut Assembler)) -> Option<u64> {
        let mut program = Assembler::default();
        write(&mut program);
        run(&program.finish().unwrap(), &mut Nothing).ok()
    }

    #[test]
    fn arithmetic_is_that_of_64_bits_and_numbers_keep_their_sign() {
        assert_eq!(answer(|p| _ = p.set(R0, -1).exit()), Some(u64::MAX));
        assert_eq!(answer(|p| _ = p.set(R0, -1).shift_right(R0, 60).exit()), Some(15));
        assert_eq!(answer(|p| _ = p.set(R0, 1).set(R1, 2).subtract(R0, R1).exit()), Some(u64::MAX));
        assert_eq!(answer(|p| _ = p.set(R0, 5).invert(R0).mask(R0, 0xff).exit()), Some(0xfa));
        assert_eq!(answer(|p| _ = p.set(R0, 0x1_2345).swap_half(R0).exit()), Some(0x2345_u16.to_be().into()));
    }

    #[test]
    fn arithmetic_of_words_leaves_zeros_above_them() {
        assert_eq!(answer(|p| _ = p.set(R1, -1).copy_word(R0, R1).exit()), Some(u32::MAX.into()));
        assert_eq!(answer(|p| _ = p.set(R0, -1).multiply_word(R0, u32::MAX).exit()), Some(1));
        assert_eq!(answer(|p| _ = p.set(R0, -1).shift_right_word(R0, 28).exit()), Some(15));
        assert_eq!(answer(|p| _ = p.set(R0, -1).mask_word(R0, 0xf000_0000).exit()), Some(0xf000_0000));
        assert_eq!(
            answer(|p| _ = p.set_word(R0, u32::MAX).set(R1, 1).xor_word(R0, R1).exit()),
            Some(0xffff_fffe)
        );
        assert_eq!(answer(|p| _ = p.set(R0, -2).swap_word(R0).exit()), Some((u32::MAX - 1).to_be().into()));
    }

    #[test]
    fn a_jump_by_a_number_looks_at_the_lower_half_and_one_by_a_register_at_all() {
        let taken = |when: When| {
            answer(|p| {
                p.set(R2, -1)
                    .set(R3, 0x7fff_ffff)
                    .set(R0, 1)
                    .jump(when, "there")
                    .set(R0, 0)
                    .label("there")
                    .exit();
            })
        };
        assert_eq!(taken(When::Is(R2, u32::MAX)), Some(1));
        assert_eq!(taken(When::IsNot(R2, u32::MAX)), Some(0));
        assert_eq!(taken(When::Has(R3, 1 << 31)), Some(0));
        assert_eq!(taken(When::Beyond(R2, R3)), Some(1));
        assert_eq!(taken(When::Null(R2)), Some(0));
    }

    #[test]
    fn memory_is_the_stack_and_words_of_the_context() {
        let kept = |p: &mut Assembler| {
            p.set(R2, 0x1234).store(Size::Half, STACK, -2, R2).load(Size::Half, R0, STACK, -2).exit();
        };
        assert_eq!(answer(kept), Some(0x1234));
        assert_eq!(answer(|p| _ = p.load(Size::Word, R0, R1, 4).exit()), Some(77));
    }

    #[test]
    fn what_the_kernel_would_not_load_does_not_run() {
        assert_eq!(answer(|p| _ = p.exit()), None, "nothing is in R0");
        assert_eq!(answer(|p| _ = p.set(R2, 1).call(1).copy(R0, R2).exit()), None, "a call spoils it");
        assert_eq!(answer(|p| _ = p.load(Size::Word, R0, STACK, -6).exit()), None, "not aligned");
        assert_eq!(answer(|p| _ = p.load(Size::Word, R0, STACK, 0).exit()), None, "behind the stack");
        assert_eq!(answer(|p| _ = p.load(Size::Double, R0, R1, 0).exit()), None, "not of the context");
        assert_eq!(answer(|p| _ = p.set(R0, 0)), None, "no end");
    }
}
