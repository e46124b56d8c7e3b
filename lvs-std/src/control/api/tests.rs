//! Conversations at a JSON socket, with somebody who answers as it pleases.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::control::Cursor;
use crate::ownership::{Access, OwnedSocket};

/// A table of so many connections, in pages of `PAGE`.
struct Table {
    connections: usize,
    pages: AtomicUsize,
    tell: Mutex<Vec<(Sender<ApiEvent>, Wake)>>,
}

const PAGE: usize = 100;

impl ApiHandler for Table {
    fn answer(&self, request: Request) -> Response {
        assert!(!matches!(request, Request::Drains), "a fault that the test wants");
        if matches!(request, Request::Health) {
            thread::sleep(Duration::from_millis(300));
            return Response::of(&"slow");
        }
        Response::of(&"services")
    }

    fn connections(
        &self,
        server: Option<SocketAddr>,
        most: usize,
        at: Option<Cursor>,
    ) -> Result<ConnectionPage, String> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        let first = at.map_or(0, |at| at.entry as usize);
        let page = first..self.connections.min(first + PAGE);
        let wanted = page.clone().filter(|number| server.is_none() || number % 10 == 0);
        let rows: Vec<_> = wanted.take(most).map(row).collect();
        let end = rows.last().filter(|_| rows.len() == most).map_or(page.end, |row| row.packets as usize + 1);
        let next = (end < self.connections).then(|| format!("1-0-{end:x}").parse().unwrap());
        Ok(ConnectionPage { rows, next })
    }

    fn events(&self, wake: Wake) -> Receiver<ApiEvent> {
        let (sender, receiver) = channel();
        self.tell.lock().unwrap().push((sender, wake));
        receiver
    }
}

fn row(number: usize) -> ConnectionRow {
    let address: SocketAddr = "192.0.2.1:1".parse().unwrap();
    ConnectionRow {
        protocol: "TCP".to_owned(),
        client: address,
        virtual_address: address,
        server: address,
        method: "nat".to_owned(),
        state: "ESTABLISHED".to_owned(),
        expires: 1.0,
        packets: number as u64,
    }
}

/// A socket at which the table is asked for.
struct Site {
    socket: PathBuf,
    table: Arc<Table>,
    _server: ApiServer,
    _folder: TempDir,
}

