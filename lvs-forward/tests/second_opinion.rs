//! The parser beside another one: what it finds in frames, good and bad, is what smoltcp finds in them.
//!
//! The two share no code: smoltcp reads no byte by this crate or by etherparse. Where they differ on purpose is in
//! `differences`, each with a frame that shows it; everywhere else a difference is a fault.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Range;

use lvs_core::{Content, Family};
use lvs_forward::parse::{Link, Meaning, Parsed, parse};
use lvs_forward::{Fragment, Frame, PortId};
use proptest::collection::vec;
use proptest::prelude::*;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6ExtHeader,
    Ipv6FragmentHeader, Ipv6Packet, TcpPacket, UdpPacket,
};

/// What a frame is.
#[derive(Debug, PartialEq)]
enum View {
    Refused,
    Arp,
    Foreign,
    Ip(Ip),
}

/// Where the parts of an IP packet are, and what they say.
#[derive(Debug, PartialEq)]
struct Ip {
    packet: Range<usize>,
    transport: usize,
    addresses: (IpAddr, IpAddr),
    protocol: u8,
    fragment: Fragment,
    says: Says,
}

#[derive(Debug, PartialEq)]
enum Says {
    /// Ports and flags.
    Tcp(u16, u16, u8),
    Udp(u16, u16),
    /// The type of an ICMP message of the packet's family.
    Control(u8),
    /// Nothing that both understand.
    Other,
}

/// What this crate finds.
fn ours(bytes: &[u8]) -> View {
    let mut bytes = bytes.to_vec();
    let length = bytes.len();
    let frame = Frame::new(&mut bytes, 0, length, PortId(0)).unwrap();
    let (layout, meaning) = match parse(&frame, Link::Ethernet) {
        Err(_) => return View::Refused,
        Ok(Parsed::Arp(_)) => return View::Arp,
        Ok(Parsed::Foreign) => return View::Foreign,
        Ok(Parsed::Ip(layout, meaning)) => (layout, meaning),
    };
    let addresses = layout.addresses(frame.bytes()).unwrap();
    let says = match meaning {
        Meaning::Flow(packet) => {
            assert_eq!(packet.length as usize, layout.packet_len());
            let (source, destination) = (packet.flow.source_port, packet.flow.destination_port);
            match packet.content {
                Content::Tcp(flags) => Says::Tcp(source, destination, flags.byte()),
                Content::Udp => Says::Udp(source, destination),
                Content::Fragment => {
                    assert_eq!((source, destination), (0, 0));
                    Says::Other
                }
                Content::Sctp(_) | Content::Ipsec | Content::Error | Content::TunnelError => Says::Other,
            }
        }
        Meaning::Control(kind) => Says::Control(kind),
        Meaning::Error(..) | Meaning::Wrapped(_) => Says::Control(frame.bytes()[layout.transport()]),
        Meaning::Other => Says::Other,
    };
    View::Ip(Ip {
        packet: layout.network()..layout.end(),
        transport: layout.transport(),
        addresses: (addresses.source(), addresses.destination()),
        protocol: layout.protocol(),
        fragment: layout.fragment(),
        says,
    })
}

/// What smoltcp finds. `Err` names the deliberate difference that such a frame is a case of.
fn theirs(bytes: &[u8]) -> Result<View, Difference> {
    let Ok(frame) = EthernetFrame::new_checked(bytes) else { return Ok(View::Refused) };
    match frame.ethertype() {
        EthernetProtocol::Arp => Ok(View::Arp),
        EthernetProtocol::Ipv4 => ipv4(frame.payload()),
        EthernetProtocol::Ipv6 => ipv6(frame.payload()),
        EthernetProtocol::Unknown(0x8100 | 0x88a8) => Err(Difference::Tag),
        EthernetProtocol::Unknown(_) => Ok(View::Foreign),
    }
}

fn ipv4(bytes: &[u8]) -> Result<View, Difference> {
    let Ok(packet) = Ipv4Packet::new_checked(bytes) else { return Ok(View::Refused) };
    let header_len = usize::from(packet.header_len());
    if packet.version() != 4 || header_len < 20 {
        return Err(Difference::Version);
    }
    if !packet.verify_checksum() {
        return Ok(View::Refused);
    }
    let fragment = fragment(packet.frag_offset(), packet.more_frags());
    let addresses = (packet.src_addr().into(), packet.dst_addr().into());
    let end = usize::from(packet.total_len());
    rest(bytes, (header_len, end), packet.next_header().into(), fragment, addresses)
}

