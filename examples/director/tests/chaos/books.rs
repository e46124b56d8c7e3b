//! What must be so whenever no trouble is left.

use core::error::Error;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::thread;
use std::time::Instant;

use lvs_std::control::api::{ConnectionRow, HealthRow, Request, ServiceRow};
use lvs_std::control::{Client, ServiceName};
use lvs_std::lab::harness::Outcome;
use rustix::process::Pid;

use crate::commands::{LONG, ask, switch};
use crate::director::{Director, Place};
use crate::model::{DRAINED_NAME, DRAINED_PORT, Model, VIP};
use crate::traffic::Net;

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Books {
    checks: usize,
    /// What a process that has just been started uses.
    usual: Option<Usage>,
    /// The process that was looked at last.
    process: Option<Pid>,
    last: String,
}

/// What a process has of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    descriptors: usize,
    threads: usize,
}

impl Books {
    /// What the last check has seen.
    pub(crate) fn summary(&self) -> &str {
        &self.last
    }

    pub(crate) fn check(
        &mut self,
        net: &mut Net,
        director: &Director,
        model: &mut Model,
        disk: &Path,
    ) -> Outcome {
        self.checks += 1;
        let at = director.place();
        let is_new = self.process.replace(director.pid()) != Some(director.pid());
        eventually("nothing is wrong with the director", || {
            let health: HealthRow = serde_json::from_value(ask(&at, &Request::Health)?)?;
            if health.problems.is_empty() { Ok(()) } else { Err(format!("{:?}", health.problems).into()) }
        })?;
        eventually("a new client is served", || {
            net.serve_another()?;
            Ok(())
        })?;
        net.check_held(is_new)?;
        is_as_acknowledged(&at, model)?;
        let (served, failed) = net.served()?;
        let quiet = net.quiet();
        let dropped = is_conserved(net, &at)?;
        let connections = counts_are_lists(&at)?;
        drop(quiet);
        let used = self.uses_no_more(director)?;
        let log = director.log();
        if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
            return Err(line.to_owned().into());
        }
        for entry in fs::read_dir(disk)? {
            let name = entry?.file_name();
            // One that was killed may have been about to write its state file anew.
            let is_known = FILES.iter().any(|file| name == *file) || (is_new && name == "state.new");
            if !is_known {
                return Err(format!("{name:?} is left on the disk").into());
            }
        }
        self.last = format!(
            "{served} connections served and {failed} not, {connections} in the table, {dropped} frames dropped, \
             {} descriptors, {} threads",
            used.descriptors, used.threads
        );
        Ok(())
    }

    /// A process uses no more than another did that had as much to do.
    fn uses_no_more(&mut self, director: &Director) -> Outcome<Usage> {
        let usage = || -> Outcome<Usage> {
            let count = |what: &str| {
                let folder = format!("/proc/{}/{what}", director.pid().as_raw_pid());
                Outcome::Ok(fs::read_dir(folder)?.count())
            };
            Ok(Usage { descriptors: count("fd")?, threads: count("task")? })
        };
        let Some(usual) = self.usual else {
            // Those who have just asked may still be there: the least of a while.
            let mut least = usage()?;
            for _ in 0..20 {
                thread::sleep(PAUSE);
                let now = usage()?;
                least.descriptors = least.descriptors.min(now.descriptors);
                least.threads = least.threads.min(now.threads);
            }
            return Ok(*self.usual.insert(least));
        };
        let mut now = usual;
        eventually("the director uses what it always does", || {
            now = usage()?;
            if now == usual { Ok(()) } else { Err(format!("{now:?} instead of {usual:?}").into()) }
        })?;
        Ok(now)
    }
}

/// What is listed is what was acknowledged.
fn is_as_acknowledged(at: &Place, model: &mut Model) -> Outcome {
    let mut client = Client::connect(&at.socket)?;
    let (table, switch) = (client.table()?, switch(&mut client)?);
    let services: Vec<ServiceRow> = serde_json::from_value(ask(at, &Request::Services)?)?;
    if services.len() != table.len() {
        return Err(format!("{} services at one socket, {} at the other", table.len(), services.len()).into());
    }
    let name = DRAINED_NAME.to_string();
    let drained = |server: SocketAddr| {
        let service = services.iter().find(|row| row.service == name)?;
        Some(service.servers.iter().find(|row| row.address == server)?.draining)
    };
    model.listed(&table, drained, switch)
}

/// Each datagram that is sent now has left, or is dropped for a reason, and what has left has arrived. The sum of all
/// drops.
fn is_conserved(net: &Net, at: &Place) -> Outcome<u64> {
    // Sometimes something else moves meanwhile, an answer to a forged packet perhaps. Then there is more than was sent,
    // and it is counted once more. Less is never right.
    for _ in 0..ATTEMPTS {
        if let Some(drops) = count_datagrams(net, at)? {
            return Ok(drops);
        }
    }
    Err("each time more has left or was dropped than came".into())
}

