//! Frames through a worker, turn by turn.

use lvs_core::{Method, Tunnel};
use lvs_forward::{Checksum, DropReason, Frame, Merged, MergedKind, Offload, PassReason, PortId};
use lvs_std::device::fault::{self, Faults};
use lvs_std::device::{Offloads, PairOptions, pcap};
use lvs_std::worker::{End, Worker, WorkerOptions};

use crate::world::{
    CLIENT, CLIENT_MAC, MACS, SERVER, SERVER_MAC, Seen, Segment, VIP, World, director, forwarder, see,
    server, service,
};

/// A segment with 3,000 bytes that stands for three, its checksum partial.
fn merged() -> (Vec<u8>, Offload) {
    let payload: Vec<u8> = (0..3_000).map(|n| (n % 251) as u8).collect();
    let segment = Segment { syn: false, ack: true, payload: &payload, ..Segment::syn(40_000) };
    let mut bytes = segment.bytes();
    // Only the pseudo-header's sum: protocol, length and addresses.
    let mut sum = 6 + 20 + 3_000;
    for pair in [CLIENT.octets(), VIP.octets()].concat().chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    bytes[50..52].copy_from_slice(&(folded as u16).to_be_bytes());
    let checksum = Checksum::Partial { start: 34, offset: 16 };
    let merged = Merged { kind: MergedKind::TcpV4, segment: 1_400, ecn: false };
    (bytes, Offload { checksum, merged: Some(merged) })
}

/// Opens a connection, so that what follows is no first packet.
fn open(world: &mut World) {
    world.client.send(&Segment::syn(40_000).bytes()).unwrap();
    assert_eq!(world.worker.turn(), 1);
    assert_eq!(world.server.drain().unwrap().len(), 1);
}

fn send_merged(world: &mut World) {
    let (mut bytes, offload) = merged();
    let length = bytes.len();
    let frame = Frame::new(&mut bytes, 0, length, PortId(0)).unwrap().with_offload(offload);
    world.client.transmit.transmit(&frame).unwrap();
    world.client.transmit.flush().unwrap();
    assert_eq!(world.worker.turn(), 1);
}

#[test]
fn request_and_reply_pass_by_nat() {
    let mut world = World::new(Method::Nat, &PairOptions::default());
    world.client.send(&Segment::syn(40_000).bytes()).unwrap();
    assert_eq!(world.worker.turn(), 1);
    let request = world.server.drain().unwrap();
    let expected = Seen {
        macs: (MACS[1], SERVER_MAC),
        from: (CLIENT, 40_000),
        to: (SERVER, 8_080),
        payload: Vec::new(),
    };
    assert_eq!(request.iter().map(|frame| see(frame)).collect::<Vec<_>>(), [expected]);
    world.server.send(&Segment::reply(40_000).bytes()).unwrap();
    assert_eq!(world.worker.turn(), 1);
    let reply = world.client.drain().unwrap();
    let expected =
        Seen { macs: (MACS[0], CLIENT_MAC), from: (VIP, 80), to: (CLIENT, 40_000), payload: Vec::new() };
    assert_eq!(reply.iter().map(|frame| see(frame)).collect::<Vec<_>>(), [expected]);
}

#[test]
fn merged_frame_stays_merged_where_the_device_takes_it() {
    let mut world = World::new(Method::Nat, &PairOptions::default());
    open(&mut world);
    send_merged(&mut world);
    let mut seen = Vec::new();
    world
        .server
        .receive
        .receive(PortId(0), &mut |frames| {
            seen.extend(frames.iter().map(|frame| (frame.len(), frame.offload)));
        })
        .unwrap();
    assert_eq!(seen, [(3_054, merged().1)]);
}

#[test]
fn merged_frame_is_cut_for_a_device_that_takes_only_finished_ones() {
    let mut options = PairOptions::default();
    let mut world = World::new(Method::Nat, &options);
    // The client's end may be merged, the server's not.
    options.offloads = Offloads::NONE;
    let (right, server_end) = lvs_std::device::pair(&options).unwrap();
    let (left, client_end) = lvs_std::device::pair(&PairOptions::default()).unwrap();
    let (key, config) = service();
    let mut director = director(100);
    director.add_service(key, config).unwrap();
    director.add_server(key, server(Method::Nat)).unwrap();
    let (worker, ..) =
        Worker::new(director, forwarder(), vec![left, right], WorkerOptions::default()).unwrap();
    (world.worker, world.client, world.server) = (worker, client_end, server_end);
    open(&mut world);
    send_merged(&mut world);
    let pieces: Vec<Seen> = world.server.drain().unwrap().iter().map(|frame| see(frame)).collect();
    let lengths: Vec<usize> = pieces.iter().map(|piece| piece.payload.len()).collect();
    assert_eq!(lengths, [1_400, 1_400, 200]);
    let whole: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.payload).collect();
    assert_eq!(whole, (0..3_000).map(|n| (n % 251) as u8).collect::<Vec<_>>());
}

