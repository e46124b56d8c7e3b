//! FTP through NAT: what devices leave unfinished comes out as if they had not, and nothing is lost for want of room.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "other tests use more of it")]
mod lab;
#[expect(dead_code, reason = "other tests use more of it")]
mod oracle;
#[expect(dead_code, reason = "other tests use more of it")]
mod sample;

use core::net::SocketAddr;

use lvs_core::conn::{State, TcpState};
use lvs_core::{Family, Method, Scheduler, ServerConfig, ServiceConfig, ServiceKey, Tick};
use lvs_forward::alg::ftp::{Control, Controls};
use lvs_forward::{DropReason, Frame, HEADROOM, Merged, MergedKind, Offload, Options, Outcome, PortId};

use crate::lab::{INSIDE, Lab, OUTSIDE, ethernet, server, virtual_address};
use crate::sample::{Sample, SumState};

const NOW: Tick = Tick::from_millis(5_000);
const PASV: &[u8] = b"227 Entering Passive Mode (10,0,1,11,195,80).\r\n";

/// A control connection, from both ends.
struct Dialog {
    lab: Lab,
    client: SocketAddr,
    virt: SocketAddr,
    server: SocketAddr,
    sum: SumState,
    client_sequence: u32,
    server_sequence: u32,
}

impl Dialog {
    fn new(family: Family, sum: SumState) -> Self {
        let mut lab = Lab::new(Options::new());
        lab.forwarder.set_ftp(Controls::with_room(8));
        let virt = SocketAddr::new(virtual_address(0, family), 21);
        let server = SocketAddr::new(server(0, family).ip(), 21);
        let key = ServiceKey::tcp(virt.ip(), 21);
        lab.director.add_service(key, ServiceConfig::new(Scheduler::from_name("rr").unwrap())).unwrap();
        lab.director.add_server(key, ServerConfig::new(server, Method::Nat)).unwrap();
        let client = if family == Family::V4 { "192.0.2.7:40000" } else { "[2001:db8:c::7]:40000" };
        let client = client.parse().unwrap();
        let mut dialog =
            Self { lab, client, virt, server, sum, client_sequence: 1_000, server_sequence: 5_000 };
        dialog.client(0x02, b"");
        dialog.server(0x12, b"");
        dialog.client(0x10, b"");
        dialog
    }

    fn sample(&self, from: SocketAddr, to: SocketAddr, flags: u8, sequence: u32, payload: &[u8]) -> Sample {
        Sample { sequence, payload: payload.to_vec(), sum: self.sum, ..Sample::tcp(from, to, flags) }
    }

    /// The client says something; what the server gets.
    fn client(&mut self, flags: u8, payload: &[u8]) -> Vec<Vec<u8>> {
        let sample = self.sample(self.client, self.virt, flags, self.client_sequence, payload);
        self.client_sequence += payload.len() as u32 + u32::from(flags & 3 != 0);
        self.put(OUTSIDE, &sample, None)
    }

    /// The server says something; what the client gets.
    fn server(&mut self, flags: u8, payload: &[u8]) -> Vec<Vec<u8>> {
        self.server_merged(flags, payload, None)
    }

    fn server_merged(&mut self, flags: u8, payload: &[u8], merged: Option<u16>) -> Vec<Vec<u8>> {
        let sample = self.sample(self.server, self.client, flags, self.server_sequence, payload);
        self.server_sequence += payload.len() as u32 + u32::from(flags & 3 != 0);
        self.put(INSIDE, &sample, merged)
    }

    fn put(&mut self, port: u8, sample: &Sample, merged: Option<u16>) -> Vec<Vec<u8>> {
        let kind = if sample.family() == Family::V4 { MergedKind::TcpV4 } else { MergedKind::TcpV6 };
        let merged = merged.map(|segment| Merged { kind, segment, ecn: false });
        let offload = Offload { checksum: sample.checksum(14), merged };
        let (outcome, out) = self.lab.frame(NOW, port, &ethernet(port, 0, &sample.packet()), offload);
        assert_eq!(outcome, Outcome::Send);
        for (_, frame) in &out {
            oracle::check_ethernet(frame, oracle::Trust::Checksums);
        }
        out.into_iter().map(|(_, frame)| frame).collect()
    }

