//! SIP (RFC 3261), as far as persistence needs it: the Call-ID of a message.

/// The Call-ID of the SIP message in a UDP payload, 1 to 255 bytes; `None` when there is none that IPVS's engine `sip`
/// would take, which drops the packet.
///
/// The Call-ID is what that engine finds, not what the grammar of RFC 3261 allows:
///
/// * A header begins after CR, LF or CRLF, so never in the first line. Its name is `Call-ID` or `i`, in any case;
///   blanks and one folded line may surround the colon. A header of this name without a colon, or with nothing but an
///   end of line after it, ends the search.
/// * The value is a word, or two around an `@`. Without one, the search goes on. Letters of ISO 8859-1 count as
///   letters.
/// * The value ends at CR or LF; anything else after it, blanks included, and more than 255 bytes, end the search.
///
/// ```
/// let message = b"INVITE sip:a@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nCall-ID: one@x\r\n\r\n";
/// assert_eq!(lvs_forward::alg::sip::call_id(message), Some(&b"one@x"[..]));
/// assert_eq!(lvs_forward::alg::sip::call_id(b"no call id here\r\n\r\n"), None);
/// ```
#[must_use]
pub fn call_id(payload: &[u8]) -> Option<&[u8]> {
    let mut rest = payload;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        if !is_end(byte) {
            continue;
        }
        if let (b'\r', Some((b'\n', after))) = (byte, rest.split_first()) {
            rest = after;
        }
        let Some(after_name) = strip_name(rest) else {
            // IPVS looks for the next end of line behind the first byte of this one, whatever that is.
            rest = rest.split_first()?.1;
            continue;
        };
        let (b':', after) = skip_space(after_name)?.split_first()? else { return None };
        let value = skip_space(after)?;
        let len = value_len(value);
        // IPVS goes on to the next header here, where a grammar would reject the message.
        if len == 0 {
            rest = value;
            continue;
        }
        let (value, after) = value.split_at_checked(len)?;
        return (len <= MAX_LEN && after.first().copied().is_some_and(is_end)).then_some(value);
    }
}

/// What follows a header's name at the beginning of a line, if it is the one that is looked for.
fn strip_name(line: &[u8]) -> Option<&[u8]> {
    if let Some((name, after)) = line.split_at_checked(NAME.len())
        && name.eq_ignore_ascii_case(NAME)
    {
        return Some(after);
    }
    match line.split_first()? {
        (b'i' | b'I', after) if !is_letter(*after.first()?) => Some(after),
        _ => None,
    }
}

/// What follows blanks, and the end of a line if the next one begins with a blank; `None` when the header ends here.
fn skip_space(text: &[u8]) -> Option<&[u8]> {
    let text = skip_blanks(text);
    let (&first, after) = text.split_first()?;
    if !is_end(first) {
        return Some(text);
    }
    let next = match (first, after.split_first()) {
        (b'\r', Some((b'\n', next))) => next,
        _ => after,
    };
    is_blank(*next.first()?).then(|| skip_blanks(next))
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|&&byte| is_blank(byte)).count();
    text.get(blanks..).unwrap_or_default()
}

/// The length of `word ["@" word]`, 0 when there is none.
fn value_len(text: &[u8]) -> usize {
    let word = |text: &[u8]| text.iter().take_while(|&&byte| is_word(byte)).count();
    let first = word(text);
    match text.get(first..).and_then(<[u8]>::split_first) {
        Some((b'@', host)) if first > 0 => match word(host) {
            0 => 0,
            second => first + 1 + second,
        },
        Some(_) | None => first,
    }
}

/// A byte of RFC 3261's `word`.
fn is_word(byte: u8) -> bool {
    is_letter(byte) || byte.is_ascii_digit() || br#"!"%'()*+-./:<>?[\]_`{}~"#.contains(&byte)
}

/// Letters are those of ISO 8859-1 from 0xc0 on, and ASCII's.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

const fn is_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

