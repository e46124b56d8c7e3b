//! The real server's side of TUN: what the director wrapped is unwrapped.
//!
//! Reading list: RFC 2003, RFC 2473, RFC 2784 §2.4, draft-ietf-intarea-gue-09 §3 and §5, RFC 6040 §4.2 (ECN),
//! RFC 6936 (UDP over IPv6 without a checksum).

use core::fmt;

use lvs_core::{Family, Tick};

use crate::checksum::{Delta, Sum};
use crate::frame::{Checksum, Frame, Offload};
use crate::header::icmp::{v4, v6};
use crate::header::layout::{Fragment, Layout};
use crate::header::{array, array_mut, ethernet, get16, gre, gue, ipv4, ipv6, protocol, udp};
use crate::host::{Arrival, Departure, Handled, Host, LinkDestination};
use crate::icmp::answer::echo;
use crate::offload::pseudo_header;
use crate::parse::{Link, Malformed, Meaning, Parsed, parse};
use crate::reason::DropReason;
use crate::reassembly::{FragmentFields, Fragments, Gathered, Key};

/// What became of a frame at the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a packet that is to be delivered is lost otherwise"]
#[expect(clippy::exhaustive_enums, reason = "whoever owns the frames must handle each")]
pub enum Unwrapped {
    /// The frame was the last fragment of a tunnel packet that is whole now: [`Decapsulator::take`] has it.
    Assembled,
    /// Nothing is left: the frame was a message to this host, or a fragment of a tunnel packet of which others are
    /// missing.
    Consumed,
    /// The frame goes no further.
    Drop(DecapReason),
    /// The frame is the packet that was inside, without a link header, for the local host.
    Inner,
    /// The frame is no tunnel packet for this host, and unchanged.
    Pass,
    /// The frame is an answer now, and leaves by [`Frame::port`].
    Send,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a frame was dropped at the real server.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[expect(clippy::exhaustive_enums, reason = "matches must name every reason")]
        pub enum DecapReason {
            $($(#[$doc])* $variant,)*
        }

        impl DecapReason {
            /// Every reason, in the order of its counters.
            pub const ALL: [Self; REASONS] = [$(Self::$variant),*];

            /// A short name for statistics, in kebab case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

const REASONS: usize = 14;

reasons! {
    /// A wrong GRE or outer UDP checksum.
    BadChecksum = "bad-checksum",
    /// A wrong IPv4 header checksum, outside or inside.
    BadHeaderChecksum = "bad-header-checksum",
    /// The tunnel met congestion, but the packet inside cannot say so (RFC 6040 §4.2).
    Congestion = "congestion",
    /// A GUE control message.
    Control = "control",
    /// A GUE or GRE version, flag or option that is not understood.
    Flags = "flags",
    /// A fragment that contradicts others of its tunnel packet, which is given up (RFC 5722 §4).
    FragmentConflict = "fragment-conflict",
    /// A fragment that has come before.
    FragmentDuplicate = "fragment-duplicate",
    /// A tunnel packet whose fragments did not all come in time: one for each such packet.
    FragmentTimeout = "fragment-timeout",
    /// No room to put a tunnel packet together, or one that gave way to another.
    FragmentsFull = "fragments-full",
    /// Headers that lead out of the frame or are impossible.
    Malformed = "malformed",
    /// What is inside is not what the header before it says.
    Mismatch = "mismatch",
    /// No such port: the frame's port was never added to the host.
    NoPort = "no-port",
    /// For the link-layer address of another host.
    NotForUs = "not-for-us",
    /// The device's word on checksum or segments does not fit the packet.
    Offload = "offload",
}

impl fmt::Display for DecapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Malformed> for DecapReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Checksum => Self::BadHeaderChecksum,
            Malformed::Cut | Malformed::Header | Malformed::Jumbo => Self::Malformed,
        }
    }
}

/// GUE's registered UDP port.
pub const GUE_PORT: u16 = 6_080;

/// Unwraps tunnel packets to its host's addresses: IP in IP and IPv6, GRE, and GUE on one UDP port.
///
/// The decapsulator's host answers ARP, neighbour solicitations and pings for the tunnel address. The virtual address
/// belongs to the local stack behind it, where the unwrapped packets go, on an interface that tells nobody of it.
///
/// Tunnel packets that come in fragments are put together, given [room](Self::with_fragments) for it. UDP to other
/// ports is put together too, since only the first fragment says which port it is.
pub struct Decapsulator {
    host: Host,
    gue_port: u16,
    fragments: Fragments,
    /// The place of a tunnel packet that is whole, and waits to be taken.
    whole: Option<usize>,
    unwrapped: u64,
    drops: [u64; REASONS],
}

impl Decapsulator {
    /// A decapsulator that is this host on the wire, and takes GUE on UDP port `gue_port` (usually [`GUE_PORT`]).
    #[must_use]
    pub const fn new(host: Host, gue_port: u16) -> Self {
        Self { host, gue_port, fragments: Fragments::NONE, whole: None, unwrapped: 0, drops: [0; REASONS] }
    }

