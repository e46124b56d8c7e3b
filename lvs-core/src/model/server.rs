//! Real servers: those who do the work.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::model::error::WeightError;
use crate::model::flow::Family;
use crate::model::id::{ServerId, ServerRef, ServiceId};
use crate::model::key::ServiceKey;
use crate::model::meter::Meter;
use crate::model::method::{Method, Tunnel};
use crate::model::news::Pending;
use crate::model::standing::{HeldLink, Latency, Standing};
use crate::model::tick::Tick;
use crate::model::traffic::Traffic;

/// A real server's share of new connections relative to the others: 0 to 2^31 - 1. 0 quiesces: existing connections
/// go on, new ones go elsewhere.
///
/// ```
/// use lvs_core::Weight;
/// assert_eq!(Weight::try_from(3_u32), "3".parse().map_err(|_| lvs_core::error::WeightError::TooLarge));
/// assert!(Weight::try_from(1_u32 << 31).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// No new connections.
    pub const QUIESCED: Self = Self(0);
    /// The default.
    pub const ONE: Self = Self(1);

    /// The weight, unless it is above 2^31 - 1 (`ERANGE` in IPVS).
    #[must_use]
    pub const fn new(weight: u32) -> Option<Self> {
        if weight <= i32::MAX as u32 { Some(Self(weight)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    /// [`Weight::ONE`].
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<u32> for Weight {
    type Error = WeightError;

    fn try_from(weight: u32) -> Result<Self, WeightError> {
        Self::new(weight).ok_or(WeightError::TooLarge)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u16> for Weight {
    fn from(weight: u16) -> Self {
        Self(u32::from(weight))
    }
}

/// How a real server is reached and how much it takes.
///
/// ```
/// use lvs_core::{Method, ServerConfig, Weight};
/// let server = ServerConfig::new("10.0.1.11:8080".parse()?, Method::Nat)
///     .with_weight(Weight::from(3))
///     .with_thresholds(1_000, 800);
/// assert_eq!(server.weight.get(), 3);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct ServerConfig {
    /// Address and port of the server; scope and flow label of an IPv6 address do not matter. Port 0 keeps the port
    /// that the client asked for. DR and TUN never change the port.
    pub address: SocketAddr,
    /// How packets reach it. A change applies to new connections; existing ones keep theirs.
    pub method: Method,
    /// The share of new connections that the server gets. Default 1.
    #[cfg_attr(feature = "serde", serde(default))]
    pub weight: Weight,
    /// Upper threshold in connections: with this many it gets no new ones (ipvsadm `-x`). 0, the default, for none.
    #[cfg_attr(feature = "serde", serde(default))]
    pub upper: u32,
    /// Lower threshold in connections: an overloaded server is scheduled again below it (ipvsadm `-y`). 0, the
    /// default, stands for three quarters of the upper one, rounded up.
    #[cfg_attr(feature = "serde", serde(default))]
    pub lower: u32,
    /// Whether it is to lose all its clients in time: with weight 0, persistence no longer sends clients to it either,
    /// as [`expire_quiescent_template`](crate::config::Tuning::expire_quiescent_template) does for all servers. Default
    /// false.
    #[cfg_attr(feature = "serde", serde(default))]
    pub draining: bool,
    /// The embedder's own mark of the server, which the director does not look at: an index into a table, say. Default
    /// 0.
    #[cfg_attr(feature = "serde", serde(default))]
    pub tag: u64,
}

impl ServerConfig {
    /// A server of weight 1 without thresholds.
    #[must_use]
    pub const fn new(address: SocketAddr, method: Method) -> Self {
        Self { address, method, weight: Weight::ONE, upper: 0, lower: 0, draining: false, tag: 0 }
    }

    /// Gives the server this weight.
    #[must_use]
    pub const fn with_weight(mut self, weight: Weight) -> Self {
        self.weight = weight;
        self
    }

    /// Lets the server get no new connections at all: weight 0, and persistence sends nobody to it.
    #[must_use]
    pub const fn with_draining(mut self) -> Self {
        (self.weight, self.draining) = (Weight::QUIESCED, true);
        self
    }

    /// Gives the server a mark of the embedder's own.
    #[must_use]
    pub const fn with_tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// Sets both thresholds, in connections.
    #[must_use]
    pub const fn with_thresholds(mut self, upper: u32, lower: u32) -> Self {
        self.upper = upper;
        self.lower = lower;
        self
    }
}

/// A real server in a store.
#[derive(Clone, Debug)]
pub struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) method: Method,
    pub(crate) active: u32,
    pub(crate) total: u32,
    /// Templates that send clients here.
    pub(crate) persistent: u32,
    pub(crate) upper: u32,
    pub(crate) lower: u32,
    pub(crate) overloaded: bool,
    pub(crate) draining: bool,
    pub(crate) life: Life,
    /// The server behind it in its service's chain; without a service, in the chain of those of its hash.
    pub(crate) next: Option<ServerId>,
    /// The first server without a service whose hash leads to this place, whatever is in the place itself.
    pub(crate) head: Option<ServerId>,
    /// The server of a service behind it, and the one before it, in the chain of those whose address leads to the same
    /// place.
    pub(crate) next_at: Option<ServerId>,
    pub(crate) before_at: Option<ServerId>,
    /// The first server of a service whose address leads to this place, whatever is in the place itself.
    pub(crate) head_at: Option<ServerId>,
    pub(crate) service: ServiceId,
    /// Key of the service that it belongs or belonged to; a removed server is found again by it.
    pub(crate) key: ServiceKey,
    pub(crate) meter: Meter,
    /// Room for a scheduler that builds a table.
    pub(crate) scratch: [u32; 3],
    /// Entries of its scheduler's cache that name it.
    pub(crate) holds: u32,
    /// How many servers had this place before.
    pub(crate) generation: u32,
    /// What the embedder says of it.
    pub(crate) load: u32,
    /// The embedder's own mark.
    pub(crate) tag: u64,
    pub(crate) pending: Pending,
    pub(crate) latency: Latency,
    pub(crate) standing: Standing,
    pub(crate) held: HeldLink,
}

/// Where a server's place in the store is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Free for another server.
    Vacant,
    /// In a service.
    Available,
    /// Removed from its service, but connections may refer to it (IPVS's trash). `idle_since`: when a check first
    /// found it without any.
    Removed { idle_since: Option<Tick> },
    /// No server: it lends its address to connections that have none, bypassed ones and those of another director
    /// whose server is not known here. It goes with the last of them.
    Standin,
}

impl Server {
    pub(crate) const VACANT: Self = Self {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        method: Method::Nat,
        active: 0,
        total: 0,
        persistent: 0,
        upper: 0,
        lower: 0,
        overloaded: false,
        draining: false,
        life: Life::Vacant,
        next: None,
        head: None,
        next_at: None,
        before_at: None,
        head_at: None,
        service: ServiceId(u32::MAX),
        key: ServiceKey::Mark { family: Family::V4, mark: 0 },
        meter: Meter::ZERO,
        scratch: [0; 3],
        holds: 0,
        generation: 0,
        load: 0,
        tag: 0,
        pending: Pending::NOTHING,
        latency: Latency::NEW,
        standing: Standing::new(0),
        held: HeldLink::NONE,
    };

    /// Gives the place back for another server.
    pub(crate) fn vacate(&mut self) {
        // Counted on, so that caches which name the place by both numbers notice the change.
        let Self { generation, head, head_at, held, .. } = *self;
        let (generation, pending) = (generation.wrapping_add(1), self.pending.of_another());
        *self = Self { generation, head, head_at, held, pending, ..Self::VACANT };
    }

    /// Address and port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The forwarding method of new connections.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// The weight that schedulers go by: 0 is quiesced, or [held back](Self::held_back_until) by failures.
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.standing.counted()
    }

    /// The last weight other than 0 that was configured (0 if there was none).
    #[must_use]
    pub const fn last_weight(&self) -> u32 {
        self.standing.last_weight()
    }

    /// Connections in active states: handshaking and established TCP, established SCTP.
    #[must_use]
    pub const fn active(&self) -> u32 {
        self.active
    }

    /// Connections in other states: closing ones, and all of UDP.
    #[must_use]
    pub const fn inactive(&self) -> u32 {
        self.total.saturating_sub(self.active)
    }

    /// Templates of persistence that send clients to it.
    #[must_use]
    pub const fn persistent(&self) -> u32 {
        self.persistent
    }

    /// The upper threshold, 0 for none.
    #[must_use]
    pub const fn upper(&self) -> u32 {
        self.upper
    }

    /// The lower threshold as it was configured, 0 for the default.
    #[must_use]
    pub const fn lower(&self) -> u32 {
        self.lower
    }

    /// Whether its upper threshold was reached and its lower one not yet passed again.
    #[must_use]
    pub const fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// Whether it is in a service (a removed one that still has connections is not).
    #[must_use]
    pub const fn is_available(&self) -> bool {
        matches!(self.life, Life::Available)
    }

    /// Whether it is in the service at this place.
    pub(crate) const fn serves(&self, service: u32) -> bool {
        self.is_available() && self.service.0 == service
    }

    /// Whether it was told to get no new connections and has none left. Who is held back by failures was not told.
    pub(crate) const fn is_drained(&self) -> bool {
        self.total == 0 && (self.standing.configured() == 0 || self.is_removed()) && !self.is_standin()
    }

    /// Whether it was removed from its service.
    #[inline]
    pub(crate) const fn is_removed(&self) -> bool {
        matches!(self.life, Life::Removed { .. })
    }

    /// Whether there is no server in truth.
    #[inline]
    pub(crate) const fn is_standin(&self) -> bool {
        matches!(self.life, Life::Standin)
    }

    /// Whether an entry of the table refers to it.
    pub(crate) const fn is_referred_to(&self) -> bool {
        self.total > 0 || self.persistent > 0
    }

    /// Whether schedulers may choose it: not overloaded, not held back by failures, and of a weight above 0.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        !self.overloaded && self.weight() > 0
    }

    /// The embedder's own mark, [`ServerConfig::tag`].
    #[must_use]
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    /// How many servers had this place of the store before: with it, an id names one server for ever. One that was
    /// removed and comes back to its place is the same server.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// What [`set_load`](crate::Director::set_load) said last, 0 at first.
    #[must_use]
    pub const fn load(&self) -> u32 {
        self.load
    }

    /// The average of the latencies that were [observed](crate::Director::observe), in microseconds, as of `now`; 0
    /// while none was. It loses half of its height each ten seconds without one, down to 1.
    #[must_use]
    pub fn latency(&self, now: Tick) -> u64 {
        self.latency.micros(now)
    }

    /// Failures in a row, up to now or since the server came back.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.standing.failures()
    }

    /// Until when failures hold it back at least; `None` if they do not. Its [weight](Self::weight) is 0 meanwhile.
    #[must_use]
    pub const fn held_back_until(&self) -> Option<Tick> {
        self.standing.held_until()
    }

    /// Whether failures hold it back.
    pub(crate) const fn is_held_back(&self) -> bool {
        self.standing.held_until().is_some()
    }

    /// What went to it and came from it.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.meter.live()
    }

    /// The server's traffic as `ipvsadm` shows it, up to two seconds late, and its rates.
    #[must_use]
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// IPVS's measure of load for `lc` and `wlc`: active connections count 257 times as much as inactive ones.
    #[must_use]
    pub const fn overhead(&self) -> i32 {
        (self.active as i32).wrapping_shl(8).wrapping_add(self.total as i32)
    }

    /// One more connection. Says whether the server became overloaded by it.
    pub(crate) fn bind(&mut self) -> bool {
        self.total += 1;
        self.total == self.upper && self.update_overload(Mode::Bound)
    }

    /// One connection less.
    pub(crate) fn unbind(&mut self, was_active: bool) -> bool {
        let before = self.total;
        self.total = self.total.saturating_sub(1);
        if was_active {
            self.active = self.active.saturating_sub(1);
        }
        // Only on passing the mark: anywhere else the flag cannot change, and this is done for every connection.
        before == self.low_value() && self.update_overload(Mode::Unbound)
    }

    /// Sets the thresholds as an add or edit does.
    pub(crate) fn set_thresholds(&mut self, upper: u32, lower: u32) -> bool {
        if (self.upper, self.lower) == (upper, lower) {
            return false;
        }
        (self.upper, self.lower) = (upper, lower);
        self.update_overload(Mode::Edited)
    }

    /// The count below which an overloaded server is relieved.
    const fn low_value(&self) -> u32 {
        if self.lower != 0 { self.lower } else { self.upper - (self.upper >> 2) }
    }

    /// Sets or clears the flag by hysteresis between both thresholds (specification 5.3). Says whether it changed.
    fn update_overload(&mut self, mode: Mode) -> bool {
        let was = self.overloaded;
        let (set_at, keep_at) = match mode {
            Mode::Bound => (self.low_value(), self.low_value()),
            Mode::Unbound => (self.upper, self.upper),
            Mode::Edited => (self.upper, self.low_value()),
        };
        if self.upper == 0 {
            self.overloaded = false;
        } else if self.total >= set_at {
            self.overloaded = true;
        } else if self.total < keep_at {
            self.overloaded = false;
        }
        self.overloaded != was
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Server {
    /// What a listing shows of it.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut out = serializer.serialize_struct("Server", 12)?;
        out.serialize_field("address", &self.address)?;
        out.serialize_field("method", &self.method)?;
        out.serialize_field("weight", &self.weight())?;
        out.serialize_field("upper", &self.upper)?;
        out.serialize_field("lower", &self.lower)?;
        out.serialize_field("tag", &self.tag)?;
        out.serialize_field("generation", &self.generation)?;
        out.serialize_field("overloaded", &self.overloaded)?;
        out.serialize_field("active", &self.active)?;
        out.serialize_field("inactive", &self.inactive())?;
        out.serialize_field("persistent", &self.persistent)?;
        out.serialize_field("traffic", &self.traffic())?;
        out.end()
    }
}

/// On which occasion the overload flag is looked at.
#[derive(Clone, Copy)]
enum Mode {
    Bound,
    Unbound,
    Edited,
}

/// The place of the server that is meant, unless another one has it by now.
pub(crate) fn meant(servers: &[Server], server: ServerRef) -> Option<ServerId> {
    let id = server.id();
    let own = servers.get(id.0 as usize)?;
    server.generation().is_none_or(|generation| generation == own.generation).then_some(id)
}

/// Whether a method's options make sense on their own.
pub(crate) const fn has_tunnel_port(method: Method) -> bool {
    !matches!(method, Method::Tunnel(Tunnel::Gue { port: 0, .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_active_connection_weighs_257_inactive_ones() {
        let load = |active, total| Server { active, total, ..Server::VACANT }.overhead();
        assert_eq!(load(1, 1), load(0, 257));
        assert_eq!(load(2, 5), 2 * 256 + 5);
    }
}
