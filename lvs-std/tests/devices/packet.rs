//! Packet sockets with mapped rings, over veth with the offloads that it has by default.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::net::UdpSocket;

use lvs_forward::{Frame, PortId};
use lvs_std::device::packet::{self, PacketOptions, SlotLength};
use lvs_std::device::{Device, TransmitError};
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Lab, Node};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::bridge::{Bridge, Counted, LEFT, PATIENCE, RIGHT};

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    vec![
        trial("merged TCP passes two rings merged and arrives whole", move || {
            let (left, right) = merged(Bridge::by_packet(lab, &PacketOptions::default())?)?;
            assert_eq!(left.0.cut + right.0.cut, 0);
            Ok(())
        }),
        trial("merged TCP passes two rings of short slots merged and arrives whole", move || {
            // Those that are cut, as this lab may not have more room for them, are sent again.
            merged(Bridge::by_packet(lab, &short())?).map(drop)
        }),
        trial("a partial checksum survives the way through both rings", move || {
            let bridge = Bridge::by_packet(lab, &PacketOptions::default())?;
            let to = bridge.right.run(|| UdpSocket::bind((RIGHT, 7)))??;
            let from = bridge.left.run(|| UdpSocket::bind((LEFT, 0)))??;
            to.set_read_timeout(Some(PATIENCE))?;
            from.send_to(b"a datagram of which the sender's kernel left the sum open", (RIGHT, 7))?;
            let mut buffer = [0; 100];
            let (length, _) = to.recv_from(&mut buffer)?;
            assert_eq!(&buffer[..length], b"a datagram of which the sender's kernel left the sum open");
            assert!(bridge.partial.load(Ordering::Relaxed), "veth leaves checksums partial");
            bridge.stop();
            Ok(())
        }),
        trial("frames pass the rings in order, whatever the length", move || {
            in_order(Cable::new(lab, &PacketOptions::default())?, 1_514)
        }),
        trial("frames pass a ring of short slots in order, those that do not fit too", move || {
            let cable = Cable::new(lab, &short())?;
            // The slots are for the MTU that the interface had when they were made.
            cable.left.set_mtu("eth0", 9_000)?;
            cable.right.set_mtu("eth0", 9_000)?;
            in_order(cable, 9_014)
        }),
        trial("only frames to the own address and to groups come in", move || {
            let options = with(|options| options.mac = Some(FAR));
            let mut cable = Cable::new(lab, &options)?;
            let others = [[2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 1, 2], [2, 1, 0, 0, 0, 2]];
            for mac in [FAR, others[0], [0xff; 6], others[1], [0x33, 0x33, 0xff, 0, 0, 1], others[2], FAR] {
                cable.near.send(&frame(NEAR, mac, 60))?;
            }
            let seen: Vec<u8> = cable.arrived(4).iter().map(|frame| frame[0]).collect();
            assert_eq!(seen, [2, 0xff, 0x33, 2]);
            Ok(())
        }),
        trial("a VLAN tag arrives where it was sent", move || {
            tagged(Cable::new(lab, &PacketOptions::default())?, 64)
        }),
        trial("a VLAN tag arrives where it was sent if the frame does not fit into its slot", move || {
            let cable = Cable::new(lab, &short())?;
            cable.left.set_mtu("eth0", 9_000)?;
            cable.right.set_mtu("eth0", 9_000)?;
            tagged(cable, 4_000)
        }),
        trial("a frame that the kernel refuses does not hold up the others", move || {
            let mut cable = Cable::new(lab, &PacketOptions::default())?;
            let (good, short) = (frame(NEAR, FAR, 60), [0; 9]);
            for bytes in [&good[..], &short, &good, &short, &short, &good] {
                let mut bytes = bytes.to_vec();
                let length = bytes.len();
                let frame = Frame::new(&mut bytes, 0, length, PortId(0)).expect("the whole buffer");
                cable.near.transmit.transmit(&frame)?;
            }
            assert_eq!(cable.near.transmit.flush()?, 0);
            assert_eq!(cable.near.transmit.counters().refused, 3);
            cable.near.send(&good)?;
            assert_eq!(cable.arrived(4), [&good[..]; 4]);
            let too_long = cable.near.send(&frame(NEAR, FAR, 4_000)).expect_err("the MTU is 1500");
            assert_eq!(too_long.to_string(), TransmitError::Refused.to_string());
            Ok(())
        }),
        trial("an interface that was down loses frames, says so, and goes on", move || {
            let mut cable = Cable::new(lab, &PacketOptions::default())?;
            cable.left.set_down("eth0")?;
            for length in [60, 1_000] {
                cable.near.send(&frame(NEAR, FAR, length))?;
            }
            assert_eq!(cable.near.transmit.counters().down, 2);
            for end in [&mut cable.near, &mut cable.far] {
                assert_eq!(end.receive.receive(PortId(0), &mut |_| {})?, 0);
                end.receive.recover()?;
            }
            cable.left.set_up("eth0")?;
            let frame = frame(NEAR, FAR, 700);
            cable.near.send(&frame)?;
            assert_eq!(cable.arrived(1), [frame]);
            cable.far.receive.recover()?;
            Ok(())
        }),
        trial("an interface that is gone ends its device with an error", move || {
            let mut cable = Cable::new(lab, &PacketOptions::default())?;
            cable.left.remove_interface("eth0")?;
            assert!(cable.near.receive.recover().is_err());
            assert!(cable.near.send(&frame(NEAR, FAR, 60)).is_err());
            assert!(cable.near.send(&frame(NEAR, FAR, 60)).is_err());
            assert_eq!(cable.near.receive.receive(PortId(0), &mut |_| {})?, 0);
            Ok(())
        }),
        trial("frames that find no slot are counted", move || {
            let mut cable = Cable::new(lab, &with(|options| options.receive_slots = 15))?;
            for _ in 0..40 {
                cable.near.send(&frame(NEAR, FAR, 60))?;
            }
            assert_eq!(cable.arrived(15).len(), 15);
            let counters = cable.far.receive.counters();
            assert_eq!((counters.frames, counters.lost), (15, 25));
            cable.near.send(&frame(NEAR, FAR, 60))?;
            assert_eq!(cable.arrived(1).len(), 1);
            Ok(())
        }),
    ]
}

