//! Flows and filters as people write them, with the place where one stops making sense.
//!
//! ```
//! use lvs_std::filter::{FlowText, PacketFilter};
//!
//! let asked: FlowText = "tcp 203.0.113.7:4242 > 192.168.40.120:80 mark 5".parse()?;
//! assert_eq!(asked.mark, 5);
//! let web: PacketFilter = "tcp 203.0.113.0/24 > 192.168.40.120:80".parse()?;
//! assert!(web.takes(&asked.flow) && web.takes(&asked.flow.reversed()));
//! let error = "tcp 203.0.113.7 > 192.168.40.120:80".parse::<FlowText>().unwrap_err();
//! assert_eq!(error.at, 4);
//! # Ok::<(), lvs_std::filter::SyntaxError>(())
//! ```

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;

use lvs_core::{Family, Flow, Protocol};
use lvs_forward::host::Prefix;

/// A packet in question, as it comes from a client: `tcp 203.0.113.7:4242 > 192.168.40.120:80`, and behind it
/// `mark 5` for one with a firewall mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever asks")]
pub struct FlowText {
    /// Protocol, source and destination.
    pub flow: Flow,
    /// The firewall mark, 0 for none.
    pub mark: u32,
}

/// Which packets are meant: `tcp 203.0.113.0/24 > 192.168.40.120:80`.
///
/// The protocol is `tcp`, `udp`, `sctp` or `any`. An end is `any`, an address, a network, and either with a port behind
/// it (`203.0.113.0/24:80`, `[2001:db8::]/32:80`); `any:80` is a port of whatever address. Packets of the other
/// direction are meant too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketFilter {
    protocol: Option<Protocol>,
    ends: [End; 2],
}

/// One end of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    network: Option<Prefix>,
    port: Option<u16>,
}

impl End {
    fn has(&self, at: SocketAddr) -> bool {
        self.network.is_none_or(|network| network.contains(at.ip()))
            && self.port.is_none_or(|port| port == at.port())
    }
}

impl PacketFilter {
    /// Whether packets of this flow are meant.
    #[must_use]
    pub fn takes(&self, flow: &Flow) -> bool {
        let [from, to] = &self.ends;
        let (source, destination) = (flow.source(), flow.destination());
        self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && (from.has(source) && to.has(destination) || from.has(destination) && to.has(source))
    }
}

/// A text that does not say a flow, a filter or a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyntaxError {
    /// Where it stops making sense, in bytes from the beginning of the text.
    pub at: usize,
    /// What stands there; nothing at the end of the text.
    pub found: String,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, found, expected } = self;
        match found.as_str() {
            "" => write!(f, "at the end, character {}: expected {expected}", at + 1),
            found => write!(f, "at character {}, `{found}`: expected {expected}", at + 1),
        }
    }
}

impl core::error::Error for SyntaxError {}

/// The words of a text, one after the other.
struct Words<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Words<'t> {
    const fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next word: `>` is one by itself, whether there are blanks around it or not. Nothing at the end.
    fn next(&mut self) -> (usize, &'t str) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        let (at, rest) = (self.at, self.rest());
        let len = match rest.find(|letter: char| letter.is_whitespace() || letter == '>') {
            Some(0) => 1,
            Some(len) => len,
            None => rest.len(),
        };
        self.at += len;
        (at, rest.get(..len).unwrap_or_default())
    }
}

/// What a word means, or what would have made sense in its place.
fn meant<T>(
    (at, word): (usize, &str),
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, SyntaxError> {
    read(word).ok_or_else(|| SyntaxError { at, found: word.to_owned(), expected })
}

const ARROW: &str = "`>` and where the packet goes";
const NOTHING: &str = "nothing more";

impl FromStr for FlowText {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut words = Words::new(text);
        let protocol = meant(words.next(), "a protocol: tcp, udp or sctp", |word| word.parse().ok())?;
        let source = meant(words.next(), "the client's address and port, such as 192.0.2.7:40000", endpoint)?;
        meant(words.next(), ARROW, |word| (word == ">").then_some(()))?;
        let to = words.next();
        let destination = meant(to, "an address and port, such as 192.0.2.100:80", endpoint)?;
        let flow = meant(to, "an address of the same family as the client's", |_| {
            Flow::new(protocol, source, destination)
        })?;
        let word = words.next();
        let mark = match word.1 {
            "" => 0,
            _ => {
                meant(word, "nothing more, or `mark` and a number", |word| (word == "mark").then_some(()))?;
                meant(words.next(), "a firewall mark: a number", |word| word.parse().ok())?
            }
        };
        meant(words.next(), NOTHING, |word| word.is_empty().then_some(()))?;
        Ok(Self { flow, mark })
    }
}

