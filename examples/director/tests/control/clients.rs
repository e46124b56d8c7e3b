//! Clients of the control sockets that misbehave, crowd, or leave nothing to work with.

use crate::stage::{Stage, ask_once, eventually, service, vip};
use core::error::Error;
use core::net::SocketAddr;
use core::time::Duration;
use lvs_core::Family;
use lvs_std::control::{Answer, Client, Query, ServiceName, ServiceSpec, TableCommand};
use lvs_std::lab::Lab;
use lvs_std::lab::harness::Outcome;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

pub(crate) fn hostile_clients(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, &service("rr", &[(1, 1), (2, 1)]))?;
    let raw = || -> std::io::Result<_> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&stage.socket)?)?;
        Ok(socket)
    };
    // Bytes that are no message at all, and messages that are cut at every place.
    let garbage = raw()?;
    let mut rng = 1_u32;
    for length in 1..400_usize {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                rng = rng.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (rng >> 24) as u8
            })
            .collect();
        let _ = rustix::net::send(&garbage, &bytes, SendFlags::NOSIGNAL);
    }
    let get_family: Vec<u8> =
        [&[32, 0, 0, 0, 0x10, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 9, 0, 2, 0][..], b"IPVS\0\0\0\0"]
            .concat();
    eventually("there is room for another question", || {
        Ok(rustix::net::send(&garbage, &get_family, SendFlags::NOSIGNAL).is_ok())
    })?;
    let mut answer = [0; 4_096];
    eventually("the client is still answered", || {
        let received = rustix::net::recv(&garbage, &mut answer[..], rustix::net::RecvFlags::empty());
        Ok(received.is_ok_and(|(count, _)| count == 388))
    })?;
    // Ask for listings without ever reading them, by as many clients as may be.
    let services: Vec<u8> =
        [&[20, 0, 0, 0, 0x1b, 0, 1, 3, 9, 0, 0, 0, 0, 0, 0, 0][..], &[4, 1, 0, 0]].concat();
    let greedy: Vec<_> = (0..40).filter_map(|_| raw().ok()).collect();
    for _ in 0..2_000 {
        for client in &greedy {
            let _ = rustix::net::send(client, &services, SendFlags::NOSIGNAL);
        }
    }
    let begun = Instant::now();
    let mut client = Client::connect(stage.socket.as_ref())?;
    for number in 1..50_u16 {
        let name = ServiceName::udp(SocketAddr::new(vip().ip(), number));
        client.call(&TableCommand::NewService(name, ServiceSpec::new(Family::V4, "rr")).into())?;
    }
    let Answer::Services(listed) = client.call(&Query::Services.into())? else {
        return Err("no listing".into());
    };
    assert_eq!(listed.len(), 50);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let name = stage.cluster.client.run(|| ask_once(vip()))??;
    assert!(name.starts_with("rs"), "packets pass: {name}");
    // The JSON socket: a question that never ends, and one that is none.
    let mut silent = UnixStream::connect(format!("{}.json", stage.socket))?;
    silent.write_all(b"{\"explain\":")?;
    let mut wrong = UnixStream::connect(format!("{}.json", stage.socket))?;
    wrong.write_all(b"[[[[[[[[\n")?;
    let mut line = String::new();
    BufReader::new(wrong).read_line(&mut line)?;
    assert!(line.contains("no question that this director knows"), "{line}");
    stage.run("services")?;
    Ok(())
}

pub(crate) fn crowded(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, &service("rr", &[(1, 1), (2, 1)]))?;
    let json = format!("{}.json", stage.socket);
    let netlink = || -> std::io::Result<_> {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&stage.socket)?)?;
        Ok(socket)
    };
    let peer = rustix::net::sockopt::socket_peercred(UnixStream::connect(&json)?)?.pid;
    let count = |what: &str| -> std::io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/{what}", peer.as_raw_pid()))?.count())
    };
    // Each command is a process of its own, which has its share.
    let commands = |when: &str| -> Outcome {
        let begun = Instant::now();
        assert_eq!(stage.table()?.len(), 3, "{when}");
        assert!(stage.run("services")?.contains("192.0.2.100:80"), "{when}");
        stage.run("health")?;
        assert!(begun.elapsed() < Duration::from_secs(10), "{when}: {:?}", begun.elapsed());
        Ok(())
    };
    // No descriptor more than it has now.
    commands("before")?;
    // The lowest number that is free: no descriptor but those that are given up.
    let mut taken = fs::read_dir(format!("/proc/{}/fd", peer.as_raw_pid()))?
        .filter_map(|fd| fd.ok()?.file_name().to_str()?.parse::<u64>().ok())
        .collect::<Vec<_>>();
    taken.sort_unstable();
    let free = (0..).zip(&taken).find(|(number, taken)| number != *taken).map(|(number, _)| number);
    let limit = Rlimit { current: free.or(Some(taken.len() as u64)), maximum: Some(4_096) };
    prlimit(Some(peer), Resource::Nofile, limit)?;
    commands("without a descriptor")?;
    // At both sockets at once, so that each may take the descriptors which the other gives up.
    let waiting = std::thread::scope(|scope| {
        let netlinks = scope.spawn(|| latest(50, 3_000, || netlink().unwrap()));
        let questions = latest(50, 3_000, || UnixStream::connect(&json).unwrap());
        (netlinks.join().unwrap(), questions)
    });
    let before = spent(peer)?;
    std::thread::sleep(Duration::from_secs(1));
    let after = spent(peer)?;
    assert!(after - before < 50, "{} hundredths of a second, while nobody asks anything", after - before);
    commands("while clients wait for descriptors")?;
    drop(waiting);
    prlimit(Some(peer), Resource::Nofile, Rlimit { current: Some(1_024), maximum: Some(4_096) })?;
    let threads = count("task")?;
    let silent: Vec<_> = (0..200).map(|_| netlink().unwrap()).collect();
    let mut asking: Vec<_> = (0..200).map(|_| UnixStream::connect(&json).unwrap()).collect();
    for stream in &mut asking {
        // Half a question. Those that have given way already cannot be written to.
        let _ = stream.write_all(b"{\"plan\":\"");
    }
    commands("while clients sit there")?;
    assert_eq!(count("task")?, threads, "questions need no further thread");
    drop((silent, asking));
    commands("after")?;
    let name = stage.cluster.client.run(|| ask_once(vip()))??;
    assert!(name.starts_with("rs"), "packets pass: {name}");
    Ok(())
}

/// Connects so often, and keeps the latest few.
fn latest<T>(few: usize, times: usize, connect: impl Fn() -> T) -> VecDeque<T> {
    let mut kept = VecDeque::new();
    for _ in 0..times {
        kept.push_back(connect());
        if kept.len() > few {
            kept.pop_front();
        }
    }
    kept
}

/// Hundredths of a second on a processor that the threads at a process's control sockets have had.
fn spent(process: Pid) -> Result<u64, Box<dyn Error>> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{}/task", process.as_raw_pid()))? {
        let text = fs::read_to_string(task?.path().join("stat"))?;
        let (_, rest) = text.rsplit_once(") ").ok_or("stat")?;
        if text.contains("(control)") || text.contains("(json)") {
            sum += rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>();
        }
    }
    Ok(sum)
}