    /// Gives a new decapsulator room to put tunnel packets together that come in fragments. Without it, these are
    /// dropped.
    #[cfg(feature = "fragments")]
    #[must_use]
    pub fn with_fragments(mut self, fragments: Fragments) -> Self {
        self.fragments = fragments;
        self
    }

    /// The host, for changing its addresses and for announcements.
    pub const fn host_mut(&mut self) -> &mut Host {
        &mut self.host
    }

    /// Packets unwrapped since the start.
    #[must_use]
    pub const fn unwrapped(&self) -> u64 {
        self.unwrapped
    }

    /// Frames dropped for this reason since the start.
    #[must_use]
    pub fn drops(&self, reason: DecapReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or_default()
    }

    /// Takes one frame in and unwraps it in place.
    pub fn process(&mut self, now: Tick, frame: &mut Frame<'_>) -> Unwrapped {
        if let Some(untaken) = self.whole.take() {
            self.fragments.free(untaken);
        }
        self.expire(now);
        let outcome = self.try_process(now, frame).unwrap_or_else(Unwrapped::Drop);
        self.count(outcome);
        outcome
    }

    /// What was in the tunnel packet of whose last fragment [`process`](Self::process) has just said that it is
    /// [whole](Unwrapped::Assembled), once. UDP to another port than GUE's is handed out as it is, with
    /// [`Unwrapped::Pass`].
    pub fn take(&mut self) -> Option<(Frame<'_>, Unwrapped)> {
        let place = self.whole.take()?;
        // Its bytes stay until the next fragment comes.
        self.fragments.free(place);
        let Self { host, gue_port, fragments, unwrapped, drops, whole: _ } = self;
        let mut frame = fragments.frame(place)?;
        let link = host.port(frame.port)?.link();
        let outcome = match parse(&frame, link) {
            Ok(Parsed::Ip(layout, _)) => unwrap(*gue_port, &mut frame, &layout),
            Ok(Parsed::Arp(_) | Parsed::Foreign) => Err(DecapReason::Malformed),
            Err(malformed) => Err(malformed.into()),
        };
        let outcome = outcome.unwrap_or_else(Unwrapped::Drop);
        count(outcome, unwrapped, drops);
        Some((frame, outcome))
    }

