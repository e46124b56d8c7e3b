//! `-L -c`: the connection table, from the text of `/proc/net/ip_vs_conn`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Names;
use super::table::endpoint;

/// The file from which the table is read, as ipvsadm does.
pub(super) const FILE: &str = "/proc/net/ip_vs_conn";

/// The listing, in the order of the file, line by line as the file comes: it may be longer than anybody wants to keep.
pub(super) struct Lines<'a> {
    /// Whether what persistence engines know is listed.
    engines: bool,
    names: &'a dyn Names,
    /// The beginning of a line that has not come whole.
    rest: Vec<u8>,
    titled: bool,
}

impl<'a> Lines<'a> {
    pub(super) const fn new(engines: bool, names: &'a dyn Names) -> Self {
        Self { engines, names, rest: Vec::new(), titled: false }
    }

    /// The listing's text for a further piece of the file.
    pub(super) fn take(&mut self, piece: &[u8]) -> String {
        let mut rest = core::mem::take(&mut self.rest);
        rest.extend_from_slice(piece);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut text = String::new();
        for line in String::from_utf8_lossy(rest.get(..whole).unwrap_or_default()).lines() {
            self.line(line, &mut text);
        }
        rest.drain(..whole);
        self.rest = rest;
        text
    }

    /// The text for the end of the file.
    pub(super) fn end(mut self) -> String {
        let mut text = String::new();
        let rest = core::mem::take(&mut self.rest);
        if !self.titled || !rest.is_empty() {
            self.line(&String::from_utf8_lossy(&rest), &mut text);
        }
        text
    }

    fn line(&mut self, line: &str, text: &mut String) {
        if self.titled {
            text.extend(Row::read(line).map(|row| row.line(self.engines, self.names)));
            return;
        }
        // The first line has the titles of the file.
        self.titled = true;
        text.push_str(TITLES);
        text.push_str(if self.engines { "        pe name          pe_data\n" } else { "\n" });
    }
}

/// What stands above the connections.
const TITLES: &str = "IPVS connection entries\n\
    pro expire state       source             virtual            destination";

/// A line of the file.
struct Row<'a> {
    protocol: &'a str,
    client: SocketAddr,
    service: SocketAddr,
    server: SocketAddr,
    state: &'a str,
    seconds: u64,
    engine: Option<(&'a str, &'a str)>,
}

impl<'a> Row<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let protocol = words.next()?;
        let mut socket = || Some(SocketAddr::new(address(words.next()?)?, port(words.next()?)?));
        let (client, service, server) = (socket()?, socket()?, socket()?);
        let (state, seconds) = (words.next()?, words.next()?.parse().ok()?);
        let engine = words.next().map(|name| (name, words.next().unwrap_or_default()));
        Some(Self { protocol, client, service, server, state, seconds, engine })
    }

    fn line(&self, engines: bool, names: &dyn Names) -> String {
        let protocol = match self.protocol {
            "TCP" => 6,
            "UDP" => 17,
            "SCTP" => 132,
            // Templates of services by mark, whose ports have no names.
            _ => 0,
        };
        let name = |at| endpoint(at, protocol, names);
        let left = format!("{:02}:{:02}", self.seconds / 60, self.seconds % 60);
        let (client, service, server) = (name(self.client), name(self.service), name(self.server));
        let start = format!("{:<3} {left:<6} {:<11} {client:<18} {service:<18}", self.protocol, self.state);
        match self.engine.filter(|_| engines) {
            Some((engine, data)) => format!("{start} {server:<16} {engine:<18} {data}\n"),
            None => format!("{start} {server}\n"),
        }
    }
}

/// Eight hexadecimal digits, or eight groups of four.
fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        text.parse().ok().map(|address: Ipv6Addr| address.into())
    } else {
        u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into())
    }
}

fn port(text: &str) -> Option<u16> {
    u16::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::Numeric;

    const FILE: &str = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP C0000201 03E9 0A630001 0050 0A00010B 0050 ESTABLISHED     899
UDP C0000201 0000 0A630001 13C4 0A00010B 13C4 UDP            6000 sip 4aa6
TCP 2001:0db8:000c:0000:0000:0000:0000:0007 03E9 2001:0db8:0099:0000:0000:0000:0000:0001 0050 \
2001:0db8:0001:0000:0000:0000:0000:0011 0050 ESTABLISHED     899
a line that is none
";

    fn listing(file: &str, engines: bool, names: &dyn Names) -> String {
        let mut lines = Lines::new(engines, names);
        lines.take(file.as_bytes()) + &lines.end()
    }

    #[test]
    fn a_file_that_comes_in_pieces_is_listed_as_the_whole_one() {
        let whole = listing(FILE, true, &Numeric);
        for size in 1..FILE.len() {
            let mut lines = Lines::new(true, &Numeric);
            let text: String = FILE.as_bytes().chunks(size).map(|piece| lines.take(piece)).collect();
            assert_eq!(text + &lines.end(), whole, "in pieces of {size}");
        }
        let empty = Lines::new(false, &Numeric).end();
        assert_eq!(empty.lines().count(), 2, "the titles: {empty}");
        assert_eq!(listing(FILE.trim_end(), true, &Numeric), whole, "the last line without its end");
    }

    #[test]
    fn connections_are_listed_as_by_ipvsadm() {
        let expected = "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:59  ESTABLISHED 192.0.2.1:1001     10.99.0.1:80       10.0.1.11:80
UDP 100:00 UDP         192.0.2.1:0        10.99.0.1:5060     10.0.1.11:5060
TCP 14:59  ESTABLISHED [2001:db8:c::7]:1001 [2001:db8:99::1]:80 [2001:db8:1::11]:80
";
        assert_eq!(listing(FILE, false, &Numeric), expected);
    }

    #[test]
    fn engines_have_columns_if_asked_for() {
        let text = listing(FILE, true, &Numeric);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("destination        pe name          pe_data"), "{text}");
        assert!(lines[2].ends_with(" 10.0.1.11:80"), "{text}");
        assert!(lines[3].ends_with(" 10.0.1.11:5060   sip                4aa6"), "{text}");
    }
}
