//! Frames as they come from devices: plain ones in runs, and all others.

use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

use lvs_core::{Family, Protocol};
use lvs_forward::Offload;
use proptest::prelude::*;

use crate::lab::*;
use crate::sample::{Sample, SumState, sum};

pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;
/// The firewall mark of a service that takes what no other one does.
pub(crate) const MARK: u32 = 5;
pub(crate) const FTP: u16 = 21;
pub(crate) const SIP: u16 = 5_060;

/// Clients whose connections are there from the start. The first of them is next to the director, and its link-layer
/// address is not known.
pub(crate) const KNOWN: u8 = 4;

fn client(family: Family, number: u8) -> SocketAddr {
    let address = match (family, number) {
        (Family::V4, 0) => IpAddr::from([10, 0, 0, 77]),
        (Family::V6, 0) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77]),
        (Family::V4, _) => IpAddr::from([192, 0, 2, number]),
        (Family::V6, _) => IpAddr::from([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, u16::from(number)]),
    };
    SocketAddr::new(address, 40_000 + u16::from(number))
}

/// Which connection a packet is of, and in which direction it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) family: Family,
    pub(crate) method: usize,
    pub(crate) protocol: Protocol,
    pub(crate) client: u8,
    pub(crate) reply: bool,
}

impl Flow {
    /// A plain packet of it, as most are.
    pub(crate) fn sample(self) -> Sample {
        let client = client(self.family, self.client);
        let sample = Sample { protocol: self.protocol, ..Sample::tcp(client, client, ACK) };
        let request = request(&sample, self.method);
        if self.reply {
            return Sample { tcp_flags: ACK, ..answer(&request, self.method) };
        }
        request
    }

    const fn port(self) -> u8 {
        if self.reply { INSIDE } else { OUTSIDE }
    }
}

/// A frame as it comes from a device.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) bytes: Vec<u8>,
    pub(crate) port: u8,
    pub(crate) offload: Offload,
    pub(crate) mark: u32,
}

impl Arrival {
    fn new(port: u8, bytes: Vec<u8>) -> Self {
        Self { bytes, port, offload: Offload::NONE, mark: 0 }
    }

    pub(crate) fn of(flow: Flow, sample: &Sample) -> Self {
        let offload = Offload { checksum: sample.checksum(14), merged: None };
        Self { offload, ..Self::new(flow.port(), ethernet(flow.port(), 0, &sample.packet())) }
    }
}

/// What flows are drawn from.
#[derive(Clone, Debug)]
struct Flows {
    families: &'static [Family],
    methods: Range<usize>,
    clients: Range<u8>,
    replies: &'static [bool],
}

impl Flows {
    /// The flows of known connections.
    const KNOWN: Self =
        Self { families: BOTH, methods: 0..METHODS.len(), clients: 0..KNOWN, replies: &[false, true] };

    fn any(self) -> impl Strategy<Value = Flow> {
        let protocol = prop_oneof![2 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp)];
        let Self { families, methods, clients, replies } = self;
        let select = (prop::sample::select(families), prop::sample::select(replies));
        (select, methods, protocol, clients).prop_map(|((family, reply), method, protocol, client)| Flow {
            family,
            method,
            protocol,
            client,
            reply,
        })
    }
}

/// A plain frame of a known connection.
fn plain(flows: Flows) -> impl Strategy<Value = Arrival> {
    let sum = prop_oneof![
        6 => Just(SumState::Right),
        1 => Just(SumState::Absent),
        1 => Just(SumState::Partial),
        1 => (1u16..0xffff).prop_map(SumState::Wrong),
    ];
    let ttl = prop_oneof![60 => Just(64), 1 => 1u8..3];
    let len = prop_oneof![60 => 0usize..40, 1 => 1_300usize..1_400];
    // With a payload pushed, and with a mark for the congested.
    let flags = prop_oneof![5 => Just(ACK), 2 => Just(0x18), 1 => Just(0x90)];
    (flows.any(), sum, ttl, len, flags, any::<(u8, bool)>()).prop_map(
        |(flow, sum, ttl, len, tcp_flags, (class, dont_fragment))| {
            let payload = vec![class; len];
            let sample = Sample { ttl, class, dont_fragment, tcp_flags, payload, sum, ..flow.sample() };
            Arrival::of(flow, &sample)
        },
    )
}

pub(crate) const BOTH: &[Family] = &[Family::V4, Family::V6];

/// Plain frames one after the other: fewer than a batch, about one, and several. Most runs come in by one port, as
/// those of a device do.
fn plain_run(families: &'static [Family]) -> impl Strategy<Value = Vec<Arrival>> {
    let methods =
        prop_oneof![Just(0..1), Just(1..2), Just(2..3), Just(3..METHODS.len()), Just(0..METHODS.len())];
    let replies = prop_oneof![3 => Just(&[false][..]), 2 => Just(&[true][..]), 1 => Just(&[false, true][..])];
    let len = prop_oneof![2 => 1usize..12, 2 => 29usize..36, 1 => 60usize..70];
    (methods, replies, len).prop_flat_map(move |(methods, replies, len)| {
        let flows = Flows { families, methods, replies, ..Flows::KNOWN };
        prop::collection::vec(plain(flows), len)
    })
}

