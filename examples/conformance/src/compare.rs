//! Equal or not, and where: what was expected against what was done.

use core::net::SocketAddr;

use crate::fields::{Field, fields, show};
use crate::rows::{ConnectionRow, ServiceName, ServiceRow};
use crate::scenario::{Action, Expected, Hex, Step};

/// What a director did in one step.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Done {
    /// The step's number.
    #[serde(rename = "i")]
    pub number: u32,
    /// Frames that left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<Vec<Sent>>,
    /// Services, if the tables were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<ServiceRow>>,
    /// Connections, if the tables were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conns: Option<Vec<ConnectionRow>>,
    /// The exit status of a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rc: Option<i32>,
    /// Why a command or switch failed, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A frame that left.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Sent {
    /// By this port.
    pub port: String,
    /// The frame's bytes.
    pub hex: Hex,
}

/// All differences of a step, in words. Frames that the host is expected to make may be missing if `ignore_host`.
#[must_use]
pub fn compare(step: &Step, done: &Done, ignore_host: bool) -> Vec<String> {
    match &step.action {
        Action::Frame { out, .. } => {
            let expected: Vec<&Expected> = out.iter().collect();
            sent(&expected, done, ignore_host)
        }
        Action::Sleep { out, .. } => {
            // What leaves by itself has no order.
            let mut expected: Vec<&Expected> = out.iter().collect();
            expected.sort_by_key(|frame| frame.hex.0.len());
            let mut done = done.clone();
            if let Some(out) = &mut done.out {
                out.sort_by_key(|frame| frame.hex.0.len());
            }
            sent(&expected, &done, ignore_host)
        }
        Action::Ipvsadm { args, rc } => {
            let got = done.rc.unwrap_or(0);
            let why = done.error.as_deref().unwrap_or("no error");
            if got == *rc {
                Vec::new()
            } else {
                vec![format!("`ipvsadm {args}` ends with status {got} instead of {rc}: {why}")]
            }
        }
        Action::Snap { services, conns } => {
            let mut differences = rows(services, done.services.as_deref().unwrap_or_default());
            differences.extend(connections(conns, done.conns.as_deref().unwrap_or_default()));
            differences
        }
        Action::Sysctl { .. } => done.error.iter().cloned().collect(),
        Action::Listing {} => Vec::new(),
    }
}

fn sent(expected: &[&Expected], done: &Done, ignore_host: bool) -> Vec<String> {
    let got = done.out.as_deref().unwrap_or_default();
    let differences = in_order(expected, got);
    if differences.is_empty() || !ignore_host {
        return differences;
    }
    let own: Vec<&Expected> = expected.iter().filter(|frame| frame.host == 0).copied().collect();
    in_order(&own, got)
}

fn in_order(expected: &[&Expected], got: &[Sent]) -> Vec<String> {
    let mut differences = Vec::new();
    let count = expected.len().max(got.len());
    for at in 0..count {
        let place = if count == 1 { "frame".to_owned() } else { format!("frame {} of {count}", at + 1) };
        match (expected.get(at), got.get(at)) {
            (Some(expected), Some(got)) => {
                differences
                    .extend(frames(expected, got).into_iter().map(|words| format!("{place}: {words}")));
            }
            (Some(expected), None) => {
                differences.push(format!("{place} is missing: {}: {}", expected.port, expected.text));
            }
            (None, Some(got)) => {
                differences.push(format!("{place} is too many: {}: {}", got.port, summary(&got.hex.0)));
            }
            (None, None) => {}
        }
    }
    differences
}

/// Where a frame differs from the expected one.
fn frames(expected: &Expected, got: &Sent) -> Vec<String> {
    let mut differences = Vec::new();
    if expected.port != got.port {
        differences.push(format!("leaves by {} instead of {}", got.port, expected.port));
    }
    let mask = |at: usize| expected.mask.as_ref().and_then(|mask| mask.0.get(at)).copied().unwrap_or(0xff);
    let (wanted, bytes) = (&expected.hex.0, &got.hex.0);
    let differs = |at: usize| match (wanted.get(at), bytes.get(at)) {
        (Some(wanted), Some(byte)) => (wanted ^ byte) & mask(at) != 0,
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
    };
    let first = (0..wanted.len().max(bytes.len())).find(|&at| differs(at));
    let Some(first) = first else { return differences };
    let before = differences.len();
    let (ours, theirs) = (fields(bytes), fields(wanted));
    let mut used = vec![false; ours.len()];
    for field in &theirs {
        let twin = ours.iter().zip(&mut used).find(|(other, used)| !**used && other.name == field.name);
        let Some((twin, used)) = twin else {
            differences.push(format!("{} is missing, expected {}", field.name, field.value));
            continue;
        };
        *used = true;
        if unequal(field, twin, wanted, bytes, &mask) {
            differences.push(words(field, twin, wanted, bytes, &mask));
        }
    }
    for (field, _) in ours.iter().zip(used).filter(|(_, used)| !used) {
        differences.push(format!("{} is there: {}", field.name, field.value));
    }
    if differences.len() == before {
        differences.push(format!("differs from byte {first} on"));
    }
    differences
}

