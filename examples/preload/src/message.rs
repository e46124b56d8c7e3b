//! As much of netlink as it takes to know who is meant, and when an answer is complete (`linux/netlink.h`,
//! `linux/genetlink.h`).

/// Whether a request asks for the generic netlink family `IPVS` by name (`CTRL_CMD_GETFAMILY`).
pub(crate) fn asks_for_ipvs(message: &[u8]) -> bool {
    let Some(length) = number(message, 0) else { return false };
    let message = usize::try_from(length).ok().and_then(|length| message.get(..length)).unwrap_or(message);
    if short(message, 4) != Some(CONTROLLER) || message.get(16) != Some(&GET_FAMILY) {
        return false;
    }
    attributes(message).any(|(kind, value)| kind == FAMILY_NAME && value == b"IPVS\0")
}

/// The attributes behind a generic netlink header, as far as they are whole.
pub(crate) fn attributes(message: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = message.get(HEADERS..).unwrap_or_default();
    core::iter::from_fn(move || {
        let (length, kind) = (usize::from(short(rest, 0)?), short(rest, 2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !NESTED, value))
    })
}

/// Puts pieces of a message together, as far as there is room.
pub(crate) fn gather<'a, 'p>(parts: impl Iterator<Item = &'p [u8]>, room: &'a mut [u8]) -> &'a [u8] {
    let mut length = 0;
    for (to, &from) in room.iter_mut().zip(parts.flatten()) {
        *to = from;
        length += 1;
    }
    room.get(..length).unwrap_or_default()
}

/// The messages of a datagram, as far as they are whole.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    core::iter::from_fn(move || {
        let length = usize::try_from(number(rest, 0)?).ok()?;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The type of a message, 0 if it is cut.
pub(crate) fn kind(message: &[u8]) -> u16 {
    short(message, 4).unwrap_or(0)
}

/// The error number of an acknowledgement or the end of a dump: 0 or negative.
pub(crate) fn error(message: &[u8]) -> Option<i32> {
    message.get(HEADER..)?.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}

/// Whether this is a socket option by which programs configured IPVS before there was netlink (`IP_VS_BASE_CTL` and
/// following).
#[inline]
pub(crate) fn is_old_interface(level: i32, option: i32) -> bool {
    level == libc::IPPROTO_IP && (1152..1168).contains(&option)
}

/// A netlink address (`struct sockaddr_nl`) of no groups.
pub(crate) fn address(port: u32) -> [u8; 12] {
    let ([low, high], [a, b, c, d]) = (AF_NETLINK.to_ne_bytes(), port.to_ne_bytes());
    [low, high, 0, 0, a, b, c, d, 0, 0, 0, 0]
}

/// The port id in a netlink address.
pub(crate) fn port(&[_, _, _, _, a, b, c, d, ..]: &[u8; 12]) -> u32 {
    u32::from_ne_bytes([a, b, c, d])
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

const AF_NETLINK: u16 = 16;
/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Length of `struct nlmsghdr` and `struct genlmsghdr`.
pub(crate) const HEADERS: usize = 20;
/// `NLMSG_ERROR`: an error, or an acknowledgement.
pub(crate) const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub(crate) const DONE: u16 = 3;
/// `GENL_ID_CTRL`.
const CONTROLLER: u16 = 0x10;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_NAME: u16 = 2;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What libnl sends before everything else.
    pub(crate) fn get_family(name: &str) -> Vec<u8> {
        let mut message = vec![0, 0, 0, 0, 0x10, 0, 5, 0, 7, 0, 0, 0, 9, 0, 0, 0, 3, 1, 0, 0];
        let length = 4 + name.len() + 1;
        message.extend([length as u8, 0, 2, 0]);
        message.extend(name.as_bytes());
        message.push(0);
        message.resize(message.len().next_multiple_of(4), 0);
        message[0] = message.len() as u8;
        message
    }

    #[test]
    fn only_a_question_for_ipvs_is_taken() {
        assert!(asks_for_ipvs(&get_family("IPVS")));
        for name in ["ipvs", "IPV", "IPVS2", "nl80211", ""] {
            assert!(!asks_for_ipvs(&get_family(name)), "{name}");
        }
    }

    #[test]
    fn a_cut_question_is_not_taken_and_does_no_harm() {
        let message = get_family("IPVS");
        for length in 0..message.len() - 3 {
            assert!(!asks_for_ipvs(&message[..length]), "{length}");
        }
    }

    #[test]
    fn other_commands_of_the_controller_are_not_taken() {
        let mut message = get_family("IPVS");
        message[16] = 1;
        assert!(!asks_for_ipvs(&message));
        let mut message = get_family("IPVS");
        message[4] = 0x1b;
        assert!(!asks_for_ipvs(&message));
    }

    #[test]
    fn a_port_is_found_again_in_an_address() {
        let address = address(0x0102_0304);
        assert_eq!((address.len(), port(&address)), (12, 0x0102_0304));
        assert_eq!(u16::from_ne_bytes([address[0], address[1]]), AF_NETLINK);
    }

    #[test]
    fn pieces_are_put_together_as_far_as_there_is_room() {
        let parts: [&[u8]; 3] = [b"ab", b"", b"cde"];
        assert_eq!(gather(parts.into_iter(), &mut [0; 8]), b"abcde");
        assert_eq!(gather(parts.into_iter(), &mut [0; 4]), b"abcd");
    }

    #[test]
    fn attributes_without_length_end_the_list() {
        let mut message = get_family("IPVS");
        message[20] = 0;
        assert_eq!(attributes(&message).count(), 0);
    }

    #[test]
    fn a_datagram_is_cut_into_its_messages() {
        let mut datagram = get_family("IPVS");
        datagram.extend([20, 0, 0, 0, 3, 0, 2, 0, 7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        let kinds: Vec<u16> = messages(&datagram).map(kind).collect();
        assert_eq!(kinds, [0x10, DONE]);
        assert_eq!(messages(&datagram).last().and_then(error), Some(0));
        assert_eq!(messages(&[0; 40]).count(), 0, "a length of 0 ends it");
    }
}