fn ipv6(bytes: &[u8]) -> Result<View, Difference> {
    let Ok(packet) = Ipv6Packet::new_checked(bytes) else { return Ok(View::Refused) };
    if packet.version() != 6 {
        return Err(Difference::Version);
    }
    let (mut next, mut at, end) = (packet.next_header(), 40, 40 + usize::from(packet.payload_len()));
    if next == IpProtocol::HopByHop && end == 40 {
        return Err(Difference::Jumbogram);
    }
    let mut whole = Fragment::Whole;
    loop {
        let behind = &bytes[at..end];
        match next {
            IpProtocol::HopByHop if at > 40 => return Err(Difference::LateHopByHop),
            IpProtocol::HopByHop | IpProtocol::Ipv6Route | IpProtocol::Ipv6Opts => {
                let Ok(header) = Ipv6ExtHeader::new_checked(behind) else { return Ok(View::Refused) };
                (next, at) = (header.next_header(), at + 8 + 8 * usize::from(header.header_len()));
            }
            IpProtocol::Ipv6Frag => {
                let Some((head, _)) = behind.split_first_chunk::<8>() else { return Ok(View::Refused) };
                let header = Ipv6FragmentHeader::new_checked(&head[2..]).unwrap();
                (next, at) = (head[0].into(), at + 8);
                whole = fragment(header.frag_offset(), header.more_frags());
                if whole == Fragment::Later {
                    break;
                }
            }
            IpProtocol::IpSecAh => return Err(Difference::Authentication),
            IpProtocol::Icmp
            | IpProtocol::Igmp
            | IpProtocol::Tcp
            | IpProtocol::Udp
            | IpProtocol::IpSecEsp
            | IpProtocol::Icmpv6
            | IpProtocol::Ipv6NoNxt
            | IpProtocol::Unknown(_) => break,
        }
    }
    rest(bytes, (at, end), next.into(), whole, (packet.src_addr().into(), packet.dst_addr().into()))
}

/// The transport, of a packet from its first byte.
fn rest(
    bytes: &[u8],
    (transport, end): (usize, usize),
    protocol: u8,
    fragment: Fragment,
    addresses: (IpAddr, IpAddr),
) -> Result<View, Difference> {
    let segment = &bytes[transport..end];
    let says = match (IpProtocol::from(protocol), addresses.0) {
        _ if protocol == 132 && fragment != Fragment::Later => return Err(Difference::Sctp),
        (IpProtocol::Tcp | IpProtocol::Udp, _) if fragment == Fragment::Later => Says::Other,
        (IpProtocol::Tcp, _) => match TcpPacket::new_checked(segment) {
            Ok(tcp) => {
                let flags =
                    [tcp.fin(), tcp.syn(), tcp.rst(), tcp.psh(), tcp.ack(), tcp.urg(), tcp.ece(), tcp.cwr()];
                let flags = flags.iter().rev().fold(0, |byte, flag| byte << 1 | u8::from(*flag));
                Says::Tcp(tcp.src_port(), tcp.dst_port(), flags)
            }
            Err(_) if segment.len() >= 20 => return Err(Difference::DataOffset),
            Err(_) => return Ok(View::Refused),
        },
        (IpProtocol::Udp, _) => match UdpPacket::new_checked(segment) {
            Ok(udp) => Says::Udp(udp.src_port(), udp.dst_port()),
            Err(_) if segment.len() >= 8 => return Err(Difference::UdpLength),
            Err(_) => return Ok(View::Refused),
        },
        (IpProtocol::Icmp, IpAddr::V4(_)) if fragment == Fragment::Whole => {
            match Icmpv4Packet::new_checked(segment) {
                Ok(icmp) => Says::Control(icmp.msg_type().into()),
                Err(_) => return Ok(View::Refused),
            }
        }
        (IpProtocol::Icmpv6, IpAddr::V6(_)) if fragment == Fragment::Whole => {
            match Icmpv6Packet::new_checked(segment) {
                Ok(icmp) if segment.len() >= 8 => Says::Control(icmp.msg_type().into()),
                Err(_) if segment.len() >= 8 => return Err(Difference::Message),
                Ok(_) | Err(_) => return Ok(View::Refused),
            }
        }
        _ => Says::Other,
    };
    // Behind the Ethernet header.
    let (packet, transport) = (14..14 + end, 14 + transport);
    Ok(View::Ip(Ip { packet, transport, addresses, protocol, fragment, says }))
}

fn fragment(offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// Where the two are not to agree.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Difference {
    /// smoltcp knows no VLAN tags.
    Tag,
    /// smoltcp leaves the version, and an IPv4 header shorter than one, to whoever asks for them.
    Version,
    /// smoltcp takes a jumbogram (RFC 2675) for a packet without a payload.
    Jumbogram,
    /// smoltcp leaves the order of extension headers to the stack above (RFC 8200, 4.1).
    LateHopByHop,
    /// smoltcp reads no authentication header. The director follows it to the packet that it belongs to.
    Authentication,
    /// smoltcp reads no SCTP.
    Sctp,
    /// A TCP header that says to be shorter than one, or longer than the segment, is the receiver's affair. IPVS looks
    /// at ports and flags too.
    DataOffset,
    /// A UDP length other than that of the packet is the receiver's affair.
    UdpLength,
    /// smoltcp refuses `ICMPv6` messages of types that it does not know, and such as are shorter than their type wants:
    /// whoever gets them decides.
    Message,
}

