//! UDP and DNS.

use core::net::SocketAddr;
use std::net::UdpSocket;
use std::thread;

use lvs_std::health::{Dns, Doing, Failure, Record, Reply, Udp};

use crate::{SHORT, ask, ask_within};

/// A server that answers each datagram with what this makes of it.
fn serve(work: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("on loopback");
    let address = socket.local_addr().expect("on loopback");
    thread::spawn(move || {
        let mut room = [0; 2_048];
        while let Ok((count, from)) = socket.recv_from(&mut room) {
            for answer in work(&room[..count]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    address
}

/// An address where no socket is.
fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").expect("on loopback").local_addr().expect("on loopback")
}

fn expecting(begins: &str) -> Udp {
    let mut check = Udp::default();
    check.payload = b"ping".to_vec();
    check.reply = Some(Reply::new(begins.parse().expect(begins)));
    check
}

#[test]
fn a_server_that_replies_as_it_should_is_up() {
    let target = serve(|question| vec![question.iter().rev().copied().collect()]);
    assert_eq!(ask(target, expecting("67XX")), Ok(()));
    assert_eq!(ask(target, Udp::default()), Ok(()));
    assert_eq!(ask(target, expecting("70")), Err(Failure::Reply("the reply is another one")));
}

#[test]
fn a_reply_that_is_too_long_is_told() {
    let target = serve(|_| vec![vec![1; 1_000]]);
    assert_eq!(ask(target, expecting("01")), Err(Failure::Reply("the reply is too long")));
}

#[test]
fn silence_is_good_unless_a_reply_is_asked_for() {
    let target = serve(|_| Vec::new());
    assert_eq!(ask_within(target, Udp::default(), SHORT), Ok(()));
    let late = Err(Failure::TimedOut { doing: Doing::Reply, after: SHORT });
    assert_eq!(ask_within(target, expecting(""), SHORT), late);
}

#[test]
fn a_closed_port_is_down_either_way() {
    assert_eq!(ask(nobody(), Udp::default()), Err(Failure::Refused));
    assert_eq!(ask(nobody(), expecting("")), Err(Failure::Refused));
}

#[test]
fn a_name_server_that_answers_is_up_and_one_with_an_error_down() {
    let question = || Dns::new("www.example.org".parse().expect("a name"), Record::A);
    let answering = |code: u8| {
        serve(move |question| {
            let mut answer = question.to_vec();
            answer[2] |= 0x80;
            answer[3] = code;
            vec![answer]
        })
    };
    assert_eq!(ask(answering(0), question()), Ok(()));
    assert_eq!(ask(answering(2), question()), Err(Failure::NameServer(2)));
    assert_eq!(ask(nobody(), question()), Err(Failure::Refused));
}

#[test]
fn a_name_server_that_answers_garbage_or_other_questions_is_down_when_time_is_up() {
    let target = serve(|question| {
        let mut others = question.to_vec();
        others[0] ^= 1;
        others[2] |= 0x80;
        // Far more than are looked at in a turn.
        core::iter::repeat_n(others, 100).chain([Vec::new(), vec![0xff; 11], vec![0xff; 2_000]]).collect()
    });
    let late = Err(Failure::TimedOut { doing: Doing::Reply, after: SHORT });
    assert_eq!(ask_within(target, Dns::default(), SHORT), late);
}
