//! Which system calls are led, as one table: the filter's program is made from it, and what arrives is found in it.

use libc::{c_long, sock_filter};

use crate::bpf::cbpf::{Assembler, Size, When};

/// What a call that arrives is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Socket,
    Bind,
    Connect,
    OwnName,
    PeerName,
    GetOption,
    SetOption,
    ReceiveFrom,
    ReceiveMessage,
    ReceiveMessages,
    /// Writes a few bytes, the value of a switch perhaps.
    Write,
    WriteVector,
    /// Names a file: the argument with the folder's descriptor, if there is one, and the one with the path.
    File(Option<usize>, usize, Does),
    List,
    /// Executes a program: the argument with the path.
    Execute(usize),
    /// Would make system calls that no filter sees.
    Ring,
}

/// What is done with a file: with the arguments that say how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Open {
        flags: usize,
    },
    Open2 {
        how: usize,
    },
    #[cfg(target_arch = "x86_64")]
    Create,
    Status {
        to: usize,
    },
    ExtendedStatus {
        mask: usize,
        to: usize,
    },
    Access {
        mode: usize,
    },
    ReadLink,
    GetAttribute,
    ListAttributes,
}

/// The processor whose calls these numbers are (`linux/audit.h`); `None` if this program knows no numbers for it.
pub(super) const PROCESSOR: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

#[cfg(target_arch = "x86_64")]
const OF_PROCESSOR: &[(c_long, Kind)] = &[
    (libc::SYS_open, Kind::File(None, 0, Does::Open { flags: 1 })),
    (libc::SYS_creat, Kind::File(None, 0, Does::Create)),
    (libc::SYS_stat, Kind::File(None, 0, Does::Status { to: 1 })),
    (libc::SYS_lstat, Kind::File(None, 0, Does::Status { to: 1 })),
    (libc::SYS_access, Kind::File(None, 0, Does::Access { mode: 1 })),
    (libc::SYS_readlink, Kind::File(None, 0, Does::ReadLink)),
];
#[cfg(not(target_arch = "x86_64"))]
const OF_PROCESSOR: &[(c_long, Kind)] = &[];

const CALLS: &[(c_long, Kind)] = &[
    (libc::SYS_socket, Kind::Socket),
    (libc::SYS_bind, Kind::Bind),
    (libc::SYS_connect, Kind::Connect),
    (libc::SYS_getsockname, Kind::OwnName),
    (libc::SYS_getpeername, Kind::PeerName),
    (libc::SYS_getsockopt, Kind::GetOption),
    (libc::SYS_setsockopt, Kind::SetOption),
    (libc::SYS_recvfrom, Kind::ReceiveFrom),
    (libc::SYS_recvmsg, Kind::ReceiveMessage),
    (libc::SYS_recvmmsg, Kind::ReceiveMessages),
    (libc::SYS_write, Kind::Write),
    (libc::SYS_pwrite64, Kind::Write),
    (libc::SYS_writev, Kind::WriteVector),
    (libc::SYS_openat, Kind::File(Some(0), 1, Does::Open { flags: 2 })),
    (libc::SYS_openat2, Kind::File(Some(0), 1, Does::Open2 { how: 2 })),
    (libc::SYS_newfstatat, Kind::File(Some(0), 1, Does::Status { to: 2 })),
    (libc::SYS_statx, Kind::File(Some(0), 1, Does::ExtendedStatus { mask: 3, to: 4 })),
    (libc::SYS_faccessat, Kind::File(Some(0), 1, Does::Access { mode: 2 })),
    (libc::SYS_faccessat2, Kind::File(Some(0), 1, Does::Access { mode: 2 })),
    (libc::SYS_readlinkat, Kind::File(Some(0), 1, Does::ReadLink)),
    (libc::SYS_getxattr, Kind::File(None, 0, Does::GetAttribute)),
    (libc::SYS_lgetxattr, Kind::File(None, 0, Does::GetAttribute)),
    (libc::SYS_listxattr, Kind::File(None, 0, Does::ListAttributes)),
    (libc::SYS_llistxattr, Kind::File(None, 0, Does::ListAttributes)),
    (libc::SYS_getdents64, Kind::List),
    (libc::SYS_execve, Kind::Execute(0)),
    (libc::SYS_execveat, Kind::Execute(1)),
    (libc::SYS_io_uring_setup, Kind::Ring),
];

/// What the call with this number is.
pub(super) fn kind(number: c_long) -> Option<Kind> {
    OF_PROCESSOR.iter().chain(CALLS).find_map(|&(of, kind)| (of == number).then_some(kind))
}

