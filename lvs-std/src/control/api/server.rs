//! The director's end: one connection is one question, a line each way.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};

use super::{ApiEvent, Request, Response};
use crate::ownership::{Access, BoundPath, OwnedSocket, Transport};

/// Answers what is asked at a JSON socket. Questions come from several threads at a time.
pub trait ApiHandler: Send + Sync {
    /// Answers a question.
    fn answer(&self, request: Request) -> Response;

    /// What happens from now on, for a client that asks for [`Request::Events`]. The listener is left when the sender
    /// is gone.
    fn events(&self) -> Receiver<ApiEvent>;
}

/// A JSON socket that is being served, until this is dropped.
#[derive(Debug)]
pub struct ApiServer {
    socket: OwnedSocket,
    /// The socket's file, which goes with it.
    path: Option<BoundPath>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Answers questions at a socket, each on a thread of its own, for those that `access` admits. A socket that a
    /// former director left behind is replaced.
    ///
    /// # Errors
    /// Those of [`OwnedSocket::listen`], and when no thread is left.
    pub fn start(socket: OwnedSocket, access: Access, handler: Arc<dyn ApiHandler>) -> io::Result<Self> {
        let (listener, path) = socket.listen(Transport::Stream, access, BACKLOG)?;
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(false)?;
        let ended = Arc::new(AtomicBool::new(false));
        let over = ended.clone();
        let thread = thread::Builder::new().name("json".to_owned());
        let thread = thread.spawn(move || accept(&listener, access, &handler, &over))?;
        Ok(Self { socket, path: Some(path), ended, thread: Some(thread) })
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // The thread waits for a client; this is the last one. Without it the thread would end with the process.
        let woken = UnixStream::connect(self.socket.path()).is_ok();
        drop(self.path.take());
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            drop(thread.join());
        }
    }
}

fn accept(listener: &UnixListener, access: Access, handler: &Arc<dyn ApiHandler>, ended: &AtomicBool) {
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming().flatten() {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let (handler, busy) = (handler.clone(), busy.clone());
        if busy.fetch_add(1, Ordering::Relaxed) >= CLIENTS {
            busy.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let answer = move || {
            // A client that hangs up, or stays silent, is its own problem.
            let _ = answer(&stream, access, &*handler);
            busy.fetch_sub(1, Ordering::Relaxed);
        };
        let _ = thread::Builder::new().name("question".to_owned()).spawn(answer);
    }
}

fn answer(stream: &UnixStream, access: Access, handler: &dyn ApiHandler) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Asked of the kernel as well, so that the file's mode is not all that keeps a stranger out.
    if !access.admits(stream.as_fd()) {
        let refused = Response::failed("this user may not command the director");
        let text = serde_json::to_string(&refused).map_err(io::Error::other)? + "\n";
        return (&mut &*stream).write_all(text.as_bytes());
    }
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let response = match serde_json::from_str::<Request>(&line) {
        Ok(Request::Events) => return tell(stream, handler),
        Ok(request) => handler.answer(request),
        Err(error) => Response::failed(format!("no question that this director knows: {error}")),
    };
    let text = serde_json::to_string(&response).map_err(io::Error::other)? + "\n";
    (&mut &*stream).write_all(text.as_bytes())
}

/// Tells a listener what happens, until it hangs up or does not keep up.
fn tell(mut stream: &UnixStream, handler: &dyn ApiHandler) -> io::Result<()> {
    let events = handler.events();
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

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How long a question or an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions at a time; further ones are turned away.
const CLIENTS: usize = 32;
/// The longest question, in bytes.
const LONGEST: u64 = 4 << 20;
