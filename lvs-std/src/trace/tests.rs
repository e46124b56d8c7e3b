//! Frames of a director that is traced: what came and what left have one number; what finds no room is counted.

use std::sync::Arc;

use lvs_core::{
    Config, Director, Heap, Method, Scheduler, Seed, ServerConfig, ServiceConfig, ServiceKey, Tick, Tunnel,
};
use lvs_forward::engine::{Engine, NoPort, PortForm, Ports};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::parse::Link;
use lvs_forward::{Forwarder, Frame, HEADROOM, Offloads, Options, Outcome, PortId};

use super::chunk::Ring;
use super::{Action, Session, TraceRecord, Tracer};
use crate::device::pcap::{LinkType, NgPacket, NgVerdict, NgWriter};

/// What is sent, counted.
#[derive(Default)]
struct Wire(usize);

impl Ports for Wire {
    fn form(&self, _: PortId) -> Option<PortForm> {
        Some(PortForm { link: Link::Ethernet, offloads: Offloads::NONE })
    }

    fn transmit(&mut self, _: &Frame<'_>) -> Result<(), NoPort> {
        self.0 += 1;
        Ok(())
    }
}

struct Site {
    director: Director<Heap>,
    forwarder: Forwarder,
    engine: Engine,
    wire: Wire,
}

impl Site {
    fn new(method: Method, v6: bool) -> Self {
        let seed = Seed::from_bytes([7; 16]);
        let mut host = Host::new(seed);
        let port = host.add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 0, 9]), 1_500)).unwrap();
        let (own, virt, server, client) = addresses(v6);
        host.add_address(port, own, 8).unwrap();
        host.add_virtual_address(virt).unwrap();
        for address in [server, client] {
            host.add_neighbour(port, address, MacAddress([2, 0, 0, 0, 1, 1])).unwrap();
        }
        let mut director = Director::new(Config::new(seed), Heap::with_capacity(1_000));
        let key = ServiceKey::udp(virt, 53);
        director.add_service(key, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
        director.add_server(key, ServerConfig::new((server, 53).into(), method)).unwrap();
        let forwarder = Forwarder::new(host, Options::new());
        Self { director, forwarder, engine: Engine::new(), wire: Wire::default() }
    }

    /// A datagram passes, with a tracer or without.
    fn pass(
        &mut self,
        tracer: &mut Tracer,
        from: core::net::SocketAddr,
        to: core::net::SocketAddr,
    ) -> Outcome {
        let datagram = datagram(from, to);
        let mut buffer = vec![0; HEADROOM + datagram.len() + 64];
        let end = HEADROOM + datagram.len();
        buffer[HEADROOM..end].copy_from_slice(&datagram);
        let frame = Frame::new(&mut buffer, HEADROOM, end, PortId(0)).unwrap();
        let mut outcomes = [Outcome::Consumed];
        let Self { director, forwarder, engine, wire } = self;
        let (frames, now) = (&mut [frame], Tick::from_millis(5));
        tracer.process(Link::Ethernet, engine, director, forwarder, now, frames, &mut outcomes, wire);
        outcomes[0]
    }
}

type Ip = core::net::IpAddr;

/// The director's own address, the virtual one, the server's, the client's.
fn addresses(v6: bool) -> (Ip, Ip, Ip, Ip) {
    let all = if v6 {
        ["2001:db8::fe", "2001:db8::1", "2001:db8::11", "2001:db8::7"]
    } else {
        ["10.0.0.254", "10.99.0.1", "10.0.1.11", "10.2.0.7"]
    };
    let [own, virt, server, client] = all.map(|address| address.parse().unwrap());
    (own, virt, server, client)
}

/// A datagram whose checksums are right.
fn datagram(from: core::net::SocketAddr, to: core::net::SocketAddr) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]);
    let mut bytes = Vec::new();
    match (from.ip(), to.ip()) {
        (Ip::V4(source), Ip::V4(destination)) => builder
            .ipv4(source.octets(), destination.octets(), 64)
            .udp(from.port(), to.port())
            .write(&mut bytes, b"question")
            .unwrap(),
        (Ip::V6(source), Ip::V6(destination)) => builder
            .ipv6(source.octets(), destination.octets(), 64)
            .udp(from.port(), to.port())
            .write(&mut bytes, b"question")
            .unwrap(),
        _ => unreachable!(),
    }
    bytes
}

