//! The devices of several workers: an interface with several queues, and who gets which frame.

use core::time::Duration;
use std::collections::BTreeMap;
use std::time::Instant;

use lvs_core::{Family, Protocol, Seed};
use lvs_forward::PortId;
use lvs_std::device::Device;
use lvs_std::device::xdp::{self, Attach, Fanned};
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
    trials
}

/// Two nodes with a cable between them, whose ends have devices for several workers.
struct Cable {
    _nodes: [Node; 2],
    /// One worker for each queue sends here, so that frames go by all queues.
    left: Fanned,
    right: Fanned,
    steer: Steer,
}

impl Cable {
    fn new(lab: Lab, attach: Attach, workers: usize, queues: u32) -> Outcome<Self> {
        let (left, right) = (lab.node("left")?, lab.node("right")?);
        for node in [&left, &right] {
            // The kernels' own router solicitations would disturb the counts.
            node.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        lab.connect_by((&left, "eth0"), (&right, "eth0"), queues)?;
        let seed = Seed::from_bytes(*b"a seed for tests");
        let steer = |workers| Steer::new(seed, workers, By::Endpoint);
        let open = |node: &Node, workers| -> Outcome<Fanned> {
            let (ports, steer) = ([("eth0", Some(MAC))], steer(workers));
            let (mut opened, _) =
                node.run(|| xdp::open_fanned(&ports, &options(attach), &steer, &[VIP.into()]))??;
            Ok(opened.remove(0))
        };
        let (left_end, right_end) = (open(&left, queues as usize)?, open(&right, workers)?);
        Ok(Self { left: left_end, right: right_end, steer: steer(workers), _nodes: [left, right] })
    }
}

fn meets(lab: Lab, attach: Attach, workers: usize, queues: u32) -> Outcome {
    let mut cable = Cable::new(lab, attach, workers, queues)?;
    assert_eq!((cable.right.devices.len(), cable.right.queues), (workers, queues));
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

/// How many frames come to each worker from each queue of the other end.
fn arrived(devices: &mut [Device], count: usize) -> Outcome<BTreeMap<(usize, u8), usize>> {
    let (mut found, mut left, since) = (BTreeMap::new(), count, Instant::now());
    while left > 0 {
        if since.elapsed() > PATIENCE {
            return Err(format!("{left} of {count} did not come: {found:?}").into());
        }
        let mut taken = 0;
        for (worker, device) in devices.iter_mut().enumerate() {
            taken += device.receive.receive(PortId(0), &mut |frames| {
                for frame in frames {
                    *found.entry((worker, frame.bytes()[MARK])).or_insert(0) += 1;
                }
            })?;
        }
        left -= taken.min(left);
        if taken == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(found)
}

/// A datagram to everybody here.
fn datagram(source: [u8; 4], destination: [u8; 4], (from, to): (u16, u16)) -> Vec<u8> {
    let _ = (Family::V4, Protocol::Udp);
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