/// The filter's program. It sees numbers alone, never what a pointer leads to: what it cannot tell apart arrives, and
/// is passed on.
pub(super) fn program(processor: u32) -> Option<Vec<sock_filter>> {
    let mut code = Assembler::default();
    let [allow, arrives, no_option, no_call] = [(); 4].map(|()| code.label());
    code.load(Size::Word, PROCESSOR_AT, false);
    let known = code.label();
    code.jump(When::Is(processor), known).go(allow).place(known);
    code.load(Size::Word, NUMBER_AT, false);
    let calls = OF_PROCESSOR.iter().chain(CALLS);
    let labels: Vec<_> = calls.map(|&(number, kind)| (number, kind, code.label())).collect();
    for &(number, _, label) in &labels {
        code.jump(When::Is(u32::try_from(number).ok()?), label);
    }
    code.go(allow);
    for (_, kind, label) in labels {
        code.place(label);
        match kind {
            Kind::Socket => {
                let netlink = code.label();
                code.load(Size::Word, low(0), false).jump(When::Is(NETLINK), netlink).go(allow);
                code.place(netlink)
                    .load(Size::Word, low(2), false)
                    .jump(When::Is(GENERIC), arrives)
                    .go(allow);
            }
            Kind::Connect => {
                code.load(Size::Word, low(2), false).jump(When::Is(ADDRESS), arrives).go(allow);
            }
            Kind::GetOption | Kind::SetOption => {
                let (old, own) = (code.label(), code.label());
                code.load(Size::Word, low(1), false);
                code.jump(When::Is(NETLINK_OPTIONS), arrives).jump(When::Is(IP_OPTIONS), old);
                if kind == Kind::GetOption {
                    code.jump(When::Is(SOCKET_OPTIONS), own);
                }
                // By these programs configured IPVS before there was netlink.
                code.go(allow).place(old).load(Size::Word, low(2), false);
                code.jump(When::AtLeast(OLD.end), allow).jump(When::AtLeast(OLD.start), no_option).go(allow);
                code.place(own).load(Size::Word, low(2), false);
                for option in KINDS {
                    code.jump(When::Is(option), arrives);
                }
                code.go(allow);
            }
            Kind::ReceiveFrom => {
                // Who does not ask for the sender may be served by the kernel.
                code.load(Size::Word, low(4), false).jump(When::AtLeast(1), arrives);
                code.load(Size::Word, high(4), false).jump(When::AtLeast(1), arrives).go(allow);
            }
            Kind::Write | Kind::WriteVector => {
                let most = if kind == Kind::Write { LONGEST_VALUE } else { PIECES };
                code.load(Size::Word, high(2), false).jump(When::AtLeast(1), allow);
                code.load(Size::Word, low(2), false).jump(When::AtLeast(most + 1), allow).go(arrives);
            }
            Kind::Ring => {
                code.go(no_call);
            }
            Kind::Bind
            | Kind::OwnName
            | Kind::PeerName
            | Kind::ReceiveMessage
            | Kind::ReceiveMessages
            | Kind::File(..)
            | Kind::List
            | Kind::Execute(_) => {
                code.go(arrives);
            }
        }
    }
    code.place(arrives).answer_number(libc::SECCOMP_RET_USER_NOTIF);
    code.place(no_option).answer_number(libc::SECCOMP_RET_ERRNO | libc::ENOPROTOOPT.cast_unsigned());
    code.place(no_call).answer_number(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    code.place(allow).answer_number(libc::SECCOMP_RET_ALLOW);
    code.finish()
}

/// Where a `struct seccomp_data` has number, processor and arguments, which are 64 bits wide.
const NUMBER_AT: u32 = 0;
const PROCESSOR_AT: u32 = 4;

const fn low(argument: u32) -> u32 {
    16 + 8 * argument
}

const fn high(argument: u32) -> u32 {
    low(argument) + 4
}

/// `AF_NETLINK`, `NETLINK_GENERIC`, and the length of a `struct sockaddr_nl`.
const NETLINK: u32 = 16;
const GENERIC: u32 = 16;
const ADDRESS: u32 = 12;
/// Levels of options.
const IP_OPTIONS: u32 = 0;
const SOCKET_OPTIONS: u32 = 1;
const NETLINK_OPTIONS: u32 = 270;
/// `SO_TYPE`, `SO_PEERCRED`, `SO_PROTOCOL`, `SO_DOMAIN`: what tells one kind of socket from another.
const KINDS: [u32; 4] = [3, 17, 38, 39];
/// The options of the old interface, from `IP_VS_BASE_CTL` on.
const OLD: core::ops::Range<u32> = 1_152..1_168;
/// The value of a switch is shorter. A switch's file takes no longer text from the kernel either.
pub(super) const LONGEST_VALUE: u32 = 24;
/// Into how many pieces the C libraries divide what a program writes to a file, at most.
const PIECES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel does, whose words are in host order.
    fn run(program: &[sock_filter], number: c_long, arguments: [u64; 6]) -> u32 {
        let mut words = vec![number as u32, PROCESSOR.unwrap(), 0, 0];
        words.extend(arguments.iter().flat_map(|value| [*value as u32, (*value >> 32) as u32]));
        let data: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        crate::bpf::cbpf_machine::run(program, &data, 0).expect("it ends")
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const ARRIVES: u32 = libc::SECCOMP_RET_USER_NOTIF;

    #[test]
    fn only_what_may_be_for_a_director_arrives() {
        let program = program(PROCESSOR.unwrap()).unwrap();
        let run = |number, arguments| run(&program, number, arguments);
        assert_eq!(run(libc::SYS_socket, [16, 3, 16, 0, 0, 0]), ARRIVES);
        assert_eq!(run(libc::SYS_socket, [16, 0x80003, 16, 0, 0, 0]), ARRIVES, "flags are the kind's");
        assert_eq!(run(libc::SYS_socket, [16, 3, 0, 0, 0, 0]), ALLOW, "rtnetlink");
        assert_eq!(run(libc::SYS_socket, [2, 1, 16, 0, 0, 0]), ALLOW);
        assert_eq!(run(libc::SYS_read, [3, 1, 16, 0, 0, 0]), ALLOW);
        assert_eq!(run(libc::SYS_sendmsg, [3, 1, 16, 0, 0, 0]), ALLOW);
        assert_eq!(run(libc::SYS_recvfrom, [3, 1, 9_000, 0, 0, 0]), ALLOW, "recv");
        assert_eq!(run(libc::SYS_recvfrom, [3, 1, 9_000, 0, 0x7f << 32, 0]), ARRIVES);
        assert_eq!(run(libc::SYS_recvfrom, [3, 1, 9_000, 0, 1, 0]), ARRIVES);
        assert_eq!(run(libc::SYS_connect, [3, 1, 16, 0, 0, 0]), ALLOW, "IPv4");
        assert_eq!(run(libc::SYS_connect, [3, 1, 12, 0, 0, 0]), ARRIVES);
    }

    #[test]
    fn short_writes_arrive_and_long_ones_do_not() {
        let program = program(PROCESSOR.unwrap()).unwrap();
        for (length, expected) in
            [(1, ARRIVES), (24, ARRIVES), (25, ALLOW), (1 << 32, ALLOW), (u64::MAX, ALLOW)]
        {
            assert_eq!(run(&program, libc::SYS_write, [1, 0, length, 0, 0, 0]), expected, "{length}");
        }
    }

    #[test]
    fn the_old_interface_and_rings_are_not_there() {
        let program = program(PROCESSOR.unwrap()).unwrap();
        let refused = |errno: i32| libc::SECCOMP_RET_ERRNO | errno as u32;
        for call in [libc::SYS_getsockopt, libc::SYS_setsockopt] {
            for (option, expected) in
                [(1_151, ALLOW), (1_152, refused(92)), (1_167, refused(92)), (1_168, ALLOW)]
            {
                assert_eq!(run(&program, call, [3, 0, option, 0, 0, 0]), expected, "{option}");
            }
            assert_eq!(run(&program, call, [3, 270, 10, 0, 0, 0]), ARRIVES);
        }
        assert_eq!(run(&program, libc::SYS_getsockopt, [3, 1, 39, 0, 0, 0]), ARRIVES);
        assert_eq!(run(&program, libc::SYS_getsockopt, [3, 1, 4, 0, 0, 0]), ALLOW, "SO_ERROR");
        assert_eq!(run(&program, libc::SYS_io_uring_setup, [8, 0, 0, 0, 0, 0]), refused(38));
    }

    #[test]
    fn each_call_is_found_by_its_number() {
        assert_eq!(kind(libc::SYS_bind), Some(Kind::Bind));
        assert_eq!(kind(libc::SYS_execveat), Some(Kind::Execute(1)));
        assert_eq!(kind(libc::SYS_read), None);
    }

    #[test]
    fn calls_of_another_processor_pass() {
        let program = program(1).unwrap();
        assert_eq!(run(&program, libc::SYS_socket, [16, 3, 16, 0, 0, 0]), ALLOW);
    }
}
