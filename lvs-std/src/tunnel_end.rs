//! The real server's side of tunnelling: what the director wrapped is unwrapped and handed to this machine.

use core::fmt;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use lvs_core::Tick;
use lvs_forward::engine::{Engine, OWN_BUFFER};
use lvs_forward::parse::Link;
use lvs_forward::{Decapsulator, Frame, PortId, Unwrapped};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::Clock;
use crate::device::{Device, Receive, ReceiveCounters, TransmitCounters};
use crate::worker::output::{Out, Output};

/// A decapsulator at work between two devices: tunnel packets come in by one, and what was inside goes to this
/// machine's stack by the other.
///
/// On the network it is a host of its own, with a MAC address and a tunnel address of its own, so the machine's kernel
/// neither sees the tunnel packets nor refuses them. The virtual address belongs to the kernel (on the loopback
/// interface or the inner one, hidden from ARP), and `rp_filter` must be off on the inner interface: clients
/// are not behind it.
///
/// ```no_run
/// use std::os::unix::net::UnixStream;
/// use lvs_forward::host::{Host, MacAddress, Port};
/// use lvs_forward::{Decapsulator, GUE_PORT};
/// use lvs_std::device::{packet, tun};
/// use lvs_std::{Inner, TunnelEnd};
///
/// let mac = MacAddress([2, 0, 0x5e, 0, 0x53, 0x21]);
/// let mut options = packet::PacketOptions::default();
/// options.mac = Some(mac.0);
/// let outer = packet::open("eth0", &options)?;
/// let inner = tun::open("tunl0", tun::Layer::Ip)?;
/// let mut host: Host = Host::new(lvs_std::random_seed()?);
/// let port = host.add_port(Port::ethernet(mac, outer.mtu as u16))?;
/// host.add_address(port, "10.0.1.21".parse()?, 24)?;
/// let decapsulator = Box::new(Decapsulator::new(host, GUE_PORT));
/// let mut end = TunnelEnd::new(decapsulator, outer.device, inner.device, Inner::Bare);
/// let (stop, stopped) = UnixStream::pair()?;
/// end.run(&stopped)?; // until somebody drops `stop`
/// # drop(stop);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TunnelEnd {
    decapsulator: Box<Decapsulator>,
    receive: Box<dyn Receive>,
    output: Output,
    engine: Engine,
    inner: Inner,
    clock: Clock,
    /// Room for frames of the decapsulator's own.
    buffer: Box<[u8]>,
    lost: u64,
}

/// How the inner device's frames begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Inner {
    /// With the IP header: a TUN device.
    Bare,
    /// With an Ethernet header: one end of a cable to the kernel, or a TAP device.
    Ethernet {
        /// The MAC address of the kernel's end.
        kernel: [u8; 6],
        /// The MAC address from which the frames shall come.
        own: [u8; 6],
    },
}

/// What a tunnel end did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelEndCounters {
    /// Packets unwrapped.
    pub unwrapped: u64,
    /// Packets unwrapped but lost, since they were in no state to be handed over.
    pub lost: u64,
    /// What came in by the outer device.
    pub received: ReceiveCounters,
    /// What went to this machine by the inner device.
    pub delivered: TransmitCounters,
}

impl TunnelEnd {
    /// A tunnel end whose decapsulator's host has one port, an Ethernet one: `outer`.
    #[must_use]
    pub fn new(decapsulator: Box<Decapsulator>, outer: Device, inner: Device, kind: Inner) -> Self {
        let link = match kind {
            Inner::Bare => Link::Bare,
            Inner::Ethernet { .. } => Link::Ethernet,
        };
        let outs = vec![Out::new(outer.transmit, Link::Ethernet), Out::new(inner.transmit, link)];
        Self {
            decapsulator,
            receive: outer.receive,
            output: Output::new(outs),
            engine: Engine::new(),
            inner: kind,
            clock: Clock::start(),
            buffer: vec![0; OWN_BUFFER].into_boxed_slice(),
            lost: 0,
        }
    }

