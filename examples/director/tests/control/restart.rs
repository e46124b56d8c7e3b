//! A director that was killed, and a second one that is started beside it.

use crate::stage::{Stage, eventually, is_alive, service, start};
use crate::support::PROGRAM;
use core::error::Error;
use core::time::Duration;
use lvs_std::lab::Lab;
use lvs_std::lab::harness::Outcome;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

pub(crate) fn restart(lab: Lab) -> Outcome {
    let mut stage = Stage::new(lab, &service("rr", &[(1, 1), (2, 1)]))?;
    stage.run("lvsadm -a -t 192.0.2.100:80 -r 10.0.1.13:80 -m -w 9 -x 100 -y 50")?;
    stage.run("lvsadm -d -t 192.0.2.100:80 -r 10.0.1.11:80")?;
    stage.run("lvsadm -A -f 7 -s sh -b sh-port -p 100")?;
    stage.run("lvsadm --set 800 100 200")?;
    stage.run("lvsadm --drain -t 192.0.2.100:80 -r 10.0.1.12:80 --deadline 300 --no-wait")?;
    stage.run("lvsadm --start-daemon backup --mcast-interface eth0 --syncid 9")?;
    let all = |stage: &Stage| -> Result<_, Box<dyn Error>> {
        let timeouts = stage.run("lvsadm -L --timeout")?;
        Ok((stage.run("lvsadm -Ln --thresholds")?, timeouts, stage.run("lvsadm -L --daemon")?))
    };
    let before = all(&stage)?;
    assert!(before.2.contains("syncid=9"), "{before:?}");
    stage.director.signal(Signal::KILL)?;
    std::thread::sleep(Duration::from_millis(200));
    stage.director = start(&stage.cluster.director, &stage.file, &stage.socket)?;
    assert_eq!(all(&stage)?, before);
    assert!(stage.run("services")?.contains("10.0.1.12:80"));
    let drained = stage.table()?.iter().any(|line| line.starts_with("-> 10.0.1.12:80 Masq 0 "));
    assert!(drained, "it is drained as before: {:?}", stage.table()?);
    stage.run("lvsadm --undrain -t 192.0.2.100:80 -r 10.0.1.12:80")?;
    let names: Vec<String> = (0..4).map(|_| stage.connect().unwrap().1).collect();
    assert!(names.iter().all(|name| name != "rs1") && names.contains(&"rs3".to_owned()), "{names:?}");
    // A file that was edited meanwhile is applied on top.
    stage.director.signal(Signal::KILL)?;
    stage.write(&service("wrr", &[(1, 1), (2, 1)]))?;
    std::thread::sleep(Duration::from_millis(200));
    stage.director = start(&stage.cluster.director, &stage.file, &stage.socket)?;
    let table = stage.table()?;
    assert!(
        table[0].ends_with("wrr") && table.iter().any(|line| line.contains("10.0.1.13:80 Masq 9")),
        "{table:?}"
    );
    // Time-outs that a reload has set stay what it has set them to.
    stage.write(&format!("{}[timeouts]\nudp = 60\n", service("wrr", &[(1, 1), (2, 1)])))?;
    assert_eq!(stage.run("reload")?, "~ time-outs, switches or virtual addresses\n");
    let reloaded = stage.run("lvsadm -L --timeout")?;
    assert!(reloaded.trim_end().ends_with("60"), "{reloaded}");
    stage.director.signal(Signal::KILL)?;
    std::thread::sleep(Duration::from_millis(200));
    stage.director = start(&stage.cluster.director, &stage.file, &stage.socket)?;
    assert_eq!(stage.run("lvsadm -L --timeout")?, reloaded);
    Ok(())
}

