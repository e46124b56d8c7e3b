//! Assemblers for programs that the kernel runs: instructions by name, jumps by label, no compiler at run time. For
//! tests there are machines that run these programs without the kernel.

pub(crate) mod cbpf;
#[cfg(any(test, feature = "lab"))]
pub(crate) mod cbpf_machine;
pub(crate) mod ebpf;
#[cfg(any(test, feature = "lab"))]
pub(crate) mod ebpf_machine;
pub(crate) mod xdp;
