//! A tool's end.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{Request, Response};

/// Asks a director at its JSON socket.
///
/// # Errors
/// When nobody listens there, or the answer is none.
pub fn ask(socket: &Path, request: &Request) -> io::Result<Response> {
    let mut stream = UnixStream::connect(socket)?;
    let text = serde_json::to_string(request)? + "\n";
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Hears what happens at a director, a line of JSON each, until the director ends.
///
/// # Errors
/// When nobody listens there, or the connection breaks.
pub fn listen(socket: &Path, mut take: impl FnMut(&str)) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all((serde_json::to_string(&Request::Events)? + "\n").as_bytes())?;
    // The first line says that it begins.
    for line in BufReader::new(stream).lines().skip(1) {
        let line = line?;
        if !line.is_empty() {
            take(&line);
        }
    }
    Ok(())
}
