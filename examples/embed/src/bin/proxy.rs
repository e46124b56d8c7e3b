//! A TCP proxy by tokio that asks a `Picker` which server each client gets: `proxy LISTEN SERVER ..`.
//!
//! The servers may be of either family. Their health is what connections to them show: how long connecting takes
//! decides between two servers, and three failures in a row hold one back for a minute, for two the next time.

use core::error::Error;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lvs_core::pick::{Client, FailurePolicy, NotPicked, Outcome, Pick, Picker};
use lvs_core::{Config, Heap, Method, Scheduler, ServerConfig, ServiceConfig, ServiceKey, Tick};
use lvs_std::random_seed;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};

/// How long a connection to a server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The picker of all connections, and the moment that its time counts from.
struct Shared {
    picker: Mutex<Picker<Heap>>,
    started: Instant,
    service: ServiceKey,
}

impl Shared {
    fn now(&self) -> Tick {
        Tick::from(self.started.elapsed())
    }

    /// Held for some hundred nanoseconds, and never across an `await`.
    fn picker(&self) -> MutexGuard<'_, Picker<Heap>> {
        self.picker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pick(self: &Arc<Self>, client: SocketAddr) -> Result<Picked, NotPicked> {
        let pick = self.picker().pick(self.now(), &self.service, Client::Endpoint(client))?;
        let (server, address) = (pick.server(), pick.address());
        Ok(Picked { shared: Arc::clone(self), pick: Some(pick), server, address })
    }
}

/// A pick that is released when it is dropped, also by a task that is cancelled.
struct Picked {
    shared: Arc<Shared>,
    pick: Option<Pick>,
    server: lvs_core::ServerId,
    address: SocketAddr,
}

impl Picked {
    fn observe(&self, outcome: Outcome) {
        // A server that was removed meanwhile needs no marks any more.
        let _ = self.shared.picker().observe(self.shared.now(), self.server, outcome);
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if let Some(pick) = self.pick.take() {
            let now = self.shared.now();
            self.shared.picker().release(now, pick);
        }
    }
}

/// Connects a client to a server, and then to another one where that fails.
async fn serve(shared: Arc<Shared>, mut client: TcpStream, from: SocketAddr) {
    for _attempt in 0..4 {
        let picked = match shared.pick(from) {
            Ok(picked) => picked,
            Err(why) => {
                println!("{from}: {why}");
                return;
            }
        };
        let begun = Instant::now();
        match timeout(PATIENCE, TcpStream::connect(picked.address)).await {
            Ok(Ok(mut server)) => {
                let micros = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
                picked.observe(Outcome::Latency { micros });
                println!("{from} is served by {}", picked.address);
                // An end that breaks off is no fault of the choice.
                let _ = copy_bidirectional(&mut client, &mut server).await;
                return;
            }
            Ok(Err(_)) | Err(_) => {
                picked.observe(Outcome::Failure);
                println!("{} does not answer", picked.address);
            }
        }
    }
}

async fn run(listen: SocketAddr, servers: Vec<SocketAddr>) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(listen).await?;
    let at = listener.local_addr()?;
    let mut picker = Picker::new(Config::new(random_seed()?), Heap::with_capacity(1_024));
    picker.set_failure_policy(Some(FailurePolicy::new(3, 60)));
    let service = ServiceKey::tcp(at.ip(), at.port());
    picker.add_service(service, ServiceConfig::new("p2c".parse::<Scheduler>()?))?;
    for server in servers {
        picker.add_server(service, ServerConfig::new(server, Method::Direct))?;
    }
    let shared = Arc::new(Shared { picker: Mutex::new(picker), started: Instant::now(), service });
    println!("listening at {at}");
    let sweeper = Arc::clone(&shared);
    tokio::spawn(async move {
        let mut often = interval(Duration::from_millis(10));
        loop {
            often.tick().await;
            let now = sweeper.now();
            sweeper.picker().sweep_briefly(now, 64);
        }
    });
    loop {
        let (client, from) = listener.accept().await?;
        tokio::spawn(serve(Arc::clone(&shared), client, from));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or("usage: proxy LISTEN SERVER ..")?.parse()?;
    let servers = arguments.map(|server| server.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(listen, servers))
}
