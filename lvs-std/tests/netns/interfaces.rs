//! Interfaces that come, go and change under a director at work: it says so at once, and goes on by itself.

use core::time::Duration;
use std::io;
use std::net::UdpSocket;
use std::time::Instant;

use lvs_forward::PortId;
use lvs_forward::host::Port;
use lvs_std::lab::Lab;
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::runtime::{RunError, Runtime, RuntimeHandle};

use crate::arms::{Arms, CLIENT, LONG, VIP};

/// By packet sockets (`packet`) or by `AF_XDP` (`xdp`).
pub(crate) fn over(lab: Lab, device: &str) -> Vec<Trial> {
    if device == "xdp" { by_xdp(lab) } else { by_packet_sockets(lab) }
}

fn by_packet_sockets(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    for workers in [1, 2] {
        let of = format!("of a director with {workers} workers");
        trials.push(trial(format!("an interface {of} may be absent, come, go and come back"), move || {
            comes_and_goes(lab, "packet", workers)
        }));
        trials.push(trial(
            format!("an interface {of} may go down, be renamed, and have another MTU"),
            move || changes(lab, workers),
        ));
        trials.push(trial(format!("an interface {of} may move to another namespace and back"), move || {
            moves_away(lab, "packet", workers)
        }));
    }
    trials.push(trial("a director that is told so ends when it can use no interface", move || ends(lab)));
    trials
}

fn by_xdp(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    for workers in [1, 2] {
        let of = format!("of a director with {workers} workers");
        trials.push(trial(
            format!("AF_XDP: an interface {of} may be absent, come, go and come back"),
            move || comes_and_goes(lab, "xdp", workers),
        ));
        trials.push(trial(format!("AF_XDP: queues that an interface {of} gets are served"), move || {
            gets_queues(lab, workers)
        }));
        trials.push(trial(format!("AF_XDP: an interface {of} may move away and back"), move || {
            moves_away(lab, "xdp", workers)
        }));
    }
    trials
}

/// A real server that answers every datagram with its own bytes, behind a director.
struct Net(Arms, &'static str);

impl Net {
    fn new(lab: Lab, device: &'static str) -> Outcome<Self> {
        let net = Arms::new(lab)?;
        let socket = net.server.run(|| UdpSocket::bind(("0.0.0.0", 53)))??;
        net.server.spawn("echo", move || {
            let mut bytes = [0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&bytes[..length], from);
            }
        })?;
        Ok(Self(net, device))
    }

    fn start(&self, workers: usize, more: &str) -> Outcome<Runtime> {
        let device = format!("device = \"{}\"", self.1);
        self.0.start(&format!(
            "[director]\nworkers = {workers}\n{more}\n\
             [[interface]]\nname = \"eth0\"\n{device}\naddresses = [\"10.1.0.254/24\"]\n\
             [[interface]]\nname = \"eth1\"\n{device}\naddresses = [\"10.2.0.254/24\"]\n\
             [[service]]\nprotocol = \"udp\"\naddress = \"10.1.0.100\"\nport = 53\n\
             [[service.server]]\naddress = \"10.2.0.11\"\nport = 53\nmethod = \"nat\"\n"
        ))
    }

    /// Asks by several sockets, so that every worker is asked.
    fn ask(&self, patience: Duration) -> io::Result<()> {
        for _ in 0..8 {
            let socket = self.0.client.run(|| UdpSocket::bind((CLIENT, 0))).map_err(io::Error::other)??;
            socket.set_read_timeout(Some(patience))?;
            socket.connect((VIP, 53))?;
            socket.send(&[7; 1_000])?;
            socket.recv(&mut [0; 1_500])?;
        }
        Ok(())
    }

    /// Asks until there are answers.
    fn is_served(&self) -> Outcome {
        let since = Instant::now();
        while let Err(error) = self.ask(Duration::from_millis(300)) {
            if since.elapsed() > LONG {
                return Err(format!("no answer: {error}").into());
            }
        }
        Ok(())
    }
}

