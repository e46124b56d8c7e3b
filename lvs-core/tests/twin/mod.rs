//! The naive director: as plain as the rules allow, and as slow as that is.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use lvs_core::config::Tuning;
use lvs_core::conn::{State, TcpState, TemplateTarget};
use lvs_core::service::{Mask, Persistence};
use lvs_core::*;
use states::{after, timeout};

pub(crate) mod fast;
mod pick;
mod states;

/// Schedulers that the twin knows; the others are compared with vectors instead.
pub(crate) const SCHEDULERS: &[&str] = &["rr", "lc", "wlc", "sed", "nq", "fo", "ovf", "lblc", "lblcr"];

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Forward { direction: Direction, method: Method, target: SocketAddr, server: SocketAddr },
    Drop(Reason),
    Inspect,
    Pass(Reason),
    Reject(Reason),
}

impl Answer {
    /// What a verdict says, with servers by address instead of number.
    pub(crate) fn of<S: Store>(director: &Director<S>, verdict: Verdict) -> Self {
        match verdict {
            Verdict::Forward(forward) => Self::Forward {
                direction: forward.direction,
                method: forward.method,
                target: forward.target,
                server: director.server(forward.server).unwrap().address(),
            },
            Verdict::Drop(reason) => Self::Drop(reason),
            Verdict::Inspect => Self::Inspect,
            Verdict::Pass(reason) => Self::Pass(reason),
            Verdict::Reject(reason) => Self::Reject(reason),
        }
    }
}

#[derive(Clone, Debug)]
struct Server {
    key: ServiceKey,
    config: ServerConfig,
    available: bool,
    overloaded: bool,
}

#[derive(Clone, Debug)]
struct Connection {
    flow: Flow,
    server: usize,
    port: u16,
    method: Method,
    state: State,
    one_way: bool,
    /// In units of 4 ms.
    deadline: u64,
    /// Number of the template that it came from.
    template: Option<u64>,
}

#[derive(Clone, Debug)]
struct Template {
    number: u64,
    network: IpAddr,
    /// `None` once it is put aside.
    target: Option<TemplateTarget>,
    server: usize,
    timeout: u64,
    deadline: u64,
}

#[derive(Clone, Debug)]
struct Service {
    key: ServiceKey,
    scheduler: &'static str,
    /// Newest first.
    servers: Vec<usize>,
    /// Where `rr` stands.
    last: Option<usize>,
    persistence: Option<Persistence>,
    one_packet: bool,
    /// What `lblc` and `lblcr` remember: the servers of a virtual address, newest first. Nothing is forgotten here:
    /// whoever compares sets the expirations high.
    cache: Vec<(IpAddr, Vec<SocketAddr>)>,
}

/// How a service of the twin behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) scheduler: &'static str,
    pub(crate) persistence: Option<Persistence>,
    pub(crate) one_packet: bool,
}

impl Manner {
    pub(crate) fn config(&self) -> ServiceConfig {
        let mut config = ServiceConfig::new(Scheduler::from_name(self.scheduler).unwrap());
        config.persistence = self.persistence;
        config.one_packet = self.one_packet;
        config
    }
}

#[derive(Clone)]
pub(crate) struct Twin {
    tuning: Tuning,
    capacity: usize,
    services: Vec<Service>,
    servers: Vec<Server>,
    /// Newest first.
    connections: Vec<Connection>,
    templates: Vec<Template>,
    next_template: u64,
}

impl Twin {
    pub(crate) fn new(config: &Config, capacity: usize) -> Self {
        let (services, servers, connections) = (Vec::new(), Vec::new(), Vec::new());
        let templates = Vec::new();
        Self { tuning: config.tuning, capacity, services, servers, connections, templates, next_template: 0 }
    }

    pub(crate) fn live(&self) -> usize {
        self.connections.len() + self.templates.len()
    }

