//! The control socket, at which the kernel's netlink family is spoken.

use core::task::Poll;
use core::time::Duration;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};

use super::commits::Commits;
use super::front::{self, Front, Peer, Rates, Said, Talk, Then};
use super::{Answer, Command, CommandHandler, Errno, ServiceName, Session};
use crate::ownership::{Access, BoundPath, OwnedSocket, Transport};

/// How a control socket is served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Where the socket is.
    pub socket: OwnedSocket,
    /// Who may connect, and command the director. By default the superuser and the user that the director runs as.
    /// Whoever else may connect may ask for the family's number.
    pub access: Access,
    /// Clients at a time. Default 64. When one more comes, one gives way: of the process that has the most, the one
    /// that has been silent for the longest time. Clients that may not command the director have a quarter of them.
    pub clients: usize,
    /// How long an answer waits for its client to fetch some of it. Default 10 s.
    pub patience: Duration,
    /// Steps a second for each process that may command the director: commands, and pages of listings; `None` for as
    /// many as it likes. Default [`RATE`](Self::RATE). Those of 16 seconds it may have at once. Then it is not listened
    /// to until it may have the next one.
    pub rate: Option<u32>,
}

impl ServeOptions {
    /// Steps a second by default. A table of 100,000 lines is restored at once.
    pub const RATE: u32 = 10_000;

    /// The defaults, at this path.
    #[must_use]
    pub fn at(socket: OwnedSocket) -> Self {
        Self {
            socket,
            access: Access::default(),
            clients: 64,
            patience: Duration::from_secs(10),
            rate: Some(Self::RATE),
        }
    }
}

/// A control socket that is being served, until this is dropped.
#[derive(Debug)]
pub struct Serving {
    /// The socket's file, which goes with it.
    path: Option<BoundPath>,
    front: Option<Front>,
}

/// Serves a control socket on a thread of its own. A socket that a former director left behind is replaced.
///
/// # Errors
/// Those of [`OwnedSocket::listen`].
pub fn serve(options: ServeOptions, handler: Arc<Mutex<dyn CommandHandler + Send>>) -> io::Result<Serving> {
    // On this thread, so that the caller hears of a path that cannot be used.
    let (listener, path) = options.socket.listen(Transport::Messages, options.access, BACKLOG)?;
    let served = front::Options {
        places: options.clients,
        patience: options.patience,
        silence: None,
        rates: Rates::new(options.rate),
    };
    let admits = move |socket: BorrowedFd<'_>| options.access.admits(socket);
    let (waker, wakes) = Front::waker()?;
    let commits = Commits::start(handler.clone(), waker.clone(), options.clients)?;
    let meet = move |peer: Peer| Conversation {
        session: Session::new(peer.privileged),
        handler: handler.clone(),
        commits: commits.clone(),
        waiting: None,
    };
    let front = Front::serve("control", listener, (waker, wakes), served, admits, meet)?;
    Ok(Serving { path: Some(path), front: Some(front) })
}

impl Drop for Serving {
    fn drop(&mut self) {
        // The path first: from now on nobody is to come.
        drop(self.path.take());
        drop(self.front.take());
    }
}

/// A session with the director that it commands.
struct Conversation {
    session: Session,
    handler: Arc<Mutex<dyn CommandHandler + Send>>,
    commits: Commits,
    /// Where the result of a change comes that others are carried out with.
    waiting: Option<Receiver<Result<Answer, Errno>>>,
}

impl Conversation {
    /// What becomes of the next message, if it is a change that is carried out with others: nothing while it is.
    fn changed(&mut self) -> Option<Poll<Result<Answer, Errno>>> {
        let waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None if self.commits.are_wanted() => match self.commits.put(self.session.next_change()?) {
                Ok(waiting) => waiting,
                Err(errno) => return Some(Poll::Ready(Err(errno))),
            },
            None => return None,
        };
        match waiting.try_recv() {
            Ok(result) => Some(Poll::Ready(result)),
            // Whoever carried it out has panicked.
            Err(TryRecvError::Disconnected) => Some(Poll::Ready(Err(Errno::Io))),
            Err(TryRecvError::Empty) => {
                self.waiting = Some(waiting);
                Some(Poll::Pending)
            }
        }
    }
}

