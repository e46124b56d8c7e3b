//! Two clients that command the director, one at each of its sockets.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use lvs_std::control::api::{Question, Request, Response};
use lvs_std::control::{Answer, Client, ClientError, Command, Errno, Query};
use lvs_std::lab::harness::Outcome;

use crate::chance::Chance;
use crate::director::Place;
use crate::model::{ByJson, ByNetlink, DRAINED_NAME, DRAINED_PORT, Filed, SWITCH, Told, VIP, drawn, server};
use crate::trouble::Trouble;

/// How many commands were answered, by each client.
#[derive(Debug, Default)]
pub(crate) struct Progress([AtomicUsize; 2]);

impl Progress {
    fn count(&self, client: usize) {
        self.0[client].fetch_add(1, Ordering::AcqRel);
    }

    /// Waits until both clients have done some more, or one of them has failed.
    pub(crate) fn wait_for(&self, more: usize) {
        let before = [0, 1].map(|client| self.0[client].load(Ordering::Acquire));
        let end = Instant::now() + LONG;
        let is_done = |client: usize| self.0[client].load(Ordering::Acquire) >= before[client] + more;
        while Instant::now() < end && !(is_done(0) && is_done(1)) {
            thread::sleep(PAUSE);
        }
    }
}

/// A client's work during one trouble.
pub(crate) struct Commands<'a> {
    at: &'a Place,
    trouble: Trouble,
    chance: Chance,
    stop: &'a AtomicBool,
    progress: &'a Progress,
}

impl<'a> Commands<'a> {
    pub(crate) const fn new(
        at: &'a Place,
        trouble: Trouble,
        chance: Chance,
        stop: &'a AtomicBool,
        progress: &'a Progress,
    ) -> Self {
        Self { at, trouble, chance, stop, progress }
    }

    /// Whether to go on: a number of commands at least, and until the trouble is over.
    fn goes_on(&self, done: usize) -> bool {
        thread::sleep(PAUSE);
        done < LEAST || !self.stop.load(Ordering::Acquire)
    }

    /// Adds, changes and removes services and servers, and asks for them.
    pub(crate) fn by_netlink(mut self, model: &mut ByNetlink) -> Outcome {
        let mut client = None;
        let mut done = 0;
        while self.goes_on(done) {
            done += 1;
            // Nobody may be there at the moment: nothing has been said then.
            let Ok(connected) = client.take().map_or_else(|| Client::connect(&self.at.socket), Ok) else {
                continue;
            };
            let mut connected: Client = connected;
            let at = self.chance.below(model.services.len());
            let (name, unit) = &mut model.services[at];
            let command = drawn(*name, &mut self.chance);
            let began = Instant::now();
            let told = match connected.call(&Command::Table(command.clone())) {
                Ok(_) => Told::Done,
                Err(ClientError::Refused(Errno::Exists | Errno::NoEntry | Errno::NoService)) => Told::Refused,
                Err(ClientError::Refused(errno)) if self.trouble.hinders(errno) => Told::Hindered,
                Err(ClientError::Io(error)) if self.trouble.breaks(&error) => Told::Unknown,
                Err(error) => {
                    return Err(format!("{command:?} after {:?}: {error}", began.elapsed()).into());
                }
            };
            if told != Told::Unknown {
                self.progress.count(0);
                client = Some(connected);
            }
            unit.told(told, |state| crate::model::Declared::after(state, &command))
                .map_err(|error| format!("{command:?}: {error}"))?;
        }
        Ok(())
    }

