//! A request and its answer, without a connection.

use core::net::SocketAddr;

use super::Http;
use super::body::{Body, Chunk, Framing};
use crate::health::check::{PASSED, Pass};
use crate::health::{Doing, Failure};

/// A request on its way out, and its answer on the way in.
#[derive(Debug)]
pub(in crate::health) struct Talk {
    request: Vec<u8>,
    sent: usize,
    check: Http,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The head so far, and how many bytes of heads there may still be.
    Head(Vec<u8>, usize),
    Body(Box<Body>),
}

impl Talk {
    /// A talk with a target; `port` is the one that its `Host` field need not name.
    pub(in crate::health) fn new(check: &Http, target: SocketAddr, port: u16) -> Self {
        let host = check.host().map_or_else(
            || match target {
                SocketAddr::V6(address) if address.port() == port => format!("[{}]", address.ip()),
                SocketAddr::V4(address) if address.port() == port => address.ip().to_string(),
                // Without the scope, which is nothing to the other side.
                SocketAddr::V6(address) => format!("[{}]:{}", address.ip(), address.port()),
                SocketAddr::V4(_) => target.to_string(),
            },
            str::to_owned,
        );
        // The connection is to be closed, because that is how a body without a length ends.
        let request = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            check.method(),
            check.path()
        );
        let stage = Stage::Head(Vec::new(), HEAD_LIMIT);
        Self { request: request.into_bytes(), sent: 0, check: check.clone(), stage }
    }

    /// What is still to be sent.
    pub(in crate::health) fn to_send(&self) -> &[u8] {
        self.request.get(self.sent..).unwrap_or_default()
    }

    /// So much of it was sent.
    pub(in crate::health) const fn sent(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count);
    }

    /// What it waits for.
    pub(in crate::health) const fn doing(&self) -> Doing {
        match self.stage {
            Stage::Head(..) => Doing::Head,
            Stage::Body(_) => Doing::Body,
        }
    }

    /// Takes in what came. The answer, if it is certain.
    pub(in crate::health) fn heard(&mut self, bytes: &[u8]) -> Option<Result<Pass, Failure>> {
        let (head, room) = match &mut self.stage {
            Stage::Body(body) => return body.heard(bytes),
            Stage::Head(head, room) => (head, room),
        };
        // The end of the head can only be at or behind the last three bytes that were there.
        let looked = head.len().saturating_sub(3);
        head.extend_from_slice(bytes);
        let Some(end) = head.get(looked..).and_then(end_of_head).map(|end| looked + end) else {
            if head.len() > *room {
                return Some(Err(Failure::TooLong { part: "head", limit: HEAD_LIMIT }));
            }
            return if begins_well(head) { None } else { Some(Err(NOT_HTTP)) };
        };
        let rest = head.split_off(end);
        let Some(left) = room.checked_sub(end) else {
            return Some(Err(Failure::TooLong { part: "head", limit: HEAD_LIMIT }));
        };
        let head = match Head::read(head) {
            Ok(head) => head,
            Err(failure) => return Some(Err(failure)),
        };
        if (100..200).contains(&head.status) && head.status != SWITCHING {
            // An interim answer (RFC 9110, 15.2): the one that counts follows.
            self.stage = Stage::Head(Vec::new(), left);
            return if rest.is_empty() { None } else { self.heard(&rest) };
        }
        if !self.check.statuses.contains(head.status) {
            let expected = self.check.statuses.to_string();
            return Some(Err(Failure::Status { got: head.status, expected }));
        }
        if self.check.text.is_none() && self.check.digest.is_none() {
            return Some(PASSED);
        }
        // Such answers have no body, whatever length they name (RFC 9112, 6.3).
        let bodiless = self.check.method() == "HEAD" || matches!(head.status, 204 | 304);
        let framing = if bodiless { Framing::Length(0) } else { head.framing };
        let mut body = Body::new(&self.check, framing);
        let answer = body.heard(&rest);
        self.stage = Stage::Body(Box::new(body));
        answer
    }

    /// The connection was closed.
    pub(in crate::health) fn closed(&mut self) -> Result<Pass, Failure> {
        match &mut self.stage {
            Stage::Head(..) => Err(Failure::Closed { doing: Doing::Head }),
            Stage::Body(body) => body.closed(),
        }
    }
}

