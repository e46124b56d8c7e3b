//! The director's end: one connection is one question, a line each way.

use core::time::Duration;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::conversation::Conversation;
use super::handler::ApiHandler;
use super::questions::Questions;
use crate::control::front::{Front, Options, Rates};
use crate::ownership::{Access, BoundPath, OwnedSocket, Transport};

/// A JSON socket that is being served, until this is dropped.
#[derive(Debug)]
pub struct ApiServer {
    /// The socket's file, which goes with it.
    path: Option<BoundPath>,
    front: Option<Front>,
}

impl ApiServer {
    /// Answers questions at a socket, for those that `access` admits. A socket that a former director left behind is
    /// replaced.
    ///
    /// `rate` is how many steps a second each process may have: questions, and pages of listings; `None` for as many as
    /// it likes. Those of 16 seconds it may have at once. Then it is not listened to until it may have the next one.
    ///
    /// All threads that it needs are made here, so that questions are answered also when no further ones can be made.
    ///
    /// # Errors
    /// The errors of [`OwnedSocket::listen`], and when no thread or descriptor is left.
    pub fn start(
        socket: OwnedSocket,
        access: Access,
        rate: Option<u32>,
        handler: Arc<dyn ApiHandler>,
    ) -> io::Result<Self> {
        let (listener, path) = socket.listen(Transport::Stream, access, BACKLOG)?;
        let admits = move |socket: BorrowedFd<'_>| access.admits(socket);
        let (waker, wakes) = Front::waker()?;
        let questions = Questions::start(handler, waker.clone(), CLIENTS)?;
        let meet = move |peer| Conversation::new(peer, questions.clone());
        let rates = Rates::new(rate);
        let options = Options { places: CLIENTS, patience: PATIENCE, silence: Some(PATIENCE), rates };
        let front = Front::serve("json", listener, (waker, wakes), options, admits, meet)?;
        Ok(Self { path: Some(path), front: Some(front) })
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // The path first: from now on nobody is to come.
        drop(self.path.take());
        drop(self.front.take());
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How long a client may be silent before it has asked, and how long an answer waits for it to fetch some of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients at a time; when one more comes, one gives way.
const CLIENTS: usize = 64;
