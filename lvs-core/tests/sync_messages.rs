//! Odd sync messages: what a kernel took of them is what is read.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::net::IpAddr;

use lvs_core::sync::decode;

const RECORDED: &str = include_str!("data/sync-backup.txt");

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn entries_are_taken_as_by_the_kernels_backup() {
    let mut messages = 0;
    for line in RECORDED.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.splitn(3, ' ');
        let [message, clients, oddity] = [(); 3].map(|()| fields.next().unwrap());
        let expected: Vec<u16> = match clients {
            "-" => Vec::new(),
            clients => clients.split(',').map(|client| client.parse().unwrap()).collect(),
        };
        let message = bytes(message);
        let entries = decode(&message, 0).into_iter().flatten().filter_map(Result::ok);
        let taken: Vec<u16> = entries
            .map(|received| match received.entry.client().ip() {
                IpAddr::V4(client) => u16::from(client.octets()[3]),
                IpAddr::V6(_) => received.entry.client_port - 1_000,
            })
            .collect();
        assert_eq!(taken, expected, "{oddity}");
        messages += 1;
    }
    assert!(messages > 70, "{messages}");
}
