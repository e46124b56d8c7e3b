//! A TCP connection to the virtual address on one real server.

mod segment;

use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use lvs_core::Tunnel;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{Attempt, Checker, Expiry, PASSED, Progress};
use crate::health::{Doing, Failure};
use crate::sys::packet::Sender;
use crate::sys::rtnetlink::Netlink;
use segment::{ACK, RST, SYN, Segment};

/// A real server of DR or TUN is up when a client that is sent to it would be served: it has the virtual address,
/// unwraps the tunnel, and accepts a connection there.
///
/// The probe is a connection request (SYN) to the virtual address, from this machine's own address, given to the target
/// as the director would: to its MAC address, or in a tunnel. The server answers directly; the connection is then
/// reset. For DR, the target is the server's address, which must be on a network of this machine; for TUN it is the
/// tunnel's end.
///
/// The probe needs the capability `CAP_NET_RAW`. This machine's kernel must not have the virtual address itself, or let
/// it in as a source (`net.ipv4.conf.IF.accept_local`), and must not mind answers from it on the interface where they
/// come: `rp_filter` must be 0, or 2 with a route to it, or 1 with a route by that interface.
#[derive(Clone)]
pub struct Through {
    service: SocketAddr,
    way: ThroughMethod,
    /// Opened by the first attempt, and kept: closing one takes the kernel a while.
    sender: Arc<Mutex<Option<Sender>>>,
}

/// How a packet for the virtual address gets to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the methods that do not change packets")]
pub enum ThroughMethod {
    /// To its MAC address.
    Direct,
    /// In a tunnel. Checksums of GRE and GUE are left out: receivers take both.
    Tunnel(Tunnel),
}

impl Through {
    /// A probe of the service at this virtual address and port.
    #[must_use]
    pub fn new(service: SocketAddr, way: ThroughMethod) -> Self {
        Self { service, way, sender: Arc::default() }
    }

    /// The address to which the server answers.
    fn own_address(&self, server: IpAddr) -> Result<IpAddr, Failure> {
        let service = self.service.ip();
        if let ThroughMethod::Tunnel(_) = self.way
            && server.is_ipv4() != service.is_ipv4()
        {
            return own_address(service);
        }
        own_address(server)
    }

    /// The virtual address and port.
    #[must_use]
    pub const fn service(&self) -> SocketAddr {
        self.service
    }
}

impl PartialEq for Through {
    fn eq(&self, other: &Self) -> bool {
        (self.service, self.way) == (other.service, other.way)
    }
}

impl Eq for Through {}

impl Hash for Through {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.service, self.way).hash(state);
    }
}

impl fmt::Debug for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Through")
            .field("service", &self.service)
            .field("way", &self.way)
            .finish_non_exhaustive()
    }
}

impl Checker for Through {
    fn begin(&self, target: SocketAddr) -> Result<Box<dyn Attempt>, Failure> {
        let server = target.ip();
        let own = self.own_address(server)?;
        let reserved = reserve(own)?;
        let from = net::getsockname(&reserved).and_then(SocketAddr::try_from);
        let from = from.map_err(|errno| hindered("take a port", errno))?;
        let socket = receiving_socket(self.service, own)?;
        // Drawn by chance, so that no late answer to an earlier probe from this port fits.
        let mut sequence = [0; 4];
        getrandom(&mut sequence, GetRandomFlags::empty())
            .map_err(|errno| hindered("draw a number", errno))?;
        let mut asking = Asking {
            socket,
            _reserved: reserved,
            check: self.clone(),
            server,
            from,
            sequence: u32::from_ne_bytes(sequence),
            way: None,
        };
        asking.find()?;
        Ok(Box::new(asking))
    }
}

/// An open question.
#[derive(Debug)]
struct Asking {
    /// Hears what the kernel hears from the virtual address.
    socket: OwnedFd,
    /// Keeps the port from others. Nobody listens at it, so the kernel completes no connection.
    _reserved: OwnedFd,
    check: Through,
    server: IpAddr,
    from: SocketAddr,
    sequence: u32,
    /// How the question went, once it did.
    way: Option<Sent>,
}

/// How packets go.
#[derive(Debug)]
enum Sent {
    /// To this MAC address on this interface.
    To(u32, [u8; 6]),
    /// By a socket that wraps.
    By(OwnedFd),
}

