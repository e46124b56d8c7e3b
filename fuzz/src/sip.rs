//! Any bytes as a SIP message.

use lvs_forward::alg::sip::call_id;

/// Looks for the Call-ID of `data`.
///
/// # Panics
///
/// When it is none that could be remembered, what follows the message changes it, or it is not found in a message of
/// its own.
pub fn sip(data: &[u8]) {
    let Some(found) = call_id(data) else { return };
    assert!((1..=255).contains(&found.len()));
    let at = found.as_ptr().addr() - data.as_ptr().addr();
    assert!(matches!(data[at + found.len()], b'\r' | b'\n'), "the value ends where its line does");
    let longer = [data, b"\r\nCall-ID: another@x\r\n"].concat();
    assert_eq!(call_id(&longer), Some(found));
    let alone = [b"BYE\ni:", found, b"\n"].concat();
    assert_eq!(call_id(&alone), Some(found));
}
