//! The devices alone: frames over cables.

use core::time::Duration;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use lvs_forward::{Frame, HEADROOM, PortId};
use lvs_std::device::Device;
use lvs_std::device::xdp::{self, Attach, Hazard};
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::lab::{Lab, Node};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::options;
use crate::traffic::PATIENCE;

/// Set for a process that is to open the interface of this name, and to wait for its end.
pub(crate) const HOLD: &str = "LVS_XDP_HOLD";

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (how, attach) in [("by the driver", Attach::Native), ("by the kernel", Attach::Generic)] {
        trials.push(trial(format!("frames pass in order, whatever the length, picked {how}"), move || {
            let mut line = Line::new(lab, attach)?;
            let mut sent = Vec::new();
            for number in 0..1_500u16 {
                let mut frame = frame(MIDDLE, usize::from(60 + number % 1_455));
                frame[14..16].copy_from_slice(&number.to_be_bytes());
                line.left.send(&frame)?;
                sent.push(frame);
                if number % 100 == 99 {
                    line.pass(100, |_, to, frame| to.hand_over(frame).expect("there is room"))?;
                    assert_eq!(line.arrived(100), sent, "up to {number}");
                    sent.clear();
                }
            }
            Ok(())
        }));
        trials.push(trial(format!("memory comes back as often as it is sent on, picked {how}"), move || {
            let mut line = Line::new(lab, attach)?;
            let frame = frame(MIDDLE, 200);
            // More than ten times what one port has room for.
            for _ in 0..400 {
                for _ in 0..64 {
                    line.left.send(&frame)?;
                }
                line.pass(64, |_, to, frame| to.hand_over(frame).expect("there is room"))?;
                assert_eq!(line.arrived(64).len(), 64);
            }
            assert_eq!(line.inner.receive.counters().lost, 0);
            assert_eq!(line.outer.transmit.counters().lost(), 0);
            Ok(())
        }));
    }
    trials.extend([
        trial(
            "a frame that is handed over is sent from where it lies, and one that is not is copied",
            move || {
                let mut line = Line::new(lab, Attach::Native)?;
                for mark in [1, 2] {
                    line.left.send(&frame(MIDDLE, 60))?;
                    line.pass(1, |_, to, frame| {
                        if mark == 1 { to.hand_over(frame) } else { to.transmit(frame) }
                            .expect("there is room");
                        // Nobody may do this; it shows where the frame is.
                        frame.bytes_mut()[20] = 0x11;
                    })?;
                }
                let arrived: Vec<u8> = line.arrived(2).iter().map(|frame| frame[20]).collect();
                assert_eq!(arrived, [0x11, 0xa5]);
                Ok(())
            },
        ),
        trial("one frame can be sent twice, and to both sides", move || {
            let mut line = Line::new(lab, Attach::Native)?;
            line.left.send(&frame(MIDDLE, 60))?;
            line.pass(1, |back, to, frame| {
                to.hand_over(frame).expect("there is room");
                to.hand_over(frame).expect("there is room");
                back.hand_over(frame).expect("there is room");
            })?;
            line.inner.transmit.flush()?;
            assert_eq!(line.arrived(2), [frame(MIDDLE, 60), frame(MIDDLE, 60)]);
            assert_eq!(drained(&mut line.left, 1), [frame(MIDDLE, 60)]);
            Ok(())
        }),
        trial("a frame grows at its front where it lies", move || {
            let mut line = Line::new(lab, Attach::Native)?;
            line.left.send(&frame(MIDDLE, 1_400))?;
            line.pass(1, |_, to, frame| {
                frame.grow_front(HEADROOM).expect("there is headroom").copy_from_slice(&frame_in_front());
                to.hand_over(frame).expect("there is room");
            })?;
            assert_eq!(line.arrived(1), [[&frame_in_front()[..], &frame(MIDDLE, 1_400)].concat()]);
            Ok(())
        }),
        trial("what is not the director's stays the kernel's", move || {
            let line = Line::new(lab, Attach::Native)?;
            line.middle.add_address("eth0", [192, 0, 2, 1].into(), 24)?;
            line.left_node.add_address("eth0", [192, 0, 2, 7].into(), 24)?;
            let to = line.middle.run(|| UdpSocket::bind("192.0.2.1:7"))??;
            to.set_read_timeout(Some(PATIENCE))?;
            // The left end's kernel asks for the middle's address, and the answer is not for the device there either.
            let from = line.left_node.run(|| UdpSocket::bind("192.0.2.7:0"))??;
            from.send_to(b"to the machine", "192.0.2.1:7")?;
            let mut buffer = [0; 100];
            let (length, _) = to.recv_from(&mut buffer)?;
            assert_eq!(&buffer[..length], b"to the machine");
            Ok(())
        }),
        trial("an interface that was down goes on, and one that is gone ends its device", move || {
            let mut line = Line::new(lab, Attach::Native)?;
            line.left_node.set_down("eth0")?;
            line.left.send(&frame(MIDDLE, 60))?;
            line.left_node.set_up("eth0")?;
            line.left.receive.recover()?;
            line.left.send(&frame(MIDDLE, 70))?;
            assert!(drained(&mut line.inner, 1).ends_with(&[frame(MIDDLE, 70)]));
            line.left_node.remove_interface("eth0")?;
            assert!(line.left.receive.recover().is_err());
            assert!(line.left.send(&frame(MIDDLE, 60)).is_err());
            line.inner.receive.counters();
            assert!(line.inner.receive.receive(PortId(0), &mut |_| {}).is_err());
            Ok(())
        }),
        trial("an interface has one program, which goes with the device", move || {
            let (left, right) = (lab.node("left")?, lab.node("right")?);
            lab.connect((&left, "eth0"), (&right, "eth0"))?;
            let open = || left.run(|| xdp::open(&[("eth0", None)], &options(Attach::Native)));
            let (opened, _) = open()??;
            let properties = &opened[0].properties;
            assert!(properties.native && !properties.zero_copy);
            assert_eq!(properties.hazards, [Hazard::PartialChecksums("veth".to_owned())]);
            let error = open()?.expect_err("the interface is taken");
            assert!(error.to_string().starts_with("interface `eth0`: "), "{error}");
            drop(opened);
            open()??;
            Ok(())
        }),
        trial("a process that is killed leaves no program behind", move || {
            let (left, right) = (lab.node("left")?, lab.node("right")?);
            lab.connect((&left, "eth0"), (&right, "eth0"))?;
            let program = std::env::current_exe()?;
            let start = || Command::new(program).env(HOLD, "eth0").stdout(Stdio::piped()).spawn();
            let mut child = left.run(start)??;
            let mut line = String::new();
            BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
            let open = || left.run(|| xdp::open(&[("eth0", None)], &options(Attach::Native)).map(drop));
            let taken = open()?;
            child.kill()?;
            child.wait()?;
            assert_eq!(line, "open\n");
            assert!(taken.is_err(), "the other process has the interface");
            let began = std::time::Instant::now();
            while open()?.is_err() {
                assert!(began.elapsed() < PATIENCE, "the kernel takes the program away");
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }),
        trial("a frame of every length up to the limit fits, and none above", move || {
            let mut line = Line::new(lab, Attach::Native)?;
            for length in [1_514, 1_518, 1_522] {
                let sent = line.left.send(&frame(MIDDLE, length));
                assert!(sent.is_ok(), "{length}: {sent:?}");
            }
            assert!(line.left.send(&frame(MIDDLE, 1_523)).is_err());
            assert!(line.left.send(&[0; 13]).is_err());
            assert_eq!(drained(&mut line.inner, 1)[0], frame(MIDDLE, 1_514));
            Ok(())
        }),
    ]);
    trials
}

