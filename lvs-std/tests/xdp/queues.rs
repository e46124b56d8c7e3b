//! The devices of several workers: an interface with several queues, and who gets which frame.

use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use lvs_core::Seed;
use lvs_forward::PortId;
use lvs_std::device::Device;
use lvs_std::device::xdp::{self, AddressClass, AddressFilter, Attach, Fanned};
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Lab, Node};
use lvs_std::steering::{By, Steer};

use crate::options;
use crate::traffic::PATIENCE;

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (how, attach) in [("by the driver", Attach::Native), ("by the kernel", Attach::Generic)] {
        for (workers, queues) in [(1, 2), (2, 1), (2, 2), (3, 2), (2, 4)] {
            trials.push(trial(
                format!("{workers} workers get their clients' frames of {queues} queues, picked {how}"),
                move || meets(lab, attach, workers, queues),
            ));
        }
    }
    for (workers, queues) in [(2, 1), (3, 2)] {
        trials.push(trial(
            format!("memory comes back to {queues} queues that {workers} workers share, at work together"),
            move || comes_back(lab, workers, queues),
        ));
    }
    for (workers, queues) in [(2, 1), (3, 2)] {
        trials.push(trial(
            format!("what one of {workers} workers leaves lying at {queues} queues is lost, and no other's"),
            move || leaves_room(lab, workers, queues),
        ));
    }
    trials.push(trial("queues that are served cannot be taken from an interface", move || keeps_queues(lab)));
    trials.push(trial("workers send by the queues that send, where fewer do than receive", move || {
        sends_by_few(lab)
    }));
    trials.push(trial(
        "an address that is new to the director is one of its own for the next frame",
        move || learns(lab),
    ));
    trials
}

/// Two nodes with a cable between them, whose ends have devices for several workers.
struct Cable {
    _nodes: [Node; 2],
    /// One worker for each queue sends here, so that frames go by all queues.
    left: Fanned,
    right: Fanned,
    /// The right end's.
    filter: AddressFilter,
    steer: Steer,
}

impl Cable {
    fn new(lab: Lab, attach: Attach, workers: usize, queues: u32) -> Outcome<Self> {
        Self::with_senders(lab, attach, workers, (queues, queues))
    }

