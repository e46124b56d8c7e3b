//! What the sockets of one queue share.
//!
//! A queue of an interface has one ring of free chunks and one of chunks that were sent, however many sockets there are
//! at it, and each ring has one side that is this program's. One worker has that side for itself. Several take turns,
//! each for the moment in which it moves some numbers, once for a batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// What one worker has for itself, or several have by turns.
#[derive(Debug)]
pub(super) enum Turns<T> {
    /// The value of one worker.
    Own(T),
    /// Each worker has such a value.
    Shared(Arc<Mutex<T>>),
}

impl<T> Turns<T> {
    /// So many shares, one at least.
    pub(super) fn of(what: T, shares: usize) -> Vec<Self> {
        if shares <= 1 {
            return vec![Self::Own(what)];
        }
        let shared = Arc::new(Mutex::new(what));
        (0..shares).map(|_| Self::Shared(shared.clone())).collect()
    }

    /// Uses it, unless another worker does at this moment: then there is no result, and no wait.
    pub(super) fn now<R>(&mut self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        match self {
            Self::Own(what) => Some(work(what)),
            Self::Shared(what) => match what.try_lock() {
                Ok(mut what) => Some(work(&mut what)),
                Err(TryLockError::Poisoned(what)) => Some(work(&mut what.into_inner())),
                Err(TryLockError::WouldBlock) => None,
            },
        }
    }

    /// Uses it, after another worker that does at this moment.
    pub(super) fn soon<R>(&mut self, work: impl FnOnce(&mut T) -> R) -> R {
        match self {
            Self::Own(what) => work(what),
            Self::Shared(what) => work(&mut lock(what)),
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // The rings are as whole after a panic as before.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_while_another_has_it_need_not_wait() {
        let mut shares = Turns::of(vec![1], 2);
        let [one, other] = shares.as_mut_slice() else { panic!("two shares") };
        one.now(|what| {
            what.push(2);
            assert_eq!(other.now(|_| ()), None, "it is in use");
        });
        assert_eq!(other.now(|what| what.len()), Some(2), "both have the same");
        assert_eq!(one.soon(|what| what.pop()), Some(2));
    }

    #[test]
    fn a_worker_that_panicked_while_it_had_it_keeps_nobody_from_it() {
        let mut shares = Turns::of(7, 2);
        let mut one = shares.remove(0);
        let panicked = std::thread::spawn(move || one.now(|_| panic!("with the lock"))).join();
        assert!(panicked.is_err());
        assert_eq!((shares[0].now(|what| *what), shares[0].soon(|what| *what)), (Some(7), 7));
    }

    #[test]
    fn one_worker_has_it_for_itself() {
        let mut shares = Turns::of(7, 1);
        assert!(matches!(shares.as_slice(), [Turns::Own(7)]));
        assert_eq!(shares[0].now(|what| *what), Some(7));
    }
}
