//! Who a message on a generic netlink socket is for, and what the two sides call the family `IPVS`.
//!
//! The kernel gives its families numbers in the order in which they appear. A director calls `IPVS` by a number that
//! may be one of them. A led program knows it by the last number that there is, which no family of the kernel reaches.

use crate::control::protocol::attribute::{Writer, attributes, u16};
use crate::control::protocol::{HEADER, Header, Message, flag, kind, message};

/// The number that led programs know: `GENL_MAX_ID`.
pub(super) const PUBLIC: u16 = 1_023;

/// Who answers a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Director,
    Kernel,
    /// A list of all families.
    Both,
}

/// Who answers this one.
pub(super) fn addressee(message: &Message<'_>) -> For {
    match message.header.kind {
        PUBLIC => For::Director,
        kind::CONTROLLER if names_ipvs(message) => For::Director,
        kind::CONTROLLER if message.command() == Some(GET_FAMILY) && is_dump(message.header) => For::Both,
        _ => For::Kernel,
    }
}

/// Whether a message to the controller, or of it, means the family `IPVS`.
pub(super) fn names_ipvs(message: &Message<'_>) -> bool {
    if message.header.kind != kind::CONTROLLER {
        return false;
    }
    attributes(message.attributes()).any(|(kind, value)| match kind {
        FAMILY_NAME => value.strip_suffix(b"\0").unwrap_or(value) == b"IPVS",
        FAMILY_ID => u16(value) == Some(PUBLIC),
        _ => false,
    })
}

/// Whether a message asks for a list.
pub(super) const fn is_dump(header: Header) -> bool {
    header.flags & flag::DUMP == flag::DUMP
}

/// A request in the director's words.
pub(super) fn to_director(request: &[u8]) -> Vec<u8> {
    let mut bytes = request.to_vec();
    rename(&mut bytes, PUBLIC, kind::IPVS);
    bytes
}

/// A message of a director in the led program's words. Its port id is that of the program's socket.
pub(super) fn to_program(answer: &Message<'_>, port: u32) -> Vec<u8> {
    let mut bytes = answer.bytes.to_vec();
    put(&mut bytes, 12, port.to_ne_bytes());
    rename(&mut bytes, kind::IPVS, PUBLIC);
    if answer.header.kind == kind::ERROR
        && let Some(repeated) = bytes.get_mut(HEADER + 4..)
    {
        rename(repeated, kind::IPVS, PUBLIC);
    }
    bytes
}

/// Changes the number of a family in the head of a message, and in what the controller says or is asked about.
fn rename(bytes: &mut [u8], from: u16, to: u16) {
    match bytes.get(4..).and_then(u16) {
        Some(kind) if kind == from => put(bytes, 4, to.to_ne_bytes()),
        Some(kind::CONTROLLER) => {
            let mut at = HEADER + 4;
            while let Some((length, kind)) =
                bytes.get(at..).and_then(|rest| Some((u16(rest)?, u16(rest.get(2..)?)?)))
            {
                if kind == FAMILY_ID && bytes.get(at + 4..).and_then(u16) == Some(from) {
                    put(bytes, at + 4, to.to_ne_bytes());
                }
                at += usize::from(length).next_multiple_of(4).max(4);
            }
        }
        Some(_) | None => {}
    }
}

/// Asks for the family `IPVS`, with the number of another question.
pub(super) fn ask_for_family(sequence: u32) -> Vec<u8> {
    let mut set = Writer::new();
    set.string(FAMILY_NAME, "IPVS");
    let header = Header { kind: kind::CONTROLLER, flags: flag::REQUEST, sequence, port: 0 };
    message(header, GET_FAMILY, 1, &set.into_bytes())
}

/// Says that a message is one of several.
pub(super) fn as_part(bytes: &mut [u8]) {
    put(bytes, 6, flag::MULTI.to_ne_bytes());
}