    /// Works until `stop` becomes readable or its other side is closed.
    ///
    /// # Errors
    /// When a device is gone.
    pub fn run(&mut self, stop: impl AsFd) -> io::Result<()> {
        loop {
            while self.turn()? > 0 {
                // Asked after each batch, because under load there is no wait that would notice.
                if is_readable(stop.as_fd()) {
                    return Ok(());
                }
            }
            let mut fds = vec![PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN)];
            let readiness = self.receive.readiness();
            fds.extend(readiness.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let patience = if readiness.is_some() { LONG } else { SHORT };
            // A signal ends the wait, too.
            let _ = poll(&mut fds, Some(&patience));
            let stopped = fds.first().is_some_and(|fd| !fd.revents().is_empty());
            let trouble =
                fds.get(1).is_some_and(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP));
            drop(fds);
            if stopped {
                return Ok(());
            }
            if trouble {
                self.receive.recover()?;
            }
        }
    }

    /// One round without waiting: a batch of frames, and what the host has to say. Returns how many frames came in.
    ///
    /// # Errors
    /// When a device is gone.
    pub fn turn(&mut self) -> io::Result<usize> {
        let Self { decapsulator, receive, output, engine, inner, clock, buffer, lost } = self;
        let now = clock.now();
        let mut carry_out = |frame: &mut Frame<'_>, outcome| match outcome {
            Unwrapped::Send => engine.transmit(frame, output),
            Unwrapped::Inner => match inner.address(frame) {
                Some(()) => engine.transmit(frame, output),
                None => *lost += 1,
            },
            Unwrapped::Assembled | Unwrapped::Consumed | Unwrapped::Drop(_) | Unwrapped::Pass => {}
        };
        let mut judge = |frames: &mut [Frame<'_>]| {
            for frame in frames {
                let outcome = decapsulator.process(now, frame);
                if outcome != Unwrapped::Assembled {
                    carry_out(frame, outcome);
                } else if let Some((mut whole, outcome)) = decapsulator.take() {
                    carry_out(&mut whole, outcome);
                }
            }
        };
        let count = receive.receive(OUTER, &mut judge)?;
        while let Some(mut frame) = decapsulator.poll_transmit(now, buffer) {
            engine.transmit(&mut frame, output);
        }
        output.flush();
        if output.ports.iter().any(|out| out.failed) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(count)
    }

    /// The decapsulator, between two turns.
    pub fn decapsulator(&mut self) -> &mut Decapsulator {
        &mut self.decapsulator
    }

    /// What the clock says that the decapsulator is given.
    #[must_use]
    pub fn now(&self) -> Tick {
        self.clock.now()
    }

    /// What it did so far. Makes system calls: ask about once a second.
    pub fn counters(&mut self) -> TunnelEndCounters {
        let delivered = self.output.ports.get_mut(usize::from(INNER.0)).map(|out| out.transmit.counters());
        TunnelEndCounters {
            unwrapped: self.decapsulator.unwrapped(),
            lost: self.lost + self.engine.counters().unsendable,
            received: self.receive.counters(),
            delivered: delivered.unwrap_or_default(),
        }
    }
}

impl fmt::Debug for TunnelEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelEnd").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Inner {
    /// Makes a bare packet a frame of the inner device.
    fn address(self, frame: &mut Frame<'_>) -> Option<()> {
        frame.port = INNER;
        let Self::Ethernet { kernel, own } = self else { return Some(()) };
        let ether_type: u16 = match frame.bytes().first()? >> 4 {
            4 => 0x0800,
            6 => 0x86dd,
            _ => return None,
        };
        let header = frame.grow_front(14)?;
        header.get_mut(..6)?.copy_from_slice(&kernel);
        header.get_mut(6..12)?.copy_from_slice(&own);
        header.get_mut(12..)?.copy_from_slice(&ether_type.to_be_bytes());
        Some(())
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

const OUTER: PortId = PortId(0);
const INNER: PortId = PortId(1);
/// How long an idle end waits at most: announcements go on.
const LONG: Timespec = timespec(Duration::from_millis(500));
/// How long it waits when the device must be asked again.
const SHORT: Timespec = timespec(Duration::from_millis(1));

const fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos() as i64 }
}
