//! Runs programs of [`cbpf`](super::cbpf) as the kernel does, for tests.

use libc::sock_filter;

/// What a program answers to a packet, which begins at its network header and on whose Ethernet type the kernel says.
/// `None` for an instruction that no program here has, and for a jump out of the program.
pub(crate) fn run(program: &[sock_filter], packet: &[u8], ether_type: u16) -> Option<u32> {
    let (mut a, mut x, mut cells, mut at) = (0_u32, 0_u32, [0_u32; 16], 0_usize);
    loop {
        let sock_filter { code, jt, jf, k } = *program.get(at)?;
        let code = u32::from(code);
        at += 1;
        let operand = if code & libc::BPF_X == 0 { k } else { x };
        match code & 7 {
            libc::BPF_LD => {
                a = match code & 0xe0 {
                    libc::BPF_IMM => k,
                    libc::BPF_MEM => *cells.get(k as usize)?,
                    _ if k == (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL).cast_unsigned() => ether_type.into(),
                    mode => {
                        let from = k as usize + if mode == libc::BPF_IND { x as usize } else { 0 };
                        let size = *[4, 2, 1].get((code as usize & 0x18) >> 3)?;
                        // Loading past the end ends a program with 0.
                        let Some(bytes) = packet.get(from..from + size) else { return Some(0) };
                        bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
                    }
                }
            }
            libc::BPF_LDX => x = if code & 0xe0 == libc::BPF_IMM { k } else { *cells.get(k as usize)? },
            libc::BPF_ST => *cells.get_mut(k as usize)? = a,
            libc::BPF_MISC => x = a,
            libc::BPF_RET => return Some(if code & 0x18 == libc::BPF_A { a } else { k }),
            libc::BPF_ALU => {
                a = match code & 0xf0 {
                    libc::BPF_ADD => a.wrapping_add(operand),
                    libc::BPF_MUL => a.wrapping_mul(operand),
                    libc::BPF_AND => a & operand,
                    libc::BPF_LSH => a.checked_shl(operand)?,
                    libc::BPF_RSH => a.checked_shr(operand)?,
                    libc::BPF_XOR => a ^ operand,
                    _ => return None,
                }
            }
            libc::BPF_JMP => {
                let holds = match code & 0xf0 {
                    libc::BPF_JA => {
                        at += k as usize;
                        continue;
                    }
                    libc::BPF_JEQ => a == operand,
                    libc::BPF_JGE => a >= operand,
                    libc::BPF_JSET => a & operand != 0,
                    _ => return None,
                };
                at += usize::from(if holds { jt } else { jf });
            }
            _ => return None,
        }
    }
}
