//! `director top`: a running director, watched in a terminal.
//!
//! ```text
//! thread "watch": asks once a second --> Model (rows, rates, keys) --> view
//! ```

mod meter;
mod model;
mod view;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::env;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use lvs_std::control::api::{OverviewRow, Request, Response, ask};
use lvs_support::eprintln;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::control::Target;
use model::{Action, Model, Wish};

/// `director top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = pause)]
    interval: f64,
    /// No colours; the variable `NO_COLOR` does the same
    #[arg(long)]
    no_color: bool,
}

/// Shows a running director until `q`. Status 2 when none answers at the beginning.
pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        eprintln!("error: `director top` needs a terminal; `director stats` prints the same numbers once");
        return ExitCode::FAILURE;
    }
    let socket = arguments.target.json_socket();
    let first = match look(&socket) {
        Ok(first) => first,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(crate::control::UNREACHABLE);
        }
    };
    let colours = !arguments.no_color && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match show(socket, first, Duration::from_secs_f64(arguments.interval), colours) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the terminal cannot be used: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Watches until somebody quits. The terminal is then as it was before, also after a panic.
fn show(socket: PathBuf, first: OverviewRow, interval: Duration, colours: bool) -> io::Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, over.clone())?;
    }
    let (wishes, answers) = watch(socket, interval)?;
    let mut model = Model::new(first);
    let mut terminal = ratatui::try_init()?;
    let ended = run(&mut terminal, &mut model, (&wishes, &answers), (&over, colours));
    ratatui::try_restore()?;
    ended
}

fn run(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    (wishes, answers): (&Sender<Action>, &Receiver<Told>),
    (over, colours): (&AtomicBool, bool),
) -> io::Result<()> {
    while !over.load(Ordering::Relaxed) {
        terminal.draw(|frame| view::draw(frame, model, colours))?;
        if event::poll(GLANCE)? {
            // A window that changes its size is drawn anew, like everything else.
            if let Event::Key(key) = event::read()? {
                match model.press(key) {
                    Wish::Nothing => {}
                    Wish::Quit => return Ok(()),
                    // The thread ends with this function, not before.
                    Wish::Act(action) => drop(wishes.send(action)),
                }
            }
        }
        for told in answers.try_iter() {
            match told {
                Told::Overview(overview) => model.show(*overview),
                Told::Trouble(error) => model.trouble(error),
                Told::Done(what) => model.say(what),
            }
        }
    }
    Ok(())
}

/// What the director said.
enum Told {
    Overview(Box<OverviewRow>),
    /// The director does not answer, for this reason.
    Trouble(String),
    /// What became of a wish.
    Done(String),
}

/// Asks for an overview every so often and for what is wished, on a thread: a director that does not answer does not
/// keep the keys waiting.
fn watch(socket: PathBuf, interval: Duration) -> io::Result<(Sender<Action>, Receiver<Told>)> {
    let (wish, wishes) = channel::<Action>();
    let (tell, told) = channel();
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        let mut next = Instant::now();
        loop {
            let said = match wishes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(action) => {
                    // What it did is seen at once.
                    next = Instant::now();
                    Told::Done(act(&socket, action))
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    next = Instant::now() + interval;
                    look(&socket).map_or_else(Told::Trouble, |of| Told::Overview(Box::new(of)))
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            };
            if tell.send(said).is_err() {
                return;
            }
        }
    })?;
    Ok((wish, told))
}

/// What the director shows now.
fn look(socket: &Path) -> Result<OverviewRow, String> {
    match ask(socket, &Request::Overview) {
        Ok(Response { error: None, result, .. }) => serde_json::from_value(result)
            .map_err(|error| format!("the answer makes no sense, is the director of this version? {error}")),
        Ok(Response { error: Some(error), .. }) => Err(error),
        Err(error) => Err(format!("no director answers at {}: {error}", socket.display())),
    }
}

/// Has the director do something, and says what became of it.
fn act(socket: &Path, action: Action) -> String {
    let (done, request) = match action {
        Action::Drain((service, server)) => {
            (format!("{server} is being drained"), Request::Drain { service, server, deadline: None })
        }
        Action::Undrain((service, server)) => {
            (format!("{server} is used again"), Request::Undrain { service, server })
        }
    };
    match ask(socket, &request) {
        Ok(Response { error: None, .. }) => done,
        Ok(Response { error: Some(error), .. }) => format!("refused: {error}"),
        Err(error) => format!("no answer: {error}"),
    }
}

fn pause(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "this is no number of seconds".to_owned())?;
    if (0.1..=3_600.0).contains(&seconds) { Ok(seconds) } else { Err("from 0.1 to 3600".to_owned()) }
}

/// How often it is looked for signals and answers while no key is pressed.
const GLANCE: Duration = Duration::from_millis(50);
