//! One entry of the connection table: a cache line.

use crate::conntrack::expiry::Renewal;
use crate::conntrack::family::AddressFamily;
use crate::conntrack::fast_key::{FLAGS, FastKey, TAG};
use crate::conntrack::key::Key;
use crate::model::flow::{Flow, Protocol};
use crate::model::method::{Method, Tunnel};
use crate::model::packet::{Chunk, Content, TcpFlags};
use crate::model::state::{State, TcpState};
use crate::model::tick::Stamp;
use crate::proto::timeouts::TimeoutTable;
use crate::proto::view::Phase;

/// A connection or a template, 64 bytes for IPv4 and IPv6 alike: the real server is an id, not an address.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    /// The addresses of the key that it is found by in the client's direction: IPv4's both in the first word, as a
    /// [`FastKey`] has them, else the client's in two words and the virtual one in two.
    ends: [u64; 4],
    /// All else that a packet is compared with, at one time. From the low end: ports and tag of that key, the flags of
    /// a segment that says nothing new, as a [`FastKey`] has them; then flags of its own, and the kind of method.
    word: u64,
    /// Index of the real server; `u32::MAX` while the slot is free.
    pub(crate) server: u32,
    /// When its time is up, if no further packet comes. A [`Lease`](super::expiry::Lease) sets it, so that the sweep
    /// hears of it; [`renew`](Self::renew) moves it on.
    pub(super) deadline: Stamp,
    /// Packets from the client, for listings and replication.
    pub(crate) in_packets: u32,
    /// One of three things that no slot has two of: the next free slot; a template's time-out in seconds; the
    /// slot that controls this one, `u32::MAX` for none.
    link: u32,
    /// How many entries it controls.
    children: u32,
    /// Port at the real server.
    pub(crate) server_port: u16,
    /// The state in which it was last sent to a backup.
    pub(crate) sent_state: u8,
    /// Number of the protocol's state; of a template, 1 when it is assured.
    state: u8,
}

// A slot is read and written for every packet: one cache line, so that a look-up costs one memory access.
const _: () = assert!(size_of::<Slot>() == 64);

/// No reply was seen yet on a connection whose replies are not expected to pass here.
const NO_OUTPUT: u16 = 0x001;
/// The client's port is still to be learnt.
const NO_CLIENT_PORT: u16 = 0x002;
/// The entry came from another director.
const SYNCED: u16 = 0x004;
/// A helper reads its payload.
const HELPED: u16 = 0x008;
/// The entry is a template for one call.
const CALL: u16 = 0x010;
/// The entry counts as active at its server.
const ACTIVE: u16 = 0x020;
/// A packet may change its state, whatever the packet says.
const UNSETTLED: u16 = 0x040;
/// The entry goes by rules of its own: around the real servers, or from client port 0.
const ODD: u16 = 0x080;

/// No answer of the server's was seen yet, once the connection was established; of a template, on none of its
/// connections.
const UNANSWERED: u16 = 0x100;

/// Where flags and kind are in the word: twelve bits of flags, of which the upper three are free, then four bits of
/// kind.
const OWN: u32 = 48;
const KIND: u32 = 60;
/// Of a fast key, what says whose it is and that it says nothing new.
const ASKING: u64 = 0xff_ffff_ffff | (TcpFlags::TELLING as u64) << FLAGS;
/// Of a slot, what must be the same, and none of what makes a connection a matter for the long way.
const ANSWERING: u64 = ASKING | ((NO_CLIENT_PORT | HELPED | UNSETTLED | ODD) as u64) << OWN;
/// The bits of a slot that answers its server's packets: its own port and no virtual one, and NAT, which is 0.
const ANSWERING_SERVER: u64 = ANSWERING & !0xffff | 0xf << KIND;
const _: () = assert!(Kind::Nat as u8 == 0);

const NONE: u32 = u32::MAX;

/// How much longer an entry lives at a time that controls others.
pub(super) const POSTPONED_SECS: u32 = 60;

