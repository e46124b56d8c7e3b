//! Output that nobody waits for: a bounded queue, and a thread that writes what is in it.
//!
//! A director's threads must not wait for whoever reads its log. A pipe that nobody empties, a terminal that was
//! stopped, or a disk that is slow holds the queue's own thread alone. What finds the queue full is lost and counted.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use tracing_subscriber::fmt::MakeWriter;

/// A stream that is written to by a thread of its own. Clones are of the same stream.
#[derive(Clone, Debug)]
pub struct Output {
    pieces: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

/// What became of pieces, a piece being what was written by one call: a line of a log.
#[derive(Debug, Default)]
struct Counts {
    queued: AtomicU64,
    /// Taken by the stream.
    written: AtomicU64,
    /// Refused by the stream: it is closed, or its disk is full.
    refused: AtomicU64,
    /// Not taken into the queue, which was full.
    dropped: AtomicU64,
}

/// How many lines of an output came to their end, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines that the stream took.
    pub written: u64,
    /// Lines that are lost: the stream refused them, or they found the queue full.
    pub lost: u64,
    /// Lines that wait for the stream.
    pub waiting: u64,
}

impl Output {
    /// Output to a descriptor, such as standard error. `notice` puts the number of lost pieces into words, which are
    /// written behind the next piece that is not lost.
    ///
    /// # Errors
    /// When no descriptor or no thread is left.
    pub fn to(stream: impl AsFd, notice: Option<fn(u64) -> String>) -> io::Result<Self> {
        // A descriptor of its own: writes by the standard library's streams hold a lock, on which whoever else writes
        // there would wait.
        Self::into(File::from(stream.as_fd().try_clone_to_owned()?), notice)
    }

    /// Output into any writer, see [`to`](Self::to).
    ///
    /// # Errors
    /// When no thread is left.
    pub fn into(stream: impl Write + Send + 'static, notice: Option<fn(u64) -> String>) -> io::Result<Self> {
        let (pieces, queue) = sync_channel(QUEUE);
        let output = Self { pieces, counts: Arc::default() };
        let counts = output.counts.clone();
        let write = move || write(stream, &queue, &counts, notice);
        thread::Builder::new().name("output".to_owned()).spawn(write)?;
        Ok(output)
    }

    /// Text to be written, at once or never.
    pub fn say(&self, text: impl fmt::Display) {
        self.put(text.to_string().into_bytes());
    }

    /// What has become of its lines so far.
    #[must_use]
    pub fn written(&self) -> Written {
        self.counts.written()
    }

    /// Waits until all that was said is written or refused, `patience` at most.
    pub fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        while self.written().waiting > 0 && Instant::now() < end {
            thread::sleep(LOOK);
        }
    }

    fn put(&self, piece: Vec<u8>) {
        // Counted before the queue has it, so that a flush never misses one.
        self.counts.queued.fetch_add(1, Ordering::Relaxed);
        if self.pieces.try_send(piece).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Counts {
    fn written(&self) -> Written {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let (written, lost) = (count(&self.written), count(&self.refused) + count(&self.dropped));
        Written { written, lost, waiting: count(&self.queued).saturating_sub(written + lost) }
    }
}

/// Writes what comes, until the last [`Output`] is gone.
fn write(
    mut stream: impl Write,
    queue: &Receiver<Vec<u8>>,
    counts: &Counts,
    notice: Option<fn(u64) -> String>,
) {
    let mut said = 0;
    for piece in queue {
        let done = stream.write_all(&piece).and_then(|()| stream.flush()).is_ok();
        if !done {
            counts.refused.fetch_add(1, Ordering::Relaxed);
        }
        let lost = counts.written().lost;
        // What is lost meanwhile is said the next time.
        let words = notice.filter(|_| done && lost > said).map(|notice| notice(lost - said));
        if words.is_some_and(|words| stream.write_all(words.as_bytes()).is_ok()) {
            said = lost;
        }
        // Counted last, so that a flush waits for the notice too.
        if done {
            counts.written.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Write for &Output {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.put(piece.to_vec());
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Pieces that wait at most: some seconds of a busy log.
const QUEUE: usize = 4_096;
/// How often a flush looks.
const LOOK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::Mutex;

    use super::*;

    /// A stream that takes nothing while the lock is held.
    struct Held(Arc<Mutex<Vec<u8>>>);

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn notice(lost: u64) -> String {
        format!("({lost} lost)\n")
    }

    #[test]
    fn nobody_waits_for_a_stream_that_takes_nothing_and_what_is_lost_is_counted_and_said() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let output = Output::into(Held(taken.clone()), Some(notice)).unwrap();
        let held = taken.lock().unwrap();
        for number in 0..QUEUE + 100 {
            output.say(format_args!("{number}\n"));
        }
        output.flush(Duration::from_millis(10));
        let lost = output.written().lost;
        assert!((99..=100).contains(&lost), "{lost}: one piece may be with the thread");
        drop(held);
        output.flush(Duration::from_secs(60));
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches(&notice(lost)).count(), 1, "{lost} lost, said without a further line");
        output.say("last\n");
        output.flush(Duration::from_secs(60));
        assert_eq!(output.written(), Written { written: (QUEUE + 101) as u64 - lost, lost, waiting: 0 });
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches(" lost)\n").count(), 1, "said once");
        assert!(text.ends_with("last\n"));
    }

    #[test]
    fn a_closed_pipe_loses_lines_and_holds_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = Output::to(&writer, Some(notice)).unwrap();
        output.say("a\n");
        output.say("b\n");
        output.flush(Duration::from_secs(60));
        assert_eq!(output.written(), Written { written: 0, lost: 2, waiting: 0 });
    }

    #[test]
    fn a_full_pipe_holds_nobody_and_gets_the_rest_when_it_is_emptied() {
        let (mut reader, writer) = io::pipe().unwrap();
        let output = Output::to(&writer, None).unwrap();
        let line = "x".repeat(1_000);
        for _ in 0..200 {
            output.say(&line);
        }
        output.flush(Duration::from_millis(20));
        assert!(output.written().written < 200, "a pipe takes 64 KiB");
        drop(writer);
        let mut text = vec![0; 200_000];
        reader.read_exact(&mut text).unwrap();
        output.flush(Duration::from_secs(60));
        assert_eq!(output.written(), Written { written: 200, lost: 0, waiting: 0 });
    }
}
