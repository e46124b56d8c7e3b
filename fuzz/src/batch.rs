//! `Forwarder::process_batch` against `Forwarder::process`: runs of plain frames of known connections, and whatever
//! ends or interrupts them.

use core::net::SocketAddr;

use lvs_core::{Family, Method, Scheduler, ServerConfig, ServiceConfig, ServiceKey, Tick};
use lvs_forward::alg::ftp::Controls;
use lvs_forward::reassembly::Fragments;
use lvs_forward::{Frame, HEADROOM, Offload, Outcome, PortId};

use crate::arrival::{ACK, Arrival, FTP, Flow, KNOWN, MARK, SYN, arp, plain_run};
use crate::forward::{Buffer, METHODS, Site, WORLD, site};

/// A batch is handed over when it has so many frames.
const LONGEST: usize = 200;

/// The first two bytes choose the method and the options. Every four bytes after them are frames, or a pause: what
/// kind, who sends, what, and how much of it.
///
/// # Panics
///
/// When two identical worlds, one that takes the frames in batches and one that takes them one by one, differ in
/// anything that can be seen of them.
pub fn batch(data: &[u8]) {
    let Some((&[method, options], mut rest)) = data.split_first_chunk() else { return };
    let mut single = World::new(method, options);
    let mut batched = World::new(method, options);
    let mut arrivals: Vec<Arrival> = Vec::new();
    let mut whole = 0;
    while let Some((&[kind, who, what, count], behind)) = rest.split_first_chunk() {
        rest = behind;
        let flow = Flow::new(who, what, single.method);
        match kind % 8 {
            0..=2 => plain_run(&mut arrivals, kind % 8, flow, who, what, count),
            3 | 4 => arrivals.push(Arrival::odd(&flow, kind, what, count)),
            5 => {
                // The last one once more, with another byte somewhere.
                let Some(mut arrival) = arrivals.last().cloned() else { continue };
                whole += 1;
                let len = arrival.bytes.len().max(1);
                if let Some(byte) = arrival.bytes.get_mut(usize::from(count) % len) {
                    *byte ^= who;
                }
                if what & 1 != 0 {
                    arrival.bytes.truncate(usize::from(what));
                }
                arrivals.push(arrival);
            }
            6 => arrivals.push(Arrival::new(match count % 4 {
                0 => {
                    whole += 1;
                    flow.fragment(count >> 2, what >> 5)
                }
                1 => flow.icmp(false),
                2 => flow.icmp(true),
                _ => arp(what & 0x80 != 0),
            })),
            _ => {
                compare(&mut single, &mut batched, &arrivals);
                arrivals.clear();
                whole = 0;
                for world in [&mut single, &mut batched] {
                    world.pause(u64::from(who) * u64::from(what), usize::from(count));
                }
            }
        }
        // No more than 32 datagrams of a batch can wait to be taken, as many as a worker's batch has frames.
        if arrivals.len() >= LONGEST || whole >= 32 {
            compare(&mut single, &mut batched, &arrivals);
            arrivals.clear();
            whole = 0;
        }
    }
    compare(&mut single, &mut batched, &arrivals);
}

/// All that can be seen of a frame afterwards.
#[derive(Debug, PartialEq)]
struct Left {
    outcome: Outcome,
    bytes: Vec<u8>,
    port: PortId,
    offload: Offload,
    /// The datagram that has become whole with it.
    datagram: Option<Box<Self>>,
}

impl Left {
    fn new(outcome: Outcome, frame: &Frame<'_>) -> Self {
        let (bytes, port, offload) = (frame.bytes().to_vec(), frame.port, frame.offload);
        Self { outcome, bytes, port, offload, datagram: None }
    }
}

/// A director with the known connections.
struct World {
    site: Site,
    method: Method,
    now: Tick,
}

