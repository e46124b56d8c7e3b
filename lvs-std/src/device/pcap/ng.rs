//! Writing a capture of several interfaces, with comments (pcapng, draft-ietf-opsawg-pcapng).

use core::time::Duration;
use std::io::{self, Write};

use super::LinkType;

/// A capture of several interfaces that is being written. Give it a buffered writer.
///
/// Everything in it is little-endian, as the section's magic number says, and times are in nanoseconds.
pub struct NgWriter<W: Write> {
    to: W,
    interfaces: u32,
}

/// A packet in such a capture.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever writes a capture")]
pub struct NgPacket<'a> {
    /// The interface, by its place in the list that the writer was given.
    pub interface: u32,
    /// When, since 1970-01-01 UTC.
    pub time: Duration,
    /// The frame.
    pub bytes: &'a [u8],
    /// Whether it left by the interface, rather than came in.
    pub sent: bool,
    /// The packet's number: the same for a packet that comes in by one interface and leaves by another.
    pub id: u64,
    /// The queue that it was received by.
    pub queue: u32,
    /// What became of it.
    pub verdict: NgVerdict,
    /// In words. Cut to 65,535 bytes.
    pub comment: &'a str,
}

/// What became of a packet, as the format knows it from XDP (`XDP_DROP` and so on), the nearest of those that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "what a director does")]
pub enum NgVerdict {
    /// The packet goes no further (`XDP_DROP`).
    Drop = 1,
    /// The packet is left to the machine (`XDP_PASS`).
    Pass = 2,
    /// The packet leaves (`XDP_TX`).
    Send = 3,
}

impl<W: Write> NgWriter<W> {
    /// Writes the file's header, with a block for each interface: its name, and what its frames begin with.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn new<'n>(
        mut to: W,
        program: &str,
        interfaces: impl IntoIterator<Item = (&'n str, LinkType)>,
    ) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(BYTE_ORDER.to_le_bytes());
        // Version 1.0, and a section whose length is not known ahead.
        body.extend([1, 0, 0, 0]);
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, SHB_USERAPPL, program.as_bytes());
        block(&mut to, SECTION, body)?;
        let mut count = 0;
        for (name, link) in interfaces {
            let mut body = Vec::new();
            body.extend((link.number() as u16).to_le_bytes());
            // Reserved; and frames of any length.
            body.extend([0; 6]);
            option(&mut body, IF_NAME, name.as_bytes());
            option(&mut body, IF_TSRESOL, &[NANOSECONDS]);
            block(&mut to, INTERFACE, body)?;
            count += 1;
        }
        Ok(Self { to, interfaces: count })
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// What writing fails with; [`InvalidInput`](io::ErrorKind::InvalidInput) for an interface that there is not.
    pub fn record(&mut self, packet: &NgPacket<'_>) -> io::Result<()> {
        if packet.interface >= self.interfaces {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a packet of no interface of the capture",
            ));
        }
        let length = packet.bytes.len() as u32;
        let mut body = Vec::with_capacity(packet.bytes.len() + packet.comment.len() + 100);
        body.extend(packet.interface.to_le_bytes());
        time(&mut body, packet.time);
        body.extend(length.to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(packet.bytes);
        pad(&mut body);
        option(&mut body, COMMENT, packet.comment.as_bytes());
        option(&mut body, EPB_FLAGS, &(if packet.sent { 2_u32 } else { 1 }).to_le_bytes());
        option(&mut body, EPB_PACKETID, &packet.id.to_le_bytes());
        option(&mut body, EPB_QUEUE, &packet.queue.to_le_bytes());
        let mut verdict = vec![VERDICT_XDP];
        verdict.extend((packet.verdict as u64).to_le_bytes());
        option(&mut body, EPB_VERDICT, &verdict);
        block(&mut self.to, PACKET, body)
    }

    /// Ends the capture: says how many records were lost, at the first interface, and flushes.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn finish(mut self, at: Duration, lost: u64) -> io::Result<W> {
        if self.interfaces > 0 {
            let mut body = 0_u32.to_le_bytes().to_vec();
            time(&mut body, at);
            let comment = format!("{lost} records were lost by all interfaces together");
            option(&mut body, COMMENT, comment.as_bytes());
            option(&mut body, ISB_IFDROP, &lost.to_le_bytes());
            block(&mut self.to, STATISTICS, body)?;
        }
        self.to.flush()?;
        Ok(self.to)
    }

    /// Flushes what was written.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<W: Write> core::fmt::Debug for NgWriter<W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NgWriter").field("interfaces", &self.interfaces).finish_non_exhaustive()
    }
}

