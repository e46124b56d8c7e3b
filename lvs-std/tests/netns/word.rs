//! Servers that answer every connection with a word, so that whoever asks knows which one it was.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use lvs_std::lab::Node;
use lvs_std::lab::harness::Outcome;

/// Answers every connection with a word.
pub(crate) fn listen(node: &Node, port: u16, word: &'static str) -> Outcome {
    let listener = node.run(|| TcpListener::bind(("::", port)))??;
    node.spawn("listen", move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(word.as_bytes());
        }
    })?;
    Ok(())
}

/// The word that a server answers with.
pub(crate) fn fetch(from: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&from, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut word = String::new();
    stream.read_to_string(&mut word)?;
    Ok(word)
}