impl Http {
    /// What the check makes of an answer that comes in these pieces, after which the connection is closed: without a
    /// target, for whoever wants to know beforehand. However an answer is cut into pieces, it is good or it is not.
    ///
    /// ```
    /// use lvs_std::health::Http;
    /// let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    /// assert_eq!(Http::default().judge([&answer[..7], &answer[7..]]), Ok(()));
    /// assert!(Http::default().judge([&b"HTTP/1.1 500 No\r\n\r\n"[..]]).is_err());
    /// ```
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Failure> {
        // What the request says of a target is of no account for its answer.
        let mut talk = Talk::new(self, SocketAddr::from(([0, 0, 0, 0], 80)), 80);
        let certain = pieces.into_iter().find_map(|piece| talk.heard(piece));
        certain.unwrap_or_else(|| talk.closed()).map(drop)
    }
}

/// What matters of an answer's head.
struct Head {
    status: u16,
    framing: Framing,
}

impl Head {
    /// Reads a head with its empty line. Fields that are none are passed over, because they say nothing of whether a
    /// server is well.
    fn read(head: &[u8]) -> Result<Self, Failure> {
        let mut room = vec![httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut answer = httparse::Response::new(&mut room);
        let parsed = httparse::ParserConfig::default()
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .parse_response(&mut answer, head);
        match parsed {
            // The parser passes over empty lines in front of an answer.
            Ok(httparse::Status::Complete(_)) if begins_well(head) => {}
            Ok(_) => return Err(NOT_HTTP),
            Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY_FIELDS),
            Err(_) => return Err(NOT_HTTP),
        }
        let status = answer.code.ok_or(NOT_HTTP)?;
        Ok(Self { status, framing: framing(answer.headers)? })
    }
}

/// How the end of the body is found (RFC 9112, 6.3).
fn framing(fields: &[httparse::Header<'_>]) -> Result<Framing, Failure> {
    let named = |name: &'static str| {
        fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    // A transfer coding counts more than a length. Chunked is always the last one; another one alone ends with the
    // connection.
    if let Some(codings) = named("transfer-encoding").next_back() {
        let last = codings.rsplit(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
        let chunked = last.eq_ignore_ascii_case(b"chunked");
        return Ok(if chunked { Framing::Chunked(Chunk::START) } else { Framing::Close });
    }
    // A length may be said several times, but no two of them (RFC 9110, 8.6).
    let mut length = None;
    for value in named("content-length").flat_map(|value| value.split(|&byte| byte == b',')) {
        let value = number(value.trim_ascii()).ok_or(BAD_LENGTH)?;
        if length.replace(value).is_some_and(|other| other != value) {
            return Err(BAD_LENGTH);
        }
    }
    Ok(length.map_or(Framing::Close, Framing::Length))
}

/// Digits and nothing else: `parse` takes a sign, which no length has.
fn number(digits: &[u8]) -> Option<u64> {
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// Where the first empty line ends. Lines may end without CR (RFC 9112, 2.2).
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').find_map(|(at, _)| {
        let behind = bytes.get(at + 1..)?;
        match behind {
            [b'\n', ..] => Some(at + 2),
            [b'\r', b'\n', ..] => Some(at + 3),
            _ => None,
        }
    })
}

/// Whether it may become an answer: what is not HTTP is said at once, and not when time is up.
fn begins_well(head: &[u8]) -> bool {
    head.iter().zip(b"HTTP/1.").all(|(got, expected)| got == expected)
}

