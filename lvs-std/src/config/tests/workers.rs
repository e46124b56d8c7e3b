//! How many workers there are, where they run, and how clients are told apart.

use super::*;

fn workers(lines: &str, rest: &str) -> Result<Workers, String> {
    let text = format!("[director]\n{lines}\n{}{rest}", with_server("method = \"nat\"\n"));
    Configuration::parse(&text).map(|of| of.workers).map_err(|error| error.to_string())
}

#[test]
fn clients_are_told_apart_as_the_services_need_it_unless_the_file_says_how() {
    use crate::steering::By;
    let by = |lines: &str, rest: &str| workers(&format!("workers = 2\n{lines}"), rest).map(|work| work.by);
    let persistent = "[service.persistence]\ntimeout = 60\nmask = 24\n";
    let network = By::Address { v4: [255, 255, 255, 0].into(), v6: 128 };
    assert_eq!(by("", ""), Ok(By::Endpoint));
    assert_eq!(by("steer = \"address\"", ""), Ok(By::ADDRESS));
    assert_eq!(by("", persistent), Ok(network));
    assert_eq!(by("steer-v4 = 16", persistent), Ok(By::Address { v4: [255, 255, 0, 0].into(), v6: 128 }));
    let none = format!("{HEAD}[director]\nworkers = 2\n");
    assert_eq!(Configuration::parse(&none).unwrap().workers.by, By::ADDRESS, "nobody knows what will come");
    let refused = by("steer = \"endpoint\"", persistent).unwrap_err();
    assert!(refused.starts_with("15:11: persistence over several workers needs"), "{refused}");
    assert!(by("steer-v4 = 28", persistent).unwrap_err().contains("more bits"));
    assert!(by("steer = \"endpoint\"\nsteer-v4 = 24", "").unwrap_err().starts_with("4:12: "));
    let call = "[service.persistence]\ntimeout = 60\nengine = \"sip\"\n";
    let udp = |lines: &str| {
        let service = SERVICE.replace("tcp", "udp");
        let text = format!("[director]\n{lines}\n{HEAD}{service}{SERVER}method = \"nat\"\n{call}");
        Configuration::parse(&text).map_err(|error| error.to_string())
    };
    assert!(udp("workers = 1").is_ok());
    assert!(udp("workers = 2").unwrap_err().contains("persistence by call needs a director with one worker"));
}

#[test]
fn workers_have_processors_of_their_own_and_devices_that_can_be_shared() {
    let work = workers("workers = 2\ncpus = [3, 1]\nbusy-poll = true\noffload = false", "").unwrap();
    assert_eq!((work.count, work.cpus, work.busy_poll, work.offload), (2, vec![3, 1], true, false));
    let one = workers("", "").unwrap();
    assert_eq!((one.count, one.cpus.len(), one.busy_poll, one.offload), (1, 0, false, true));
    for (lines, rest, words) in [
        ("workers = 0", "", "2:11: workers 0 is out of range; expected 1 to 64"),
        ("workers = 2\ncpus = [1]", "", "3:8: 1 processors for 2 workers"),
        ("workers = 2\ncpus = [1, 1]", "", "3:12: cpu 1 is there twice"),
        ("cpus = [1024]", "", "2:9: cpu 1024 is out of range"),
        ("workers = 2", "[tuning]\ncapture-marked = true\n", "what is captured by its mark"),
        ("local-clients = true\nworkers = 2", "", "2:17: local-clients takes one worker, and there are 2"),
        ("workers = 2\nsteer = \"source\"", "", "unknown value `source`"),
    ] {
        let refused = workers(lines, rest).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
    let xdp = HEAD.replace("name =", "device = \"xdp\"\nname =");
    let auto = HEAD.replace("name =", "device = \"auto\"\nname =");
    for file in [xdp, auto] {
        assert!(Configuration::parse(&format!("[director]\nworkers = 2\n{file}")).is_ok());
    }
}

#[test]
fn programs_of_the_machine_are_clients_if_the_file_says_so() {
    let read = |lines: &str| Configuration::parse(&format!("{HEAD}[director]\n{lines}\n")).unwrap();
    let (usual, with) = (read(""), read("local-clients = true"));
    assert!(!usual.local_clients && with.local_clients);
    assert_eq!(usual.needs_restart_for(&with), ["local-clients"]);
    assert!(with.describe().contains("programs of this machine are clients too"), "{}", with.describe());
}

#[test]
fn several_workers_have_room_for_all_connections_and_an_eighth() {
    let each = |workers: usize, connections: u32| {
        let text = format!("[director]\nworkers = {workers}\n{HEAD}[tuning]\nconnections = {connections}\n");
        Configuration::parse(&text).unwrap().connections_each()
    };
    assert_eq!((each(1, 1_000), each(2, 1_000), each(3, 1)), (1_000, 563, 1));
}

#[test]
fn a_file_says_when_commands_are_acknowledged_and_which_group_may_give_them() {
    use crate::control::Durability;
    let read = |lines: &str| Configuration::parse(&format!("{HEAD}[director]\n{lines}\n"));
    let usual = read("").unwrap();
    assert_eq!((usual.durability, usual.control_group), (Durability::Process, None));
    let other = read("durable = \"power\"\ncontrol-group = 998").unwrap();
    assert_eq!((other.durability, other.control_group), (Durability::Power, Some(998)));
    assert!(other.describe().contains("acknowledged when the disk has it"), "{}", other.describe());
    assert_eq!(usual.needs_restart_for(&other), ["control-group"]);
    let error = read("control-group = 4294967295").unwrap_err().to_string();
    assert!(error.contains("control-group 4294967295 is out of range"), "{error}");
    assert!(read("durable = \"disk\"").is_err());
}

#[test]
fn a_file_says_how_fast_a_process_may_give_commands() {
    let read = |lines: &str| Configuration::parse(&format!("{HEAD}[director]\n{lines}\n"));
    let usual = read("").unwrap();
    assert_eq!(usual.control_rate, Some(10_000));
    assert!(!usual.describe().contains("commands a second"));
    let slow = read("control-rate = 50").unwrap();
    assert!(slow.describe().contains("a process may give 50 commands a second"), "{}", slow.describe());
    assert_eq!(usual.needs_restart_for(&slow), ["control-rate"]);
    assert_eq!(read("control-rate = 0").unwrap().control_rate, None);
    assert!(read("control-rate = 1000001").unwrap_err().to_string().contains("out of range"));
}
