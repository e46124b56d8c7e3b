//! Frames taken apart into named fields, to say in words where two frames differ.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::Range;

/// A part of a frame with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// The header and the part's name in it.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) range: Range<usize>,
    /// What it says.
    pub(crate) value: String,
    /// Whether it is nothing but bytes.
    pub(crate) opaque: bool,
}

/// All fields of an Ethernet frame. What cannot be read is bytes.
pub(crate) fn fields(frame: &[u8]) -> Vec<Field> {
    let mut reader = Reader { frame, fields: Vec::new(), prefix: "" };
    if reader.ethernet().is_none() {
        let at = reader.fields.last().map_or(0, |field| field.range.end);
        reader.rest("rest", at);
    }
    reader.fields
}

struct Reader<'a> {
    frame: &'a [u8],
    fields: Vec<Field>,
    prefix: &'static str,
}

impl Reader<'_> {
    fn ethernet(&mut self) -> Option<()> {
        self.mac("Ethernet destination", 0)?;
        self.mac("Ethernet source", 6)?;
        let kind = self.hex16("Ethernet type", 12)?;
        self.network(kind, 14)
    }

    fn network(&mut self, ether_type: u16, at: usize) -> Option<()> {
        match ether_type {
            0x0800 => self.ipv4(at),
            0x86dd => self.ipv6(at),
            _ => {
                self.rest("payload", at);
                Some(())
            }
        }
    }

    fn ipv4(&mut self, at: usize) -> Option<()> {
        let first = self.byte(at)?;
        self.field("IPv4 version and header length", at..at + 1, format!("{first:#04x}"))?;
        self.number("IPv4 type of service", at + 1..at + 2)?;
        let length = usize::from(self.number16("IPv4 total length", at + 2)?);
        self.hex16("IPv4 identification", at + 4)?;
        let fragment = self.get16(at + 6)?;
        let mut words = Vec::new();
        for (bit, name) in [(0x8000, "reserved bit"), (0x4000, "DF"), (0x2000, "MF")] {
            if fragment & bit != 0 {
                words.push(name.to_owned());
            }
        }
        let offset = (fragment & 0x1fff) * 8;
        words.push(format!("offset {offset}"));
        self.field("IPv4 flags and fragment offset", at + 6..at + 8, words.join(", "))?;
        self.number("IPv4 TTL", at + 8..at + 9)?;
        let protocol = self.byte(at + 9)?;
        self.number("IPv4 protocol", at + 9..at + 10)?;
        self.hex16("IPv4 header checksum", at + 10)?;
        self.v4("IPv4 source", at + 12)?;
        self.v4("IPv4 destination", at + 16)?;
        let transport = at + usize::from(first & 15) * 4;
        if transport > at + 20 {
            self.bytes("IPv4 options", at + 20..transport)?;
        }
        let end = at + length;
        if offset > 0 {
            self.rest("fragment's payload", transport);
            return Some(());
        }
        self.transport(protocol, transport, end)
    }

    fn ipv6(&mut self, at: usize) -> Option<()> {
        let first = u32::from(self.get16(at)?) << 16 | u32::from(self.get16(at + 2)?);
        let value = format!(
            "version {}, class {:#04x}, flow label {:#07x}",
            first >> 28,
            first >> 20 & 0xff,
            first & 0xf_ffff
        );
        self.field("IPv6 version, class and flow label", at..at + 4, value)?;
        let length = usize::from(self.number16("IPv6 payload length", at + 4)?);
        let mut next = self.byte(at + 6)?;
        self.number("IPv6 next header", at + 6..at + 7)?;
        self.number("IPv6 hop limit", at + 7..at + 8)?;
        self.v6("IPv6 source", at + 8)?;
        self.v6("IPv6 destination", at + 24)?;
        let mut here = at + 40;
        while let 0 | 43 | 44 | 60 = next {
            let name = match next {
                0 => "hop-by-hop header",
                43 => "routing header",
                44 => "fragment header",
                _ => "destination options header",
            };
            let fragment = next == 44;
            let len = if fragment { 8 } else { (usize::from(self.byte(here + 1)?) + 1) * 8 };
            next = self.byte(here)?;
            if fragment {
                self.number("fragment header's next header", here..here + 1)?;
                let offset = self.get16(here + 2)?;
                let more = if offset & 1 != 0 { ", more" } else { "" };
                let value = format!("{}{more}", offset & 0xfff8);
                self.field("fragment header's offset", here + 2..here + 4, value)?;
                self.bytes("fragment header's identification", here + 4..here + 8)?;
                if offset & 0xfff8 != 0 {
                    self.rest("fragment's payload", here + 8);
                    return Some(());
                }
            } else {
                self.bytes(name, here..here + len)?;
            }
            here += len;
        }
        self.transport(next, here, at + 40 + length)
    }

    fn transport(&mut self, protocol: u8, at: usize, end: usize) -> Option<()> {
        match protocol {
            6 => self.tcp(at),
            17 => self.udp(at),
            132 => self.sctp(at),
            1 => self.icmp("ICMP", at),
            58 => self.icmp("ICMPv6", at),
            4 => self.nested("inner ", 0x0800, at),
            41 => self.nested("inner ", 0x86dd, at),
            47 => self.gre(at),
            _ => {
                self.rest("payload", at);
                Some(())
            }
        }?;
        if end < self.frame.len() && self.prefix.is_empty() {
            self.rest("padding", end);
        }
        Some(())
    }

    fn tcp(&mut self, at: usize) -> Option<()> {
        self.number("TCP source port", at..at + 2)?;
        self.number("TCP destination port", at + 2..at + 4)?;
        self.number("TCP sequence number", at + 4..at + 8)?;
        self.number("TCP acknowledgement number", at + 8..at + 12)?;
        let offset = self.byte(at + 12)?;
        self.field("TCP header length", at + 12..at + 13, format!("{}", (offset >> 4) * 4))?;
        let flags = self.byte(at + 13)?;
        let letters: String =
            "FSRPAUEC".chars().enumerate().filter(|(bit, _)| flags & 1 << bit != 0).map(|(_, c)| c).collect();
        self.field("TCP flags", at + 13..at + 14, letters)?;
        self.number("TCP window", at + 14..at + 16)?;
        self.hex16("TCP checksum", at + 16)?;
        self.number("TCP urgent pointer", at + 18..at + 20)?;
        let payload = at + usize::from(offset >> 4) * 4;
        if payload > at + 20 {
            self.bytes("TCP options", at + 20..payload)?;
        }
        self.rest("TCP payload", payload);
        Some(())
    }

    fn udp(&mut self, at: usize) -> Option<()> {
        self.number("UDP source port", at..at + 2)?;
        let port = self.get16(at + 2)?;
        self.number("UDP destination port", at + 2..at + 4)?;
        self.number("UDP length", at + 4..at + 6)?;
        self.hex16("UDP checksum", at + 6)?;
        let (first, kind) = (self.byte(at + 8), self.byte(at + 9));
        if let (Some(0), Some(kind @ (4 | 41)), true) = (first, kind, self.prefix.is_empty() && port != 53) {
            self.bytes("GUE header", at + 8..at + 12)?;
            return self.nested("inner ", if kind == 4 { 0x0800 } else { 0x86dd }, at + 12);
        }
        if let (Some(0x45..=0x4f), true) = (first, self.frame.len() > at + 28 && port == 6080) {
            return self.nested("inner ", 0x0800, at + 8);
        }
        self.rest("UDP payload", at + 8);
        Some(())
    }

    fn sctp(&mut self, at: usize) -> Option<()> {
        self.number("SCTP source port", at..at + 2)?;
        self.number("SCTP destination port", at + 2..at + 4)?;
        self.bytes("SCTP verification tag", at + 4..at + 8)?;
        self.bytes("SCTP checksum", at + 8..at + 12)?;
        self.rest("SCTP chunks", at + 12);
        Some(())
    }

    fn icmp(&mut self, name: &'static str, at: usize) -> Option<()> {
        let kind = self.byte(at)?;
        self.number(&format!("{name} type"), at..at + 1)?;
        self.number(&format!("{name} code"), at + 1..at + 2)?;
        self.hex16(&format!("{name} checksum"), at + 2)?;
        let (error, ether_type, mtu) = match name {
            "ICMP" => (matches!(kind, 3 | 4 | 5 | 11 | 12), 0x0800, at + 6..at + 8),
            _ => (kind < 128, 0x86dd, at + 4..at + 8),
        };
        if !error {
            self.rest(&format!("{name} message"), at + 4);
            return Some(());
        }
        if mtu.start == at + 6 {
            self.hex16(&format!("{name} unused field"), at + 4)?;
        }
        self.number(&format!("{name} MTU"), mtu)?;
        self.nested("quoted ", ether_type, at + 8)
    }

    fn gre(&mut self, at: usize) -> Option<()> {
        let flags = self.hex16("GRE flags", at)?;
        let kind = self.hex16("GRE protocol", at + 2)?;
        let mut here = at + 4;
        if flags & 0x8000 != 0 {
            self.hex16("GRE checksum", here)?;
            self.hex16("GRE reserved field", here + 2)?;
            here += 4;
        }
        self.nested("inner ", kind, here)
    }

    /// A packet inside. It may be cut short: then the rest of it is bytes.
    fn nested(&mut self, prefix: &'static str, ether_type: u16, at: usize) -> Option<()> {
        let outside = core::mem::replace(&mut self.prefix, prefix);
        if self.network(ether_type, at).is_none() {
            let at = self.fields.last().map_or(at, |field| field.range.end);
            self.rest("rest", at);
        }
        self.prefix = outside;
        Some(())
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.frame.get(at).copied()
    }

    fn get16(&self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte(at)?, self.byte(at + 1)?]))
    }

    fn field(&mut self, name: &str, range: Range<usize>, value: String) -> Option<()> {
        self.frame.get(range.clone())?;
        self.push(name, range, value, false);
        Some(())
    }

    fn push(&mut self, name: &str, range: Range<usize>, value: String, opaque: bool) {
        self.fields.push(Field { name: format!("{}{name}", self.prefix), range, value, opaque });
    }

    /// Up to four bytes as a decimal number.
    fn number(&mut self, name: &str, range: Range<usize>) -> Option<()> {
        let value =
            self.frame.get(range.clone())?.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
        self.field(name, range, value.to_string())
    }

    fn number16(&mut self, name: &str, at: usize) -> Option<u16> {
        let value = self.get16(at)?;
        self.number(name, at..at + 2)?;
        Some(value)
    }

    fn hex16(&mut self, name: &str, at: usize) -> Option<u16> {
        let value = self.get16(at)?;
        self.field(name, at..at + 2, format!("{value:#06x}"))?;
        Some(value)
    }

    fn mac(&mut self, name: &str, at: usize) -> Option<()> {
        let bytes: [u8; 6] = *self.frame.get(at..)?.first_chunk()?;
        self.field(name, at..at + 6, lvs_forward::host::MacAddress(bytes).to_string())
    }

    fn v4(&mut self, name: &str, at: usize) -> Option<()> {
        let bytes: [u8; 4] = *self.frame.get(at..)?.first_chunk()?;
        self.field(name, at..at + 4, Ipv4Addr::from(bytes).to_string())
    }

    fn v6(&mut self, name: &str, at: usize) -> Option<()> {
        let bytes: [u8; 16] = *self.frame.get(at..)?.first_chunk()?;
        self.field(name, at..at + 16, Ipv6Addr::from(bytes).to_string())
    }

    fn bytes(&mut self, name: &str, range: Range<usize>) -> Option<()> {
        let value = show(self.frame.get(range.clone())?);
        self.push(name, range, value, true);
        Some(())
    }

    /// Everything from here on, if there is something.
    fn rest(&mut self, name: &str, at: usize) {
        if let Some(rest) = self.frame.get(at..).filter(|rest| !rest.is_empty()) {
            let value = show(rest);
            self.push(name, at..self.frame.len(), value, true);
        }
    }
}