impl Slot {
    pub(crate) const FREE: Self = Self {
        ends: [0; 4],
        word: (TcpFlags::ACK.byte() as u64) << FLAGS | ((UNSETTLED | UNANSWERED) as u64) << OWN,
        server: NONE,
        deadline: Stamp::ZERO,
        in_packets: 0,
        link: NONE,
        children: 0,
        server_port: 0,
        sent_state: 0,
        state: 0,
    };

    /// An entry in its first state that nothing has happened to yet.
    #[inline]
    pub(crate) fn new(key: &Key, server: u32, server_port: u16, method: Method) -> Self {
        let mut slot = Self { server, server_port, ..Self::FREE };
        slot.set_key(key);
        slot.set_method(method);
        slot.set(UNSETTLED, !matches!(key.protocol(), Protocol::Udp));
        slot
    }

    /// The entry as it is after its first packet.
    #[inline]
    pub(crate) const fn moved_on(mut self, state: State, active: bool) -> Self {
        self.set_state(state);
        if active {
            self.set(ACTIVE, true);
        }
        Self { in_packets: 1, ..self }
    }

    /// The entry with what controls it.
    #[inline]
    pub(crate) const fn controlled_by(mut self, controller: Option<u32>) -> Self {
        self.set_controller(controller);
        self
    }

    pub(crate) const fn is_free(&self) -> bool {
        self.server == NONE
    }

    /// The free slot after this one.
    pub(crate) const fn next_free(&self) -> u32 {
        self.link
    }

    /// A free slot before `next`.
    pub(crate) const fn free_before(next: u32) -> Self {
        Self { link: next, ..Self::FREE }
    }

    /// The key that requests are found by.
    #[inline]
    pub(crate) const fn key(&self) -> Key {
        let [a, b, c, d] = self.ends;
        let (client, other) = if self.tag() & Key::V6 == 0 {
            ((a >> 32) as u128, a as u32 as u128)
        } else {
            ((a as u128) << 64 | b as u128, (c as u128) << 64 | d as u128)
        };
        Key { client, other, ports: self.ports(), tag: self.tag() }
    }

    /// Gives it another key; it has to be found by that one.
    pub(crate) const fn set_key(&mut self, key: &Key) {
        self.ends = ends(key);
        self.word = self.word >> FLAGS << FLAGS | (key.tag as u64) << TAG | key.ports as u64;
        self.note_oddity();
    }

    /// Whether packets with this request key belong to it.
    #[inline]
    pub(crate) fn answers(&self, key: &Key) -> bool {
        self.ports() == key.ports && self.tag() == key.tag && self.ends == ends(key)
    }

    /// Whether a NAT reply to this client and client port may belong to it; the server is still to be compared.
    #[inline]
    pub(crate) fn answers_client(&self, key: &Key) -> bool {
        let own = self.key();
        own.client == key.client
            && key.client_port() == own.client_port()
            && key.other_port() == self.server_port
            && key.tag == own.tag | Key::REPLY
            && self.is_nat()
    }

    /// Whether a packet is a client's that belongs to it, and changes nothing but counts and the deadline, unless its
    /// time is up.
    #[inline(always)]
    pub(crate) fn answers_fast<F: AddressFamily>(&self, key: &FastKey<F>) -> bool {
        // The tag tells the family, so equal words say that the addresses are of one.
        key.rest() & ASKING == self.word & ANSWERING && F::is_pair_of(key.pair(), &self.ends)
    }

    /// Whether a packet may be a NAT reply to its client, and changes nothing but counts and the deadline, unless its
    /// time is up; the server's address is still to be compared.
    #[inline(always)]
    pub(crate) fn answers_fast_reply<F: AddressFamily>(&self, key: &FastKey<F>) -> bool {
        let at_server = (Key::REPLY as u64) << TAG | self.server_port as u64;
        key.rest() & ASKING == self.word & ANSWERING_SERVER | at_server
            && F::is_client_of(key.pair(), &self.ends)
    }

    #[inline(always)]
    const fn ports(&self) -> u32 {
        self.word as u32
    }