    /// At the right end so many of the queues send.
    fn with_senders(
        lab: Lab,
        attach: Attach,
        workers: usize,
        (queues, senders): (u32, u32),
    ) -> Outcome<Self> {
        let (left, right) = (lab.node("left")?, lab.node("right")?);
        for node in [&left, &right] {
            // The kernels' own router solicitations would disturb the counts.
            node.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        lab.connect_by((&left, "eth0"), (&right, "eth0"), queues)?;
        right.set_queues("eth0", queues, senders)?;
        let seed = Seed::from_bytes(*b"a seed for tests");
        let steer = |workers| Steer::new(seed, workers, By::Endpoint);
        let open = |node: &Node, workers| -> Outcome<(Fanned, AddressFilter)> {
            let (ports, steer) = ([("eth0", Some(MAC))], steer(workers));
            let (mut opened, filter) =
                node.run(|| xdp::open_fanned(&ports, &options(attach), &steer, &[VIP.into()]))??;
            Ok((opened.remove(0), filter))
        };
        let ((left_end, _), (right_end, filter)) = (open(&left, queues as usize)?, open(&right, workers)?);
        let steer = steer(workers);
        Ok(Self { left: left_end, right: right_end, filter, steer, _nodes: [left, right] })
    }
}

fn meets(lab: Lab, attach: Attach, workers: usize, queues: u32) -> Outcome {
    let mut cable = Cable::new(lab, attach, workers, queues)?;
    assert_eq!((cable.right.devices.len(), cable.right.properties.queues), (workers, queues));
    let mut wanted = BTreeMap::new();
    for port in 1_000..1_064_u16 {
        for (queue, device) in (0..).zip(&mut cable.left.devices) {
            let (request, reply) = (datagram(CLIENT, VIP, (port, 80)), datagram(SERVER, CLIENT, (80, port)));
            for frame in [request, reply] {
                device.send(&marked(frame, queue))?;
            }
            *wanted.entry((cable.steer.owner_of(CLIENT.into(), port), queue)).or_insert(0) += 2;
        }
    }
    assert_eq!(arrived(&mut cable.right.devices, 64 * 2 * queues as usize)?, wanted);
    Ok(())
}

/// Workers send all that comes to them back, by a queue of theirs, from where it lies.
fn comes_back(lab: Lab, workers: usize, queues: u32) -> Outcome {
    const AT_A_TIME: usize = 64;
    /// So many rounds that the frames are several times what all queues have room for.
    const ROUNDS: u16 = 200;
    let Cable { _nodes, mut left, right, .. } = Cable::new(lab, Attach::Native, workers, queues)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for mut device in right.devices {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let Device { receive, transmit } = &mut device;
                    let taken = receive.receive(PortId(0), &mut |frames| {
                        for frame in frames {
                            transmit.hand_over(frame).expect("there is room");
                        }
                    });
                    transmit.flush().expect("the interface stays");
                    if taken.expect("the interface stays") == 0 {
                        thread::sleep(Duration::from_micros(100));
                    }
                }
                assert_eq!(device.receive.counters().lost, 0);
                assert_eq!(device.transmit.counters().lost(), 0);
            });
        }
        let passed = (0..ROUNDS).try_for_each(|round| -> Outcome {
            for number in 0..AT_A_TIME as u16 {
                let frame = datagram(CLIENT, VIP, (1_000 + 64 * round + number, 80));
                left.devices[usize::from(number) % queues as usize].send(&frame)?;
            }
            let back = arrived(&mut left.devices, AT_A_TIME)?;
            assert_eq!(back.values().sum::<usize>(), AT_A_TIME, "none comes twice");
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        passed
    })
}

