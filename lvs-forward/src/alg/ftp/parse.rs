//! What control connections say about data connections, found as IPVS's helper finds it.
//!
//! ```
//! use lvs_core::Family;
//! use lvs_forward::alg::ftp::parse::{Command, Search, client_command, passive_reply, passive_text};
//!
//! assert_eq!(client_command(b"PASV\r\n", Family::V4), Some(Command::Passive));
//! let reply = b"227 Entering Passive Mode (10,0,1,11,195,80).\r\n";
//! let Search::Found(place) = passive_reply(reply) else { panic!("not found") };
//! assert_eq!(place.address, "10.0.1.11:50000".parse()?);
//! assert_eq!(&reply[place.start..place.end], b"10,0,1,11,195,80");
//! assert_eq!(passive_text("10.99.0.1:50000".parse()?).as_bytes(), b"10,99,0,1,195,80");
//! # Ok::<(), core::net::AddrParseError>(())
//! ```

use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr, SocketAddrV4};

use lvs_core::Family;

use super::address::address;

/// What a client's segment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "matches must name every command")]
pub enum Command {
    /// `PORT` or `EPRT`: the server shall connect to this address of the client's.
    Active(SocketAddr),
    /// `PASV`: the server will say in a reply 227 where to connect to.
    Passive,
    /// `EPSV`: the same with a reply 229.
    ExtendedPassive,
}

/// An address in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a place has two ends")]
pub struct Place {
    /// What it says.
    pub address: SocketAddr,
    /// From the payload's first byte to the address's.
    pub start: usize,
    /// The byte after its last one.
    pub end: usize,
}

/// Whether a payload begins with a certain word and an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the three results of IPVS's parser")]
pub enum Search {
    /// The line begins with something else.
    Absent,
    /// The line ends before the address does, or what stands there is no address.
    Incomplete,
    /// The address stands here.
    Found(Place),
}

/// What a client's segment asks for, if it is about a data connection: `PASV` and `EPSV` anywhere in it, `PORT` and
/// `EPRT` at its beginning. `family` is that of the control connection; the data connection is of the same one.
#[must_use]
pub fn client_command(payload: &[u8], family: Family) -> Option<Command> {
    // Anywhere in the segment, as IPVS looks for these two; for the others it looks at the beginning only.
    for at in 0..payload.len().saturating_sub(PASV.len() - 1) {
        let rest = payload.get(at..)?;
        if family == Family::V4 && starts_with(rest, PASV) {
            return Some(Command::Passive);
        }
        if starts_with(rest, EPSV) {
            match rest.get(EPSV.len()..) {
                Some([b'\r', ..]) => return Some(Command::ExtendedPassive),
                Some([b' ', protocol, b'\r', ..]) if *protocol == protocol_number(family) => {
                    return Some(Command::ExtendedPassive);
                }
                // A question for another protocol, or for none: IPVS looks no further.
                Some([b' ', ..]) => return None,
                Some(_) | None => {}
            }
        }
    }
    let unspecified = match family {
        Family::V4 => {
            if let Search::Found(place) = search(payload, b"PORT", b' ', Form::Numbers) {
                return Some(Command::Active(place.address));
            }
            IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED)
        }
        Family::V6 => IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED),
    };
    match search(payload, b"EPRT", b' ', Form::Delimited { known: unspecified, may_omit: false }) {
        Search::Found(place) => Some(Command::Active(place.address)),
        Search::Absent | Search::Incomplete => None,
    }
}

/// The address in a server's reply to `PASV`: `227 text (a,b,c,d,p1,p2)`, with or without parentheses.
#[must_use]
pub fn passive_reply(payload: &[u8]) -> Search {
    search(payload, b"227 ", b'(', Form::Numbers)
}

/// The address in a server's reply to `EPSV`: `229 text (|||port|)`, with any delimiter. `server` is where the control
/// connection goes; the address is that one unless the reply names another.
#[must_use]
pub fn extended_passive_reply(payload: &[u8], server: IpAddr) -> Search {
    search(payload, b"229 ", b'(', Form::Delimited { known: server, may_omit: true })
}

/// A text of at most 23 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(heapless::String<24>);

