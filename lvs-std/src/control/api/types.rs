//! Questions, answers and events: a line of JSON each.

use core::fmt;
use core::net::SocketAddr;

use crate::Seconds;
use crate::control::Cursor;
use crate::filter::{FlowText, SyntaxError, bytes_of_hex};

/// A question.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "both ends of the protocol name every field")]
pub enum Request {
    /// What was declared, and how it is doing.
    Services,
    /// What a reload would change: of this text, or of the director's file.
    Plan(Option<String>),
    /// Read the director's file again and apply it.
    Reload,
    /// The checks of real servers.
    Health,
    /// No new connections for a real server; what is left after so many seconds is cut.
    Drain {
        /// The service, as listings name it.
        service: String,
        /// The real server.
        server: SocketAddr,
        /// Seconds until what is left is cut; none for as long as it takes.
        deadline: Option<Seconds>,
    },
    /// New connections for it again.
    Undrain {
        /// The service, as listings name it.
        service: String,
        /// The real server.
        server: SocketAddr,
    },
    /// The real servers that are being drained.
    Drains,
    /// What would be done with a packet.
    Explain(Question),
    /// Records of packets while they pass.
    Trace(TraceRequest),
    /// What became of packets, by reasons.
    Statistics,
    /// All counters and gauges, by the names that Prometheus's families have.
    Stats,
    /// Everything that a watcher shows: services with their traffic, health, drops, the last events.
    Overview,
    /// The connections, or those of one real server.
    Connections {
        /// Only those of this real server.
        server: Option<SocketAddr>,
        /// At most so many. When there are more, the answer's `next` says where the rest begins.
        limit: Option<usize>,
        /// Go on here, at the `next` of an earlier answer.
        #[serde(default)]
        after: Option<String>,
    },
    /// Everything that happens from now on, a line each, for as long as the connection lasts.
    Events,
    /// A switch by its name, and its value.
    Sysctl(String, String),
}

/// An answer.
#[derive(Debug, Default, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct Response {
    /// Why not, if it is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub result: serde_json::Value,
    /// Where the rest of a listing begins that was longer than its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Response {
    /// The answer when something was asked for.
    #[must_use]
    pub fn of(result: &impl serde::Serialize) -> Self {
        match serde_json::to_value(result) {
            Ok(result) => Self { result, ..Self::default() },
            Err(error) => Self::failed(error.to_string()),
        }
    }

    /// The answer when something was to be done.
    #[must_use]
    pub fn done<E: fmt::Display>(done: Result<(), E>) -> Self {
        match done {
            Ok(()) => Self::default(),
            Err(error) => Self::failed(error.to_string()),
        }
    }

    /// The answer when something was not done, with the reason.
    #[must_use]
    pub fn failed(why: impl Into<String>) -> Self {
        Self { error: Some(why.into()), ..Self::default() }
    }
}

/// A page of the connections.
#[derive(Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever answers")]
pub struct ConnectionPage {
    /// The connections.
    pub rows: Vec<ConnectionRow>,
    /// Where the next page begins; none at the end of the table.
    pub next: Option<Cursor>,
}

/// A connection in an answer.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct ConnectionRow {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Address and port of the client.
    pub client: SocketAddr,
    /// Address and port that the client asked for.
    pub virtual_address: SocketAddr,
    /// Address and port of the real server.
    pub server: SocketAddr,
    /// The forwarding method.
    pub method: String,
    /// The state of the connection, as IPVS names it.
    pub state: String,
    /// Seconds until it ends without packets.
    pub expires: f64,
    /// Packets of the client.
    pub packets: u64,
}

/// How the director does, and what is known of the checks.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct HealthRow {
    /// Whether every check has had an answer.
    pub ready: bool,
    /// What of the director does not work as it should.
    #[serde(default)]
    pub problems: Vec<ProblemRow>,
    /// Each check once, however many services share it.
    pub probes: Vec<ProbeRow>,
}

