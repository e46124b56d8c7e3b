//! Servers that greet and echo, and what tells whether a connection with one still works.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use lvs_std::lab::Node;
use lvs_std::lab::harness::Outcome;

/// Starts a server that tells its node's name and echoes what comes. It gives a client up that has said nothing for ten
/// minutes, so that none that went away keeps a thread for ever.
pub(crate) fn greet(node: &Node, address: SocketAddr) -> Outcome {
    let listener = node.run(|| TcpListener::bind(address))??;
    let name = node.name().to_owned();
    node.spawn("server", move || {
        for mut stream in listener.incoming().flatten() {
            let name = name.clone();
            thread::spawn(move || {
                drop(stream.set_read_timeout(Some(ABANDONED)));
                drop(stream.write_all(name.as_bytes()));
                let mut bytes = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    drop(stream.write_all(&bytes[..count]));
                }
            });
        }
    })?;
    Ok(())
}

/// Sends some bytes on a connection with such a server, and waits for them to come back.
pub(crate) fn ping(stream: &mut TcpStream, patience: Duration) -> io::Result<()> {
    let mut back = [0; 4];
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"ping")?;
    stream.read_exact(&mut back)?;
    if &back == b"ping" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Longer than a test leaves a connection alone.
const ABANDONED: Duration = Duration::from_secs(600);