fn trace(filter: Option<&str>) -> (Session, Tracer) {
    let (session, mut tracers) = Session::new(1, filter.map(|text| text.parse().unwrap()));
    (session, tracers.pop().unwrap())
}

/// Whether the checksums of a frame are right, by another implementation.
fn is_sound(record: &TraceRecord) -> bool {
    let packet = etherparse::SlicedPacket::from_ethernet(&record.bytes).unwrap();
    let Some(etherparse::TransportSlice::Udp(udp)) = &packet.transport else { return true };
    let sum = udp.to_header().checksum;
    let right = match &packet.net {
        Some(etherparse::NetSlice::Ipv4(ip)) => {
            udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), udp.payload())
        }
        Some(etherparse::NetSlice::Ipv6(ip)) => {
            udp.to_header().calc_checksum_ipv6(&ip.header().to_header(), udp.payload())
        }
        _ => return false,
    };
    right.is_ok_and(|right| right == sum)
}

#[test]
fn a_frame_is_recorded_as_it_came_and_as_it_left_under_one_number_by_every_method_and_family() {
    for v6 in [false, true] {
        for method in [Method::Nat, Method::Direct, Method::Tunnel(Tunnel::IpIp)] {
            let mut site = Site::new(method, v6);
            let (session, mut tracer) = trace(None);
            let (_, virt, server, client) = addresses(v6);
            assert_eq!(site.pass(&mut tracer, (client, 4_242).into(), (virt, 53).into()), Outcome::Send);
            tracer.finish();
            let records = session.read(usize::MAX);
            let [came, left] = records.as_slice() else { panic!("{method:?}: {records:?}") };
            assert_eq!((came.id, came.sent, left.sent, came.action), (left.id, false, true, Action::Send));
            assert_eq!(came.bytes, datagram((client, 4_242).into(), (virt, 53).into()), "as it came");
            assert_ne!(came.bytes, left.bytes);
            assert!(is_sound(came) && is_sound(left), "{method:?}: {left:?}");
            let server = core::net::SocketAddr::new(server, 53);
            assert!(came.comment.contains(&format!("by the connection to {server}")), "{}", came.comment);
        }
    }
}

#[test]
fn a_filter_means_packets_as_they_come_or_as_they_leave() {
    let mut site = Site::new(Method::Nat, false);
    let (_, virt, server, client) = addresses(false);
    let (session, mut tracer) = trace(Some("udp 10.2.0.7:4242 > 10.99.0.1:53"));
    for port in [4_242, 4_243] {
        let _ = site.pass(&mut tracer, (client, port).into(), (virt, 53).into());
        // A server's answer has the virtual address only when it leaves.
        let _ = site.pass(&mut tracer, (server, 53).into(), (client, port).into());
    }
    // No service is for it, and the filter means another port.
    let _ = site.pass(&mut tracer, (client, 4_242).into(), (virt, 54).into());
    tracer.finish();
    let records = session.read(usize::MAX);
    assert_eq!(records.len(), 4, "{records:#?}");
    assert!(records.iter().all(|record| record.comment.contains("4242")), "{records:#?}");
    assert_eq!(records[2].id, records[3].id);
    assert_eq!(site.wire.0, 4, "everything was sent, recorded or not");
    assert_eq!(session.lost(), 0);
}

#[test]
fn what_is_dropped_says_why() {
    let mut site = Site::new(Method::Nat, false);
    let (_, virt, _, client) = addresses(false);
    let key = ServiceKey::udp(virt, 53);
    let (session, mut tracer) = trace(None);
    site.director.remove_server(key, "10.0.1.11:53".parse().unwrap()).unwrap();
    let _ = site.pass(&mut tracer, (client, 4_242).into(), (virt, 53).into());
    let _ = site.pass(&mut tracer, ([127, 0, 0, 1], 4_242).into(), (virt, 53).into());
    tracer.finish();
    let records = session.read(usize::MAX);
    assert!(records[0].comment.ends_with("dropped and answered, counted as no-server"), "{records:#?}");
    assert!(records[2].comment.ends_with("dropped: martian"), "{records:#?}");
    assert_eq!(records[2].action, Action::Drop);
}