/// A part of the director that does not work as it should.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct ProblemRow {
    /// The part, such as `interface eth0`.
    pub part: String,
    /// What is wrong with it.
    pub why: String,
    /// For how many seconds.
    pub since: f64,
}

/// A check in an answer.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct ProbeRow {
    /// What is probed.
    pub probe: String,
    /// How many servers of services share it.
    pub users: usize,
    /// `unknown`, `up` or `down`.
    pub state: String,
    /// What was wrong with the last attempt.
    pub why: Option<String>,
    /// For how many seconds the state has been so.
    pub since: f64,
}

/// A service in an answer.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct ServiceRow {
    /// As listings name it: `TCP 10.99.0.1:80`, `FWM 7`.
    pub service: String,
    /// The name of the scheduler.
    pub scheduler: String,
    /// The real servers, the one added last first.
    pub servers: Vec<ServerRow>,
}

/// A real server in an answer.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct ServerRow {
    /// Address and port.
    pub address: SocketAddr,
    /// The weight that was declared.
    pub weight: i32,
    /// The weight that the director works with; none while it does not use the server at all.
    pub effective_weight: Option<i32>,
    /// Whether an operator wishes that it gets no new connections.
    pub draining: bool,
}

/// A drain in an answer.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct DrainRow {
    /// As listings name it.
    pub service: String,
    /// The real server.
    pub server: SocketAddr,
    /// Connections that it still has.
    pub remaining: u32,
    /// For how many seconds it has been drained.
    pub since: f64,
    /// In how many seconds what is left is cut.
    pub deadline: Option<f64>,
}

/// The packet in question. A flow means the packet that comes next: one of the connection if there is one, else the
/// first of a new one.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(untagged)]
#[expect(clippy::exhaustive_enums, reason = "both ends of the protocol name every field")]
pub enum Question {
    /// By protocol and ends.
    Packet {
        /// `tcp`, `udp` or `sctp`.
        protocol: String,
        /// Address and port of the client.
        client: SocketAddr,
        /// Where the packet goes.
        destination: SocketAddr,
        /// The packet's firewall mark, 0 for none.
        #[serde(default)]
        mark: u32,
    },
    /// By its flow, as [`FlowText`] reads it.
    Flow {
        /// `tcp 203.0.113.7:4242 > 192.168.40.120:80`.
        flow: String,
        /// The packet's firewall mark, 0 for none, or the one that the flow says.
        #[serde(default)]
        mark: u32,
        /// The interface that it comes in by; by default the one by which packets to its client leave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    /// As it was captured.
    Frame {
        /// The frame's bytes in hexadecimal digits.
        frame: String,
        /// Whether it begins with its IP header, rather than with Ethernet's.
        #[serde(default)]
        ip: bool,
        /// The packet's firewall mark, 0 for none.
        #[serde(default)]
        mark: u32,
        /// The interface that it comes in by; by default the one whose MAC address it is for, or the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
}

impl Question {
    /// What people write: a flow, or a frame in hexadecimal digits.
    ///
    /// # Errors
    /// [`SyntaxError`] with the place.
    pub fn read(text: &str, mark: u32, interface: Option<String>) -> Result<Self, SyntaxError> {
        let word = text.split_ascii_whitespace().next().unwrap_or_default();
        let is_hex =
            !word.is_empty() && word.chars().all(|letter| letter.is_ascii_hexdigit() || letter == ':');
        if is_hex && !text.contains('>') {
            bytes_of_hex(text)?;
            return Ok(Self::Frame { frame: text.to_owned(), ip: false, mark, interface });
        }
        text.parse::<FlowText>()?;
        Ok(Self::Flow { flow: text.to_owned(), mark, interface })
    }
}

/// What would become of a packet, and why.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct Explanation {
    /// `forward` or `reply` for what goes on by a connection or service, `drop`, `reject`, `pass` to the host that the
    /// director is, `host` for what is no balanced packet, `wait` for a fragment.
    pub verdict: String,
    /// The counted reason, if it goes no further as it is.
    pub reason: Option<String>,
    /// The service of a first packet, as listings name it.
    pub service: Option<String>,
    /// The real server that it goes to, or comes from.
    pub server: Option<SocketAddr>,
    /// The forwarding method.
    pub method: Option<String>,
    /// The worker that has it.
    pub worker: usize,
    /// The interface by which a frame leaves.
    pub interface: Option<String>,
    /// What the machine's kernel does beside it.
    pub kernel: String,
    /// Each decision on the way, in words.
    pub steps: Vec<Step>,
}

/// A decision on a packet's way.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct Step {
    /// What it is about, in a word or two.
    pub step: String,
    /// What is decided, or found.
    pub says: String,
}

