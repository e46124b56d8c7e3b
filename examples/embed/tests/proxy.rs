//! The proxy serves every client, whatever becomes of one of its servers.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// A server that says its name to everybody.
fn server(at: &str, name: &'static str) -> Option<SocketAddr> {
    let listener = TcpListener::bind(at).ok()?;
    let address = listener.local_addr().ok()?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that has gone needs no answer.
            let _ = (&client).write_all(name.as_bytes());
        }
    });
    Some(address)
}

/// Ends the proxy with the test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn clients_are_served_by_whoever_answers_of_both_families() {
    let mut servers = vec![server("127.0.0.1:0", "four").expect("a server of IPv4")];
    // A machine without IPv6 has one server less.
    servers.extend(server("[::1]:0", "six"));
    // Bound and not listening any more: whoever connects there is refused.
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port");
    let arguments = servers.iter().chain([&dead]).map(ToString::to_string);
    let child = Command::new(env!("CARGO_BIN_EXE_proxy"))
        .arg("127.0.0.1:0")
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the proxy starts");
    let mut proxy = Proxy(child);
    let mut lines = BufReader::new(proxy.0.stdout.take().expect("its output")).lines();
    let mut line = || lines.next().expect("the proxy lives").expect("text");
    let at: SocketAddr =
        line().strip_prefix("listening at ").and_then(|at| at.parse().ok()).expect("an address");

    let mut served = BTreeMap::new();
    for _ in 0..60 {
        let mut answer = String::new();
        TcpStream::connect(at).and_then(|mut to| to.read_to_string(&mut answer)).expect("an answer");
        *served.entry(answer).or_insert(0) += 1;
    }
    assert_eq!(served.values().sum::<i32>(), 60, "{served:?}");
    assert!(served.keys().all(|name| ["four", "six"].contains(&name.as_str())), "{served:?}");
    assert_eq!(served.len(), servers.len(), "each living server has its share: {served:?}");
    // Every client's line has come by now, and those of failures before them.
    let (mut refused, mut told) = (0, 0);
    while told < 60 {
        let line = line();
        told += usize::from(line.contains(" is served by "));
        refused += usize::from(line == format!("{dead} does not answer"));
    }
    assert!((1..=3).contains(&refused), "a server that refuses is held back: {refused}");
}
