//! What both control sockets have in common: a thread that holds the conversations of all clients.
//!
//! ```text
//! Door --client--> places (who gives way) --> Client: socket, answers that wait, Talk
//!                                                |  turns: one step for each process at a time
//!                                                v
//!                                             Talk::hear, Talk::next
//! ```
//!
//! Nothing that a client does, or does not do, holds up another client for longer than one step, or a packet at all.
//! Sockets never block. An answer that its client does not fetch waits in a queue of the client's own; nothing more is
//! said to it or read from it meanwhile, and after a while it is cut off. A step is one command, or a page of a
//! listing. Each process has one step in a turn, however many clients it has, and so many in a second. Nothing here is
//! counted up that would have to be counted down: what there is are the clients themselves.

mod door;
mod places;
mod rates;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

use crate::sys::option::peer_process;
use door::{Door, Knock};
use places::{Place, Seat, crowd, seat};
use rates::Buckets;

pub(in crate::control) use places::Peer;
pub(in crate::control) use rates::Rates;

/// A conversation with a client: bytes in, bytes out.
pub(in crate::control) trait Talk: Send {
    /// Takes in what the client said. Called only after [`Then::Listen`].
    fn hear(&mut self, bytes: &[u8]);

    /// The next of what is to be said, until there is nothing more.
    fn next(&mut self) -> Said;
}

/// What is said to a client, each piece by one write.
#[derive(Debug)]
pub(in crate::control) struct Said {
    pub(in crate::control) pieces: Vec<Vec<u8>>,
    pub(in crate::control) then: Then,
}

/// What comes after the pieces are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Then {
    /// The client speaks.
    Listen,
    /// There is more to be said.
    Talk,
    /// An answer is being worked out elsewhere, and its process has no other step meanwhile. [`Waker::wake`] says when
    /// to ask again.
    Wait,
    /// There may be more whenever somebody wakes, and each second. What the client says is discarded.
    #[cfg_attr(not(feature = "runtime"), expect(dead_code, reason = "said at the JSON socket alone"))]
    Told,
    /// Nothing: the conversation is over.
    End,
}

/// How a socket is served.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Options {
    /// Clients at a time.
    pub(in crate::control) places: usize,
    /// How long what is said waits for its client to fetch some of it.
    pub(in crate::control) patience: Duration,
    /// How long a client that is to speak may be silent; `None` for as long as it likes.
    pub(in crate::control) silence: Option<Duration>,
    /// How many steps they may have.
    pub(in crate::control) rates: Rates,
}

/// Wakes the thread.
#[derive(Clone, Debug)]
pub(in crate::control) struct Waker(Arc<(UnixStream, AtomicBool)>);

impl Waker {
    /// Has all conversations looked after that wait.
    pub(in crate::control) fn wake(&self) {
        // When it is full there are enough wakes in it already.
        let _ = (&self.0.0).write(&[0]);
    }
}

/// A socket that is being served, until this is dropped.
#[derive(Debug)]
pub(in crate::control) struct Front {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// A pair of ends for [`serve`](Self::serve): who is to be answered later needs the first one.
    pub(in crate::control) fn waker() -> io::Result<(Waker, UnixStream)> {
        let (waker, wakes) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        wakes.set_nonblocking(true)?;
        Ok((Waker(Arc::new((waker, AtomicBool::new(false)))), wakes))
    }

    /// Serves a listening socket on a thread of this name. `admits` says whether a client may command the director;
    /// `meet` begins a conversation with one.
    pub(in crate::control) fn serve<T: Talk + 'static>(
        name: &str,
        listener: OwnedFd,
        (waker, wakes): (Waker, UnixStream),
        options: Options,
        admits: impl Fn(BorrowedFd<'_>) -> bool + Send + 'static,
        meet: impl Fn(Peer) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let door = Door::new(listener)?;
        let mut hall = Hall {
            door,
            wakes,
            waker: waker.clone(),
            options,
            admits,
            meet,
            clients: Vec::new(),
            buckets: Buckets::new(options.rates),
            turn: 0,
            ticked: Instant::now(),
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || hall.run())?;
        Ok(Self { waker, thread: Some(thread) })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.waker.0.1.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of it has been reported already.
            drop(thread.join());
        }
    }
}

struct Hall<T, A, M> {
    door: Door,
    wakes: UnixStream,
    waker: Waker,
    options: Options,
    admits: A,
    meet: M,
    clients: Vec<Client<T>>,
    buckets: Buckets,
    /// Counts turns.
    turn: u64,
    /// When those that are told things were last asked.
    ticked: Instant,
}

