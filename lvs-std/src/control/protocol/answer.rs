//! Answers on the wire.

use lvs_core::Family;

use super::attribute::{Writer, attributes, string, u32};
use super::nest::{Dest, Service, read_daemon, write_daemon, write_server, write_service};
use super::request::write_timeouts;
use super::{GENERIC, HEADER, Header, Message, attr, begin, cmd, file, flag, kind, message};
use crate::control::{Answer, DaemonSpec, Errno, Info, ServerReport, ServiceReport, Timeouts};

/// What stands in a datagram that acknowledges, or refuses with a number, a request. Words follow where the number does
/// not say enough, as the kernel's do to who has asked for them (`NETLINK_EXT_ACK`); others do not look at them.
pub(crate) fn status(request: &Message<'_>, errno: Option<Errno>) -> Vec<u8> {
    let Header { sequence, port, .. } = request.header;
    // A refusal repeats the whole request, an acknowledgement only its header.
    let (mut flags, repeated) = match errno {
        None => (flag::CAPPED, request.bytes.get(..HEADER)),
        Some(_) => (0, Some(request.bytes)),
    };
    let repeated = repeated.unwrap_or_default();
    let mut words = Writer::new();
    if let Some(said) = errno.and_then(Errno::words) {
        words.string(ERROR_MESSAGE, said);
        flags |= flag::ACK_TLVS;
    }
    let (words, end) = (words.into_bytes(), HEADER + 4 + repeated.len());
    let length = if words.is_empty() { end } else { end.next_multiple_of(4) + words.len() };
    let mut bytes = begin(Header { kind: kind::ERROR, flags, sequence, port }, length);
    bytes.extend(errno.map_or(0, |errno| -errno.number()).to_ne_bytes());
    bytes.extend(repeated);
    bytes.resize(length - words.len(), 0);
    bytes.extend(words);
    bytes
}

/// What stands in a datagram that refuses what a request asked for after its answer has begun.
pub(crate) fn refused(request: Header, errno: Errno) -> Vec<u8> {
    let header = Header { kind: kind::ERROR, flags: flag::CAPPED, ..request };
    let mut bytes = begin(header, HEADER + 4 + HEADER);
    bytes.extend((-errno.number()).to_ne_bytes());
    bytes.extend(begin(request, HEADER));
    bytes
}

/// The datagrams that answer a request, without an acknowledgement: a message, or a dump with its end.
pub(crate) fn write(request: Header, answer: &Answer) -> Vec<Vec<u8>> {
    match answer {
        Answer::Done => Vec::new(),
        Answer::Service(report) => {
            vec![one(request, cmd::NEW_SERVICE, |set| write_service(set, report))]
        }
        Answer::Timeouts(timeouts) => {
            vec![one(request, cmd::SET_CONFIG, |set| write_timeouts(set, *timeouts))]
        }
        Answer::Info(info) => vec![one(request, cmd::SET_INFO, |set| {
            set.u32(INFO_VERSION, info.version).u32(INFO_TABLE_SIZE, info.table_size);
        })],
        Answer::Sysctl(value) => {
            let mut set = Writer::new();
            set.put(file::DATA, format!("{value}\n").as_bytes());
            let header = Header { kind: kind::FILES, flags: flag::MULTI, ..request };
            vec![message(header, file::READ, 1, &set.into_bytes()), done(request)]
        }
        Answer::Services(reports) => dump(request, cmd::NEW_SERVICE, reports, write_service),
        Answer::Servers(reports) => dump(request, cmd::NEW_DEST, reports, write_server),
        Answer::Daemons(daemons) => dump(request, cmd::NEW_DAEMON, daemons, write_daemon),
    }
}

/// The family's description, as the controller gives it.
pub(crate) fn family(request: Header) -> Vec<u8> {
    let mut set = Writer::new();
    set.string(FAMILY_NAME, "IPVS").u16(FAMILY_ID, kind::IPVS).u32(3, 1).u32(4, 0).u32(5, 6).nest(6, |set| {
        let numbers = (1..=13).chain(15..=17);
        for (index, number) in (1..).zip(numbers) {
            let flags = match number {
                cmd::GET_SERVICE => ADMIN | DO | DUMP | POLICY,
                cmd::GET_DEST | cmd::GET_DAEMON => ADMIN | DUMP | POLICY,
                _ => ADMIN | DO | POLICY,
            };
            set.nest(index, |set| {
                set.u32(1, u32::from(number)).u32(2, flags);
            });
        }
    });
    let header = Header { kind: kind::CONTROLLER, flags: 0, ..request };
    message(header, 1, 2, &set.into_bytes())
}

