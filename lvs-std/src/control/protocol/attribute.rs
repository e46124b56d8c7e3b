//! Attributes: type, length, value, each padded to four bytes.

/// An attribute's type without the bits that say "nested" and "network order", and its value.
pub(crate) type Attribute<'a> = (u16, &'a [u8]);

/// The attributes in these bytes, up to the first that overruns them.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    core::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(*kind) & TYPE_MASK, value))
    })
}

/// The first bytes of a value as a number in host order.
pub(crate) fn u8(value: &[u8]) -> Option<u8> {
    value.first().copied()
}

/// The first bytes of a value as a number in host order.
pub(crate) fn u16(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// The first bytes of a value as a number in host order.
pub(crate) fn u32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The first bytes of a value as a number in host order.
pub(crate) fn u64(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// The first bytes of a value as a number in network order.
pub(crate) fn be16(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// A value as a string that ends with a NUL and has at most so many bytes before it. Nothing may follow the NUL but
/// what fits.
pub(crate) fn string(value: &[u8], longest: usize) -> Option<String> {
    let end = value.iter().take(longest + 1).position(|&byte| byte == 0)?;
    let length = value.len() - usize::from(value.last() == Some(&0));
    if length > longest {
        return None;
    }
    value.get(..end).map(|text| String::from_utf8_lossy(text).into_owned())
}

/// Attributes on their way into a message.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// An attribute of any bytes, which must be shorter than 64 KiB: longer ones are left out.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        if let Ok(length) = u16::try_from(HEADER + value.len()) {
            self.bytes.extend(length.to_ne_bytes());
            self.bytes.extend(kind.to_ne_bytes());
            self.bytes.extend(value);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
        self
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub(crate) fn u64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// A string with its NUL.
    pub(crate) fn string(&mut self, kind: u16, text: &str) -> &mut Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.put(kind, &value)
    }

    /// An attribute of attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::new();
        fill(&mut inner);
        self.put(kind, &inner.bytes)
    }
}

const HEADER: usize = 4;
/// Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_overruns_ends_it() {
        let mut writer = Writer::new();
        writer.string(6, "rr").nest(0x8001, |nest| {
            nest.u32(5, 7).be16(4, 80);
        });
        let bytes = writer.into_bytes();
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read[0], (6, &b"rr\0"[..]));
        assert_eq!(read[1].0, 1, "the bit for nested is not part of the type");
        assert_eq!(attributes(read[1].1).nth(1), Some((4, &[0, 80][..])));
        for cut in 0..bytes.len() {
            assert!(attributes(&bytes[..cut]).count() < 2, "{cut}");
        }
    }

    #[test]
    fn a_string_ends_with_its_nul_within_the_maximum() {
        assert_eq!(string(b"rr\0", 15).as_deref(), Some("rr"));
        assert_eq!(string(b"\0", 15).as_deref(), Some(""));
        assert_eq!(string(b"rr", 15), None);
        assert_eq!(string(b"", 15), None);
        assert_eq!(string(b"abcdefghijklmno\0", 15).as_deref(), Some("abcdefghijklmno"));
        assert_eq!(string(b"abcdefghijklmnop\0", 15), None);
    }
}