impl<T: Talk, A: Fn(BorrowedFd<'_>) -> bool, M: Fn(Peer) -> T> Hall<T, A, M> {
    fn run(&mut self) {
        let mut buffer = vec![0; LONGEST];
        loop {
            let (woken, knocked, ready) = self.wait();
            if self.waker.0.1.load(Ordering::Acquire) {
                return;
            }
            if woken {
                // Each wake stands for all: what it was for is found by asking.
                while (&self.wakes).read(&mut buffer).is_ok_and(|count| count > 0) {}
            }
            self.ask_again(woken);
            self.take_turns(&ready, &mut buffer);
            self.dismiss();
            if knocked {
                self.admit();
            }
        }
    }

    /// Waits until something can be done: whether somebody woke, whether somebody knocks, and which clients are ready.
    fn wait(&mut self) -> (bool, bool, Vec<usize>) {
        let now = Instant::now();
        let shut = self.door.is_shut(now);
        let mut fds = vec![PollFd::from_borrowed_fd(self.wakes.as_fd(), PollFlags::IN)];
        if shut.is_none() {
            fds.push(PollFd::from_borrowed_fd(self.door.listener().as_fd(), PollFlags::IN));
        }
        let doors = fds.len();
        let (mut polled, mut pauses) = (Vec::new(), Vec::new());
        for (index, client) in self.clients.iter().enumerate() {
            // A process whose question is being worked out has no other step meanwhile. Its sockets are not polled:
            // they might be ready, and would keep the thread busy with nothing.
            if self.clients.iter().any(|other| other.is_waiting() && other.peer.is_same(&client.peer)) {
                continue;
            }
            // Nor does anybody listen to a client that has to wait for its next step.
            if client.out.is_empty()
                && let Some(pause) = self.buckets.pause(&client.peer, now)
            {
                pauses.push(pause);
                continue;
            }
            let flags = if client.wants_to_say() { PollFlags::OUT } else { PollFlags::IN };
            fds.push(PollFd::from_borrowed_fd(client.socket.as_fd(), flags));
            polled.push(index);
        }
        // No event tells that a client's time is over, so the clock is looked at while anybody's runs.
        let runs = self.clients.iter().any(|client| client.is_timed(&self.options));
        let second = (runs || shut.is_some()).then_some(SECOND);
        let limit = pauses.into_iter().chain(shut).chain(second).min();
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // Interrupted is as good as nothing to do.
        let _ = poll(&mut fds, limit.as_ref());
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let woken = ready.next().unwrap_or_default();
        let knocked = doors > 1 && ready.next().unwrap_or_default();
        (woken, knocked, polled.into_iter().zip(ready).filter_map(|(of, is)| is.then_some(of)).collect())
    }

    /// Asks those that wait for something whether it has come.
    fn ask_again(&mut self, woken: bool) {
        let ticks = self.ticked.elapsed() >= SECOND;
        if !woken && !ticks {
            return;
        }
        self.ticked = Instant::now();
        for client in &mut self.clients {
            let waits = client.out.is_empty() && matches!(client.then, Then::Wait | Then::Told);
            if waits {
                client.say();
            }
        }
    }

    /// A step for one client of each process, those first that have waited for the longest time.
    fn take_turns(&mut self, ready: &[usize], buffer: &mut [u8]) {
        self.turn += 1;
        let mut order = ready.to_vec();
        order.sort_by_key(|&index| self.clients.get(index).map(|client| client.turn));
        let mut served: Vec<Peer> = Vec::new();
        for index in order {
            let Some(client) = self.clients.get_mut(index) else { continue };
            if served.iter().any(|peer| peer.is_same(&client.peer)) {
                continue;
            }
            // To send what is said already is no step: the other clients of the process need not wait for it.
            if client.out.is_empty() {
                // Other clients of the user may have had the last token in this turn.
                let now = Instant::now();
                if self.buckets.pause(&client.peer, now).is_some() {
                    continue;
                }
                self.buckets.take(&client.peer, now);
                served.push(client.peer);
                client.turn = self.turn;
            }
            client.step(buffer);
        }
    }

    /// Leaves those that are gone, or have had their time.
    fn dismiss(&mut self) {
        let options = self.options;
        for gone in self.clients.extract_if(.., |client| client.gone || client.is_late(&options)) {
            self.door.close(gone.socket);
        }
    }

    fn admit(&mut self) {
        for _ in 0..KNOCKS {
            match self.door.open() {
                Knock::Client(socket, last) => self.meet(socket, last),
                Knock::Nobody => return,
                Knock::NoDescriptor => match crowd(&self.places()) {
                    Some(index) => self.door.close(self.clients.swap_remove(index).socket),
                    None => return self.door.shut(Instant::now()),
                },
                Knock::Trouble => return self.door.shut(Instant::now()),
            }
        }
    }

    fn meet(&mut self, socket: OwnedFd, last: bool) {
        // Asked once: the kernel notes the user when the client connects, and whoever inherits the descriptor has its
        // rights.
        let privileged = (self.admits)(socket.as_fd());
        let Ok((user, process)) = peer_process(socket.as_fd()) else { return self.door.close(socket) };
        let peer = Peer { user, process, privileged };
        // Without a descriptor for more, there are as many places as clients.
        let places = if last { self.clients.len().max(1) } else { self.options.places };
        match seat(&self.places(), &peer, places) {
            Seat::Free => {}
            Seat::InsteadOf(index) => self.door.close(self.clients.swap_remove(index).socket),
            // Closed at once. Left in the backlog, it would wait without a word.
            Seat::None => return self.door.close(socket),
        }
        let talk = (self.meet)(peer);
        let (out, sent, then) = (VecDeque::new(), 0, Then::Listen);
        let (active, turn, gone) = (Instant::now(), self.turn, false);
        self.clients.push(Client { socket, peer, talk, out, sent, then, active, turn, gone });
    }

    fn places(&self) -> Vec<Place> {
        self.clients.iter().map(|client| Place { peer: client.peer, active: client.active }).collect()
    }
}

