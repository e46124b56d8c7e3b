//! The loop in which all probes live.

use core::time::Duration;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};

use super::check::{Attempt, Expiry, Pass, Progress};
use super::judge::Judge;
use super::poller::{Poller, Timers};
use super::probes::{Board, Event, Line, Order, ProbeId, Probes};
use super::{Failure, Probe, State};

/// Probes targets, on the one thread that [runs](Self::run) it: every attempt is non-blocking, none waits for another,
/// and what an attempt may read or keep is bounded.
///
/// The engine opens its sockets in the network namespace of that thread.
pub struct Engine {
    poller: Poller,
    timers: Timers,
    orders: Receiver<Order>,
    waker: Arc<OwnedFd>,
    board: Arc<Board>,
    events: Sender<Event>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    places: HashMap<ProbeId, u32>,
    chance: Chance,
    ready: Vec<u64>,
    /// Attempts that could go on at once.
    again: Vec<u64>,
    stopped: bool,
}

/// A place for a probe.
#[derive(Default)]
struct Slot {
    /// What is probed here, if anything is.
    work: Option<Work>,
    /// Counts what is waited for, so that what comes late for something else is told apart.
    turn: u32,
}

impl Slot {
    /// The number of what is waited for here.
    fn token(&self, place: u32) -> u64 {
        u64::from(place) << 32 | u64::from(self.turn)
    }
}

struct Work {
    id: ProbeId,
    probe: Arc<Probe>,
    judge: Judge,
    advice: Option<u32>,
    why: Option<Failure>,
    /// When the last attempt began.
    began: Instant,
    attempt: Option<Box<dyn Attempt>>,
}

impl Engine {
    /// One without probes, the way to give it some, and what it tells.
    ///
    /// Events wait until they are fetched: one for each change of a probe's state. Whoever does not want them drops the
    /// receiver.
    ///
    /// # Errors
    /// When there is no file descriptor left, or no seed for chance.
    pub fn new() -> io::Result<(Self, Probes, Receiver<Event>)> {
        let poller = Poller::new()?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        poller.watch(waker.as_fd(), WAKE)?;
        let (order, orders) = channel();
        let (event, events) = channel();
        let board = Arc::new(Board::default());
        let line = Line { orders: Mutex::new(order), waker: waker.try_clone()? };
        let probes = Probes { line: Arc::new(line), board: board.clone() };
        let engine = Self {
            poller,
            timers: Timers::new(),
            orders,
            waker: Arc::new(waker),
            board,
            events: event,
            slots: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            chance: Chance::new()?,
            ready: Vec::new(),
            again: Vec::new(),
            stopped: false,
        };
        Ok((engine, probes, events))
    }

    /// Probes until the last [`Probes`] is dropped.
    ///
    /// # Panics
    /// Never for anything that a target does.
    pub fn run(&mut self) {
        while self.turn(None) {}
    }

    /// Waits for what comes next, `patience` at most (`None`: as long as it takes), and does it. False when the last
    /// [`Probes`] is gone.
    pub fn turn(&mut self, patience: Option<Duration>) -> bool {
        let next = self.timers.next().map(|due| due.saturating_duration_since(Instant::now()));
        let wait = match (next, patience) {
            (Some(next), Some(patience)) => Some(next.min(patience)),
            (next, patience) => next.or(patience),
        };
        let wait = if self.again.is_empty() { wait } else { Some(Duration::ZERO) };
        let mut ready = core::mem::take(&mut self.ready);
        if self.poller.wait(wait, &mut ready).is_err() {
            // Only a descriptor that is none could be refused. Without events the time-outs still end everything.
            std::thread::sleep(wait.unwrap_or(PAUSE).min(PAUSE));
        }
        ready.append(&mut self.again);
        for token in ready.drain(..) {
            if token == WAKE {
                self.obey();
            } else if let Some(place) = self.place(token) {
                self.proceed(place, token);
            }
        }
        self.ready = ready;
        let now = Instant::now();
        for _ in 0..TIMERS {
            let Some(token) = self.timers.pop(now) else { break };
            if let Some(place) = self.place(token) {
                self.due(place, now);
            }
        }
        !self.stopped
    }

