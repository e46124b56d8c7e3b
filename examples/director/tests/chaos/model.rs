//! What the director was told, as far as it has acknowledged it.

use core::fmt::{Debug, Write as _};
use core::net::{Ipv4Addr, SocketAddr};
use std::collections::BTreeMap;

use lvs_core::Family;
use lvs_std::control::{ServerReport, ServerSpec, ServiceName, ServiceReport, ServiceSpec, TableCommand};
use lvs_std::control::{method, whole};
use lvs_std::lab::harness::Outcome;

use crate::chance::Chance;

/// Something that is changed by commands, and all that it may be: a command that was not answered has been done or
/// not.
#[derive(Debug)]
pub(crate) struct Unit<S>(Vec<S>);

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was acknowledged.
    Done,
    /// It was refused, since it makes no sense where things stand.
    Refused,
    /// It was refused for want of something that the trouble has taken away.
    Hindered,
    /// The connection broke before the answer.
    Unknown,
}

impl<S: Clone + PartialEq + Debug> Unit<S> {
    fn new(state: S) -> Self {
        Self(vec![state])
    }

    /// `apply` says what the command makes of a state; `None` where it makes no sense.
    pub(crate) fn told(&mut self, told: Told, apply: impl Fn(&S) -> Option<S>) -> Outcome {
        let before = self.0.clone();
        match told {
            Told::Done => self.0 = before.iter().filter_map(&apply).collect(),
            Told::Refused => self.0.retain(|state| apply(state).is_none()),
            Told::Hindered => {}
            Told::Unknown => self.0.extend(before.iter().filter_map(&apply)),
        }
        let mut kept: Vec<S> = Vec::new();
        for state in self.0.drain(..) {
            if !kept.contains(&state) {
                kept.push(state);
            }
        }
        self.0 = kept;
        if self.0.is_empty() {
            return Err(format!("{told:?} is no answer where things stand so: {before:?}").into());
        }
        Ok(())
    }

    /// It is listed so.
    pub(crate) fn listed(&mut self, what: impl FnOnce() -> String, state: S) -> Outcome {
        if !self.0.contains(&state) {
            let (what, may) = (what(), &self.0);
            return Err(format!("{what} is {state:?}, and what was acknowledged is one of {may:?}").into());
        }
        self.0 = vec![state];
        Ok(())
    }
}

/// A service that is there by command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    scheduler: String,
    servers: BTreeMap<SocketAddr, i32>,
}

impl Declared {
    fn of(service: &ServiceReport, servers: &[ServerReport]) -> Self {
        let servers = servers.iter().map(|server| (server.address, server.spec.weight)).collect();
        Self { scheduler: service.spec.scheduler.clone(), servers }
    }

    /// What a command makes of such a service, or of there being none.
    pub(crate) fn after(state: &Option<Self>, command: &TableCommand) -> Option<Option<Self>> {
        let mut new = state.clone();
        match command {
            TableCommand::NewService(_, spec) if new.is_none() => {
                new = Some(Self { scheduler: spec.scheduler.clone(), servers: BTreeMap::new() });
            }
            TableCommand::SetService(_, spec, _) => new.as_mut()?.scheduler.clone_from(&spec.scheduler),
            TableCommand::DelService(_) => _ = new.take()?,
            TableCommand::NewServer(_, address, spec) => {
                if new.as_mut()?.servers.insert(*address, spec.weight).is_some() {
                    return None;
                }
            }
            TableCommand::SetServer(_, address, spec) => {
                *new.as_mut()?.servers.get_mut(address)? = spec.weight;
            }
            TableCommand::DelServer(_, address) => _ = new.as_mut()?.servers.remove(address)?,
            TableCommand::NewService(..) | TableCommand::Flush => return None,
        }
        Some(new)
    }
}

/// The service that the file says ever anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filed {
    scheduler: &'static str,
    weights: [i32; 3],
}

impl Filed {
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        let scheduler = chance.one_of(&SCHEDULERS);
        Self { scheduler, weights: [0; 3].map(|_| chance.below(9) as i32) }
    }
}

/// All that is known.
#[derive(Debug)]
pub(crate) struct Model {
    netlink: ByNetlink,
    json: ByJson,
}

/// What the client of the netlink socket has to do with.
#[derive(Debug)]
pub(crate) struct ByNetlink {
    pub(crate) services: Vec<(ServiceName, Unit<Option<Declared>>)>,
}

/// What the client of the JSON socket has to do with.
#[derive(Debug)]
pub(crate) struct ByJson {
    workers: usize,
    /// Whether each server of the service with drains is drained.
    pub(crate) drains: [Unit<bool>; 3],
    pub(crate) switch: Unit<u32>,
    pub(crate) filed: Unit<Filed>,
    /// What the file says now.
    pub(crate) file: Filed,
}

impl Model {
    /// Of a new director with these workers.
    pub(crate) fn new(workers: usize) -> Self {
        let services = (0..SERVICES).map(|number| {
            let port = FIRST + number as u16;
            (ServiceName::udp(SocketAddr::new(VIP.into(), port)), Unit::new(None))
        });
        let file = Filed { scheduler: "rr", weights: [1; 3] };
        let json = ByJson {
            workers,
            drains: [(); 3].map(|()| Unit::new(false)),
            switch: Unit::new(SWITCH_DEFAULT),
            filed: Unit::new(file.clone()),
            file,
        };
        Self { netlink: ByNetlink { services: services.collect() }, json }
    }

