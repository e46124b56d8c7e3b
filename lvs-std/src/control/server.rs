//! The control socket, at which the kernel's netlink family is spoken.

use core::task::Poll;
use core::time::Duration;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::commits::Commits;
use super::front::{self, Front, Peer, Rates, Said, Talk, Then};
use super::protocol::session::is_change;
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
/// The errors of [`OwnedSocket::listen`].
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
        session: Session::new(peer.privileged).with_port(peer.process.cast_unsigned()),
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
    /// Where the results of changes come that others are carried out with, so many as there are changes.
    waiting: Option<Receiver<Vec<Result<Answer, Errno>>>>,
}

impl Conversation {
    /// What becomes of the next messages, as far as they are a [run](Session::next_run): nothing while changes are
    /// carried out with those of others.
    ///
    /// A client that says much in a datagram has a run of it carried out in one step, which takes little longer than
    /// one command.
    fn changed(&mut self) -> Poll<Vec<Result<Answer, Errno>>> {
        let waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None => {
                let run = self.session.next_run(RUN);
                if run.is_empty() {
                    return Poll::Ready(Vec::new());
                }
                let count = run.len();
                let changes = run.first().is_some_and(is_change);
                if !changes || !self.commits.are_wanted() {
                    return Poll::Ready(held(&self.handler).handle_each(&run));
                }
                match self.commits.put(run) {
                    Ok(waiting) => waiting,
                    Err(errno) => return Poll::Ready(vec![Err(errno); count]),
                }
            }
        };
        match waiting.try_recv() {
            Ok(results) => Poll::Ready(results),
            // Whoever carried them out has panicked. The next message is answered; those behind it are tried again.
            Err(TryRecvError::Disconnected) => Poll::Ready(vec![Err(Errno::Io)]),
            Err(TryRecvError::Empty) => {
                self.waiting = Some(waiting);
                Poll::Pending
            }
        }
    }
}

impl Talk for Conversation {
    fn hear(&mut self, datagram: &[u8]) {
        self.session.hear(datagram);
    }

    fn next(&mut self) -> Said {
        let pieces = match self.changed() {
            Poll::Pending => return Said { pieces: Vec::new(), then: Then::Wait },
            Poll::Ready(results) if results.is_empty() => {
                let mut handler = held(&self.handler);
                self.session.next(&mut *handler)
            }
            Poll::Ready(results) => {
                let said = results.into_iter().map(|result| self.session.next(&mut Changed(Some(result))));
                said.flatten().collect()
            }
        };
        Said { pieces, then: if self.session.has_more() { Then::Talk } else { Then::Listen } }
    }
}