impl fmt::Display for Explanation {
    /// A line for each step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|Step { step, says }| writeln!(f, "{step:<13} {says}"))
    }
}

/// A trace: begun, read piece by piece, ended, and read until it is over. Who does not read it for ten seconds has
/// left.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "both ends of the protocol name every field")]
pub enum TraceRequest {
    /// Begin one.
    Begin {
        /// Which packets are meant, as [`PacketFilter`](crate::filter::PacketFilter) reads it; all without one.
        #[serde(default)]
        filter: Option<String>,
    },
    /// What was recorded since.
    Next {
        /// The trace's number.
        trace: u64,
    },
    /// Record nothing any more.
    End {
        /// The trace's number.
        trace: u64,
    },
}

/// A trace that has begun.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct TraceBegun {
    /// The trace's number.
    pub trace: u64,
    /// The ports, in the order of their numbers.
    pub interfaces: Vec<TraceInterface>,
}

/// A port of a trace.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct TraceInterface {
    /// The interface's name; `local` for this machine's own stack.
    pub name: String,
    /// Whether frames begin with their IP header, rather than with Ethernet's.
    pub ip: bool,
}

/// A piece of a trace.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct TracePage {
    /// What was recorded, of each worker in the order in which it happened.
    pub rows: Vec<TraceRow>,
    /// Records that found no room, since the trace began.
    pub lost: u64,
    /// There will be no more.
    pub over: bool,
}

/// A frame as it came in or left.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[expect(clippy::exhaustive_structs, reason = "both ends of the protocol name every field")]
pub struct TraceRow {
    /// The packet's number: the same for what came in and what left because of it.
    pub packet: u64,
    /// The worker that had it.
    pub worker: u32,
    /// The port, by its place among the interfaces.
    pub interface: u32,
    /// Whether it left.
    pub sent: bool,
    /// Since 1970-01-01 UTC.
    pub nanoseconds: u64,
    /// `drop`, `pass` (to the machine), `send` or `keep`.
    pub action: String,
    /// What it is and what became of it, in words.
    pub comment: String,
    /// The frame's bytes in hexadecimal digits.
    pub frame: String,
}

/// Something that happened.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
#[non_exhaustive]
pub enum ApiEvent {
    /// The last connection of a drained real server is gone.
    Drained {
        /// The service, as listings name it.
        service: String,
        /// The real server.
        server: SocketAddr,
        /// For how long it was drained.
        seconds: f64,
    },
    /// The deadline has cut what was left of a drained real server: so many entries of the connection table.
    Cut {
        /// The service, as listings name it.
        service: String,
        /// The real server.
        server: SocketAddr,
        /// For how long it was drained.
        seconds: f64,
        /// Entries of the connection table that were cut, templates included.
        connections: usize,
    },
    /// A check has changed its mind.
    Probe {
        /// What is probed.
        probe: String,
        /// `up` or `down`.
        state: String,
        /// What was wrong with the last attempt.
        why: Option<String>,
    },
    /// A part of the director does not work as it should, or for another reason than before.
    Problem {
        /// The part, such as `interface eth0`.
        part: String,
        /// What is wrong with it.
        why: String,
    },
    /// A part works again as it should.
    Mended {
        /// The part, such as `interface eth0`.
        part: String,
        /// For how long it did not.
        seconds: f64,
    },
    /// The configuration was read again.
    Reloaded {
        /// What has changed, in words.
        changes: String,
    },
}