    /// Network and server of each living template, and how many connections it controls.
    pub(crate) fn templates(&self, now: Tick) -> Vec<(IpAddr, SocketAddr, u32)> {
        let now = now.as_millis() / 4;
        let living = self.templates.iter().filter(|template| self.is_alive(template, now));
        let show = |template: &Template| {
            (template.network, self.servers[template.server].config.address, self.children(template.number))
        };
        let mut list: Vec<_> = living.map(show).collect();
        list.sort();
        list
    }

    fn children(&self, number: u64) -> u32 {
        self.connections.iter().filter(|connection| connection.template == Some(number)).count() as u32
    }

    fn is_alive(&self, template: &Template, now: u64) -> bool {
        template.deadline > now || self.children(template.number) > 0
    }

    /// Gives a template whose time was up at `when` 60 s again and again until it is not.
    fn postpone(template: &mut Template, when: u64) {
        while template.deadline <= when {
            template.deadline += 60 * 250;
            template.timeout = 60;
        }
    }

    pub(crate) fn servers(&self, key: ServiceKey) -> Vec<(SocketAddr, u32, u32, bool)> {
        let service = self.services.iter().find(|service| service.key == key);
        let chain = service.map_or(&[][..], |service| &service.servers);
        let show = |&at: &usize| {
            let active = self.active(at);
            (self.servers[at].config.address, active, self.total(at) - active, self.servers[at].overloaded)
        };
        chain.iter().map(show).collect()
    }

    fn total(&self, server: usize) -> u32 {
        self.connections.iter().filter(|connection| connection.server == server).count() as u32
    }

    fn active(&self, server: usize) -> u32 {
        let active = |c: &&Connection| c.server == server && c.state.is_active();
        self.connections.iter().filter(active).count() as u32
    }

    fn service(&mut self, key: ServiceKey) -> Option<&mut Service> {
        self.services.iter_mut().find(|service| service.key == key)
    }

    pub(crate) fn add_service(&mut self, key: ServiceKey, manner: Manner) -> bool {
        let new = self.service(key).is_none();
        if new {
            self.services.push(Service {
                key,
                scheduler: manner.scheduler,
                servers: Vec::new(),
                last: None,
                persistence: manner.persistence,
                one_packet: manner.one_packet,
                cache: Vec::new(),
            });
        }
        new
    }

    pub(crate) fn edit_service(&mut self, key: ServiceKey, manner: Manner) -> bool {
        let Some(service) = self.service(key) else { return false };
        (service.persistence, service.one_packet) = (manner.persistence, manner.one_packet);
        if service.scheduler != manner.scheduler {
            service.scheduler = manner.scheduler;
            service.last = None;
            service.cache.clear();
        }
        true
    }

    pub(crate) fn remove_service(&mut self, key: ServiceKey) -> bool {
        let Some(at) = self.services.iter().position(|service| service.key == key) else { return false };
        for server in self.services.remove(at).servers {
            self.retire(server);
        }
        true
    }

    fn retire(&mut self, server: usize) {
        self.servers[server].available = false;
    }

    fn find_server(&self, key: ServiceKey, address: SocketAddr) -> Option<usize> {
        let service = self.services.iter().find(|service| service.key == key)?;
        service.servers.iter().copied().find(|&at| self.servers[at].config.address == address)
    }

    pub(crate) fn add_server(&mut self, key: ServiceKey, config: &ServerConfig) -> bool {
        if self.service(key).is_none() || self.find_server(key, config.address).is_some() {
            return false;
        }
        let returns = |at: &usize| {
            let server = &self.servers[*at];
            !server.available
                && server.key == key
                && server.config.address == config.address
                && (self.total(*at) > 0 || self.templates.iter().any(|template| template.server == *at))
        };
        let returned = (0..self.servers.len()).find(returns);
        let at = returned.unwrap_or_else(|| {
            let place = self.servers.len();
            self.servers.push(Server { key, config: *config, available: false, overloaded: false });
            place
        });
        let old = self.servers[at].config;
        let fresh = returned.is_none();
        self.servers[at].config = *config;
        self.servers[at].available = true;
        if fresh || (old.upper, old.lower) != (config.upper, config.lower) {
            self.thresholds_changed(at);
        }
        self.service(key).unwrap().servers.insert(0, at);
        true
    }