    /// The next frame that the host itself has to send, see [`Host::poll_transmit`].
    pub fn poll_transmit<'a>(&mut self, now: Tick, buffer: &'a mut [u8]) -> Option<Frame<'a>> {
        self.expire(now);
        self.host.poll_transmit(now, buffer)
    }

    /// Gives up the tunnel packets whose time is up.
    fn expire(&mut self, now: Tick) {
        while self.fragments.expired(now).is_some() {
            self.count(Unwrapped::Drop(DecapReason::FragmentTimeout));
        }
    }

    fn count(&mut self, outcome: Unwrapped) {
        count(outcome, &mut self.unwrapped, &mut self.drops);
    }

    fn try_process(&mut self, now: Tick, frame: &mut Frame<'_>) -> Result<Unwrapped, DecapReason> {
        let port = *self.host.port(frame.port).ok_or(DecapReason::NoPort)?;
        let destination = self.host.link_destination(&port, frame);
        if matches!(destination, LinkDestination::Another | LinkDestination::OtherNetwork) {
            return Err(DecapReason::NotForUs);
        }
        let (layout, meaning) = match parse(frame, port.link())? {
            Parsed::Arp(at) => return handled(self.host.arp(now, frame, at)),
            Parsed::Foreign => return Ok(Unwrapped::Pass),
            Parsed::Ip(layout, meaning) => (layout, meaning),
        };
        if let Meaning::Control(v6::SOLICITATION | v6::ADVERTISEMENT) = meaning
            && layout.family == Family::V6
        {
            return handled(self.host.neighbour_discovery(now, frame, &layout));
        }
        let ours =
            layout.addresses(frame.bytes()).is_some_and(|addresses| self.host.owns(addresses.destination()));
        if !ours || destination == LinkDestination::Group {
            return Ok(Unwrapped::Pass);
        }
        if layout.fragment != Fragment::Whole && is_tunnel(layout.protocol) {
            return self.gather(now, frame, &layout);
        }
        match (meaning, layout.family) {
            (Meaning::Control(v4::ECHO_REQUEST), Family::V4)
            | (Meaning::Control(v6::ECHO_REQUEST), Family::V6) => self.ping(frame, &layout),
            (
                Meaning::Control(_)
                | Meaning::Error(..)
                | Meaning::Flow(_)
                | Meaning::Other
                | Meaning::Wrapped(_),
                Family::V4 | Family::V6,
            ) => unwrap(self.gue_port, frame, &layout),
        }
    }

    /// Adds a fragment to its tunnel packet.
    fn gather(&mut self, now: Tick, frame: &Frame<'_>, layout: &Layout) -> Result<Unwrapped, DecapReason> {
        let found = FragmentFields::of(frame.bytes(), layout).zip(layout.addresses(frame.bytes()));
        let (fields, addresses) = found.ok_or(DecapReason::Malformed)?;
        if frame.offload != Offload::NONE {
            return Err(DecapReason::Offload);
        }
        let key = Key::of(layout, &addresses, &fields, true);
        if layout.family == Family::V6 && fields.is_uneven(layout) {
            // A gap remains before the next piece, so that the packet can never become whole.
            self.fragments.discard(now, &key);
            return Err(DecapReason::FragmentConflict);
        }
        let mut overrun = None;
        let gathered =
            self.fragments.gather(now, key, frame, layout, &fields, &mut |reason| overrun = Some(reason));
        if let Some(reason) = overrun {
            self.count(Unwrapped::Drop(of_gathering(reason)));
        }
        match gathered {
            Gathered::Waits => Ok(Unwrapped::Consumed),
            Gathered::Whole(place) => {
                self.whole = Some(place);
                Ok(Unwrapped::Assembled)
            }
            Gathered::Refused(reason) => Err(of_gathering(reason)),
        }
    }

    /// Answers a ping by the way it came. Nobody asks a real server for the time here.
    fn ping(&self, frame: &mut Frame<'_>, layout: &Layout) -> Result<Unwrapped, DecapReason> {
        let arrival = Arrival::of(frame, layout.network());
        let front = layout.network();
        let stripped = frame
            .set_len(layout.end())
            .and_then(|()| frame.shrink_front(front))
            .and_then(|()| layout.without_front(front))
            .ok_or(DecapReason::Offload)?;
        let answer = echo(frame, &stripped, 0, Tick::ZERO).map_err(|_| DecapReason::BadChecksum)?;
        let from = arrival.from.ok_or(DecapReason::Malformed)?;
        match self.host.send_back(frame, answer.family, from) {
            Departure::Ready => Ok(Unwrapped::Send),
            Departure::Waits | Departure::Drop(_) => Err(DecapReason::Malformed),
        }
    }
}

