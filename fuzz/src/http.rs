//! Any answer to an HTTP check.

use lvs_std::health::{Digest, Http};

/// The first byte says what the check wants of a body, the second where the answer is cut into pieces, the rest is the
/// answer. No answer may make the check panic, and it must be judged the same in whatever pieces it comes.
pub fn http(input: &[u8]) {
    let Some(([wish, cut], answer)) = input.split_first_chunk() else { return };
    let mut check = Http::default();
    check.body_limit = 4_096;
    match wish % 4 {
        0 => {}
        1 => check.text = Some("well".to_owned()),
        2 => check.digest = "e4d909c290d0fb1ca068ffaddf22cbd0".parse::<Digest>().ok(),
        _ => check = Http::new("HEAD", "/", None).unwrap_or_default(),
    }
    let whole = check.judge([answer]);
    let pieces = check.judge(answer.chunks(usize::from(*cut).max(1)));
    assert_eq!(whole.is_ok(), pieces.is_ok(), "{whole:?}, in pieces of {cut}: {pieces:?}");
}
