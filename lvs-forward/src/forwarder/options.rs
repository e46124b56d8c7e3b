//! How a forwarder behaves.

use crate::frame::PortId;
use crate::host::MAX_PORTS;
use crate::reason::PassReason;

/// How a [`Forwarder`](crate::Forwarder) behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Whether IPv4 packets keep their "don't fragment" in a tunnel, and are answered with "fragmentation needed" when
    /// they do not fit. Default true, as IPVS. Without it they are fragmented in the tunnel, and servers have to put
    /// them together.
    pub pmtu_disc: bool,
    /// Whether packets that are neither for an own address nor of a connection are routed, as Linux's `ip_forward`.
    /// Default false: they are [passed](crate::Outcome::Pass). A director that is its servers' gateway needs it for the
    /// traffic of their own; then it forwards between all its ports.
    pub ip_forward: bool,
    /// The port behind which this machine's own stack is, such as a TUN device's: what comes from there is routed,
    /// whatever `ip_forward` says. Default none.
    pub local: Option<PortId>,
    /// What goes to the local port. Default [`LocalTraffic::All`].
    pub local_traffic: LocalTraffic,
    /// Whether TCP and UDP packets to own addresses that the director leaves alone are refused, as a host does that
    /// runs nothing there: by a reset, or port unreachable. Default false: they are [passed](crate::Outcome::Pass), for
    /// a local stack to answer. Meant for a director without one, whose clients would otherwise wait in vain: for a
    /// closed port, and for a connection that is not known any more.
    ///
    /// Unless packets are routed ([`ip_forward`](Self::ip_forward)), a segment that a real server of NAT sends on a
    /// connection that is not known is answered by a reset too. A router cannot tell it from one of a connection that
    /// goes around the director.
    pub reject: bool,
    /// Ports at which this machine's own stack has the same link-layer address: it sees the same frames and answers for
    /// its own addresses, so that `reject` does nothing for those there. Which addresses they are is said by
    /// [`Host::set_machine_addresses`](crate::host::Host::set_machine_addresses); until then `reject` does nothing at
    /// these ports. Default none.
    pub shared: PortSet,
    /// Whether packets with a firewall mark are requests whatever address they are for, as under Linux's policy routing
    /// of a mark to the local host: a service by mark can then balance packets that only pass here (transparent
    /// caches), and what [`cache_bypass`](lvs_core::config::Tuning::cache_bypass) lets through goes on to its own
    /// destination. Default false.
    pub capture_marked: bool,
    /// How many ICMP errors and resets are sent per second at most, with bursts of a twentieth of that. Default 1000,
    /// as Linux; 0 stands for any number. A higher limit lets a flood of bad packets make a flood of answers.
    pub icmp_rate: u32,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pmtu_disc: true,
            ip_forward: false,
            local: None,
            local_traffic: LocalTraffic::All,
            reject: false,
            shared: PortSet::NONE,
            capture_marked: false,
            icmp_rate: 1_000,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// What goes to the [local port](Options::local) of the packets that a forwarder passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name each")]
pub enum LocalTraffic {
    /// Packets to all addresses of the host that are no service's, and to real servers that are this machine.
    #[default]
    All,
    /// Packets to real servers that are this machine alone. For a machine whose stack sees, or must not see, the rest.
    Servers,
}

impl LocalTraffic {
    /// Whether what was passed for this reason goes to the local port.
    pub(crate) const fn takes(self, reason: PassReason) -> bool {
        matches!((self, reason), (Self::All, _) | (Self::Servers, PassReason::LocalServer))
    }
}

/// A set of ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSet(u16);

impl PortSet {
    /// No ports.
    pub const NONE: Self = Self(0);

    /// The set with one more port. A port that no host can have changes nothing.
    #[must_use]
    pub const fn with(self, port: PortId) -> Self {
        Self(self.0 | Self::bit(port))
    }

    /// Whether the port is one of them.
    #[must_use]
    pub const fn contains(self, port: PortId) -> bool {
        self.0 & Self::bit(port) != 0
    }

    const fn bit(port: PortId) -> u16 {
        if (port.0 as usize) < MAX_PORTS { 1 << port.0 } else { 0 }
    }
}

const _: () = assert!(MAX_PORTS <= u16::BITS as usize);
