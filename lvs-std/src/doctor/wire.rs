//! What other hosts say on the director's links: who answers ARP, and by whom a server's answers go.
//!
//! Both are asked by frames of this program's own (RFC 826, RFC 792), since the kernel would ask in its own name. IPv4
//! alone, on interfaces without VLANs.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Instant;

use lvs_forward::checksum::Sum;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::ip_packet;
use crate::sys::packet::PacketSocket;

/// What is asked on one link.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    /// The interface's number and MAC address.
    pub(super) interface: (u32, [u8; 6]),
    /// An address of the kernel's there, from which a server is asked as from a neighbour.
    pub(super) own: Option<Ipv4Addr>,
    /// Whose MAC addresses are wanted: servers and virtual addresses.
    pub(super) who: Vec<Ipv4Addr>,
    /// Servers whose way back to clients is wanted.
    pub(super) back: Vec<Ipv4Addr>,
    /// Addresses that stand for the way back: the director's own.
    pub(super) gateways: Vec<Ipv4Addr>,
}

/// What was heard on one link.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Who has an address, by its MAC address, as often as somebody said so.
    pub(super) owners: Vec<(Ipv4Addr, [u8; 6])>,
    /// Servers that have answered a neighbour.
    pub(super) near: Vec<Ipv4Addr>,
    /// Servers that have answered a stranger by this machine, or look for it as the way to strangers.
    pub(super) back: Vec<Ipv4Addr>,
}

/// Asks, and listens for a moment.
pub(super) fn hear(questions: &Questions) -> io::Result<Heard> {
    let (index, mac) = questions.interface;
    let socket = PacketSocket::open(index)?;
    socket.bind(true)?;
    let mut heard = Heard::default();
    for address in &questions.who {
        send(&socket, &arp(mac, *address))?;
    }
    // Somebody who should not have an address may always be late.
    listen(&socket, questions, &mut heard, PATIENCE, |_| false)?;
    // By now it is known where to send to.
    for server in &questions.back {
        let Some((_, to)) = heard.owners.iter().find(|(address, _)| address == server).copied() else {
            continue;
        };
        for source in questions.own.iter().chain([&STRANGER]) {
            send(&socket, &echo(mac, to, *source, *server))?;
        }
    }
    if !questions.back.is_empty() {
        let both = |heard: &Heard| {
            let said = |server| heard.near.contains(server) && heard.back.contains(server);
            questions.back.iter().all(said)
        };
        listen(&socket, questions, &mut heard, SECOND_TRY, both)?;
    }
    Ok(heard)
}

fn send(socket: &PacketSocket, frame: &[u8]) -> io::Result<()> {
    rustix::io::write(socket.as_fd(), frame).map(drop).map_err(io::Error::from)
}

/// Takes note of what comes until the time is up, or until nothing more is to be said. What has come by then counts,
/// however late this thread gets to it.
fn listen(
    socket: &PacketSocket,
    of: &Questions,
    heard: &mut Heard,
    patience: Duration,
    is_all: impl Fn(&Heard) -> bool,
) -> io::Result<()> {
    let end = Instant::now() + patience;
    let mut room = [0; 2_048];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&socket.as_fd(), PollFlags::IN)], Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // On a busy link there is always more.
        for _ in 0..MOST_FRAMES {
            match rustix::io::read(socket.as_fd(), &mut room) {
                Ok(length) => note(room.get(..length).unwrap_or_default(), of, heard),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if left.is_zero() || is_all(heard) {
            return Ok(());
        }
    }
}

/// What a frame says. What this machine itself has sent is heard too, and says nothing of others.
fn note(frame: &[u8], of: &Questions, heard: &mut Heard) {
    let Some((link, rest)) = frame.split_first_chunk::<14>() else { return };
    let [_, _, _, _, _, _, a, b, c, d, e, f, kind @ ..] = *link;
    let from = [a, b, c, d, e, f];
    if from == of.interface.1 {
        return;
    }
    match kind {
        [0x08, 0x06] => {
            let Some(([0, 1, 8, 0, 6, 4, 0, operation, body @ ..], _)) = rest.split_first_chunk::<28>()
            else {
                return;
            };
            let [m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, _, _, _, _, _, _, target @ ..] = *body;
            let (mac, sender) = ([m0, m1, m2, m3, m4, m5], Ipv4Addr::new(s0, s1, s2, s3));
            if *operation == REPLY && of.who.contains(&sender) && !heard.owners.contains(&(sender, mac)) {
                heard.owners.push((sender, mac));
            }
            if *operation == REQUEST
                && of.back.contains(&sender)
                && of.gateways.contains(&Ipv4Addr::from(target))
            {
                heard.back.push(sender);
            }
        }
        [0x08, 0x00] => {
            let Some((header, rest)) = rest.split_first_chunk::<20>() else { return };
            let [0x45, _, _, _, _, _, _, _, _, 1, _, _, s0, s1, s2, s3, target @ ..] = *header else {
                return;
            };
            let (source, to) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::from(target));
            if rest.first() != Some(&0) || !of.back.contains(&source) {
                return;
            }
            if to == STRANGER {
                heard.back.push(source);
            } else if Some(to) == of.own {
                heard.near.push(source);
            }
        }
        _ => {}
    }
}

/// "Who has it?", from nobody (RFC 5227 §1.1), so that nobody takes note of the one who asks.
fn arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let ours = mac.as_slice();
    [&[0xff; 6], ours, &[8, 6, 0, 1, 8, 0, 6, 4, 0, REQUEST], ours, &[0; 10], &address.octets()].concat()
}

/// An ICMP echo request (RFC 792).
fn echo(mac: [u8; 6], to: [u8; 6], source: Ipv4Addr, server: Ipv4Addr) -> Vec<u8> {
    let rest = [b'L', b'V', 0, 1];
    let [high, low] = Sum::ZERO.bytes(&[8, 0]).bytes(&rest).checksum().to_be_bytes();
    let icmp = [&[8, 0, high, low], &rest[..]].concat();
    let packet = ip_packet::packet(source.into(), server.into(), ICMP, &icmp).unwrap_or_default();
    [&to, mac.as_slice(), &[8, 0], &packet].concat()
}

/// The IPv4 addresses among some, each once.
pub(super) fn v4(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Ipv4Addr> {
    let mut found: Vec<Ipv4Addr> = Vec::new();
    for address in addresses {
        if let IpAddr::V4(address) = address
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// An address that no host has (RFC 7600), and nobody knows a way to but the default route.
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
const ICMP: u8 = 1;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// How long answers may take.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long it may take until a server looks for its router again, which it does once a second (RFC 4861's
/// `RETRANS_TIMER`, which Linux keeps for ARP too): while no director runs, that is all that is heard of its way.
const SECOND_TRY: Duration = Duration::from_millis(1_300);
/// Frames that are looked at before the time is.
const MOST_FRAMES: usize = 4_096;
