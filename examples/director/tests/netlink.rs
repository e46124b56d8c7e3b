//! Recorded exchanges of ipvsadm and keepalived with the kernel's generic netlink family `IPVS` (Linux 6.1.192), and
//! requests made by hand with the kernel's answers: a director's controller must answer to the byte.
//!
//! Not compared: the family's number, sequence and port ids, the order of services and servers in dumps.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use lvs_core::config::Capacity;
use lvs_core::{Config, Director, Heap, Seed};
use lvs_forward::host::{Host, Port};
use lvs_forward::{Forwarder, Options};
use lvs_std::control::{
    Answer, Command, CommandHandler, Controller, DaemonSpec, Daemons, Errno, Local, Role, Session,
};
use lvs_std::ipvsadm::{self, Channel, ChannelError, System};

type TestController = Controller<Heap, Local<Heap>>;

#[derive(serde::Deserialize)]
struct Recording {
    #[serde(default)]
    before: Vec<String>,
    messages: Vec<Message>,
}

#[derive(serde::Deserialize)]
struct Probe {
    cmd: String,
    messages: Vec<Message>,
}

#[derive(serde::Deserialize)]
struct Message {
    dir: String,
    hex: String,
    #[serde(default)]
    sock: u32,
}

/// Daemons of the interfaces that the recorded director had.
struct Recorded;

impl Daemons for Recorded {
    fn start(&mut self, spec: &DaemonSpec) -> Result<DaemonSpec, Errno> {
        if !["lo", "eth0", "eth1"].contains(&spec.interface.as_str()) {
            return Err(Errno::NoDevice);
        }
        let mut spec = spec.clone();
        let group = *spec.group.get_or_insert_with(|| [224, 0, 0, 81].into());
        let mtu = if spec.interface == "lo" { u16::MAX } else { 1_500 };
        let headers = if group.is_ipv4() { 28 } else { 48 };
        let least = if spec.role == Role::Backup { 1_024 } else { 1 };
        spec.max_len =
            Some(spec.max_len.map_or(mtu - headers, |length| length.clamp(least, u16::MAX - headers)));
        spec.port.get_or_insert(8_848);
        spec.ttl.get_or_insert(1);
        Ok(spec)
    }

    fn stop(&mut self, _: Role) {}
}

fn controller() -> TestController {
    let seed = Seed::from_bytes([7; 16]);
    let mut host: Host = Host::new(seed);
    for (port, prefixes) in
        [["10.0.0.254/24", "2001:db8::fe/64"], ["10.0.1.254/24", "2001:db8:1::fe/64"]].iter().enumerate()
    {
        let port = host
            .add_port(Port::ethernet(lvs_forward::host::MacAddress([2, 0, 0, 0, 0, port as u8]), 1_500))
            .unwrap();
        for prefix in prefixes {
            let (address, length) = prefix.split_once('/').unwrap();
            host.add_address(port, address.parse().unwrap(), length.parse().unwrap()).unwrap();
        }
    }
    let director = Director::new(Config::new(seed), Heap::new(Capacity::new(4_096)));
    Controller::new(Local::new(director, Box::new(Forwarder::new(host, Options::new()))), Box::new(Recorded))
}

/// The controller as lvsadm reaches it.
struct Direct<'a>(&'a mut TestController);

impl Channel for Direct<'_> {
    fn call(&mut self, command: &Command) -> Result<Answer, ChannelError> {
        self.0.handle(command).map_err(ChannelError::Refused)
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, ChannelError> {
        self.0.read_file(path).map_err(ChannelError::Refused)
    }
}