impl FromStr for PacketFilter {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        const END: &str = "an address, a network, either with a port behind it, or any";
        let mut words = Words::new(text);
        let protocol = meant(words.next(), "a protocol: tcp, udp, sctp or any", |word| {
            if word.eq_ignore_ascii_case("any") { Some(None) } else { word.parse().ok().map(Some) }
        })?;
        let from = meant(words.next(), END, end)?;
        meant(words.next(), ARROW, |word| (word == ">").then_some(()))?;
        let last = words.next();
        let to = meant(last, END, end)?;
        let family = |end: &End| end.network.map(|network| network.family());
        let same = |(a, b): (Option<Family>, Option<Family>)| a.is_none() || b.is_none() || a == b;
        meant(last, "an end of the same family as the other", |_| {
            same((family(&from), family(&to))).then_some(())
        })?;
        meant(words.next(), NOTHING, |word| word.is_empty().then_some(()))?;
        Ok(Self { protocol, ends: [from, to] })
    }
}

/// Address and port. An IPv6 scope has no meaning here.
fn endpoint(word: &str) -> Option<SocketAddr> {
    word.parse().ok().filter(|at| !matches!(at, SocketAddr::V6(v6) if v6.scope_id() != 0))
}

/// `any`, `any:80`, `192.0.2.1`, `192.0.2.0/24:80`, `2001:db8::1`, `[2001:db8::]/32:80`.
fn end(word: &str) -> Option<End> {
    let port = |text: &str| text.strip_prefix(':').and_then(number::<u16>).map(Some);
    if let Some(rest) = word.strip_prefix("any") {
        return Some(End { network: None, port: if rest.is_empty() { None } else { port(rest)? } });
    }
    // Behind brackets, or behind an IPv4 address, a colon begins the port; elsewhere it is a part of the address.
    let (address, rest) = match word.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None if word.contains('.') && !word.contains("::") => {
            word.split_at(word.find(['/', ':']).unwrap_or(word.len()))
        }
        None => word.split_at(word.find('/').unwrap_or(word.len())),
    };
    let address: IpAddr = address.parse().ok()?;
    let (len, rest) = match rest.strip_prefix('/') {
        Some(rest) => {
            let (len, rest) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
            (number::<u8>(len)?, rest)
        }
        None => (if address.is_ipv4() { 32 } else { 128 }, rest),
    };
    let port = if rest.is_empty() { None } else { port(rest)? };
    Some(End { network: Some(Prefix::new(address, len)?), port })
}

/// Decimal digits alone: the standard library takes a sign as well.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The bytes of a frame that is written in hexadecimal digits. Blanks and colons between bytes mean nothing.
///
/// # Errors
/// [`SyntaxError`] where a character is no such digit, or a byte has one digit only.
pub fn bytes_of_hex(text: &str) -> Result<Vec<u8>, SyntaxError> {
    const DIGIT: &str = "a hexadecimal digit";
    let mut bytes = Vec::new();
    let mut high: Option<u32> = None;
    for (at, letter) in text.char_indices() {
        match (letter.to_digit(16), high) {
            (Some(digit), None) => high = Some(digit),
            (Some(digit), Some(first)) => {
                bytes.push((first << 4 | digit) as u8);
                high = None;
            }
            (None, None) if letter.is_whitespace() || letter == ':' => {}
            (None, _) => return Err(SyntaxError { at, found: letter.to_string(), expected: DIGIT }),
        }
    }
    if high.is_some() || bytes.is_empty() {
        return Err(SyntaxError { at: text.len(), found: String::new(), expected: DIGIT });
    }
    Ok(bytes)
}

