//! What happens to a director.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;

use lvs_std::control::Errno;
use lvs_std::control::api::{HealthRow, Request};
use lvs_std::lab::Disk;
use lvs_std::lab::harness::Outcome;
use rustix::net::{
    AddressFamily, Protocol, RawProtocol, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect,
    sendto, socket_with,
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::books::eventually;
use crate::chance::Chance;
use crate::commands::{Progress, ask};
use crate::director::Director;
use crate::model::{CONNECTIONS, DRAINED_PORT, FIRST, VIP};
use crate::traffic::Net;

/// A trouble, while commands go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// None at all.
    None,
    /// It is killed and started again.
    Kill,
    /// It is stopped and started again.
    Stop,
    /// A second one is started.
    Second,
    /// An interface goes down and up.
    Down,
    /// An interface is removed and made again.
    Gone,
    /// Forged packets, more than the table has places.
    Flood(Forged),
    /// The disk of the state file is full for a while.
    FullDisk,
    /// The process stands still: to it, time jumps.
    Freeze,
    /// Clients crowd at the control sockets and say nothing, or half of it.
    Crowd,
    /// No descriptor is left.
    Descriptors,
}

/// Forged packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forged {
    Syn,
    Ack,
    /// SYN and ACK of the same tuple.
    Pair,
    Datagram,
    Echo,
    /// Any protocol, any bytes, any fragment.
    Garbage,
}

impl Trouble {
    pub(crate) const ALL: [Self; 16] = [
        Self::None,
        Self::Kill,
        Self::Stop,
        Self::Second,
        Self::Down,
        Self::Gone,
        Self::Flood(Forged::Syn),
        Self::Flood(Forged::Ack),
        Self::Flood(Forged::Pair),
        Self::Flood(Forged::Datagram),
        Self::Flood(Forged::Echo),
        Self::Flood(Forged::Garbage),
        Self::FullDisk,
        Self::Freeze,
        Self::Crowd,
        Self::Descriptors,
    ];

    /// Whether the director ends by it, and its connections with it.
    pub(crate) fn ends_the_director(self) -> bool {
        matches!(self, Self::Kill | Self::Stop)
    }

    /// Whether commands may be refused for want of something.
    pub(crate) fn takes_away(self) -> bool {
        matches!(self, Self::FullDisk | Self::Descriptors)
    }

    /// Whether a command may be refused with this.
    pub(crate) fn hinders(self, errno: Errno) -> bool {
        let missing = self.takes_away() && matches!(errno, Errno::NoSpace | Errno::Io);
        // The workers of a director that is stopped end first.
        missing || (self.ends_the_director() && errno == Errno::Ending)
    }

    /// Whether a client's connection may end with this. Nobody may wait in vain.
    pub(crate) fn breaks(self, error: &io::Error) -> bool {
        let late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        !late && (self.ends_the_director() || matches!(self, Self::Crowd | Self::Descriptors))
    }

    /// Makes it happen, and undoes it.
    pub(crate) fn strike(
        self,
        net: &Net,
        director: &mut Director,
        disk: &Disk,
        progress: &Progress,
        chance: &mut Chance,
    ) -> Outcome {
        progress.wait_for(chance.below(10));
        match self {
            Self::None => {}
            Self::Kill => {
                director.kill()?;
                director.start_again()?;
            }
            Self::Stop => {
                director.stop()?;
                director.start_again()?;
            }
            Self::Second => second(director, chance)?,
            Self::Down => {
                let interface = chance.one_of(&INTERFACES);
                net.cluster.director.set_down(interface)?;
                is_said(director, interface)?;
                progress.wait_for(5);
                net.cluster.director.set_up(interface)?;
            }
            Self::Gone => {
                let interface = chance.one_of(&INTERFACES);
                net.cluster.director.remove_interface(interface)?;
                is_said(director, interface)?;
                progress.wait_for(5);
                net.join(interface)?;
            }
            Self::Flood(forged) => flood(net, forged, chance)?,
            Self::FullDisk => {
                disk.fill()?;
                progress.wait_for(20);
                disk.empty()?;
                progress.wait_for(5);
            }
            Self::Freeze => {
                director.signal(Signal::STOP)?;
                thread::sleep(Duration::from_millis(100 + chance.below(1_500) as u64));
                director.signal(Signal::CONT)?;
            }
            Self::Crowd => {
                let crowd = crowd(director);
                progress.wait_for(20);
                drop(crowd);
            }
            Self::Descriptors => {
                let before = getrlimit(Resource::Nofile);
                let open = fs::read_dir(format!("/proc/{}/fd", director.pid().as_raw_pid()))?;
                let highest = open.filter_map(|fd| fd.ok()?.file_name().to_str()?.parse::<u64>().ok()).max();
                let limit = Rlimit { current: highest.map(|fd| fd + 1), maximum: before.maximum };
                prlimit(Some(director.pid()), Resource::Nofile, limit)?;
                progress.wait_for(20);
                prlimit(Some(director.pid()), Resource::Nofile, before)?;
            }
        }
        progress.wait_for(chance.below(5));
        Ok(())
    }
}

