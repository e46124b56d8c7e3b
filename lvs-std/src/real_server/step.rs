//! A step, and how a person would type it.

use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A thing that a real server has and an ordinary machine has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Step {
    /// A tunnel interface of the kernel is there and up.
    Link {
        /// The interface's name: that of the interface which the kernel's module brings with it.
        name: String,
        /// The tunnel's kind.
        tunnel: Tunnel,
    },
    /// A setting of IPv4 of an interface, or of `all`, has a value.
    Sysctl {
        /// The interface, or `all`.
        interface: String,
        /// The setting's name, such as `arp_ignore`.
        name: String,
        /// The value.
        value: String,
    },
    /// An interface has an address alone (/32 or /128), which the machine uses as a source for nothing that it begins.
    Address {
        /// The interface.
        interface: String,
        /// The address.
        address: IpAddr,
    },
    /// A router is the default route before all others.
    Route {
        /// The router.
        gateway: IpAddr,
        /// The interface to it; found by the kernel if there is none.
        interface: Option<String>,
    },
}

/// A kind of tunnel that the kernel takes packets out of, whoever sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "each kind needs its words")]
pub enum Tunnel {
    /// IPv4 in IPv4 (RFC 2003).
    Ipip,
    /// IPv6 in IPv6 (RFC 2473).
    Ip6tnl,
    /// GRE over IPv4 (RFC 2784).
    Gre,
    /// GRE over IPv6.
    Ip6gre,
}

impl Tunnel {
    /// The interface that the kernel's module makes when it is loaded, which takes what no other tunnel takes.
    #[must_use]
    pub const fn device(self) -> &'static str {
        match self {
            Self::Ipip => "tunl0",
            Self::Ip6tnl => "ip6tnl0",
            Self::Gre => "gre0",
            Self::Ip6gre => "ip6gre0",
        }
    }

    /// The kernel's module.
    #[must_use]
    pub const fn module(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Ip6tnl => "ip6_tunnel",
            Self::Gre => "ip_gre",
            Self::Ip6gre => "ip6_gre",
        }
    }

    /// The kind, as rtnetlink and ip-link(8) name it.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Ip6tnl => "ip6tnl",
            Self::Gre => "gre",
            Self::Ip6gre => "ip6gre",
        }
    }
}

impl Step {
    /// The metric of a default route that stands before all others of its family. IPv6 takes 0 for "none given".
    pub(super) const fn metric(gateway: IpAddr) -> u32 {
        if gateway.is_ipv4() { 0 } else { 1 }
    }

    /// A setting of an interface, or of `all`, below `net.ipv4.conf`.
    pub(crate) fn sysctl(interface: &str, name: &str, value: &str) -> Self {
        let [interface, name, value] = [interface, name, value].map(str::to_owned);
        Self::Sysctl { interface, name, value }
    }

    /// What a sysctl is called, as sysctl(8) takes it: a dot in an interface's name is a slash there.
    #[must_use]
    pub fn setting(&self) -> Option<(String, &str)> {
        let Self::Sysctl { interface, name, value } = self else { return None };
        Some((format!("net.ipv4.conf.{}.{name}", interface.replace('.', "/")), value))
    }

    /// The file of a setting.
    pub(super) fn file(interface: &str, name: &str) -> String {
        format!("/proc/sys/net/ipv4/conf/{interface}/{name}")
    }

    /// The commands that take this step.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        match self {
            Self::Link { name, tunnel } => {
                vec![format!("modprobe {}", tunnel.module()), format!("ip link set {name} up")]
            }
            Self::Sysctl { .. } => {
                self.setting().map(|(name, value)| format!("sysctl -w {name}={value}")).into_iter().collect()
            }
            Self::Address { interface, address: IpAddr::V4(address) } => {
                vec![format!("ip address replace {address}/32 dev {interface} scope host")]
            }
            Self::Address { interface, address: IpAddr::V6(address) } => {
                vec![format!("ip -6 address replace {address}/128 dev {interface} nodad preferred_lft 0")]
            }
            Self::Route { gateway, interface } => {
                let by = interface.as_ref().map(|name| format!(" dev {name}")).unwrap_or_default();
                vec![match gateway {
                    IpAddr::V4(gateway) => format!("ip route replace default via {gateway}{by}"),
                    IpAddr::V6(gateway) => {
                        format!("ip -6 route replace default via {gateway}{by} metric 1")
                    }
                }]
            }
        }
    }
}

/// The step's last command: what it comes to.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.commands().last().map_or("", String::as_str))
    }
}
