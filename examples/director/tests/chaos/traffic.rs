//! The net, its servers, and a client that is served all along.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io::{self, Read as _};
use std::net::{TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use lvs_core::{Family, Method};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Arms, Cluster, Lab, Node, Plan};

use crate::greeting::{greet, ping};
use crate::model::{ECHO, VIP};

/// Clients, a director's node and real servers, with traffic.
pub(crate) struct Net {
    pub(crate) cluster: Cluster,
    /// Datagrams that have come to servers.
    pub(crate) arrived: Arc<AtomicU64>,
    traffic: Arc<Traffic>,
    client: Option<JoinHandle<()>>,
    /// Connections that stay open.
    held: Vec<TcpStream>,
}

/// What the client does and has seen.
#[derive(Debug, Default)]
struct Traffic {
    /// Held for a connection, and by whoever wants quiet.
    turn: Mutex<()>,
    stop: AtomicBool,
    served: AtomicU64,
    failed: AtomicU64,
    /// Answers that are not what was asked for.
    wrong: AtomicU64,
}

impl Net {
    pub(crate) fn new(lab: Lab) -> Outcome<Self> {
        let cluster = Cluster::new(lab, &Plan::new(Method::Nat).with_servers(3).with_arms(Arms::Two))?;
        let arrived = Arc::new(AtomicU64::new(0));
        for (server, number) in cluster.servers.iter().zip(1..) {
            let address = Cluster::server_address(number, Family::V4);
            // What answers forged SYNs is not said again for a minute: nothing else shall move when the books are made.
            server.set_sysctl("net.ipv4.tcp_synack_retries", "0")?;
            greet(server, SocketAddr::new(address, 80))?;
            echo(server, SocketAddr::new(address, ECHO), arrived.clone())?;
        }
        let traffic = Arc::new(Traffic::default());
        let own = traffic.clone();
        let client = cluster.client.spawn("client", move || own.go_on())?;
        Ok(Self { cluster, arrived, traffic, client: Some(client), held: Vec::new() })
    }

    /// Makes an interface of the director's anew, as at the beginning.
    pub(crate) fn join(&self, interface: &str) -> Outcome {
        let switch = &self.cluster.switches[usize::from(interface == "eth1")];
        let director = &self.cluster.director;
        switch.join(director, interface)?;
        Ok(director.set_sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "1")?)
    }

    /// No connection is made as long as this is kept.
    pub(crate) fn quiet(&self) -> MutexGuard<'_, ()> {
        self.traffic.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One client more is served.
    pub(crate) fn serve_another(&self) -> io::Result<TcpStream> {
        self.cluster.client.run(|| greeted(LONG)).map_err(io::Error::other)?
    }

    /// The connections that stay open carry bytes; where none was kept, new ones are made.
    pub(crate) fn check_held(&mut self, is_new_director: bool) -> Outcome {
        if is_new_director {
            self.held.clear();
        }
        for stream in &mut self.held {
            ping(stream, LONG).map_err(|error| format!("a connection that stays open is broken: {error}"))?;
        }
        while self.held.len() < HELD {
            let stream = self.serve_another()?;
            self.held.push(stream);
        }
        Ok(())
    }

    /// How many connections were served, and how many failed in some trouble.
    pub(crate) fn served(&self) -> Outcome<(u64, u64)> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        match load(&self.traffic.wrong) {
            0 => Ok((load(&self.traffic.served), load(&self.traffic.failed))),
            wrong => Err(format!("{wrong} answers are not what was asked for").into()),
        }
    }

    pub(crate) fn end(mut self) -> Outcome {
        self.traffic.stop.store(true, Ordering::Release);
        let ended = self.client.take().map_or(Ok(()), JoinHandle::join);
        ended.map_err(|_| "the client panicked")?;
        match self.served()? {
            (0, _) => Err("no client was ever served".into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.traffic.stop.store(true, Ordering::Release);
    }
}

impl Traffic {
    fn go_on(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            match greeted(SHORT).and_then(|mut stream| (0..3).try_for_each(|_| ping(&mut stream, SHORT))) {
                Ok(()) => _ = self.served.fetch_add(1, Ordering::Relaxed),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.wrong.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => _ = self.failed.fetch_add(1, Ordering::Relaxed),
            }
            drop(turn);
            thread::sleep(PAUSE);
        }
    }
}

/// A new connection, after its server's greeting. In the client's node.
fn greeted(patience: Duration) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(VIP.into(), 80), patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut name = [0; 3];
    stream.read_exact(&mut name)?;
    if &name[..2] != b"rs" {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(stream)
}

/// A server that counts datagrams and sends them back.
fn echo(node: &Node, address: SocketAddr, arrived: Arc<AtomicU64>) -> Outcome {
    let socket = node.run(|| UdpSocket::bind(address))??;
    node.spawn("echo", move || {
        let mut bytes = [0; 2_048];
        loop {
            let Ok((count, from)) = socket.recv_from(&mut bytes) else { continue };
            arrived.fetch_add(1, Ordering::AcqRel);
            drop(socket.send_to(&bytes[..count], from));
        }
    })?;
    Ok(())
}

const HELD: usize = 3;
/// Between two connections of the client's.
const PAUSE: Duration = Duration::from_millis(2);
/// How long the client waits in some trouble.
const SHORT: Duration = Duration::from_secs(1);
/// How long it takes at the most where there is none.
const LONG: Duration = Duration::from_secs(20);