    #[inline(always)]
    const fn tag(&self) -> u8 {
        (self.word >> TAG) as u8
    }

    #[inline(always)]
    const fn has(&self, flags: u16) -> bool {
        self.word & (flags as u64) << OWN != 0
    }

    const fn set(&mut self, flag: u16, on: bool) {
        let bit = (flag as u64) << OWN;
        if on {
            self.word |= bit;
        } else {
            self.word &= !bit;
        }
    }

    #[inline(always)]
    const fn kind(&self) -> Kind {
        match self.word >> KIND {
            0 => Kind::Nat,
            1 => Kind::Direct,
            2 => Kind::Local,
            3 => Kind::Tunnel,
            _ => Kind::Bypass,
        }
    }

    const fn set_method(&mut self, method: Method) {
        self.word = self.word << (u64::BITS - KIND) >> (u64::BITS - KIND) | (Kind::of(method) as u64) << KIND;
        self.set(NO_OUTPUT, !method.sees_replies());
        self.note_oddity();
    }

    const fn note_oddity(&mut self) {
        self.set(ODD, self.is_bypass() || self.ports() >> 16 == 0);
    }

    /// The virtual address and port of a connection of this family.
    #[inline(always)]
    pub(crate) fn virtual_end<F: AddressFamily>(&self) -> (F::Bits, u16) {
        (F::virtual_address(&self.ends), self.word as u16)
    }

    /// Whether its time is not up. Who controls others lives as long as they do.
    #[inline]
    pub(crate) const fn is_alive(&self, now: Stamp) -> bool {
        !self.deadline.reached(now) || self.children > 0
    }

    /// From the client to the virtual address.
    #[inline]
    pub(crate) const fn flow(&self) -> Flow {
        self.key().flow()
    }

    pub(crate) const fn protocol(&self) -> Protocol {
        self.key().protocol()
    }

    #[inline]
    pub(crate) const fn state(&self) -> State {
        State::from_number(self.key().protocol(), self.state)
    }

    pub(crate) const fn set_state(&mut self, state: State) {
        self.state = state.number();
        self.set(UNSETTLED, !matches!(state, State::Tcp(TcpState::Established) | State::Udp));
    }

    pub(crate) const fn is_template(&self) -> bool {
        self.tag() & Key::TEMPLATE != 0
    }

    /// Whether a template's connection was established, or answered under UDP.
    pub(crate) const fn is_assured(&self) -> bool {
        self.state != 0
    }

    pub(crate) const fn assure(&mut self, assured: bool) {
        self.state = assured as u8;
    }

    /// A template's time-out in seconds.
    pub(crate) const fn template_timeout(&self) -> u32 {
        self.link
    }

    pub(crate) const fn set_template_timeout(&mut self, secs: u32) {
        self.link = secs;
    }

    /// The entry that controls this one: a template, or the control connection of FTP data.
    pub(crate) const fn controller(&self) -> Option<u32> {
        if self.link == NONE || self.is_template() { None } else { Some(self.link) }
    }

    pub(crate) const fn set_controller(&mut self, id: Option<u32>) {
        self.link = match id {
            Some(id) => id,
            None => NONE,
        };
    }

    /// How many entries it controls.
    #[inline]
    pub(crate) const fn children(&self) -> u32 {
        self.children
    }

    pub(crate) const fn gain_child(&mut self) {
        self.children += 1;
    }

    pub(crate) const fn lose_child(&mut self) {
        self.children = self.children.saturating_sub(1);
    }

    /// Gives it another real server, and its method.
    pub(crate) const fn set_server(&mut self, server: u32, method: Method) {
        self.server = server;
        self.set_method(method);
    }

    /// How long it may idle, in seconds.
    pub(crate) const fn timeout(&self, timeouts: &TimeoutTable) -> u32 {
        if self.is_template() { self.template_timeout() } else { timeouts.of(self.state()) }
    }

    /// When its time is up, if no further packet comes.
    #[inline]
    pub(crate) const fn deadline(&self) -> Stamp {
        self.deadline
    }

