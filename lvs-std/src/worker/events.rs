//! The director's events, on their way to a program that may be slow to fetch them.

use std::sync::mpsc::SyncSender;

use lvs_core::Event;

/// Sends events and never waits. Where some are missing because the channel was full, [`Event::Lost`] tells their
/// number in their place.
#[derive(Debug)]
pub(super) struct EventSender {
    channel: SyncSender<Event>,
    /// Events lost that the program was not told of yet.
    untold: u64,
}

impl EventSender {
    pub(super) const fn new(channel: SyncSender<Event>) -> Self {
        Self { channel, untold: 0 }
    }

    /// Sends an event. Says whether it arrived.
    pub(super) fn send(&mut self, event: Event) -> bool {
        self.tell_lost();
        let arrives = self.untold == 0 && self.channel.try_send(event).is_ok();
        if !arrives {
            // The director may have lost some before.
            let count = if let Event::Lost { count } = event { count } else { 1 };
            self.untold = self.untold.saturating_add(count);
        }
        arrives
    }

    /// Tells how many events are missing, as soon as there is room for that.
    pub(super) fn tell_lost(&mut self) {
        if self.untold > 0 && self.channel.try_send(Event::Lost { count: self.untold }).is_ok() {
            self.untold = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::ServerId;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn what_a_full_channel_loses_is_told_in_its_place() {
        let (channel, events) = sync_channel(2);
        let mut sender = EventSender::new(channel);
        let event = |number| Event::Drained { server: ServerId::from_index(number) };
        assert!(sender.send(event(1)) && sender.send(event(2)));
        assert!(!sender.send(event(3)) && !sender.send(Event::Lost { count: 5 }));
        assert_eq!(events.recv(), Ok(event(1)));
        // The only room is for the number of those that are missing.
        assert!(!sender.send(event(4)));
        assert_eq!([events.recv(), events.recv()], [Ok(event(2)), Ok(Event::Lost { count: 6 })]);
        sender.tell_lost();
        assert!(sender.send(event(5)));
        assert_eq!([events.recv(), events.recv()], [Ok(Event::Lost { count: 1 }), Ok(event(5))]);
        assert!(events.try_recv().is_err());
    }
}