#[test]
fn a_flood_loses_records_which_are_counted_and_no_packet() {
    let mut site = Site::new(Method::Nat, false);
    let (_, virt, _, client) = addresses(false);
    let ring = Arc::new(Ring::new(2));
    let mut tracer = Tracer::new(0, ring.clone(), None);
    let mut sent = 0;
    for port in 1_024..20_000_u16 {
        let outcome = site.pass(&mut tracer, (client, 1_024 + port % 900).into(), (virt, 53).into());
        sent += usize::from(outcome == Outcome::Send);
    }
    assert_eq!((sent, site.wire.0), (18_976, 18_976), "every packet went its way");
    tracer.finish();
    let mut kept = 0;
    while ring.read(|chunk| kept += chunk.records().count() as u64) {}
    assert!(kept > 0 && ring.lost() > 0, "{kept} {}", ring.lost());
    assert_eq!(kept + ring.lost(), 2 * 18_976, "what was not kept is counted");
    // Somebody reads again: then there is room again.
    let _ = site.pass(&mut tracer, (client, 1_024).into(), (virt, 53).into());
    tracer.finish();
    assert!(ring.read(|chunk| assert_eq!(chunk.records().count(), 2)));
}

#[test]
#[ignore = "takes tshark: bash .ci/run traces"]
fn tshark_finds_frames_of_every_method_and_family_sound_and_shows_their_comments() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let ports = [("eth0", LinkType::Ethernet)];
    let mut writer = NgWriter::new(file.reopen().unwrap(), "a test", ports).unwrap();
    let mut written = Vec::new();
    for v6 in [false, true] {
        let gue = Tunnel::Gue { port: 6_080, checksum: true };
        let tunnels = [Tunnel::IpIp, Tunnel::Gre { checksum: true }, gue].map(Method::Tunnel);
        for method in [Method::Nat, Method::Direct].into_iter().chain(tunnels) {
            let mut site = Site::new(method, v6);
            let (session, mut tracer) = trace(None);
            let (_, virt, server, client) = addresses(v6);
            let _ = site.pass(&mut tracer, (client, 4_242).into(), (virt, 53).into());
            if method == Method::Nat {
                let _ = site.pass(&mut tracer, (server, 53).into(), (client, 4_242).into());
            }
            tracer.finish();
            for record in session.read(usize::MAX) {
                let TraceRecord { id, time, sent, bytes, comment, .. } = &record;
                let verdict = NgVerdict::Send;
                let (interface, queue) = (0, 3);
                let packet =
                    NgPacket { interface, time: *time, bytes, sent: *sent, id: *id, queue, verdict, comment };
                writer.record(&packet).unwrap();
                let direction = if *sent { "0x00000002" } else { "0x00000001" };
                written.push(
                    [id.to_string(), direction.to_owned(), comment.clone(), "eth0".to_owned()].join("\t"),
                );
            }
        }
    }
    writer.finish(core::time::Duration::ZERO, 7).unwrap();
    let tshark = |arguments: &[&str]| {
        let mut command = std::process::Command::new("tshark");
        command.arg("-r").arg(file.path());
        command.args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
        // What the datagrams say is no question of DNS.
        command.args(["--disable-protocol", "dns"]);
        let output = command.args(arguments).output().expect("tshark is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let fields = ["frame.packet_id", "frame.packet_flags", "frame.comment", "frame.interface_name"];
    let arguments: Vec<&str> =
        ["-T", "fields"].into_iter().chain(fields.into_iter().flat_map(|of| ["-e", of])).collect();
    assert_eq!(tshark(&arguments).lines().collect::<Vec<_>>(), written);
    let unsound =
        "_ws.malformed || ip.checksum.status == 0 || udp.checksum.status == 0 || gre.checksum.status == 0";
    assert_eq!(tshark(&["-Y", unsound]), "", "no frame is unsound");
    assert!(!tshark(&["-Y", "udp.checksum.status == 1"]).is_empty(), "checksums are looked at");
}
