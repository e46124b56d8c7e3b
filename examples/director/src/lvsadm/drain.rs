//! `--drain`, `--undrain` and `--drains`: commands of our own, for what ipvsadm has no word for.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::Write;
use std::path::Path;
use std::thread;

use lvs_std::Seconds;
use lvs_std::control::api::{DrainRow, Request, ask};
use lvs_std::control::convert;
use lvs_std::ipvsadm::{self, Command, System, UNREACHABLE};

use crate::control::json_socket;

/// What is asked.
#[derive(Debug, PartialEq)]
enum Own {
    Drain { service: String, server: SocketAddr, deadline: Option<Seconds>, wait: bool },
    Undrain { service: String, server: SocketAddr },
    Drains,
}

/// Does what the words say, if they begin with a command of our own; returns the exit status.
pub(super) fn call(words: &[&str], socket: &Path, out: &mut dyn Write, errors: &mut dyn Write) -> Option<u8> {
    let own = match read(words)? {
        Ok(own) => own,
        Err(text) => {
            // Whoever closes a stream wants no more, here and below.
            let _ = writeln!(errors, "{text}");
            return Some(MISUSED);
        }
    };
    let place = json_socket(socket);
    let done = match own {
        Own::Drain { service, server, deadline, wait } => {
            let request = Request::Drain { service: service.clone(), server, deadline };
            let begun = put(&place, &request).map(drop);
            begun.and_then(|()| if wait { watch(&place, &service, server, out) } else { Ok(()) })
        }
        Own::Undrain { service, server } => put(&place, &Request::Undrain { service, server }).map(drop),
        Own::Drains => rows(&place).map(|rows| {
            for row in rows {
                lvs_support::note(writeln!(out, "{}", line(&row)));
            }
        }),
    };
    Some(match done {
        Ok(()) => 0,
        Err((text, status)) => {
            let _ = writeln!(errors, "{text}");
            status
        }
    })
}

fn read(words: &[&str]) -> Option<Result<Own, String>> {
    let (first, rest) = words.split_first()?;
    if !["--drain", "--undrain", "--drains"].contains(first) {
        return None;
    }
    Some(options(first, rest))
}

fn options(first: &str, rest: &[&str]) -> Result<Own, String> {
    if first == "--drains" {
        return if rest.is_empty() {
            Ok(Own::Drains)
        } else {
            Err(format!("unexpected argument {}", rest.join(" ")))
        };
    }
    let (mut words, mut deadline, mut wait) = (vec!["-d"], None, true);
    let mut left = rest.iter();
    while let Some(word) = left.next() {
        let value = match word.strip_prefix("--deadline") {
            Some("") => Some(left.next().copied().ok_or("--deadline: missing argument")?),
            Some(value) => value.strip_prefix('='),
            None => None,
        };
        match value {
            Some(value) if first == "--drain" => {
                let seconds = value.parse();
                deadline =
                    Some(seconds.map_err(|error| format!("invalid deadline `{value}' specified: {error}"))?);
            }
            _ if *word == "--no-wait" && first == "--drain" => wait = false,
            _ => words.push(word),
        }
    }
    match ipvsadm::parse(words, &System) {
        Ok(Command::DeleteServer(key, server)) => {
            let service = convert::name(key).to_string();
            Ok(match first {
                "--drain" => Own::Drain { service, server, deadline, wait },
                _ => Own::Undrain { service, server },
            })
        }
        Ok(_) => {
            Err(format!("{first} takes a service and a real server, such as -t 10.99.0.1:80 -r 10.0.1.11:80"))
        }
        Err(error) => Err(error.to_string().replace("delete-server", first.trim_start_matches('-'))),
    }
}

/// Shows what is left until nothing is.
fn watch(place: &Path, service: &str, server: SocketAddr, out: &mut dyn Write) -> Result<(), (String, u8)> {
    let mut shown = None;
    loop {
        let rows = rows(place)?;
        let Some(row) = rows.into_iter().find(|row| row.service == service && row.server == server) else {
            lvs_support::note(writeln!(out, "{service}  {server}  no connection is left"));
            return Ok(());
        };
        if shown != Some(row.remaining) {
            shown = Some(row.remaining);
            lvs_support::note(writeln!(out, "{}", line(&row)));
        }
        thread::sleep(LOOK);
    }
}

fn line(row: &DrainRow) -> String {
    let end = row.deadline.map(|seconds| format!(", cut in {seconds:.0} s")).unwrap_or_default();
    format!(
        "{}  {}  {} connections left after {:.1} s{end}",
        row.service, row.server, row.remaining, row.since
    )
}

fn rows(place: &Path) -> Result<Vec<DrainRow>, (String, u8)> {
    let result = put(place, &Request::Drains)?;
    serde_json::from_value(result)
        .map_err(|error| (format!("the director answers something else: {error}"), UNREACHABLE))
}

fn put(place: &Path, request: &Request) -> Result<serde_json::Value, (String, u8)> {
    let unreachable = |error| (format!("no director answers at {}: {error}", place.display()), UNREACHABLE);
    let response = ask(place, request).map_err(unreachable)?;
    match response.error {
        None => Ok(response.result),
        Some(error) => Err((error, REFUSED)),
    }
}

const LOOK: Duration = Duration::from_millis(250);
/// As for other words that make no sense, and for what the director refuses.
const MISUSED: u8 = 2;
const REFUSED: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_named_as_a_server_that_is_deleted() {
        let read = |line: &str| read(&line.split_whitespace().collect::<Vec<_>>());
        let server = "10.0.1.11:80".parse().unwrap();
        let service = "TCP 10.99.0.1:80".to_owned();
        assert_eq!(
            read("--drain -t 10.99.0.1:80 -r 10.0.1.11:80 --deadline 30"),
            Some(Ok(Own::Drain {
                service: service.clone(),
                server,
                deadline: "30".parse().ok(),
                wait: true
            }))
        );
        assert_eq!(
            read("--undrain -t 10.99.0.1:80 -r 10.0.1.11"),
            Some(Ok(Own::Undrain { service, server }))
        );
        assert_eq!(read("--drains"), Some(Ok(Own::Drains)));
        assert_eq!(read("-Ln"), None);
        let wrong = |line| read(line).unwrap().unwrap_err();
        assert_eq!(
            wrong("--drain -t 10.99.0.1:80"),
            "You need to supply the 'real-server' option for the 'drain' command"
        );
        for time in ["soon", "-1", "nan", "inf", "1e300", "1e18"] {
            let line = format!("--drain --deadline {time}");
            assert_eq!(
                read(&line).unwrap().unwrap_err(),
                format!(
                    "invalid deadline `{time}' specified: no time: expected seconds, from 0 to 1000000000"
                )
            );
        }
        assert_eq!(wrong("--drain --deadline"), "--deadline: missing argument");
    }
}