/// What has gone to servers, to clients, and nowhere: for a reason at once, or after it was counted as gone and waited.
fn counted(at: &Place) -> Outcome<[u64; 4]> {
    let counts: BTreeMap<String, u64> = serde_json::from_value(ask(at, &Request::Statistics)?)?;
    let of = |name: &str| counts.get(name).copied().unwrap_or_default();
    let drops = counts.iter().filter_map(|(name, count)| Some((name.strip_prefix("dropped: ")?, *count)));
    let (late, at_once): (Vec<_>, Vec<_>) = drops.partition(|(reason, _)| LATER.contains(reason));
    let sum = |drops: Vec<(&str, u64)>| -> u64 { drops.into_iter().map(|(_, count)| count).sum() };
    Ok([of("sent to real servers"), of("sent to clients"), sum(at_once), sum(late)])
}

/// `None` when more was counted than was sent.
fn count_datagrams(net: &Net, at: &Place) -> Outcome<Option<u64>> {
    let moment = || Outcome::Ok((counted(at)?, net.arrived.load(Ordering::Acquire)));
    let mut now = moment()?;
    eventually("nothing moves when nobody sends", || {
        thread::sleep(PAUSE * 5);
        let last = core::mem::replace(&mut now, moment()?);
        if last == now { Ok(()) } else { Err(format!("{last:?}, then {now:?}").into()) }
    })?;
    let (before, arrived) = now;
    let sockets: Vec<UdpSocket> = net
        .cluster
        .client
        .run(|| (0..SOCKETS).map(|_| UdpSocket::bind(("192.0.2.7", 0))).collect::<Result<_, _>>())??;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        // To a service, and to where there is none.
        for port in [DRAINED_PORT, DRAINED_PORT, CLOSED] {
            socket.send_to(b"counted", (VIP, port))?;
        }
    }
    let sent = 3 * SOCKETS as u64;
    let (mut answered, mut drops) = (0, Some(before[2]));
    eventually("each datagram has left or is a counted drop", || {
        let now = counted(at)?;
        let [requests, replies, dropped, late] = [0, 1, 2, 3].map(|at| now[at] - before[at]);
        let came = net.arrived.load(Ordering::Acquire) - arrived;
        let mut bytes = [0; 16];
        for socket in &sockets {
            while socket.recv_from(&mut bytes).is_ok() {
                answered += 1;
            }
        }
        if requests + dropped > sent || came + late > requests || replies > came {
            drops = None;
            return Ok(());
        }
        match requests + dropped == sent && came + late == requests && replies == came && answered == came {
            true => Ok(()),
            false => Err(format!(
                "{requests} sent to servers and {dropped} dropped of {sent}; {came} came there, {late} waited in \
                 vain; {replies} sent to the client, {answered} came there"
            )
            .into()),
        }
    })?;
    Ok(drops)
}

/// Each server has as many active and inactive connections as are listed with it. How many there are.
fn counts_are_lists(at: &Place) -> Outcome<usize> {
    let mut count = 0;
    eventually("each server has as many connections as are listed", || {
        let table = Client::connect(&at.socket)?.table()?;
        let request = Request::Connections { server: None, limit: None, after: None };
        let rows: Vec<ConnectionRow> = serde_json::from_value(ask(at, &request)?)?;
        count = rows.len();
        let mut listed: BTreeMap<(ServiceName, SocketAddr), u32> = BTreeMap::new();
        for row in rows {
            let service = match row.protocol.as_str() {
                "TCP" => ServiceName::tcp(row.virtual_address),
                "UDP" => ServiceName::udp(row.virtual_address),
                other => return Err(format!("a connection of {other}").into()),
            };
            *listed.entry((service, row.server)).or_default() += 1;
        }
        for (service, servers) in table {
            for server in servers {
                let listed = listed.get(&(service.name, server.address)).copied().unwrap_or_default();
                let counted = server.active + server.inactive;
                if listed != counted {
                    let at = format!("{} {}", service.name, server.address);
                    return Err(format!("{at} counts {counted} connections, and {listed} are listed").into());
                }
            }
        }
        Ok(())
    })?;
    Ok(count)
}

/// Waits for what takes a moment.
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> Outcome) -> Outcome {
    let end = Instant::now() + LONG;
    loop {
        let not: Box<dyn Error> = match is() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if Instant::now() >= end {
            return Err(format!("in vain: {what}: {not}").into());
        }
        thread::sleep(PAUSE);
    }
}

/// Reasons for which something is dropped that has waited for its next hop's address, or for the rest of a datagram.
const LATER: [&str; 4] = ["fragment-timeout", "hop-failed", "hop-pending", "neighbours-full"];
const SOCKETS: usize = 10;
/// How often datagrams are counted while something else moves.
const ATTEMPTS: usize = 30;
/// A port of the virtual address where nobody listens.
const CLOSED: u16 = 9;
const PAUSE: Duration = Duration::from_millis(10);
/// What may be on the disk of the state file.
const FILES: [&str; 2] = ["state", "state.lock"];