fn unequal(field: &Field, twin: &Field, wanted: &[u8], got: &[u8], mask: &dyn Fn(usize) -> u8) -> bool {
    let wanted = wanted.get(field.range.clone()).unwrap_or_default();
    let got = got.get(twin.range.clone()).unwrap_or_default();
    let masked = wanted.iter().zip(got).zip(field.range.clone());
    wanted.len() != got.len() || masked.into_iter().any(|((wanted, got), at)| (wanted ^ got) & mask(at) != 0)
}

/// How a field differs. Of long bytes the first that does is told.
fn words(field: &Field, twin: &Field, wanted: &[u8], got: &[u8], mask: &dyn Fn(usize) -> u8) -> String {
    let theirs = wanted.get(field.range.clone()).unwrap_or_default();
    let ours = got.get(twin.range.clone()).unwrap_or_default();
    let differs = |at: usize| match (theirs.get(at), ours.get(at)) {
        (Some(a), Some(b)) => (a ^ b) & mask(field.range.start + at) != 0,
        (None, None) | (Some(_), None) | (None, Some(_)) => true,
    };
    match (0..theirs.len().min(ours.len())).find(|&at| differs(at)) {
        Some(at) if field.opaque && at > 0 => {
            let from = |bytes: &[u8]| show(bytes.get(at..).unwrap_or_default());
            format!(
                "{} differs from its byte {at} on: {} instead of {}",
                field.name,
                from(ours),
                from(theirs)
            )
        }
        Some(_) | None => format!("{} is {} instead of {}", field.name, twin.value, field.value),
    }
}

/// A frame in a few words.
fn summary(bytes: &[u8]) -> String {
    let fields = fields(bytes);
    let mut text = String::new();
    let outer =
        fields.iter().filter(|field| !field.name.starts_with("inner") && !field.name.starts_with("quoted"));
    for Field { name, value, .. } in outer {
        let Some((layer, rest)) = name.split_once(' ') else { continue };
        match rest {
            "source" if layer != "Ethernet" => text.push_str(&format!("{layer} {value} ")),
            "destination" if layer != "Ethernet" => text.push_str(&format!("to {value}, ")),
            "source port" => text.push_str(&format!("{layer} {value} ")),
            "destination port" => text.push_str(&format!("to {value}, ")),
            "flags" if layer == "TCP" => text.push_str(&format!("{value}, ")),
            "type" if layer != "Ethernet" => text.push_str(&format!("{layer} {value}")),
            "code" => text.push_str(&format!("/{value}, ")),
            _ => {}
        }
    }
    format!("{text}{} bytes", bytes.len())
}

/// Services and their servers.
fn rows(expected: &[ServiceRow], got: &[ServiceRow]) -> Vec<String> {
    let mut differences = Vec::new();
    let same = |a: &ServiceRow, b: &ServiceRow| a.proto == b.proto && a.addr == b.addr;
    let name = |row: &ServiceRow| match &row.addr {
        ServiceName::Mark(mark) => format!("service {} {mark}", row.proto),
        ServiceName::Address(address) => format!("service {} {address}", row.proto),
    };
    for row in got.iter().filter(|row| !expected.iter().any(|other| same(row, other))) {
        differences.push(format!("{} is there", name(row)));
    }
    for row in expected {
        let Some(twin) = got.iter().find(|other| same(row, other)) else {
            differences.push(format!("{} is missing", name(row)));
            continue;
        };
        for (what, got, wanted) in
            [("scheduler", &twin.sched, &row.sched), ("flags", &twin.flags, &row.flags)]
        {
            if got != wanted {
                differences.push(format!("{}: {what} `{got}` instead of `{wanted}`", name(row)));
            }
        }
        for server in twin.servers.iter().filter(|s| !row.servers.iter().any(|other| other.addr == s.addr)) {
            differences.push(format!("{}: server {} is there", name(row), server.addr));
        }
        for server in &row.servers {
            let Some(twin) = twin.servers.iter().find(|other| other.addr == server.addr) else {
                differences.push(format!("{}: server {} is missing", name(row), server.addr));
                continue;
            };
            if twin.fwd != server.fwd {
                differences
                    .push(format!("server {}: method {} instead of {}", server.addr, twin.fwd, server.fwd));
            }
            for (what, got, wanted) in [
                ("weight", twin.weight, server.weight),
                ("active connections", twin.active, server.active),
                ("inactive connections", twin.inactive, server.inactive),
            ] {
                if got != wanted {
                    differences.push(format!("server {}: {what} {got} instead of {wanted}", server.addr));
                }
            }
        }
    }
    differences
}

