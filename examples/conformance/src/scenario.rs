//! The format of scenarios: what was put into a director, and what it did.

use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lvs_forward::host::{MacAddress, Prefix};
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::rows::{ConnectionRow, ServiceRow};

/// A scenario: how the director is set up, and all steps in order.
#[derive(Clone, Debug, serde::Deserialize)]
#[non_exhaustive]
pub struct Scenario {
    /// The scenario's name, also that of its folder.
    pub name: String,
    /// What it shows, in a sentence.
    pub title: String,
    /// The director of all steps.
    pub director: Setup,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// The director on the wire.
#[derive(Clone, Debug, serde::Deserialize)]
#[non_exhaustive]
pub struct Setup {
    /// The director's ports by name.
    pub ports: BTreeMap<String, PortSetup>,
    /// Virtual addresses with their prefix lengths.
    pub vips: Vec<String>,
    /// Destinations behind routers.
    pub routes: Vec<RouteSetup>,
    /// Neighbours, so that nobody has to ask.
    pub neigh: Vec<NeighbourSetup>,
    /// What gives packets a mark.
    pub marks: Vec<MarkSetup>,
    /// Switches that are not as usual.
    pub sysctl: BTreeMap<String, String>,
}

/// A port.
#[derive(Clone, Debug, serde::Deserialize)]
#[non_exhaustive]
pub struct PortSetup {
    /// The port's link-layer address.
    #[serde(deserialize_with = "from_text")]
    pub mac: MacAddress,
    /// The longest IP packet that it sends, in bytes.
    pub mtu: u16,
    /// Own addresses with their prefix lengths.
    pub addrs: Vec<String>,
}

/// A route.
#[derive(Clone, Debug, serde::Deserialize)]
#[non_exhaustive]
pub struct RouteSetup {
    /// Address and prefix length.
    pub dst: String,
    /// The router.
    pub via: IpAddr,
    /// The port that leads to it.
    pub port: String,
}

/// A neighbour.
#[derive(Clone, Debug, serde::Deserialize)]
#[non_exhaustive]
pub struct NeighbourSetup {
    /// On which port.
    pub port: String,
    /// The neighbour's address.
    pub ip: IpAddr,
    /// The neighbour's link-layer address.
    #[serde(deserialize_with = "from_text")]
    pub mac: MacAddress,
}

/// Which packets get a mark.
#[derive(Clone, Debug, serde::Deserialize)]
#[non_exhaustive]
pub struct MarkSetup {
    /// To this address, or prefix.
    pub dst: String,
    /// Of this protocol, or any.
    pub proto: Option<String>,
    /// To this port, or any.
    #[serde(alias = "dport")]
    pub port: Option<u16>,
    /// The mark.
    pub mark: u32,
}

/// One step.
#[derive(Clone, Debug, serde::Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// The step's number.
    #[serde(rename = "i")]
    pub number: u32,
    /// When it happened, in seconds since the start; a sleep's is its end.
    #[serde(default)]
    pub t: f64,
    /// What happens.
    #[serde(flatten)]
    pub action: Action,
}

/// What happens in a step, with what is expected of it.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// A frame comes in.
    Frame {
        /// By this port.
        port: String,
        /// The frame's bytes.
        hex: Hex,
        /// What leaves because of it, in order.
        #[serde(default)]
        out: Vec<Expected>,
        /// The frame in words.
        #[serde(default)]
        text: String,
    },
    /// ipvsadm is called.
    Ipvsadm {
        /// The command line.
        args: String,
        /// The exit status.
        rc: i32,
    },
    /// ipvsadm lists something: information only.
    Listing {},
    /// Time passes.
    Sleep {
        /// So many seconds.
        sec: f64,
        /// What leaves meanwhile.
        #[serde(default)]
        out: Vec<Expected>,
    },
    /// The tables are looked at.
    Snap {
        /// Services with their servers, as a set.
        services: Vec<ServiceRow>,
        /// Connections, as a multiset.
        conns: Vec<ConnectionRow>,
    },
    /// A switch is turned.
    Sysctl {
        /// The switch's name.
        key: String,
        /// The switch's value.
        value: String,
    },
}

/// A frame that is expected to leave.
#[derive(Clone, Debug, serde::Deserialize)]
#[non_exhaustive]
pub struct Expected {
    /// By this port.
    pub port: String,
    /// The frame's bytes.
    pub hex: Hex,
    /// The frame in words.
    #[serde(default)]
    pub text: String,
    /// Bits that are 0 here are not compared.
    pub mask: Option<Hex>,
    /// Whether the host made it, not IPVS.
    #[serde(default)]
    pub host: u8,
}

/// Bytes, written as hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "bytes")]
pub struct Hex(pub Vec<u8>);

impl Scenario {
    /// Reads the scenario of a folder, or a file.
    ///
    /// # Errors
    ///
    /// A sentence with the file's name.
    pub fn load(path: &Path) -> Result<Self, String> {
        let file = if path.is_dir() { path.join("scenario.json") } else { path.to_owned() };
        let name = file.display();
        let text = fs::read_to_string(&file).map_err(|error| format!("{name} cannot be read: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{name} is no scenario: {error}"))
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let bytes = text.as_bytes().chunks(2).map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        });
        bytes
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("expected pairs of hexadecimal digits, found `{text}`")))
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: core::str::FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

/// An address with the length of its prefix; all bits where none is written.
pub(crate) fn prefix(text: &str) -> Option<Prefix> {
    match text.parse::<IpAddr>() {
        Ok(address) => Prefix::new(address, if address.is_ipv4() { 32 } else { 128 }),
        Err(_) => text.parse().ok(),
    }
}