/// Whatever a second start shares with the first director, it ends before it has touched anything.
pub(crate) fn second_start(lab: Lab) -> Outcome {
    let mut stage = Stage::new(lab, &service("rr", &[(1, 1), (2, 1)]))?;
    let (mut held, _) = stage.connect()?;
    let other = stage.file.beside("other");
    let files = ["", ".json", ".state"].map(|end| format!("{}{end}", stage.socket));
    let inodes =
        || files.each_ref().map(|file| fs::symlink_metadata(file).map(|file| file.ino()).unwrap_or(0));
    // Connections to the sockets that nobody accepts or reads: whether the first one lives must not depend on them.
    let raw = || -> std::io::Result<_> {
        let (family, flags) = (AddressFamily::UNIX, SocketFlags::NONBLOCK);
        let socket = rustix::net::socket_with(family, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&stage.socket)?)?;
        Ok(socket)
    };
    let _crowd: Vec<_> = (0..60).map_while(|_| raw().ok()).collect();
    let state = format!("{}.state", stage.socket);
    let mut added = 0;
    for (shares, arguments) in [
        ("everything", vec!["--control", &stage.socket]),
        ("the socket", vec!["--control", &stage.socket, "--no-state"]),
        ("the state", vec!["--control", &other, "--state", &state]),
        ("the interface", vec!["--control", &other, "--no-state"]),
        ("the interface, without control", vec!["--no-control"]),
    ] {
        let before = (inodes(), fs::read(&state)?);
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--config", &stage.file.name()]).args(&arguments);
        let output = stage.cluster.director.run(|| command.output())??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{shares}: {said}");
        assert!(said.contains("is in use by another director (process "), "{shares}: {said}");
        assert_eq!((inodes(), fs::read(&state)?), before, "{shares}");
        assert!(is_alive(&mut held), "{shares}: what was open stays");
        stage.connect()?;
        added += 1;
        stage.run(&format!("lvsadm -A -u 192.0.2.100:{added} -s rr"))?;
    }
    drop(_crowd);
    let table = stage.table()?;
    assert_eq!(table.len(), 3 + added, "{table:?}");
    stage.director.signal(Signal::KILL)?;
    std::thread::sleep(Duration::from_millis(200));
    stage.director = start(&stage.cluster.director, &stage.file, &stage.socket)?;
    assert_eq!(stage.table()?.len(), 3 + added, "no command was lost");
    Ok(())
}

/// What a check has started ends with the director, however that ends.
pub(crate) fn programs_of_checks(lab: Lab) -> Outcome {
    let noted = std::env::temp_dir().join(format!("director-test-{}-check", std::process::id()));
    let note = noted.display();
    // It ignores what a program may ignore, and so does its child.
    let script =
        format!("trap '' TERM HUP INT; echo $$ > {note}.new; mv {note}.new {note}; sleep 600 & wait");
    let check = format!(
        "check = {{ type = \"program\", command = [\"sh\", \"-c\", \"{script}\"], interval = \"90s\", \
         timeout = \"80s\" }}\n"
    );
    let services = service("rr", &[(1, 1)]).replacen("scheduler", &format!("{check}scheduler"), 1);
    let mut stage = Stage::new(lab, &services)?;
    for signal in [Signal::KILL, Signal::TERM] {
        eventually("the check runs", || Ok(noted.exists()))?;
        let group = fs::read_to_string(&noted)?.trim().to_owned();
        fs::remove_file(&noted)?;
        eventually("it has a child", || Ok(members(&group)? == 2))?;
        let mut descriptors = fs::read_dir(format!("/proc/{group}/fd"))?
            .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
            .collect::<Result<Vec<String>, std::io::Error>>()?;
        descriptors.sort();
        assert_eq!(descriptors, ["0", "1", "2"], "it has none of the director's descriptors");
        stage.director.signal(signal)?;
        eventually("both have ended", || Ok(members(&group)? == 0))?;
        if signal == Signal::KILL {
            std::thread::sleep(Duration::from_millis(200));
            stage.director = start(&stage.cluster.director, &stage.file, &stage.socket)?;
        }
    }
    Ok(())
}

/// How many processes a group has. Who is dead and not asked for yet does not count.
fn members(group: &str) -> Result<usize, Box<dyn Error>> {
    let is_member = |process: &fs::DirEntry| {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let mut words = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        words.next().is_some_and(|state| state != "Z") && words.nth(1) == Some(group)
    };
    Ok(fs::read_dir("/proc")?.flatten().filter(is_member).count())
}