    pub(crate) fn edit_server(&mut self, key: ServiceKey, config: &ServerConfig) -> bool {
        let Some(at) = self.find_server(key, config.address) else { return false };
        let old = core::mem::replace(&mut self.servers[at].config, *config);
        if (old.upper, old.lower) != (config.upper, config.lower) {
            self.thresholds_changed(at);
        }
        true
    }

    pub(crate) fn remove_server(&mut self, key: ServiceKey, address: SocketAddr) -> bool {
        let Some(server) = self.find_server(key, address) else { return false };
        let service = self.service(key).unwrap();
        let at = service.servers.iter().position(|&other| other == server).unwrap();
        service.servers.remove(at);
        if service.last == Some(server) {
            service.last = at.checked_sub(1).map(|before| service.servers[before]);
        }
        self.retire(server);
        true
    }

    /// Set at the upper threshold, cleared below the lower one, else as it was.
    fn thresholds_changed(&mut self, at: usize) {
        let (upper, low, total) = (self.servers[at].config.upper, self.low(at), self.total(at));
        let server = &mut self.servers[at];
        server.overloaded = upper != 0 && (total >= upper || (server.overloaded && total >= low));
    }

    fn low(&self, at: usize) -> u32 {
        let ServerConfig { upper, lower, .. } = self.servers[at].config;
        if lower == 0 { upper - upper / 4 } else { lower }
    }

    pub(crate) fn sweep(&mut self, now: Tick) {
        let now = now.as_millis() / 4;
        if self.tuning.expire_nodest_conn {
            let gone = |twin: &Self, server: usize| !twin.servers[server].available;
            while let Some(at) = self.connections.iter().position(|c| gone(self, c.server)) {
                let template = self.connections[at].template;
                self.close(at, now);
                let is_left = |of: &Template| template == Some(of.number) && self.children(of.number) == 0;
                if let Some(left) = self.templates.iter().position(is_left) {
                    self.templates.remove(left);
                }
            }
            let servers = &self.servers;
            self.templates.retain(|template| servers[template.server].available);
        }
        while let Some(at) = self.connections.iter().position(|connection| connection.deadline <= now) {
            let deadline = self.connections[at].deadline;
            self.close(at, deadline);
        }
        let living: Vec<bool> = self.templates.iter().map(|template| self.is_alive(template, now)).collect();
        let mut living = living.into_iter();
        self.templates.retain(|_| living.next().unwrap());
    }

    fn close(&mut self, at: usize, when: u64) {
        let Connection { server, template, .. } = self.connections[at];
        let before = self.total(server);
        self.connections.remove(at);
        if before == self.low(server) {
            self.servers[server].overloaded = false;
        }
        if let Some(number) = template
            && let Some(template) = self.templates.iter_mut().find(|template| template.number == number)
            && template.deadline < when
        {
            // In the same moment the connection is first, in whatever order both are looked at.
            Self::postpone(template, when - 1);
        }
    }

    pub(crate) fn decide(&mut self, tick: Tick, packet: &Packet) -> Answer {
        let now = tick.as_millis() / 4;
        let family = packet.flow.addresses.family();
        if !self.services.iter().any(|service| service.key.family() == family) {
            return Answer::Pass(Reason::NoService);
        }
        if packet.content == Content::Fragment {
            return Answer::Pass(Reason::Fragment);
        }
        let error = packet.content == Content::Error;
        let local = packet.path == Path::Local;
        if local || error {
            let found = self.connections.iter().position(|c| c.deadline > now && c.flow == packet.flow);
            if let Some(at) = found {
                match self.meet(at, packet) {
                    Some(true) => return self.go(now, at, packet, Direction::Request),
                    Some(false) => return Answer::Drop(Reason::ServerRemoved),
                    None => {
                        self.connections[at].deadline = now;
                        return self.schedule(now, packet);
                    }
                }
            }
        }
        let back = packet.flow.reversed();
        let nat = self.connections.iter().position(|c| {
            c.deadline > now
                && c.method == Method::Nat
                && c.flow.protocol == back.protocol
                && c.flow.source() == back.source()
                && SocketAddr::new(self.servers[c.server].config.address.ip(), c.port) == back.destination()
        });
        let direct = || {
            let same = |c: &Connection| c.deadline > now && c.method != Method::Nat && c.flow == back;
            self.connections.iter().position(same)
        };
        match nat.or_else(direct) {
            Some(at) => self.go(now, at, packet, Direction::Reply),
            None if error || !local => Answer::Pass(Reason::NoConnection),
            None => self.schedule(now, packet),
        }
    }