/// Sends by TCP; says what either device counted.
fn merged(bridge: Bridge) -> Outcome<(Counted, Counted)> {
    let received = bridge.transfer(32 << 20)?;
    assert_eq!(received, 32 << 20);
    let (left, right) = bridge.stop();
    assert!(left.0.merged > 100, "veth hands merged frames over: {left:?}");
    assert_eq!(right.1.merged, left.0.merged, "as many go out merged: {right:?}");
    assert_eq!(left.0.invalid + right.0.invalid, 0);
    assert_eq!((left.1.lost(), right.1.lost()), (0, 0));
    Ok((left, right))
}

/// Sends frames of very different lengths up to this one.
fn in_order(mut cable: Cable, longest: usize) -> Outcome {
    let mut sent = Vec::new();
    for number in 0..1_500u16 {
        let mut frame = frame(NEAR, FAR, 60 + usize::from(number) * 611 % (longest - 59));
        frame[14..16].copy_from_slice(&number.to_be_bytes());
        cable.near.send(&frame)?;
        sent.push(frame);
        if number % 20 == 19 {
            assert_eq!(cable.arrived(20), sent, "up to {number}");
            sent.clear();
        }
    }
    let counters = cable.far.receive.counters();
    assert_eq!((counters.lost, counters.cut, counters.invalid), (0, 0, 0));
    Ok(())
}

fn tagged(mut cable: Cable, length: usize) -> Outcome {
    let mut tagged = frame(NEAR, FAR, length);
    tagged[12..18].copy_from_slice(&[0x81, 0x00, 0x60, 0x2a, 0x88, 0xb5]);
    cable.near.send(&tagged)?;
    assert_eq!(cable.arrived(1), [tagged]);
    Ok(())
}

/// Two devices at the ends of one cable.
struct Cable {
    left: Node,
    right: Node,
    near: Device,
    far: Device,
}

impl Cable {
    /// The options are the far end's.
    fn new(lab: Lab, options: &PacketOptions) -> Outcome<Self> {
        let (left, right) = (lab.node("left")?, lab.node("right")?);
        for node in [&left, &right] {
            // The kernels' own router solicitations would disturb the counts.
            node.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        lab.connect((&left, "eth0"), (&right, "eth0"))?;
        let near = left.run(|| packet::open("eth0", &PacketOptions::default()))??.device;
        let far = right.run(|| packet::open("eth0", options))??.device;
        Ok(Self { left, right, near, far })
    }

    /// What arrives at the far end: waits for `count` frames, and a little for more.
    fn arrived(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let patience = if frames.len() < count { PATIENCE } else { Duration::from_millis(30) };
            let fd = self.far.receive.readiness().expect("a packet socket can be waited for");
            let patience = Timespec::try_from(patience).expect("a few seconds");
            let ready = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&patience));
            if ready.expect("poll works") == 0 {
                return frames;
            }
            frames.extend(self.far.drain().expect("the interface stays"));
        }
    }
}

fn short() -> PacketOptions {
    with(|options| {
        options.slot_length = SlotLength::Mtu;
        options.receive_slots = 2_000;
    })
}

fn with(change: impl FnOnce(&mut PacketOptions)) -> PacketOptions {
    let mut options = PacketOptions::default();
    change(&mut options);
    options
}

/// A frame of a protocol that the kernels do not know (IEEE 802 local experimental).
fn frame(from: [u8; 6], to: [u8; 6], length: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(length);
    frame.extend(to);
    frame.extend(from);
    frame.extend([0x88, 0xb5]);
    frame.resize(length, 0xa5);
    frame
}

const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FAR: [u8; 6] = [2, 0, 0, 0, 0, 2];