impl World {
    fn new(method: u8, options: u8) -> Self {
        let method = METHODS[usize::from(method) % METHODS.len()];
        let mut site = site(method, true);
        let mut set = *site.forwarder.options();
        (set.ip_forward, set.capture_marked) = (options & 1 != 0, options & 2 != 0);
        (set.pmtu_disc, set.reject) = (options & 4 != 0, options & 8 != 0);
        site.forwarder.set_options(set);
        site.forwarder.set_ftp(Controls::with_room(2));
        site.forwarder.set_fragments(Fragments::with_room(2));
        for world in &WORLD {
            let family = Family::of(world.vip);
            for (key, port) in
                [(ServiceKey::tcp(world.vip, FTP), FTP), (ServiceKey::Mark { family, mark: MARK }, 8_080)]
            {
                let added = site.director.add_service(key, ServiceConfig::new(Scheduler::default()));
                assert!(added.is_ok(), "{added:?}");
                let config = ServerConfig::new(SocketAddr::new(world.server, port), Method::Nat);
                let added = site.director.add_server(key, config);
                assert!(added.is_ok(), "{added:?}");
            }
        }
        let mut world = Self { site, method, now: Tick::from_millis(1_000) };
        for (client, what) in (0..KNOWN).flat_map(|client| (0..4).map(move |what| (client, what))) {
            let flow = Flow::new(client, what, method);
            let opening = [SYN, ACK].map(|flags| Arrival::new(flow.frame(flags, 0, 64)));
            let _ = world.one_by_one(&opening);
        }
        let _ = world.site.events();
        world
    }

    fn pause(&mut self, tenths: u64, budget: usize) {
        self.now = self.now.plus_millis(tenths * 100);
        let _ = self.site.director.sweep(self.now, budget);
    }

    fn one_by_one(&mut self, arrivals: &[Arrival]) -> Vec<Left> {
        let mut left = Vec::new();
        for arrival in arrivals {
            let mut buffer = Buffer::new(&arrival.bytes);
            let mut frame = buffer.frame(arrival.port).with_offload(arrival.offload);
            frame.mark = arrival.mark;
            let outcome = self.site.forwarder.process(&mut self.site.director, self.now, &mut frame);
            left.push(Left::new(outcome, &frame));
            buffer.check_fences();
            // At once, as whoever has one frame at a time does it; of a batch afterwards.
            self.take(left.last_mut());
        }
        left
    }

    fn take(&mut self, left: Option<&mut Left>) {
        let Some(left) = left else { return };
        if let Outcome::Assembled(datagram) = left.outcome {
            let taken = self.site.forwarder.take(datagram);
            assert!(taken.is_some(), "it was not taken yet");
            left.datagram = taken.map(|taken| Box::new(Left::new(taken.outcome, &taken.frame)));
        }
    }

    fn batch(&mut self, arrivals: &[Arrival]) -> Vec<Left> {
        let mut buffers: Vec<Buffer> = arrivals.iter().map(|arrival| Buffer::new(&arrival.bytes)).collect();
        let mut frames = Vec::new();
        for (buffer, arrival) in buffers.iter_mut().zip(arrivals) {
            let mut frame = buffer.frame(arrival.port).with_offload(arrival.offload);
            frame.mark = arrival.mark;
            frames.push(frame);
        }
        let mut outcomes = vec![Outcome::Consumed; frames.len()];
        self.site.forwarder.process_batch(&mut self.site.director, self.now, &mut frames, &mut outcomes);
        let mut left: Vec<_> =
            outcomes.iter().zip(&frames).map(|(outcome, frame)| Left::new(*outcome, frame)).collect();
        buffers.iter().for_each(Buffer::check_fences);
        left.iter_mut().for_each(|left| self.take(Some(left)));
        left
    }

    /// The frames that the director sends as a host.
    fn own_frames(&mut self) -> Vec<Left> {
        let mut own = Vec::new();
        let mut spare = vec![0; HEADROOM + 2_048];
        while let Some(frame) = self.site.forwarder.poll_transmit(self.now, &mut spare) {
            own.push(Left::new(Outcome::Send, &frame));
        }
        own
    }
}

/// Hands both worlds the same frames.
fn compare(single: &mut World, batched: &mut World, arrivals: &[Arrival]) {
    let (expected, left) = (single.one_by_one(arrivals), batched.batch(arrivals));
    for (at, (left, expected)) in left.iter().zip(&expected).enumerate() {
        assert_eq!(left, expected, "frame {at} of {}", arrivals.len());
    }
    assert_eq!(batched.own_frames(), single.own_frames());
    let (single, batched) = (&mut single.site, &mut batched.site);
    assert_eq!(batched.events(), single.events());
    assert_eq!(batched.forwarder.counters(), single.forwarder.counters());
    // Connections that are over are compared too, as long as they are in the table.
    batched.assert_counts_as(single, Tick::ZERO);
}