/// The refusal of a request with the number of an error, as the kernel words it.
pub(super) fn refusal(request: &[u8], header: Header, port: u32, errno: i32) -> Vec<u8> {
    let length = HEADER + 4 + request.len();
    let Header { sequence, .. } = header;
    let head = Header { kind: kind::ERROR, flags: 0, sequence, port };
    let mut bytes = crate::control::protocol::begin(head, length);
    bytes.extend(errno.saturating_neg().to_ne_bytes());
    bytes.extend(request);
    bytes
}

/// Puts a message behind others.
pub(super) fn append(datagram: &mut Vec<u8>, message: &[u8]) {
    datagram.resize(datagram.len().next_multiple_of(4), 0);
    datagram.extend(message);
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..at + N) {
        place.copy_from_slice(&value);
    }
}

/// `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME`.
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::messages;

    fn asks(name: &str) -> Vec<u8> {
        let mut set = Writer::new();
        set.string(FAMILY_NAME, name);
        let header = Header { kind: kind::CONTROLLER, flags: 5, sequence: 7, port: 0 };
        message(header, GET_FAMILY, 1, &set.into_bytes())
    }

    fn of(bytes: &[u8]) -> For {
        addressee(&messages(bytes).next().unwrap())
    }

    #[test]
    fn what_is_asked_decides_who_answers() {
        assert_eq!(of(&asks("IPVS")), For::Director);
        for name in ["nlctrl", "ipvs", "IPV", "IPVSX", ""] {
            assert_eq!(of(&asks(name)), For::Kernel, "{name}");
        }
        let header = Header { kind: PUBLIC, flags: 1, sequence: 1, port: 0 };
        assert_eq!(of(&message(header, 15, 1, &[])), For::Director);
        assert_eq!(of(&message(Header { kind: kind::IPVS, ..header }, 15, 1, &[])), For::Kernel);
        let list = Header { kind: kind::CONTROLLER, flags: 0x301, ..header };
        assert_eq!(of(&message(list, GET_FAMILY, 1, &[])), For::Both);
        let by_number = [6, 0, 1, 0, 0xff, 3, 0, 0];
        assert_eq!(
            of(&message(Header { kind: kind::CONTROLLER, ..header }, GET_FAMILY, 1, &by_number)),
            For::Director
        );
    }

    #[test]
    fn the_familys_number_is_translated_there_and_back() {
        let header = Header { kind: PUBLIC, flags: 1, sequence: 1, port: 9 };
        let request = message(header, 15, 1, &[]);
        let there = to_director(&request);
        assert_eq!(there.get(4..6), Some(&kind::IPVS.to_ne_bytes()[..]));
        let back = to_program(&messages(&there).next().unwrap(), 9);
        assert_eq!(back, request);
        let refused = refusal(&there, header, 4, 1);
        let refused = to_program(&messages(&refused).next().unwrap(), 5);
        assert_eq!(refused.get(12..16), Some(&5_u32.to_ne_bytes()[..]));
        assert_eq!(refused.get(20..), Some(&request[..]), "the request is repeated as it was made");
    }

    #[test]
    fn the_controllers_answer_has_the_public_number() {
        let answer = [6, 0, 1, 0, 0x1b, 0, 0, 0, 9, 0, 2, 0, b'I', b'P', b'V', b'S', 0, 0, 0, 0];
        let header = Header { kind: kind::CONTROLLER, flags: 0, sequence: 1, port: 0 };
        let answer = message(header, 1, 2, &answer);
        let answer = to_program(&messages(&answer).next().unwrap(), 7);
        let message = messages(&answer).next().unwrap();
        assert!(names_ipvs(&message));
        let number = attributes(message.attributes()).find(|(kind, _)| *kind == FAMILY_ID).unwrap().1;
        assert_eq!(u16(number), Some(PUBLIC));
    }

    #[test]
    fn cut_messages_do_no_harm() {
        let request = asks("IPVS");
        for length in 0..request.len() {
            let mut cut = request.get(..length).unwrap().to_vec();
            rename(&mut cut, 0x10, PUBLIC);
            for message in messages(&cut) {
                let _ = addressee(&message);
            }
        }
    }
}
