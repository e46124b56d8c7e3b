//! A director that is killed and started again while keepalived runs, which adds nothing anew by itself.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::path::PathBuf;
use std::thread;

use lvs_std::lab::Lab;
use lvs_std::lab::harness::Outcome;

use crate::cell::Cell;
use crate::recording::Recording;
use crate::servers::{Servers, Speech};

/// The table comes back with the director, and later changes arrive, also one that came up while it was away.
pub(crate) fn restart(lab: Lab) -> Outcome {
    let (host, outside) = (lab.node("host")?, lab.node("servers")?);
    lab.connect((&host, "eth0"), (&outside, "eth0"))?;
    host.add_address("eth0", Ipv4Addr::new(10, 5, 0, 254).into(), 24)?;
    for number in [1, 2] {
        outside.add_address("eth0", Ipv4Addr::new(10, 5, 0, number).into(), 24)?;
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conformance/keepalived/03-inhibit");
    let configuration = Recording::load(&folder)?.configuration;
    let cell = Cell::new(&host, "reconnect")?;
    // Removed rather than inhibited, and nobody listens to notes.
    let kept =
        |line: &&str| !line.contains("inhibit") && !line.contains("notify") && !line.contains("quorum");
    cell.write("keepalived.conf", &configuration.lines().filter(kept).collect::<Vec<_>>().join("\n"))?;
    cell.write("director.toml", "[[interface]]\nname = \"eth0\"\naddresses = [\"10.5.0.253/24\"]\n")?;
    cell.start_director(DIRECTOR)?;
    let mut servers = Servers::new(outside, Speech::Silent);
    servers.up(1)?;
    servers.up(2)?;
    cell.start_keepalived("")?;
    cell.wait_for_servers(&[FIRST, SECOND], CHECK)?;
    cell.wait("success", || cell.read("keepalived.log").matches("success").count() == 2)?;

    kill_director(&cell)?;
    cell.start_director(DIRECTOR)?;
    cell.wait_for_servers(&[FIRST, SECOND], Duration::ZERO)?;
    servers.down(1);
    cell.wait_for_servers(&[SECOND], CHECK)?;
    servers.up(1)?;
    cell.wait_for_servers(&[FIRST, SECOND], CHECK)?;

    kill_director(&cell)?;
    servers.down(2);
    cell.wait("failure", || cell.read("keepalived.log").contains("Removing service [10.5.0.2]"))?;
    // keepalived is waiting for its answer now.
    thread::sleep(Duration::from_secs(1));
    cell.start_director(DIRECTOR)?;
    cell.wait_for_servers(&[FIRST], CHECK)?;
    servers.up(2)?;
    cell.wait_for_servers(&[FIRST, SECOND], CHECK)?;
    let log = cell.read("keepalived.log");
    assert!(!log.contains("IPVS"), "keepalived has noticed something:\n{log}");
    Ok(())
}

fn kill_director(cell: &Cell) -> Outcome {
    cell.tell("kill -9 $director; wait $director; touch /run/kw/killed")?;
    cell.wait("end of the director", || cell.path("killed").exists())?;
    Ok(std::fs::remove_file(cell.path("killed"))?)
}

const DIRECTOR: &str = "--config /run/kw/director.toml --state /run/kw/state";
const FIRST: &str = "10.5.0.1:80";
const SECOND: &str = "10.5.0.2:80";
/// A check's interval and two more tries.
const CHECK: Duration = Duration::from_secs(4);
