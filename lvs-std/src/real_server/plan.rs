//! What is wanted of a real server, and the steps that follow.

use core::fmt;
use core::net::IpAddr;

use lvs_core::Family;

use super::step::{Step, Tunnel};
use crate::sys::rtnetlink::whole;

/// How the director hands packets to the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are the methods")]
pub enum Mode {
    /// DR: on the same link, with the virtual address as destination.
    Direct,
    /// TUN: in a tunnel.
    Tunnel,
    /// NAT: with the server's own address as destination.
    Nat,
}

/// Who takes packets out of their tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unwrap {
    /// The kernel, from IPIP.
    Ipip,
    /// The kernel, from GRE.
    Gre,
    /// `director decap`, from each encapsulation that the director has, with these addresses as ends of the tunnels.
    Director(Vec<(IpAddr, u8)>),
}

/// What a real server is to be.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it is filled in by whoever asks")]
pub struct Wanted {
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// How packets come.
    pub mode: Mode,
    /// The interface by which they come. `None` for any: then the settings of ARP are those of all interfaces.
    pub interface: Option<String>,
    /// The default routes: by NAT the director, otherwise a router to the clients. By NAT there must be one for each
    /// family of the virtual addresses.
    pub gateways: Vec<IpAddr>,
    /// Who unwraps, in the mode [`Tunnel`](Mode::Tunnel).
    pub unwrap: Unwrap,
}

impl Wanted {
    /// A server for these addresses that changes no route, and whose kernel unwraps IPIP by TUN.
    #[must_use]
    pub const fn new(mode: Mode, addresses: Vec<IpAddr>) -> Self {
        Self { addresses, mode, interface: None, gateways: Vec::new(), unwrap: Unwrap::Ipip }
    }
}

/// The steps that make a machine the real server that is wanted, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// The interface by which the director's packets come, if it matters.
    pub interface: Option<String>,
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// The program that must run as well, with its arguments: `director decap`.
    pub beside: Option<Vec<String>>,
}

impl Plan {
    /// Makes the plan.
    ///
    /// # Errors
    /// [`PlanError`] when what is wanted makes no sense.
    pub fn new(wanted: &Wanted) -> Result<Self, PlanError> {
        let Wanted { addresses, mode, interface, gateways, unwrap } = wanted;
        if addresses.is_empty() {
            return Err(PlanError::NoAddress);
        }
        let improper =
            |address: &&IpAddr| address.is_unspecified() || address.is_multicast() || address.is_loopback();
        if let Some(address) = addresses.iter().chain(gateways).find(improper) {
            return Err(PlanError::Improper(*address));
        }
        if let Some(name) = interface
            && !is_name(name)
        {
            return Err(PlanError::Name(name.clone()));
        }
        for family in [Family::V4, Family::V6] {
            let mut of_family = gateways.iter().filter(|gateway| Family::of(**gateway) == family);
            if let (Some(first), Some(second)) = (of_family.next(), of_family.next()) {
                return Err(PlanError::TwoGateways(*first, *second));
            }
        }
        let mut steps = Vec::new();
        let mut beside = None;
        match mode {
            Mode::Direct => {
                hide(interface.as_deref(), addresses, &mut steps);
                steps.extend(addresses.iter().map(|address| on("lo", *address)));
            }
            Mode::Tunnel => match unwrap {
                Unwrap::Ipip => by_kernel(wanted, Tunnel::Ipip, Tunnel::Ip6tnl, &mut steps),
                Unwrap::Gre => by_kernel(wanted, Tunnel::Gre, Tunnel::Ip6gre, &mut steps),
                Unwrap::Director(ends) => {
                    let Some(interface) = interface else { return Err(PlanError::NoInterface) };
                    if ends.is_empty() {
                        return Err(PlanError::NoTunnelAddress);
                    }
                    let wrong =
                        |(end, length): &&(IpAddr, u8)| addresses.contains(end) || *length > whole(*end);
                    if let Some((end, _)) = ends.iter().find(wrong) {
                        return Err(PlanError::Improper(*end));
                    }
                    hide(Some(interface), addresses, &mut steps);
                    steps.extend(addresses.iter().map(|address| on("lo", *address)));
                    let mut words =
                        ["director", "decap", "--interface", interface].map(str::to_owned).to_vec();
                    for (end, length) in ends {
                        words.extend(["--address".to_owned(), format!("{end}/{length}")]);
                    }
                    beside = Some(words);
                }
            },
            Mode::Nat => {
                let led = |address: &&IpAddr| {
                    gateways.iter().any(|gateway| Family::of(*gateway) == Family::of(**address))
                };
                if let Some(address) = addresses.iter().find(|address| !led(address)) {
                    return Err(PlanError::NoGateway(*address));
                }
            }
        }
        let route = |gateway: &IpAddr| Step::Route { gateway: *gateway, interface: interface.clone() };
        steps.extend(gateways.iter().map(route));
        dedup(&mut steps);
        Ok(Self { steps, interface: interface.clone(), addresses: addresses.clone(), beside })
    }

