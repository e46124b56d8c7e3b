//! Pings for the director's own addresses, and questions for its time.

use lvs_core::packet::Addresses;
use lvs_core::{Family, Tick};

use super::error::{OWN_TTL, own_layout, write_header};
use crate::frame::Frame;
use crate::header::icmp::{v4, v6};
use crate::header::layout::Layout;
use crate::header::{array_mut, icmp, ipv4, ipv6, put32};
use crate::offload::{complete_checksum, icmp_is_intact, write_icmp};
use crate::reason::DropReason;

/// Turns an echo request, in a frame that begins with its IP header, into the reply (RFC 792 p. 14, RFC 4443 §4.2).
/// IPv4 options and IPv6 extension headers are left out of the reply. So is an ICMP timestamp request (RFC 792 p. 16),
/// with a time that counts from when the director chose, and says so.
pub(crate) fn echo(
    frame: &mut Frame<'_>,
    layout: &Layout,
    identification: u16,
    now: Tick,
) -> Result<Layout, DropReason> {
    // A local stack may ask with a sum that its device was to finish; a ping must be whole to be verified.
    complete_checksum(frame, layout)?;
    frame.forget_assembly();
    if !icmp_is_intact(frame.bytes(), layout) {
        return Err(DropReason::BadIcmpChecksum);
    }
    let class = layout.traffic_class(frame.bytes()).unwrap_or_default();
    let addresses = layout.addresses(frame.bytes()).map(Addresses::reversed).ok_or(DropReason::Malformed)?;
    let asked = frame.bytes().get(layout.transport()).copied();
    let (header_len, kind) = match layout.family {
        Family::V4 if asked == Some(v4::TIMESTAMP_REQUEST) => {
            frame.set_len(layout.transport() + TIMESTAMPS_LEN).ok_or(DropReason::Malformed)?;
            (ipv4::LEN, v4::TIMESTAMP_REPLY)
        }
        Family::V4 => (ipv4::LEN, v4::ECHO_REPLY),
        Family::V6 => (ipv6::LEN, v6::ECHO_REPLY),
    };
    // The message stays where it is, and the shorter header moves up to it: nothing is copied.
    frame.shrink_front(layout.header_len() - header_len).ok_or(DropReason::Malformed)?;
    let answer = own_layout(frame.len(), header_len, layout.family);
    write_header(frame, addresses, class, identification).ok_or(DropReason::Malformed)?;
    let bytes = frame.bytes_mut();
    *array_mut(bytes, answer.transport()).ok_or(DropReason::Malformed)? = [kind];
    if kind == v4::TIMESTAMP_REPLY && layout.family == Family::V4 {
        // When it was received, and when the answer leaves; the upper bit says that it is no time of day.
        let time = NO_TIME_OF_DAY | now.as_millis() as u32;
        let at = answer.transport() + TIMESTAMPS_LEN - 8;
        put32(bytes, at, time).and_then(|()| put32(bytes, at + 4, time)).ok_or(DropReason::Malformed)?;
    }
    write_icmp(bytes, &answer).ok_or(DropReason::Malformed)?;
    debug_assert_eq!(answer.ttl(frame.bytes()), Some(OWN_TTL));
    Ok(answer)
}

/// Length of a timestamp message: the header, and three times of four bytes.
pub(crate) const TIMESTAMPS_LEN: usize = icmp::LEN + 12;
const NO_TIME_OF_DAY: u32 = 1 << 31;
