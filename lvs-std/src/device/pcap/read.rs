//! Reading a capture.

use core::fmt;
use core::time::Duration;
use std::io::{self, Read};

use lvs_forward::{Frame, HEADROOM, PortId};

use super::LinkType;
use super::format::{Format, Found, Kind, invalid};
use crate::device::{LONGEST, Receive, ReceiveCounters};

/// A capture that is being read. As the receiving half of a device it lends frame after frame, as fast as they are
/// asked for, and has [`ended`](Receive::ended) with the file; [`next_frame`](Self::next_frame) gives their times too.
///
/// Give it a buffered reader.
pub struct Reader<R> {
    from: R,
    format: Format,
    /// What was read last.
    block: Vec<u8>,
    link: LinkType,
    buffer: Box<[u8]>,
    ended: bool,
    left_out: u64,
    counters: ReceiveCounters,
}

/// One frame of a capture.
#[derive(Debug)]
#[non_exhaustive]
pub struct Record<'a> {
    /// When it was captured, since 1970-01-01 UTC. 0 where the file does not say it (pcapng's simple packet blocks).
    pub time: Duration,
    /// The frame, on port 0.
    pub frame: Frame<'a>,
    /// How long it was in bytes: more than the frame, if only its beginning was captured.
    pub original: usize,
    /// Whether a cooked capture says that the machine which captured the frame had sent it. Never in others.
    pub sent: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData) with the reason when it is no capture of a known kind, and what
    /// reading fails with.
    pub fn new(mut from: R) -> io::Result<Self> {
        let mut block = Vec::new();
        let (format, kind) = Format::read(&mut from, &mut block)?;
        let buffer = vec![0; HEADROOM + LONGEST].into_boxed_slice();
        let counters = ReceiveCounters::default();
        let link = kind.link_type();
        Ok(Self { from, format, block, link, buffer, ended: false, left_out: 0, counters })
    }

    /// What its frames begin with. A cooked capture has IP packets.
    #[must_use]
    pub const fn link_type(&self) -> LinkType {
        self.link
    }

    /// Frames of a cooked capture that were passed over so far, because they are no IP packets.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The next frame; `None` at the end. One that is longer than [`LONGEST`] is cut to that.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData) with the reason when the file is damaged, or has frames of
    /// interfaces of different kinds; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) when it was cut inside a frame;
    /// and what reading fails with. There is nothing more behind an error.
    pub fn next_frame(&mut self) -> io::Result<Option<Record<'_>>> {
        if self.ended {
            return Ok(None);
        }
        let read = self.read_frame();
        self.ended = !matches!(read, Ok(Some(_)));
        let Some(Lifted { time, length, original, sent }) = read? else { return Ok(None) };
        let frame = Frame::new(&mut self.buffer, HEADROOM, HEADROOM + length, PortId::default());
        Ok(frame.map(|frame| Record { time, frame, original, sent }))
    }

    /// Brings the next frame into the buffer.
    fn read_frame(&mut self) -> io::Result<Option<Lifted>> {
        while self.format.next(&mut self.from, &mut self.block)? {
            let Some(Found { time, bytes, original, kind }) = self.format.take_in(&self.block)? else {
                continue;
            };
            if kind.link_type() != self.link {
                return Err(invalid(
                    "frames of interfaces of different kinds: a capture of one of them can be read"
                        .to_owned(),
                ));
            }
            let cooked = kind.cooked(bytes);
            let is_plain = matches!(kind, Kind::Plain(_));
            // A whole frame that is shorter than its own header is no packet either.
            let is_short = !is_plain && cooked.is_none() && original <= bytes.len();
            if is_short || cooked.is_some_and(|(_, protocol, _)| !matches!(protocol, IPV4 | IPV6)) {
                self.left_out += 1;
                continue;
            }
            let (header, _, sent) = cooked.unwrap_or_default();
            let bytes = bytes.get(header..).unwrap_or_default();
            let length = bytes.len().min(LONGEST);
            if let (Some(to), Some(from)) =
                (self.buffer.get_mut(HEADROOM..HEADROOM + length), bytes.get(..length))
            {
                to.copy_from_slice(from);
            }
            let original = original.saturating_sub(header);
            return Ok(Some(Lifted { time, length, original, sent }));
        }
        Ok(None)
    }
}

/// A frame in the buffer.
struct Lifted {
    time: Duration,
    length: usize,
    original: usize,
    sent: bool,
}

/// Ethernet types.
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

