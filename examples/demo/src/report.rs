//! What the demonstration prints.

use lvs_forward::DropReason;
use lvs_std::lab::BalancerCounters;
use lvs_support::text::{bytes, columns};
use lvs_support::{Terminal, Tone};

use crate::load::{Share, Tally};

/// One method over one address family, ready to be printed and judged.
pub(crate) struct Round<'a> {
    /// For example "NAT over IPv4".
    pub(crate) title: String,
    /// Names of the real servers with their weights.
    pub(crate) servers: &'a [(String, u32)],
    /// How many requests were sent.
    pub(crate) requests: usize,
    pub(crate) tally: Tally,
}

impl Round<'_> {
    /// Whether every request was answered with the right bytes, by the right shares of the servers.
    pub(crate) fn is_right(&self) -> bool {
        let total = self.tally.total().connections;
        self.tally.failures.is_empty()
            && total == self.requests as u64
            && self.servers.iter().all(|(name, weight)| self.is_fair(self.share(name), *weight))
    }

    /// The round as a table with a bar for each server.
    pub(crate) fn table(&self, terminal: Terminal) -> String {
        let total = self.tally.total();
        let mark = if self.is_right() { (Tone::Good, "ok") } else { (Tone::Bad, "WRONG") };
        let mut text = format!(
            "{}  {}  {} of {} right, {} in {:.2} s\n",
            terminal.paint(Tone::Title, &self.title),
            terminal.paint(mark.0, mark.1),
            total.connections,
            self.requests,
            bytes(total.bytes),
            self.tally.time.as_secs_f64(),
        );
        let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
        for (name, weight) in self.servers {
            let share = self.share(name);
            let percent =
                |part: u64, whole: u64| format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64);
            let weights = self.weights();
            rows.push(vec![
                name.clone(),
                weight.to_string(),
                terminal.bar(
                    share.connections * weights,
                    u64::from(*weight) * total.connections,
                    total.connections * weights,
                    BAR,
                ),
                percent(u64::from(*weight), weights),
                percent(share.connections, total.connections),
                share.connections.to_string(),
                bytes(share.bytes),
            ]);
        }
        text.push_str(&columns(&rows, &[1, 3, 4, 5, 6]));
        for failure in self.tally.failures.iter().take(MOST_FAILURES) {
            text.push_str(&terminal.paint(Tone::Bad, format_args!("  {failure}")));
            text.push('\n');
        }
        let more = self.tally.failures.len().saturating_sub(MOST_FAILURES);
        if more > 0 {
            text.push_str(&format!("  and {more} more failures\n"));
        }
        text
    }

    fn share(&self, name: &str) -> Share {
        self.tally.servers.get(name).copied().unwrap_or_default()
    }

    fn weights(&self) -> u64 {
        self.servers.iter().map(|(_, weight)| u64::from(*weight)).sum()
    }

    /// Whether a share is within one connection of what the weight asks for: weighted round robin deals whole
    /// connections, and a last cycle may be cut short.
    fn is_fair(&self, share: Share, weight: u32) -> bool {
        let weights = self.weights();
        let wanted = u64::from(weight) * self.requests as u64;
        (share.connections * weights).abs_diff(wanted) <= weights
    }
}

/// What a method's director did, on a line, and what it dropped, on another.
pub(crate) fn counters(counters: &BalancerCounters) -> String {
    let snapshot = &counters.director;
    let (frames, merged) = snapshot
        .ports
        .iter()
        .fold((0, 0), |sum, port| (sum.0 + port.received.frames, sum.1 + port.received.merged));
    let mut text = format!("  The director took in {frames} frames, {merged} of them merged ones.\n");
    let drops = DropReason::ALL.into_iter().map(|reason| (reason.name(), snapshot.forwarder.drops(reason)));
    let drops: Vec<String> =
        drops.filter(|drop| drop.1 > 0).map(|(name, count)| format!("{count} {name}")).collect();
    if !drops.is_empty() {
        text.push_str(&format!("  It dropped {}.\n", drops.join(", ")));
    }
    text
}

const HEAD: [&str; 7] =
    ["server", "weight", "share, and | what is wanted", "wanted", "got", "conns", "bytes"];
const BAR: usize = 26;
const MOST_FAILURES: usize = 5;

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn round(servers: &[(String, u32)], connections: [u64; 2], failures: usize) -> Round<'_> {
        let mut tally = Tally { time: Duration::from_millis(250), ..Tally::default() };
        for ((name, _), connections) in servers.iter().zip(connections) {
            tally.servers.insert(name.clone(), Share { connections, bytes: connections * 1_000 });
        }
        tally.failures = vec!["file-1.bin: connection refused".to_owned(); failures];
        let requests = connections.iter().sum::<u64>() as usize + failures;
        Round { title: "NAT over IPv4".to_owned(), servers, requests, tally }
    }

    #[test]
    fn a_round_is_right_when_all_is_answered_by_weight() {
        let servers = [("rs1".to_owned(), 3), ("rs2".to_owned(), 1)];
        assert!(round(&servers, [30, 10], 0).is_right());
        assert!(round(&servers, [31, 10], 0).is_right(), "a cycle that is cut short");
        assert!(!round(&servers, [20, 20], 0).is_right());
        assert!(!round(&servers, [30, 10], 1).is_right());
    }

    #[test]
    fn the_table_shows_every_server_and_fits_eighty_columns() {
        let servers = [("rs1".to_owned(), 3), ("rs2".to_owned(), 1)];
        let text = round(&servers, [30, 10], 7).table(Terminal::PLAIN);
        assert!(text.contains("WRONG") && text.contains("and 2 more failures"), "{text}");
        assert!(text.contains("75.0 %") && text.contains("###"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
