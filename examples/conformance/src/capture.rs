//! A capture played through a director with an ordinary configuration.

use core::time::Duration;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use lvs_core::{Director, Heap, Seed, Tick};
use lvs_forward::alg::ftp::Controls;
use lvs_forward::host::{Host, HostMemory, Port, Prefix};
use lvs_forward::output::{Cut, pieces};
use lvs_forward::parse::Link;
use lvs_forward::reassembly::Fragments;
use lvs_forward::{Forwarder, Frame, HEADROOM, Outcome, PortId};
use lvs_std::config::{ConfigSource, Configuration};
use lvs_std::device::mark::mark;
use lvs_std::device::pcap::{LinkType, Reader, Writer};
use lvs_std::runtime::frame_rows;
use lvs_std::worker::WorkerCounters;
use lvs_support::text::columns;

use crate::CaptureFiles;
use crate::survey::{Survey, interface_of, interface_of_packet};

/// Plays a capture; the result is a summary in words.
///
/// Time is the capture's, chance has a fixed seed: the same files give the same bytes.
pub(crate) fn play(files: &CaptureFiles<'_>) -> Result<String, String> {
    let configuration = ConfigSource::read(files.config).map_err(|error| error.to_string())?.configuration;
    if let (Ok(input), Ok(output)) = (files.input.canonicalize(), files.output.canonicalize())
        && input == output
    {
        return Err(format!("{} is read and cannot be written as well", files.input.display()));
    }
    let link = open(files.input)?.link_type();
    let survey = match link {
        LinkType::Ethernet => {
            Survey::of(&configuration, open(files.input)?).map_err(|error| damaged(files.input, &error))?
        }
        LinkType::Ip => Survey::default(),
    };
    let mut stage = Stage::new(&configuration, link, &survey, files)?;
    let mut capture = open(files.input)?;
    let mut summary = Summary::default();
    while let Some(record) = capture.next_frame().map_err(|error| damaged(files.input, &error))? {
        summary.read += 1;
        let own = |bytes: &[u8]| {
            survey.own.iter().any(|mac| bytes.get(6..).is_some_and(|from| from.starts_with(&mac.0)))
        };
        if record.frame.len() < record.original {
            summary.cut += 1;
            continue;
        }
        if record.sent || (link == LinkType::Ethernet && own(record.frame.bytes())) {
            summary.own += 1;
            continue;
        }
        stage.advance(record.time)?;
        let mut frame = record.frame;
        frame.port = PortId(match link {
            LinkType::Ethernet => interface_of(&configuration, &survey.own, &frame),
            LinkType::Ip => interface_of_packet(&configuration, &frame),
        } as u8);
        mark(&mut frame, stage.link, &configuration.marks);
        stage.put_in(&mut frame)?;
    }
    stage.finish()?;
    summary.left_out = capture.left_out();
    Ok(summary.describe(&stage, &survey))
}

/// What was done with the frames of a capture.
#[derive(Debug, Default)]
struct Summary {
    read: u64,
    cut: u64,
    own: u64,
    left_out: u64,
}

impl Summary {
    fn describe(&self, stage: &Stage, survey: &Survey) -> String {
        let mut text = format!("{} frames read, {} written\n", self.read, stage.written);
        if self.own > 0 {
            text.push_str(&format!("  {} left out: the director itself sent them\n", self.own));
        }
        if self.cut > 0 {
            text.push_str(&format!("  {} left out: only their beginning was captured\n", self.cut));
        }
        if self.left_out > 0 {
            text.push_str(&format!("  {} left out: no IP packets, in a cooked capture\n", self.left_out));
        }
        for address in &survey.made_up {
            let mac = survey.neighbours.get(address).map_or(String::new(), |(_, mac)| mac.to_string());
            text.push_str(&format!("  {address} sent nothing: it is at {mac} for this replay\n"));
        }
        let (director, forwarder) = (stage.director.counters(), stage.forwarder.counters());
        let frames = frame_rows(&director, forwarder, &WorkerCounters::default()).into_iter();
        let frames: Vec<_> = frames.map(|(count, what)| vec![count.to_string(), what]).collect();
        text.push_str(&columns(&frames, &[0]));
        text
    }
}

/// The director, and where its frames go.
struct Stage {
    director: Director<Heap>,
    forwarder: Box<Forwarder>,
    link: Link,
    to: Writer<BufWriter<File>>,
    name: PathBuf,
    written: u64,
    /// When the capture began, and the present moment, since 1970.
    start: Option<Duration>,
    present: Duration,
    budget: usize,
}