fn keeps_queues(lab: Lab) -> Outcome {
    let Cable { _nodes: [_left, node], left, right, .. } = Cable::new(lab, Attach::Native, 1, 4)?;
    assert!(node.set_queues("eth0", 1, 4).is_err());
    drop((left, right));
    // The kernel takes programs and sockets away a moment after they are closed.
    let since = Instant::now();
    while let Err(error) = node.set_queues("eth0", 1, 4) {
        assert!(since.elapsed() < PATIENCE, "nothing else is in the way: {error}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn sends_by_few(lab: Lab) -> Outcome {
    let mut cable = Cable::with_senders(lab, Attach::Native, 3, (4, 2))?;
    for device in &mut cable.right.devices {
        device.send(&datagram(SERVER, CLIENT, (80, 1_000)))?;
    }
    let found = arrived(&mut cable.left.devices, 3)?;
    assert_eq!(found.values().sum::<usize>(), 3, "{found:?}");
    Ok(())
}

/// The first worker takes nothing for a while.
fn leaves_room(lab: Lab, workers: usize, queues: u32) -> Outcome {
    let mut cable = Cable::new(lab, Attach::Native, workers, queues)?;
    let port_of = |worker| (1_000..).find(|port| cable.steer.owner_of(CLIENT.into(), *port) == worker);
    let ports: Vec<u16> = (0..workers).filter_map(port_of).collect();
    let sent = 2 * options(Attach::Native).receive_frames * queues;
    for number in 0..sent as usize {
        let sender = &mut cable.left.devices[number % queues as usize];
        sender.send(&datagram(CLIENT, VIP, (ports[0], 80)))?;
        if number % 64 == 63 {
            // A pause, so that most of what is lost is not lost for want of room at the sender.
            thread::sleep(Duration::from_micros(200));
        }
    }
    let (first, others) = cable.right.devices.split_at_mut(1);
    let (mut served, since) = (BTreeMap::new(), Instant::now());
    while served.len() < others.len() * queues as usize {
        assert!(since.elapsed() < PATIENCE, "only {served:?} came");
        for (queue, sender) in (0..).zip(&mut cable.left.devices) {
            for port in ports.iter().skip(1) {
                sender.send(&marked(datagram(CLIENT, VIP, (*port, 80)), queue))?;
            }
        }
        thread::sleep(Duration::from_millis(10));
        take(others, &mut served)?;
    }
    let lost = first[0].receive.counters().lost;
    let mut kept = BTreeMap::new();
    while take(first, &mut kept)? > 0 {}
    let kept = kept.values().sum::<usize>() as u64;
    // More may have been lost on the way.
    assert!(kept > 0 && lost > 0 && kept + lost <= u64::from(sent), "{kept} kept and {lost} lost of {sent}");
    Ok(())
}

/// The director hears of an address by the port's fan, whatever the filter is told of others.
fn learns(lab: Lab) -> Outcome {
    let mut cable = Cable::new(lab, Attach::Native, 8, 1)?;
    let new = [192, 0, 2, 101];
    let ports: Vec<u16> = (2_000..2_032).collect();
    for known in [false, true, false] {
        let addresses: &[[u8; 4]] = if known { &[VIP, new] } else { &[VIP] };
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| IpAddr::from(*address)).collect();
        cable.right.fan.set(&addresses)?;
        cable.filter.set([(new.into(), AddressClass::Peer), (SERVER.into(), AddressClass::Director)])?;
        let mut wanted = BTreeMap::new();
        for port in &ports {
            cable.left.devices[0].send(&datagram(CLIENT, new, (*port, 80)))?;
            cable.left.devices[0].send(&datagram(CLIENT, VIP, (*port, 80)))?;
            cable.left.devices[0].send(&datagram(CLIENT, SERVER, (*port, 80)))?;
            let request = cable.steer.owner_of(CLIENT.into(), *port);
            let reply = cable.steer.owner_of(new.into(), 80);
            let of_server = cable.steer.owner_of(SERVER.into(), 80);
            for owner in [if known { request } else { reply }, request, of_server] {
                *wanted.entry((owner, 0)).or_insert(0) += 1;
            }
        }
        assert_eq!(arrived(&mut cable.right.devices, 3 * ports.len())?, wanted, "known: {known}");
    }
    Ok(())
}

/// How many frames come to each worker from each queue of the other end.
fn arrived(devices: &mut [Device], count: usize) -> Outcome<BTreeMap<(usize, u8), usize>> {
    let (mut found, mut left, since) = (BTreeMap::new(), count, Instant::now());
    while left > 0 {
        if since.elapsed() > PATIENCE {
            return Err(format!("{left} of {count} did not come: {found:?}").into());
        }
        let taken = take(devices, &mut found)?;
        left -= taken.min(left);
        if taken == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(found)
}

/// Takes a batch from each worker's device.
fn take(devices: &mut [Device], found: &mut BTreeMap<(usize, u8), usize>) -> Outcome<usize> {
    let mut taken = 0;
    for (worker, device) in devices.iter_mut().enumerate() {
        taken += device.receive.receive(PortId(0), &mut |frames| {
            for frame in frames {
                *found.entry((worker, frame.bytes()[MARK])).or_insert(0) += 1;
            }
        })?;
    }
    Ok(taken)
}

/// A datagram to everybody here.
fn datagram(source: [u8; 4], destination: [u8; 4], (from, to): (u16, u16)) -> Vec<u8> {
    let mut frame = [&MAC[..], &[2, 0, 0, 0, 0, 1, 8, 0]].concat();
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([source, destination].concat());
    frame.extend([from.to_be_bytes(), to.to_be_bytes(), [0, 26], [0, 0]].concat());
    frame.resize(60, 0);
    frame
}

fn marked(mut frame: Vec<u8>, mark: u8) -> Vec<u8> {
    frame[MARK] = mark;
    frame
}

/// Where a frame says by which queue it was sent.
const MARK: usize = 50;
/// Everybody's address here.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const VIP: [u8; 4] = [192, 0, 2, 100];
const CLIENT: [u8; 4] = [198, 51, 100, 7];
const SERVER: [u8; 4] = [10, 0, 1, 11];
