//! What cannot be done is an error with words.

use crate::stage::{Stage, service, text};
use crate::support::{PROGRAM, Temporary};
use lvs_std::lab::Lab;
use lvs_std::lab::harness::Outcome;
use std::fs;
use std::process::Command;

/// What is done is said, or the status is another one than 0: with a full standard output, and with a closed one.
pub(crate) fn unprinted(lab: Lab) -> Outcome {
    let stage = Stage::new(lab, &service("rr", &[(1, 1), (2, 1)]))?;
    let commands = [
        "lvsadm -Ln",
        "lvsadm -Sn",
        "lvsadm -Lcn",
        "lvsadm -L --timeout",
        "lvsadm --help",
        "services",
        "statistics",
        "plan",
    ];
    for words in commands {
        let mut all = words.split_whitespace();
        let command = || {
            let mut command = Command::new(PROGRAM);
            let mut all = all.clone();
            command.args(all.next()).args(["--director", &stage.socket]).args(all);
            command
        };
        let full = fs::File::options().write(true).open("/dev/full")?;
        let output = command().stdout(full).output()?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{words} > /dev/full: {said}");
        assert!(said.contains("No space left"), "{words} > /dev/full: {said}");
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = command().stdout(writer).output()?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(signal, Some(13), "{words} | (nobody): {:?} {:?}", output.status, output.stderr);
        assert!(all.next().is_some());
    }
    let full = fs::File::options().write(true).open("/dev/full")?;
    let output = Command::new(PROGRAM).arg("--help").stdout(full).output()?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let file = fs::File::options().write(true).open("/dev/full")?;
    let output = Command::new(PROGRAM).args(["check", "/nowhere"]).stderr(file).output()?;
    assert_eq!(output.status.code(), Some(1), "no panic: {output:?}");
    // A table that this machine has no memory for.
    let big = text(&format!("[tuning]\nconnections = {}\n", 120_000_000));
    let file = Temporary::new(&big)?;
    let script = "ulimit -v 8000000; exec \"$0\" run --no-control --config \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, PROGRAM, &file.name()]);
    let output = stage.cluster.client.run(|| command.output())??;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("lower `connections`"), "{said}");
    Ok(())
}
