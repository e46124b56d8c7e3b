//! Writing a capture.

use core::fmt;
use core::time::Duration;
use std::io::{self, Write};
use std::time::SystemTime;

use lvs_forward::Frame;

use super::{LONGEST_RECORD, LinkType, MAGIC_NANOS};
use crate::device::{LONGEST, Offloads, Transmit, TransmitCounters, TransmitError};

/// A capture that is being written. As the sending half of a device it writes what it is sent.
///
/// Give it a buffered writer; [`flush`](Transmit::flush) and dropping it flush that.
pub struct Writer<W: Write> {
    pub(super) to: W,
    counters: TransmitCounters,
}

impl<W: Write> Writer<W> {
    /// Writes the file's header.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn new(mut to: W, link: LinkType) -> io::Result<Self> {
        let mut header = [0; 24];
        let mut put = |at: usize, value: u32| header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0, MAGIC_NANOS);
        put(4, 2 | 4 << 16);
        put(16, LONGEST_RECORD);
        put(20, link.number());
        to.write_all(&header)?;
        Ok(Self { to, counters: TransmitCounters::default() })
    }

    /// Writes one frame, captured so long after 1970-01-01 UTC (seconds beyond 2^32 wrap, in the year 2106).
    ///
    /// # Errors
    /// What writing fails with; the file then ends in the middle of a frame.
    pub fn record(&mut self, time: Duration, frame: &[u8]) -> io::Result<()> {
        let mut header = [0; 16];
        let mut put = |at: usize, value: u32| header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0, time.as_secs() as u32);
        put(4, time.subsec_nanos());
        put(8, frame.len() as u32);
        put(12, frame.len() as u32);
        self.to.write_all(&header)?;
        self.to.write_all(frame)
    }
}

impl<W: Write + Send> Transmit for Writer<W> {
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        let result = if frame.len() > LONGEST {
            Err(TransmitError::TooLong)
        } else {
            self.record(now(), frame.bytes()).map_err(|_| TransmitError::Down)
        };
        self.counters.count(frame, result)
    }

    fn flush(&mut self) -> io::Result<usize> {
        self.to.flush()?;
        Ok(0)
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }

    fn counters(&mut self) -> TransmitCounters {
        self.counters
    }
}

impl<W: Write> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// Time since 1970-01-01 UTC by the machine's clock.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
