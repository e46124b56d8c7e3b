//! Changes of several clients that are kept together: while the disk takes some, those that come meanwhile wait, and go
//! together the next time.
//!
//! ```text
//! Conversation --change--> queue --all that wait--> handle_each: one record, one sync --results--> Conversations
//! ```
//!
//! Only for a handler that says that its disk is worth waiting for; others carry a change out on the spot.

use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::panic::catch_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::front::Waker;
use super::{Answer, Command, CommandHandler, Errno};

/// The way to the thread that carries changes out together. It ends when the last one is gone.
#[derive(Clone)]
pub(super) struct Commits {
    queue: SyncSender<Changes>,
    /// Whether it is worth it now.
    wanted: Option<Arc<AtomicBool>>,
}

/// Changes that a client wants, one after the other.
struct Changes {
    commands: Vec<Command>,
    done: SyncSender<Results>,
}

/// What became of each of a client's changes.
type Results = Vec<Result<Answer, Errno>>;

impl Commits {
    /// Starts the thread. `waker` is woken when results are there. The changes of at most `most` clients wait at a
    /// time.
    pub(super) fn start(
        handler: Arc<Mutex<dyn CommandHandler + Send>>,
        waker: Waker,
        most: usize,
    ) -> io::Result<Self> {
        let wanted = handler.lock().unwrap_or_else(PoisonError::into_inner).waits_for_disk();
        // A client has one place at a time. One that has left may still have its changes here, and while a disk hangs
        // many may leave.
        let (queue, changes) = sync_channel::<Changes>(most);
        let work = move || {
            while let Ok(first) = changes.recv() {
                let mut together = vec![first];
                together.extend(changes.try_iter());
                carry_out(&handler, together);
                waker.wake();
            }
        };
        thread::Builder::new().name("commit".to_owned()).spawn(work)?;
        Ok(Self { queue, wanted })
    }

    /// Whether changes should go this way. Asked without the handler's lock, which is held while the disk is waited
    /// for.
    pub(super) fn are_wanted(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.load(Ordering::Relaxed))
    }

    /// Has changes of a client carried out. The receiver gets what became of each; nothing if that has panicked.
    ///
    /// # Errors
    /// [`Errno::Busy`] while too many wait.
    pub(super) fn put(&self, commands: Vec<Command>) -> Result<Receiver<Results>, Errno> {
        let (done, result) = sync_channel(1);
        // The thread ends with the last sender, so there is somebody to take it.
        self.queue.try_send(Changes { commands, done }).map_err(|_| Errno::Busy)?;
        Ok(result)
    }
}

fn carry_out(handler: &Mutex<dyn CommandHandler + Send>, together: Vec<Changes>) {
    let (mut commands, mut clients) = (Vec::new(), Vec::with_capacity(together.len()));
    for mut changes in together {
        clients.push((changes.commands.len(), changes.done));
        commands.append(&mut changes.commands);
    }
    // Whoever panics has said so in the log. A command is noted only after the director has taken it.
    let results = catch_unwind(AssertUnwindSafe(|| {
        handler.lock().unwrap_or_else(PoisonError::into_inner).handle_each(&commands)
    }));
    let mut results = results.unwrap_or_default().into_iter();
    for (count, client) in clients {
        let own: Results = results.by_ref().take(count).collect();
        if own.len() == count {
            // Who has left needs no answer.
            let _ = client.send(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::control::front::Front;
    use crate::control::{ServiceName, TableCommand};

    /// Says how many commands it gets at a time, and waits for a word before it carries them out. Refuses to flush.
    struct Slow(std::sync::mpsc::Sender<usize>, Receiver<()>);

    impl CommandHandler for Slow {
        fn handle(&mut self, command: &Command) -> Result<Answer, Errno> {
            if *command == TableCommand::Flush.into() { Err(Errno::NoSpace) } else { Ok(Answer::Done) }
        }

        fn handle_each(&mut self, commands: &[Command]) -> Vec<Result<Answer, Errno>> {
            self.0.send(commands.len()).unwrap();
            self.1.recv().unwrap();
            commands.iter().map(|command| self.handle(command)).collect()
        }

        fn waits_for_disk(&self) -> Option<Arc<AtomicBool>> {
            Some(Arc::new(AtomicBool::new(true)))
        }

        fn has_service(&mut self, _: ServiceName) -> bool {
            false
        }

        fn read_file(&mut self, _: &str) -> Result<Vec<u8>, Errno> {
            Err(Errno::NoEntry)
        }
    }

    #[test]
    fn changes_that_come_while_the_disk_takes_one_go_to_it_together_and_each_has_its_own_result() {
        let (counts, counted) = channel();
        let (words, word) = channel();
        let (waker, wakes) = Front::waker().unwrap();
        let commits = Commits::start(Arc::new(Mutex::new(Slow(counts, word))), waker, 5).unwrap();
        assert!(commits.are_wanted());
        let remove =
            |number: u8| TableCommand::DelService(ServiceName::tcp(([10, 99, 0, number], 80).into()));
        let first = commits.put(vec![remove(1).into()]).unwrap();
        assert_eq!(counted.recv(), Ok(1));
        let others: Vec<_> =
            (2..6).map(|number| commits.put(vec![remove(number).into(); 3]).unwrap()).collect();
        let refused = commits.put(vec![remove(6).into(), TableCommand::Flush.into()]).unwrap();
        assert!(matches!(commits.put(vec![remove(7).into()]), Err(Errno::Busy)), "as many wait as may");
        assert!(first.try_recv().is_err(), "it is still on its way");
        words.send(()).unwrap();
        assert_eq!(first.recv(), Ok(vec![Ok(Answer::Done)]));
        assert_eq!(counted.recv(), Ok(14));
        words.send(()).unwrap();
        assert!(others.iter().all(|other| other.recv() == Ok(vec![Ok(Answer::Done); 3])));
        assert_eq!(refused.recv(), Ok(vec![Ok(Answer::Done), Err(Errno::NoSpace)]));
        drop(wakes);
    }
}
