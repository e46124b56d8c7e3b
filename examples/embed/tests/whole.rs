//! The program with the whole director, on an interface of its own.

use std::process::{Command, ExitCode};

use lvs_std::lab::Lab;
use lvs_std::lab::harness::{self, Outcome};

fn main() -> ExitCode {
    harness::run(None, |lab| {
        harness::named(lab, [("a text becomes a director that reloads, drains, explains and ends", whole)])
    })
}

fn whole(lab: Lab) -> Outcome {
    let (director, network) = (lab.node("director")?, lab.node("network")?);
    lab.connect((&director, "eth0"), (&network, "eth0"))?;
    let output = director.run(|| Command::new(env!("CARGO_BIN_EXE_whole")).output())??;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"+ TCP 10.0.1.100:80  10.0.1.13:80  dr weight 1"), "{text}");
    let moved = lines.get(1).and_then(|line| line.strip_prefix("  TCP 10.0.1.100:80: ")).unwrap_or_default();
    let share: f64 = moved.split(' ').next().unwrap_or_default().parse()?;
    assert!((30.0..45.0).contains(&share), "a third of the clients, and few others: {text}");
    for part in [
        "Drained { service: \"TCP 10.0.1.100:80\", server: 10.0.1.12:80",
        "10.0.1.100 is an address of the director",
        "10.0.1.12:80  weight 0, 0 active and 0 inactive connections: no new connections: it is drained",
        "mh sends this client to 10.0.1.1",
        "0 opened, 0 expired",
        "TCP 10.0.1.100:80, mh",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    Ok(())
}
