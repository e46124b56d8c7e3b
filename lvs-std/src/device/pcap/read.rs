//! Reading a capture.

use core::fmt;
use core::time::Duration;
use std::io::{self, Read};

use lvs_forward::{Frame, HEADROOM, PortId};

use super::{LONGEST_RECORD, LinkType, MAGIC_MICROS, MAGIC_NANOS};
use crate::device::{LONGEST, Receive, ReceiveCounters};

/// A capture that is being read. As the receiving half of a device it lends frame after frame, as fast as they are
/// asked for, and has [`ended`](Receive::ended) with the file; [`next_frame`](Self::next_frame) gives their times too.
///
/// Give it a buffered reader.
pub struct Reader<R> {
    from: R,
    big_endian: bool,
    nanos: bool,
    link: LinkType,
    buffer: Box<[u8]>,
    ended: bool,
    counters: ReceiveCounters,
}

/// One frame of a capture.
#[derive(Debug)]
#[non_exhaustive]
pub struct Record<'a> {
    /// When it was captured, since 1970-01-01 UTC.
    pub time: Duration,
    /// The frame, on port 0.
    pub frame: Frame<'a>,
    /// How long it was in bytes: more than the frame, if only its beginning was captured.
    pub original: usize,
}

impl<R: Read> Reader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData) with the reason when it is no capture of a known kind, and what
    /// reading fails with.
    pub fn new(mut from: R) -> io::Result<Self> {
        let mut header = [0; 24];
        from.read_exact(&mut header).map_err(|error| {
            let is_short = error.kind() == io::ErrorKind::UnexpectedEof;
            if is_short { invalid("shorter than a pcap file's header".to_owned()) } else { error }
        })?;
        let magic = number(&header, 0, false);
        let big_endian = [MAGIC_MICROS, MAGIC_NANOS].contains(&magic.swap_bytes());
        let nanos = match number(&header, 0, big_endian) {
            MAGIC_MICROS => false,
            MAGIC_NANOS => true,
            0x0a0d_0d0a => {
                return Err(invalid("a pcapng file: convert it with `editcap -F pcap`".to_owned()));
            }
            other => return Err(invalid(format!("no pcap file: it begins with {other:#010x}"))),
        };
        // The upper bits may hold the length of a frame check sequence.
        let link = number(&header, 20, big_endian) & 0xffff;
        let link = LinkType::from_number(link)
            .ok_or_else(|| invalid(format!("link type {link}: only Ethernet (1) and IP (101) are known")))?;
        let buffer = vec![0; HEADROOM + LONGEST].into_boxed_slice();
        let counters = ReceiveCounters::default();
        Ok(Self { from, big_endian, nanos, link, buffer, ended: false, counters })
    }

    /// What its frames begin with.
    #[must_use]
    pub const fn link_type(&self) -> LinkType {
        self.link
    }

    /// The next frame; `None` at the end. One that is longer than [`LONGEST`] is cut to that.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData) when the file is damaged, `UnexpectedEof` when it ends within a
    /// frame, and what reading fails with. After an error the file has ended.
    pub fn next_frame(&mut self) -> io::Result<Option<Record<'_>>> {
        let mut header = [0; 16];
        let (captured, room) = match self.read_record(&mut header) {
            Ok(Some(lengths)) => lengths,
            Ok(None) => {
                self.ended = true;
                return Ok(None);
            }
            Err(error) => {
                self.ended = true;
                return Err(error);
            }
        };
        let field = |at| number(&header, at, self.big_endian);
        let fraction = if self.nanos { field(4) } else { field(4).saturating_mul(1_000) };
        let time = Duration::from_secs(field(0).into()) + Duration::from_nanos(fraction.into());
        let original = (field(12) as usize).max(captured);
        let frame = Frame::new(&mut self.buffer, HEADROOM, HEADROOM + room, PortId::default());
        Ok(frame.map(|frame| Record { time, frame, original }))
    }

    /// Reads a record into the buffer; says how many bytes it has, and how many fitted. `None` at the end.
    fn read_record(&mut self, header: &mut [u8; 16]) -> io::Result<Option<(usize, usize)>> {
        if self.ended {
            return Ok(None);
        }
        // A file may end before a record, but not inside of one, so only the first byte may be missing.
        let (first, rest) = header.split_at_mut(1);
        loop {
            match self.from.read(first) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.from.read_exact(rest)?;
        let captured = number(header, 8, self.big_endian);
        if captured > LONGEST_RECORD {
            return Err(invalid(format!("a frame of {captured} bytes: the file is damaged")));
        }
        let captured = captured as usize;
        let room = captured.min(LONGEST);
        if let Some(buffer) = self.buffer.get_mut(HEADROOM..HEADROOM + room) {
            self.from.read_exact(buffer)?;
        }
        io::copy(&mut self.from.by_ref().take((captured - room) as u64), &mut io::sink())?;
        Ok(Some((captured, room)))
    }
}

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

fn number(header: &[u8], at: usize, big_endian: bool) -> u32 {
    let bytes = header.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
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
        for value in [MAGIC_MICROS, 2 << 16 | 4, 0, 0, 65_535, 101, 9, 500_000, 2, 2] {
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
        let pcapng = [0x0a, 0x0d, 0x0d, 0x0a].repeat(6);
        assert!(Reader::new(&*pcapng).unwrap_err().to_string().contains("editcap"));
        assert!(Reader::new(&[7; 24][..]).unwrap_err().to_string().contains("0x07070707"));
        assert!(Reader::new(&[7; 23][..]).unwrap_err().to_string().contains("header"));
    }
}