impl fmt::Debug for Decapsulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decapsulator")
            .field("host", &self.host)
            .field("gue_port", &self.gue_port)
            .field("unwrapped", &self.unwrapped)
            .finish_non_exhaustive()
    }
}

fn count(outcome: Unwrapped, unwrapped: &mut u64, drops: &mut [u64; REASONS]) {
    match outcome {
        Unwrapped::Inner => *unwrapped += 1,
        Unwrapped::Drop(reason) => {
            if let Some(count) = drops.get_mut(reason as usize) {
                *count += 1;
            }
        }
        Unwrapped::Assembled | Unwrapped::Consumed | Unwrapped::Pass | Unwrapped::Send => {}
    }
}

/// Why a fragment is not taken, in the words of decapsulation.
fn of_gathering(reason: DropReason) -> DecapReason {
    let known = [
        (DropReason::FragmentConflict, DecapReason::FragmentConflict),
        (DropReason::FragmentDuplicate, DecapReason::FragmentDuplicate),
        (DropReason::FragmentTimeout, DecapReason::FragmentTimeout),
        (DropReason::FragmentsFull, DecapReason::FragmentsFull),
    ];
    known.into_iter().find(|(of, _)| *of == reason).map_or(DecapReason::Malformed, |(_, own)| own)
}

/// Whether packets of a protocol may be tunnel packets.
const fn is_tunnel(protocol: u8) -> bool {
    matches!(protocol, protocol::IPIP | protocol::IPV6 | protocol::GRE | protocol::UDP)
}

/// Unwraps a packet that is whole.
fn unwrap(gue_port: u16, frame: &mut Frame<'_>, outer: &Layout) -> Result<Unwrapped, DecapReason> {
    let bytes = frame.bytes();
    let (inner, shim) = match outer.protocol {
        protocol::IPIP | protocol::IPV6 => (outer.protocol, 0),
        protocol::GRE => gre_inside(frame, outer)?,
        protocol::UDP if get16(bytes, outer.transport() + 2) == Some(gue_port) => gue_inside(frame, outer)?,
        _ => return Ok(Unwrapped::Pass),
    };
    let class = outer.traffic_class(bytes).unwrap_or_default();
    let front = outer.transport() + shim;
    if let Checksum::Partial { start, .. } = frame.offload.checksum
        && usize::from(start) < front
    {
        // It was the wrapping's, which goes.
        frame.offload.checksum = Checksum::Complete;
    }
    frame.set_len(outer.end()).ok_or(DecapReason::Malformed)?;
    frame.shrink_front(front).ok_or(DecapReason::Malformed)?;

    let version = match inner {
        protocol::IPIP => 4,
        _ => 6,
    };
    // The wrapping's word is not believed: the kernel behind would read the packet by its version.
    if frame.bytes().first().is_none_or(|byte| byte >> 4 != version) {
        return Err(DecapReason::Mismatch);
    }
    let Parsed::Ip(layout, _) = parse(frame, Link::Bare)? else {
        return Err(DecapReason::Mismatch);
    };
    frame.set_len(layout.end()).ok_or(DecapReason::Malformed)?;
    mark_congestion(frame, &layout, class)?;
    Ok(Unwrapped::Inner)
}

fn handled(handled: Handled) -> Result<Unwrapped, DecapReason> {
    match handled {
        Handled::Answered => Ok(Unwrapped::Send),
        Handled::Consumed => Ok(Unwrapped::Consumed),
        Handled::Malformed => Err(DecapReason::Malformed),
        Handled::NotOurs => Ok(Unwrapped::Pass),
    }
}