fn ipvsadm(controller: &mut TestController, line: &str) -> u8 {
    let Some(words) = line.strip_prefix("ipvsadm ") else { return 0 };
    let words: Vec<&str> = words.split_whitespace().collect();
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    ipvsadm::Session {
        program: "ipvsadm",
        names: &System,
        channel: &mut Direct(controller),
        input: &mut std::io::empty(),
        out: &mut out,
        errors: &mut errors,
        more_help: "",
    }
    .run(&words)
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The messages of a datagram.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while bytes.len() >= 16 {
        let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
        messages.push(bytes[..length].to_vec());
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    messages
}

/// A request to the family's number of that boot becomes one to ours.
fn translated(mut datagram: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at + 16 <= datagram.len() {
        let length = u32::from_ne_bytes(datagram[at..at + 4].try_into().unwrap()) as usize;
        if matches!(datagram[at + 4], 0x20 | 0x21) {
            datagram[at + 4] = IPVS;
        }
        at += length.max(16).next_multiple_of(4);
    }
    datagram
}

/// A message without what differs from one exchange to the next.
fn masked(mut message: Vec<u8>) -> Vec<u8> {
    if matches!(message[4], 0x20 | 0x21 | IPVS) {
        message[4] = 0;
    }
    message[8..16].fill(0);
    match message[4] {
        // An error repeats the request.
        2 => {
            // Whether the request was repeated is seen by the length; two kernels flag it differently.
            message[6..8].fill(0);
            if message.len() >= 36 {
                if matches!(message[24], 0x20 | 0x21 | IPVS) {
                    message[24] = 0;
                }
                message[28..36].fill(0);
            }
        }
        // The family's number in its description.
        0x10 if message.len() > 40 => {
            let at = message.windows(4).position(|bytes| bytes == [6, 0, 1, 0]).unwrap();
            message[at + 4..at + 6].fill(0);
        }
        _ => {}
    }
    message
}

struct Player {
    controller: TestController,
    sessions: HashMap<u32, Session>,
    privileged: bool,
}

impl Player {
    /// Plays an exchange; what differs, in words.
    fn play(&mut self, messages: &[Message]) -> Option<String> {
        let sends = messages.iter().enumerate().filter(|(_, message)| message.dir == "send");
        for (at, sent) in sends {
            let later = messages[at + 1..].iter().filter(|message| message.sock == sent.sock);
            let answers: Vec<&Message> = later.clone().take_while(|message| message.dir == "recv").collect();
            let last = later.count() == answers.len();
            let mask = masked;
            let mut expected: Vec<Vec<u8>> =
                answers.iter().flat_map(|message| split(&bytes(&message.hex))).map(mask).collect();
            let privileged = self.privileged;
            let session = self.sessions.entry(sent.sock).or_insert_with(|| Session::new(privileged));
            let request = translated(bytes(&sent.hex));
            let answered = session.answer(&request, &mut self.controller);
            let mut got: Vec<Vec<u8>> =
                answered.iter().flat_map(|datagram| split(datagram)).map(mask).collect();
            // A client that has what it wants closes without reading the acknowledgement.
            if got.len() == expected.len() + 1 && last {
                got.pop();
            }
            // Buckets of the kernel's hash decide the order of services.
            if request[7] == 3 {
                expected.sort();
                got.sort();
            }
            if got != expected {
                return Some(format!("to {}\nexpected {}\ngot      {}", sent.hex, hex(&expected), hex(&got)));
            }
        }
        None
    }
}

fn hex(messages: &[Vec<u8>]) -> String {
    let one = |message: &Vec<u8>| message.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    messages.iter().map(one).collect::<Vec<_>>().join("\n         ")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/netlink")
}

#[test]
fn recorded_exchanges_are_answered_as_the_kernel_answered_them() {
    let mut wrong = Vec::new();
    let mut played = 0;
    let mut files: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if name.starts_with("900") || SKIPPED.iter().any(|(skipped, _)| name.starts_with(skipped)) {
            continue;
        }
        let recording: Recording = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let privileged = !name.contains("unprivileged");
        let mut player = Player { controller: controller(), sessions: HashMap::new(), privileged };
        for line in &recording.before {
            ipvsadm(&mut player.controller, line);
        }
        played += 1;
        if let Some(difference) = player.play(&recording.messages) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {played}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(played > 60, "{played}");
}

#[test]
fn requests_made_by_hand_are_answered_as_the_kernel_answered_them() {
    let probes: Vec<Probe> =
        serde_json::from_str(&fs::read_to_string(folder().join("900-raw-probes.json")).unwrap()).unwrap();
    let mut player = Player { controller: controller(), sessions: HashMap::new(), privileged: true };
    let mut wrong = Vec::new();
    for probe in &probes {
        if probe.cmd.starts_with("===") {
            player = Player { controller: controller(), sessions: HashMap::new(), privileged: true };
        }
        let difference = player.play(&probe.messages);
        if let Some(difference) = difference.filter(|_| !DIFFERENT.iter().any(|(cmd, _)| *cmd == probe.cmd)) {
            wrong.push(format!("{}: {difference}", probe.cmd));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), probes.len(), wrong.join("\n"));
    assert!(probes.len() > 170);
}

/// The number of the family here.
const IPVS: u8 = 0x1b;

/// Recordings that cannot be played, and why.
const SKIPPED: [(&str, &str); 4] = [
    ("053", "what it begins with is not all in its list of commands; 045 is the same error"),
    ("114", "lists services that are not all in its list of commands"),
    ("115", "as 114"),
    ("132", "the answers of a kernel without IPVS"),
];

/// Requests that are answered otherwise on purpose, and why.
const DIFFERENT: [(&str, &str); 3] = [
    ("getfamily by id", "asks for the number of that boot"),
    ("getfamily dump (first datagrams)", "lists the families of that kernel; here there is one"),
    ("getpolicy dump", "describes the kernel's attribute checks, which no client of IPVS asks for"),
];