#[test]
fn merged_frame_in_a_tunnel_is_cut_even_for_a_device_that_takes_all() {
    let mut world = World::new(Method::Tunnel(Tunnel::IpIp), &PairOptions::default());
    open(&mut world);
    send_merged(&mut world);
    let frames = world.server.drain().unwrap();
    let lengths: Vec<usize> = frames.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1_474, 1_474, 274]);
    for frame in frames {
        assert_eq!(frame[23], 4, "IP in IP");
        let mut inner = frame[..14].to_vec();
        inner.extend(&frame[34..]);
        assert_eq!(see(&inner).to, (VIP, 80));
    }
}

#[test]
fn damaged_frames_are_all_accounted_for() {
    const FRAMES: u64 = 5_000;
    for method in [Method::Nat, Method::Tunnel(Tunnel::Gue { port: 6_080, checksum: true })] {
        let mut world = World::new(method, &PairOptions::default());
        open(&mut world);
        let faults = Faults { corrupt: 1_000, ..Faults::NONE };
        let mut line = fault::sending(world.client, 3, faults);
        let (mut merged, offload) = merged();
        for number in 0..FRAMES {
            if number % 2 == 0 {
                let mut bytes = Segment::syn(number as u16).bytes();
                let length = bytes.len();
                let frame = Frame::new(&mut bytes, 0, length, PortId(0)).unwrap();
                line.transmit.transmit(&frame).unwrap();
            } else {
                let length = merged.len();
                let frame = Frame::new(&mut merged, 0, length, PortId(0)).unwrap().with_offload(offload);
                line.transmit.transmit(&frame).unwrap();
            }
            line.transmit.flush().unwrap();
            assert_eq!(world.worker.turn(), 1);
            world.server.drain().unwrap();
            line.drain().unwrap();
        }
        let counters = world.worker.forwarder().counters().clone();
        let drops: u64 = DropReason::ALL.into_iter().map(|reason| counters.drops(reason)).sum();
        let passes: u64 = PassReason::ALL.into_iter().map(|reason| counters.passes(reason)).sum();
        assert!(drops > 0 && passes > 0 && counters.requests > FRAMES / 4, "{counters:?}");
        // Beside the first, sound one; answers to damage (ICMP errors) are counted with the drop that they answer.
        let all = counters.requests + counters.waited + counters.answers + drops + passes;
        assert_eq!(all, 1 + FRAMES, "{counters:?}");
    }
}

#[test]
fn a_capture_is_replayed_to_its_end() {
    let mut file = Vec::new();
    let mut writer = pcap::Writer::new(&mut file, pcap::LinkType::Ethernet).unwrap();
    for port in 0..100 {
        writer.record(core::time::Duration::ZERO, &Segment::syn(40_000 + port).bytes()).unwrap();
    }
    let reader = pcap::Reader::new(std::io::Cursor::new(file)).unwrap();
    let (left, _) = lvs_std::device::pair(&PairOptions::default()).unwrap();
    let replay = lvs_std::device::Device { receive: Box::new(reader), transmit: left.transmit };
    let nothing = pcap::Reader::new(std::io::Cursor::new({
        let mut file = Vec::new();
        pcap::Writer::new(&mut file, pcap::LinkType::Ethernet).unwrap();
        file
    }))
    .unwrap();
    let (right, mut server_end) = lvs_std::device::pair(&PairOptions::default()).unwrap();
    let right = lvs_std::device::Device { receive: Box::new(nothing), transmit: right.transmit };
    let mut director = director(100);
    let (key, config) = service();
    director.add_service(key, config).unwrap();
    director.add_server(key, server(Method::Nat)).unwrap();
    let (mut worker, handle, _) =
        Worker::new(director, forwarder(), vec![replay, right], WorkerOptions::default()).unwrap();
    assert_eq!(worker.run(), End::Ended);
    assert_eq!(server_end.drain().unwrap().len(), 100);
    assert_eq!(handle.snapshot().director.live, 100);
    assert_eq!(handle.snapshot().ports[0].received.frames, 100);
}