/// Connections as a multiset.
fn connections(expected: &[ConnectionRow], got: &[ConnectionRow]) -> Vec<String> {
    let mut differences = Vec::new();
    let name = |row: &ConnectionRow| format!("connection {} {} to {} at {}", row.proto, row.c, row.v, row.d);
    // Addresses have several spellings: C writes ::192.0.2.7 where Rust writes ::c000:207.
    let meant = |text: &str| text.parse().map_or_else(|_| text.to_owned(), |end: SocketAddr| end.to_string());
    let ends = |row: &ConnectionRow| [&row.c, &row.v, &row.d].map(|end| meant(end));
    let same = |a: &ConnectionRow, b: &ConnectionRow| a.proto == b.proto && ends(a) == ends(b);
    let mut left: Vec<&ConnectionRow> = got.iter().collect();
    for row in expected {
        // One of the same state is the better twin.
        let twin = left.iter().position(|other| same(row, other) && row.state == other.state);
        let Some(at) = twin.or_else(|| left.iter().position(|other| same(row, other))) else {
            differences.push(format!("{} in state {} is missing", name(row), row.state));
            continue;
        };
        let twin = left.swap_remove(at);
        if twin.state != row.state {
            differences.push(format!("{}: state {} instead of {}", name(row), twin.state, row.state));
        } else if twin.expires.abs_diff(row.expires) > EXPIRY_TOLERANCE {
            let (got, wanted) = (twin.expires, row.expires);
            differences.push(format!("{}: {got} s left instead of {wanted}", name(row)));
        }
    }
    for row in left {
        differences.push(format!("{} in state {} is there", name(row), row.state));
    }
    differences
}

/// Seconds by which the time that a connection has left may differ: the recording took its own time.
const EXPIRY_TOLERANCE: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn step(action: &str) -> Step {
        serde_json::from_str(&format!("{{\"i\": 1, \"t\": 0.5, {action}}}")).unwrap()
    }

    fn sent(frames: &[&str]) -> Done {
        let hex = |text: &&str| serde_json::from_str(&format!("\"{text}\"")).unwrap();
        let out = frames.iter().map(|frame| Sent { port: "eth0".to_owned(), hex: hex(frame) });
        Done { number: 1, out: Some(out.collect()), ..Done::default() }
    }

    #[test]
    fn bits_outside_the_mask_do_not_count() {
        let step = step(
            r#""op": "frame", "port": "eth1", "hex": "00", "out": [{"port": "eth0", "hex": "1234", "mask": "f0ff"}]"#,
        );
        assert_eq!(compare(&step, &sent(&["1f34"]), false), Vec::<String>::new());
        assert_eq!(compare(&step, &sent(&["2234"]), false).len(), 1);
        assert_eq!(compare(&step, &sent(&["123456"]), false).len(), 1, "nor may it be longer");
    }

    #[test]
    fn frames_of_the_host_may_be_missing_if_one_says_so() {
        let step = step(
            r#""op": "frame", "port": "eth1", "hex": "00",
                "out": [{"port": "eth0", "hex": "12", "text": "a reset", "host": 1}]"#,
        );
        assert_eq!(compare(&step, &sent(&[]), true), Vec::<String>::new());
        assert_eq!(compare(&step, &sent(&["12"]), true), Vec::<String>::new());
        assert_eq!(compare(&step, &sent(&[]), false), ["frame is missing: eth0: a reset"]);
    }

    #[test]
    fn what_leaves_by_itself_has_no_order() {
        let step = step(
            r#""op": "sleep", "sec": 1, "out": [{"port": "eth0", "hex": "1234"}, {"port": "eth0", "hex": "12"}]"#,
        );
        assert_eq!(compare(&step, &sent(&["12", "1234"]), false), Vec::<String>::new());
    }

    #[test]
    fn connections_are_a_multiset_with_some_tolerance_of_time() {
        let row = |state: &str, expires: u64| ConnectionRow {
            proto: "TCP".to_owned(),
            c: "192.0.2.7:4000".to_owned(),
            v: "10.99.0.1:80".to_owned(),
            d: "10.0.1.11:80".to_owned(),
            state: state.to_owned(),
            expires,
        };
        let same = |expected: &[ConnectionRow], got: &[ConnectionRow]| connections(expected, got).is_empty();
        assert!(same(&[row("CLOSE", 10), row("SYN_RECV", 60)], &[row("SYN_RECV", 57), row("CLOSE", 13)]));
        assert!(!same(&[row("CLOSE", 10)], &[row("CLOSE", 14)]));
        assert!(!same(&[row("CLOSE", 10)], &[row("CLOSE", 10), row("CLOSE", 10)]));
        assert!(!same(&[row("CLOSE", 10), row("CLOSE", 10)], &[row("CLOSE", 10)]));
        assert!(!same(&[row("CLOSE", 10)], &[row("TIME_WAIT", 10)]));
    }
}
