//! A real server that dies under load and comes back, by the director's own checks.

use core::error::Error;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use lvs_core::Family;
use lvs_std::health::{Event, Schedule, State};
use lvs_std::lab::{Cluster, Pulse};
use lvs_std::runtime::HealthReconciler;
use lvs_support::{Terminal, Tone};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::folder::Folder;
use crate::http;
use crate::stage::{self, Stage};

/// What happened.
pub(crate) struct Outage {
    title: String,
    /// The server that died.
    dead: &'static str,
    /// From its death, and from its return, until the director had taken note.
    noticed: Duration,
    returned: Duration,
    /// From its return to the end of the first request that it answered.
    used: Option<Duration>,
    answered: usize,
    /// Requests without answer, on the dead server and on others.
    broken: usize,
    broken_elsewhere: usize,
    /// Requests without answer that began after the director had taken note.
    broken_later: usize,
    /// What the first one of a wrong kind ended with.
    wrong: Option<String>,
}

/// A request of the load.
struct Request {
    port: u16,
    began: Instant,
    ended: Instant,
    result: Result<String, String>,
}

impl Outage {
    /// Kills a server of a running stage and brings it back. Once more, of which `told` hears, if that went wrong
    /// while the machine stood still: checks of servers that were well timed out then.
    pub(crate) fn on_a_steady_machine(
        title: &str,
        stage: &Stage,
        folder: &Folder,
        told: impl Fn(Duration),
    ) -> Result<Self, Box<dyn Error>> {
        let mut attempt = 0;
        loop {
            let pulse = Pulse::start()?;
            let outage = Self::new(title.to_owned(), stage, folder, attempt)?;
            attempt += 1;
            let gap = pulse.longest_gap();
            if outage.is_right() || gap < BEARABLE || attempt == ATTEMPTS {
                return Ok(outage);
            }
            told(gap);
        }
    }

    /// Each attempt on a stage has ports of its own.
    fn new(title: String, stage: &Stage, folder: &Folder, attempt: u16) -> Result<Self, Box<dyn Error>> {
        let dead = stage::WEIGHTS[1].0;
        let dead_address = SocketAddr::new(Cluster::server_address(2, Family::V4), 0).ip();
        let file = folder.files().first().ok_or("there is no file")?;
        let service = stage.checked(schedule(), &format!("/{}", file.name))?;
        let reached = service.servers.get(1).ok_or("there is no second server")?.address;
        let (tell, news) = channel();
        let told = move |event: &Event| {
            if let Event::Changed { probe, state, .. } = event {
                // Nobody listens any more at the end.
                let _ = tell.send((probe.target.ip(), *state, Instant::now()));
            }
        };
        let services = [service];
        let keeper = stage
            .director()
            .run(|| HealthReconciler::start(&services, stage.controller().clone(), told))??;
        for _ in 0..stage::WEIGHTS.len() {
            news.recv_timeout(PATIENCE)?;
        }
        let load = Load::beginning_at(FIRST_PORT + attempt * PORTS);
        let times = thread::scope(|scope| {
            let load = &load;
            for _ in 0..CLIENTS {
                scope.spawn(move || stage.client().run(|| load.run(&file.name)));
            }
            let times = Times::take(stage, load, dead, (dead_address, &news));
            load.stop.store(true, Ordering::Relaxed);
            times
        })?;
        drop(keeper);
        let connections = stage.connections()?;
        let servers: HashMap<u16, SocketAddr> = connections
            .iter()
            .map(|connection| (connection.flow.source_port, connection.destination))
            .collect();
        let requests = load.requests.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = || requests.iter().filter(|request| request.result.is_err());
        let on_dead =
            |request: &&Request| servers.get(&request.port).is_some_and(|at| at.ip() == reached.ip());
        let later = |request: &&Request| request.began > times.noticed;
        let answers = requests.iter().filter(|request| request.result.as_deref() == Ok(dead));
        let first = answers.filter(|request| request.began > times.back).map(|request| request.ended).min();
        let wrong = failed().find(|request| !on_dead(request) || later(request));
        Ok(Self {
            title,
            dead,
            noticed: times.noticed - times.died,
            returned: times.returned - times.back,
            used: first.map(|ended| ended - times.back),
            answered: requests.len() - failed().count(),
            broken: failed().filter(on_dead).count(),
            broken_elsewhere: failed().filter(|request| !on_dead(request)).count(),
            broken_later: failed().filter(later).count(),
            wrong: wrong.and_then(|request| request.result.clone().err()),
        })
    }

    /// Whether only the dead server's connections broke, none after its death was noticed, and it was used again.
    pub(crate) fn is_right(&self) -> bool {
        self.broken_elsewhere == 0 && self.broken_later == 0 && self.used.is_some()
    }