impl Site {
    fn new(connections: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("director.sock.json");
        let (pages, tell) = (AtomicUsize::new(0), Mutex::default());
        let table = Arc::new(Table { connections, pages, tell });
        let server =
            ApiServer::start(OwnedSocket::take(&socket).unwrap(), Access::default(), None, table.clone())
                .unwrap();
        Self { socket, table, _server: server, _folder: folder }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn put(&self, question: &str) -> UnixStream {
        let mut stream = self.connect();
        stream.write_all(question.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
        stream
    }

    fn ask(&self, question: &str) -> Response {
        let mut line = String::new();
        BufReader::new(self.put(question)).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    fn numbers(&self, question: &str) -> (Vec<u64>, Option<String>) {
        let response = self.ask(question);
        assert_eq!(response.error, None);
        let rows: Vec<ConnectionRow> = serde_json::from_value(response.result).unwrap();
        (rows.iter().map(|row| row.packets).collect(), response.next)
    }
}

#[test]
fn a_listing_comes_whole_or_in_parts_and_is_the_same() {
    let site = Site::new(1_234);
    let all: Vec<u64> = (0..1_234).collect();
    assert_eq!(site.numbers(r#"{"connections":{}}"#), (all.clone(), None));
    for limit in [1, 7, 100, 101, 1_233, 1_234, 5_000] {
        let (mut rows, mut after) = (Vec::new(), None::<String>);
        loop {
            let place = after.map(|after| format!(r#","after":"{after}""#)).unwrap_or_default();
            let (part, next) = site.numbers(&format!(r#"{{"connections":{{"limit":{limit}{place}}}}}"#));
            assert!(part.len() <= limit);
            rows.extend(part);
            // Of many short parts the first few say as much as all.
            if next.is_none() || (limit < 100 && rows.len() > 300) {
                break;
            }
            after = next;
        }
        assert_eq!(rows, all[..rows.len()], "in parts of {limit}");
    }
    let of_one: Vec<u64> = (0..1_234).step_by(10).collect();
    assert_eq!(site.numbers(r#"{"connections":{"server":"192.0.2.1:1"}}"#), (of_one, None));
    assert_eq!(site.numbers(r#"{"connections":{"limit":0}}"#).0, Vec::<u64>::new());
    assert!(site.ask(r#"{"connections":{"after":"nonsense"}}"#).error.unwrap().contains("begin"));
    let empty = Site::new(0);
    assert_eq!(empty.numbers(r#"{"connections":{}}"#), (Vec::new(), None));
}

#[test]
fn a_client_that_fetches_nothing_of_a_long_listing_has_a_few_pages_worked_out() {
    let site = Site::new(10_000_000);
    let mut slow = site.put(r#"{"connections":{}}"#);
    thread::sleep(Duration::from_millis(300));
    let pages = site.table.pages.load(Ordering::Relaxed);
    // A page is some 15 KB, and a socket's buffers have room for a few hundred.
    assert!(pages < 100, "{pages} pages of a table of 100,000");
    assert_eq!(site.ask(r#""services""#).result, "services", "others are answered");
    let mut some = [0; 4_096];
    slow.read_exact(&mut some).unwrap();
    assert!(some.starts_with(br#"{"result":[{"protocol":"TCP""#));
}

#[test]
fn questions_that_panic_are_answered_and_the_next_ones_too() {
    let site = Site::new(1);
    for _ in 0..20 {
        assert!(site.ask(r#""drains""#).error.unwrap().contains("fault"));
    }
    assert_eq!(site.ask(r#""services""#).result, "services");
}

#[test]
fn silent_clients_give_way_and_half_a_question_is_none() {
    let site = Site::new(1);
    let mut silent: Vec<_> = (0..200).map(|_| site.connect()).collect();
    for stream in &mut silent {
        // Who has given way already cannot be written to.
        let _ = stream.write_all(b"{\"plan\":");
    }
    let begun = Instant::now();
    assert_eq!(site.ask(r#""services""#).result, "services");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "not when the silent ones are left: {:?}",
        begun.elapsed()
    );
    assert!(site.ask("[[[[").error.unwrap().contains("no question that this director knows"));
}

#[test]
fn events_come_at_once_and_their_end_too() {
    let site = Site::new(1);
    let mut lines = BufReader::new(site.put(r#""events""#)).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "{}");
    let (sender, wake) = site.table.tell.lock().unwrap().pop().unwrap();
    for number in 0..200 {
        sender.send(ApiEvent::Reloaded { changes: number.to_string() }).unwrap();
        wake.wake();
    }
    for number in 0..200 {
        assert_eq!(lines.next().unwrap().unwrap(), format!(r#"{{"event":"reloaded","changes":"{number}"}}"#));
    }
    assert_eq!(site.ask(r#""services""#).result, "services", "a listener is no question of its process");
    drop(sender);
    wake.wake();
    assert!(lines.next().is_none());
}

#[test]
fn whoever_tells_of_events_learns_that_a_listener_has_left() {
    let site = Site::new(1);
    let mut lines = BufReader::new(site.put(r#""events""#)).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "{}");
    let (_sender, wake) = site.table.tell.lock().unwrap().pop().unwrap();
    assert!(wake.is_heard());
    drop(lines);
    let begun = Instant::now();
    while wake.is_heard() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_answer_that_takes_a_while_is_waited_for() {
    let site = Site::new(1);
    assert_eq!(site.ask(r#""health""#).result, "slow");
}