    /// Starts its time again for a packet that has left its state as it was.
    #[inline]
    pub(crate) const fn renew(&mut self, now: Stamp, timeouts: &TimeoutTable) {
        self.deadline = now.plus_secs(self.timeout(timeouts));
    }

    /// Starts the time again of an established TCP connection or a UDP flow.
    #[inline(always)]
    pub(crate) const fn renew_settled(&mut self, renewal: &Renewal, is_tcp: bool) {
        self.deadline = if is_tcp { renewal.established } else { renewal.udp };
    }

    /// When its time was last started.
    pub(crate) const fn last_used(&self, timeouts: &TimeoutTable) -> Stamp {
        self.deadline.minus_secs(self.timeout(timeouts))
    }

    /// Gives an entry whose time is up more of it, as IPVS does with those that control others: 60 s, and a template
    /// has no more than that from now on.
    pub(crate) const fn postpone(&mut self, now: Stamp) {
        self.deadline = self.deadline.next_after(now, POSTPONED_SECS);
        self.note_postponement();
    }

    /// Gives an entry more time, 60 s again and again, for an entry under its control that ended at `when`. Where its
    /// own time comes in that very moment, there is nothing left to live for.
    pub(crate) const fn postpone_until(&mut self, when: Stamp) {
        self.deadline = self.deadline.first_from(when, POSTPONED_SECS);
        self.note_postponement();
    }

    const fn note_postponement(&mut self) {
        if self.is_template() {
            self.set_template_timeout(POSTPONED_SECS);
        }
    }

    #[inline(always)]
    pub(crate) const fn is_nat(&self) -> bool {
        self.word >> KIND == Kind::Nat as u64
    }

    #[inline(always)]
    pub(crate) const fn is_direct(&self) -> bool {
        self.word >> KIND == Kind::Direct as u64
    }

    #[inline(always)]
    pub(crate) const fn is_tunnel(&self) -> bool {
        self.word >> KIND == Kind::Tunnel as u64
    }

    /// Whether its packets go to their own destination.
    pub(crate) const fn is_bypass(&self) -> bool {
        matches!(self.kind(), Kind::Bypass)
    }

    /// Whether only the client's packets were seen so far, and nothing else was to be expected.
    #[inline]
    pub(crate) const fn is_one_way(&self) -> bool {
        self.has(NO_OUTPUT)
    }

    /// A packet of the server's came, whatever it was.
    #[inline]
    pub(crate) const fn saw_output(&mut self) {
        self.set(NO_OUTPUT, false);
    }

    /// A packet of the server's came that it sends on an established connection only.
    #[inline]
    pub(crate) const fn saw_answer(&mut self) {
        self.word &= !(((NO_OUTPUT | UNANSWERED) as u64) << OWN);
    }

    /// A packet of the server's came, before which the connection was in the phase `before`: is it one that the server
    /// sends on an established connection only?
    ///
    /// A client that nobody knows can have a server say something on a half-open connection, so that alone proves
    /// nothing. It may be a reset, the second step of the handshake, or an acknowledgement for a number that is out of
    /// the window (RFC 9293, section 3.10.7.4). After the last of these the server offers the handshake once more, and
    /// what looked like an answer was none.
    pub(crate) const fn weigh_answer(&mut self, before: Phase, content: Content) {
        let established = !matches!(before, Phase::HalfOpen) || self.state().is_established();
        match content {
            Content::Tcp(flags) if flags.contains(TcpFlags::RST) => {}
            Content::Tcp(flags) if flags.contains(TcpFlags::SYN) => self.set(UNANSWERED, true),
            Content::Sctp(Chunk::Init | Chunk::InitAck) => self.set(UNANSWERED, true),
            Content::Sctp(Chunk::Abort) | Content::Error | Content::TunnelError => {}
            Content::Tcp(_) | Content::Sctp(_) if established => self.saw_answer(),
            Content::Udp => self.saw_answer(),
            Content::Tcp(_) | Content::Sctp(_) | Content::Fragment | Content::Ipsec => {}
        }
    }

