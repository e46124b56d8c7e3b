//! An assembler for classic BPF (`linux/filter.h`): instructions by name, jumps forward by label.

use libc::sock_filter;

/// A place to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// How much is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Byte,
    Half,
    Word,
}

/// What is compared with the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Is(u32),
    AtLeast(u32),
    /// The value has one of these bits.
    Has(u32),
}

/// A program in the making. `A` is the accumulator, `X` the index register.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    instructions: Vec<sock_filter>,
    /// Where each label is, once that is known.
    places: Vec<Option<usize>>,
    /// Jumps with the label that they lead to.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label for a place further down.
    pub(crate) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Here is where jumps to `label` land.
    pub(crate) fn place(&mut self, label: Label) -> &mut Self {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = Some(self.instructions.len());
        }
        self
    }

    /// A: what stands at `offset` of the packet, `X` bytes further if `indexed`.
    pub(crate) fn load(&mut self, size: Size, offset: u32, indexed: bool) -> &mut Self {
        let size = match size {
            Size::Byte => libc::BPF_B,
            Size::Half => libc::BPF_H,
            Size::Word => libc::BPF_W,
        };
        let mode = if indexed { libc::BPF_IND } else { libc::BPF_ABS };
        self.push(libc::BPF_LD | size | mode, offset)
    }

    /// A: what the kernel says of the packet (`SKF_AD_*`).
    pub(crate) fn load_said(&mut self, what: i32) -> &mut Self {
        let at = (libc::SKF_AD_OFF + what).cast_unsigned();
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at)
    }

    /// A: a number.
    pub(crate) fn set(&mut self, number: u32) -> &mut Self {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_IMM, number)
    }

    /// X: a number.
    pub(crate) fn set_index(&mut self, number: u32) -> &mut Self {
        self.push(libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM, number)
    }

    /// Keeps A in a cell.
    pub(crate) fn store(&mut self, cell: u32) -> &mut Self {
        self.push(libc::BPF_ST, cell)
    }

    /// X: what was kept.
    pub(crate) fn fetch_index(&mut self, cell: u32) -> &mut Self {
        self.push(libc::BPF_LDX | libc::BPF_W | libc::BPF_MEM, cell)
    }

    /// X: what is in A.
    pub(crate) fn copy_to_index(&mut self) -> &mut Self {
        self.push(libc::BPF_MISC | libc::BPF_TAX, 0)
    }

    pub(crate) fn and(&mut self, number: u32) -> &mut Self {
        self.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, number)
    }

    pub(crate) fn multiply(&mut self, number: u32) -> &mut Self {
        self.push(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, number)
    }

    pub(crate) fn shift_left(&mut self, bits: u32) -> &mut Self {
        self.push(libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K, bits)
    }

    pub(crate) fn shift_right(&mut self, bits: u32) -> &mut Self {
        self.push(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, bits)
    }

    pub(crate) fn add_index(&mut self) -> &mut Self {
        self.push(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0)
    }

    pub(crate) fn xor_index(&mut self) -> &mut Self {
        self.push(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0)
    }

    /// Goes on at a label if this holds. Takes two instructions: the condition alone would not reach far.
    pub(crate) fn jump(&mut self, when: When, label: Label) -> &mut Self {
        let (code, number) = match when {
            When::Is(number) => (libc::BPF_JEQ, number),
            When::AtLeast(number) => (libc::BPF_JGE, number),
            When::Has(bits) => (libc::BPF_JSET, bits),
        };
        let code = (libc::BPF_JMP | code | libc::BPF_K) as u16;
        self.instructions.push(sock_filter { code, jt: 0, jf: 1, k: number });
        self.go(label)
    }

    /// Goes on at a label.
    pub(crate) fn go(&mut self, label: Label) -> &mut Self {
        self.jumps.push((self.instructions.len(), label));
        self.push(libc::BPF_JMP | libc::BPF_JA, 0)
    }

    /// Ends the program with what is in A.
    pub(crate) fn answer(&mut self) -> &mut Self {
        self.push(libc::BPF_RET | libc::BPF_A, 0)
    }

    /// Ends the program with a number.
    pub(crate) fn answer_number(&mut self, number: u32) -> &mut Self {
        self.push(libc::BPF_RET | libc::BPF_K, number)
    }

    /// The program, unless it is longer than the kernel takes, or a jump does not lead forward.
    pub(crate) fn finish(mut self) -> Option<Vec<sock_filter>> {
        for (at, label) in self.jumps {
            let place = (*self.places.get(label.0)?)?;
            let distance = place.checked_sub(at + 1)?;
            self.instructions.get_mut(at)?.k = u32::try_from(distance).ok()?;
        }
        (self.instructions.len() <= LONGEST).then_some(self.instructions)
    }

    fn push(&mut self, code: u32, number: u32) -> &mut Self {
        self.instructions.push(sock_filter { code: code as u16, jt: 0, jf: 0, k: number });
        self
    }
}

/// `BPF_MAXINSNS`.
const LONGEST: usize = 4_096;