    /// The outage, in sentences.
    pub(crate) fn text(&self, terminal: Terminal) -> String {
        let mark = if self.is_right() { (Tone::Good, "ok") } else { (Tone::Bad, "WRONG") };
        let mut text =
            format!("{}  {}\n", terminal.paint(Tone::Title, &self.title), terminal.paint(mark.0, mark.1));
        let Self { dead, answered, broken, .. } = self;
        text.push_str(&format!(
            "  {dead} was cut off: the director noticed after {:.2} s.\n",
            self.noticed.as_secs_f64()
        ));
        text.push_str(&format!(
            "  {broken} connections broke, all on {dead} and before that; {answered} were served.\n"
        ));
        let used = self.used.map_or_else(
            || "never used again".to_owned(),
            |used| format!("first client served after {:.2} s", used.as_secs_f64()),
        );
        text.push_str(&format!(
            "  Back again: noticed after {:.2} s, {used}.\n",
            self.returned.as_secs_f64()
        ));
        if !self.is_right() {
            let why = self.wrong.as_deref().unwrap_or("it never came back");
            text = text.replace(&format!(", all on {dead} and before that"), "");
            text.push_str(&terminal.paint(
                Tone::Bad,
                format_args!(
                    "  {} broke on other servers, {} afterwards: {why}\n",
                    self.broken_elsewhere, self.broken_later
                ),
            ));
        }
        text
    }
}

/// When what happened.
struct Times {
    died: Instant,
    noticed: Instant,
    back: Instant,
    returned: Instant,
}

impl Times {
    /// Makes it happen.
    fn take(
        stage: &Stage,
        load: &Load,
        dead: &str,
        (address, news): (IpAddr, &Receiver<(IpAddr, State, Instant)>),
    ) -> Result<Self, Box<dyn Error>> {
        thread::sleep(PAUSE);
        stage.connect(dead, false)?;
        let died = Instant::now();
        let noticed = wait(news, address, State::Down)?;
        // Longer than a client waits, so that all that would break does.
        thread::sleep(CLIENT_PATIENCE + PAUSE);
        stage.connect(dead, true)?;
        let back = Instant::now();
        let returned = wait(news, address, State::Up)?;
        let end = Instant::now() + PATIENCE;
        while !load.has_answered(dead, back) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(PAUSE);
        Ok(Self { died, noticed, back, returned })
    }
}

/// When a server was found to be in a state.
fn wait(
    news: &Receiver<(IpAddr, State, Instant)>,
    address: IpAddr,
    state: State,
) -> Result<Instant, Box<dyn Error>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let (of, found, at) = news
            .recv_timeout(end.saturating_duration_since(Instant::now()))
            .map_err(|_| format!("{address} was never found {state}"))?;
        if (of, found) == (address, state) {
            return Ok(at);
        }
    }
}

/// Clients that ask without end.
struct Load {
    stop: AtomicBool,
    /// Every connection has a port of its own, by which the director's table tells its server.
    port: AtomicU16,
    requests: Mutex<Vec<Request>>,
}

impl Load {
    fn beginning_at(port: u16) -> Self {
        Self { stop: AtomicBool::new(false), port: AtomicU16::new(port), requests: Mutex::default() }
    }

    fn run(&self, name: &str) {
        while !self.stop.load(Ordering::Relaxed) {
            let port = self.port.fetch_add(1, Ordering::Relaxed);
            if port < FIRST_PORT {
                return;
            }
            let began = Instant::now();
            let to = stage::vip(Family::V4);
            let result = connect(port, to).and_then(|stream| http::ask(stream, to, name, CLIENT_PATIENCE));
            let result = match result {
                Ok(response) if response.status == 200 => Ok(response.server),
                Ok(response) => Err(format!("status {} of {}", response.status, response.server)),
                Err(error) => Err(error.to_string()),
            };
            let request = Request { port, began, ended: Instant::now(), result };
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            thread::sleep(BETWEEN);
        }
    }

    /// Whether a server has answered a request that began after a time.
    fn has_answered(&self, server: &str, after: Instant) -> bool {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = requests.iter().rev().take_while(|request| request.ended > after);
        recent.into_iter().any(|request| request.began > after && request.result.as_deref() == Ok(server))
    }
}

/// Connects from this port of the client.
fn connect(port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    let from = SocketAddr::new(Cluster::client_address(Family::V4), port);
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &from)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(CLIENT_PATIENCE))?;
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// An outage is tried at most so often.
const ATTEMPTS: u16 = 3;
/// A machine that stands still for longer may let checks time out.
const BEARABLE: Duration = Duration::from_millis(150);

/// Twice in a row. An answer may take long: the processor is shared with all clients and servers.
fn schedule() -> Schedule {
    let every = Schedule::every(Duration::from_millis(100));
    every.with_counts(2, 2).with_timeout(Duration::from_millis(300))
}

/// More than get stuck on the dead server before that is noticed, so that the others go on.
const CLIENTS: usize = 64;
/// What a client does between two requests.
const BETWEEN: Duration = Duration::from_millis(50);
/// How long a client waits for a connection, or for each part of an answer.
const CLIENT_PATIENCE: Duration = Duration::from_millis(1_500);
const PAUSE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PORT: u16 = 10_000;
/// More than an outage's clients use.
const PORTS: u16 = 10_000;