    /// Whether its server answered once it was established.
    pub(crate) const fn is_answered(&self) -> bool {
        !self.has(UNANSWERED)
    }

    /// Whether its client is known to be who it says: its server took up what only that client can have been told.
    /// Datagrams prove nothing, since a server answers whoever asks.
    pub(crate) const fn is_proven(&self) -> bool {
        self.is_answered() && !matches!(self.protocol(), Protocol::Udp) && !self.is_template()
    }

    /// Of a template: one of its connections has shown that it is somebody's.
    pub(crate) const fn vouch_for_template(&mut self) {
        if self.is_template() {
            self.set(UNANSWERED, false);
        }
    }

    /// Whether the client's port is still to be learnt.
    pub(crate) const fn lacks_client_port(&self) -> bool {
        self.has(NO_CLIENT_PORT)
    }

    pub(crate) const fn set_lacks_client_port(&mut self, lacks: bool) {
        self.set(NO_CLIENT_PORT, lacks);
    }

    /// Whether it came from another director.
    pub(crate) const fn is_synced(&self) -> bool {
        self.has(SYNCED)
    }

    pub(crate) const fn set_synced(&mut self) {
        self.set(SYNCED, true);
    }

    /// Whether there is something about it that most connections do not have.
    #[inline]
    pub(crate) const fn is_unusual(&self) -> bool {
        self.has(NO_CLIENT_PORT | HELPED) || self.is_bypass()
    }

    /// Whether a helper reads its payload.
    #[inline]
    pub(crate) const fn is_helped(&self) -> bool {
        self.has(HELPED)
    }

    pub(crate) const fn set_helped(&mut self) {
        self.set(HELPED, true);
    }

    /// Whether it is a template for one call.
    pub(crate) const fn is_call(&self) -> bool {
        self.has(CALL)
    }

    pub(crate) const fn set_call(&mut self, call: bool) {
        self.set(CALL, call);
    }

    /// Whether its server counts it as active.
    pub(crate) const fn is_active(&self) -> bool {
        self.has(ACTIVE)
    }

    pub(crate) const fn set_active(&mut self, active: bool) {
        self.set(ACTIVE, active);
    }

    /// The connection's own method, with the tunnel options that its server has now.
    #[inline]
    pub(crate) const fn method(&self, of_server: Method) -> Method {
        match self.kind() {
            Kind::Bypass => Method::Bypass,
            Kind::Direct => Method::Direct,
            Kind::Local => Method::Local,
            Kind::Nat => Method::Nat,
            Kind::Tunnel => match of_server {
                Method::Tunnel(tunnel) => Method::Tunnel(tunnel),
                Method::Bypass | Method::Direct | Method::Local | Method::Nat => Method::Tunnel(Tunnel::IpIp),
            },
        }
    }
}

/// The addresses of a key as a slot has them.
#[inline]
const fn ends(key: &Key) -> [u64; 4] {
    if key.tag & Key::V6 == 0 {
        [(key.client as u64) << 32 | key.other as u64, 0, 0, 0]
    } else {
        [(key.client >> 64) as u64, key.client as u64, (key.other >> 64) as u64, key.other as u64]
    }
}

/// A forwarding method without its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Nat,
    Direct,
    Local,
    Tunnel,
    Bypass,
}

impl Kind {
    const fn of(method: Method) -> Self {
        match method {
            Method::Bypass => Self::Bypass,
            Method::Direct => Self::Direct,
            Method::Local => Self::Local,
            Method::Nat => Self::Nat,
            Method::Tunnel(_) => Self::Tunnel,
        }
    }
}

/// What is rarely needed of an entry, beside the cache line that every packet touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The firewall mark of the first packet.
    pub(crate) mark: u32,
    /// Until when a backup keeps what it was sent, and in the low two bits how often that was repeated.
    pub(crate) sync_end: u32,
}

impl Note {
    pub(crate) const EMPTY: Self = Self { mark: 0, sync_end: 0 };
}
