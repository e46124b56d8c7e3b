//! A director with connections, to which frames come one by one or in batches.

use core::net::SocketAddr;

use lvs_core::service::{Persistence, PersistenceEngine};
use lvs_core::{
    Event, Family, Method, Protocol, Scheduler, ServerConfig, ServiceConfig, ServiceKey, Tick, Verdict,
};
use lvs_forward::alg::ftp::Controls;
use lvs_forward::host::MacAddress;
use lvs_forward::{Frame, HEADROOM, Offload, Options, Outcome, PortId};

use crate::arrival::*;
use crate::lab::*;
use crate::sample::{Bed, Sample};

const START: Tick = Tick::from_millis(1_000);

/// What happens between two calls.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Nothing,
    Wait(u64),
    Sweep(usize),
    /// The server of a method has another link-layer address.
    Moved(Family, usize, u8),
    /// The server of a method takes no new connections.
    Quiesced(Family, usize),
    /// The virtual address of a method becomes the director's own, or another host's.
    Own(Family, usize, bool),
}

/// What became of a frame.
#[derive(Debug, PartialEq)]
pub(crate) struct Left {
    outcome: Outcome,
    bytes: Vec<u8>,
    port: PortId,
    offload: Offload,
    mark: u32,
    /// The datagram that has become whole with it.
    datagram: Option<Box<Self>>,
}

impl Left {
    pub(crate) const fn outcome(&self) -> Outcome {
        self.outcome
    }

    fn new(outcome: Outcome, frame: &Frame<'_>) -> Self {
        let Frame { port, offload, mark, .. } = *frame;
        Self { outcome, bytes: frame.bytes().to_vec(), port, offload, mark, datagram: None }
    }
}

/// A world of its own, with the known connections in it.
pub(crate) struct World {
    pub(crate) lab: Lab,
    now: Tick,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let mut lab = Lab::new(options);
        lab.forwarder.set_ftp(Controls::with_room(4));
        for family in [Family::V4, Family::V6] {
            let (address, server) = (virtual_address(0, family), server(0, family).ip());
            let by_call = Persistence::new(100).with_engine(PersistenceEngine::Sip);
            for (key, port, persistence) in [
                (ServiceKey::tcp(address, FTP), FTP, None),
                (ServiceKey::udp(address, SIP), SIP, Some(by_call)),
                (ServiceKey::Mark { family, mark: MARK }, SERVER_PORT, None),
            ] {
                let mut config = ServiceConfig::new(Scheduler::default());
                config.persistence = persistence;
                lab.director.add_service(key, config).unwrap();
                let server = SocketAddr::new(server, port);
                lab.director.add_server(key, ServerConfig::new(server, Method::Nat)).unwrap();
            }
        }
        let mut world = Self { lab, now: START };
        for family in [Family::V4, Family::V6] {
            for (method, client) in
                (0..METHODS.len()).flat_map(|at| (0..KNOWN).map(move |client| (at, client)))
            {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let flow = Flow { family, method, protocol, client, reply: false };
                    for tcp_flags in [SYN, ACK] {
                        let arrival = Arrival::of(flow, &Sample { tcp_flags, ..flow.sample() });
                        let left = world.one_by_one(&[arrival]);
                        assert_eq!(left[0].outcome, Outcome::Send);
                    }
                }
            }
        }
        world.events();
        world
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match *change {
            Change::Nothing => {}
            Change::Wait(millis) => self.now = self.now.plus_millis(millis),
            Change::Sweep(budget) => _ = self.lab.director.sweep(self.now, budget),
            Change::Moved(family, method, last) => {
                let mac = MacAddress([2, 0, 0, 0, 9, last]);
                let address = server(method, family).ip();
                self.lab.forwarder.host_mut().add_neighbour(PortId(INSIDE), address, mac).unwrap();
            }
            Change::Quiesced(family, method) => {
                let key = ServiceKey::tcp(virtual_address(method, family), SERVICE_PORT);
                let config = ServerConfig::new(server(method, family), METHODS[method]);
                self.lab.director.edit_server(key, config.with_weight(0.into())).unwrap();
            }
            Change::Own(family, method, own) => {
                let address = virtual_address(method, family);
                let host = self.lab.forwarder.host_mut();
                host.remove_address(address);
                if own {
                    host.add_virtual_address(address).unwrap();
                }
            }
        }
    }

    pub(crate) fn one_by_one(&mut self, arrivals: &[Arrival]) -> Vec<Left> {
        let mut left = Vec::new();
        for arrival in arrivals {
            let mut bed = Bed::new(&arrival.bytes);
            let mut frame = bed.frame(arrival.port).with_offload(arrival.offload);
            frame.mark = arrival.mark;
            let outcome = self.lab.forwarder.process(&mut self.lab.director, self.now, &mut frame);
            left.push(Left::new(outcome, &frame));
            bed.check_fences();
            // At once, as whoever has one frame at a time does it; of a batch afterwards.
            self.take(left.last_mut());
        }
        left
    }

    /// What would become of a frame that came now; `None` for a fragment that would wait.
    pub(crate) fn rehearse(&self, arrival: &Arrival) -> Option<Left> {
        let mut bed = Bed::new(&arrival.bytes);
        let mut frame = bed.frame(arrival.port).with_offload(arrival.offload);
        frame.mark = arrival.mark;
        let rehearsed = self.lab.forwarder.rehearse(&self.lab.director, self.now, &mut frame).unwrap();
        if let (Some((packet, Verdict::Forward(forward), _)), Some(Outcome::Send)) =
            (&rehearsed.decision, rehearsed.outcome)
        {
            assert!(self.lab.director.server(forward.server).is_some(), "{packet:?}");
        }
        let left = rehearsed.outcome.map(|outcome| Left::new(outcome, &frame));
        bed.check_fences();
        left
    }

    fn take(&mut self, left: Option<&mut Left>) {
        let Some(left) = left else { return };
        if let Outcome::Assembled(datagram) = left.outcome {
            let taken = self.lab.forwarder.take(datagram).expect("it was not taken yet");
            left.datagram = Some(Box::new(Left::new(taken.outcome, &taken.frame)));
        }
    }

    pub(crate) fn batch(&mut self, arrivals: &[Arrival]) -> Vec<Left> {
        let mut beds: Vec<Bed> = arrivals.iter().map(|arrival| Bed::new(&arrival.bytes)).collect();
        let mut frames: Vec<Frame<'_>> = Vec::new();
        for (bed, arrival) in beds.iter_mut().zip(arrivals) {
            let mut frame = bed.frame(arrival.port).with_offload(arrival.offload);
            frame.mark = arrival.mark;
            frames.push(frame);
        }
        let mut outcomes = vec![Outcome::Consumed; frames.len()];
        self.lab.forwarder.process_batch(&mut self.lab.director, self.now, &mut frames, &mut outcomes);
        let mut left: Vec<_> =
            outcomes.iter().zip(&frames).map(|(outcome, frame)| Left::new(*outcome, frame)).collect();
        beds.iter().for_each(Bed::check_fences);
        left.iter_mut().for_each(|left| self.take(Some(left)));
        left
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.lab.director.poll_event()).collect()
    }

    /// The frames that the director sends as a host.
    pub(crate) fn own_frames(&mut self) -> Vec<Left> {
        let mut own = Vec::new();
        let mut spare = vec![0; HEADROOM + 2_048];
        while let Some(frame) = self.lab.forwarder.poll_transmit(self.now, &mut spare) {
            own.push(Left::new(Outcome::Send, &frame));
        }
        own
    }
}
