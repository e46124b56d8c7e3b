//! Somebody else's program on an interface.

use std::io;

use crate::bpf::ebpf::{Assembler, R0};
use crate::sys::bpf::{Attachment, Program, Purpose};
use crate::sys::interface::Interface;

/// A program at the beginning of what an interface does with a frame, behind packet sockets, that lets nothing come to
/// later programs: such as a container network's. It is gone when this is dropped.
#[derive(Debug)]
pub struct Obstacle {
    _attached: Attachment,
}

impl Obstacle {
    /// Puts it before all that are there now. To be called in the namespace of the interface, by
    /// [`Node::run`](super::Node::run).
    ///
    /// # Errors
    /// When there is no such interface, or the kernel lets this process load no program, or is older than Linux 6.6.
    pub fn put(interface: &str) -> io::Result<Self> {
        let mut program = Assembler::default();
        program.set(R0, PASS).exit();
        let program = program.finish().ok_or(io::ErrorKind::InvalidData)?;
        let program = Program::load(Purpose::Ingress, &program)?;
        Ok(Self { _attached: Attachment::ingress(&program, Interface::named(interface)?.index)? })
    }
}

/// `TCX_PASS`: to the kernel's own stack, at once.
const PASS: i32 = 0;
