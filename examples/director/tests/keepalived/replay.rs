//! The recorded runs once more, over a director: the same configuration, the same servers going down and up at the
//! same times must give the same tables, scripts and lines of the FIFO.

use core::error::Error;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use lvs_core::Family;
use lvs_std::control::{Client, ServiceName, flags, method, whole};
use lvs_std::lab::Lab;
use lvs_std::lab::harness::{Outcome, Trial};
use rustix::fs::{Mode, OFlags};

use crate::cell::Cell;
use crate::recording::{Event, Recording, Table, sort};
use crate::servers::{Servers, Speech};
use crate::trial;

/// A trial for each recording.
pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    RUNS.iter()
        .map(|&(name, speech, up)| {
            trial(format!("{name} goes as it was recorded"), move || replay(lab, name, speech, up))
        })
        .collect()
}

/// The recordings, what their servers speak, and which of them are up at the start.
const RUNS: [(&str, Speech, &[u8]); 19] = [
    ("01-tcp-basic", Speech::Silent, &[1, 2]),
    ("02-alpha", Speech::Silent, &[1, 2]),
    ("03-inhibit", Speech::Silent, &[1, 2]),
    ("04-sorry", Speech::Silent, &[1, 2]),
    ("05-sorry-inhibit", Speech::Silent, &[1]),
    ("06-quorum-hysteresis", Speech::Silent, &[1, 2, 3]),
    ("07-omega", Speech::Silent, &[1, 2]),
    ("09-http", Speech::Http, &[1, 2]),
    ("11-misc", Speech::Silent, &[1, 2]),
    ("12-misc-dynamic", Speech::Silent, &[1, 2]),
    ("14-udp", Speech::Dns, &[1]),
    ("15-smtp", Speech::Smtp, &[1]),
    ("16-two-checkers", Speech::Silent, &[1]),
    ("17-no-checker", Speech::Silent, &[1]),
    ("19-fwmark-persist", Speech::Silent, &[1, 2]),
    ("20-tutorial-all", Speech::Silent, &[1, 2]),
    ("21-tutorial-vrrp-only", Speech::Silent, &[1, 2]),
    ("22-file-check", Speech::Silent, &[1, 2]),
    ("23-dns", Speech::Dns, &[1]),
];

fn replay(lab: Lab, name: &str, speech: Speech, up: &[u8]) -> Outcome {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conformance/keepalived").join(name);
    let recording = Recording::load(&folder)?;
    let (host, outside) = (lab.node("host")?, lab.node("servers")?);
    lab.connect((&host, "eth0"), (&outside, "eth0"))?;
    host.add_address("eth0", Ipv4Addr::new(10, 5, 0, 254).into(), 24)?;
    for number in [1, 2, 3, 9] {
        outside.add_address("eth0", Ipv4Addr::new(10, 5, 0, number).into(), 24)?;
    }
    // The interface of the VRRP instances: it was one without multicast, so that they go to the state FAULT.
    lab.connect((&host, "d0"), (&outside, "d0"))?;
    host.add_address("d0", Ipv4Addr::new(10, 6, 0, 1).into(), 24)?;

    let cell = Cell::new(&host, name)?;
    cell.write("keepalived.conf", &recording.configuration)?;
    cell.write("director.toml", "[[interface]]\nname = \"eth0\"\naddresses = [\"10.5.0.253/24\"]\n")?;
    cell.script("note.sh", "#!/bin/sh\necho \"argc=$# args=[$*] PWD=$PWD \" >>/run/kw/scripts.txt\n")?;
    cell.script("misc.sh", "#!/bin/sh\nexit `cat /run/kw/misc`\n")?;
    cell.write("misc", "0")?;
    cell.tell("ip link set d0 multicast off arp off; mkfifo /run/kw/fifo")?;
    cell.start_director("--config /run/kw/director.toml")?;
    cell.wait("FIFO", || cell.path("fifo").exists())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut fifo = fs::File::from(rustix::fs::open(cell.path("fifo"), flags, Mode::empty())?);
    let mut servers = Servers::new(outside, speech);
    for &number in up {
        servers.up(number)?;
    }
    cell.start_keepalived(if name == "21-tutorial-vrrp-only" { "-P" } else { "" })?;

    let (seen, lines) = watch(&recording, &cell, &mut servers, &mut fifo)?;
    let told =
        |what: &str| format!("{what}\nrecorded: {:#?}\nseen: {seen:#?}\n{}", recording.tables, cell.logs());
    compare(&recording, &seen).map_err(|what| told(&what))?;
    if by_subject(&lines) != by_subject(&recording.lines("fifo.txt")) {
        return Err(told(&format!("other lines in the FIFO: {lines:#?}")).into());
    }
    let mut scripts: [Vec<String>; 2] =
        [cell.read("scripts.txt").lines().map(str::to_owned).collect(), recording.lines("scripts.txt")];
    // Scripts start in parallel.
    scripts.iter_mut().for_each(|scripts| scripts.sort());
    if scripts[0] != scripts[1] {
        return Err(told(&format!("other scripts: {:#?}", scripts[0])).into());
    }
    Ok(())
}

/// Tables, and the seconds at which they were first seen.
type Seen = Vec<(f64, Table)>;