/// Each difference, a frame of that kind, and whether the director's parser takes it.
fn differences() -> Vec<(Difference, Vec<u8>, bool)> {
    let plain = Plan { protocol: 6, ..Plan::default() };
    let six = Plan { six: true, ..plain.clone() };
    let with = |plan: &Plan, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = plan.frame();
        change(&mut bytes);
        if !plan.six {
            right(&mut bytes);
        }
        bytes
    };
    let udp = Plan { protocol: 17, ..plain.clone() };
    let icmp = Plan { protocol: 58, ..six.clone() };
    let extended =
        |extensions: &[u8], next| Plan { extensions: extensions.to_vec(), protocol: next, ..six.clone() };
    vec![
        (Difference::Tag, [&plain.frame()[..12], &[0x81, 0, 0, 7], &plain.frame()[12..]].concat(), true),
        (Difference::Version, with(&plain, &|bytes| bytes[14] = 0x55), false),
        (Difference::Version, with(&six, &|bytes| bytes[14] = 0x40), false),
        (Difference::Jumbogram, with(&extended(&[0], 6), &|bytes| bytes[18..20].fill(0)), false),
        (Difference::LateHopByHop, extended(&[60, 0], 6).frame(), false),
        (Difference::Authentication, extended(&[51], 6).frame(), true),
        (Difference::Sctp, Plan { protocol: 132, ..plain.clone() }.frame(), true),
        (Difference::DataOffset, with(&plain, &|bytes| bytes[46] = 0x40), true),
        (Difference::DataOffset, with(&plain, &|bytes| bytes[46] = 0xf0), true),
        (Difference::UdpLength, with(&udp, &|bytes| bytes[38..40].fill(0)), true),
        (Difference::UdpLength, with(&udp, &|bytes| bytes[38] = 9), true),
        (Difference::Message, with(&icmp, &|bytes| bytes[54] = 200), true),
        (Difference::Message, with(&icmp, &|bytes| bytes[54] = 135), true),
    ]
}

#[test]
fn the_differences_are_those_that_are_meant() {
    for (difference, frame, is_taken) in differences() {
        assert_eq!(theirs(&frame), Err(difference), "{frame:02x?}");
        let view = ours(&frame);
        assert_eq!(matches!(view, View::Ip(_)), is_taken, "{difference:?}: {view:?}");
    }
}

/// A frame to be made: a good one.
#[derive(Clone, Debug, Default)]
struct Plan {
    six: bool,
    protocol: u8,
    /// Words of IPv4 options.
    options: u8,
    /// IPv6 extension headers, by number.
    extensions: Vec<u8>,
    /// Fragment offset in units of 8 bytes, and more fragments; IPv6 has a fragment header unless both are nothing.
    offset: u16,
    more: bool,
    payload: Vec<u8>,
    /// Bytes behind the packet.
    padding: u8,
}

impl Plan {
    fn frame(&self) -> Vec<u8> {
        let mut transport = match self.protocol {
            6 => [&[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0xff, 0xff][..], &[0; 4]].concat(),
            17 => vec![0x9c, 0x40, 0, 53, 0, 8 + self.payload.len() as u8, 0, 0],
            58 => vec![128, 0, 0, 0, 0, 1, 0, 2],
            1 => vec![8, 0, 0, 0, 0, 1, 0, 2],
            _ => vec![0; 16],
        };
        transport.extend(&self.payload);
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let fragment = self.offset << 3 | u16::from(self.more);
        if self.six {
            let mut headers = self.extensions.clone();
            if fragment != 0 {
                headers.push(44);
            }
            let numbers: Vec<u8> = headers.iter().copied().chain([self.protocol]).collect();
            let mut chain = Vec::new();
            for (number, next) in headers.iter().zip(&numbers[1..]) {
                match number {
                    44 => chain.extend([&[*next, 0][..], &fragment.to_be_bytes(), &[0, 0, 0, 9]].concat()),
                    // Authentication counts words of 4 bytes, without two of them.
                    51 => chain.extend([*next, 4, 0, 0].into_iter().chain([7; 20])),
                    _ => chain.extend([*next, 1].into_iter().chain([1, 12]).chain([0; 12])),
                }
            }
            let length = (chain.len() + transport.len()) as u16;
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            bytes.extend([&length.to_be_bytes()[..], &[numbers[0], 64]].concat());
            bytes.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
            bytes.extend("2001:db8::100".parse::<Ipv6Addr>().unwrap().octets());
            bytes.extend(chain);
        } else {
            let header_len = 20 + 4 * usize::from(self.options);
            let length = (header_len + transport.len()) as u16;
            let flags = self.offset | u16::from(self.more) << 13;
            bytes.extend([8, 0, 0x40 | (header_len / 4) as u8, 0]);
            bytes.extend(
                [length.to_be_bytes(), [0, 9], flags.to_be_bytes(), [64, self.protocol], [0; 2]].concat(),
            );
            bytes.extend(Ipv4Addr::new(192, 0, 2, 7).octets());
            bytes.extend(Ipv4Addr::new(10, 0, 0, 100).octets());
            bytes.resize(14 + header_len, 1);
        }
        bytes.extend(transport);
        if !self.six {
            right(&mut bytes);
        }
        bytes.resize(bytes.len() + usize::from(self.padding), 0);
        bytes
    }
}

