//! The body of an answer: where it ends (RFC 9112, 6 and 7), and whether it is as expected.

use super::digest::Hasher;
use super::{Digest, Http};
use crate::health::check::{PASSED, Pass};
use crate::health::{Doing, Failure};

/// A body that arrives.
#[derive(Debug)]
pub(super) struct Body {
    framing: Framing,
    look: Look,
    /// Bytes of content that may still come.
    room: usize,
    /// Bytes of any kind that may still come: chunks of one byte have a line each.
    raw_room: usize,
    limit: usize,
}

/// How its end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes.
    Length(u64),
    /// With the connection.
    Close,
    /// After the last chunk.
    Chunked(Chunk),
}

/// Where in a chunked body one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the size, which is so much so far, after this many digits.
    Size(u64, u8),
    /// Behind the size, in front of the line's end.
    Extension(u64),
    /// In the data, of which so much is to come.
    Data(u64),
    /// In front of the line's end behind the data.
    DataEnd,
    /// In the lines behind the last chunk; whether the line has a character so far.
    Trailer(bool),
}

/// What is looked for.
#[derive(Debug)]
struct Look {
    text: Option<Search>,
    digest: Option<(Digest, Hasher)>,
}

/// A text that is searched for in pieces.
#[derive(Debug)]
struct Search {
    text: String,
    /// The end of what came, shorter than the text.
    tail: Vec<u8>,
    found: bool,
}

impl Body {
    pub(super) fn new(check: &Http, framing: Framing) -> Self {
        let limit = check.body_limit as usize;
        let text = check.text.as_ref().map(|text| Search {
            text: text.clone(),
            tail: Vec::new(),
            found: text.is_empty(),
        });
        let digest = check.digest.map(|digest| (digest, Hasher::like(&digest)));
        Self {
            framing,
            look: Look { text, digest },
            room: limit,
            raw_room: limit.saturating_mul(2).saturating_add(RAW_ROOM),
            limit,
        }
    }

    /// Takes bytes in. The answer, if it is certain.
    pub(super) fn heard(&mut self, mut bytes: &[u8]) -> Option<Result<Pass, Failure>> {
        let Some(raw_room) = self.raw_room.checked_sub(bytes.len()) else {
            return Some(Err(self.too_long()));
        };
        self.raw_room = raw_room;
        loop {
            match self.framing {
                Framing::Length(0) => return Some(self.end()),
                Framing::Length(rest) => {
                    let (content, _) = split(bytes, rest);
                    self.framing = Framing::Length(rest - content.len() as u64);
                    let answer = self.content(content);
                    return answer.or_else(|| (self.framing == Framing::Length(0)).then(|| self.end()));
                }
                Framing::Close => return self.content(bytes),
                Framing::Chunked(Chunk::Data(rest)) => {
                    let (content, others) = split(bytes, rest);
                    let rest = rest - content.len() as u64;
                    self.framing =
                        Framing::Chunked(if rest == 0 { Chunk::DataEnd } else { Chunk::Data(rest) });
                    if let Some(answer) = self.content(content) {
                        return Some(answer);
                    }
                    bytes = others;
                }
                Framing::Chunked(chunk) => {
                    let (&byte, others) = bytes.split_first()?;
                    bytes = others;
                    match chunk.after(byte) {
                        Some(Some(next)) => self.framing = Framing::Chunked(next),
                        Some(None) => return Some(self.end()),
                        None => return Some(Err(Failure::Garbage("the body's chunks are not HTTP"))),
                    }
                }
            }
            if bytes.is_empty() {
                return None;
            }
        }
    }

    /// The connection was closed.
    pub(super) fn closed(&mut self) -> Result<Pass, Failure> {
        match self.framing {
            Framing::Close | Framing::Length(0) => self.end(),
            Framing::Length(_) | Framing::Chunked(_) => Err(Failure::Closed { doing: Doing::Body }),
        }
    }

    /// Looks at content.
    fn content(&mut self, bytes: &[u8]) -> Option<Result<Pass, Failure>> {
        let Some(room) = self.room.checked_sub(bytes.len()) else { return Some(Err(self.too_long())) };
        self.room = room;
        if let Some((_, hasher)) = &mut self.look.digest {
            hasher.update(bytes);
        }
        if let Some(search) = &mut self.look.text {
            search.look(bytes);
            if search.found && self.look.digest.is_none() {
                return Some(PASSED);
            }
        }
        None
    }

    fn too_long(&self) -> Failure {
        Failure::TooLong { part: "body", limit: self.limit }
    }

    /// The whole body was there.
    fn end(&mut self) -> Result<Pass, Failure> {
        if let Some(search) = &self.look.text
            && !search.found
        {
            return Err(Failure::TextMissing(search.text.clone()));
        }
        if let Some((expected, hasher)) = &self.look.digest {
            let got = hasher.clone().finish();
            if got != *expected {
                return Err(Failure::Digest { got: got.to_string(), expected: expected.to_string() });
            }
        }
        PASSED
    }
}

impl Chunk {
    /// Before the first chunk.
    pub(super) const START: Self = Self::Size(0, 0);