const NAME: &[u8] = b"Call-ID";
/// The most that a template's engine data holds.
const MAX_LEN: usize = 255;

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Recorded from Linux 6.1.192, each as a message of its own: what the engine took, or that it dropped the packet.
    const RECORDED: &[(&[u8], Option<&[u8]>)] = &[
        (b"X\r\nCall-ID one@x\r\nCall-ID: two@x\r\n\r\n", None),
        (b"X\r\nCall-ID: @x\r\nCall-ID: two@x\r\n\r\n", Some(b"two@x")),
        (b"X\r\nCall-ID: one@x \r\n\r\n", None),
        (b"X\r\ni : c@x\r\n\r\n", Some(b"c@x")),
        (b"X\r\ni:d\r\n\r\n", Some(b"d")),
        (b"X\r\nCall-ID:\r\n e@x\r\n\r\n", Some(b"e@x")),
        (b"X\r\nCall-ID-foo: f@x\r\nCall-ID: f2@x\r\n", None),
        (b"X\r\nCall-ID: a@b@c\r\n\r\n", None),
        (b"X\r\nI: i@x\r\n", Some(b"i@x")),
        (b"X\r\ni9: j@x\r\ni: j2@x\r\n", None),
        (b"X\r\nix: k@x\r\ni: k2@x\r\n", Some(b"k2@x")),
        (b"X\rCall-ID: l@x\r", Some(b"l@x")),
        (b"X\nCall-ID: m@x\n", Some(b"m@x")),
        (b"X\r\nCall-ID: n@x", None),
        (b"Call-ID: o@x\r\n", None),
        (b"\r\nCall-ID: p@x\r\n", Some(b"p@x")),
        (b"X\r\n Call-ID: q@x\r\n", None),
        (b"X\r\nCall-ID:\tr@x\r\n", Some(b"r@x")),
        (b"X\r\nCall-ID\t: s@x\r\n", Some(b"s@x")),
        (b"X\r\nCall-ID:  \r\n\t t@x\r\n", Some(b"t@x")),
        (b"X\r\nCall-ID\r\n : u@x\r\n", Some(b"u@x")),
        (b"X\r\nCall-ID: v@\r\n", None),
        (b"X\r\nCall-ID: y!\"%'()*+-./:<>?[\\]_{}~`z@A9\r\n", Some(b"y!\"%'()*+-./:<>?[\\]_{}~`z@A9")),
        (b"X\r\nCall-ID: a$b\r\n", None),
        (b"X\r\ncALL-id:A1\r\n", Some(b"A1")),
        (b"X\r\nCall-ID:\r\n \r\n B1@x\r\n", None),
        (b"X\r\n\r\nCall-ID: C1@x\r\n", Some(b"C1@x")),
        (b"X\r\n\r\r\n\nCall-ID: D1@x\r\n", None),
        (b"X\r\nCall-ID: \r\nCall-ID: E1@x\r\n", None),
        (b"X\r\nCall-ID: F1@x\r", Some(b"F1@x")),
        (b"X\r\nV: y\r\n\tfold\r\nCall-ID: G1@x\r\n", Some(b"G1@x")),
        (b"X\r\nCall-ID:H1@x;y\r\nCall-ID: H2@x\r\n", None),
        (b"X\r\nCall-ID: \xe9a\r\n", Some(b"\xe9a")),
        (b"X\r\nCall-ID: J1\xe9\r\n", Some(b"J1\xe9")),
        (b"X\r\nCall-ID:\n K1@x\r\n", Some(b"K1@x")),
        (b"X\r\nCall-ID:\r L1@x\r\n", Some(b"L1@x")),
        (b"X\r\n\tfold\r\nCall-ID: M1\r\n", Some(b"M1")),
        (b"X\r\ni\r\nCall-ID: N1\r\n", None),
        (b"X\r\nCall-ID: \t O1@x\r\n", Some(b"O1@x")),
        (b"X\r\nCall-ID:   \r\n   Q1@x\r\n", Some(b"Q1@x")),
        (b"X\r\nCall-ID \t: R1@x\r\n", Some(b"R1@x")),
        (b"X\r\nCall-ID:\r\n \r\nCall-ID: S1@x\r\n", Some(b"S1@x")),
        (b"X\r\nCall-ID: v@\r\nCall-ID: T1@x\r\n", Some(b"T1@x")),
        (b"X\r\ni\xe9: a\r\ni: W1\r\n", Some(b"W1")),
        (b"X\r\ni\xd7: a\r\ni: X1\r\n", None),
        (b"X\r\nCall-ID: \x0bY1\r\n", None),
        (b"X\r\nCall-ID: Z1@\r\n x\r\n", None),
        (b"X\r\n", None),
        (b"X\r\ni", None),
        (b"X\r\ni:", None),
        (b"X\r\nCall-ID:  ", None),
        (b"X\r\nCall-ID: \r\n", None),
        (b"", None),
    ];

    const PIECES: &[&[u8]] = &[b"\r", b"\n", b" ", b":", b"Call-ID", b"i", b"a", b"@", b";", b"\xff"];

    #[test]
    fn call_ids_are_those_that_ipvs_finds() {
        for (message, expected) in RECORDED {
            assert_eq!(call_id(message), *expected, "{:?}", message.escape_ascii());
        }
    }

    #[test]
    fn letters_are_those_of_iso_8859_1() {
        for byte in [0xc0, 0xff, 0xdf, 0xd6, 0xd8] {
            assert!(is_word(byte), "{byte:#x}");
        }
        for byte in [0xaa, 0xb5, 0xd7, 0xf7, 0xa0, 0x7f, 0x80, 0xbf] {
            assert!(!is_word(byte), "{byte:#x}");
        }
    }

    #[test]
    fn a_call_id_has_at_most_255_bytes() {
        let message =
            |len| [&b"X\r\nCall-ID: "[..], &[b'w'].repeat(len), b"\r\nCall-ID: next@x\r\n"].concat();
        assert_eq!(call_id(&message(255)).map(<[u8]>::len), Some(255));
        assert_eq!(call_id(&message(256)), None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_a_value_at_the_end_of_a_line(
            pieces in prop::collection::vec(
                prop::sample::select(PIECES),
                0..40,
            ),
        ) {
            let message: Vec<u8> = pieces.concat();
            if let Some(found) = call_id(&message) {
                prop_assert!(value_len(found) == found.len() && !found.is_empty());
                let at = found.as_ptr().addr() - message.as_ptr().addr();
                prop_assert!(is_end(message[at + found.len()]));
            }
        }
    }
}
