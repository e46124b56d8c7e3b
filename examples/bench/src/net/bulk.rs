//! Bulk TCP by ordinary sockets: a few connections that send as fast as they can.
//!
//! The cables are as the kernel makes them: senders hand over merged segments of up to 64 KiB whose checksums are
//! left unfinished, and whoever is in the middle may pass them on like that. All threads go where the kernel puts
//! them.

use core::error::Error;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use lvs_core::{Method, Protocol};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use super::contender;
use super::director::{self, Bulk, Duty};
use super::stage::{CLIENT_OF_DR, CLIENT_OF_KERNEL, CLIENT_OF_NAT, SERVER, SERVICE, Stage};

/// Gbit/s by the kernel's destination NAT.
pub(super) fn kernel_nat(stage: &Stage) -> Result<f64, Box<dyn Error>> {
    let (to, end) = contender::tcp_by_kernel(stage)?;
    let rate = gigabits(stage, CLIENT_OF_KERNEL, to);
    end();
    rate
}

/// Gbit/s by a director with packet sockets, NAT: everything goes through it both ways, or by the offload.
pub(super) fn nat(stage: &Stage, bulk: Bulk) -> Result<f64, Box<dyn Error>> {
    through(stage, CLIENT_OF_NAT, Method::Nat, SERVICE.port(), bulk)
}

/// Gbit/s by a director with packet sockets, direct routing: acknowledgements go past it.
pub(super) fn direct(stage: &Stage, bulk: Bulk) -> Result<f64, Box<dyn Error>> {
    through(stage, CLIENT_OF_DR, Method::Direct, SERVER.port(), bulk)
}

fn through(
    stage: &Stage,
    client: Ipv4Addr,
    method: Method,
    port: u16,
    bulk: Bulk,
) -> Result<f64, Box<dyn Error>> {
    let duty = Duty { protocol: Protocol::Tcp, method, port, pinned: false, bulk };
    let director = director::by_packet(stage, duty)?;
    let rate = gigabits(stage, client, SocketAddrV4::new(*SERVICE.ip(), port));
    director.stop();
    rate
}

/// What the sink's programs read within a turn.
fn gigabits(stage: &Stage, client: Ipv4Addr, to: SocketAddrV4) -> Result<f64, Box<dyn Error>> {
    let listener =
        stage.sink.run(|| TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, SERVER.port())))??;
    let (stop, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let connected = (0..CONNECTIONS).try_for_each(|_| {
        let sender = stage.source.run(|| connect(client, to))??;
        let (receiver, _) = listener.accept()?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        sender.set_write_timeout(Some(PATIENCE))?;
        let (until, count) = (stop.clone(), read.clone());
        threads.push(stage.sink.spawn("receiver", move || receive(receiver, &until, &count))?);
        let until = stop.clone();
        threads.push(stage.source.spawn("sender", move || send(sender, &until))?);
        Ok::<(), Box<dyn Error>>(())
    });
    thread::sleep(WARM_UP);
    let (began, first) = (Instant::now(), read.load(Ordering::Relaxed));
    thread::sleep(TURN);
    let (last, took) = (read.load(Ordering::Relaxed), began.elapsed());
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        // A panic in there shows as nothing read.
        drop(thread.join());
    }
    connected.map_err(|error| format!("no connection to {to}: {error}"))?;
    if last == first {
        return Err(format!("nothing passes to {to}").into());
    }
    Ok(last.saturating_sub(first) as f64 * 8e-9 / took.as_secs_f64())
}

/// A connection from one of the source's addresses, which vanishes without farewell when it is closed.
fn connect(client: Ipv4Addr, to: SocketAddrV4) -> Result<TcpStream, rustix::io::Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // How long a connection is tried for.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    rustix::net::bind(&socket, &SocketAddrV4::new(client, 0))?;
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

fn send(mut stream: TcpStream, until: &AtomicBool) {
    let bytes = vec![0x5a; CHUNK];
    while !until.load(Ordering::Relaxed) {
        if stream.write(&bytes).is_err() {
            return;
        }
    }
}

fn receive(mut stream: TcpStream, until: &AtomicBool, count: &AtomicU64) {
    let mut bytes = vec![0; CHUNK];
    while !until.load(Ordering::Relaxed) {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(length) => _ = count.fetch_add(length as u64, Ordering::Relaxed),
        }
    }
}

/// Connections at a time.
const CONNECTIONS: usize = 4;
/// Bytes for a system call.
const CHUNK: usize = 256 << 10;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// For windows to grow.
const WARM_UP: Duration = Duration::from_millis(500);
/// What is counted.
const TURN: Duration = Duration::from_secs(1);