    fn tcp(frame: &[u8]) -> &[u8] {
        &frame[if frame[14] >> 4 == 4 { 34 } else { 54 }..]
    }

    fn sequence(frame: &[u8]) -> u32 {
        u32::from_be_bytes(Self::tcp(frame)[4..8].try_into().unwrap())
    }

    /// Behind the header with its four bytes of options.
    fn payload(frame: &[u8]) -> &[u8] {
        &Self::tcp(frame)[24..]
    }

    fn expected(&self) -> usize {
        let waits = |state| state == State::Tcp(TcpState::Listen);
        self.lab.director.connections(NOW).filter(|connection| waits(connection.state)).count()
    }
}

#[test]
fn unfinished_segments_come_out_as_finished_ones() {
    for family in [Family::V4, Family::V6] {
        let mut all = Vec::new();
        for sum in [SumState::Right, SumState::Partial] {
            let mut dialog = Dialog::new(family, sum);
            let mut got = Vec::new();
            if family == Family::V4 {
                got.extend(dialog.client(0x18, b"PASV\r\n"));
                got.extend(dialog.server(0x18, b"227 Here (10,0,1,11,9,9).\r\n"));
            }
            got.extend(dialog.client(0x18, b"EPSV\r\n"));
            got.extend(dialog.server(0x18, b"229 Here (|||50000|)\r\n"));
            got.extend(dialog.client(0x18, b"NOOP\r\n"));
            got.extend(dialog.server(0x18, b"200 ok\r\n"));
            assert_eq!(dialog.lab.forwarder.counters().unhelped, 0);
            all.push(got);
        }
        assert_eq!(all[0], all[1], "{family:?}");
    }
}

#[test]
fn a_merged_answer_grows_and_is_cut_into_segments_of_its_size() {
    let mut dialog = Dialog::new(Family::V4, SumState::Partial);
    dialog.client(0x18, b"PASV\r\n");
    let more: Vec<u8> = (0..60).collect();
    let answer = [b"227 (10,0,1,9,1,1)\r\n".as_slice(), &more].concat();
    // The server's address is another one than it says: nothing is expected.
    let out = dialog.server_merged(0x18, &answer, Some(40));
    assert_eq!(out.iter().flat_map(|frame| Dialog::payload(frame)).copied().collect::<Vec<u8>>(), answer);
    assert_eq!((dialog.expected(), dialog.lab.forwarder.counters().unhelped), (0, 1));

    dialog.client(0x18, b"PASV\r\n");
    let first = dialog.server_sequence;
    let answer = [b"227 (10,0,1,11,1,1)\r\n".as_slice(), &more].concat();
    let out = dialog.server_merged(0x18, &answer, Some(40));
    let grown = [b"227 (10,99,0,1,1,1)\r\n".as_slice(), &more].concat();
    assert_eq!(grown.len(), answer.len());
    assert_eq!(out.len(), 3);
    let mut sequence = first;
    let mut seen: Vec<u8> = Vec::new();
    for frame in &out {
        assert_eq!(Dialog::sequence(frame), sequence);
        assert!(Dialog::payload(frame).len() <= 40);
        seen.extend(Dialog::payload(frame));
        sequence += Dialog::payload(frame).len() as u32;
    }
    assert_eq!(seen, grown);
    assert_eq!(dialog.expected(), 1);
    // Written in full, the server's address is longer than the virtual one.
    dialog.client(0x18, b"PASV\r\n");
    let sequence = dialog.server_sequence;
    let out = dialog.server_merged(0x18, b"227 (010,000,001,011,001,002)\r\n200 and more\r\n", Some(20));
    let seen: Vec<u8> = out.iter().flat_map(|frame| Dialog::payload(frame)).copied().collect();
    assert_eq!(seen, b"227 (10,99,0,1,1,2)\r\n200 and more\r\n");
    assert_eq!(Dialog::sequence(&out[0]), sequence);
    let next = dialog.server(0x18, b"200 ok\r\n");
    assert_eq!(Dialog::sequence(&next[0]), sequence + seen.len() as u32);
}

