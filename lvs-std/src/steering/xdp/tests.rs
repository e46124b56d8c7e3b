//! The part in a machine that runs it as the kernel would, beside the classic program and the function.

use core::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::bpf::ebpf::R0;
use crate::bpf::ebpf_machine::{Kernel, MAPS, Stack, VALUES, number, run};
use crate::bpf::xdp::{DATA, LOOK_UP};
use crate::steering::dispatch::is_steered;
use crate::steering::samples::{frame, steers};
use crate::steering::simulation::Simulation;

const V4: i32 = 4;
const V6: i32 = 6;
const DIRECTOR: u8 = 1;
const OTHER: u8 = 2;
const FRAME: u64 = 0x1000;

/// A frame that comes to a director with these addresses, whose kernel knows others too.
struct Coming<'a> {
    frame: &'a [u8],
    own: &'a [IpAddr],
    others: &'a [IpAddr],
}

impl Kernel for Coming<'_> {
    fn context(&self, offset: u64) -> Option<u32> {
        match i16::try_from(offset).ok()? {
            DATA => Some(FRAME as u32),
            DATA_END => Some(FRAME as u32 + self.frame.len() as u32),
            _ => None,
        }
    }

    fn load(&self, address: u64, size: usize) -> Option<u64> {
        if let Some(class) = address.checked_sub(VALUES) {
            return (size == 1).then_some(class);
        }
        let start = usize::try_from(address.checked_sub(FRAME)?).ok()?;
        self.frame.get(start..start + size).map(number)
    }

    fn call(&mut self, function: i32, [map, key, ..]: [u64; 5], stack: &mut Stack) -> Option<u64> {
        let address = match i32::try_from(map.checked_sub(MAPS)?).ok()? {
            V4 => IpAddr::from(*stack.bytes(key, 4)?.first_chunk::<4>()?),
            V6 => IpAddr::from(*stack.bytes(key, 16)?.first_chunk::<16>()?),
            _ => return None,
        };
        let class = if self.own.contains(&address) {
            DIRECTOR | OTHER
        } else if self.others.contains(&address) {
            OTHER
        } else {
            return (function == LOOK_UP).then_some(0);
        };
        (function == LOOK_UP).then_some(VALUES + u64::from(class))
    }
}

/// The worker that the part finds; an error is something that the kernel would not have loaded.
fn owner(steer: &Steer, own: &[IpAddr], others: &[IpAddr], frame: &[u8]) -> usize {
    let mut program = Assembler::default();
    program.copy(R6, R1);
    write(&mut program, steer, Own { v4: V4, v6: V6, bit: DIRECTOR });
    program.copy(R0, R7).exit();
    let program = program.finish().expect("all jumps lead somewhere");
    run(&program, &mut Coming { frame, own, others }).expect("it does what a program may") as usize
}

fn own() -> Vec<IpAddr> {
    vec![[192, 0, 2, 100].into(), [10, 0, 1, 254].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100].into()]
}

fn others() -> Vec<IpAddr> {
    vec![[10, 0, 1, 11].into(), [198, 51, 100, 7].into(), [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x11].into()]
}

/// What the classic program says, to which dispatching is fitted.
fn holds(steer: &Steer, frame: &[u8]) -> usize {
    let (own, others) = (own(), others());
    let found = owner(steer, &own, &others, frame);
    let classic = Simulation::new(steer, &own).unwrap();
    if is_steered(frame, steer.by()) {
        assert_eq!(Some(found), classic.worker(frame), "{steer:?} {frame:02x?}");
    } else {
        assert_eq!(found, 0, "the first worker hands it on: {frame:02x?}");
    }
    found
}

#[test]
fn requests_and_replies_of_a_client_meet_at_the_worker_that_the_function_names() {
    let clients: [IpAddr; 2] = [[198, 51, 100, 7].into(), [0x2001, 0xdb8, 7, 0, 0, 0, 0, 7].into()];
    for steer in steers() {
        let mut seen = std::collections::BTreeSet::new();
        for (client, virt, server) in
            [(clients[0], own()[0], others()[0]), (clients[1], own()[2], others()[2])]
        {
            for port in 1_024..1_224 {
                for tcp in [true, false] {
                    let wanted = steer.owner_of(client, port);
                    assert_eq!(holds(&steer, &frame(client, virt, (port, 80), tcp, 0)), wanted);
                    assert_eq!(holds(&steer, &frame(server, client, (8_080, port), tcp, 0)), wanted);
                    seen.insert(wanted);
                }
            }
        }
        assert!(steer.by() != By::Endpoint || seen.len() == steer.workers(), "{seen:?}");
    }
}

#[test]
fn tags_options_fragments_and_ipsec_go_where_the_classic_program_sends_them() {
    for steer in steers() {
        let plain = frame(others()[1], own()[0], (4_711, 80), true, 0);
        let plain6 = frame([0x2001, 0xdb8, 7, 0, 0, 0, 0, 7].into(), own()[2], (4_711, 80), true, 0);
        let wanted = holds(&steer, &plain);
        for tags in [1, 2] {
            for plain in [&plain, &plain6] {
                let tagged = [&plain[..12], &[0x81, 0, 0, 5].repeat(tags), &plain[12..]].concat();
                assert_eq!(holds(&steer, &tagged), holds(&steer, plain));
            }
        }
        let with_options = [&plain[..14], &[0x47], &plain[15..34], &[1; 8], &plain[34..]].concat();
        assert_eq!(holds(&steer, &with_options), wanted);
        for protocol in [0, 1, 6, 17, 44, 50, 51, 58, 132] {
            let (mut v4, mut v6) = (plain.clone(), plain6.clone());
            (v4[23], v6[20]) = (protocol, protocol);
            holds(&steer, &v4);
            holds(&steer, &v6);
        }
        for flags in [[0x20, 0], [0x20, 7], [0, 9], [0x40, 0]] {
            let mut bytes = plain.clone();
            bytes[20..22].copy_from_slice(&flags);
            holds(&steer, &bytes);
        }
        for header in [[6, 0, 0xc2, 4, 0, 2, 0, 0], [6, 1, 0xc2, 4, 0, 2, 0, 0], [58, 0, 5, 2, 0, 0, 1, 0]] {
            holds(&steer, &[&plain6[..20], &[0], &plain6[21..54], &header, &plain6[54..]].concat());
        }
        assert_eq!(owner(&steer, &own(), &others(), &[0xff; 60]), 0);
    }
}

proptest! {
    /// Nothing that comes makes it read outside of the frame, or name a worker that is not there.
    #[test]
    fn any_bytes_have_a_worker(
        kind in prop::sample::select(vec![[8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8], [8, 6]]),
        mut bytes in prop::collection::vec(any::<u8>(), 0..120),
        way in 0_usize..9,
    ) {
        if let Some(place) = bytes.get_mut(12..14) {
            place.copy_from_slice(&kind);
        }
        let steer = steers().nth(way).unwrap();
        prop_assert!(owner(&steer, &own(), &others(), &bytes) < steer.workers());
    }
}
