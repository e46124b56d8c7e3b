//! One client's conversation: datagrams in, datagrams out. No sockets, so that any bytes can be tried on it.

use core::sync::atomic::AtomicBool;
use std::sync::Arc;

use super::attribute::{attributes, string, u16};
use super::request::{self, Asked, exists, is_dump, read};
use super::{GENERIC, Header, Message, answer, file, flag, kind, message, messages};
use crate::control::{Answer, Command, Cursor, Errno, Query, ServiceName};

/// Whoever carries out what clients ask for: [`Controller`](crate::control::Controller) does it on a running director.
pub trait CommandHandler {
    /// Carries a command out, or says why not.
    ///
    /// # Errors
    /// The kernel's number for what is wrong; nothing has changed then.
    fn handle(&mut self, command: &Command) -> Result<Answer, Errno>;

    /// Carries out commands of several clients in their order, each for itself.
    ///
    /// Whoever keeps commands on a disk may give them to it together.
    fn handle_each(&mut self, commands: &[Command]) -> Vec<Result<Answer, Errno>> {
        commands.iter().map(|command| self.handle(command)).collect()
    }

    /// Whether changes that come at the same time should come to [`handle_each`](Self::handle_each), because each of
    /// them waits for a disk. It may change at any time, and is read without asking the handler again.
    fn waits_for_disk(&self) -> Option<Arc<AtomicBool>> {
        None
    }

    /// Whether there is such a service.
    fn has_service(&mut self, name: ServiceName) -> bool;

    /// The text of a file that the kernel would show, such as `/proc/net/ip_vs_conn`.
    ///
    /// # Errors
    /// [`Errno::NoEntry`] if there is no such file.
    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Errno>;

    /// A piece of such a file's text, and where the next piece begins. The first piece is at `None`; when no place
    /// follows, that was the last one.
    ///
    /// A file that is as long as the connection table should come in pieces: whoever reads it slowly then holds one
    /// piece, and commands are carried out between two of them.
    ///
    /// # Errors
    /// As for [`read_file`](Self::read_file); [`Errno::Invalid`] for a place in a table that is no more.
    fn read_piece(&mut self, path: &str, at: Option<Cursor>) -> Result<(Vec<u8>, Option<Cursor>), Errno> {
        let _ = at;
        Ok((self.read_file(path)?, None))
    }
}

/// A client's conversation with a director.
///
/// The answers are those that the kernel's generic netlink would give to the same datagram: to the controller's look-up
/// of the family, to the commands of the family `IPVS`, and errors to everything else. One message type more carries
/// files.
#[derive(Debug)]
pub struct Session {
    privileged: bool,
    /// The client's port id, where its requests do not say it.
    port: u32,
    /// The file that every further datagram is written to.
    stream: Option<String>,
    /// What was heard last, of which the messages from `heard.1` on are still to be answered.
    heard: (Vec<u8>, usize),
    /// A file that is being sent.
    reading: Option<Reading>,
}

/// A file that is sent piece by piece.
#[derive(Debug)]
struct Reading {
    request: Header,
    path: String,
    /// Where the next piece begins.
    at: Cursor,
}

impl Session {
    /// A conversation with a client that may, or may not, command the director.
    #[must_use]
    pub const fn new(privileged: bool) -> Self {
        Self { privileged, port: 0, stream: None, heard: (Vec::new(), 0), reading: None }
    }

    /// With the port id of the client's socket, which answers have where a request says 0: Linux writes that of the
    /// socket into every answer, and clients look for it. It is the number of the client's process as a rule
    /// (netlink(7)).
    #[must_use]
    pub const fn with_port(mut self, port: u32) -> Self {
        self.port = port;
        self
    }

    /// The datagrams that answer one.
    pub fn answer(&mut self, datagram: &[u8], handler: &mut dyn CommandHandler) -> Vec<Vec<u8>> {
        self.hear(datagram);
        let mut answers = Vec::new();
        while self.has_more() {
            answers.extend(self.next(handler));
        }
        answers
    }

    /// Takes in a datagram, which [`next`](Self::next) answers. What was heard before and is not answered is left.
    pub fn hear(&mut self, datagram: &[u8]) {
        self.heard.0.clear();
        self.heard.0.extend_from_slice(datagram);
        self.heard.1 = 0;
        self.reading = None;
    }