impl Asking {
    /// Looks for the way, and asks if there is one by now.
    fn find(&mut self) -> Result<bool, Failure> {
        let way = match self.check.way {
            ThroughMethod::Tunnel(tunnel) => Some(Sent::By(self.tunnel(tunnel)?)),
            ThroughMethod::Direct => neighbour(self.server)?.map(|(interface, mac)| Sent::To(interface, mac)),
        };
        let Some(way) = way else { return Ok(false) };
        let segment = Segment { flags: SYN, sequence: self.sequence, acknowledges: 0 };
        self.send(&way, segment)?;
        self.way = Some(way);
        Ok(true)
    }

    /// A socket by which inner packets go to the server.
    fn tunnel(&self, tunnel: Tunnel) -> Result<OwnedFd, Failure> {
        let inner = if self.check.service.is_ipv4() { ipproto::IPIP } else { ipproto::IPV6 };
        match tunnel {
            Tunnel::IpIp => raw(SocketAddr::new(self.server, 0), inner),
            Tunnel::Gre { .. } => raw(SocketAddr::new(self.server, 0), ipproto::GRE),
            Tunnel::Gue { port, .. } => {
                let to = SocketAddr::new(self.server, port);
                open(to, SocketType::DGRAM, None)
            }
        }
    }

    fn send(&self, way: &Sent, segment: Segment) -> Result<(), Failure> {
        let v4 = self.check.service.is_ipv4();
        let Some(mut packet) = segment.packet(self.from, self.check.service) else {
            return Err(Failure::Unreachable(libc::EAFNOSUPPORT));
        };
        match way {
            Sent::To(interface, mac) => {
                let mut sender = self.check.sender.lock().unwrap_or_else(PoisonError::into_inner);
                let open = match sender.take() {
                    Some(open) => open,
                    None => Sender::open().map_err(|error| of_io("open a packet socket", &error))?,
                };
                let sent = open.send(*interface, *mac, &packet);
                *sender = Some(open);
                sent.map_err(|error| of_io("send", &error))
            }
            Sent::By(socket) => {
                let header: &[u8] = match (self.check.way, v4) {
                    (ThroughMethod::Direct | ThroughMethod::Tunnel(Tunnel::IpIp), _) => &[],
                    // RFC 2784: no checksum, and the protocol as on Ethernet.
                    (ThroughMethod::Tunnel(Tunnel::Gre { .. }), true) => &[0, 0, 0x08, 0x00],
                    (ThroughMethod::Tunnel(Tunnel::Gre { .. }), false) => &[0, 0, 0x86, 0xdd],
                    // Variant 0, no options, and the protocol as in IP.
                    (ThroughMethod::Tunnel(Tunnel::Gue { .. }), true) => &[0, 4, 0, 0],
                    (ThroughMethod::Tunnel(Tunnel::Gue { .. }), false) => &[0, 41, 0, 0],
                };
                packet.splice(0..0, header.iter().copied());
                match net::send(socket, &packet, SendFlags::NOSIGNAL) {
                    Ok(_) => Ok(()),
                    Err(errno) => Err(Failure::of_socket("send", errno)),
                }
            }
        }
    }

    /// Hears answers.
    fn hear(&self) -> Result<Progress, Failure> {
        let mut room = [0; 256];
        for _ in 0..SEGMENTS {
            let (count, source) = match net::recvfrom(&self.socket, &mut room, RecvFlags::empty()) {
                Ok((count, _, source)) => {
                    (count, source.and_then(|source| SocketAddr::try_from(source).ok()))
                }
                Err(Errno::AGAIN) => return Ok(Progress::Waits),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Failure::of_socket("receive", errno)),
            };
            if source.is_none_or(|source| source.ip() != self.check.service.ip()) {
                continue;
            }
            let bytes = room.get(..count).unwrap_or_default();
            let Some(segment) = Segment::read(bytes, self.check.service, self.from.port()) else { continue };
            if segment.acknowledges != self.sequence.wrapping_add(1) || segment.flags & ACK == 0 {
                continue;
            }
            if segment.flags & RST != 0 {
                return Err(Failure::Refused);
            }
            if segment.flags & SYN != 0 {
                let reset = Segment { flags: RST, sequence: segment.acknowledges, acknowledges: 0 };
                if let Some(way) = &self.way {
                    // A server that does not get it gives the connection up by itself, later.
                    let _ = self.send(way, reset);
                }
                return PASSED.map(|pass| Progress::Done(Ok(pass)));
            }
        }
        Ok(Progress::Yields)
    }
}

