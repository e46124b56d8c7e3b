//! The director's end.

use core::time::Duration;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use lvs_core::{Event, Scheduler, SchedulerOf, Store};
use lvs_std::worker::{Handle, WorkerGone};

use super::sync::Sync;
use super::{LONGEST, Request, Response};
use crate::ipvsadm::{self, Command, Numeric, control, list};
use crate::replay::sysctl;

/// Answers questions at a socket, in a thread of its own, as long as the worker lives. A socket that a former director left is
/// taken over. `interfaces` are the director's ports, in order; `events` gives the director's events.
pub(crate) fn serve<S, const A: usize, const N: usize>(
    place: &Path,
    handle: Handle<S, A, N>,
    interfaces: Vec<String>,
    events: impl FnMut() -> Option<Event> + Send + 'static,
) -> io::Result<()>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
{
    if UnixStream::connect(place).is_err() {
        let _ = fs::remove_file(place);
    }
    let listener = UnixListener::bind(place)?;
    let sync = Sync::start(interfaces, handle.clone(), events)?;
    thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            // One that hangs up, or stays silent, is its own problem.
            let done = stream.map_err(drop).and_then(|stream| answer(&stream, &handle, &sync).map_err(drop));
            if let Ok(Err(WorkerGone)) = done {
                return;
            }
        }
    })?;
    Ok(())
}

fn answer<S, const A: usize, const N: usize>(
    stream: &UnixStream,
    handle: &Handle<S, A, N>,
    sync: &Sync,
) -> io::Result<Result<(), WorkerGone>>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
{
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let response = match serde_json::from_str::<Request>(&line) {
        Ok(request) => match carry_out(request, handle, sync) {
            Ok(response) => response,
            Err(gone) => return Ok(Err(gone)),
        },
        Err(error) => failed(2, &error),
    };
    let text = serde_json::to_string(&response).map_err(io::Error::other)? + "\n";
    (&mut &*stream).write_all(text.as_bytes())?;
    Ok(Ok(()))
}

fn carry_out<S, const A: usize, const N: usize>(
    request: Request,
    handle: &Handle<S, A, N>,
    sync: &Sync,
) -> Result<Response, WorkerGone>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
{
    match request {
        Request::Sysctl(key, value) => handle.with(move |director, forwarder, _| {
            let (mut config, mut options) = (director.config().clone(), *forwarder.options());
            match sysctl::set(&mut config.tuning, &mut options, &key, &value) {
                Ok(()) => {
                    director.set_config(config);
                    forwarder.set_options(options);
                    Response::default()
                }
                Err(error) => failed(255, &error),
            }
        }),
        Request::Ipvsadm(words) => match ipvsadm::parse(words.iter().map(String::as_str), &Numeric) {
            Err(error) => Ok(failed(error.status(), &error)),
            Ok(Command::List(listing)) => {
                handle.with(move |director, _, now| match list::text(director, now, &listing) {
                    Ok(out) => Response { out, ..Response::default() },
                    Err(error) => failed(list::status(error), &error),
                })
            }
            Ok(command) => match sync.carry_out(&command, handle)? {
                Some(Ok(())) => Ok(Response::default()),
                Some(Err(error)) => Ok(failed(error.status(), &error)),
                None => handle.with(move |director, forwarder, now| {
                    let done = control::carry_out(director, &command);
                    if let Command::AddServer(_, server) = &command {
                        forwarder.host_mut().look_for(now, server.address.ip());
                    }
                    match done {
                        Ok(()) => Response::default(),
                        Err(error) => failed(error.status(), &error),
                    }
                }),
            },
        },
    }
}

fn failed(status: u8, error: &dyn core::fmt::Display) -> Response {
    Response { status, error: format!("{error}\n"), ..Response::default() }
}

/// How long a question or an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