/// The protocol inside a GRE packet, and the length of its header.
fn gre_inside(frame: &Frame<'_>, outer: &Layout) -> Result<(u8, usize), DecapReason> {
    let packet = frame.bytes().get(outer.transport()..outer.end()).ok_or(DecapReason::Malformed)?;
    let flags = get16(packet, 0).ok_or(DecapReason::Malformed)?;
    if flags & !gre::HAS_CHECKSUM != 0 {
        return Err(DecapReason::Flags);
    }
    let len = if flags == 0 { gre::LEN } else { gre::LEN + gre::CHECKSUM_LEN };
    if flags != 0 && is_finished(frame) && Sum::ZERO.bytes(packet).fold() != 0xffff {
        return Err(DecapReason::BadChecksum);
    }
    match get16(packet, 2) {
        Some(ethernet::TYPE_IPV4) => Ok((protocol::IPIP, len)),
        Some(ethernet::TYPE_IPV6) => Ok((protocol::IPV6, len)),
        Some(_) => Err(DecapReason::Mismatch),
        None => Err(DecapReason::Malformed),
    }
}

/// The protocol inside a GUE packet, and the length of its UDP and GUE headers.
fn gue_inside(frame: &Frame<'_>, outer: &Layout) -> Result<(u8, usize), DecapReason> {
    let bytes = frame.bytes();
    let packet = bytes.get(outer.transport()..outer.end()).ok_or(DecapReason::Malformed)?;
    if get16(packet, udp::CHECKSUM) != Some(0) && is_finished(frame) {
        let pseudo = pseudo_header(bytes, outer).ok_or(DecapReason::Malformed)?;
        if pseudo.bytes(packet).fold() != 0xffff {
            return Err(DecapReason::BadChecksum);
        }
    }
    let &[first, inner, flags @ ..] =
        array::<{ gue::LEN }>(packet, udp::LEN).ok_or(DecapReason::Malformed)?;
    match (first >> 5, inner) {
        (0, protocol::IPIP | protocol::IPV6) if first & 0x1f == 0 && flags == [0; 2] => {
            Ok((inner, udp::LEN + gue::LEN))
        }
        (0, protocol::IPIP | protocol::IPV6) => Err(DecapReason::Flags),
        (0, _) => Err(DecapReason::Mismatch),
        (1, _) => Err(DecapReason::Control),
        (_, _) => Err(DecapReason::Flags),
    }
}

/// Whether checksums in the frame can be verified: of merged frames, and of those whose sender left it to others, they
/// cannot.
fn is_finished(frame: &Frame<'_>) -> bool {
    frame.offload.merged.is_none() && frame.offload.checksum == Checksum::Complete
}

/// Hands the tunnel's "congestion experienced" on to the packet inside.
fn mark_congestion(frame: &mut Frame<'_>, layout: &Layout, outer_class: u8) -> Result<(), DecapReason> {
    const CONGESTION: u8 = 0x03;
    if outer_class & CONGESTION != CONGESTION {
        return Ok(());
    }
    let class = layout.traffic_class(frame.bytes()).unwrap_or_default();
    // RFC 6040 §4.2: a mark that a sender cannot understand is a loss, which it does understand.
    match class & CONGESTION {
        0 => return Err(DecapReason::Congestion),
        CONGESTION => return Ok(()),
        _ => {}
    }
    let bytes = frame.bytes_mut();
    match layout.family {
        Family::V4 => {
            let header: &mut [u8; ipv4::LEN] = array_mut(bytes, 0).ok_or(DecapReason::Malformed)?;
            let delta = Delta::ZERO.word(u16::from(class), u16::from(class | CONGESTION));
            let checksum = u16::from_be_bytes([header[ipv4::CHECKSUM], header[ipv4::CHECKSUM + 1]]);
            [header[ipv4::CHECKSUM], header[ipv4::CHECKSUM + 1]] = delta.update(checksum).to_be_bytes();
            header[ipv4::TOS] = class | CONGESTION;
        }
        Family::V6 => {
            let header: &mut [u8; ipv6::LEN] = array_mut(bytes, 0).ok_or(DecapReason::Malformed)?;
            header[1] |= CONGESTION << 4;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_own_index() {
        for (index, reason) in DecapReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason}");
        }
    }
}
