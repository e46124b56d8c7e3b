//! Recording what another device receives and sends.

use core::fmt;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lvs_forward::{Frame, PortId};

use super::Writer;
use super::write::now;
use crate::device::{Device, Offloads, Receive, ReceiveCounters, Transmit, TransmitCounters, TransmitError};

/// The device, with everything that it receives and takes to send written to a capture, each frame as it was
/// lent or sent.
///
/// A full disk must not stop the traffic: the recording ends with the first error, and
/// [`Recording::finish`] tells it. For looking into things: it writes, and takes a lock, per frame.
pub fn record<W: Write + Send + 'static>(device: Device, to: Writer<W>) -> (Device, Recording<W>) {
    let tape = Recording(Arc::new(Mutex::new(Tape { writer: to, frames: 0, error: None })));
    let Device { receive, transmit } = device;
    let receive = RecordingReceive { inner: receive, tape: tape.clone() };
    let transmit = RecordingTransmit { inner: transmit, tape: tape.clone() };
    (Device::new(receive, transmit), tape)
}

/// A recording under way, see [`record`].
pub struct Recording<W: Write>(Arc<Mutex<Tape<W>>>);

struct Tape<W: Write> {
    writer: Writer<W>,
    frames: u64,
    error: Option<io::Error>,
}

impl<W: Write> Recording<W> {
    /// Brings the file up to date, and says how many frames are in it. The recording goes on as long as the device.
    ///
    /// # Errors
    /// The error that ended the recording.
    pub fn finish(&self) -> io::Result<u64> {
        let mut tape = self.tape();
        match tape.error.take() {
            Some(error) => {
                tape.error = Some(io::Error::new(error.kind(), error.to_string()));
                Err(error)
            }
            None => tape.writer.to.flush().map(|()| tape.frames),
        }
    }

    fn record(&self, frame: &Frame<'_>) {
        let mut tape = self.tape();
        if tape.error.is_none() {
            match tape.writer.record(now(), frame.bytes()) {
                Ok(()) => tape.frames += 1,
                Err(error) => tape.error = Some(error),
            }
        }
    }

    fn tape(&self) -> MutexGuard<'_, Tape<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> Clone for Recording<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W: Write> fmt::Debug for Recording<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("frames", &self.tape().frames).finish_non_exhaustive()
    }
}

struct RecordingReceive<W: Write> {
    inner: Box<dyn Receive>,
    tape: Recording<W>,
}

impl<W: Write + Send> Receive for RecordingReceive<W> {
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        self.inner.receive(port, &mut |frames| {
            for frame in &*frames {
                self.tape.record(frame);
            }
            judge(frames);
        })
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.inner.readiness()
    }

    fn recover(&mut self) -> io::Result<()> {
        self.inner.recover()
    }

    fn ended(&self) -> bool {
        self.inner.ended()
    }

    fn counters(&mut self) -> ReceiveCounters {
        self.inner.counters()
    }
}

struct RecordingTransmit<W: Write> {
    inner: Box<dyn Transmit>,
    tape: Recording<W>,
}

impl<W: Write + Send> Transmit for RecordingTransmit<W> {
    fn transmit(&mut self, frame: &Frame<'_>) -> Result<(), TransmitError> {
        self.inner.transmit(frame)?;
        self.tape.record(frame);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<usize> {
        self.inner.flush()
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn counters(&mut self) -> TransmitCounters {
        self.inner.counters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::pair;
    use crate::device::pcap::{LinkType, Reader};

    #[test]
    fn a_recording_holds_both_directions() {
        let (device, mut other) = pair(&Default::default()).unwrap();
        let file = io::Cursor::new(Vec::new());
        let (mut device, recording) = record(device, Writer::new(file, LinkType::Ethernet).unwrap());
        other.send(b"in").unwrap();
        device.drain().unwrap();
        device.send(b"out").unwrap();
        assert_eq!(recording.finish().unwrap(), 2);
        let file = recording.tape().writer.to.clone().into_inner();
        let mut reader = Reader::new(&*file).unwrap();
        assert_eq!(reader.next_frame().unwrap().unwrap().frame.bytes(), b"in");
        assert_eq!(reader.next_frame().unwrap().unwrap().frame.bytes(), b"out");
    }

    /// Takes 40 bytes: a file's header and one frame's.
    struct Small(usize);

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_ends_the_recording_and_not_the_traffic() {
        let (device, mut other) = pair(&Default::default()).unwrap();
        let (mut device, recording) = record(device, Writer::new(Small(40), LinkType::Ip).unwrap());
        device.send(b"first").unwrap();
        device.send(b"second").unwrap();
        assert_eq!(other.drain().unwrap(), [&b"first"[..], b"second"]);
        assert_eq!(recording.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(recording.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