impl Attempt for Asking {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Nothing tells of a neighbour that was found.
    fn is_eager(&self) -> bool {
        self.way.is_none()
    }

    fn proceed(&mut self) -> Progress {
        let found = if self.way.is_some() { Ok(true) } else { self.find() };
        let progress = match found {
            Ok(true) => self.hear(),
            Ok(false) => Ok(Progress::Pauses(PAUSE)),
            Err(failure) => Err(failure),
        };
        progress.unwrap_or_else(|failure| Progress::Done(Err(failure)))
    }

    fn expire(&mut self, after: Duration) -> Expiry {
        let doing = if self.way.is_some() { Doing::Connecting } else { Doing::Neighbour };
        Expiry::Ends(Err(Failure::TimedOut { doing, after }))
    }
}

/// The interface and MAC address of a neighbour; `None` while the kernel looks for it, which this begins. What the
/// kernel knows for long without having used it is looked for again.
fn neighbour(server: IpAddr) -> Result<Option<(u32, [u8; 6])>, Failure> {
    let mut netlink = Netlink::open().map_err(|error| of_io("ask the kernel for a way", &error))?;
    let route = netlink.route(server).map_err(|error| of_io("find a way", &error))?;
    let Some(interface) = route else { return Err(Failure::Unreachable(libc::EHOSTUNREACH)) };
    let found = netlink.neighbour(interface, server).map_err(|error| of_io("find a neighbour", &error))?;
    if !found.is_some_and(|(_, fresh)| fresh) {
        // The probe leaves by a packet socket, which makes the kernel look for nobody. A datagram through its stack
        // does.
        let nudge = UdpSocket::bind((unspecified(server), 0)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to(&[], (server, DISCARD))
        });
        nudge.map_err(|error| of_io("look for a neighbour", &error))?;
    }
    Ok(found.map(|(mac, _)| (interface, mac)))
}

/// The address from which this machine speaks to another.
fn own_address(to: IpAddr) -> Result<IpAddr, Failure> {
    let found = UdpSocket::bind((unspecified(to), 0)).and_then(|socket| {
        // Connecting sends nothing here, but makes the kernel choose a route and with it the address.
        socket.connect((to, DISCARD))?;
        socket.local_addr()
    });
    found.map(|address| address.ip()).map_err(|error| of_io("find an own address", &error))
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// A port that nobody else uses meanwhile.
fn reserve(own: IpAddr) -> Result<OwnedFd, Failure> {
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.map_err(|errno| hindered("open a socket", errno))?;
    net::bind(&socket, &SocketAddr::new(own, 0)).map_err(|errno| hindered("take a port", errno))?;
    Ok(socket)
}

/// A socket that hears what the kernel hears by TCP from the virtual address. Without a route to that, it hears
/// everybody.
fn receiving_socket(service: SocketAddr, own: IpAddr) -> Result<OwnedFd, Failure> {
    match raw(service, ipproto::TCP) {
        Err(Failure::Unreachable(_)) => {}
        other => return other,
    }
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, SocketType::RAW, flags, Some(ipproto::TCP));
    let socket = socket.map_err(|errno| hindered("open a raw socket", errno))?;
    net::bind(&socket, &SocketAddr::new(own, 0)).map_err(|errno| hindered("bind a raw socket", errno))?;
    Ok(socket)
}

/// A raw socket towards an address.
fn raw(to: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Failure> {
    open(SocketAddr::new(to.ip(), 0), SocketType::RAW, Some(protocol))
}

fn open(to: SocketAddr, kind: SocketType, protocol: Option<Protocol>) -> Result<OwnedFd, Failure> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, kind, flags, protocol);
    let socket = socket.map_err(|errno| hindered("open a raw socket", errno))?;
    net::connect(&socket, &to).map_err(|errno| Failure::of_socket("connect", errno))?;
    Ok(socket)
}

const fn hindered(step: &'static str, errno: Errno) -> Failure {
    Failure::Hindered { step, errno: errno.raw_os_error() }
}

fn of_io(step: &'static str, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(number) => Failure::of_socket(step, Errno::from_raw_os_error(number)),
        None => Failure::Hindered { step, errno: libc::EIO },
    }
}

/// Between two looks for a neighbour.
const PAUSE: Duration = Duration::from_millis(5);
/// The port of the discard service (RFC 863): a datagram to it makes the kernel look for a neighbour.
const DISCARD: u16 = 9;
/// Segments that are looked at before others have a turn.
const SEGMENTS: usize = 64;
