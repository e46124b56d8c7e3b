//! The recorded transcripts of ipvsadm, played with `lvsadm` and with the real `ipvsadm` against a running director.

mod compare;
mod ground;
mod lines;
mod odd;
mod packet;
mod script;
mod tool;
mod traffic;

use core::error::Error;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use lvs_std::lab::Lab;

use ground::{Ground, repository};
use script::{Difference, Ending, Transcript};
use tool::Tool;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(|name| name.to_str()) {
        Some("traffic") => return traffic::helper(),
        Some("cat") => return tool::cat(),
        Some(_) | None => {}
    }
    let mut arguments = Arguments::from_args();
    // Scripts, and namespaces above all, spend most of their time waiting.
    arguments.test_threads = arguments.test_threads.or(Some(AT_A_TIME));
    if !arguments.list
        && let Err(error) = ground::enter()
    {
        return ground::failed(&*error);
    }
    // Before any thread: a user namespace can only be entered by a process with one.
    let lab = Lab::new().map_err(Into::into);
    let ready = lab.and_then(|lab| {
        if arguments.list { Ok(lab) } else { ground::end_with_parent().map(|()| lab).map_err(Into::into) }
    });
    match ready.and_then(trials) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => ground::failed(&*error),
    }
}

const AT_A_TIME: usize = 12;

fn trials(lab: Lab) -> Result<Vec<Trial>, Box<dyn Error>> {
    let folder = repository().join("examples/conformance/ipvsadm");
    let transcripts = Transcript::load(&folder.join("transcripts.txt"))?;
    let differences: Arc<[Difference]> = script::differences(&folder.join("deliberate.toml"))?.into();
    let grounds = Arc::new(Grounds { lab, free: Mutex::default(), made: AtomicUsize::new(0) });
    let mut trials = vec![Trial::test("what may differ is passed over, and nothing else", || {
        compare::check().map_err(Failed::from)
    })];
    if let Ok(real) = Tool::real() {
        let (grounds_of_odd, real_of_odd) = (grounds.clone(), real.clone());
        trials.push(Trial::test("both odd", move || odd(&grounds_of_odd, &real_of_odd)));
        for seed in 0..SCRIPTS {
            let (grounds, real) = (grounds.clone(), real.clone());
            trials.push(Trial::test(format!("both mistyped {seed:02}"), move || {
                mistyped(&grounds, &real, seed)
            }));
        }
    }
    for tool in [Ok(Tool::Own), Tool::real()] {
        let tool = match tool {
            Ok(tool) => tool,
            Err(why) => {
                trials.push(missing(why));
                continue;
            }
        };
        for transcript in &transcripts {
            let (grounds, differences) = (grounds.clone(), differences.clone());
            let (tool, transcript) = (tool.clone(), transcript.clone());
            trials.push(Trial::test(format!("{} {}", tool.name(), transcript.name), move || {
                let ending = grounds.with(|ground| ground.run(&transcript, &tool))?;
                let difference = compare::compare(&transcript.script, &transcript.expected, &ending);
                let deliberate =
                    differences.iter().find(|difference| difference.is_of(&transcript.name, tool.name()));
                match (difference, deliberate) {
                    (None, None) | (Some(_), Some(_)) => Ok(()),
                    (Some(difference), None) => Err(format!("{}\n{difference}", transcript.script).into()),
                    (None, Some(deliberate)) => {
                        Err(format!("it is no longer different: {}", deliberate.reason).into())
                    }
                }
            }));
        }
    }
    Ok(trials)
}

/// Lines of all kinds, to which `lvsadm` must say what the real ipvsadm says.
fn mistyped(grounds: &Grounds, real: &Tool, seed: u64) -> Result<(), Failed> {
    let script = lines::script(seed, LINES);
    let transcript = Transcript { script, ..Transcript::default() };
    let expected = grounds.with(|ground| ground.run(&transcript, real))?;
    let got = grounds.with(|ground| ground.run(&transcript, &Tool::Own))?;
    hold(&expected, &got)
}

/// Answers of all kinds, which `lvsadm` must show as the real ipvsadm does.
fn odd(grounds: &Grounds, real: &Tool) -> Result<(), Failed> {
    let expected = grounds.with(|ground| ground.run_against(odd::Odd, odd::script(), real))?;
    let got = grounds.with(|ground| ground.run_against(odd::Odd, odd::script(), &Tool::Own))?;
    hold(&expected, &got)
}

fn hold(expected: &Ending, got: &Ending) -> Result<(), Failed> {
    let (mut one, mut other) = (calls(&expected.out), calls(&got.out));
    let differ = one.by_ref().zip(other.by_ref()).find(|(one, other)| one != other);
    match differ {
        None if expected.errors == got.errors && expected.out.len() == got.out.len() => Ok(()),
        None => Err(format!("errors:\n{}\n{}", expected.errors, got.errors).into()),
        Some((one, other)) => Err(format!("ipvsadm:\n{one}\nlvsadm:\n{other}").into()),
    }
}

/// What each call of a script said.
fn calls(out: &str) -> impl Iterator<Item = &str> {
    out.split("== ")
}

/// How many scripts of mistyped lines, and how many lines in each.
const SCRIPTS: u64 = 24;
const LINES: usize = 80;

/// A tool that is not there must not go unnoticed.
fn missing(why: String) -> Trial {
    let required = std::env::var_os("LVS_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    if required {
        return Trial::test("the real ipvsadm", move || Err(Failed::from(why)));
    }
    eprintln!("\nSKIPPED: all transcripts with the real ipvsadm: {why}\n");
    Trial::test("the real ipvsadm (SKIPPED)", || Ok(())).with_ignored_flag(true)
}

/// Grounds that are used again, as many as there are scripts at a time.
struct Grounds {
    lab: Lab,
    free: Mutex<Vec<Ground>>,
    made: AtomicUsize,
}

impl Grounds {
    fn with<R>(&self, work: impl FnOnce(&mut Ground) -> Result<R, Box<dyn Error>>) -> Result<R, Failed> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let ground = match free {
            Some(ground) => Ok(ground),
            None => Ground::new(self.lab, self.made.fetch_add(1, Ordering::Relaxed)),
        };
        let mut ground = ground.map_err(|error| error.to_string())?;
        // After a failure its state is unknown, and it is not used again.
        let result = work(&mut ground).map_err(|error| error.to_string())?;
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(ground);
        Ok(result)
    }
}