impl Talk for Conversation {
    fn hear(&mut self, datagram: &[u8]) {
        self.session.hear(datagram);
    }

    fn next(&mut self) -> Said {
        let changed = match self.changed() {
            Some(Poll::Pending) => return Said { pieces: Vec::new(), then: Then::Wait },
            Some(Poll::Ready(result)) => Some(self.session.next(&mut Changed(Some(result)))),
            None => None,
        };
        if let Some(pieces) = changed {
            return Said { pieces, then: if self.session.has_more() { Then::Talk } else { Then::Listen } };
        }
        // A panic while somebody held the lock is no reason to leave the director without control. A command is noted
        // only after the director has taken it, so both still agree.
        let mut handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = self.session.next(&mut *handler);
        Said { pieces, then: if self.session.has_more() { Then::Talk } else { Then::Listen } }
    }
}

/// What has become of a change, for the session whose next message it is.
struct Changed(Option<Result<Answer, Errno>>);

impl CommandHandler for Changed {
    fn handle(&mut self, _: &Command) -> Result<Answer, Errno> {
        // A message is one command.
        self.0.take().unwrap_or(Err(Errno::Io))
    }

    fn has_service(&mut self, _: ServiceName) -> bool {
        false
    }

    fn read_file(&mut self, _: &str) -> Result<Vec<u8>, Errno> {
        Err(Errno::NoEntry)
    }
}