impl Text {
    /// The text's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// An address as a reply 227 has it: `10,99,0,1,195,80`.
#[must_use]
pub fn passive_text(address: SocketAddrV4) -> Text {
    let mut text = heapless::String::new();
    let [a, b, c, d] = address.ip().octets();
    let [high, low] = address.port().to_be_bytes();
    // Six numbers of three digits and five commas fit.
    let _ = write!(text, "{a},{b},{c},{d},{high},{low}");
    Text(text)
}

/// A port as a reply 229 has it: `|||50000|`.
#[must_use]
pub fn extended_passive_text(port: u16) -> Text {
    let mut text = heapless::String::new();
    // Five digits and four bars fit.
    let _ = write!(text, "|||{port}|");
    Text(text)
}

/// How an address is written.
#[derive(Clone, Copy)]
enum Form {
    /// RFC 959: six numbers.
    Numbers,
    /// RFC 2428: protocol, address and port between delimiters. Protocol and address may be missing in a reply.
    Delimited { known: IpAddr, may_omit: bool },
}

fn search(payload: &[u8], pattern: &[u8], skip: u8, form: Form) -> Search {
    if payload.len() < pattern.len() {
        return if starts_with(pattern, payload) { Search::Incomplete } else { Search::Absent };
    }
    if !starts_with(payload, pattern) {
        return Search::Absent;
    }
    let found = begin(payload, pattern.len(), skip, form).and_then(|start| match form {
        Form::Numbers => numbers(payload, start),
        Form::Delimited { known, may_omit } => delimited(payload, start, known, may_omit),
    });
    found.map_or(Search::Incomplete, Search::Found)
}

/// Where the address begins: behind the first run of `skip`, or at a digit before it in the old form.
fn begin(payload: &[u8], from: usize, skip: u8, form: Form) -> Option<usize> {
    let rest = payload.get(from..)?;
    let digits_count = matches!(form, Form::Numbers);
    let stop = rest.iter().position(|&byte| byte == skip || (digits_count && byte.is_ascii_digit()))?;
    let run = rest.get(stop..)?.iter().position(|&byte| byte != skip)?;
    Some(from + stop + run)
}

/// Six numbers with commas between; a missing one is 0.
fn numbers(payload: &[u8], start: usize) -> Option<Place> {
    let mut values = [0_u8; 6];
    let mut at = start;
    for (index, value) in values.iter_mut().enumerate() {
        while let Some(digit) = payload.get(at).copied().filter(u8::is_ascii_digit) {
            // A number above 255 is no part of an address.
            *value = value.checked_mul(10)?.checked_add(digit - b'0')?;
            at += 1;
        }
        let last = index == 5;
        match payload.get(at)? {
            b',' if !last => at += 1,
            _ if last => {}
            _ => return None,
        }
    }
    let [a, b, c, d, high, low] = values;
    let port = u16::from_be_bytes([high, low]);
    Some(Place { address: SocketAddr::from(([a, b, c, d], port)), start, end: at })
}

/// `d proto d address d port d` with any delimiter `d`.
fn delimited(payload: &[u8], start: usize, known: IpAddr, may_omit: bool) -> Option<Place> {
    let rest = payload.get(start..)?;
    let (&delimiter, after) = rest.split_first()?;
    if !delimiter.is_ascii_graphic() {
        return None;
    }
    let (&protocol, after) = after.split_first()?;
    let (&next, after) = after.split_first()?;
    if next != delimiter {
        return None;
    }
    let family = Family::of(known);
    let (ip, after) = if protocol == delimiter {
        if !may_omit {
            return None;
        }
        (known, after)
    } else if protocol == protocol_number(family) {
        let len = after.iter().position(|&byte| byte == delimiter)?;
        let (text, after) = after.split_at_checked(len)?;
        (address(text, family)?, after.get(1..)?)
    } else {
        return None;
    };
    let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut port = 0_u16;
    for &digit in after.get(..digits)? {
        port = port.checked_mul(10)?.checked_add(u16::from(digit - b'0'))?;
    }
    if port == 0 || *after.get(digits)? != delimiter {
        return None;
    }
    let left = after.len() - digits - 1;
    Some(Place { address: SocketAddr::new(ip, port), start, end: payload.len() - left })
}

/// RFC 2428's number of a network protocol.
const fn protocol_number(family: Family) -> u8 {
    match family {
        Family::V4 => b'1',
        Family::V6 => b'2',
    }
}

fn starts_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

const PASV: &[u8] = b"PASV\r\n";
const EPSV: &[u8] = b"EPSV";

#[cfg(test)]
mod tests;
