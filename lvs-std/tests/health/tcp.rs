use std::io::Read;
use std::sync::mpsc::channel;

use lvs_std::health::{Doing, Failure, Tcp};

use crate::servers::{nobody, serve, silent};
use crate::{SHORT, ask, ask_within};

#[test]
fn a_server_that_accepts_is_up() {
    assert_eq!(ask(serve(drop), Tcp::new()), Ok(()));
}

#[test]
fn a_port_where_nobody_listens_is_down() {
    assert_eq!(ask(nobody(), Tcp::new()), Err(Failure::Refused));
}

#[test]
fn a_server_that_does_not_answer_is_down_when_time_is_up() {
    let (target, _sockets) = silent();
    let expected = Failure::TimedOut { doing: Doing::Connecting, after: SHORT };
    assert_eq!(ask_within(target, Tcp::new(), SHORT), Err(expected));
}

#[test]
fn the_connection_is_reset_so_that_no_port_stays_taken() {
    let (sender, receiver) = channel();
    let target = serve(move |mut stream| {
        let _ = sender.send(stream.read(&mut [0]).map_err(|error| error.kind()));
    });
    assert_eq!(ask(target, Tcp::new()), Ok(()));
    assert_eq!(receiver.recv().unwrap(), Err(std::io::ErrorKind::ConnectionReset));
}