    /// The commands of all steps, and the program that must run beside as the last one.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let beside = self.beside.iter().map(|words| words.join(" "));
        self.steps.iter().flat_map(Step::commands).chain(beside).collect()
    }
}

/// ARP is to be hidden before the address is there: a single answer would lead a router's packets past the director.
/// IPv6 has nothing to hide: the kernel answers for an address on the interface that has it.
fn hide(interface: Option<&str>, addresses: &[IpAddr], steps: &mut Vec<Step>) {
    if addresses.iter().any(IpAddr::is_ipv4) {
        for (name, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
            steps.push(Step::sysctl(interface.unwrap_or("all"), name, value));
        }
    }
}

fn by_kernel(wanted: &Wanted, v4: Tunnel, v6: Tunnel, steps: &mut Vec<Step>) {
    let tunnel = |address: IpAddr| if address.is_ipv4() { v4 } else { v6 };
    // Tunnels come first: whether the kernel has them shows only when one is made.
    for address in &wanted.addresses {
        let tunnel = tunnel(*address);
        steps.push(Step::Link { name: tunnel.device().to_owned(), tunnel });
    }
    hide(wanted.interface.as_deref(), &wanted.addresses, steps);
    if wanted.addresses.iter().any(IpAddr::is_ipv4) {
        // No client is behind the tunnel. 2 asks only for some way back to it, and wins over 1 for `all`.
        steps.push(Step::sysctl(v4.device(), "rp_filter", "2"));
    }
    steps.extend(wanted.addresses.iter().map(|address| on(tunnel(*address).device(), *address)));
}

fn on(interface: &str, address: IpAddr) -> Step {
    Step::Address { interface: interface.to_owned(), address }
}

fn dedup(steps: &mut Vec<Step>) {
    let mut seen: Vec<Step> = Vec::new();
    for step in steps.drain(..) {
        if !seen.contains(&step) {
            seen.push(step);
        }
    }
    *steps = seen;
}

/// As the kernel takes it (`dev_valid_name`), and nothing that a shell or a file of settings would read as more.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte);
    !name.is_empty() && name.len() < 16 && name != "." && name != ".." && name.bytes().all(plain)
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// No virtual address.
    NoAddress,
    /// An address that no server of a director has.
    Improper(IpAddr),
    /// A name that no interface has.
    Name(String),
    /// Two default routes of one family.
    TwoGateways(IpAddr, IpAddr),
    /// NAT without a way back by the director for this virtual address.
    NoGateway(IpAddr),
    /// `director decap` without an interface.
    NoInterface,
    /// `director decap` without an address for the tunnel's end.
    NoTunnelAddress,
    /// A route that is to last, without the interface whose file it belongs to.
    RouteWithoutInterface,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no virtual address is given: --vip ADDRESS"),
            Self::Improper(address) => {
                let role = "it is no address of a service, a tunnel's end or a router, or has a wrong prefix";
                write!(f, "{address} cannot serve here: {role}")
            }
            Self::Name(name) => write!(f, "`{name}` is no name of an interface"),
            Self::TwoGateways(first, second) => {
                write!(f, "{first} and {second} cannot both be the default route: give one for each family")
            }
            Self::NoGateway(address) => write!(
                f,
                "by NAT, what the server answers must go back by the director: give its address in the servers' \
                 network as --gateway, of the family of {address}"
            ),
            Self::NoInterface => {
                f.write_str("`director decap` needs the interface by which tunnels come: --interface IF")
            }
            Self::NoTunnelAddress => f.write_str(
                "`director decap` needs an address that this machine's kernel does not have: --tunnel-address \
                 ADDRESS/LENGTH. The director's configuration names the server by it",
            ),
            Self::RouteWithoutInterface => {
                f.write_str("a route that lasts belongs to an interface's file: give it by --interface IF")
            }
        }
    }
}

impl core::error::Error for PlanError {}
