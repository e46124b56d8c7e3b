use core::time::Duration;
use std::io::Write;
use std::thread::sleep;
use std::time::Instant;

use lvs_std::health::{Check, Doing, Failure, Http};

use crate::servers::{answer, nobody, read_head, serve, silent};
use crate::{PATIENCE, SHORT, ask, ask_within};

fn with_text(text: &str) -> Http {
    let mut check = Http::default();
    check.text = Some(text.to_owned());
    check
}

#[test]
fn a_server_that_answers_well_is_up() {
    let target = answer("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is well");
    assert_eq!(ask(target, Http::default()), Ok(()));
    assert_eq!(ask(target, with_text("is well")), Ok(()));
    let mut check = Http::default();
    check.digest = Some("3bc18f2a5c9e9a5e9b4d4c66eb1ac45a".parse().unwrap());
    assert!(matches!(ask(target, check.clone()), Err(Failure::Digest { .. })));
    let Err(Failure::Digest { got, .. }) = ask(target, check.clone()) else { panic!("another digest") };
    check.digest = Some(got.parse().unwrap());
    assert_eq!(ask(target, check), Ok(()));
}

#[test]
fn a_wrong_answer_is_told_with_what_was_expected() {
    let target = answer("HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n");
    let failure = ask(target, Http::default()).unwrap_err();
    assert_eq!(failure.to_string(), "status 503, expected 200-299");
    let target = answer("HTTP/1.1 200 OK\r\n\r\nall is ill");
    let failure = ask(target, with_text("well")).unwrap_err();
    assert_eq!(failure.to_string(), "the body does not contain \"well\"");
}

#[test]
fn a_redirect_is_not_followed() {
    let target = answer("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n");
    assert!(matches!(ask(target, Http::default()), Err(Failure::Status { got: 302, .. })));
}

#[test]
fn each_way_not_to_answer_is_told_apart() {
    assert_eq!(ask(nobody(), Http::default()), Err(Failure::Refused));
    let (target, _sockets) = silent();
    let late = |doing| Err(Failure::TimedOut { doing, after: SHORT });
    assert_eq!(ask_within(target, Http::default(), SHORT), late(Doing::Connecting));
    let mute = serve(|stream| {
        sleep(SHORT * 10);
        drop(stream);
    });
    assert_eq!(ask_within(mute, Http::default(), SHORT), late(Doing::Head));
    let target = serve(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        sleep(SHORT * 10);
    });
    assert_eq!(ask_within(target, with_text("abcd"), SHORT), late(Doing::Body));
    let target = serve(|mut stream| {
        read_head(&mut stream);
    });
    assert_eq!(ask(target, Http::default()), Err(Failure::Closed { doing: Doing::Head }));
}

#[test]
fn a_server_that_speaks_something_else_is_down() {
    let not_http = Err(Failure::Garbage("the answer is not HTTP/1"));
    assert_eq!(ask(answer("SSH-2.0-server\r\n"), Http::default()), not_http);
    let noise: Vec<u8> = (0..100_000_u32).map(|number| (number * 7) as u8).collect();
    assert_eq!(ask(answer(noise), Http::default()), not_http);
}

#[test]
fn endless_answers_end_at_their_limits() {
    let forever = |start: &'static [u8], piece: &'static [u8]| {
        serve(move |mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(start);
            while stream.write_all(piece).is_ok() {}
        })
    };
    let target = forever(b"HTTP/1.1 200 OK\r\n", b"X-More: and more and more\r\n");
    assert!(matches!(ask(target, Http::default()), Err(Failure::TooLong { part: "head", .. })));
    let too_long = Err(Failure::TooLong { part: "body", limit: 1 << 20 });
    let target = forever(b"HTTP/1.1 200 OK\r\n\r\n", b"and more and more and more");
    assert_eq!(ask(target, with_text("never")), too_long);
    let target = forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;x\r\na\r\n");
    assert_eq!(ask(target, with_text("never")), too_long);
}

#[test]
fn a_server_that_drips_is_cut_off_when_time_is_up() {
    let target = serve(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"x").is_ok() {
            sleep(Duration::from_millis(10));
        }
    });
    let began = Instant::now();
    let answer = ask_within(target, Http::default(), SHORT);
    assert_eq!(answer, Err(Failure::TimedOut { doing: Doing::Head, after: SHORT }));
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

#[test]
fn a_server_that_answers_before_it_has_read_is_up() {
    let target = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        sleep(SHORT);
    });
    assert_eq!(ask(target, Check::Http(Http::default())), Ok(()));
}