    /// Whether [`next`](Self::next) has anything to do.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let (heard, at) = &self.heard;
        self.reading.is_some()
            || (*at == 0 && self.stream.is_some() && !heard.is_empty())
            || self.message_at(*at).is_some()
    }

    /// Does one thing: answers one message of the datagram that was heard last, or reads one piece of a file. Returns
    /// the datagrams that say so, which may be none.
    pub fn next(&mut self, handler: &mut dyn CommandHandler) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        if let Some(reading) = self.reading.take() {
            if let Err(errno) =
                self.send_piece(reading.request, reading.path, Some(reading.at), handler, &mut answers)
            {
                answers.push(answer::refused(reading.request, errno));
            }
            return answers;
        }
        // Taken out, since the messages borrow from it, and put back.
        let (heard, at) = core::mem::take(&mut self.heard);
        let rest = heard.get(at..).unwrap_or_default();
        let mut end = heard.len();
        // A stream begins with the datagram behind the one that asks for it.
        if let Some(path) = self.stream.as_ref().filter(|_| at == 0) {
            // Who writes to a file this way does not wait for an answer.
            let _ = write_file(handler, path, rest);
        } else if let Some(mut message) = messages(rest).next() {
            end = at + message.bytes.len().next_multiple_of(4);
            if message.header.port == 0 {
                message.header.port = self.port;
            }
            self.message(&message, handler, &mut answers);
        }
        self.heard = (heard, end);
        answers
    }

    /// What the next messages ask for, as far as that can be done together: changes of services and servers, or
    /// listings of servers, that the client may ask for and with which there is nothing wrong. At most so many, up to
    /// the first message of another kind.
    pub(in crate::control) fn next_run(&self, most: usize) -> Vec<Command> {
        let mut run = Vec::new();
        if !self.privileged || self.stream.is_some() || self.reading.is_some() {
            return run;
        }
        let rest = self.heard.0.get(self.heard.1..).unwrap_or_default();
        for command in messages(rest).take(most).map_while(|message| simple(&message)) {
            if run.first().is_some_and(|first| is_change(first) != is_change(&command)) {
                break;
            }
            run.push(command);
        }
        run
    }

    fn message_at(&self, at: usize) -> Option<Message<'_>> {
        messages(self.heard.0.get(at..)?).next()
    }

    fn message(
        &mut self,
        message: &Message<'_>,
        handler: &mut dyn CommandHandler,
        answers: &mut Vec<Vec<u8>>,
    ) {
        let header = message.header;
        // As with the kernel, what is no request is not carried out, but acknowledged if it asks for that.
        let asked = header.flags & flag::REQUEST != 0 && header.kind >= kind::FIRST;
        let done = if asked { self.one(message, handler, answers) } else { Ok(()) };
        match done {
            // A dump that has begun is acknowledged by its end.
            Ok(()) if header.flags & flag::ACK == 0 || (asked && dumps(message)) => {}
            Ok(()) => answers.push(answer::status(message, None)),
            Err(errno) => answers.push(answer::status(message, Some(errno))),
        }
    }

    /// Reads a piece of a file and sends it, with the end behind the last one.
    fn send_piece(
        &mut self,
        request: Header,
        path: String,
        at: Option<Cursor>,
        handler: &mut dyn CommandHandler,
        answers: &mut Vec<Vec<u8>>,
    ) -> Result<(), Errno> {
        let (text, next) = handler.read_piece(&path, at)?;
        answers.extend(text.chunks(PIECE).map(|piece| piece_of(request, piece)));
        match next {
            Some(at) => self.reading = Some(Reading { request, path, at }),
            None => answers.push(answer::done(request)),
        }
        Ok(())
    }

    fn one(
        &mut self,
        message: &Message<'_>,
        handler: &mut dyn CommandHandler,
        answers: &mut Vec<Vec<u8>>,
    ) -> Result<(), Errno> {
        let header = message.header;
        if !matches!(header.kind, kind::CONTROLLER | kind::IPVS | kind::FILES) {
            return Err(Errno::NoEntry);
        }
        let command = message.command().ok_or(Errno::Invalid)?;
        match header.kind {
            kind::CONTROLLER => controller(message, command, answers),
            kind::IPVS => {
                if !exists(command, is_dump(header)) {
                    return Err(Errno::Unsupported);
                }
                self.may()?;
                let command = match read(message) {
                    Asked::Command(command) => command,
                    Asked::Nothing => {
                        answers.push(answer::done(header));
                        return Ok(());
                    }
                    Asked::Refused(errno) => return Err(errno),
                    Asked::RefusedIf(name, errno) => {
                        return Err(if handler.has_service(name) { errno } else { Errno::NoService });
                    }
                };
                match handler.handle(&command) {
                    Ok(answer) => answers.extend(answer::write(header, &answer)),
                    // No such service is no error for who lists its servers.
                    Err(_) if is_dump(header) => answers.push(answer::done(header)),
                    Err(errno) => return Err(errno),
                }
                Ok(())
            }
            _ => self.file(message, command, handler, answers),
        }
    }

    fn file(
        &mut self,
        message: &Message<'_>,
        command: u8,
        handler: &mut dyn CommandHandler,
        answers: &mut Vec<Vec<u8>>,
    ) -> Result<(), Errno> {
        self.may()?;
        let part = |wanted| {
            attributes(message.attributes()).find_map(|(kind, value)| (kind == wanted).then_some(value))
        };
        let path =
            part(file::PATH).and_then(|value| string(value, request::LONGEST_PATH)).ok_or(Errno::Invalid)?;
        match command {
            file::READ => self.send_piece(message.header, path, None, handler, answers),
            file::WRITE => write_file(handler, &path, part(file::DATA).unwrap_or_default()),
            file::STREAM => {
                handler.read_piece(&path, None)?;
                self.stream = Some(path);
                Ok(())
            }
            _ => Err(Errno::Unsupported),
        }
    }

    const fn may(&self) -> Result<(), Errno> {
        if self.privileged { Ok(()) } else { Err(Errno::Permission) }
    }
}