/// The first packets of one connection that nobody knows yet, or the last of a known one, so that one batch makes it,
/// uses it and ends it.
fn conversation(families: &'static [Family]) -> impl Strategy<Value = Vec<Arrival>> {
    let flows = Flows { families, clients: 0..60, replies: &[false], ..Flows::KNOWN };
    let flags = prop::sample::select(&[SYN, SYN, ACK, ACK, 0x11, 0x04][..]);
    let packets = prop::collection::vec((flags, prop::bool::weighted(0.1)), 2..7);
    (flows.any(), packets, any::<bool>()).prop_map(|(flow, packets, marked)| {
        let arrival = |(tcp_flags, reply)| {
            let flow = Flow { reply, ..flow };
            let mut sample = Sample { tcp_flags, ..flow.sample() };
            if marked && !reply {
                // Only the service of the mark takes it.
                sample.destination.set_port(1_000);
                return Arrival { mark: MARK, ..Arrival::of(flow, &sample) };
            }
            Arrival::of(flow, &sample)
        };
        packets.into_iter().map(arrival).collect()
    })
}

/// Plain frames, mostly of one family, and others among them: one by one anywhere, or some together.
pub(crate) fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let families = prop_oneof![2 => Just(&BOTH[..1]), 2 => Just(&BOTH[1..]), 1 => Just(BOTH)];
    families.prop_flat_map(|families| {
        let run = prop_oneof![6 => plain_run(families), 1 => prop::collection::vec(other(), 1..4)];
        let guests = prop_oneof![3 => conversation(families), 1 => prop::collection::vec(other(), 0..7)];
        let places = prop::collection::vec(any::<prop::sample::Index>(), 7);
        (prop::collection::vec(run, 1..4), guests, places).prop_map(|(runs, guests, places)| {
            let mut arrivals = runs.concat();
            let places = guests.iter().zip(&places).map(|(_, place)| place.index(arrivals.len()));
            let mut places: Vec<usize> = places.collect();
            places.sort_unstable();
            // From the last to the first, so that the places hold and the guests stay in order.
            for (guest, place) in guests.into_iter().zip(places).rev() {
                arrivals.insert(place, guest);
            }
            arrivals
        })
    })
}

/// A frame that begins, ends or damages something, or is of another kind.
fn other() -> impl Strategy<Value = Arrival> {
    let any_flow = || Flows { clients: 0..KNOWN + 3, ..Flows::KNOWN }.any();
    prop_oneof![
        // The beginnings and ends of connections, and packets of unknown ones.
        6 => (any_flow(), prop::sample::select(&[SYN, 0x12, 0x11, 0x01, 0x04, 0x14, 0, ACK][..]))
            .prop_map(|(flow, tcp_flags)| Arrival::of(flow, &Sample { tcp_flags, ..flow.sample() })),
        // To a port of no service, to be taken by none or by that of a mark.
        4 => (any_flow(), 1_000u16..1_003, prop_oneof![Just(0), Just(MARK)]).prop_map(|(flow, port, mark)| {
            let mut sample = Sample { tcp_flags: SYN, ..flow.sample() };
            sample.destination.set_port(port);
            Arrival { mark, ..Arrival::of(flow, &sample) }
        }),
        1 => any_flow().prop_map(|flow| Arrival { mark: MARK, ..Arrival::of(flow, &flow.sample()) }),
        4 => (any_flow(), any::<bool>()).prop_map(|(flow, opens)| ftp(flow, opens)),
        4 => (any_flow(), 0u8..3).prop_map(|(flow, call)| sip(flow, call)),
        // Halves of datagrams.
        6 => (any_flow(), 0_u16..6, any::<u8>()).prop_map(|(flow, number, part)| fragment(flow, number, part)),
        2 => (any_flow(), any::<bool>()).prop_map(|(flow, echo)| icmp(flow, echo)),
        1 => any::<bool>().prop_map(arp),
        1 => any_flow().prop_map(|flow| {
            let sample = Sample { options: true, ..flow.sample() };
            Arrival::of(flow, &sample)
        }),
        1 => any_flow().prop_map(|flow| {
            Arrival::new(flow.port(), ethernet(flow.port(), 1, &flow.sample().packet()))
        }),
        1 => any_flow().prop_map(|flow| {
            Arrival::of(flow, &Sample { protocol: Protocol::Sctp, ..flow.sample() })
        }),
        // Several segments in one.
        2 => (any_flow(), 1usize..3_000, 100u16..1_000).prop_map(|(flow, len, segment)| {
            let sample = Sample { payload: vec![7; len], sum: SumState::Partial, ..flow.sample() };
            let mut arrival = Arrival::of(flow, &sample);
            arrival.offload.merged = Some(sample.merged(segment));
            arrival
        }),
        // Damaged, cut short, or on another port.
        4 => (plain(Flows::KNOWN), any::<(prop::sample::Index, u8)>(), 0usize..60).prop_map(
            |(mut arrival, (at, value), within)| {
                let at = at.index(within.max(1)).min(arrival.bytes.len() - 1);
                arrival.bytes[at] = value;
                arrival
            }
        ),
        1 => (plain(Flows::KNOWN), 0usize..80).prop_map(|(mut arrival, len)| {
            arrival.bytes.truncate(len);
            arrival
        }),
        1 => (plain(Flows::KNOWN), 0u8..3).prop_map(|(arrival, port)| Arrival { port, ..arrival }),
    ]
}