const NOT_HTTP: Failure = Failure::Garbage("the answer is not HTTP/1");
const BAD_LENGTH: Failure = Failure::Garbage("the answer's Content-Length is no length");
const TOO_MANY_FIELDS: Failure = Failure::Garbage("the answer's head has more than 256 fields");
/// Fields of a head.
const MOST_FIELDS: usize = 256;
const AGENT: &str = concat!("lvs-director/", env!("CARGO_PKG_VERSION"));
/// Bytes of all heads of an answer.
const HEAD_LIMIT: usize = 16 << 10;
/// The one interim status that is final (RFC 9110, 15.2.2).
const SWITCHING: u16 = 101;

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(check: &Http) -> Talk {
        Talk::new(check, "10.0.1.11:80".parse().unwrap(), 80)
    }

    /// The answer when it comes in pieces of each length.
    fn answers(check: &Http, answer: &[u8]) -> Result<Pass, Failure> {
        let results: Vec<_> = (1..=answer.len())
            .map(|length| {
                let mut talk = talk(check);
                let certain = answer.chunks(length).find_map(|piece| talk.heard(piece));
                certain.unwrap_or_else(|| talk.closed())
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:?}");
        results.into_iter().next().unwrap()
    }

    fn with_text(text: &str) -> Http {
        Http { text: Some(text.to_owned()), ..Http::default() }
    }

    #[test]
    fn the_request_names_its_host() {
        let request = |check: &Http, target: &str, port| {
            String::from_utf8(Talk::new(check, target.parse().unwrap(), port).to_send().to_vec()).unwrap()
        };
        let plain = request(&Http::default(), "10.0.1.11:80", 80);
        assert!(plain.starts_with("GET / HTTP/1.1\r\nHost: 10.0.1.11\r\n") && plain.ends_with("\r\n\r\n"));
        assert!(request(&Http::default(), "[::1]:8080", 80).contains("\r\nHost: [::1]:8080\r\n"));
        let named = Http::new("HEAD", "/a?b", Some("www.example.org")).unwrap();
        assert!(
            request(&named, "10.0.1.11:80", 80)
                .starts_with("HEAD /a?b HTTP/1.1\r\nHost: www.example.org\r\n")
        );
    }

    #[test]
    fn a_good_status_is_enough_without_a_wish_for_the_body() {
        assert_eq!(answers(&Http::default(), b"HTTP/1.1 204 No Content\r\n\r\n"), PASSED);
        assert_eq!(answers(&Http::default(), b"HTTP/1.0 200\n\n"), PASSED);
    }

    #[test]
    fn another_status_is_told_with_those_that_were_expected() {
        let answer = answers(&Http::default(), b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(answer, Err(Failure::Status { got: 503, expected: "200-299".to_owned() }));
        let redirect = Http { statuses: "301".parse().unwrap(), ..Http::default() };
        assert_eq!(answers(&redirect, b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n"), PASSED);
    }

    #[test]
    fn interim_answers_are_passed_over() {
        let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(answers(&Http::default(), answer), PASSED);
    }

    #[test]
    fn every_framing_is_understood() {
        for head in ["Content-Length: 5\r\n", "transfer-encoding: gzip, Chunked\r\nContent-Length: 1\r\n", ""]
        {
            let body = if head.starts_with('t') { "5\r\nhello\r\n0\r\n\r\n" } else { "hello" };
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
            assert_eq!(answers(&with_text("hello"), answer.as_bytes()), PASSED, "{head}");
            assert!(answers(&with_text("bye"), answer.as_bytes()).is_err(), "{head}");
        }
    }

    #[test]
    fn what_is_no_http_is_told_at_its_first_bytes() {
        for garbage in
            [&b"\x16\x03\x01\x02\x00"[..], b"SSH-2.0-x\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 +20 x\r\n\r\n"]
        {
            let answer = answers(&Http::default(), garbage);
            assert!(matches!(answer, Err(Failure::Garbage(_))), "{answer:?}");
        }
        let bad_length = b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n";
        assert!(matches!(answers(&with_text("x"), bad_length), Err(Failure::Garbage(_))));
    }

    #[test]
    fn a_length_with_a_sign_or_in_two_versions_is_refused() {
        for length in ["+5", "-5", "5x", "0x5", "", "5, 6", "5\r\nContent-Length: 6", "99999999999999999999"]
        {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhello");
            assert_eq!(answers(&with_text("hello"), answer.as_bytes()), Err(BAD_LENGTH), "{length}");
            assert_eq!(answers(&Http::default(), answer.as_bytes()), Err(BAD_LENGTH), "{length}");
        }
        for length in ["5", " 005 ", "5, 5", "5\r\ncontent-length:5"] {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhello");
            assert_eq!(answers(&with_text("hello"), answer.as_bytes()), PASSED, "{length}");
        }
    }

    #[test]
    fn a_head_with_odd_lines_is_still_a_head_and_one_with_too_many_is_not() {
        let odd =
            b"HTTP/1.1 200 OK\r\nno field\r\nX-Folded: a\r\n b\r\nContent-Length : 5\r\n\r\nhello and more";
        assert_eq!(answers(&with_text("hello"), odd), PASSED);
        assert_eq!(answers(&with_text("more"), odd), Err(Failure::TextMissing("more".to_owned())));
        let head = |fields| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(fields));
        assert_eq!(answers(&Http::default(), head(MOST_FIELDS).as_bytes()), PASSED);
        assert_eq!(answers(&Http::default(), head(MOST_FIELDS + 1).as_bytes()), Err(TOO_MANY_FIELDS));
        let late = b"\r\nHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(answers(&Http::default(), late), Err(NOT_HTTP));
    }

    #[test]
    fn endless_heads_end() {
        let mut endless = talk(&Http::default());
        assert_eq!(endless.heard(b"HTTP/1.1 200 OK\r\n"), None);
        let count = (0..).take_while(|_| endless.heard(b"X-More: and more and more\r\n").is_none()).count();
        assert!(count * 27 <= HEAD_LIMIT, "{count}");
        let mut interim = talk(&Http::default());
        let answer = (0..).find_map(|_| interim.heard(b"HTTP/1.1 100 Continue\r\n\r\n"));
        assert_eq!(answer, Some(Err(Failure::TooLong { part: "head", limit: HEAD_LIMIT })));
    }

    #[test]
    fn a_connection_that_closes_early_is_told_with_what_was_missing() {
        assert_eq!(
            answers(&Http::default(), b"HTTP/1.1 200 OK\r\nX: y\r\n"),
            Err(Failure::Closed { doing: Doing::Head })
        );
        assert_eq!(
            answers(&with_text("x"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
            Err(Failure::Closed { doing: Doing::Body })
        );
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut check = Http::new("HEAD", "/", None).unwrap();
        check.text = Some("x".to_owned());
        let answer = answers(&check, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(answer, Err(Failure::TextMissing("x".to_owned())));
    }

    #[test]
    fn whatever_comes_in_whatever_pieces_it_ends_at_a_limit() {
        let words = [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "Content-Length: 5\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: chunked\r\n",
            "\r\n",
            "\n",
            "5\r\nhello\r\n",
            "0\r\n",
            "ffffffffffffffff\r\n",
            "fffffffffffffff\r\n",
            ":",
            "\0",
            "x",
            "\u{ff}",
            ";",
            " ",
        ];
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut draw = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        for _ in 0..3_000 {
            let check = Http {
                text: [None, Some("well".to_owned())][draw(2)].clone(),
                digest: [None, "900150983cd24fb0d6963f7d28e17f72".parse().ok()][draw(2)],
                body_limit: 1_000,
                ..Http::default()
            };
            let mut talk = talk(&check);
            let (mut bytes, mut ended) = (0, draw(2) == 0 && talk.heard(words[0].as_bytes()).is_some());
            while !ended && bytes < 200_000 {
                let piece: String = (0..1 + draw(40)).map(|_| words[draw(words.len())]).collect();
                bytes += piece.len();
                ended = talk.heard(piece.as_bytes()).is_some();
            }
            assert!(ended, "{bytes} bytes and no end");
        }
    }
}