/// The end of a dump.
pub(crate) fn done(request: Header) -> Vec<u8> {
    let header = Header { kind: kind::DONE, flags: flag::MULTI, ..request };
    let mut bytes = begin(header, HEADER + 4);
    bytes.extend([0; 4]);
    bytes
}

fn one(request: Header, command: u8, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut set = Writer::new();
    fill(&mut set);
    message(Header { kind: kind::IPVS, flags: 0, ..request }, command, 1, &set.into_bytes())
}

fn dump<T>(request: Header, command: u8, list: &[T], write: impl Fn(&mut Writer, &T)) -> Vec<Vec<u8>> {
    let (mut datagrams, mut datagram) = (Vec::new(), Vec::new());
    for item in list {
        let mut set = Writer::new();
        write(&mut set, item);
        let header = Header { kind: kind::IPVS, flags: flag::MULTI, ..request };
        let bytes = message(header, command, 1, &set.into_bytes());
        if datagram.len() + bytes.len() > LARGEST {
            datagrams.push(core::mem::take(&mut datagram));
        }
        datagram.extend(bytes);
    }
    datagrams.extend((!datagram.is_empty()).then_some(datagram));
    datagrams.push(done(request));
    datagrams
}

/// What a client reads out of a message.
#[derive(Debug)]
pub(crate) enum Read {
    /// The request was carried out, or the listing is at its end.
    Done,
    /// The request was refused; `None` with a number that means nothing here.
    Refused(Option<Errno>),
    Service(Box<ServiceReport>),
    Server(ServerReport),
    Daemon(DaemonSpec),
    Timeouts(Timeouts),
    Info(Info),
    /// A piece of a file.
    Piece(Vec<u8>),
}

/// Reads an answer; servers are of a service of this family. `None` if it makes no sense.
pub(crate) fn read(message: &Message<'_>, service: Family) -> Option<Read> {
    let bytes = message.attributes();
    match message.header.kind {
        kind::DONE => return Some(Read::Done),
        kind::ERROR => {
            let errno = message.bytes.get(HEADER..GENERIC)?.first_chunk()?;
            let errno = i32::from_ne_bytes(*errno);
            let refused = || Errno::from_words(errno.saturating_neg(), words(message).as_deref());
            return Some(if errno == 0 { Read::Done } else { Read::Refused(refused()) });
        }
        kind::FILES => {
            let piece = attributes(bytes).find_map(|(kind, value)| (kind == file::DATA).then_some(value));
            return Some(Read::Piece(piece.unwrap_or_default().to_vec()));
        }
        _ => {}
    }
    let set = |wanted| attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value));
    let number = |kind| set(kind).and_then(u32).unwrap_or_default();
    Some(match message.command()? {
        cmd::NEW_SERVICE => Read::Service(Box::new(Service::read(set(attr::SERVICE)?).ok()?.report().ok()?)),
        cmd::NEW_DEST => Read::Server(Dest::read(set(attr::DEST)?).ok()?.report(service).ok()?),
        cmd::NEW_DAEMON => Read::Daemon(read_daemon(set(attr::DAEMON)?, false).ok()?),
        cmd::SET_CONFIG => Read::Timeouts(Timeouts {
            tcp: number(attr::TIMEOUT_TCP),
            tcp_fin: number(attr::TIMEOUT_TCP_FIN),
            udp: number(attr::TIMEOUT_UDP),
        }),
        cmd::SET_INFO => {
            Read::Info(Info { version: number(INFO_VERSION), table_size: number(INFO_TABLE_SIZE) })
        }
        _ => return None,
    })
}

/// The words beside an error's number.
fn words(message: &Message<'_>) -> Option<String> {
    if message.header.flags & flag::ACK_TLVS == 0 {
        return None;
    }
    let repeated = message.bytes.get(GENERIC..)?;
    let length = u32(repeated.get(..4)?)? as usize;
    let mut behind = attributes(repeated.get(length.next_multiple_of(4)..)?);
    behind.find_map(|(kind, value)| (kind == ERROR_MESSAGE).then(|| string(value, LONGEST_WORDS))?)
}

/// `NLMSGERR_ATTR_MSG`.
const ERROR_MESSAGE: u16 = 1;
const LONGEST_WORDS: usize = 255;
/// `CTRL_ATTR_FAMILY_ID` and `CTRL_ATTR_FAMILY_NAME`.
pub(crate) const FAMILY_ID: u16 = 1;
pub(crate) const FAMILY_NAME: u16 = 2;

const INFO_VERSION: u16 = 1;
const INFO_TABLE_SIZE: u16 = 2;
/// `GENL_*` flags of an operation.
const ADMIN: u32 = 1;
const DO: u32 = 2;
const DUMP: u32 = 4;
const POLICY: u32 = 8;
/// The longest datagram of a dump: the room that libnl has at first.
const LARGEST: usize = 16_384;
