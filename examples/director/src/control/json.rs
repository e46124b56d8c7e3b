//! The JSON socket: one connection is one question, a line each way.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;

use super::requests::{ApiServer, Request, Response};

/// A socket that is being served; its file goes when this is dropped. Its thread ends with the program.
pub(crate) struct Serving(PathBuf);

impl Drop for Serving {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = fs::remove_file(&self.0);
    }
}

/// Answers questions at a socket, each in a thread of its own. A socket that a former director left is taken over.
pub(super) fn serve(place: &Path, api: ApiServer) -> io::Result<Serving> {
    if UnixStream::connect(place).is_err() {
        let _ = fs::remove_file(place);
    }
    let listener = UnixListener::bind(place)?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o600))?;
    let busy = Arc::new(AtomicUsize::new(0));
    thread::Builder::new().name("json".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let (api, busy) = (api.clone(), busy.clone());
            if busy.fetch_add(1, Ordering::Relaxed) >= CLIENTS {
                busy.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let answer = move || {
                // One that hangs up, or stays silent, is its own problem.
                let _ = answer(&stream, &api);
                busy.fetch_sub(1, Ordering::Relaxed);
            };
            let _ = thread::Builder::new().name("question".to_owned()).spawn(answer);
        }
    })?;
    Ok(Serving(place.to_owned()))
}

fn answer(stream: &UnixStream, api: &ApiServer) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let response = match serde_json::from_str::<Request>(&line) {
        Ok(Request::Events) => return tell(stream, api),
        Ok(request) => api.answer(request),
        Err(error) => Response::failed(format!("no question that this director knows: {error}")),
    };
    let text = serde_json::to_string(&response).map_err(io::Error::other)? + "\n";
    (&mut &*stream).write_all(text.as_bytes())
}

/// Tells a listener what happens, until it hangs up or does not keep up.
fn tell(mut stream: &UnixStream, api: &ApiServer) -> io::Result<()> {
    let events = api.listen();
    // So that whoever waits for this line knows that nothing is missed from now on.
    stream.write_all(b"{}\n")?;
    loop {
        match events.recv_timeout(PATIENCE) {
            Ok(happening) => {
                let text = serde_json::to_string(&happening).map_err(io::Error::other)? + "\n";
                stream.write_all(text.as_bytes())?;
            }
            // An empty line is for noticing that nobody listens any more.
            Err(RecvTimeoutError::Timeout) => stream.write_all(b"\n")?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Asks a director at its JSON socket.
pub(crate) fn ask(place: &Path, request: &Request) -> io::Result<Response> {
    let mut stream = UnixStream::connect(place)?;
    let text = serde_json::to_string(request)? + "\n";
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Hears what happens at a director, until it ends.
pub(crate) fn listen(place: &Path, mut take: impl FnMut(&str)) -> io::Result<()> {
    let mut stream = UnixStream::connect(place)?;
    stream.write_all((serde_json::to_string(&Request::Events)? + "\n").as_bytes())?;
    // The first line says that it begins.
    for line in BufReader::new(stream).lines().skip(1) {
        let line = line?;
        if !line.is_empty() {
            take(&line);
        }
    }
    Ok(())
}

/// How long a question or an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions at a time; further ones are turned away.
const CLIENTS: usize = 32;
/// The longest question, in bytes.
const LONGEST: u64 = 4 << 20;