/// The handler's lock. A panic while somebody held it is no reason to leave the director without control: a command is
/// noted only after the director has taken it, so both still agree.
fn held<'a>(
    handler: &'a Mutex<dyn CommandHandler + Send + 'static>,
) -> MutexGuard<'a, dyn CommandHandler + Send + 'static> {
    handler.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Commands of one client that are carried out in one step. A worker is held for some microseconds by so many new
/// servers.
const RUN: usize = 32;
const BACKLOG: i32 = 64;

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::path::PathBuf;
    use std::thread;
    use std::time::Instant;

    use lvs_core::config::Capacity;
    use lvs_core::{Config, Director, Family, Heap, Seed};
    use lvs_forward::host::Host;
    use lvs_forward::{Forwarder, Options};
    use rustix::event::{PollFd, PollFlags};
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

    use tempfile::TempDir;

    use super::*;
    use crate::control::protocol::{messages, request};
    use crate::control::{
        Client, ClientError, Controller, Durability, Journal, Local, MemoryFile, NoDaemons, Query,
        ServerSpec, ServiceName, ServiceSpec, TableCommand,
    };

    fn controller() -> Controller<Heap, Local<Heap>> {
        with_room_for(1_024)
    }

    /// The controller of a director that can have so many services, and as many servers.
    fn with_room_for(services: usize) -> Controller<Heap, Local<Heap>> {
        let seed = Seed::from_bytes([7; 16]);
        let mut capacity = Capacity::new(16);
        (capacity.services, capacity.servers) = (services, services);
        let director = Director::new(Config::new(seed), Heap::<lvs_core::Scheduler>::new(capacity));
        let host: Host = Host::new(seed);
        let local = Local::new(director, Box::new(Forwarder::new(host, Options::new())));
        Controller::new(local, Box::new(NoDaemons))
    }

    /// A path in a folder that is gone with what is returned beside it.
    fn place() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("director.sock");
        (folder, path)
    }

    fn director(services: u16) -> (TempDir, PathBuf, Serving) {
        let mut controller = controller();
        for port in 1..=services {
            let name = ServiceName::tcp(([192, 0, 2, 1], port).into());
            controller.submit(TableCommand::NewService(name, ServiceSpec::new(name.family(), "rr"))).unwrap();
        }
        let (folder, path) = place();
        let serving =
            serve(ServeOptions::at(OwnedSocket::take(&path).unwrap()), Arc::new(Mutex::new(controller)))
                .unwrap();
        (folder, path, serving)
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
        let (_folder, path, _serving) = director(200);
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
        let (_folder, path) = place();
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
        let (_folder, path) = place();
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

    /// The next datagram's messages, as their port id and sequence number.
    fn heads(socket: &OwnedFd) -> Vec<(u32, u32)> {
        let mut buffer = vec![0; 1 << 16];
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        let (count, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()).unwrap();
        messages(&buffer[..count]).map(|message| (message.header.port, message.header.sequence)).collect()
    }

    #[test]
    fn answers_have_the_clients_port_id_as_those_of_a_kernel() {
        let (_folder, path, _serving) = director(1);
        let client = connect(&path);
        let own = std::process::id();
        for (said, expected) in [(0_u32, own), (77, 77)] {
            for command in [Command::Query(Query::Info), Command::Query(Query::Services), Command::Zero(None)]
            {
                let mut request = request::write(&command, 5);
                request[12..16].copy_from_slice(&said.to_ne_bytes());
                rustix::net::send(&client, &request, SendFlags::NOSIGNAL).unwrap();
                let mut heard = heads(&client);
                // A listing has its end in a datagram of its own, and a question is acknowledged after its answer.
                if !matches!(command, Command::Zero(_)) {
                    heard.extend(heads(&client));
                }
                assert!(heard.iter().all(|head| *head == (expected, 5)), "{command:?}: {heard:?}");
            }
        }
    }

    #[test]
    fn at_the_bound_of_services_or_servers_a_client_is_told_which_key_is_to_be_raised() {
        let (_folder, path) = place();
        let options = ServeOptions::at(OwnedSocket::take(&path).unwrap());
        let _serving = serve(options, Arc::new(Mutex::new(with_room_for(1)))).unwrap();
        let mut client = Client::connect(&path).unwrap();
        let name = |port| ServiceName::tcp(([192, 0, 2, 1], port).into());
        let service = |port| TableCommand::NewService(name(port), ServiceSpec::new(Family::V4, "rr"));
        let spec = ServerSpec::new(crate::control::method::MASQUERADING, 1);
        let server = |last| TableCommand::NewServer(name(1), ([10, 0, 1, last], 80).into(), spec);
        let asked = [service(1), service(2), server(1), server(2)].map(Command::from);
        let done = Ok(Answer::Done);
        let answers = client.call_all(&asked).unwrap();
        assert_eq!(answers, [done.clone(), Err(Errno::ServicesFull), done, Err(Errno::ServersFull)]);
        assert!(Errno::ServicesFull.to_string().contains("`services` in [tuning]"));
        // What others read of it is the kernel's number, with the words where the kernel has them.
        let raw = connect(&path);
        let request = request::write(&server(3).into(), 9);
        rustix::net::send(&raw, &request, SendFlags::NOSIGNAL).unwrap();
        let mut fds = [PollFd::new(&raw, PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        let mut bytes = [0; 1_024];
        let (count, _) = rustix::net::recv(&raw, &mut bytes[..], RecvFlags::empty()).unwrap();
        assert_eq!(bytes[16..20], (-12_i32).to_ne_bytes());
        assert_eq!(bytes[20..20 + request.len()], request);
        let text = String::from_utf8_lossy(&bytes[20 + request.len() + 4..count]);
        assert!(text.contains("`servers` in [tuning]"), "{text}");
    }

    #[test]
    fn many_commands_of_one_datagram_are_answered_each_in_its_turn() {
        for durability in [Durability::Process, Durability::Power] {
            let mut journal = Journal::in_memory(&MemoryFile::default()).unwrap();
            journal.set_durability(durability);
            let mut controller = controller();
            controller.keep_journal(journal).written.unwrap();
            let (_folder, path) = place();
            let options = ServeOptions::at(OwnedSocket::take(&path).unwrap());
            let _serving = serve(options, Arc::new(Mutex::new(controller))).unwrap();
            let mut client = Client::connect(&path).unwrap();
            let name = |number: u16| ServiceName::tcp(([192, 0, 2, 1], number).into());
            let server = |number: u16| ([10, 0, 1, number as u8], 80).into();
            let spec = ServerSpec::new(crate::control::method::MASQUERADING, 1);
            let mut asked: Vec<Command> = Vec::new();
            let mut expected = Vec::new();
            for number in 1..=500 {
                let add = TableCommand::NewService(name(number), ServiceSpec::new(Family::V4, "rr"));
                asked.extend([add.clone().into(), add.into()]);
                asked.push(TableCommand::NewServer(name(number), server(number), spec).into());
                asked.push(TableCommand::DelServer(name(number), server(number + 1)).into());
                let error = |errno| Err::<Answer, Errno>(errno);
                expected.extend([Ok(Answer::Done), error(Errno::Exists), Ok(Answer::Done)]);
                expected.push(error(Errno::NoEntry));
                if number % 100 == 0 {
                    asked
                        .extend([Query::Servers(name(number)).into(), Command::Zero(Some(name(number + 1)))]);
                    expected.extend([Ok(Answer::Servers(Vec::new())), error(Errno::NoService)]);
                }
            }
            let mut answers = client.call_all(&asked).unwrap();
            for answer in &mut answers {
                if let Ok(Answer::Servers(servers)) = answer {
                    assert_eq!(servers.len(), 1);
                    servers.clear();
                }
            }
            assert_eq!(answers, expected, "{durability:?}");
            assert_eq!(client.table().unwrap().len(), 500);
        }
    }

    #[test]
    fn files_are_read_and_written_by_a_client() {
        let (_folder, path, _serving) = director(1);
        let mut client = Client::connect(&path).unwrap();
        client.write_file("/proc/sys/net/ipv4/vs/drop_entry", b"3\n").unwrap();
        assert_eq!(client.read_file("/proc/sys/net/ipv4/vs/drop_entry").unwrap(), b"3\n");
        assert!(client.read_file("/proc/net/ip_vs_conn").unwrap().ends_with(b"PEData\n"));
        assert!(client.read_file("/proc/net/nothing").is_err());
    }
}
