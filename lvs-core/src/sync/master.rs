//! When messages go.

use super::encode::Pen;
use super::{PushError, SyncEntry, Version};
use crate::model::persistence::PersistenceEngine;
use crate::model::tick::Tick;

/// Packs entries into messages and says when they are to be sent, as the kernel's sync daemon does.
///
/// A message that is full goes 20 ms after the first such one, or at once when there are eight. One that is not full
/// goes when its first entry is two seconds old, which is looked at once a second. `QUEUE` full messages of up to
/// `SIZE` bytes may wait; when nobody takes them, further ones are lost and counted. One with 255 entries is full, too
/// (IPVS counts on from 0).
///
/// ```
/// use lvs_core::Tick;
/// use lvs_core::sync::{Master, SyncEntry, Version};
/// let mut master: Master = Master::new(Tick::ZERO, Version::One, 5, 1_472);
/// let server = "10.0.0.11:8080".parse()?;
/// let entry = SyncEntry::new(6, "198.51.100.7:40000".parse()?, "192.0.2.1:80".parse()?, server).unwrap();
/// master.push(Tick::from_millis(100), &entry, None)?;
/// assert_eq!(master.poll(Tick::from_millis(1_500)), None);
/// assert_eq!(master.poll(Tick::from_millis(3_000)).map(<[u8]>::len), Some(44));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Master<const QUEUE: usize = 16, const SIZE: usize = 1_472> {
    /// The message that is being written, and since when.
    current: [u8; SIZE],
    pen: Option<(Pen, Tick)>,
    /// Full messages, as a ring.
    queue: [[u8; SIZE]; QUEUE],
    lens: [usize; QUEUE],
    first: usize,
    queued: usize,
    /// How many were queued since the queue was empty.
    since: usize,
    /// When the queue goes.
    due: Tick,
    /// When the message that is being written is looked at next.
    look: Tick,
    version: Version,
    syncid: u8,
    limit: usize,
    lost: u64,
}

/// No entry alone makes a message longer than this, so a [`Master`] needs room for as much.
pub const LEAST_MESSAGE: usize = 384;

impl<const QUEUE: usize, const SIZE: usize> Master<QUEUE, SIZE> {
    /// A master that sends messages of up to `limit` bytes: what one datagram of the network takes, 1,472 on Ethernet
    /// with IPv4. At most `SIZE`; an entry that alone is longer makes a longer message.
    #[must_use]
    pub const fn new(now: Tick, version: Version, syncid: u8, limit: usize) -> Self {
        const { assert!(QUEUE > 0 && SIZE >= LEAST_MESSAGE, "a master has room for a message") };
        Self {
            current: [0; SIZE],
            pen: None,
            queue: [[0; SIZE]; QUEUE],
            lens: [0; QUEUE],
            first: 0,
            queued: 0,
            since: 0,
            due: now,
            look: now.plus_millis(LOOK_MILLIS),
            version,
            syncid,
            limit: if limit < SIZE { limit } else { SIZE },
            lost: 0,
        }
    }

    /// From now on messages are of this version.
    pub const fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Puts an entry into a message, with the data of [its engine](SyncEntry::engine) if it has some.
    ///
    /// # Errors
    ///
    /// What is wrong with the entry; never [`PushError::Full`].
    pub fn push(
        &mut self,
        now: Tick,
        entry: &SyncEntry,
        engine: Option<(PersistenceEngine, &[u8])>,
    ) -> Result<(), PushError> {
        if let Some((pen, _)) = &mut self.pen {
            if pen.version == self.version {
                let room = self.current.get_mut(..self.limit).unwrap_or_default();
                let pushed = pen.push(room, entry, engine);
                if pushed != Err(PushError::Full) {
                    return pushed;
                }
            }
            self.enqueue(now);
        }
        let mut pen = Pen::new(&mut self.current, self.version, self.syncid).ok_or(PushError::Full)?;
        pen.push(&mut self.current, entry, engine)?;
        self.pen = Some((pen, now));
        Ok(())
    }

    /// The next message that is to be sent by now, if there is one. Ask until there is none.
    pub fn poll(&mut self, now: Tick) -> Option<&[u8]> {
        if self.queued > 0 && now >= self.due {
            let at = self.first;
            self.first = (at + 1) % QUEUE;
            self.queued -= 1;
            if self.queued == 0 {
                self.since = 0;
            }
            // Whoever sends looks at the message that is being written as well.
            self.look = now;
            return self.queue.get(at)?.get(..*self.lens.get(at)?);
        }
        if now < self.look {
            return None;
        }
        self.look = now.plus_millis(LOOK_MILLIS);
        let (pen, _) = self.pen.take_if(|(_, begun)| now >= begun.plus_millis(FLUSH_MILLIS))?;
        self.current.get(..pen.len)
    }

    /// Messages that were lost because nobody took those before them.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Puts the current message behind those that wait.
    fn enqueue(&mut self, now: Tick) {
        let Some((pen, _)) = self.pen.take() else { return };
        let at = (self.first + self.queued) % QUEUE;
        if self.queued == QUEUE {
            self.lost += 1;
            return;
        }
        if let (Some(place), Some(len)) = (self.queue.get_mut(at), self.lens.get_mut(at)) {
            *place = self.current;
            *len = pen.len;
        }
        if self.queued == 0 {
            self.due = now.plus_millis(SEND_MILLIS);
        }
        self.queued += 1;
        self.since += 1;
        if self.since == HURRY {
            self.due = now;
        }
    }
}

/// How long full messages wait for others.
const SEND_MILLIS: u64 = 20;
/// With so many they wait no longer.
const HURRY: usize = 8;
/// How often the message that is being written is looked at.
const LOOK_MILLIS: u64 = 1_000;
/// How old it becomes.
const FLUSH_MILLIS: u64 = 2_000;

#[cfg(test)]
mod tests;
