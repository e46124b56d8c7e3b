//! The recorded transcripts of ipvsadm, played with `lvsadm` and with the real `ipvsadm` against a running director.

mod compare;
mod ground;
mod lines;
mod odd;
mod packet;
mod script;
mod tool;
mod traffic;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use lvs_std::lab::Lab;
use lvs_std::lab::harness::{self, Outcome, REQUIRE_TOOLS, Trial, left_out, trial};

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
    // Scripts, and namespaces above all, spend most of their time waiting.
    harness::start(Some(AT_A_TIME), |arguments| {
        if arguments.list {
            return trials(Lab::new()?);
        }
        ground::enter()?;
        let lab = Lab::new()?;
        ground::end_with_parent()?;
        trials(lab)
    })
}

const AT_A_TIME: usize = 12;

fn trials(lab: Lab) -> Outcome<Vec<Trial>> {
    let folder = repository().join("examples/conformance/ipvsadm");
    let transcripts = Transcript::load(&folder.join("transcripts.txt"))?;
    let differences: Arc<[Difference]> = script::differences(&folder.join("deliberate.toml"))?.into();
    let grounds = Arc::new(Grounds { lab, free: Mutex::default(), made: AtomicUsize::new(0) });
    let mut trials =
        vec![trial("what may differ is passed over, and nothing else", || Ok(compare::check()?))];
    if let Ok(real) = Tool::real() {
        let (grounds_of_odd, real_of_odd) = (grounds.clone(), real.clone());
        trials.push(trial("both odd", move || odd(&grounds_of_odd, &real_of_odd)));
        for seed in 0..SCRIPTS {
            let (grounds, real) = (grounds.clone(), real.clone());
            trials.push(trial(format!("both mistyped {seed:02}"), move || mistyped(&grounds, &real, seed)));
        }
    }
    for tool in [Ok(Tool::Own), Tool::real()] {
        let tool = match tool {
            Ok(tool) => tool,
            Err(why) => {
                trials.push(left_out(REQUIRE_TOOLS, "the real ipvsadm", why));
                continue;
            }
        };
        for transcript in &transcripts {
            let (grounds, differences) = (grounds.clone(), differences.clone());
            let (tool, transcript) = (tool.clone(), transcript.clone());
            trials.push(trial(format!("{} {}", tool.name(), transcript.name), move || {
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
fn mistyped(grounds: &Grounds, real: &Tool, seed: u64) -> Outcome {
    let script = lines::script(seed, LINES);
    let transcript = Transcript { script, ..Transcript::default() };
    let expected = grounds.with(|ground| ground.run(&transcript, real))?;
    let got = grounds.with(|ground| ground.run(&transcript, &Tool::Own))?;
    hold(&expected, &got)
}

/// Answers of all kinds, which `lvsadm` must show as the real ipvsadm does.
fn odd(grounds: &Grounds, real: &Tool) -> Outcome {
    let expected = grounds.with(|ground| ground.run_against(odd::Odd, odd::script(), real))?;
    let got = grounds.with(|ground| ground.run_against(odd::Odd, odd::script(), &Tool::Own))?;
    hold(&expected, &got)
}

fn hold(expected: &Ending, got: &Ending) -> Outcome {
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

/// Grounds that are used again, as many as there are scripts at a time.
struct Grounds {
    lab: Lab,
    free: Mutex<Vec<Ground>>,
    made: AtomicUsize,
}

impl Grounds {
    fn with<R>(&self, work: impl FnOnce(&mut Ground) -> Outcome<R>) -> Outcome<R> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut ground = match free {
            Some(ground) => ground,
            None => Ground::new(self.lab, self.made.fetch_add(1, Ordering::Relaxed))?,
        };
        // After a failure its state is unknown, and it is not used again.
        let result = work(&mut ground)?;
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(ground);
        Ok(result)
    }
}