#[test]
fn an_answer_grows_into_the_headroom() {
    let mut dialog = Dialog::new(Family::V4, SumState::Right);
    dialog.client(0x18, b"PASV\r\n");
    let answer = b"227 (10,0,1,11,9,9)\r\n";
    let sample = dialog.sample(dialog.server, dialog.client, 0x18, dialog.server_sequence, answer);
    for headroom in [0, HEADROOM] {
        let bytes = ethernet(INSIDE, 0, &sample.packet());
        // Not a byte behind the frame.
        let mut buffer = [vec![0; headroom], bytes.clone()].concat();
        let end = buffer.len();
        let mut frame = Frame::new(&mut buffer, headroom, end, PortId(INSIDE)).unwrap();
        let lab = &mut dialog.lab;
        assert_eq!(lab.forwarder.process(&mut lab.director, NOW, &mut frame), Outcome::Send);
        let expected: &[u8] = if headroom == 0 {
            // The same length: no room is needed.
            b"227 (10,99,0,1,9,9)\r\n"
        } else {
            answer
        };
        assert_eq!(Dialog::payload(frame.bytes()), expected, "said once");
    }
    // A longer one.
    dialog.client(0x18, b"PASV\r\n");
    // Missing digits count as 0.
    let longer = b"227 (10,,1,11,9,9)\r\n";
    let sample = dialog.sample(dialog.server, dialog.client, 0x18, dialog.server_sequence, longer);
    let bytes = ethernet(INSIDE, 0, &sample.packet());
    let mut buffer = bytes.clone();
    let end = buffer.len();
    let mut frame = Frame::new(&mut buffer, 0, end, PortId(INSIDE)).unwrap();
    let lab = &mut dialog.lab;
    let outcome = lab.forwarder.process(&mut lab.director, NOW, &mut frame);
    assert_eq!(outcome, Outcome::Drop(DropReason::NoHeadroom));
    // The server says it again, and nothing has moved yet.
    let out = dialog.server(0x18, longer);
    assert_eq!(Dialog::payload(&out[0]), b"227 (10,99,0,1,9,9)\r\n");
    let next = dialog.server(0x18, b"200 ok\r\n");
    assert_eq!(Dialog::sequence(&next[0]), dialog.server_sequence - 8 + 1);
}

#[test]
fn a_wrong_checksum_is_not_made_right() {
    let mut dialog = Dialog::new(Family::V4, SumState::Right);
    dialog.client(0x18, b"PASV\r\n");
    let mut sample = dialog.sample(dialog.server, dialog.client, 0x18, dialog.server_sequence, PASV);
    sample.sum = SumState::Wrong(7);
    let frame = ethernet(INSIDE, 0, &sample.packet());
    let (outcome, out) = dialog.lab.frame(NOW, INSIDE, &frame, Offload::NONE);
    assert_eq!((outcome, out), (Outcome::Drop(DropReason::BadChecksum), Vec::new()));
    assert_eq!(dialog.expected(), 0);
}

#[test]
fn without_room_the_connection_goes_on_without_help() {
    let mut dialog = Dialog::new(Family::V4, SumState::Right);
    dialog.lab.forwarder.set_ftp(Controls::lent(Box::leak(Box::new([Control::EMPTY; 0]))));
    dialog.client(0x18, b"PASV\r\n");
    let out = dialog.server(0x18, PASV);
    assert_eq!(Dialog::payload(&out[0]), PASV);
    assert_eq!((dialog.expected(), dialog.lab.forwarder.counters().unhelped), (0, 1));
    // Active mode needs no room.
    dialog.client(0x18, b"PORT 192,0,2,7,156,80\r\n");
    assert_eq!((dialog.expected(), dialog.lab.forwarder.counters().expected), (1, 1));
}

#[test]
fn a_connection_that_begins_anew_has_nothing_to_do_with_the_old_one() {
    let mut dialog = Dialog::new(Family::V4, SumState::Right);
    dialog.client(0x18, b"PASV\r\n");
    dialog.server(0x18, b"227 (10,,1,11,9,9)\r\n");
    let moved = dialog.server(0x18, b"200 ok\r\n");
    assert_eq!(Dialog::sequence(&moved[0]), dialog.server_sequence - 8 + 1);
    dialog.client(0x02, b"");
    dialog.server(0x12, b"");
    let out = dialog.server(0x18, b"220 hello\r\n");
    assert_eq!(Dialog::sequence(&out[0]), dialog.server_sequence - 11);
}