/// Writes a block: its type, its length, its body with its options, its length once more.
fn block(to: &mut impl Write, kind: u32, mut body: Vec<u8>) -> io::Result<()> {
    body.extend([0; 4]);
    let length = (body.len() + 12) as u32;
    to.write_all(&kind.to_le_bytes())?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&body)?;
    to.write_all(&length.to_le_bytes())
}

/// Adds an option: its code, its length, its value.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

/// Adds a time in nanoseconds, its upper half first.
fn time(body: &mut Vec<u8>, time: Duration) {
    let nanos = time.as_nanos() as u64;
    body.extend(((nanos >> 32) as u32).to_le_bytes());
    body.extend((nanos as u32).to_le_bytes());
}

/// Everything begins at a multiple of four bytes; so do blocks' bodies.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const NANOSECONDS: u8 = 9;
const EPB_FLAGS: u16 = 2;
const EPB_PACKETID: u16 = 5;
const EPB_QUEUE: u16 = 6;
const EPB_VERDICT: u16 = 7;
const VERDICT_XDP: u8 = 2;
const ISB_IFDROP: u16 = 5;

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;

    #[test]
    fn what_is_written_is_read_back_with_its_times_and_other_readers_find_its_options() {
        let interfaces = [("eth0", LinkType::Ethernet), ("eth1", LinkType::Ethernet)];
        let mut writer = NgWriter::new(Vec::new(), "a test", interfaces).unwrap();
        let frames: Vec<Vec<u8>> = (0..5_u8).map(|number| vec![number; 60 + usize::from(number)]).collect();
        for (bytes, at) in frames.iter().zip(0_u32..) {
            let time = Duration::new(1_800_000_000 + u64::from(at), 123_456_789);
            let packet = NgPacket {
                interface: at % 2,
                time,
                bytes,
                sent: at % 2 == 1,
                id: 77,
                queue: 3,
                verdict: NgVerdict::Send,
                comment: "what became of it",
            };
            writer.record(&packet).unwrap();
            let nowhere = NgPacket { interface: 2, ..packet };
            assert_eq!(writer.record(&nowhere).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        let file = writer.finish(Duration::from_secs(1_800_000_009), 4).unwrap();
        let mut reader = Reader::new(file.as_slice()).unwrap();
        for (bytes, at) in frames.iter().zip(0_u64..) {
            let record = reader.next_frame().unwrap().unwrap();
            assert_eq!(record.frame.bytes(), bytes);
            assert_eq!(record.time, Duration::new(1_800_000_000 + at, 123_456_789));
        }
        assert!(reader.next_frame().unwrap().is_none());
        // Another implementation of the format.
        use pcap_parser::traits::PcapReaderIterator as _;
        let mut other = pcap_parser::PcapNGReader::new(65_536, file.as_slice()).unwrap();
        let (mut packets, mut lost) = (0, 0);
        loop {
            match other.next() {
                Ok((offset, pcap_parser::PcapBlockOwned::NG(block))) => {
                    let has = |options: &[pcap_parser::PcapNGOption<'_>], code: u16, value: &[u8]| {
                        options.iter().any(|of| of.code.0 == code && of.value.starts_with(value))
                    };
                    if let pcap_parser::Block::EnhancedPacket(packet) = &block {
                        assert!(has(&packet.options, COMMENT, b"what became of it"));
                        assert!(has(&packet.options, EPB_PACKETID, &77_u64.to_le_bytes()));
                        let direction = if packet.if_id == 1 { [2, 0, 0, 0] } else { [1, 0, 0, 0] };
                        assert!(has(&packet.options, EPB_FLAGS, &direction));
                        assert!(has(&packet.options, EPB_QUEUE, &[3, 0, 0, 0]));
                        assert!(has(&packet.options, EPB_VERDICT, &[2, 3, 0]));
                        packets += 1;
                    }
                    if let pcap_parser::Block::InterfaceStatistics(of) = &block {
                        assert!(has(&of.options, ISB_IFDROP, &4_u64.to_le_bytes()));
                        lost += 1;
                    }
                    other.consume(offset);
                }
                Ok((offset, _)) => other.consume(offset),
                Err(pcap_parser::PcapError::Eof) => break,
                Err(pcap_parser::PcapError::Incomplete(_)) => other.refill().unwrap(),
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!((packets, lost), (5, 1));
    }
}
