//! What an HTTP check can be told.

use core::error::Error;
use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;

use super::Digest;

/// A target is up when it answers an HTTP/1.1 request with an expected status and, if that is asked for, an expected
/// body. A redirect is an answer like others: it is not followed.
///
/// What a target may send is bounded: 16 KiB of head, [`body_limit`](Self::body_limit) bytes of body. Of the body no
/// more is kept than the text is long that is searched for in it.
///
/// ```
/// use lvs_std::health::Http;
///
/// let mut check = Http::new("GET", "/health", Some("www.example.org"))?;
/// check.statuses = "200-299, 301".parse()?;
/// check.text = Some("all is well".to_owned());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Http {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host: Option<String>,
    /// Statuses that are good. Default 200 to 299.
    pub statuses: Statuses,
    /// What the body must contain.
    pub text: Option<String>,
    /// What the body's digest must be.
    pub digest: Option<Digest>,
    /// The longest body in bytes. Only a body that is looked at is read, and one in which the text was found not
    /// further. Default 1 MiB.
    pub body_limit: u32,
}

impl Http {
    /// A request with this method and path; `host` is the `Host` field, by default the target's address.
    ///
    /// # Errors
    /// When one of them cannot stand in a request.
    pub fn new(method: &str, path: &str, host: Option<&str>) -> Result<Self, BadRequest> {
        let is_visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if method.is_empty() || !method.bytes().all(is_token) {
            return Err(BadRequest::Method);
        }
        if !path.starts_with('/') || !is_visible(path) {
            return Err(BadRequest::Path);
        }
        if host.is_some_and(|host| !is_visible(host)) {
            return Err(BadRequest::Host);
        }
        Ok(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            host: host.map(str::to_owned),
            statuses: Statuses::default(),
            text: None,
            digest: None,
            body_limit: 1 << 20,
        })
    }

    /// The request's method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The request's path, with its query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The `Host` field, unless it is the target's address.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

impl Default for Http {
    /// `GET /`.
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: None,
            statuses: Statuses::default(),
            text: None,
            digest: None,
            body_limit: 1 << 20,
        }
    }
}

/// A part of a request that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a request has these three parts")]
pub enum BadRequest {
    /// The method is no token (RFC 9110, 5.6.2).
    Method,
    /// The path does not begin with a slash, or has blanks or other than visible ASCII characters in it.
    Path,
    /// The host is empty, or has blanks or other than visible ASCII characters in it.
    Host,
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "no method of HTTP: expected a word such as GET or HEAD",
            Self::Path => "no path: expected one such as /health, with blanks and the like as %20",
            Self::Host => "no host: expected a name such as www.example.org, with a port if need be",
        })
    }
}

impl Error for BadRequest {}

/// Statuses and ranges of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    /// Status codes in any of these ranges.
    #[must_use]
    pub const fn new(ranges: Vec<RangeInclusive<u16>>) -> Self {
        Self(ranges)
    }

    /// Whether this status is one of them.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for Statuses {
    /// 200 to 299.
    fn default() -> Self {
        Self(vec![200..=299])
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", range.start())?;
            if range.end() != range.start() {
                write!(f, "-{}", range.end())?;
            }
        }
        Ok(())
    }
}

impl FromStr for Statuses {
    type Err = BadStatuses;

    /// Statuses and ranges, with commas between them: `200-299, 301`.
    fn from_str(text: &str) -> Result<Self, BadStatuses> {
        let status = |text: &str| -> Result<u16, BadStatuses> {
            let status = text.trim().parse().map_err(|_| BadStatuses)?;
            if (100..=999).contains(&status) { Ok(status) } else { Err(BadStatuses) }
        };
        let range = |text: &str| match text.split_once('-') {
            None => status(text).map(|status| status..=status),
            Some((first, last)) => Ok(status(first)?..=status(last)?),
        };
        let ranges: Vec<_> = text.split(',').map(range).collect::<Result<_, _>>()?;
        if ranges.iter().any(RangeInclusive::is_empty) {
            return Err(BadStatuses);
        }
        Ok(Self(ranges))
    }
}

/// A text that is no list of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct BadStatuses;

impl fmt::Display for BadStatuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no statuses: expected 100 to 999, alone or as a range, such as 200-299, 301")
    }
}

impl Error for BadStatuses {}

/// What a token may consist of (RFC 9110, 5.6.2).
const fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
        || byte.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_read_back_as_written() {
        for text in ["200", "200-299", "200-299, 301, 404"] {
            assert_eq!(text.parse::<Statuses>().unwrap().to_string(), text);
        }
        let statuses: Statuses = "200-204,301".parse().unwrap();
        assert!(statuses.contains(204) && statuses.contains(301) && !statuses.contains(205));
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for text in ["", "20", "1000", "299-200", "200-", "200 301", "x"] {
            assert_eq!(text.parse::<Statuses>(), Err(BadStatuses), "{text}");
        }
    }

    #[test]
    fn nothing_can_be_smuggled_into_a_request() {
        assert_eq!(Http::new("GET /", "/", None), Err(BadRequest::Method));
        for path in ["", "x", "/a b", "/\r\nHost: x", "/é"] {
            assert_eq!(Http::new("GET", path, None), Err(BadRequest::Path), "{path}");
        }
        for host in ["", "a b", "a\r\nb"] {
            assert_eq!(Http::new("GET", "/", Some(host)), Err(BadRequest::Host), "{host}");
        }
    }
}
