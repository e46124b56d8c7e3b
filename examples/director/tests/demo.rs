//! The demonstration as a user starts it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_director"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}\n{error}")
}

fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("director-test-{}-{name}", std::process::id()));
    std::fs::create_dir(&path).expect("a folder for temporary files");
    path
}

#[test]
fn every_method_over_both_families_answers_everything_by_weight() {
    let temporary = temporary("all");
    let output = demo(&["--requests", "30"]).env("TMPDIR", &temporary).output().expect("the program starts");
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for title in
        ["NAT over IPv4", "NAT over IPv6", "DR over IPv4", "DR over IPv6", "TUN over IPv4", "TUN over IPv6"]
    {
        assert!(text.contains(&format!("{title}  ok  30 of 30 right")), "{title}: {text}");
    }
    for method in ["NAT", "DR", "TUN"] {
        assert!(
            text.contains(&format!("{method} over IPv4, a server dies under load  ok\n")),
            "{method}: {text}"
        );
    }
    assert_eq!(text.matches("  rs2 was cut off: the director noticed after ").count(), 3, "{text}");
    assert_eq!(text.matches(" connections broke, all on rs2 and before that; ").count(), 3, "{text}");
    assert_eq!(text.matches(", first client served after ").count(), 3, "{text}");
    for line in text.lines().filter(|line| line.contains(" connections broke")) {
        let broken: usize = line.trim().split(' ').next().and_then(|count| count.parse().ok()).expect(line);
        assert!(broken > 0, "a server that dies under load takes connections with it: {line}");
    }
    assert_eq!(text.matches(" 50.0 %  50.0 %     15").count(), 6, "{text}");
    assert!(text.contains("All 180 requests were answered with the right bytes"), "{text}");
    assert!(text.is_ascii(), "without a terminal there are neither colours nor blocks: {text}");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    // Succeeds for an empty folder only.
    std::fs::remove_dir(&temporary).expect("nothing is left behind");
}

#[test]
fn zero_requests_are_refused() {
    let output = demo(&["--requests", "0"]).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("1..=1000000"), "{}", text(&output));
}

#[test]
fn a_kept_cluster_can_be_looked_into_until_it_is_interrupted() {
    let temporary = temporary("keep");
    let mut command = demo(&["--requests", "6", "--keep"]);
    let mut child =
        command.env("TMPDIR", &temporary).stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut nodes = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok) {
        if let Some((_, path)) = line.split_once(" -n") {
            nodes.push(std::fs::read_link(path).expect("the namespace is there"));
        }
        if line.starts_with("For example") {
            break;
        }
    }
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), 15, "three clusters of five nodes: {nodes:?}");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    std::fs::remove_dir(&temporary).expect("nothing is left behind");
}
