//! The program: under which name it was called, and which director it talks to.

use core::fmt;
use std::env;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lvs_std::control::{Client, DEFAULT_NAME, DIRECTOR_VARIABLE, socket_path};
use lvs_std::ipvsadm::{Channel, NOT_ROOT, Session, System, UNREACHABLE, cannot_initialize};
use lvs_support::eprintln;

use super::drain;

/// `lvsadm`: does what its command line says, as ipvsadm, `ipvsadm-save` or `ipvsadm-restore` would if it was called
/// so.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_else(|| "lvsadm".to_owned());
    lvs_support::finish(ExitCode::from(call(&program, words.collect(), None)))
}

/// A call under the name `program`, with the words after it; returns the exit status. `--director NAME|PATH` may come
/// before all else; without it `director` says which one is meant, or else the environment.
#[must_use]
pub fn call(program: &str, words: Vec<String>, director: Option<PathBuf>) -> u8 {
    let (named, words) = match director_option(&words) {
        Ok(found) => found,
        Err(text) => {
            eprintln!("{text}");
            return MISUSED;
        }
    };
    let socket = named.map(socket_path).or(director).unwrap_or_else(|| {
        let variable = env::var(DIRECTOR_VARIABLE).ok().filter(|name| !name.is_empty());
        socket_path(variable.as_deref().unwrap_or(DEFAULT_NAME))
    });
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some(status) = drain::call(&words, &socket, &mut Printed, &mut io::stderr().lock()) {
        return status;
    }
    match role(program) {
        Role::Tool => {
            with_director(&socket, |channel| tool(program, channel, &mut io::stdin().lock(), &words))
        }
        Role::Save(tool) => match words.iter().find(|word| word.starts_with('-') && **word != "-n") {
            Some(_) => {
                usage(&format!("{program} [-n]: prints the director's services and servers as commands"))
            }
            None => with_director(&socket, |channel| {
                let words: &[&str] = if words.contains(&"-n") { &["-S", "-n"] } else { &["-S"] };
                self::tool(tool, channel, &mut io::empty(), words)
            }),
        },
        // Its words say nothing.
        Role::Restore(tool) => with_director(&socket, |channel| restore(tool, channel, io::stdin().lock())),
    }
}

/// What the name asks for. The other two speak as the tool without their suffix.
enum Role<'a> {
    Tool,
    Save(&'a str),
    Restore(&'a str),
}

fn role(program: &str) -> Role<'_> {
    match (program.strip_suffix("-save"), program.strip_suffix("-restore")) {
        (Some(tool), _) => Role::Save(tool),
        (None, Some(tool)) => Role::Restore(tool),
        (None, None) => Role::Tool,
    }
}

/// The director that the first words name, and the other words.
fn director_option(words: &[String]) -> Result<(Option<&str>, &[String]), &'static str> {
    let Some((first, rest)) = words.split_first() else { return Ok((None, words)) };
    if let Some(name) = first.strip_prefix("--director=") {
        return Ok((Some(name), rest));
    }
    if first != "--director" {
        return Ok((None, words));
    }
    let (name, rest) = rest.split_first().ok_or("--director: missing argument")?;
    Ok((Some(name), rest))
}

fn tool(program: &str, channel: &mut dyn Channel, input: &mut dyn BufRead, words: &[&str]) -> u8 {
    let terminal = io::stdout().is_terminal();
    // As the C library does it: what goes to a person goes line by line, all else in pieces.
    let mut out = BufWriter::with_capacity(if terminal { 0 } else { PIECE }, Printed);
    let mut errors = io::stderr().lock();
    let mut session = Session {
        program,
        names: &System,
        channel,
        input,
        out: &mut out,
        errors: &mut errors,
        more_help: MORE_HELP,
    };
    let status = session.run(words);
    // A write that failed has been said already.
    if status == 0 {
        lvs_support::note(out.flush());
    }
    status
}

