//! A client of a running director.

use core::fmt;
use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use lvs_core::Family;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::protocol::answer::{self, Read};
use super::protocol::{file, messages, request};
use super::{Answer, Command, Errno, Query, ServerReport, ServiceReport};

/// A connection to a director's control socket.
///
/// ```no_run
/// use lvs_std::control::{Answer, Client, Command, TableCommand, Setting, Query, DaemonCommand, socket_path};
/// let mut director = Client::connect(&socket_path("default"))?;
/// if let Answer::Services(services) = director.call(&Query::Services.into())? {
///     services.iter().for_each(|service| println!("{} {}", service.name, service.spec.scheduler));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to the socket at this path, see [`socket_path`](super::socket_path()).
    ///
    /// # Errors
    /// When nobody listens there, or not for this user.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        for direction in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, direction, Some(PATIENCE))?;
        }
        Ok(Self { socket, sequence: 0, buffer: vec![0; LONGEST] })
    }

    /// Asks for something and waits for the answer, ten seconds at most.
    ///
    /// # Errors
    /// [`ClientError`]: what the director said against it, or that it cannot be understood or reached.
    pub fn call(&mut self, command: &Command) -> Result<Answer, ClientError> {
        let answer = self.call_all(core::slice::from_ref(command))?.pop();
        answer.ok_or(ClientError::Malformed)?.map_err(ClientError::Refused)
    }

    /// Asks for many things in one go: each is done for itself, in this order, and each has its answer. That takes far
    /// less time than to wait for each of them.
    ///
    /// # Errors
    /// [`ClientError`]: the director cannot be understood or reached. Some of it may have been done then.
    pub fn call_all(&mut self, commands: &[Command]) -> Result<Vec<Result<Answer, Errno>>, ClientError> {
        let mut answers = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while !rest.is_empty() {
            let (mut datagram, mut sequences) = (Vec::new(), Vec::new());
            for command in rest {
                let next = self.sequence.wrapping_add(1);
                let message = request::write(command, next);
                if !datagram.is_empty() && datagram.len() + message.len() > DATAGRAM {
                    break;
                }
                self.sequence = next;
                sequences.push(next);
                datagram.extend(message);
                datagram.resize(datagram.len().next_multiple_of(4), 0);
            }
            self.send(&datagram)?;
            let (asked, behind) = rest.split_at_checked(sequences.len()).unwrap_or((rest, &[]));
            for (command, sequence) in asked.iter().zip(sequences) {
                answers.push(match self.answer(command, sequence) {
                    Ok(answer) => Ok(answer),
                    Err(ClientError::Refused(errno)) => Err(errno),
                    Err(error) => return Err(error),
                });
            }
            rest = behind;
        }
        Ok(answers)
    }

    /// Waits for the answer to a command that was sent with this number.
    fn answer(&mut self, command: &Command, sequence: u32) -> Result<Answer, ClientError> {
        let family =
            if let Command::Query(Query::Servers(name)) = command { name.family() } else { Family::V4 };
        let (mut services, mut servers, mut daemons) = (Vec::new(), Vec::new(), Vec::new());
        let (mut found, mut text) = (None, Vec::new());
        self.until_done(family, sequence, |read| match read {
            Read::Service(report) => services.push(*report),
            Read::Server(report) => servers.push(report),
            Read::Daemon(daemon) => daemons.push(daemon),
            Read::Timeouts(timeouts) => found = Some(Answer::Timeouts(timeouts)),
            Read::Info(info) => found = Some(Answer::Info(info)),
            Read::Piece(piece) => text.extend(piece),
            Read::Done | Read::Refused(_) => {}
        })?;
        let Command::Query(query) = command else { return Ok(Answer::Done) };
        Ok(match query {
            Query::Services => Answer::Services(services),
            Query::Service(_) => Answer::Service(Box::new(services.pop().ok_or(ClientError::Malformed)?)),
            Query::Servers(_) => Answer::Servers(servers),
            Query::Daemons => Answer::Daemons(daemons),
            Query::Timeouts | Query::Info => found.ok_or(ClientError::Malformed)?,
            Query::Sysctl(_) => {
                let text = String::from_utf8(text).map_err(|_| ClientError::Malformed)?;
                Answer::Sysctl(text.trim_end().to_owned())
            }
        })
    }

    /// All services with their servers.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn table(&mut self) -> Result<Vec<(ServiceReport, Vec<ServerReport>)>, ClientError> {
        let Answer::Services(services) = self.call(&Query::Services.into())? else {
            return Err(ClientError::Malformed);
        };
        let asked: Vec<Command> =
            services.iter().map(|service| Command::Query(Query::Servers(service.name))).collect();
        let answers = self.call_all(&asked)?;
        let table = services.into_iter().zip(answers).map(|(service, answer)| match answer {
            Ok(Answer::Servers(servers)) => Ok((service, servers)),
            Ok(_) => Err(ClientError::Malformed),
            Err(errno) => Err(ClientError::Refused(errno)),
        });
        table.collect()
    }

    /// The text of a file that the kernel would show, such as `/proc/net/ip_vs_conn`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn read_file(&mut self, path: &str) -> Result<Vec<u8>, ClientError> {
        let mut text = Vec::new();
        self.read_pieces(path, |piece| text.extend_from_slice(piece))?;
        Ok(text)
    }

    /// The text of such a file in pieces as they come: the connection table may be longer than anybody wants to keep.
    /// Pieces end anywhere in a line.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn read_pieces(&mut self, path: &str, mut take: impl FnMut(&[u8])) -> Result<(), ClientError> {
        self.file(file::READ, path, None)?;
        self.until_done(Family::V4, self.sequence, |read| {
            if let Read::Piece(piece) = read {
                take(&piece);
            }
        })
    }

    /// Writes to a file that the kernel would have, `/proc/sys/net/ipv4/vs/*`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn write_file(&mut self, path: &str, text: &[u8]) -> Result<(), ClientError> {
        self.file(file::WRITE, path, Some(text))?;
        self.until_done(Family::V4, self.sequence, |_| {})
    }

    fn file(&mut self, command: u8, path: &str, text: Option<&[u8]>) -> Result<(), ClientError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&request::write_file_message(command, path, text, self.sequence))
    }

    fn send(&self, bytes: &[u8]) -> Result<(), ClientError> {
        rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL)
            .map_err(|error| ClientError::Io(error.into()))?;
        Ok(())
    }

    /// Reads answers to the request with this number, up to the one that ends them.
    fn until_done(
        &mut self,
        family: Family,
        sequence: u32,
        mut take: impl FnMut(Read),
    ) -> Result<(), ClientError> {
        loop {
            let received = rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty());
            let (count, _) = match received {
                Err(rustix::io::Errno::INTR) => continue,
                received => received.map_err(|error| ClientError::Io(error.into()))?,
            };
            if count == 0 {
                return Err(ClientError::Io(io::ErrorKind::ConnectionReset.into()));
            }
            for message in messages(self.buffer.get(..count).unwrap_or_default()) {
                if message.header.sequence != sequence {
                    continue;
                }
                let read = answer::read(&message, family).ok_or(ClientError::Malformed)?;
                if let Read::Done = read {
                    return Ok(());
                }
                if let Read::Refused(errno) = read {
                    return Err(errno.map_or(ClientError::Malformed, ClientError::Refused));
                }
                take(read);
            }
        }
    }
}

/// Why a director did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The director refused, for this reason.
    Refused(Errno),
    /// The director cannot be reached, or did not answer in time.
    Io(io::Error),
    /// The answer makes no sense: it is no director, or of another version.
    Malformed,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errno) => errno.fmt(f),
            Self::Io(error) => write!(f, "the director does not answer: {error}"),
            Self::Malformed => {
                f.write_str("the answer makes no sense: is it a director, and of this version?")
            }
        }
    }
}

impl core::error::Error for ClientError {}

const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of requests that go together: less than a director reads at a time.
const DATAGRAM: usize = 1 << 15;
/// More than the longest datagram of an answer.
const LONGEST: usize = 1 << 16;