/// A packet of an FTP control connection, which a helper looks into.
fn ftp(flow: Flow, opens: bool) -> Arrival {
    let flow = Flow { protocol: Protocol::Tcp, method: 0, client: flow.client % 2, ..flow };
    let mut sample = Sample { tcp_flags: if opens { SYN } else { 0x18 }, ..flow.sample() };
    if flow.reply {
        sample.source.set_port(FTP);
        sample.payload = if opens { Vec::new() } else { b"227 Entering (10,0,1,11,19,136).\r\n".into() };
    } else {
        sample.destination.set_port(FTP);
    }
    Arrival::of(flow, &sample)
}

/// A SIP message, for whose Call-ID the director asks. Call 0 has none.
fn sip(flow: Flow, call: u8) -> Arrival {
    let flow = Flow { protocol: Protocol::Udp, method: 0, reply: false, ..flow };
    let mut sample = flow.sample();
    sample.destination.set_port(SIP);
    if call > 0 {
        sample.payload = format!("BYE sip:a SIP/2.0\r\nCall-ID: {call}\r\n\r\n").into();
    }
    Arrival::of(flow, &sample)
}

/// One of the three fragments of a datagram with this number, two of them in one, or all of it.
fn fragment(flow: Flow, number: u16, part: u8) -> Arrival {
    let flow = Flow { protocol: Protocol::Udp, ..flow };
    let sample = Sample { payload: vec![3; 1_000], dont_fragment: false, ..flow.sample() };
    let packet = sample.packet();
    let (head, payload) = packet.split_at(sample.header_len());
    let (start, end) =
        [(0, 400), (400, 800), (800, 1_008), (0, 800), (400, 1_008), (0, 1_008)][usize::from(part % 6)];
    let more = end < payload.len();
    let part = &payload[start..end];
    let mut bytes = head.to_vec();
    match flow.family {
        Family::V4 => {
            let word = ((start as u16) / 8) | if more { 0x2000 } else { 0 };
            bytes[4..6].copy_from_slice(&number.to_be_bytes());
            bytes[2..4].copy_from_slice(&((head.len() + part.len()) as u16).to_be_bytes());
            bytes[6..8].copy_from_slice(&word.to_be_bytes());
            bytes[10..12].fill(0);
            let checksum = !sum(&bytes);
            bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        Family::V6 => {
            let word = start as u16 | u16::from(more);
            bytes[4..6].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
            bytes[6] = 44;
            bytes.extend([17, 0]);
            bytes.extend(word.to_be_bytes());
            bytes.extend(u32::from(number).to_be_bytes());
        }
    }
    bytes.extend(part);
    Arrival::new(flow.port(), ethernet(flow.port(), 0, &bytes))
}

/// A ping for a virtual address, or a router's error about a packet that the director may have sent.
fn icmp(flow: Flow, echo: bool) -> Arrival {
    let sample = Flow { reply: !echo && flow.reply, ..flow }.sample();
    let quoted = sample.packet();
    let (from, to) = if echo {
        (sample.source.ip(), sample.destination.ip())
    } else {
        (sample.destination.ip(), sample.source.ip())
    };
    let mut packet = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let builder = etherparse::PacketBuilder::ipv4(from.octets(), to.octets(), 64);
            if echo {
                builder.icmpv4_echo_request(7, 9).write(&mut packet, b"are you there?").unwrap();
            } else {
                builder.icmpv4_raw(3, 1, [0; 4]).write(&mut packet, &quoted).unwrap();
            }
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let builder = etherparse::PacketBuilder::ipv6(from.octets(), to.octets(), 64);
            if echo {
                builder.icmpv6_echo_request(7, 9).write(&mut packet, b"are you there?").unwrap();
            } else {
                builder.icmpv6_raw(1, 3, [0; 4]).write(&mut packet, &quoted).unwrap();
            }
        }
        _ => panic!("mixed families"),
    }
    Arrival::new(flow.port(), ethernet(flow.port(), 0, &packet))
}

/// The client next to the director asks who a virtual address is, or says who it is itself.
fn arp(answers: bool) -> Arrival {
    let mac = [2, 0, 0, 0, 0, 0x77];
    let (to, target, operation) =
        if answers { (MACS[0].0, [10, 0, 0, 254], 2) } else { ([0xff; 6], [10, 99, 0, 1], 1) };
    let mut frame = [&to[..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation], &mac, &[10, 0, 0, 77]].concat();
    frame.extend([&MACS[0].0[..], &target].concat());
    Arrival::new(OUTSIDE, frame)
}