    /// Whether a client's packet goes on (or is dropped); `None` when it starts a new connection.
    fn meet(&self, at: usize, packet: &Packet) -> Option<bool> {
        let connection = &self.connections[at];
        let server = &self.servers[connection.server];
        let syn = matches!(packet.content, Content::Tcp(flags) if flags.contains(TcpFlags::SYN));
        if packet.content == Content::Error {
            return Some(true);
        }
        let over = match connection.state {
            State::Tcp(TcpState::TimeWait | TcpState::Close) => true,
            State::Tcp(TcpState::FinWait) => self.tuning.conn_reuse_mode & 2 != 0 && connection.one_way,
            State::Tcp(_) | State::Udp | State::Sctp(_) => false,
        };
        let quiesced = self.tuning.expire_nodest_conn && server.config.weight.get() == 0;
        let reused = self.tuning.conn_reuse_mode != 0 && over && connection.template.is_none();
        if syn && (quiesced || reused) {
            return None;
        }
        if !server.available && self.tuning.expire_nodest_conn {
            return None;
        }
        Some(server.available)
    }

    fn go(&mut self, now: u64, at: usize, packet: &Packet, direction: Direction) -> Answer {
        let connection = &mut self.connections[at];
        let server = &self.servers[connection.server];
        if packet.content != Content::Error {
            let view = match direction {
                Direction::Reply => {
                    connection.one_way = false;
                    1
                }
                Direction::Request => usize::from(connection.one_way) * 2,
            };
            connection.state = after(connection.state, view, packet.content);
            connection.deadline = now + timeout(connection.state) * 250;
        }
        let target = match direction {
            Direction::Request => SocketAddr::new(server.config.address.ip(), connection.port),
            Direction::Reply => connection.flow.destination(),
        };
        let method = match (connection.method, server.config.method) {
            (Method::Tunnel(_), Method::Tunnel(now)) => Method::Tunnel(now),
            (method, _) => method,
        };
        Answer::Forward { direction, method, target, server: server.config.address }
    }

    pub(crate) fn schedule(&mut self, now: u64, packet: &Packet) -> Answer {
        let flow = packet.flow;
        let starts = match packet.content {
            Content::Tcp(flags) => {
                (flags.contains(TcpFlags::SYN) || self.tuning.sloppy_tcp) && !flags.contains(TcpFlags::RST)
            }
            Content::Udp => true,
            Content::Sctp(_) | Content::Fragment | Content::Error | Content::TunnelError | Content::Ipsec => {
                false
            }
        };
        if !starts {
            return Answer::Pass(Reason::NotStarting);
        }
        let family = flow.addresses.family();
        let address = ServiceKey::Address {
            protocol: flow.protocol,
            address: flow.addresses.destination(),
            port: flow.destination_port,
        };
        let any =
            ServiceKey::Address { protocol: flow.protocol, address: flow.addresses.destination(), port: 0 };
        let by = |key| self.services.iter().position(|service| service.key == key);
        let found =
            by(ServiceKey::Mark { family, mark: packet.mark }).or_else(|| by(address)).or_else(|| by(any));
        let Some(service) = found else { return Answer::Pass(Reason::NoService) };
        if flow.source_port == 20 {
            return Answer::Pass(Reason::FtpDataPort);
        }
        let destination = flow.addresses.destination();
        let Service { key, persistence, one_packet, .. } = self.services[service];
        if let Some(persistence) = persistence {
            return self.schedule_persistent(now, packet, service, persistence);
        }
        if key == any {
            return Answer::Reject(Reason::NoServer);
        }
        let Some(server) = self.pick(service, destination) else { return Answer::Reject(Reason::NoServer) };
        let port = self.servers[server].config.address.port();
        self.open(now, packet, server, port, one_packet, None)
    }