/// Does what was done, when it was done, and returns the tables with their times, and what came out of the FIFO.
fn watch(
    recording: &Recording,
    cell: &Cell,
    servers: &mut Servers,
    fifo: &mut fs::File,
) -> Result<(Seen, Vec<String>), Box<dyn Error>> {
    let mut client = cell.client()?;
    let (mut seen, mut text) = (vec![(0.0, Vec::new())], Vec::new());
    // Times are compared from the first table on: how long keepalived takes to start depends on the machine.
    let recorded_start = recording.tables.get(1).map_or(0.0, |(time, _)| *time);
    let (began, mut start) = (Instant::now(), None);
    let mut events = recording.events.iter().peekable();
    let mut stopped = None;
    loop {
        let table = table(&mut client)?;
        if start.is_none() && (!table.is_empty() || recording.tables.len() == 1) {
            start = Some(Instant::now());
        }
        let now = start.map_or(0.0, |start| start.elapsed().as_secs_f64() + recorded_start);
        if seen.last().is_none_or(|(_, last)| *last != table) {
            seen.push((now, table));
        }
        // What was done in one go must not be torn apart by a check.
        let mut after = now;
        while let Some((_, event)) = events.next_if(|(time, _)| *time <= after) {
            after += 0.3;
            perform(event, cell, servers)?;
            if *event == Event::Stop {
                stopped = Some(Instant::now());
            }
        }
        // Pieces of lines are put together at the end.
        drop(fifo.read_to_end(&mut text));
        let ended = cell.path("ended").exists();
        if ended || stopped.is_some_and(|at: Instant| at.elapsed() > PATIENCE) || began.elapsed() > LONGEST {
            if !ended {
                return Err(format!("keepalived does not end:\n{}", cell.logs()).into());
            }
            drop(fifo.read_to_end(&mut text));
            return Ok((seen, String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()));
        }
        thread::sleep(SAMPLE);
    }
}

/// The states of each service and server as they came. What happens to several at one time comes in any order.
fn by_subject(lines: &[String]) -> BTreeMap<&str, Vec<&str>> {
    let mut subjects = BTreeMap::<_, Vec<_>>::new();
    for line in lines {
        let (subject, state) = line.rsplit_once(' ').unwrap_or((line, ""));
        subjects.entry(subject).or_default().push(state);
    }
    subjects
}

fn perform(event: &Event, cell: &Cell, servers: &mut Servers) -> Outcome {
    match event {
        Event::Server(number, true) => servers.up(*number)?,
        Event::Server(number, false) => servers.down(*number),
        Event::Script(status) => cell.write("misc", status)?,
        Event::Index(there) => servers.set_index(*there),
        Event::Tracked(text) => cell.write("tf", text)?,
        Event::Stop => cell.tell("kill -TERM $keepalived; wait $keepalived; touch /run/kw/ended")?,
    }
    Ok(())
}

/// The tables must come in the same order, none may be missing, and what came in between must have passed before
/// somebody who looks as often as it was looked then would have seen it. The times may differ by what a check may
/// come later or earlier.
fn compare(recording: &Recording, seen: &[(f64, Table)]) -> Result<(), String> {
    let tolerance = 1.5 + delay_loop(&recording.configuration);
    let mut expected = recording.tables.iter();
    for (index, (time, table)) in seen.iter().enumerate() {
        let mut ahead = expected.clone();
        if let Some((recorded, _)) = ahead.next().filter(|(_, recorded)| recorded == table) {
            if (time - recorded).abs() > tolerance {
                return Err(format!("at {time:.1} s instead of {recorded:.1} s: {table:#?}"));
            }
            expected = ahead;
            continue;
        }
        let until = seen.get(index + 1).map_or(f64::INFINITY, |(time, _)| *time);
        if until - time > TRANSIENT {
            return Err(format!("at {time:.1} s for {:.1} s: {table:#?}", until - time));
        }
    }
    expected.next().map_or(Ok(()), |(time, table)| Err(format!("never came, at {time:.1} s: {table:#?}")))
}

fn delay_loop(configuration: &str) -> f64 {
    let value = configuration.lines().find_map(|line| line.trim().strip_prefix("delay_loop "));
    value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

/// What the director says, as lines of `ipvsadm -Ln` without counters.
fn table(client: &mut Client) -> Result<Table, Box<dyn Error>> {
    let mut table = Vec::new();
    for (service, servers) in client.table()? {
        let spec = &service.spec;
        let (mut line, family) = (service.name.to_string(), service.name.family());
        if let ServiceName::Mark { mark, .. } = service.name {
            line = format!("FWM {mark}");
        }
        line.push(' ');
        line.push_str(&spec.scheduler);
        if spec.flags & flags::PERSISTENT != 0 {
            line.push_str(&format!(" persistent {}", spec.timeout));
        }
        if spec.netmask != whole(family) && family == Family::V4 {
            line.push_str(&format!(" mask {}", Ipv4Addr::from_bits(spec.netmask)));
        }
        table.push(line);
        for server in servers {
            let way = if server.spec.method & method::MASK == method::DIRECT { "Route" } else { "another" };
            let at: SocketAddr = server.address;
            table.push(format!("  -> {at} {way} {}", server.spec.weight));
        }
    }
    sort(&mut table);
    Ok(table)
}

/// How often the table is looked at.
const SAMPLE: Duration = Duration::from_millis(50);
/// Longer than the recorder took from one look to the next, in seconds.
const TRANSIENT: f64 = 0.8;
/// How long keepalived may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than the longest recording.
const LONGEST: Duration = Duration::from_secs(90);
