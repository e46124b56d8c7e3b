//! Servers for tests, each connection served by a closure on a thread of its own.

use core::net::SocketAddr;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// A server that does this with every connection.
pub(crate) fn serve(work: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("on loopback");
    let address = listener.local_addr().expect("on loopback");
    let work = Arc::new(work);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let work = work.clone();
            thread::spawn(move || work(stream));
        }
    });
    address
}

/// A server that reads a request's head and answers with these bytes, whatever it was.
pub(crate) fn answer(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    serve(move |mut stream| {
        read_head(&mut stream);
        drop(stream.write_all(&bytes));
    })
}

/// Reads to the end of a request's head.
pub(crate) fn read_head(stream: &mut TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.extend(byte);
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("on loopback").local_addr().expect("on loopback")
}

/// A server that answers no connection request any more, as long as its sockets are kept: its queue is full.
pub(crate) fn silent() -> (SocketAddr, Vec<OwnedFd>) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = || {
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("on loopback")
    };
    let listener = socket();
    let any: SocketAddr = "127.0.0.1:0".parse().expect("on loopback");
    rustix::net::bind(&listener, &any).expect("on loopback");
    rustix::net::listen(&listener, 0).expect("on loopback");
    let address =
        SocketAddr::try_from(rustix::net::getsockname(&listener).expect("on loopback")).expect("on loopback");
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let socket = socket();
        // In progress.
        let _ = rustix::net::connect(&socket, &address);
        sockets.push(socket);
    }
    (address, sockets)
}