    /// The configuration file for it.
    pub(crate) fn text(&self) -> String {
        self.json.text(&self.json.file)
    }

    pub(crate) fn halves(&mut self) -> (&mut ByNetlink, &mut ByJson) {
        (&mut self.netlink, &mut self.json)
    }

    /// What all was listed as: the table, who is drained, and the switch.
    pub(crate) fn listed(
        &mut self,
        table: &[(ServiceReport, Vec<ServerReport>)],
        drained: impl Fn(SocketAddr) -> Option<bool>,
        switch: u32,
    ) -> Outcome {
        let find = |name: ServiceName| table.iter().find(|(service, _)| service.name == name);
        for (name, unit) in &mut self.netlink.services {
            let declared = find(*name).map(|(service, servers)| Declared::of(service, servers));
            unit.listed(|| name.to_string(), declared)?;
        }
        for (unit, number) in self.json.drains.iter_mut().zip(0..) {
            let server = server(number);
            let drained = drained(server).ok_or_else(|| format!("{server} is not listed"))?;
            unit.listed(|| format!("whether {server} is drained"), drained)?;
        }
        self.json.switch.listed(|| SWITCH.to_owned(), switch)?;
        let (service, servers) = find(FILED_NAME).ok_or("the file's service is not listed")?;
        let weight = |number: usize| {
            let all = servers.iter().find(|one| one.address == server(number));
            all.map_or(-1, |one| one.spec.weight)
        };
        let scheduler = SCHEDULERS.into_iter().find(|name| *name == service.spec.scheduler);
        let filed = Filed { scheduler: scheduler.unwrap_or("?"), weights: [0, 1, 2].map(weight) };
        self.json.filed.listed(|| FILED_NAME.to_string(), filed)?;
        let more =
            table.len() - self.netlink.services.iter().filter(|(name, _)| find(*name).is_some()).count();
        if more != 3 {
            return Err(format!("{more} services are listed that are the file's, which has three").into());
        }
        Ok(())
    }
}

impl ByJson {
    /// The configuration file with this service in it.
    pub(crate) fn text(&self, filed: &Filed) -> String {
        let mut text = format!(
            "[director]\nworkers = {}\n[tuning]\nconnections = {CONNECTIONS}\n\
             [[interface]]\nname = \"eth0\"\naddresses = [\"192.0.2.254/24\"]\n\
             [[interface]]\nname = \"eth1\"\naddresses = [\"10.0.1.254/24\"]\n",
            self.workers
        );
        let mut service = |protocol, port, scheduler, server_port, weights: [i32; 3]| {
            let _ = write!(
                text,
                "[[service]]\nprotocol = \"{protocol}\"\naddress = \"{VIP}\"\nport = {port}\n\
                 scheduler = \"{scheduler}\"\n"
            );
            for (weight, number) in weights.into_iter().zip(0..) {
                let address = server(number).ip();
                let _ = write!(
                    text,
                    "[[service.server]]\naddress = \"{address}\"\nport = {server_port}\nmethod = \"nat\"\n\
                     weight = {weight}\n"
                );
            }
        };
        service("tcp", 80, "wrr", 80, [1; 3]);
        service("udp", DRAINED_PORT, "rr", ECHO, [1; 3]);
        service("udp", FILED_PORT, filed.scheduler, ECHO, filed.weights);
        text
    }
}

/// A command to one of the services, which may make no sense there.
pub(crate) fn drawn(name: ServiceName, chance: &mut Chance) -> TableCommand {
    let service = ServiceSpec::new(Family::V4, chance.one_of(&SCHEDULERS));
    let address = server(chance.below(3));
    let spec = ServerSpec::new(method::MASQUERADING, chance.below(99) as i32);
    match chance.below(12) {
        0 | 1 => TableCommand::NewService(name, service),
        2 => TableCommand::SetService(name, ServiceSpec { netmask: whole(Family::V4), ..service }, u32::MAX),
        3 => TableCommand::DelService(name),
        4..=6 => TableCommand::NewServer(name, address, spec),
        7..=9 => TableCommand::SetServer(name, address, spec),
        _ => TableCommand::DelServer(name, address),
    }
}

/// A real server's address for datagrams, from 0.
pub(crate) fn server(number: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 1, 11 + number as u8).into(), ECHO)
}

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
/// Where the servers answer datagrams.
pub(crate) const ECHO: u16 = 5_001;
pub(crate) const DRAINED_PORT: u16 = 2_001;
pub(crate) const DRAINED_NAME: ServiceName =
    ServiceName::Address { protocol: 17, address: core::net::IpAddr::V4(VIP), port: DRAINED_PORT };
const FILED_PORT: u16 = 3_001;
const FILED_NAME: ServiceName =
    ServiceName::Address { protocol: 17, address: core::net::IpAddr::V4(VIP), port: FILED_PORT };
/// The first of the services by command, and how many there are.
pub(crate) const FIRST: u16 = 4_001;
const SERVICES: usize = 8;
const SCHEDULERS: [&str; 6] = ["rr", "wrr", "lc", "wlc", "sh", "mh"];
/// A switch that changes nothing here.
pub(crate) const SWITCH: &str = "net.ipv4.vs.lblc_expiration";
const SWITCH_DEFAULT: u32 = 86_400;
/// The capacity of the connection table.
pub(crate) const CONNECTIONS: usize = 2_048;