/// Opens an interface, says so, and waits to be killed.
pub(crate) fn hold(name: &str) -> Outcome {
    let opened = xdp::open(&[(name, None)], &options(Attach::Native))?;
    println!("open");
    std::thread::sleep(PATIENCE * 3);
    drop(opened);
    Ok(())
}

/// Two cables with a program in the middle: left, inner, outer, right.
struct Line {
    left_node: Node,
    middle: Node,
    left: Device,
    inner: Device,
    outer: Device,
    right: Device,
}

impl Line {
    /// The attachment is that of the middle's interfaces, which share their memory.
    fn new(lab: Lab, attach: Attach) -> Outcome<Self> {
        let (left, middle, right) = (lab.node("left")?, lab.node("middle")?, lab.node("right")?);
        for node in [&left, &middle, &right] {
            // The kernels' own router solicitations would disturb the counts.
            node.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        lab.connect((&left, "eth0"), (&middle, "eth0"))?;
        lab.connect((&right, "eth0"), (&middle, "eth1"))?;
        let open_end = |node: &Node| -> Outcome<Device> {
            let (mut opened, _) =
                node.run(|| xdp::open(&[("eth0", Some(MIDDLE))], &options(Attach::Native)))??;
            Ok(opened.remove(0).device)
        };
        let ports = [("eth0", Some(MIDDLE)), ("eth1", Some(MIDDLE))];
        let (mut opened, _) = middle.run(|| xdp::open(&ports, &options(attach)))??;
        let (outer, inner) = (opened.remove(1).device, opened.remove(0).device);
        Ok(Self { left: open_end(&left)?, right: open_end(&right)?, left_node: left, middle, inner, outer })
    }

    /// Does something with `count` frames that come to the inner port; it gets the way back and the way on.
    fn pass(
        &mut self,
        count: usize,
        mut work: impl FnMut(
            &mut dyn lvs_std::device::Transmit,
            &mut dyn lvs_std::device::Transmit,
            &mut Frame<'_>,
        ),
    ) -> Outcome {
        let mut passed = 0;
        while passed < count {
            if !wait(&self.inner, PATIENCE) {
                return Err(format!("{passed} of {count} frames came").into());
            }
            let (back, on) = (&mut self.inner.transmit, &mut self.outer.transmit);
            self.inner.receive.receive(PortId(0), &mut |frames| {
                for frame in frames {
                    assert!(frame.headroom() >= HEADROOM);
                    work(&mut **back, &mut **on, frame);
                    passed += 1;
                }
            })?;
            on.flush()?;
        }
        Ok(())
    }

    fn arrived(&mut self, count: usize) -> Vec<Vec<u8>> {
        drained(&mut self.right, count)
    }
}

/// What arrives at a device: waits for `count` frames, and a little for more.
fn drained(device: &mut Device, count: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        let patience = if frames.len() < count { PATIENCE } else { Duration::from_millis(2) };
        if !wait(device, patience) {
            return frames;
        }
        frames.extend(device.drain().expect("the interface stays"));
    }
}

fn wait(device: &Device, patience: Duration) -> bool {
    let fd = device.receive.readiness().expect("a socket can be waited for");
    let patience = Timespec::try_from(patience).expect("a few seconds");
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&patience)).expect("poll works") > 0
}

/// A frame of a protocol that the kernels do not know (IEEE 802 local experimental).
fn frame(to: [u8; 6], length: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(length);
    frame.extend(to);
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend([0x88, 0xb5]);
    frame.resize(length, 0xa5);
    frame
}

/// What grows in front of another frame.
fn frame_in_front() -> [u8; HEADROOM] {
    let mut bytes = [0x77; HEADROOM];
    bytes[..6].copy_from_slice(&MIDDLE);
    bytes
}

/// Everybody's address here.
const MIDDLE: [u8; 6] = [2, 0, 0, 0, 0, 2];
