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

/// The lines of a text. Rates are not compared, nor is the size of the connection table, nor the order of connections, nor that of services where nothing sorts them.
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
                line.text = line.text.replace(|letter: char| letter.is_ascii_digit(), "0").replace("00", "0");
                line.text = line.text.split_whitespace().collect::<Vec<_>>().join(" ");
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

const PROTOCOLS: [&str; 4] = ["TCP", "UDP", "SCTP", "IP"];
/// Seconds by which times may differ.
const TOLERANCE: u64 = 3;