impl Stage {
    fn new(
        configuration: &Configuration,
        link_type: LinkType,
        survey: &Survey,
        files: &CaptureFiles<'_>,
    ) -> Result<Self, String> {
        let seed = Seed::from_bytes(SEED);
        let mut host = Box::new(Host::with_memory(seed, HostMemory::owned(configuration.sizes.host())));
        let say = |what: &str| format!("{}: {what}", files.config.display());
        let link = match link_type {
            LinkType::Ethernet => Link::Ethernet,
            LinkType::Ip => Link::Bare,
        };
        for (number, interface) in configuration.interfaces.iter().enumerate() {
            let port = match (link, survey.own.get(number)) {
                (Link::Ethernet, Some(&mac)) => Port::ethernet(mac, files.mtu),
                (Link::Ethernet, None) | (Link::Bare, _) => Port::bare(files.mtu),
            };
            let port = match interface.vlan {
                Some(vlan) if link == Link::Ethernet => port.with_vlan(vlan),
                Some(_) | None => port,
            };
            let port = host.add_port(port).map_err(|error| say(&error.to_string()))?;
            for &(address, length) in &interface.addresses {
                host.add_address(port, address, length).map_err(|error| say(&error.to_string()))?;
            }
            for route in &interface.routes {
                if let Some(prefix) = Prefix::new(route.to.0, route.to.1) {
                    host.add_route(prefix, route.via, port).map_err(|error| say(&error.to_string()))?;
                }
            }
        }
        for &address in &configuration.virtual_addresses {
            host.add_virtual_address(address).map_err(|error| say(&error.to_string()))?;
        }
        for (&address, &(number, mac)) in survey.neighbours.iter().take(configuration.sizes.neighbours / 2) {
            // An own address that another host used as well is a fault of the network, not of the replay.
            let _ = host.add_neighbour(PortId(number as u8), address, mac);
        }
        let mut director = Director::new(configuration.core(seed), Heap::new(configuration.capacity_each()));
        for service in &configuration.services {
            director
                .add_service(service.key, service.config.clone())
                .map_err(|error| say(&error.to_string()))?;
            for &server in &service.servers {
                director.add_server(service.key, server).map_err(|error| say(&error.to_string()))?;
            }
        }
        let failed = |error| format!("{} cannot be written: {error}", files.output.display());
        let file = File::create(files.output).map_err(failed)?;
        Ok(Self {
            director,
            forwarder: Box::new(
                Forwarder::new(*host, configuration.options)
                    .with_fragments(Fragments::with_room(FRAGMENTS))
                    .with_ftp(Controls::with_room(CONTROLS)),
            ),
            link,
            to: Writer::new(BufWriter::new(file), link_type).map_err(failed)?,
            name: files.output.to_owned(),
            written: 0,
            start: None,
            present: Duration::ZERO,
            budget: configuration.connections.div_ceil(10),
        })
    }

    fn now(&self) -> Tick {
        let since = self.start.map_or(Duration::ZERO, |start| self.present.saturating_sub(start));
        Tick::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Goes on to this moment; what the director sends by itself on the way has its own time.
    fn advance(&mut self, to: Duration) -> Result<(), String> {
        if self.start.is_none() {
            (self.start, self.present) = (Some(to), to);
        }
        // The longer a pause has lasted, the longer is a step, so that a pause of years takes as few as some thousands:
        // what a director does by itself it does in the first seconds, and what ends later is known to the 64th part.
        let from = self.present;
        while self.present < to {
            let step = STEP.max(self.present.saturating_sub(from) / STEPS_EACH);
            self.present = to.min(self.present.saturating_add(step));
            // A tenth of the table each tenth of a second, and never more than all of it.
            let tenths = usize::try_from(step.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
            self.director.sweep(self.now(), self.budget.saturating_mul(tenths.clamp(1, 10)));
            self.poll()?;
        }
        Ok(())
    }

    fn put_in(&mut self, frame: &mut Frame<'_>) -> Result<(), String> {
        let now = self.now();
        match self.forwarder.process(&mut self.director, now, frame) {
            Outcome::Send => self.write(frame.bytes())?,
            Outcome::SendPieces(cut) => {
                let parts = cut_up(frame, self.link, cut);
                parts.iter().try_for_each(|part| self.write(part))?;
            }
            Outcome::Assembled(datagram) => {
                let link = self.link;
                let parts = match self.forwarder.take(datagram) {
                    Some(mut taken) if matches!(taken.outcome, Outcome::Send | Outcome::SendPieces(_)) => {
                        let cut = taken.outcome.cut();
                        cut_up(&mut taken.frame, link, cut)
                    }
                    Some(_) | None => Vec::new(),
                };
                parts.iter().try_for_each(|part| self.write(part))?;
            }
            Outcome::Consumed | Outcome::Drop(_) | Outcome::Pass(_) => {}
        }
        self.poll()
    }

    fn poll(&mut self) -> Result<(), String> {
        let now = self.now();
        let mut buffer = [0; HEADROOM + 2_048];
        while let Some(frame) = self.forwarder.poll_transmit(now, &mut buffer) {
            let bytes = frame.bytes().to_vec();
            self.write(&bytes)?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.written += 1;
        let failed = |error| format!("{} cannot be written: {error}", self.name.display());
        self.to.record(self.present, bytes).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), String> {
        use lvs_std::device::Transmit as _;
        let failed = |error| format!("{} cannot be written: {error}", self.name.display());
        self.to.flush().map(drop).map_err(failed)
    }
}

fn open(file: &Path) -> Result<Reader<BufReader<File>>, String> {
    let opened = File::open(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    Reader::new(BufReader::new(opened)).map_err(|error| damaged(file, &error))
}

fn damaged(file: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", file.display())
}

/// The pieces that a frame leaves in; none if it cannot be cut.
fn cut_up(frame: &mut Frame<'_>, link: Link, cut: Cut) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    match pieces(frame, link, cut, &mut |piece| parts.push(piece.bytes().to_vec())) {
        Ok(_) => parts,
        Err(_) => Vec::new(),
    }
}

/// Chance, the same each time.
const SEED: [u8; 16] = *b"director  replay";
/// Datagrams that may be in the making at a time, as a worker has them.
const FRAGMENTS: usize = 128;
/// FTP control connections that may be in passive mode, as a worker has them.
const CONTROLS: usize = 1_024;
/// How often the director looks at its clock while nothing comes in.
const STEP: Duration = Duration::from_millis(100);
/// In how many steps a pause doubles.
const STEPS_EACH: u32 = 64;