/// A start by mistake is refused, whatever it shares.
fn second(director: &Director, chance: &mut Chance) -> Outcome {
    let socket = director.place().socket.display().to_string();
    let (other, state) = (format!("{socket}.other"), director.state());
    let shared: [&[&str]; 4] = [
        &["--control", &socket, "--state", &state],
        &["--control", &socket, "--no-state"],
        &["--control", &other, "--state", &state],
        &["--no-control"],
    ];
    let arguments = chance.one_of(&shared);
    let output = director.second(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    for end in [".lock", ".json.lock"] {
        drop(fs::remove_file(format!("{other}{end}")));
    }
    if output.status.code() != Some(1) || !said.contains("is in use by another director") {
        return Err(format!("a second start with {arguments:?} ends with {}: {said}", output.status).into());
    }
    Ok(())
}

/// The director says that it cannot use an interface.
fn is_said(director: &Director, interface: &str) -> Outcome {
    let part = format!("interface {interface}");
    eventually("the director says that an interface is gone", || {
        let health: HealthRow = serde_json::from_value(ask(&director.place(), &Request::Health)?)?;
        match health.problems.iter().any(|problem| problem.part == part) {
            true => Ok(()),
            false => Err(format!("{:?}", health.problems).into()),
        }
    })
}

/// Clients at both sockets who keep their places.
fn crowd(director: &Director) -> impl Sized {
    let place = director.place();
    let silent = || -> io::Result<_> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(&place.socket)?)?;
        Ok(socket)
    };
    let half = || -> io::Result<_> {
        let mut stream = UnixStream::connect(&place.json)?;
        stream.write_all(b"{\"plan\":\"")?;
        Ok(stream)
    };
    // Who is thrown out, or finds no room in the queue, has lost.
    let silent: Vec<_> = (0..CROWD).filter_map(|_| silent().ok()).collect();
    let half: Vec<_> = (0..CROWD).filter_map(|_| half().ok()).collect();
    (silent, half)
}

/// Twice as many forged packets as the table has places, from sources on the link and beyond.
fn flood(net: &Net, forged: Forged, chance: &mut Chance) -> Outcome {
    let flags = SocketFlags::CLOEXEC;
    let raw = || socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(Protocol::from_raw(RAW)));
    let raw = net.cluster.client.run(raw)??;
    let to = SocketAddr::new(VIP.into(), 0);
    let mut last = Vec::new();
    for number in 0..2 * CONNECTIONS {
        let again = forged == Forged::Pair && number % 2 == 1;
        if again {
            // The ACK to the SYN before.
            flags_of(&mut last, ACK);
        } else {
            last = packet(forged, chance);
        }
        match sendto(&raw, &last, SendFlags::NOSIGNAL, &to) {
            // A full queue, or what this kernel does not let pass.
            Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(format!("a forged packet cannot be sent: {error}").into()),
        }
    }
    Ok(())
}

fn packet(forged: Forged, chance: &mut Chance) -> Vec<u8> {
    let random = chance.next().to_be_bytes();
    let source = match random[0] % 2 {
        // On the clients' link, where nobody answers; 7 is the client and 254 the director.
        0 => Ipv4Addr::new(192, 0, 2, 101 + random[1] % 150),
        _ => Ipv4Addr::new(198, 51, random[1], random[2]),
    };
    let port = |chance: &mut Chance| {
        let by_command = FIRST + chance.below(4) as u16;
        chance.one_of(&[80, DRAINED_PORT, by_command])
    };
    let (protocol, mut payload) = match forged {
        Forged::Syn | Forged::Ack | Forged::Pair => (6, segment(80, chance)),
        Forged::Datagram => {
            let to = port(chance).to_be_bytes();
            (17, [&random[4..6], &to, &[0, 12, 0, 0], b"abcd"].concat())
        }
        Forged::Echo => (1, [&[8, 0, 0, 0], &random[4..8]].concat()),
        Forged::Garbage => {
            let length = chance.below(60);
            (
                chance.one_of(&[0, 1, 2, 4, 6, 17, 47, 50, 132, 255]),
                (0..length).map(|_| chance.next() as u8).collect(),
            )
        }
    };
    if forged == Forged::Echo {
        let sum = checksum(&payload);
        payload[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let fragment = if forged == Forged::Garbage { (chance.next() as u16) & 0x3fff } else { 0 };
    let length = (20 + payload.len()) as u16;
    // The kernel fills in the header's checksum.
    let mut packet = [&[0x45, 0][..], &length.to_be_bytes(), &random[6..8], &fragment.to_be_bytes()].concat();
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(VIP.octets());
    packet.extend(payload);
    flags_of(&mut packet, if forged == Forged::Ack { ACK } else { SYN });
    packet
}

fn segment(port: u16, chance: &mut Chance) -> Vec<u8> {
    let random = chance.next().to_be_bytes();
    let mut segment = [&random[..2], &port.to_be_bytes(), &random[2..6], &[0; 4]].concat();
    segment.extend([0x50, 0, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

/// Sets the flags of a whole TCP segment, and its checksum.
fn flags_of(packet: &mut [u8], flags: u8) {
    if packet.len() != 40 || packet[9] != 6 {
        return;
    }
    packet[33] = flags;
    packet[36..38].fill(0);
    let summed = [&packet[12..20], &[0, 6, 0, 20], &packet[20..]].concat();
    let sum = checksum(&summed);
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    let sum: u64 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// `IPPROTO_RAW`: the header comes with the packet (`raw(7)`).
const RAW: RawProtocol = RawProtocol::new(255).unwrap();
const SYN: u8 = 2;
const ACK: u8 = 16;
const INTERFACES: [&str; 2] = ["eth0", "eth1"];
/// Clients at each socket, many more than there are places.
const CROWD: usize = 150;