/// What a message asks for, if that is a change of services and servers or a listing of servers, and there is nothing
/// wrong with it.
fn simple(message: &Message<'_>) -> Option<Command> {
    let header = message.header;
    let asked = header.flags & flag::REQUEST != 0 && header.kind == kind::IPVS;
    if !asked || !exists(message.command()?, is_dump(header)) {
        return None;
    }
    match read(message) {
        Asked::Command(command @ (Command::Table(_) | Command::Query(Query::Servers(_)))) => Some(command),
        Asked::Command(_) | Asked::Nothing | Asked::Refused(_) | Asked::RefusedIf(..) => None,
    }
}

/// Whether a command changes services and servers.
pub(in crate::control) const fn is_change(command: &Command) -> bool {
    matches!(command, Command::Table(_))
}

/// Writes to a file: those that can be written are switches, so it is the command that turns one.
fn write_file(handler: &mut dyn CommandHandler, path: &str, text: &[u8]) -> Result<(), Errno> {
    handler.handle(&request::write_of_file(path, text)?).map(drop)
}

/// Whether a message is answered by several, of which the last one says so.
fn dumps(message: &Message<'_>) -> bool {
    let read = message.header.kind == kind::FILES && message.command() == Some(file::READ);
    read || is_dump(message.header)
}

/// The controller: which number a family has.
fn controller(message: &Message<'_>, command: u8, answers: &mut Vec<Vec<u8>>) -> Result<(), Errno> {
    if command != GET_FAMILY {
        return Err(Errno::Unsupported);
    }
    if is_dump(message.header) {
        let mut all = answer::family(message.header);
        if let Some(flags) = all.get_mut(6..8) {
            flags.copy_from_slice(&flag::MULTI.to_ne_bytes());
        }
        answers.push(all);
        answers.push(answer::done(message.header));
        return Ok(());
    }
    let part =
        |wanted| attributes(message.attributes()).find_map(|(kind, value)| (kind == wanted).then_some(value));
    let known = match (part(answer::FAMILY_ID), part(answer::FAMILY_NAME)) {
        (_, Some(name)) => string(name, LONGEST_FAMILY).ok_or(Errno::Invalid)? == "IPVS",
        (Some(id), None) => u16(id).ok_or(Errno::Range)? == kind::IPVS,
        (None, None) => return Err(Errno::Invalid),
    };
    if !known {
        return Err(Errno::NoEntry);
    }
    answers.push(answer::family(message.header));
    Ok(())
}

fn piece_of(request: Header, piece: &[u8]) -> Vec<u8> {
    let mut set = super::attribute::Writer::new();
    set.put(file::DATA, piece);
    let header = Header { flags: flag::MULTI, ..request };
    message(header, file::READ, 1, &set.into_bytes())
}

/// `CTRL_CMD_GETFAMILY`.
pub(super) const GET_FAMILY: u8 = 3;
/// `GENL_NAMSIZ` without the NUL.
const LONGEST_FAMILY: usize = 15;
/// Bytes of a file in a message.
const PIECE: usize = 8_192;
const _: () = assert!(PIECE + GENERIC + 4 <= 16_384);
