//! IPv4 options that a router has a part in: only "record route" (RFC 791 §3.1, RFC 1812 §5.3.13.3).
//!
//! Timestamps would need the time of day, which nothing here knows; they pass as they are.

use core::net::Ipv4Addr;

use crate::header::edit::write_header_checksum;
use crate::header::layout::Layout;
use crate::header::{array_mut, ipv4};

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
/// From the option's first byte to its pointer, and what the pointer counts from.
const POINTER: usize = 2;
const COUNTED_FROM: usize = 1;

/// Writes `address` into a record-route option with room for it.
pub(crate) fn record_route(bytes: &mut [u8], layout: &Layout, address: Ipv4Addr) {
    let options = layout.network() + ipv4::LEN..layout.transport();
    // Nearly no packet has options, and the search is not free.
    if options.is_empty() {
        return;
    }
    let recorded = bytes.get_mut(options).and_then(|options| record(options, address));
    if recorded.is_some() {
        // Address and pointer stand at any offset, odd ones too, where a sum is not updated by words.
        let _ = write_header_checksum(bytes, layout.network(), layout.header_len());
    }
}

fn record(options: &mut [u8], address: Ipv4Addr) -> Option<()> {
    let mut rest = options;
    while let [kind, ..] = *rest {
        let len = match (kind, rest.get(1)) {
            (END, _) => return None,
            (NOP, _) => 1,
            (_, Some(&len)) if len >= 2 => usize::from(len),
            (_, Some(_) | None) => return None,
        };
        let (option, next) = rest.split_at_mut_checked(len)?;
        if kind == RECORD_ROUTE {
            let pointer = *option.get(POINTER)?;
            let at = usize::from(pointer).checked_sub(COUNTED_FROM).filter(|&at| at > POINTER)?;
            *array_mut(option, at)? = address.octets();
            *option.get_mut(POINTER)? = pointer.checked_add(4)?;
            return Some(());
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

    #[test]
    fn the_address_goes_to_the_pointer() {
        let mut options = [1, 7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        record(&mut options, ADDRESS).unwrap();
        assert_eq!(options, [1, 7, 11, 8, 10, 99, 0, 1, 0, 0, 0, 0]);
        record(&mut options, ADDRESS).unwrap();
        assert_eq!(options, [1, 7, 11, 12, 10, 99, 0, 1, 10, 99, 0, 1]);
        assert!(record(&mut options, ADDRESS).is_none(), "it is full");
    }

    #[test]
    fn senseless_options_are_left_alone() {
        for options in [[7, 1, 4, 0], [7, 4, 0, 0], [7, 200, 4, 0], [0, 7, 7, 4], [9, 0, 7, 7]] {
            let mut copy = options;
            assert!(record(&mut copy, ADDRESS).is_none());
            assert_eq!(copy, options);
        }
    }
}