    /// Drains, turns a switch, writes the file and has it read, and asks whatever can be asked.
    pub(crate) fn by_json(mut self, model: &mut ByJson) -> Outcome {
        let mut done = 0;
        while self.goes_on(done) {
            done += 1;
            match self.chance.below(8) {
                0 => self.reload(model)?,
                1 | 2 => {
                    let (number, drained) = (self.chance.below(3), self.chance.below(2) == 0);
                    let (service, server) = (DRAINED_NAME.to_string(), server(number));
                    let request = match drained {
                        true => Request::Drain { service, server, deadline: None },
                        false => Request::Undrain { service, server },
                    };
                    if let Some(told) = self.tell(&request)? {
                        model.drains[number].told(told, |_| Some(drained))?;
                    }
                }
                3 => {
                    let value = 1 + self.chance.below(100_000) as u32;
                    let request = Request::Sysctl(SWITCH.to_owned(), value.to_string());
                    if let Some(told) = self.tell(&request)? {
                        model.switch.told(told, |_| Some(value))?;
                    }
                }
                question => drop(self.tell(&self.question(question))?),
            }
        }
        Ok(())
    }

    fn question(&self, number: usize) -> Request {
        match number {
            4 => Request::Services,
            5 => Request::Connections { server: Some(server(0)), limit: Some(10), after: None },
            6 => Request::Explain(Question::Packet {
                protocol: "udp".to_owned(),
                client: "192.0.2.7:9".parse().unwrap(),
                destination: (VIP, DRAINED_PORT).into(),
                mark: 0,
            }),
            _ => Request::Statistics,
        }
    }

    fn reload(&mut self, model: &mut ByJson) -> Outcome {
        let (old, new) = (model.file.clone(), Filed::drawn(&mut self.chance));
        self.at.write(&model.text(&new))?;
        let told = match self.tell(&Request::Reload)? {
            // Nobody was there, or not any more. Whoever comes reads the file as it starts, this one or the one before.
            None | Some(Told::Hindered) if self.trouble.ends_the_director() => Told::Unknown,
            told => told.unwrap_or(Told::Unknown),
        };
        model.filed.told(told, |_| Some(new.clone()))?;
        if told == Told::Hindered {
            // What is not applied must not be there for the next start either.
            self.at.write(&model.text(&old))?;
        } else {
            model.file = new;
        }
        Ok(())
    }

    /// Asks, and says what became of it; `None` when nobody was there.
    fn tell(&self, request: &Request) -> Outcome<Option<Told>> {
        let Ok(stream) = UnixStream::connect(&self.at.json) else {
            return if self.trouble.ends_the_director() { Ok(None) } else { Err("nobody answers".into()) };
        };
        let began = Instant::now();
        let told = match answer(stream, request) {
            Ok(Response { error: None, .. }) => Told::Done,
            Ok(Response { error: Some(why), .. }) => {
                if !(self.trouble.takes_away() || self.trouble.ends_the_director()) {
                    return Err(format!("{request:?}: {why}").into());
                }
                Told::Hindered
            }
            Err(error) if self.trouble.breaks(&error) => Told::Unknown,
            Err(error) => return Err(format!("{request:?} after {:?}: {error}", began.elapsed()).into()),
        };
        if told != Told::Unknown {
            self.progress.count(1);
        }
        Ok(Some(told))
    }
}

/// Asks at the JSON socket.
pub(crate) fn ask(at: &Place, request: &Request) -> Outcome<serde_json::Value> {
    let response = answer(UnixStream::connect(&at.json)?, request)?;
    match response.error {
        Some(why) => Err(format!("{request:?}: {why}").into()),
        None => Ok(response.result),
    }
}

fn answer(mut stream: UnixStream, request: &Request) -> io::Result<Response> {
    stream.set_read_timeout(Some(LONG))?;
    stream.write_all((serde_json::to_string(request)? + "\n").as_bytes())?;
    let mut line = String::new();
    if BufReader::new(stream).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // A director that dies may have written a part.
    serde_json::from_str(&line).map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// What a switch is set to.
pub(crate) fn switch(client: &mut Client) -> Outcome<u32> {
    let answer = client.call(&Command::Query(Query::Sysctl(SWITCH.to_owned())))?;
    let Answer::Sysctl(text) = answer else { return Err(format!("{answer:?}").into()) };
    Ok(text.parse()?)
}

/// Between two commands: for others to have their turn.
const PAUSE: Duration = Duration::from_millis(1);
/// Commands of each client at each trouble.
const LEAST: usize = 20;
/// More than anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);
