//! Packet sockets: `packet(7)`, `linux/if_packet.h`, `linux/filter.h`.

use core::mem::size_of;
use core::ptr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::option;

/// A packet socket that sees whole link-layer frames and is bound to one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
    interface: i32,
}

impl PacketSocket {
    /// A socket that is not bound yet, so that nothing arrives before it is set up.
    pub(crate) fn open(interface: u32) -> io::Result<Self> {
        let interface = i32::try_from(interface).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes and returns plain integers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above just made this descriptor, and nobody else knows of it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, interface })
    }

    /// Binds it to its interface: to all protocols if it is to receive, else to none, so that it only sends.
    pub(crate) fn bind(&self, receives: bool) -> io::Result<()> {
        let protocol = if receives { (libc::ETH_P_ALL as u16).to_be() } else { 0 };
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol,
            sll_ifindex: self.interface,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointer and the length are those of a live `sockaddr_ll`, which the kernel only reads.
        let result = unsafe { libc::bind(self.fd.as_raw_fd(), ptr::from_ref(&address).cast(), length) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Sets an option of level `SOL_PACKET`.
    pub(crate) fn set<T: option::Plain>(&self, name: i32, value: &T) -> io::Result<()> {
        option::set(self.as_fd(), libc::SOL_PACKET, name, value)
    }

    /// Packets seen and dropped since the last call: the kernel counts from 0 again.
    pub(crate) fn statistics(&self) -> io::Result<libc::tpacket_stats> {
        option::get(self.as_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS)
    }

    /// The error that is pending on it, which `poll(2)` reports until it is fetched.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let error: libc::c_int = option::get(self.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR)?;
        Ok(if error == 0 { None } else { Some(io::Error::from_raw_os_error(error)) })
    }

    /// Makes room for `bytes` of sent frames that the interface has not finished with; as much of it as this process
    /// may ask for.
    pub(crate) fn set_send_room(&self, bytes: i32) -> io::Result<()> {
        // Beyond `net.core.wmem_max` only with `CAP_NET_ADMIN`. Without it, the plain option gives as much as that
        // allows.
        option::set(self.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes)
            .or_else(|_| option::set(self.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, &bytes))
    }

    /// Makes room for `bytes` of received frames that do not fit into the ring's slots; as much of it as this process
    /// may ask for.
    pub(crate) fn set_receive_room(&self, bytes: i32) -> io::Result<()> {
        // Beyond `net.core.rmem_max` only with `CAP_NET_ADMIN`. Without it, the plain option gives as much as that
        // allows.
        option::set(self.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
            .or_else(|_| option::set(self.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes))
    }

    /// Joins a membership (`PACKET_MR_*`): asks the interface for frames that it would otherwise filter out.
    pub(crate) fn join(&self, kind: i32, address: &[u8]) -> io::Result<()> {
        let mut mr_address = [0; 8];
        let length = address.len().min(mr_address.len());
        mr_address[..length].copy_from_slice(&address[..length]);
        let request = libc::packet_mreq {
            mr_ifindex: self.interface,
            mr_type: kind as u16,
            mr_alen: length as u16,
            mr_address,
        };
        self.set(libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// Lets only frames to `mac` and to groups (multicast, broadcast) into the ring, if one is given; and none that
    /// this machine sends, if it is one of several sockets that share frames out: what one of them ignores alone, the
    /// others would get.
    ///
    /// A classic BPF program (`linux/filter.h`) of ten instructions at most.
    pub(crate) fn filter(&self, mac: Option<[u8; 6]>, shares: bool) -> io::Result<()> {
        let load = |size: u32, at: u32| instruction(libc::BPF_LD | size | libc::BPF_ABS, at, 0, 0);
        let jump =
            |code: u32, k: u32, jt: u8, jf: u8| instruction(libc::BPF_JMP | code | libc::BPF_K, k, jt, jf);
        let verdict = |bytes: u32| instruction(libc::BPF_RET | libc::BPF_K, bytes, 0, 0);
        let mut program = Vec::new();
        if shares {
            program.push(load(libc::BPF_W, (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned()));
            program.push(jump(libc::BPF_JEQ, u32::from(libc::PACKET_OUTGOING), 0, 1));
            program.push(verdict(0));
        }
        if let Some([a, b, c, d, e, f]) = mac {
            program.extend([
                load(libc::BPF_B, 0),
                // The lowest bit of the first byte marks a group's address (IEEE 802 §8).
                jump(libc::BPF_JSET, 1, 4, 0),
                load(libc::BPF_W, 0),
                jump(libc::BPF_JEQ, u32::from_be_bytes([a, b, c, d]), 0, 3),
                load(libc::BPF_H, 4),
                jump(libc::BPF_JEQ, u32::from_be_bytes([0, 0, e, f]), 0, 1),
                verdict(u32::MAX),
                verdict(0),
            ]);
        } else {
            program.push(verdict(u32::MAX));
        }
        self.program(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &mut program)
    }

    /// Lets nothing into the ring.
    pub(crate) fn filter_all(&self) -> io::Result<()> {
        let nothing = instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0);
        self.program(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &mut [nothing])
    }

    /// Makes it one of a group of sockets that share frames out by a program: of a new group, or of this one. Returns
    /// the group's number.
    pub(crate) fn share(&self, group: Option<u16>) -> io::Result<u16> {
        let kind = match group {
            Some(_) => libc::PACKET_FANOUT_CBPF,
            // The kernel finds a number that is free, because one chosen here could be another program's group.
            None => libc::PACKET_FANOUT_CBPF | libc::PACKET_FANOUT_FLAG_UNIQUEID,
        };
        let asked = (kind << 16 | u32::from(group.unwrap_or_default())).cast_signed();
        self.set(libc::PACKET_FANOUT, &asked)?;
        let joined: libc::c_int = option::get(self.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT)?;
        Ok((joined & 0xffff) as u16)
    }

    /// Another descriptor of this socket (dup(2)), for whoever sets filters or programs while the first one receives.
    /// The kernel closes the socket with the last of its descriptors.
    pub(crate) fn again(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, interface: self.interface })
    }

    /// Gives the group of sockets that this one shares frames with another program: it answers with the number of the
    /// socket that gets a packet, in the order in which they came to the group. Offsets count from the network header.
    pub(crate) fn steer(&self, program: &mut [libc::sock_filter]) -> io::Result<()> {
        self.program(libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, program)
    }

    fn program(&self, level: i32, name: i32, program: &mut [libc::sock_filter]) -> io::Result<()> {
        let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
        let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
        // SAFETY: pointer and length are those of a live `sock_fprog`, whose own pointer and count are those of a live
        // slice; the kernel copies both before it returns.
        let result = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), level, name, ptr::from_ref(&program).cast(), length)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// A packet socket that only sends, on any interface, with link headers that the kernel makes.
#[derive(Debug)]
#[cfg(feature = "health")]
pub(crate) struct Sender(OwnedFd);

#[cfg(feature = "health")]
impl Sender {
    pub(crate) fn open() -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes and returns plain integers. Protocol 0: it receives nothing.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above just made this descriptor, and nobody else knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends an IP packet to a MAC address on an interface.
    pub(crate) fn send(&self, interface: u32, mac: [u8; 6], packet: &[u8]) -> io::Result<()> {
        let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let protocol = if is_v6 { libc::ETH_P_IPV6 } else { libc::ETH_P_IP };
        let [a, b, c, d, e, f] = mac;
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (protocol as u16).to_be(),
            sll_ifindex: i32::try_from(interface).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [a, b, c, d, e, f, 0, 0],
        };
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: both pointers are to live memory of the lengths beside them, which the kernel only reads.
        let result = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                ptr::from_ref(&address).cast(),
                length,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