const BACKLOG: i32 = 64;

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::path::PathBuf;
    use std::thread;
    use std::time::Instant;

    use lvs_core::{Config, Director, Heap, Seed};
    use lvs_forward::host::Host;
    use lvs_forward::{Forwarder, Options};
    use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

    use super::*;
    use crate::control::{
        Client, ClientError, Controller, Durability, Journal, Local, MemoryFile, NoDaemons, Query,
        ServiceName, ServiceSpec, TableCommand,
    };

    fn controller() -> Controller<Heap, Local<Heap>> {
        let seed = Seed::from_bytes([7; 16]);
        let director = Director::new(Config::new(seed), Heap::<lvs_core::Scheduler>::with_capacity(16));
        let host: Host = Host::new(seed);
        let local = Local::new(director, Box::new(Forwarder::new(host, Options::new())));
        Controller::new(local, Box::new(NoDaemons))
    }

    fn director(name: &str, services: u16) -> (PathBuf, Serving) {
        let mut controller = controller();
        for port in 1..=services {
            let name = ServiceName::tcp(([192, 0, 2, 1], port).into());
            controller.submit(TableCommand::NewService(name, ServiceSpec::new(name.family(), "rr"))).unwrap();
        }
        let path = std::env::temp_dir().join(format!("director-serve-{}-{name}", std::process::id()));
        let serving =
            serve(ServeOptions::at(OwnedSocket::take(&path).unwrap()), Arc::new(Mutex::new(controller)))
                .unwrap();
        (path, serving)
    }

    fn connect(path: &PathBuf) -> OwnedFd {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let address = SocketAddrUnix::new(path).unwrap();
        while rustix::net::connect(&socket, &address).is_err() {
            // The backlog is full until the other end has let some in.
            thread::yield_now();
        }
        socket
    }

    #[test]
    fn a_command_is_carried_out_whatever_other_clients_do() {
        let (path, _serving) = director("hostile", 200);
        // Ask for listings of all services, a thousand to the datagram, and fetch none of them.
        let list: Vec<u8> =
            [&[20, 0, 0, 0, 0x1b, 0, 1, 3, 9, 0, 0, 0, 0, 0, 0, 0][..], &[4, 1, 0, 0]].concat();
        let lists = list.repeat(1_000);
        let mut others: Vec<_> = (0..100).map(|_| connect(&path)).collect();
        for (client, number) in others.iter().zip(0..) {
            if number % 2 == 0 {
                let _ = rustix::net::send(client, &lists, SendFlags::NOSIGNAL);
            }
        }
        // And more come all the time.
        let flood = {
            let path = path.clone();
            thread::spawn(move || (0..2_000).map(|_| connect(&path)).collect::<Vec<_>>().len())
        };
        let begun = Instant::now();
        let mut answered = 0;
        while answered < 5 {
            // All clients here are of one process, so this one may have to give way too.
            let client = Client::connect(&path);
            answered += usize::from(client.is_ok_and(|mut client| client.call(&Query::Info.into()).is_ok()));
            assert!(begun.elapsed() < Duration::from_secs(30), "{answered} answered");
        }
        assert_eq!(flood.join().unwrap(), 2_000);
        others.clear();
        let mut client = Client::connect(&path).unwrap();
        assert_eq!(client.table().unwrap().len(), 200);
    }

    #[test]
    fn a_client_that_has_had_its_steps_waits_for_the_next_one_and_is_answered() {
        let path = std::env::temp_dir().join(format!("director-serve-{}-rate", std::process::id()));
        let mut options = ServeOptions::at(OwnedSocket::take(&path).unwrap());
        options.rate = Some(25);
        let _serving = serve(options, Arc::new(Mutex::new(controller()))).unwrap();
        let (mut client, begun) = (Client::connect(&path).unwrap(), Instant::now());
        // Those of 16 seconds at once, and then 25 a second: however slow the machine is, it takes as long as that.
        for _ in 0..16 * 25 + 25 {
            client.call(&Query::Info.into()).unwrap();
        }
        assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    }

    #[test]
    fn changes_that_wait_for_the_disk_are_answered_as_others_are() {
        let file = MemoryFile::default();
        let mut journal = Journal::in_memory(&file).unwrap();
        journal.set_durability(Durability::Power);
        let mut controller = controller();
        controller.keep_journal(journal).written.unwrap();
        let path = std::env::temp_dir().join(format!("director-serve-{}-durable", std::process::id()));
        let options = ServeOptions::at(OwnedSocket::take(&path).unwrap());
        let _serving = serve(options, Arc::new(Mutex::new(controller))).unwrap();
        let clients = (0..4_u16).map(|number| {
            let path = path.clone();
            thread::spawn(move || {
                let mut client = Client::connect(&path).unwrap();
                for port in 1..20 {
                    let name = ServiceName::tcp(([192, 0, 2, 1], number * 100 + port).into());
                    let add = TableCommand::NewService(name, ServiceSpec::new(name.family(), "rr"));
                    client.call(&add.clone().into()).unwrap();
                    let again = client.call(&add.into());
                    assert!(matches!(again, Err(ClientError::Refused(Errno::Exists))), "{again:?}");
                }
            })
        });
        clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
        assert_eq!(Client::connect(&path).unwrap().table().unwrap().len(), 76);
        let mut next = self::controller();
        assert!(next.keep_journal(Journal::in_memory(&file).unwrap()).refused.is_empty());
        assert_eq!(next.desired().services().count(), 76);
    }

    #[test]
    fn files_are_read_and_written_by_a_client() {
        let (path, _serving) = director("stream", 1);
        let mut client = Client::connect(&path).unwrap();
        client.write_file("/proc/sys/net/ipv4/vs/drop_entry", b"3\n").unwrap();
        assert_eq!(client.read_file("/proc/sys/net/ipv4/vs/drop_entry").unwrap(), b"3\n");
        assert!(client.read_file("/proc/net/ip_vs_conn").unwrap().ends_with(b"PEData\n"));
        assert!(client.read_file("/proc/net/nothing").is_err());
    }
}