/// Standard output, of which a reader who has left ends the tool.
struct Printed;

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stdout().write(bytes);
        // Other errors are said by whoever writes.
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            lvs_support::note(Err(io::ErrorKind::BrokenPipe.into()));
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// Everything goes, then the lines that are no comments are carried out.
fn restore(program: &str, channel: &mut dyn Channel, mut input: impl Read) -> u8 {
    let mut bytes = Vec::new();
    // What can be read is what there is, as for a pipe that breaks.
    drop(input.read_to_end(&mut bytes));
    let lines = bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| !line.starts_with(b"#"));
    let lines = lines.collect::<Vec<_>>().concat();
    // Whatever becomes of it: the lines may still be carried out.
    _ = tool(program, channel, &mut io::empty(), &["-C"]);
    tool(program, channel, &mut BufReader::new(&lines[..]), &["-R"])
}

fn usage(text: &str) -> u8 {
    eprintln!("{text}");
    1
}

fn with_director(socket: &Path, work: impl FnOnce(&mut dyn Channel) -> u8) -> u8 {
    match Client::connect(socket) {
        Ok(mut client) => work(&mut client),
        Err(error) => {
            drop(writeln!(io::stderr(), "{}", Unreachable { socket, error: &error }));
            UNREACHABLE
        }
    }
}

/// There is no director: ipvsadm's words for a kernel without IPVS, and what can be done.
struct Unreachable<'a> {
    socket: &'a Path,
    error: &'a io::Error,
}

impl fmt::Display for Unreachable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = self.error.kind() == io::ErrorKind::PermissionDenied;
        // The C library's words, without the number that is appended here.
        let why = self.error.to_string();
        let why = why.split(" (os error").next().unwrap_or_default();
        writeln!(f, "{}", cannot_initialize(if refused { NOT_ROOT } else { why }))?;
        let socket = self.socket.display();
        if refused {
            return write!(
                f,
                "It is not allowed: the director at {socket} obeys the superuser and the user that it runs as"
            );
        }
        write!(
            f,
            "No director answers at {socket}: start one (director run), or say which one (--director or \
             {DIRECTOR_VARIABLE})"
        )
    }
}

/// What `-h` says after ipvsadm's own options.
const MORE_HELP: &str = "
Beyond ipvsadm
      --drain SERVICE -r SERVER    no new connections, until none is left [--deadline SECONDS] [--no-wait]
      --undrain SERVICE -r SERVER  new connections again
      --drains                     what is being drained

Which director: --director NAME|PATH before the command, or else the variable LVS_DIRECTOR, or else `default'.
";
/// Bytes that are written at once.
const PIECE: usize = 4_096;
/// The exit status for words that are none of ipvsadm's.
const MISUSED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_director_is_named_before_the_command() {
        let of = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            director_option(&words).map(|(name, rest)| (name.map(str::to_owned), rest.join(" ")))
        };
        assert_eq!(of("--director edge -Ln"), Ok((Some("edge".to_owned()), "-Ln".to_owned())));
        assert_eq!(of("--director=/run/x.sock"), Ok((Some("/run/x.sock".to_owned()), String::new())));
        assert_eq!(of("-Ln --director edge"), Ok((None, "-Ln --director edge".to_owned())));
        assert_eq!(of(""), Ok((None, String::new())));
        assert_eq!(of("--director"), Err("--director: missing argument"));
    }

    #[test]
    fn the_name_says_what_is_asked() {
        assert!(matches!(role("lvsadm"), Role::Tool));
        assert!(matches!(role("/sbin/ipvsadm-save"), Role::Save("/sbin/ipvsadm")));
        assert!(matches!(role("lvsadm-restore"), Role::Restore("lvsadm")));
    }

    #[test]
    fn without_a_director_the_words_are_those_for_a_kernel_without_ipvs() {
        let error = io::Error::from_raw_os_error(2);
        let text = Unreachable { socket: Path::new("/run/director/x.sock"), error: &error }.to_string();
        assert_eq!(
            text,
            "Can't initialize ipvs: No such file or directory\n\
             Are you sure that IP Virtual Server is built in the kernel or as module?\n\
             No director answers at /run/director/x.sock: start one (director run), or say which one \
             (--director or LVS_DIRECTOR)"
        );
        let error = io::Error::from_raw_os_error(13);
        let text = Unreachable { socket: Path::new("x"), error: &error }.to_string();
        assert_eq!(
            text,
            "Can't initialize ipvs: Permission denied (you must be root)\n\
             Are you sure that IP Virtual Server is built in the kernel or as module?\n\
             It is not allowed: the director at x obeys the superuser and the user that it runs as"
        );
    }
}
