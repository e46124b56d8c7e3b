//! The web of the demonstration: a server that hands out the files of one folder, and a client, both HTTP/1.1 (RFC
//! 9112) with one request per connection.

use core::net::SocketAddr;
use core::time::Duration;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

/// Answers requests for files directly in `folder` until the process ends. Every answer says in the header
/// `X-Real-Server` who gave it.
pub(crate) fn serve(listener: &TcpListener, folder: &Arc<Path>, name: &str) {
    for stream in listener.incoming() {
        // A client that is gone already, or no descriptor left: the next one may succeed.
        let Ok(stream) = stream else { continue };
        let (folder, name) = (Arc::clone(folder), name.to_owned());
        let answering = thread::Builder::new().name("answer".to_owned()).spawn(move || {
            // A broken connection is the client's to notice, and it counts it as a failure.
            drop(answer(&stream, &folder, &name));
        });
        drop(answering);
    }
}

/// What came back for a request.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status code, 200 when all is well.
    pub(crate) status: u16,
    /// Who answered, from `X-Real-Server`.
    pub(crate) server: String,
    pub(crate) body: Vec<u8>,
}

/// Asks for `/name` on a new connection.
pub(crate) fn get(to: SocketAddr, name: &str) -> io::Result<Response> {
    ask(TcpStream::connect_timeout(&to, PATIENCE)?, to, name, PATIENCE)
}

/// Asks for `/name` on a connection that there is already; no step may take longer than `patience`.
pub(crate) fn ask(
    mut stream: TcpStream,
    to: SocketAddr,
    name: &str,
    patience: Duration,
) -> io::Result<Response> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    write!(stream, "GET /{name} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
    let mut reader = BufReader::new(stream.take(LONGEST_RESPONSE));
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1.1");
    let status = head_line(&mut reader)?;
    let status = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or_else(broken)?;
    let status = status.parse().map_err(|_| broken())?;
    let (mut server, mut length) = (String::new(), None);
    loop {
        let line = head_line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let (key, value) = line.split_once(':').ok_or_else(broken)?;
        match key.to_ascii_lowercase().as_str() {
            "x-real-server" => value.trim().clone_into(&mut server),
            "content-length" => length = value.trim().parse::<usize>().ok(),
            _ => {}
        }
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    if length != Some(body.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Response { status, server, body })
}

fn answer(stream: &TcpStream, folder: &Path, name: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.take(LONGEST_HEAD));
    let request = head_line(&mut reader)?;
    while !head_line(&mut reader)?.is_empty() {}
    let mut words = request.split(' ');
    let (status, body) = match (words.next(), words.next(), words.next()) {
        (Some("GET"), Some(path), Some("HTTP/1.1" | "HTTP/1.0")) => match file(folder, path) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", b"no such file\n".to_vec()),
        },
        (Some(_), Some(_), Some(_)) => ("501 Not Implemented", b"only GET is understood\n".to_vec()),
        (_, _, _) => ("400 Bad Request", b"not a request\n".to_vec()),
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nX-Real-Server: {name}\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

/// The content of a file directly in `folder`.
fn file(folder: &Path, path: &str) -> Option<Vec<u8>> {
    let name = path.strip_prefix('/')?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-');
    if !plain || name.starts_with('.') {
        return None;
    }
    fs::read(folder.join(name)).ok()
}

/// One line of a message's head, without its end.
fn head_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// How long a step of a connection may take: several retransmissions of TCP.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_HEAD: u64 = 16 << 10;
const LONGEST_RESPONSE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn server(folder: &Path) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = folder.into();
        thread::spawn(move || serve(&listener, &folder, "rs1"));
        address
    }

    #[test]
    fn a_file_arrives_with_the_name_of_its_server() {
        let folder = crate::folder::Folder::new(&[100_000]).unwrap();
        let address = server(folder.path());
        let file = &folder.files()[0];
        let response = get(address, &file.name).unwrap();
        assert_eq!((response.status, response.server.as_str()), (200, "rs1"));
        assert_eq!(response.body, fs::read(folder.path().join(&file.name)).unwrap());
    }

    #[test]
    fn nothing_outside_the_folder_is_handed_out() {
        let folder = crate::folder::Folder::new(&[]).unwrap();
        let address = server(folder.path());
        for path in ["../etc/passwd", "", "..", "etc/passwd", "%2e%2e/x"] {
            assert_eq!(get(address, path).unwrap().status, 404, "{path}");
        }
    }
}
