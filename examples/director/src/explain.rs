//! `director explain`: what would become of a packet, and why.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lvs_std::control::api::{Explanation, Question, Request};
use lvs_std::device::pcap::{LinkType, Reader};
use lvs_std::filter::{SyntaxError, hex_of};
use lvs_support::{eprintln, print, println};

use crate::control::{Target, answer_makes_no_sense, put};

/// `director explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    target: Target,
    /// The packet: `'tcp 203.0.113.7:4242 > 192.168.40.120:80'`, a frame in hexadecimal digits, or the three words
    /// PROTOCOL CLIENT DESTINATION
    #[arg(required_unless_present = "pcap", conflicts_with = "pcap", num_args = 1..)]
    packet: Vec<String>,
    /// Explain each frame of a capture
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// The interface that it comes in by
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// The packet's firewall mark
    #[arg(long, default_value_t = 0)]
    mark: u32,
    /// Print the answer as JSON; of a capture, a line for each frame
    #[arg(long)]
    json: bool,
}

/// The status for what does not make sense, as clap's.
const USAGE: u8 = 2;

/// Says what would become of a packet, or of each frame of a capture.
pub(crate) fn explain(arguments: &ExplainArguments) -> ExitCode {
    if let Some(file) = &arguments.pcap {
        return of_capture(arguments, file);
    }
    let text = match arguments.packet.as_slice() {
        [protocol, client, destination] if !arguments.packet.iter().any(|word| word.contains('>')) => {
            format!("{protocol} {client} > {destination}")
        }
        words => words.join(" "),
    };
    match Question::read(&text, arguments.mark, arguments.interface.clone()) {
        Ok(question) => ask(arguments, question, false).err().unwrap_or(ExitCode::SUCCESS),
        Err(error) => makes_no_sense(&text, &error),
    }
}

/// Says where a text stops making sense, with a mark below the place.
pub(crate) fn makes_no_sense(text: &str, error: &SyntaxError) -> ExitCode {
    let before = text.get(..error.at).map_or(0, |before| before.chars().count());
    eprintln!("error: {error}\n  {text}\n  {}^", " ".repeat(before));
    ExitCode::from(USAGE)
}

fn ask(arguments: &ExplainArguments, question: Question, one_of_many: bool) -> Result<(), ExitCode> {
    let answer = put(&arguments.target, &Request::Explain(question))?;
    if arguments.json {
        // Of many a line each, for programs that read lines.
        if one_of_many {
            println!("{answer}");
        } else {
            println!("{answer:#}");
        }
        return Ok(());
    }
    match serde_json::from_value::<Explanation>(answer) {
        Ok(told) => print!("{told}"),
        Err(error) => return Err(answer_makes_no_sense(&error)),
    }
    Ok(())
}

fn of_capture(arguments: &ExplainArguments, path: &Path) -> ExitCode {
    let opened = File::open(path).and_then(|file| Reader::new(BufReader::new(file)));
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(error) => {
            eprintln!("error: {}: {error}", path.display());
            return ExitCode::from(USAGE);
        }
    };
    let ip = reader.link_type() == LinkType::Ip;
    let mut number = 0_u64;
    loop {
        let frame = match reader.next_frame() {
            Ok(None) => return ExitCode::SUCCESS,
            Ok(Some(record)) => hex_of(record.frame.bytes()),
            Err(error) => {
                eprintln!("error: {}, behind frame {number}: {error}", path.display());
                return ExitCode::from(USAGE);
            }
        };
        number += 1;
        if !arguments.json {
            println!("{}frame {number}", if number > 1 { "\n" } else { "" });
        }
        let interface = arguments.interface.clone();
        let question = Question::Frame { frame, ip, mark: arguments.mark, interface };
        if let Err(status) = ask(arguments, question, true) {
            return status;
        }
    }
}