    /// Where one is after a byte: at an end (`Some(None)`), or nowhere if it cannot be there. Lines may end without CR
    /// (RFC 9112, 2.2).
    fn after(self, byte: u8) -> Option<Option<Self>> {
        let next = match (self, byte) {
            (Self::Size(_, 0), b'\r' | b'\n') => return None,
            (Self::Size(size, digits), _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                if digits == MOST_DIGITS {
                    return None;
                }
                Self::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Self::Size(size, 1..), b'\r' | b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Size(size, 1..) | Self::Extension(size), b'\n') => match size {
                0 => Self::Trailer(false),
                size => Self::Data(size),
            },
            (Self::Size(..), _) => return None,
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::START,
            (Self::DataEnd, _) => return None,
            (Self::Trailer(false), b'\n') => return Some(None),
            (Self::Trailer(true), b'\n') | (Self::Trailer(false), b'\r') => Self::Trailer(false),
            (Self::Trailer(_), _) => Self::Trailer(true),
            (Self::Data(rest), _) => Self::Data(rest),
        };
        Some(Some(next))
    }
}

impl Search {
    fn look(&mut self, bytes: &[u8]) {
        if self.found {
            return;
        }
        let wanted = self.text.as_bytes();
        self.tail.extend_from_slice(bytes);
        self.found = self.tail.windows(wanted.len()).any(|window| window == wanted);
        let keep = self.tail.len().min(wanted.len().saturating_sub(1));
        self.tail.drain(..self.tail.len() - keep);
    }
}

/// The first `count` bytes, or all of them, and the others.
fn split(bytes: &[u8], count: u64) -> (&[u8], &[u8]) {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
    bytes.split_at_checked(count).unwrap_or((bytes, &[]))
}

/// Digits of a chunk's size: 2^60 bytes are enough.
const MOST_DIGITS: u8 = 15;
/// Bytes besides the content that any body may have.
const RAW_ROOM: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: Option<&str>) -> Http {
        Http { text: text.map(str::to_owned), body_limit: 100, ..Http::default() }
    }

    /// The answer to a body in pieces of each length.
    fn answers(check: &Http, framing: Framing, bytes: &[u8]) -> Result<Pass, Failure> {
        let results: Vec<_> = (1..=bytes.len().max(1))
            .map(|length| {
                let mut body = Body::new(check, framing);
                let mut answer = bytes.chunks(length).find_map(|piece| body.heard(piece));
                answer.take().unwrap_or_else(|| body.closed())
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:?}");
        results.into_iter().next().unwrap()
    }

    const CHUNKED: Framing = Framing::Chunked(Chunk::START);

    #[test]
    fn a_text_is_found_wherever_pieces_are_cut() {
        for framing in [Framing::Close, Framing::Length(16)] {
            assert_eq!(answers(&check(Some("is well")), framing, b"all is iis well."), PASSED);
            let missing = Err(Failure::TextMissing("is ill".to_owned()));
            assert_eq!(answers(&check(Some("is ill")), framing, b"all is iis well."), missing);
        }
    }

    #[test]
    fn a_text_is_found_across_chunks() {
        let body = b"5;name=value\r\nall i\r\n06\r\ns well\r\n0\r\nX-Trailer: 1\r\n\r\n";
        assert_eq!(answers(&check(Some("is well")), CHUNKED, body), PASSED);
        assert_eq!(
            answers(&check(Some("5;name")), CHUNKED, body),
            Err(Failure::TextMissing("5;name".to_owned()))
        );
    }

    #[test]
    fn a_body_that_is_cut_off_is_no_answer() {
        let closed = Err(Failure::Closed { doing: Doing::Body });
        assert_eq!(answers(&check(Some("x")), Framing::Length(10), b"123"), closed);
        assert_eq!(answers(&check(Some("x")), CHUNKED, b"3\r\n123\r\n"), closed);
    }

    #[test]
    fn chunks_that_are_none_are_garbage() {
        for body in [&b"\r\n"[..], b"x\r\n", b"3\r\n1234\r\n", b"ffffffffffffffff\r\n"] {
            let answer = answers(&check(Some("x")), CHUNKED, body);
            assert!(matches!(answer, Err(Failure::Garbage(_))), "{answer:?}");
        }
    }

    #[test]
    fn a_body_is_read_no_further_than_its_limit() {
        let long = [b'a'; 101];
        let answer = answers(&check(Some("x")), Framing::Close, &long);
        assert_eq!(answer, Err(Failure::TooLong { part: "body", limit: 100 }));
        let mut body = Body::new(&check(Some("x")), CHUNKED);
        let answer = (0..).find_map(|_| body.heard(b"1;and so on, and so on\r\na\r\n"));
        assert_eq!(answer, Some(Err(Failure::TooLong { part: "body", limit: 100 })));
        let mut body = Body::new(&check(Some("x")), CHUNKED);
        let answer = (0..100_000).find_map(|_| body.heard(b"1;and so on, and so on"));
        assert_eq!(answer, Some(Err(Failure::TooLong { part: "body", limit: 100 })), "endless line");
    }

    #[test]
    fn a_digest_is_of_the_content_alone() {
        let digest = "900150983cd24fb0d6963f7d28e17f72".parse().unwrap();
        let check = Http { digest: Some(digest), ..check(None) };
        assert_eq!(answers(&check, CHUNKED, b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), PASSED);
        assert_eq!(answers(&check, Framing::Length(3), b"abc"), PASSED);
        assert!(matches!(answers(&check, Framing::Close, b"abd"), Err(Failure::Digest { .. })));
    }
}
