//! Assemblers for programs that the kernel runs: instructions by name, jumps by label, no compiler at run time.

pub(crate) mod cbpf;
pub(crate) mod ebpf;