/// Bytes for people: text as text, the rest in hexadecimal, and only the first few.
pub(crate) fn show(bytes: &[u8]) -> String {
    let first = bytes.get(..bytes.len().min(SHOWN)).unwrap_or(bytes);
    let dots = if first.len() < bytes.len() { ".." } else { "" };
    let text =
        !first.is_empty() && first.iter().all(|byte| (32..127).contains(byte) || b"\r\n\t".contains(byte));
    let shown = if text {
        format!("\"{}\"", String::from_utf8_lossy(first).escape_default())
    } else {
        first.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    format!("{shown}{dots} ({} bytes)", bytes.len())
}

/// How many bytes are shown.
const SHOWN: usize = 24;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A TCP segment of three bytes, padded to Ethernet's least length.
    const SEGMENT: [u8; 60] = *b"\x02\0\0\0\0\x01\x02\0\0\0\0\xaa\x08\0\
        \x45\0\0\x2b\0\0\x40\0\x40\x06\0\0\xc0\0\x02\x07\x0a\x63\0\x01\
        \x9c\x40\0\x50\0\0\x03\xe8\0\0\0\x07\x50\x18\xfa\xf0\0\0\0\0odd\0\0\0";

    #[test]
    fn every_byte_of_a_frame_has_a_name() {
        let fields = fields(&SEGMENT);
        let mut at = 0;
        for field in &fields {
            if field.name != "padding" {
                assert_eq!(field.range.start, at, "{field:?}");
                at = field.range.end;
            }
        }
        assert_eq!(at, SEGMENT.len());
        let value = |name: &str| fields.iter().find(|field| field.name == name).unwrap().value.as_str();
        assert_eq!(value("IPv4 destination"), "10.99.0.1");
        assert_eq!(value("IPv4 flags and fragment offset"), "DF, offset 0");
        assert_eq!(value("TCP flags"), "PA");
        assert_eq!(value("TCP destination port"), "80");
    }

    #[test]
    fn packets_inside_packets_are_named_so() {
        let mut frame = SEGMENT[..14].to_vec();
        frame.extend(b"\x45\0\0\x38\0\0\0\0\x40\x01\0\0\x0a\x63\0\x01\xc0\0\x02\x07\x03\x04\0\0\0\0\x05\0");
        frame.extend(&SEGMENT[14..42]);
        let fields = fields(&frame);
        let value =
            |name: &str| fields.iter().find(|field| field.name == name).map(|field| field.value.as_str());
        assert_eq!(value("ICMP MTU"), Some("1280"));
        assert_eq!(value("quoted IPv4 source"), Some("192.0.2.7"));
        assert_eq!(value("quoted TCP destination port"), Some("80"));
        assert_eq!(value("quoted rest"), None, "eight bytes of a segment end where a field does");
    }

    proptest! {
        #[test]
        fn any_bytes_have_fields_inside_them(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            kind in 0..4_usize,
        ) {
            let v6 = b"\x02\0\0\0\0\x01\x02\0\0\0\0\xaa\x86\xdd\x60";
            let headers: [&[u8]; 4] = [&SEGMENT[..14], &SEGMENT[..24], b"", v6];
            bytes.splice(..0, headers[kind].iter().copied());
            for field in fields(&bytes) {
                prop_assert!(field.range.end <= bytes.len(), "{field:?}");
            }
        }
    }
}
