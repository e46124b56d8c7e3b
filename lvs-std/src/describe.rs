//! A frame in a few words: `tcp 203.0.113.7:4242 > 192.168.40.120:80 SYN, 54 bytes`.

use core::fmt::Write as _;

use lvs_core::{Content, TcpFlags};
use lvs_forward::parse::{Link, Meaning, Parsed, parse};
use lvs_forward::{Fragment, Frame, PortId};

/// What a frame is, for people.
#[must_use]
pub fn frame(bytes: &[u8], link: Link) -> String {
    let mut copy = bytes.to_vec();
    let len = copy.len();
    let Some(frame) = Frame::new(&mut copy, 0, len, PortId::default()) else { return String::new() };
    let mut said = match parse(&frame, link) {
        Err(malformed) => format!("no packet that can be read ({malformed:?})"),
        Ok(Parsed::Arp(at)) => arp(bytes.get(at..).unwrap_or_default()),
        Ok(Parsed::Foreign) => "neither IP nor ARP".to_owned(),
        Ok(Parsed::Ip(layout, meaning)) => {
            let ends = layout.addresses(bytes).map_or_else(String::new, |addresses| {
                format!("{} > {}", addresses.source(), addresses.destination())
            });
            match meaning {
                Meaning::Flow(packet) if packet.content != Content::Ipsec => {
                    format!("{}{}", packet.flow, content(packet.content))
                }
                Meaning::Flow(_) => format!("IPsec {ends}"),
                Meaning::Error(packet, _) => format!("ICMP error {ends} about {}", packet.flow.reversed()),
                Meaning::Control(kind) => format!("ICMP type {kind} {ends}"),
                Meaning::Wrapped(_) => format!("ICMP error {ends} about a tunnel"),
                Meaning::Other if layout.fragment() == Fragment::Whole => {
                    format!("IP protocol {} {ends}", layout.protocol())
                }
                Meaning::Other => format!("a fragment of IP protocol {} {ends}", layout.protocol()),
            }
        }
    };
    // Writing to a string cannot fail.
    let _ = write!(said, ", {len} bytes");
    said
}

/// An ARP packet (RFC 826), for IPv4 over Ethernet.
fn arp(packet: &[u8]) -> String {
    let address = |at: usize| {
        let bytes = packet.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        bytes.map(core::net::Ipv4Addr::from)
    };
    match (packet.get(7), address(14), address(24)) {
        (Some(1), Some(from), Some(to)) => format!("ARP: who has {to}? tell {from}"),
        (Some(2), Some(from), _) => format!("ARP: {from} is here"),
        _ => "ARP".to_owned(),
    }
}

fn content(content: Content) -> String {
    match content {
        Content::Tcp(flags) => {
            let names = [
                (TcpFlags::SYN, " SYN"),
                (TcpFlags::ACK, " ACK"),
                (TcpFlags::FIN, " FIN"),
                (TcpFlags::RST, " RST"),
            ];
            names.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| name).collect()
        }
        Content::Sctp(chunk) => format!(" {chunk:?}"),
        Content::Udp | Content::Fragment | Content::Error | Content::TunnelError | Content::Ipsec => {
            String::new()
        }
    }
}
