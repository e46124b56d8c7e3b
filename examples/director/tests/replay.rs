//! `director replay` as its users start it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lvs_conformance::{Action, Scenario};
use lvs_std::device::pcap::{LinkType, Reader, Writer};

#[test]
fn an_equal_scenario_ends_with_status_0() {
    let output = replay(&[scenario("nat-tcp").as_os_str().to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "1 equal, 0 different\n");
}

#[test]
fn a_difference_is_told_field_by_field_with_status_1() {
    let folder = Folder::new("difference");
    let file = scenario("nat-tcp").join("scenario.json");
    // The first frame that left, with another TTL.
    let changed = fs::read_to_string(file).unwrap().replacen("3f066ebac0000207", "3e066ebac0000207", 1);
    let file = folder.write("scenario.json", changed.as_bytes());
    let output = replay(&[&file]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert_eq!(said, "nat-tcp: step 2: frame: IPv4 TTL is 63 instead of 62\n0 equal, 1 different\n");
}

#[test]
fn a_missing_frame_and_a_wrong_table_are_told() {
    let folder = Folder::new("missing");
    let file = scenario("nat-tcp").join("scenario.json");
    let changed = fs::read_to_string(file).unwrap();
    let changed =
        changed.replacen("\"-a -t 10.99.0.1:80 -r 10.0.1.11:8080 -m\"", "\"-Z -t 10.99.0.9:80\"", 1);
    let file = folder.write("scenario.json", changed.as_bytes());
    let output = replay(&[&file]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    for expected in [
        "nat-tcp: step 1: `ipvsadm -Z -t 10.99.0.9:80` ends with status 255 instead of 0: ",
        "nat-tcp: step 12: service TCP 10.99.0.1:80: server 10.0.1.11:8080 is missing",
        "nat-tcp: step 12: connection TCP 192.0.2.7:40000 to 10.99.0.1:80 at 10.0.1.11:8080 \
         in state TIME_WAIT is missing",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_the_director_did_can_be_written_as_json() {
    let folder = Folder::new("json");
    let file = folder.path("result.json");
    let output = replay(&[scenario("nat-tcp").to_str().unwrap(), "--json", &file]);
    assert!(output.status.success(), "{output:?}");
    let result: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let steps = result["steps"].as_array().unwrap();
    assert_eq!(steps[0]["rc"], 0);
    assert_eq!((&steps[2]["i"], &steps[2]["out"][0]["port"]), (&2.into(), &"eth1".into()));
    assert_eq!(steps[12]["conns"][0]["state"], "TIME_WAIT");
}

#[test]
fn a_capture_gives_the_same_bytes_each_time() {
    let folder = Folder::new("capture");
    let config = folder.write("director.toml", CONFIGURATION.as_bytes());
    let (sent, expected) = frames("nat-tcp");
    let input = folder.capture("in.pcap", &sent);
    let mut written = Vec::new();
    for name in ["first.pcap", "second.pcap"] {
        let file = folder.path(name);
        let output = replay(&["--config", &config, "--in", &input, "--out", &file]);
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output.stdout).starts_with("10 frames read, 10 written\n"), "{output:?}");
        written.push(fs::read(file).unwrap());
    }
    assert_eq!(written[0], written[1]);
    assert_eq!(captured(&written[0]), expected);
}

#[test]
fn a_pcapng_capture_and_a_cooked_one_give_what_the_plain_one_gives() {
    let folder = Folder::new("formats");
    let config = folder.write("director.toml", CONFIGURATION.as_bytes());
    let (sent, expected) = frames("nat-tcp");
    let (ethernet, cooked, out) =
        (folder.path("in.pcapng"), folder.path("any.pcapng"), folder.path("out.pcap"));
    fs::write(&ethernet, pcapng(1, sent.iter().cloned())).unwrap();
    let output = replay(&["--config", &config, "--in", &ethernet, "--out", &out]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(captured(&fs::read(&out).unwrap()), expected);

    // Cooked: 16 bytes in place of the Ethernet header, and the director's own frames beside what it got.
    let cook = |frame: &Vec<u8>, by_itself: u8| {
        [&[0, by_itself, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0][..], &frame[12..]].concat()
    };
    let arp = [&[0; 12][..], &[8, 6], &[0; 28]].concat();
    let frames = sent.iter().map(|frame| cook(frame, 0)).chain([cook(&expected[0], 4), cook(&arp, 0)]);
    fs::write(&cooked, pcapng(113, frames)).unwrap();
    let output = replay(&["--config", &config, "--in", &cooked, "--out", &out]);
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("1 left out: the director itself sent them"), "{said}");
    assert!(said.contains("1 left out: no IP packets, in a cooked capture"), "{said}");
    let packets: Vec<_> = expected.iter().map(|frame| frame[14..].to_vec()).collect();
    assert_eq!(captured(&fs::read(&out).unwrap()), packets);

    // Cut inside the last frame.
    let whole = fs::read(&ethernet).unwrap();
    fs::write(&ethernet, &whole[..whole.len() - 10]).unwrap();
    let output = replay(&["--config", &config, "--in", &ethernet, "--out", &out]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("in.pcapng: the file was cut"), "{output:?}");
}

/// A pcapng file of one interface, its frames a millisecond apart.
fn pcapng(link: u32, frames: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut file = Vec::new();
    let mut block = |kind: u32, head: &[u32], bytes: &[u8]| {
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        let length = (12 + 4 * head.len() + bytes.len() + padding) as u32;
        let words = [kind, length].into_iter().chain(head.iter().copied());
        file.extend(words.flat_map(u32::to_le_bytes));
        file.extend([bytes, &[0; 3][..padding], &length.to_le_bytes()].concat());
    };
    block(0x0a0d_0d0a, &[0x1a2b_3c4d, 1, u32::MAX, u32::MAX], &[]);
    block(1, &[link, 0], &[]);
    for (number, frame) in (0..).zip(frames) {
        let micros = 1_700_000_000_000_000_u64 + 1_000 * number;
        let length = frame.len() as u32;
        block(6, &[0, (micros >> 32) as u32, micros as u32, length, length], &frame);
    }
    file
}

#[test]
fn a_capture_tells_the_addresses_that_a_configuration_leaves_open() {
    let folder = Folder::new("addresses");
    let without = CONFIGURATION.lines().filter(|line| !line.starts_with("mac")).collect::<Vec<_>>();
    let config = folder.write("director.toml", without.join("\n").as_bytes());
    let (mut sent, expected) = frames("nat-tcp");
    // What the director itself sent is in a capture, too.
    sent.insert(3, expected[0].clone());
    let (input, out) = (folder.capture("in.pcap", &sent), folder.path("out.pcap"));
    let output = replay(&["--config", &config, "--in", &input, "--out", &out]);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("1 left out: the director itself sent them"), "{output:?}");
    assert_eq!(captured(&fs::read(out).unwrap()), expected);
}

#[test]
fn a_server_that_the_capture_does_not_show_gets_an_address_that_is_told() {
    let folder = Folder::new("made-up");
    let config = folder.write("director.toml", CONFIGURATION.as_bytes());
    let (sent, _) = frames("nat-tcp");
    let (input, out) = (folder.capture("in.pcap", &sent[..1]), folder.path("out.pcap"));
    let output = replay(&["--config", &config, "--in", &input, "--out", &out]);
    let said = text(&output.stdout);
    assert!(said.contains("10.0.1.11 sent nothing: it is at 02:00:0a:00:01:0b for this replay"), "{said}");
    assert_eq!(captured(&fs::read(out).unwrap())[0][..6], [2, 0, 10, 0, 1, 11]);
}

#[test]
fn a_pause_of_years_takes_no_time() {
    let folder = Folder::new("pause");
    let config = folder.write("director.toml", CONFIGURATION.as_bytes());
    let (sent, _) = frames("nat-tcp");
    let began = std::time::Instant::now();
    for (number, pause) in [Duration::ZERO, Duration::from_secs(1_200), Duration::from_secs(1_700_000_000)]
        .into_iter()
        .enumerate()
    {
        let (input, out) = (folder.path(&format!("in{number}.pcap")), folder.path("out.pcap"));
        let mut writer = Writer::new(fs::File::create(&input).unwrap(), LinkType::Ethernet).unwrap();
        for time in [Duration::ZERO, Duration::from_secs(1) + pause] {
            writer.record(time, &sent[0]).unwrap();
        }
        drop(writer);
        let output = replay(&["--config", &config, "--in", &input, "--out", &out]);
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output.stdout).contains("2 frames read, 2 written"), "{output:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?} for a pause of 53 years", began.elapsed());
}

#[test]
fn what_cannot_be_played_is_said() {
    let folder = Folder::new("errors");
    let config = folder.write("director.toml", CONFIGURATION.as_bytes());
    let wrong = folder.write("wrong.toml", b"[[interfaces]]\n");
    let broken = folder.write("scenario.json", b"{\"name\": \"a\"}");
    let out = folder.path("out.pcap");
    for (arguments, expected) in [
        (vec!["--config", &config, "--in", &config, "--out", &out], "director.toml: no pcap or pcapng file"),
        (vec!["--config", &config, "--in", "/nowhere", "--out", &out], "/nowhere cannot be read"),
        (vec!["--config", &wrong, "--in", &config, "--out", &out], "wrong.toml"),
        (vec!["--config", &config, "--in", &config, "--out", &config], "cannot be written as well"),
        (vec![broken.as_str()], "scenario.json is no scenario: missing field"),
        (vec!["/nowhere"], "/nowhere cannot be read"),
    ] {
        let output = replay(&arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

/// What a scenario puts in, and what leaves.
fn frames(name: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let scenario = Scenario::load(&scenario(name)).unwrap();
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    for step in scenario.steps {
        if let Action::Frame { hex, out, .. } = step.action {
            sent.push(hex.0);
            expected.extend(out.into_iter().map(|out| out.hex.0));
        }
    }
    (sent, expected)
}

/// The frames of a capture.
fn captured(file: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(file).unwrap();
    let mut frames = Vec::new();
    while let Some(record) = reader.next_frame().unwrap() {
        assert!(record.time >= Duration::from_secs(1_700_000_000), "the time is the capture's");
        frames.push(record.frame.bytes().to_vec());
    }
    frames
}

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/scenarios").join(name)
}

fn replay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_director")).arg("replay").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("replay-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn capture(&self, name: &str, frames: &[Vec<u8>]) -> String {
        let file = fs::File::create(self.0.join(name)).unwrap();
        let mut writer = Writer::new(file, LinkType::Ethernet).unwrap();
        for (number, frame) in frames.iter().enumerate() {
            writer.record(Duration::from_millis(1_700_000_000_000 + 3 * number as u64), frame).unwrap();
        }
        self.path(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.0.join(name), bytes).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The director of the recordings, as far as this capture needs it.
const CONFIGURATION: &str = r#"
[[interface]]
name = "eth0"
mac = "02:00:00:00:00:01"
addresses = ["10.0.0.254/24"]
gateways = ["10.0.0.1"]

[[interface]]
name = "eth1"
mac = "02:00:00:00:01:01"
addresses = ["10.0.1.254/24"]

[[service]]
protocol = "tcp"
address = "10.99.0.1"
port = 80
scheduler = "rr"

[[service.server]]
address = "10.0.1.11"
port = 8080
method = "nat"
"#;