impl<R: Read + Send> Receive for Reader<R> {
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        let mut counters = self.counters;
        let Some(Record { mut frame, original, .. }) = self.next_frame()? else { return Ok(0) };
        if frame.len() < original {
            // A checksum of the frame would cover bytes that are not there, so it cannot be forwarded.
            counters.cut += 1;
        } else {
            frame.port = port;
            counters.count(&frame);
            judge(&mut [frame]);
        }
        self.counters = counters;
        Ok(1)
    }

    fn ended(&self) -> bool {
        self.ended
    }

    fn counters(&mut self) -> ReceiveCounters {
        self.counters
    }
}

impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("link", &self.link).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::pcap::Writer;

    fn capture() -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, LinkType::Ethernet).unwrap();
        writer.record(Duration::new(5, 7), b"one").unwrap();
        writer.record(Duration::new(6, 8), &[2; 70_000]).unwrap();
        writer.record(Duration::new(7, 9), b"three").unwrap();
        file
    }

    #[test]
    fn what_was_written_is_read() {
        let file = capture();
        let mut reader = Reader::new(&*file).unwrap();
        assert_eq!(reader.link_type(), LinkType::Ethernet);
        let record = reader.next_frame().unwrap().unwrap();
        assert_eq!((record.time, record.frame.bytes()), (Duration::new(5, 7), &b"one"[..]));
        let record = reader.next_frame().unwrap().unwrap();
        assert_eq!((record.frame.len(), record.original), (LONGEST, 70_000));
        let record = reader.next_frame().unwrap().unwrap();
        assert_eq!(record.frame.bytes(), b"three");
        assert!(!reader.ended());
        assert!(reader.next_frame().unwrap().is_none());
        assert!(reader.ended());
    }

    #[test]
    fn big_endian_captures_in_microseconds_are_read() {
        let mut file = Vec::new();
        for value in [0xa1b2_c3d4_u32, 2 << 16 | 4, 0, 0, 65_535, 101, 9, 500_000, 2, 2] {
            file.extend(value.to_be_bytes());
        }
        file.extend(b"ip");
        let mut reader = Reader::new(&*file).unwrap();
        assert_eq!(reader.link_type(), LinkType::Ip);
        let record = reader.next_frame().unwrap().unwrap();
        assert_eq!((record.time, record.frame.bytes()), (Duration::from_millis(9_500), &b"ip"[..]));
    }

    #[test]
    fn a_reader_lends_whole_frames_and_counts_cut_ones() {
        let mut reader = Reader::new(io::Cursor::new(capture())).unwrap();
        let mut seen = Vec::new();
        let mut judge = |frames: &mut [Frame<'_>]| seen.extend(frames[0].bytes().first().copied());
        while reader.receive(PortId(1), &mut judge).unwrap() > 0 {}
        assert_eq!(seen, b"ot");
        assert_eq!((reader.counters().frames, reader.counters().cut), (2, 1));
    }

    #[test]
    fn any_damage_is_an_error_or_an_end() {
        let file = capture();
        for length in 0..200 {
            let Ok(mut reader) = Reader::new(&file[..length]) else { continue };
            while reader.next_frame().is_ok_and(|record| record.is_some()) {}
            assert!(reader.ended(), "cut at {length}");
        }
        for at in 0..60 {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            let Ok(mut reader) = Reader::new(&*damaged) else { continue };
            while reader.next_frame().is_ok_and(|record| record.is_some()) {}
            assert!(reader.ended(), "damaged at {at}");
        }
    }

    #[test]
    fn foreign_files_are_named() {
        let said = |bytes: &[u8]| Reader::new(bytes).unwrap_err().to_string();
        assert!(said(&[7; 24]).contains("0x07070707"));
        assert!(said(&[7; 3]).contains("header"));
        assert!(said(&capture()[..20]).contains("header"));
        let mut other = capture();
        other[20] = 105;
        assert!(said(&other).contains("link type 105"), "{}", said(&other));
    }

    #[test]
    fn a_file_that_was_cut_inside_a_frame_says_so_behind_the_frames_that_are_whole() {
        let file = capture();
        for length in [24 + 16 + 3 + 1, 24 + 16 + 3 + 16, file.len() - 1] {
            let mut reader = Reader::new(&file[..length]).unwrap();
            assert!(reader.next_frame().unwrap().is_some());
            let error = loop {
                match reader.next_frame() {
                    Ok(record) => assert!(record.is_some(), "cut at {length}, and an end"),
                    Err(error) => break error,
                }
            };
            assert!(error.to_string().contains("was cut"), "{error}");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(reader.ended() && reader.next_frame().unwrap().is_none());
        }
    }

    /// A pcapng file under construction, in either byte order.
    struct Blocks(Vec<u8>, bool);

    impl Blocks {
        fn word(&self, value: u32) -> [u8; 4] {
            if self.1 { value.to_be_bytes() } else { value.to_le_bytes() }
        }

        fn half(&self, value: u16) -> [u8; 2] {
            if self.1 { value.to_be_bytes() } else { value.to_le_bytes() }
        }

        fn block(mut self, kind: u32, body: &[u8]) -> Self {
            let padding = body.len().next_multiple_of(4) - body.len();
            let length = self.word((12 + body.len() + padding) as u32);
            self.0.extend([self.word(kind), length].concat());
            self.0.extend([body, &[0; 3][..padding], &length].concat());
            self
        }

        fn section(self) -> Self {
            let version = [self.half(1), self.half(0)].concat();
            let body = [&self.word(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat();
            self.block(0x0a0d_0d0a, &body)
        }

        fn interface(self, link: u16, kept: u32, options: &[u8]) -> Self {
            let body = [&self.half(link)[..], &[0; 2], &self.word(kept), options].concat();
            self.block(1, &body)
        }

        /// An option of one byte.
        fn option(&self, code: u16, value: u8) -> Vec<u8> {
            [&self.half(code)[..], &self.half(1), &[value, 0, 0, 0]].concat()
        }

        fn frame(self, interface: u32, time: u64, bytes: &[u8], original: u32) -> Self {
            let head = [interface, (time >> 32) as u32, time as u32, bytes.len() as u32, original];
            let padding = bytes.len().next_multiple_of(4) - bytes.len();
            let head = head.map(|value| self.word(value)).concat();
            self.block(6, &[&head, bytes, &[0; 3][..padding]].concat())
        }
    }

    /// A frame's time, bytes, original length, and whether it was sent.
    type Told = (Duration, Vec<u8>, usize, bool);

    fn records(file: &[u8]) -> io::Result<Vec<Told>> {
        let (mut reader, mut all) = (Reader::new(file)?, Vec::new());
        while let Some(record) = reader.next_frame()? {
            all.push((record.time, record.frame.bytes().to_vec(), record.original, record.sent));
        }
        Ok(all)
    }

    #[test]
    fn pcapng_files_of_both_byte_orders_are_read_with_each_interfaces_clock() {
        for big_endian in [false, true] {
            let file = Blocks(Vec::new(), big_endian).section().block(4, b"names").interface(1, 0, &[]);
            let (nanos, binary) = (file.option(9, 9), file.option(9, 0x80 | 10));
            let file = file
                .interface(1, 0, &nanos)
                .frame(0, 5_000_007, b"micros", 6)
                .block(5, &[0; 12])
                .frame(1, 6_000_000_008, b"nanos", 5)
                .interface(1, 0, &binary)
                .frame(2, 7 << 10 | 512, b"binary", 60)
                .block(3, &[&Blocks(Vec::new(), big_endian).word(6)[..], b"simple\0\0"].concat())
                // Another section counts its interfaces anew.
                .section()
                .interface(1, 3, &[])
                .frame(0, 8_000_000, b"last", 4);
            let wanted = [
                (Duration::from_micros(5_000_007), &b"micros"[..], 6),
                (Duration::from_nanos(6_000_000_008), b"nanos", 5),
                (Duration::from_millis(7_500), b"binary", 60),
                (Duration::ZERO, b"simple", 6),
                (Duration::from_secs(8), b"last", 4),
            ];
            let wanted = wanted.map(|(time, bytes, original)| (time, bytes.to_vec(), original, false));
            assert_eq!(records(&file.0).unwrap(), wanted);
        }
    }

    #[test]
    fn interfaces_without_end_are_refused() {
        let mut file = Blocks(Vec::new(), false).section();
        for _ in 0..=1 << 16 {
            file = file.interface(1, 0, &[]);
        }
        let error = records(&file.0).unwrap_err().to_string();
        assert!(error.contains("more than 65536 interfaces"), "{error}");
    }

    #[test]
    fn cooked_captures_give_their_ip_packets_and_say_who_sent_them() {
        let head = |link: u16, sent: u8, protocol: [u8; 2]| match link {
            113 => [&[0, sent, 0, 1, 0, 6][..], &[7; 8], &protocol].concat(),
            _ => [&protocol[..], &[0; 8], &[sent, 6], &[7; 8]].concat(),
        };
        for link in [113, 276] {
            let header = |sent, protocol| head(link, sent, protocol);
            let (first, arp, second) = (header(0, [8, 0]), header(0, [8, 6]), header(4, [0x86, 0xdd]));
            let file = Blocks(Vec::new(), false).section().interface(link, 0, &[]);
            let file =
                [(&first, 100), (&arp, 4), (&second, 4)].into_iter().fold(file, |file, (header, longer)| {
                    let bytes = [header, &b"data"[..]].concat();
                    file.frame(0, 0, &bytes, (header.len() + longer) as u32)
                });
            // A header of which a part is missing, and a frame that ends within its header.
            let file = file.frame(0, 0, &first[..9], 60).frame(0, 0, &first[..9], 9);
            let read = records(&file.0).unwrap();
            assert_eq!(read[0], (Duration::ZERO, b"data".to_vec(), 100, false), "cut");
            assert_eq!(read[1], (Duration::ZERO, b"data".to_vec(), 4, true));
            assert!(read[2].2 > read[2].1.len(), "cut inside its link header: {:?}", read[2]);
            assert_eq!(read.len(), 3);
            let mut reader = Reader::new(&*file.0).unwrap();
            assert_eq!(reader.link_type(), LinkType::Ip);
            while reader.next_frame().unwrap().is_some() {}
            assert_eq!(reader.left_out(), 2, "ARP, and the short one");
        }
    }

    #[test]
    fn what_a_pcapng_file_must_not_say_is_told() {
        let start = || Blocks(Vec::new(), false).section();
        let said = |file: Blocks| records(&file.0).unwrap_err().to_string();
        assert!(said(start()).contains("without an interface"));
        assert!(said(start().frame(0, 0, b"x", 1)).contains("was not described"));
        assert!(said(start().interface(1, 0, &[]).frame(1, 0, b"x", 1)).contains("interface 1"));
        let mixed = start().interface(1, 0, &[]).interface(101, 0, &[]);
        assert!(said(mixed.frame(1, 0, b"x", 1)).contains("different kinds"));
        assert!(said(start().interface(1, 0, &[]).block(2, &[0; 24])).contains("before 2012"));
        assert!(said(start().interface(147, 0, &[])).contains("link type 147"));
        let unused = start().interface(1, 0, &[]).interface(147, 0, &[]).frame(0, 0, b"x", 1);
        assert_eq!(records(&unused.0).unwrap().len(), 1);
        assert!(said(unused.frame(1, 0, b"x", 1)).contains("link type 147"));
        // A frame that says that it is longer than its block.
        let mut file = start().interface(1, 0, &[]).frame(0, 0, b"four", 4).0;
        let at = file.len() - 16;
        file[at] = 200;
        assert!(records(&file).unwrap_err().to_string().contains("contradicts itself"));
        // Blocks of impossible lengths.
        for length in [0_u32, 8, 13, 0xffff_fffc] {
            let mut file = start().interface(1, 0, &[]).0;
            file.extend([6_u32.to_le_bytes(), length.to_le_bytes()].concat());
            assert!(records(&file).unwrap_err().to_string().contains("damaged"), "{length}");
        }
    }

    #[test]
    fn any_damage_to_a_pcapng_file_is_an_error_or_an_end() {
        for big_endian in [false, true] {
            let file = Blocks(Vec::new(), big_endian).section();
            let options = [file.option(9, 9), file.option(14, 0)].concat();
            let file = file.interface(113, 0, &options).frame(0, 9, &[8; 40], 40).section();
            let file = file.interface(276, 50, &[]).frame(0, 9, &[8; 33], 90).0;
            for length in 0..file.len() {
                let Ok(mut reader) = Reader::new(&file[..length]) else { continue };
                while reader.next_frame().is_ok_and(|record| record.is_some()) {}
                assert!(reader.ended(), "cut at {length}");
            }
            for at in 0..file.len() {
                for damage in [1, 0x55, 0x80, 0xff] {
                    let mut damaged = file.clone();
                    damaged[at] ^= damage;
                    let Ok(mut reader) = Reader::new(&*damaged) else { continue };
                    while reader.next_frame().is_ok_and(|record| record.is_some()) {}
                    assert!(reader.ended(), "damaged at {at}");
                }
            }
        }
    }
}