struct Client<T> {
    socket: OwnedFd,
    peer: Peer,
    talk: T,
    /// What it has not fetched yet.
    out: VecDeque<Vec<u8>>,
    /// How much of the first piece it has fetched.
    sent: usize,
    /// What comes after that.
    then: Then,
    /// When it said or fetched something last.
    active: Instant,
    /// When it had its last step.
    turn: u64,
    gone: bool,
}

impl<T: Talk> Client<T> {
    fn is_waiting(&self) -> bool {
        self.out.is_empty() && self.then == Then::Wait
    }

    fn wants_to_say(&self) -> bool {
        !self.out.is_empty() || self.then == Then::Talk
    }

    /// Whether something is to happen to it when a time is over.
    fn is_timed(&self, options: &Options) -> bool {
        match self.then {
            _ if !self.out.is_empty() => true,
            Then::Listen => options.silence.is_some(),
            Then::Told => true,
            Then::Talk | Then::Wait | Then::End => false,
        }
    }

    fn is_late(&self, options: &Options) -> bool {
        let silent = self.active.elapsed();
        if self.out.is_empty() {
            self.then == Then::Listen && options.silence.is_some_and(|most| silent > most)
        } else {
            silent > options.patience
        }
    }

    /// Does what can be done without waiting.
    fn step(&mut self, buffer: &mut [u8]) {
        if self.out.is_empty() {
            match self.then {
                Then::Talk => {}
                Then::Listen | Then::Told => {
                    let heard = rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty());
                    match heard {
                        // An empty datagram looks like the end, and is nothing that a client sends.
                        Ok((0, _)) => self.gone = true,
                        Ok((count, _)) => {
                            self.active = Instant::now();
                            if self.then == Then::Listen {
                                self.talk.hear(buffer.get(..count).unwrap_or_default());
                            }
                        }
                        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                        Err(_) => self.gone = true,
                    }
                }
                Then::Wait | Then::End => return,
            }
            if self.gone {
                return;
            }
            self.say();
        } else {
            self.send();
        }
    }

    /// Says what is next, as far as the client fetches it.
    fn say(&mut self) {
        let Said { pieces, then } = self.talk.next();
        self.out.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        self.then = then;
        self.send();
    }

    fn send(&mut self) {
        while let Some(next) = self.out.front() {
            let rest = next.get(self.sent..).unwrap_or_default();
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.active = Instant::now();
                    self.sent += count;
                    if self.sent >= next.len() {
                        self.out.pop_front();
                        self.sent = 0;
                    }
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                // Also who left without fetching everything.
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
        self.gone |= self.then == Then::End;
    }
}

/// The longest datagram that is read whole.
const LONGEST: usize = 1 << 16;
/// Newcomers that are let in before clients have their turns again.
const KNOCKS: usize = 64;
const SECOND: Duration = Duration::from_secs(1);