    fn schedule_persistent(
        &mut self,
        now: u64,
        packet: &Packet,
        service: usize,
        persistence: Persistence,
    ) -> Answer {
        let flow = packet.flow;
        let Service { key, one_packet, .. } = self.services[service];
        let service_port = match key {
            ServiceKey::Address { port, .. } => port,
            ServiceKey::Mark { .. } => 0,
        };
        let port = if service_port == flow.destination_port { service_port } else { 0 };
        let target = match key {
            ServiceKey::Mark { mark, .. } => TemplateTarget::Mark(mark),
            ServiceKey::Address { .. } => TemplateTarget::Address {
                protocol: flow.protocol,
                address: SocketAddr::new(flow.addresses.destination(), port),
            },
        };
        let IpAddr::V4(client) = flow.addresses.source() else { panic!("clients are of IPv4") };
        let kept = u32::from(persistence.mask.map_or(Ipv4Addr::BROADCAST, Mask::bits));
        let network = IpAddr::from((u32::from(client) & kept).to_be_bytes());
        // Newest first.
        let answers = |of: &Template| of.target == Some(target) && of.network == network;
        let found = self.templates.iter().position(|of| answers(of) && self.is_alive(of, now));
        let usable = found.filter(|&at| {
            let server = &self.servers[self.templates[at].server];
            let quiesced = self.tuning.expire_quiescent_template && server.config.weight.get() == 0;
            server.available && !quiesced
        });
        let number = match (usable, found) {
            (Some(at), _) => self.templates[at].number,
            (None, found) => {
                if let Some(at) = found {
                    self.templates[at].target = None;
                }
                let destination = flow.addresses.destination();
                let Some(server) = self.pick(service, destination) else {
                    return Answer::Reject(Reason::NoServer);
                };
                if self.live() == self.capacity {
                    return Answer::Drop(Reason::TableFull);
                }
                self.next_template += 1;
                let (number, timeout) = (self.next_template, u64::from(persistence.timeout));
                let deadline = now + timeout * 250;
                let new = Template { number, network, target: Some(target), server, timeout, deadline };
                self.templates.insert(0, new);
                number
            }
        };
        let at = self.templates.iter().position(|of| of.number == number).unwrap();
        let server = self.templates[at].server;
        let own = self.servers[server].config.address.port();
        let port = if flow.destination_port == service_port { own } else { flow.destination_port };
        let answer = self.open(now, packet, server, port, one_packet, Some(number));
        let template = &mut self.templates[at];
        Self::postpone(template, now);
        template.deadline = now + template.timeout * 250;
        answer
    }

    fn open(
        &mut self,
        now: u64,
        packet: &Packet,
        server: usize,
        port: u16,
        one_packet: bool,
        template: Option<u64>,
    ) -> Answer {
        let flow = packet.flow;
        let config = self.servers[server].config;
        if one_packet && flow.protocol == Protocol::Udp {
            let total = self.total(server);
            if config.upper != 0 && total + 1 == config.upper {
                self.servers[server].overloaded = true;
            }
            if total + 1 == self.low(server) {
                self.servers[server].overloaded = false;
            }
            let target = SocketAddr::new(config.address.ip(), port);
            let (direction, method) = (Direction::Request, config.method);
            return Answer::Forward { direction, method, target, server: config.address };
        }
        if self.live() == self.capacity {
            return Answer::Drop(Reason::TableFull);
        }
        let state = if flow.protocol == Protocol::Tcp { State::Tcp(TcpState::None) } else { State::Udp };
        let one_way = config.method != Method::Nat;
        let connection =
            Connection { flow, server, port, method: config.method, state, one_way, deadline: 0, template };
        self.connections.insert(0, connection);
        if config.upper != 0 && self.total(server) == config.upper {
            self.servers[server].overloaded = true;
        }
        self.go(now, 0, packet, Direction::Request)
    }
}
