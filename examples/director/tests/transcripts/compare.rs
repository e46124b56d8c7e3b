//! Whether two endings are equal, but for what the clock and the kernel's hash decide.

use crate::script::Ending;

/// What is different, for people; nothing if nothing is.
pub(crate) fn compare(script: &str, expected: &Ending, got: &Ending) -> Option<String> {
    let mut text = String::new();
    if expected.status != got.status {
        text.push_str(&format!("status {} instead of {}\n", got.status, expected.status));
    }
    for (name, expected, got) in
        [("output", &expected.out, &got.out), ("errors", &expected.errors, &got.errors)]
    {
        let (one, other) = (lines(script, expected), lines(script, got));
        let same = one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| one.is_like(other));
        if !same {
            text.push_str(&format!("{name}, expected:\n{expected}\n{name}, got:\n{got}\n"));
        }
    }
    (!text.is_empty()).then_some(text)
}

/// A line without its time, and its time in seconds.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    text: String,
    time: Option<u64>,
}

impl Line {
    fn read(line: &str) -> Self {
        listed(line).or_else(|| in_proc(line)).unwrap_or_else(|| Self { text: line.to_owned(), time: None })
    }

    fn is_like(&self, other: &Self) -> bool {
        self.text == other.text
            && match (self.time, other.time) {
                (Some(one), Some(other)) => one.abs_diff(other) <= TOLERANCE,
                (one, other) => one == other,
            }
    }
}

/// A connection as `-Lc` has it: its second column is `mm:ss`, filled up to six places.
fn listed(line: &str) -> Option<Line> {
    let mut words = line.split_whitespace();
    let protocol = words.next().filter(|word| PROTOCOLS.contains(word))?;
    let time = words.next()?;
    let (minutes, seconds) = time.split_once(':')?;
    let all = minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?;
    let rest = line.get(line.find(time)? + time.len().max(6)..)?;
    Some(Line { text: format!("{protocol} {rest}"), time: Some(all) })
}

/// A connection as `/proc/net/ip_vs_conn` has it: its ninth column are seconds, right in seven places.
fn in_proc(line: &str) -> Option<Line> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let protocol = words.first().filter(|word| PROTOCOLS.contains(*word))?;
    let time = words.get(8).filter(|_| words.get(2).is_some_and(|port| port.len() == 4))?;
    let seconds = time.parse().ok()?;
    let start = line.rfind(&format!(" {time}"))?;
    let end = start + 1 + time.len();
    let text = format!("{protocol} {} {} {end}", line.get(..start)?.trim_end(), line.get(end..)?);
    Some(Line { text, time: Some(seconds) })
}

/// The lines of a text. Rates are not compared, nor is the size of the connection table, nor the order of
/// connections, nor that of services where nothing sorts them.
fn lines(script: &str, text: &str) -> Vec<Line> {
    let rates = script.contains("--rate") && script.contains("traffic");
    let mut lines: Vec<Line> = text
        .lines()
        .map(|line| {
            let mut line = Line::read(line);
            if let Some((title, _)) = line.text.split_once(" (size=") {
                line.text = title.to_owned();
            }
            if rates && (line.text.starts_with("TCP ") || line.text.starts_with("  -> ")) {
                let hidden = |word: &str| {
                    if word.bytes().all(|byte| byte.is_ascii_digit()) { "N" } else { word }.to_owned()
                };
                line.text = line.text.split_whitespace().map(hidden).collect::<Vec<_>>().join(" ");
            }
            line
        })
        .collect();
    for run in lines.chunk_by_mut(|one, other| one.time.is_some() && other.time.is_some()) {
        run.sort();
    }
    if script.contains("--nosort") || script.contains("/proc/net/ip_vs\n") {
        let is_server = |line: &Line| line.text.starts_with("  -> ");
        let mut groups: Vec<Vec<Line>> = Vec::new();
        for line in lines {
            match groups.last_mut().filter(|_| is_server(&line)) {
                Some(group) => group.push(line),
                None => groups.push(vec![line]),
            }
        }
        groups.sort();
        return groups.into_iter().flatten().collect();
    }
    lines
}

/// Checks that what may differ is passed over, and nothing else.
pub(crate) fn check() -> Result<(), String> {
    let of = |out: &str| Ending { out: out.to_owned(), ..Ending::default() };
    let listed = "TCP 14:59  ESTABLISHED 192.0.2.1:1001     10.99.0.1:80       10.0.1.11:80\n";
    let other = "UDP 04:59  UDP         192.0.2.1:1001     10.99.0.1:53       10.0.1.11:53\n";
    let in_proc = "TCP C0000201 03E9 0A630001 0050 0A00010B 0050 ESTABLISHED     899\n";
    let equal = [
        ("", listed, "TCP 14:57  ESTABLISHED 192.0.2.1:1001     10.99.0.1:80       10.0.1.11:80\n"),
        ("", &format!("{listed}{other}"), &format!("{other}{listed}")),
        ("", in_proc, "TCP C0000201 03E9 0A630001 0050 0A00010B 0050 ESTABLISHED     897\n"),
        ("", "IP Virtual Server version 1.2.1 (size=4096)\n", "IP Virtual Server version 1.2.1 (size=7)\n"),
        ("ipvsadm --nosort", "TCP a\n  -> b\nTCP c\n", "TCP c\nTCP a\n  -> b\n"),
        ("traffic\nipvsadm --rate", "  -> 10.0.1.11:80   0 0 0 140 0\n", "  -> 10.0.1.11:80   0 0 0 9 0\n"),
    ];
    let different = [
        ("", listed, "TCP 14:50  ESTABLISHED 192.0.2.1:1001     10.99.0.1:80       10.0.1.11:80\n"),
        ("", listed, "TCP 14:59 ESTABLISHED 192.0.2.1:1001     10.99.0.1:80       10.0.1.11:80\n"),
        ("", listed, "TCP 14:59  ESTABLISHED 192.0.2.1:1001     10.99.0.1:80       10.0.1.12:80\n"),
        ("", listed, other),
        ("", listed, ""),
        ("", in_proc, "TCP C0000201 03E9 0A630001 0050 0A00010B 0050 ESTABLISHED    899\n"),
        ("", "TCP a\n  -> b\nTCP c\n", "TCP c\nTCP a\n  -> b\n"),
        ("ipvsadm --nosort", "TCP a\n  -> b\nTCP c\n", "TCP c\n  -> b\nTCP a\n"),
        ("", "a \n", "a\n"),
    ];
    for (pairs, wanted) in [(&equal[..], true), (&different, false)] {
        for (script, one, two) in pairs {
            if compare(script, &of(one), &of(two)).is_none() != wanted {
                return Err(format!("equal is not {wanted}:\n{one}{two}"));
            }
        }
    }
    let failed = Ending { status: 1, ..Ending::default() };
    let said = Ending { errors: "no\n".to_owned(), ..Ending::default() };
    if [failed, said].iter().any(|ending| compare("", &Ending::default(), ending).is_none()) {
        return Err("status and errors are not compared".to_owned());
    }
    Ok(())
}

const PROTOCOLS: [&str; 4] = ["TCP", "UDP", "SCTP", "IP"];
/// Seconds by which times may differ.
const TOLERANCE: u64 = 3;