/// Bytes as [`bytes_of_hex`] reads them: two hexadecimal digits each, and nothing between.
#[must_use]
pub fn hex_of(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read_with_and_without_blanks_and_with_a_mark() {
        for text in ["tcp 192.0.2.7:1>10.0.0.1:80", " TCP  192.0.2.7:1  > 10.0.0.1:80 mark 7 "] {
            let read: FlowText = text.parse().unwrap();
            let flow =
                Flow::new(Protocol::Tcp, "192.0.2.7:1".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
            assert_eq!((read.flow, read.mark), (flow.unwrap(), if text.contains("mark") { 7 } else { 0 }));
        }
        let six: FlowText = "udp [2001:db8::7]:5 > [2001:db8::1]:53".parse().unwrap();
        assert_eq!(six.flow.protocol, Protocol::Udp);
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_place_and_what_was_expected() {
        for (text, at, found, expected) in [
            ("", 0, "", "protocol"),
            ("icmp 1.2.3.4:1 > 1.2.3.4:2", 0, "icmp", "protocol"),
            ("tcp 1.2.3.4 > 1.2.3.4:2", 4, "1.2.3.4", "client's address and port"),
            ("tcp 1.2.3.4:1 1.2.3.4:2", 14, "1.2.3.4:2", "`>`"),
            ("tcp 1.2.3.4:1 >", 15, "", "address and port"),
            ("tcp 1.2.3.4:1 > [::1]:2", 16, "[::1]:2", "same family"),
            ("tcp 1.2.3.4:1 > 1.2.3.4:99999", 16, "1.2.3.4:99999", "address and port"),
            ("tcp 1.2.3.4:1 > 1.2.3.4:2 mork 7", 26, "mork", "nothing more, or `mark`"),
            ("tcp 1.2.3.4:1 > 1.2.3.4:2 mark 7 8", 33, "8", "nothing more"),
            ("tcp \u{fc}:1 > 1.2.3.4:2", 4, "\u{fc}:1", "client's address and port"),
        ] {
            let error = text.parse::<FlowText>().unwrap_err();
            assert_eq!((error.at, error.found.as_str()), (at, found), "{text}");
            assert!(error.expected.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_filter_means_both_directions_of_its_networks_and_ports() {
        let flow = |text: &str| text.parse::<FlowText>().unwrap().flow;
        let web = flow("tcp 203.0.113.7:4242 > 192.168.40.120:80");
        for (text, takes) in [
            ("tcp 203.0.113.0/24 > 192.168.40.120:80", true),
            ("tcp 192.168.40.120:80 > 203.0.113.0/24", true),
            ("any any > any", true),
            ("any any:80 > any", true),
            ("tcp any:81 > any", false),
            ("udp any > any", false),
            ("tcp 203.0.113.0/24:4242 > any", true),
            ("tcp 203.0.113.0/24:80 > any", false),
            ("tcp 203.0.114.0/24 > any", false),
            ("tcp 203.0.113.7 > 192.168.40.121", false),
            ("tcp ::/0 > any", false),
        ] {
            assert_eq!(text.parse::<PacketFilter>().unwrap().takes(&web), takes, "{text}");
        }
        let six = flow("udp [2001:db8::7]:5 > [2001:db8:1::1]:53");
        for text in ["udp 2001:db8::/48 > [2001:db8:1::]/48:53", "any 2001:db8::7 > 2001:db8:1::1"] {
            assert!(text.parse::<PacketFilter>().unwrap().takes(&six), "{text}");
        }
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_told_with_its_place() {
        for (text, at) in [
            ("tcpp any > any", 0),
            ("tcp 1.2.3.4/33 > any", 4),
            ("tcp any > 1.2.3.0/24:x", 10),
            ("tcp any", 7),
            ("tcp 1.2.3.4 > ::1", 14),
            ("tcp any > any any", 14),
        ] {
            assert_eq!(text.parse::<PacketFilter>().unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn a_frame_is_read_from_hexadecimal_digits() {
        assert_eq!(bytes_of_hex("45 00:1cfF\n").unwrap(), [0x45, 0, 0x1c, 0xff]);
        assert_eq!(hex_of(&[0x45, 0, 0x1c, 0xff]), "45001cff");
        for (text, at) in [("", 0), ("4", 1), ("450", 3), ("45 0 0", 4), ("45 zz", 3), ("0x45", 1)] {
            assert_eq!(bytes_of_hex(text).unwrap_err().at, at, "{text}");
        }
    }
}