    /// Does what it was told.
    fn obey(&mut self) {
        let mut count = [0; 8];
        // Empty when it was emptied together with an earlier ring.
        let _ = rustix::io::read(&*self.waker, &mut count);
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Watch(id, probe) => self.begin(id, probe),
                Order::Forget(id) => self.end(id),
                Order::Stop => self.stopped = true,
            }
        }
    }

    fn begin(&mut self, id: ProbeId, probe: Arc<Probe>) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let now = Instant::now();
        // Spread by chance, so that a director that starts with many probes does not begin all of them at once.
        let first = now + self.chance.below(probe.schedule.warmup);
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        slot.work =
            Some(Work { id, probe, judge: Judge::new(), advice: None, why: None, began: now, attempt: None });
        self.places.insert(id, place);
        self.plan(place, first);
    }

    fn end(&mut self, id: ProbeId) {
        let Some(place) = self.places.remove(&id) else { return };
        if let Some(slot) = self.slots.get_mut(place as usize) {
            slot.work = None;
            slot.turn = slot.turn.wrapping_add(1);
            self.free.push(place);
        }
    }

    /// The place that a token is about, unless it is about something that is over.
    fn place(&self, token: u64) -> Option<u32> {
        let (place, turn) = ((token >> 32) as u32, token as u32);
        let slot = self.slots.get(place as usize)?;
        (slot.turn == turn && slot.work.is_some()).then_some(place)
    }

    /// What is probed at a place.
    fn work(&mut self, place: u32) -> Option<&mut Work> {
        self.slots.get_mut(place as usize)?.work.as_mut()
    }

    /// Waits for a time; whatever was waited for before is over.
    fn plan(&mut self, place: u32, due: Instant) -> u64 {
        let Some(slot) = self.slots.get_mut(place as usize) else { return WAKE };
        slot.turn = slot.turn.wrapping_add(1);
        let token = slot.token(place);
        // Plans that were given up stay in the heap until they are due. They are cleared away once they outnumber the
        // probes by far, so that the heap stays bounded.
        if self.timers.len() > LEAST_TIMERS + 8 * self.slots.len() {
            let slots = &self.slots;
            self.timers.retain(|token| {
                slots.get((token >> 32) as usize).is_some_and(|slot| slot.turn == token as u32)
            });
        }
        self.timers.set(due, token);
        token
    }

    /// A time has come: an attempt begins, goes on, or is cut off.
    fn due(&mut self, place: u32, now: Instant) {
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        let token = slot.token(place);
        let Some(work) = &mut slot.work else { return };
        let Some(attempt) = &mut work.attempt else {
            self.attempt(place, now);
            return;
        };
        if now < work.began + work.probe.schedule.timeout {
            self.proceed(place, token);
            return;
        }
        match attempt.expire(now.saturating_duration_since(work.began).min(work.probe.schedule.timeout)) {
            Expiry::Ends(answer) => self.answered(place, answer),
            Expiry::Lingers(grace) => {
                // By the number under which its descriptor is watched.
                self.timers.set(now + grace, token);
            }
        }
    }

    fn attempt(&mut self, place: u32, now: Instant) {
        let Some(work) = self.work(place) else { return };
        work.began = now;
        let (check, target) = (&work.probe.check, work.probe.target);
        let expiry = now + work.probe.schedule.timeout;
        match check.begin(target) {
            Ok(attempt) => work.attempt = Some(attempt),
            Err(failure) => return self.answered(place, Err(failure)),
        }
        // The attempt gets a number of its own. What comes late for an earlier attempt has another one, and is ignored.
        let token = self.plan(place, expiry);
        let slot = self.slots.get(place as usize);
        let Some(attempt) = slot.and_then(|slot| slot.work.as_ref()).and_then(|work| work.attempt.as_ref())
        else {
            return;
        };
        // Descriptors are watched by edges. An attempt that waits for none yet, but for a neighbour, would never be
        // called.
        let eager = attempt.is_eager();
        if let Err(errno) = self.poller.watch(attempt.descriptor(), token) {
            self.answered(place, Err(Failure::of_socket("watch a socket", errno)));
            return;
        }
        if eager {
            self.proceed(place, token);
        }
    }

    fn proceed(&mut self, place: u32, token: u64) {
        let Some(work) = self.work(place) else { return };
        let Some(attempt) = &mut work.attempt else { return };
        match attempt.proceed() {
            Progress::Waits => {}
            Progress::Yields => self.again.push(token),
            Progress::Pauses(pause) => self.timers.set(Instant::now() + pause, token),
            Progress::Done(answer) => self.answered(place, answer),
        }
    }

    /// An attempt is over: hears its answer, tells what is new, and plans the next one.
    fn answered(&mut self, place: u32, answer: Result<Pass, Failure>) {
        let Some(work) = self.slots.get_mut(place as usize).and_then(|slot| slot.work.as_mut()) else {
            return;
        };
        work.attempt = None;
        let schedule = work.probe.schedule;
        let (advice, why) = match answer {
            Ok(pass) => (pass.advice, None),
            // What is advised stays until something else is.
            Err(failure) => (work.advice, Some(failure)),
        };
        let is_news = why != work.why;
        let hindered = why.as_ref().is_some_and(Failure::is_ours);
        let turned = !hindered && work.judge.hear(why.is_none(), schedule.rise, schedule.fall).is_some();
        let (id, state) = (work.id, work.judge.state());
        let changed = turned || advice != work.advice;
        if changed || is_news {
            // Before it is told, so that whoever is told finds it there.
            self.board.note(id, state, advice, why.clone());
        }
        let probe = || work.probe.clone();
        let event = if changed {
            Some(Event::Changed { id, probe: probe(), state, advice, why: why.clone() })
        } else {
            let news = why.clone().filter(|_| hindered && is_news);
            news.map(|why| Event::Hindered { id, probe: probe(), why })
        };
        if let Some(event) = event {
            // Nobody has to listen.
            let _ = self.events.send(event);
        }
        work.advice = advice;
        work.why = why;
        let now = Instant::now();
        let next = match schedule.retry {
            Some(retry) if work.judge.doubts() => now + retry,
            // Counted from the attempt's beginning, so that slow answers do not make the probes rarer.
            Some(_) | None => work.began + schedule.interval + self.chance.below(schedule.jitter),
        };
        // A schedule of no time at all must leave time for everything else.
        let least = if hindered { now + PAUSE } else { now + SHORTEST };
        self.plan(place, next.max(least));
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("probes", &self.places.len()).finish_non_exhaustive()
    }
}

impl State {
    /// Whether it has had an answer.
    #[must_use]
    pub const fn is_known(self) -> bool {
        !matches!(self, Self::Unknown)
    }
}

/// Even chances for times, which need no secret.
struct Chance(u64);

impl Chance {
    fn new() -> io::Result<Self> {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        // Xorshift never leaves 0.
        Ok(Self(u64::from_ne_bytes(bytes) | 1))
    }

    /// A duration from 0 to `most`, which xorshift64 chooses.
    fn below(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        most.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// The waker's token: no slot has it, because there are never so many.
const WAKE: u64 = u64::MAX;
/// Times that are served before descriptors are looked at again.
const TIMERS: usize = 256;
/// Times that are noted before those are cleared away whose occasion is over.
const LEAST_TIMERS: usize = 1_024;
/// How long it waits after something that cannot be.
const PAUSE: Duration = Duration::from_millis(100);
/// The least time between two attempts of a probe.
const SHORTEST: Duration = Duration::from_millis(1);