/// Puts the IPv4 header's checksum right, if there is such a header.
fn right(bytes: &mut [u8]) {
    if let Some(packet) = bytes.get_mut(14..).filter(|packet| packet.len() >= 20) {
        let length = usize::from(packet[0] & 0xf) * 4;
        if (20..=packet.len()).contains(&length) {
            Ipv4Packet::new_unchecked(packet).fill_checksum();
        }
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let protocol = prop_oneof![4 => Just(6_u8), 4 => Just(17), 2 => Just(1), 2 => Just(58), 1 => any::<u8>()];
    let extension = prop_oneof![Just(0_u8), Just(43), Just(60), Just(51)];
    let offset = prop_oneof![3 => Just(0_u16), 1 => 0..0x1fff_u16];
    let fields = (any::<bool>(), protocol, 0..11_u8, vec(extension, 0..3), offset, any::<bool>());
    (fields, vec(any::<u8>(), 0..40), 0..20_u8).prop_map(|(fields, payload, padding)| {
        let (six, protocol, options, extensions, offset, more) = fields;
        Plan { six, protocol, options, extensions, offset, more: more && offset % 2 == 0, payload, padding }
    })
}

#[track_caller]
fn assert_agreed(bytes: &[u8]) {
    // A difference that is meant is shown above by a frame of its kind.
    if let Ok(theirs) = theirs(bytes) {
        assert_eq!(ours(bytes), theirs, "{bytes:02x?}");
    }
}

#[test]
fn both_families_and_all_their_protocols_are_compared() {
    for (six, protocol, says) in [
        (false, 6, Says::Tcp(40_000, 80, 0x12)),
        (false, 17, Says::Udp(40_000, 53)),
        (false, 1, Says::Control(8)),
        (true, 6, Says::Tcp(40_000, 80, 0x12)),
        (true, 17, Says::Udp(40_000, 53)),
        (true, 58, Says::Control(128)),
        (true, 1, Says::Other),
    ] {
        let extensions = vec![0, 43, 60];
        let frame = Plan { six, protocol, options: 2, extensions, padding: 3, ..Plan::default() }.frame();
        let Ok(View::Ip(ip)) = theirs(&frame) else { panic!("{frame:02x?}") };
        assert_eq!((ip.packet.end, &ip.says), (frame.len() - 3, &says));
        let family = if six { Family::V6 } else { Family::V4 };
        assert_eq!(ip.transport, if family == Family::V6 { 14 + 40 + 48 } else { 14 + 28 });
        assert_eq!(ours(&frame), View::Ip(ip));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

    #[test]
    fn two_parsers_find_the_same_in_good_frames(plan in plans()) {
        assert_agreed(&plan.frame());
    }

    #[test]
    fn two_parsers_find_the_same_in_bad_frames(
        plan in plans(),
        changes in vec((0..110_usize, any::<u8>()), 0..4),
        length in prop_oneof![3 => Just(usize::MAX), 1 => 0..120_usize],
        checksum in any::<bool>(),
    ) {
        let mut bytes = plan.frame();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(length);
        // Most changes of an IPv4 header would otherwise be seen by its checksum alone.
        if checksum && bytes.get(12..14) == Some(&[8, 0]) {
            right(&mut bytes);
        }
        assert_agreed(&bytes);
    }

    #[test]
    fn two_parsers_find_the_same_in_noise(mut bytes in vec(any::<u8>(), 0..120), six in any::<bool>()) {
        if let Some(head) = bytes.get_mut(12..15) {
            head.copy_from_slice(if six { &[0x86, 0xdd, 0x60] } else { &[8, 0, 0x45] });
        }
        assert_agreed(&bytes);
    }
}
