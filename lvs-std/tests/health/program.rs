use core::time::Duration;
use std::time::Instant;

use lvs_std::health::{Doing, Event, Failure, Probe, Program, State};

use crate::servers::nobody;
use crate::{Checking, PATIENCE, SHORT, ask, ask_within, often};

fn shell(script: &str) -> Program {
    Program::new("sh".to_owned(), vec!["-c".to_owned(), script.to_owned()])
}

#[test]
fn an_exit_status_of_zero_is_good_and_others_are_not() {
    assert_eq!(ask(nobody(), shell("exit 0")), Ok(()));
    assert_eq!(ask(nobody(), shell("exit 3")), Err(Failure::Exit(3)));
    assert_eq!(ask(nobody(), shell("kill -KILL $$")), Err(Failure::Signal(9)));
}

#[test]
fn the_program_is_told_the_target() {
    let target = nobody();
    let script = format!("test $CHECK_ADDRESS:$CHECK_PORT = {target}");
    assert_eq!(ask(target, shell(&script)), Ok(()));
}

#[test]
fn the_program_has_a_few_variables_alone() {
    // Cargo sets many for its tests, and a shell some of its own.
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
    let names = "CHECK_ADDRESS|CHECK_PORT|PATH|LANG|TZ|PWD|OLDPWD|SHLVL|_";
    let script = format!("test -z \"$(env | grep -vE '^({names})=')\" && test -n \"$PATH\"");
    assert_eq!(ask(nobody(), shell(&script)), Ok(()));
}

#[test]
fn a_program_that_cannot_be_started_says_nothing_of_the_target() {
    let checking = Checking::start();
    let program = Program::new("/nowhere/check".to_owned(), Vec::new());
    let id = checking.probes().watch(Probe::new(nobody(), program.into(), often()));
    let event = checking.events.recv_timeout(PATIENCE).unwrap();
    let Event::Hindered { why, .. } = event else { panic!("{event:?}") };
    assert_eq!(why.to_string(), "cannot start the program: no such file or directory");
    assert_eq!(checking.probes().report(id).unwrap().state, State::Unknown);
    assert!(!checking.probes().is_ready());
}

#[test]
fn a_program_whose_time_is_up_is_ended_with_all_that_it_started() {
    let folder = std::env::temp_dir().join(format!("health-test-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let alive = folder.join("alive");
    // One that ends at SIGTERM, one that does not, each with a child of its own that does not.
    for (trap, slowest) in [("", Duration::from_secs(1)), ("trap '' TERM; ", Duration::from_secs(3))] {
        let file = alive.display();
        let script = format!("{trap}(trap '' TERM; while :; do touch {file}; sleep 0.02; done) & sleep 60");
        let began = Instant::now();
        let answer = ask_within(nobody(), shell(&script), SHORT);
        assert_eq!(answer, Err(Failure::TimedOut { doing: Doing::Program, after: SHORT }));
        assert!(began.elapsed() < slowest + SHORT, "{:?}", began.elapsed());
        std::thread::sleep(SHORT);
        let _ = std::fs::remove_file(&alive);
        std::thread::sleep(SHORT);
        assert!(!alive.exists(), "nothing of it goes on");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_program_that_runs_as_its_engine_ends_is_ended_too() {
    let folder = std::env::temp_dir().join(format!("health-test-end-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let alive = folder.join("alive");
    let checking = Checking::start();
    let script = format!("while :; do touch {}; sleep 0.02; done", alive.display());
    checking.probes().watch(Probe::new(nobody(), shell(&script).into(), often()));
    while !alive.exists() {
        std::thread::sleep(SHORT / 10);
    }
    drop(checking);
    std::thread::sleep(SHORT);
    let _ = std::fs::remove_file(&alive);
    std::thread::sleep(SHORT);
    assert!(!alive.exists(), "it does not go on");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_dynamic_program_advises_a_weight() {
    let folder = std::env::temp_dir().join(format!("health-test-dynamic-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("status");
    std::fs::write(&file, "9").unwrap();
    let mut program = shell(&format!("exit $(cat {})", file.display()));
    program.dynamic = true;
    let checking = Checking::start();
    checking.probes().watch(Probe::new(nobody(), program.into(), often()));
    for (status, expected) in [
        ("9", (State::Up, Some(7))),
        ("2", (State::Up, Some(0))),
        ("1", (State::Down, Some(0))),
        ("0", (State::Up, None)),
    ] {
        // Put in place at once: the program must not find it empty.
        std::fs::write(folder.join("new"), status).unwrap();
        std::fs::rename(folder.join("new"), &file).unwrap();
        let event = checking.events.recv_timeout(PATIENCE).unwrap();
        let Event::Changed { state, advice, .. } = event else { panic!("{event:?}") };
        assert_eq!((state, advice), expected, "{status}");
    }
    drop(checking);
    std::fs::remove_dir_all(&folder).unwrap();
}