/// Waits until the problems are just these, each by its beginning: an interface that goes may be said to be something
/// else for a moment.
fn problems(director: &RuntimeHandle, expected: &[&str]) -> Outcome {
    let since = Instant::now();
    loop {
        let all = director.problems().list();
        let words: Vec<String> = all.iter().map(|one| format!("{}: {}", one.part, one.why)).collect();
        let alike = words.iter().zip(expected).all(|(words, expected)| words.starts_with(expected));
        if alike && words.len() == expected.len() {
            return Ok(());
        }
        if since.elapsed() > LONG {
            return Err(format!("{words:?} instead of {expected:?}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What was sent and lost at the interface on the servers' side, by numbers that are published from now on.
fn sent_by_eth1(director: &RuntimeHandle) -> Outcome<(u64, u64)> {
    let (since, before) = (Instant::now(), director.statistics()?);
    loop {
        let now = director.statistics()?;
        if now.workers.iter().zip(&before.workers).all(|(now, before)| now.at != before.at) {
            let sent = now.total.ports[1].transmitted;
            return Ok((sent.frames, sent.down));
        }
        assert!(since.elapsed() < LONG, "no worker publishes its numbers");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn comes_and_goes(lab: Lab, device: &'static str, workers: usize) -> Outcome {
    let net = Net::new(lab, device)?;
    let runtime = net.start(workers, "")?;
    let director = runtime.handle();
    problems(&director, &["interface eth1: it is not there"])?;
    net.0.join_server()?;
    problems(&director, &[])?;
    net.is_served()?;
    for _ in 0..2 {
        net.0.director.remove_interface("eth1")?;
        problems(&director, &["interface eth1: it is not there"])?;
        let before = sent_by_eth1(&director)?;
        assert!(net.ask(Duration::from_millis(100)).is_err());
        let since = Instant::now();
        let mut after = sent_by_eth1(&director)?;
        while after.1 == before.1 {
            assert!(since.elapsed() < LONG, "what is lost counts as lost: {before:?} {after:?}");
            after = sent_by_eth1(&director)?;
        }
        assert_eq!(after.0, before.0, "what is lost does not count as sent");
        net.0.join_server()?;
        problems(&director, &[])?;
        net.is_served()?;
    }
    drop(runtime);
    Ok(())
}

fn changes(lab: Lab, workers: usize) -> Outcome {
    let net = Net::new(lab, "packet")?;
    net.0.join_server()?;
    let runtime = net.start(workers, "")?;
    let director = runtime.handle();
    net.is_served()?;
    net.0.director.set_down("eth1")?;
    problems(&director, &["interface eth1: it is down"])?;
    net.0.director.rename_interface("eth1", "other")?;
    net.0.director.set_up("other")?;
    problems(&director, &[])?;
    net.is_served()?;
    for mtu in [1_400, 1_300, 9_000, 1_500] {
        net.0.director.set_mtu("other", mtu)?;
        let since = Instant::now();
        while director
            .group()
            .with_first(|_, forwarder, _| forwarder.host().port(PortId(1)).map(Port::mtu))?
            != u16::try_from(mtu).ok()
        {
            assert!(since.elapsed() < LONG, "the MTU of {mtu} is not known");
            std::thread::sleep(Duration::from_millis(20));
        }
        net.is_served()?;
    }
    drop(runtime);
    Ok(())
}

fn moves_away(lab: Lab, device: &'static str, workers: usize) -> Outcome {
    let net = Net::new(lab, device)?;
    net.0.join_server()?;
    let runtime = net.start(workers, "")?;
    let director = runtime.handle();
    net.is_served()?;
    let elsewhere = lab.node("elsewhere")?;
    for _ in 0..2 {
        net.0.director.move_interface("eth1", &elsewhere)?;
        problems(&director, &["interface eth1: it is not there"])?;
        assert!(net.ask(Duration::from_millis(100)).is_err(), "its frames are another namespace's now");
        elsewhere.move_interface("eth1", &net.0.director)?;
        problems(&director, &[])?;
        net.is_served()?;
    }
    drop(runtime);
    Ok(())
}

/// The server's kernel shares its answers out over all of its queues, each of which ends at one of the director's.
fn gets_queues(lab: Lab, workers: usize) -> Outcome {
    let net = Net::new(lab, "xdp")?;
    net.0.join_server_by(8)?;
    net.0.server.set_queues("eth0", 1, 1)?;
    net.0.director.set_queues("eth1", 1, 1)?;
    let runtime = net.start(workers, "")?;
    net.is_served()?;
    net.0.director.set_queues("eth1", 8, 8)?;
    net.0.server.set_queues("eth0", 8, 8)?;
    // Eight sockets at a time: they come by one queue once in sixteen million times.
    net.is_served()?;
    problems(&runtime.handle(), &[])?;
    drop(runtime);
    Ok(())
}

fn ends(lab: Lab) -> Outcome {
    let net = Net::new(lab, "packet")?;
    let runtime = net.start(1, "when-no-interface = \"exit\"")?;
    // Half of two is enough to stay.
    problems(&runtime.handle(), &["interface eth1"])?;
    net.0.director.remove_interface("eth0")?;
    let ended = runtime.join();
    assert!(matches!(ended, Err(RunError::Interfaces)), "{ended:?}");
    Ok(())
}
