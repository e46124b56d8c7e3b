//! The configuration file: from text to what the director is given, or an error with its place.
//!
//! Two steps: [`raw`] reads every key, this module gives them meaning. The rules for services and real servers are those
//! of `lvs-core` itself: they are added to a director that forwards nothing, and its refusals become errors.

mod error;
mod health;
mod raw;
mod service;
mod work;

use core::net::IpAddr;
use core::ops::{Range, RangeInclusive};

use lvs_core::{Config, Defence, MAX_TIMEOUT_SECS, Seed, WhenFull};
use lvs_forward::Options;
use lvs_forward::host::{Host, MacAddress, Port, Prefix};
use lvs_std::device::mark::MarkRule;
use toml::Spanned;

pub(crate) use error::ConfigError;
pub(crate) use health::Health;
use raw::Whole;
pub(crate) use service::Service;
pub(crate) use work::Work;

/// Everything that a file says, checked.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) services: Vec<Service>,
    /// What it answers for besides its own addresses: the services' and further ones.
    pub(crate) virtual_addresses: Vec<IpAddr>,
    /// Which of them, and of those that come later, it answers for.
    pub(crate) answer_for: AnswerFor,
    /// What frames are marked by, for services by mark.
    pub(crate) marks: Vec<MarkRule>,
    /// Capacity of the connection table.
    pub(crate) connections: usize,
    /// Who does the work.
    pub(crate) work: Work,
    settings: Settings,
}

/// Which virtual addresses a director answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerFor {
    /// Those of the file.
    Configured,
    /// Those of the file and of services that are added while it runs.
    Services,
    /// Of these, the ones that this machine has on some interface: VRRP gives them to the active director's.
    Host,
}

/// A port of the director and what it is on that network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) wire: Wire,
    pub(crate) mac: Mac,
    /// Own addresses with the lengths of their subnets' prefixes.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    pub(crate) routes: Vec<Route>,
}

/// By what kind of device the director uses an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Packet sockets.
    Packet,
    /// `AF_XDP` sockets.
    Xdp,
    /// `AF_XDP` sockets where they lose nothing against packet sockets and can be had, otherwise packet sockets.
    Auto,
}

/// Which MAC address the director has on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mac {
    /// One of its own, derived from the interface's, the same at every start.
    Own,
    /// The interface's.
    Same,
    /// This one.
    Is(MacAddress),
}

/// A destination that is behind a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: (IpAddr, u8),
    pub(crate) via: IpAddr,
}

/// What the file changes about the core's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    tcp: Option<u32>,
    tcp_fin: Option<u32>,
    udp: Option<u32>,
    when_full: Option<WhenFull>,
    conn_reuse_mode: Option<u32>,
    am_droprate: Option<u32>,
    amemthresh: Option<u32>,
    drop_entry: Option<Defence>,
    drop_packet: Option<Defence>,
    secure_tcp: Option<Defence>,
    cache_bypass: Option<bool>,
    capture_marked: Option<bool>,
    expire_quiescent_template: Option<bool>,
    nat_icmp_send: Option<bool>,
    schedule_icmp: Option<bool>,
    expire_nodest_conn: Option<bool>,
    sloppy_sctp: Option<bool>,
    sloppy_tcp: Option<bool>,
    pmtu_disc: Option<bool>,
    ip_forward: Option<bool>,
    icmp_rate: Option<u32>,
}

/// What finds the same faults as the host that a director becomes.
type TrialHost = Host<MAX_ADDRESSES, 1>;

/// How many own and virtual addresses a director can have.
pub(crate) const MAX_ADDRESSES: usize = 1_024;

impl Configuration {
    /// Reads and checks a file's text.
    pub(crate) fn parse(source: &str) -> Result<Self, ConfigError> {
        let file: raw::File =
            toml::from_str(source).map_err(|error| ConfigError::from_toml(source, &error))?;
        let reader = Reader { source };
        let connections =
            reader.number(file.tuning.connections.as_ref(), "connections", 1..=MAX_CONNECTIONS)?;
        let mut host = TrialHost::new(Seed::from_bytes([0; 16]));
        let interfaces = reader.interfaces(&file.interface, &mut host)?;
        let marks = reader.marks(&file.mark)?;
        let services = service::read(reader, &file.service, &marks)?;
        let virtual_addresses = reader.virtual_addresses(&file, &mut host)?;
        reader.reachable(&interfaces, &services, &file.service)?;
        let addresses: Vec<IpAddr> = host.addresses().collect();
        let work = work::read(reader, &file, &services, &addresses)?;
        Ok(Self {
            interfaces,
            services,
            virtual_addresses,
            answer_for: match file.answer_for {
                None | Some(raw::AnswerFor::Configured) => AnswerFor::Configured,
                Some(raw::AnswerFor::Services) => AnswerFor::Services,
                Some(raw::AnswerFor::Host) => AnswerFor::Host,
            },
            marks,
            connections: connections.unwrap_or(DEFAULT_CONNECTIONS) as usize,
            work,
            settings: reader.settings(&file)?,
        })
    }

    /// Whether another file has the same time-outs, switches and virtual addresses.
    pub(crate) fn has_settings_of(&self, other: &Self) -> bool {
        self.settings == other.settings && self.virtual_addresses == other.virtual_addresses
    }

    /// What another file changes that only a new start can change.
    pub(crate) fn needs_restart_for(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            (self.interfaces != other.interfaces, "interfaces"),
            (self.marks != other.marks, "marks"),
            (self.connections != other.connections, "connections"),
            (self.answer_for != other.answer_for, "answer-for"),
            (self.work != other.work, "workers"),
        ];
        parts.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| what).collect()
    }

    /// Whether a defence depends on how much memory is left.
    pub(crate) fn watches_memory(&self) -> bool {
        let modes = [self.settings.drop_entry, self.settings.drop_packet, self.settings.secure_tcp];
        modes.contains(&Some(Defence::Automatic))
    }

    /// Capacity of each worker's part of the connection table. Several get an eighth more than their share, since chance does not share
    /// clients out evenly.
    pub(crate) const fn connections_each(&self) -> usize {
        match self.work.workers {
            0 | 1 => self.connections,
            workers => (self.connections + self.connections.div_ceil(8)).div_ceil(workers),
        }
    }

    /// The addresses that the director has from the start: its own, and the virtual ones unless it waits for this machine to have them.
    pub(crate) fn initial_addresses(&self) -> Vec<IpAddr> {
        let own = self.interfaces.iter().flat_map(|interface| &interface.addresses);
        let mut addresses: Vec<IpAddr> = own.map(|(address, _)| *address).collect();
        if self.answer_for != AnswerFor::Host {
            addresses.extend(&self.virtual_addresses);
        }
        addresses
    }

    /// What happens to a new connection when the table is full.
    pub(crate) fn when_full(&self) -> WhenFull {
        self.core(Seed::from_bytes([0; 16])).when_full
    }

    /// The core's configuration, with chance and hash keys from `seed`.
    pub(crate) fn core(&self, seed: Seed) -> Config {
        let mut config = Config::new(seed);
        let settings = &self.settings;
        let set = |to: &mut u32, from: Option<u32>| *to = from.unwrap_or(*to);
        set(&mut config.timeouts.tcp, settings.tcp);
        set(&mut config.timeouts.tcp_fin, settings.tcp_fin);
        set(&mut config.timeouts.udp, settings.udp);
        set(&mut config.tuning.conn_reuse_mode, settings.conn_reuse_mode);
        set(&mut config.tuning.am_droprate, settings.am_droprate);
        set(&mut config.tuning.amemthresh, settings.amemthresh);
        let set = |to: &mut Defence, from: Option<Defence>| *to = from.unwrap_or(*to);
        set(&mut config.tuning.drop_entry, settings.drop_entry);
        set(&mut config.tuning.drop_packet, settings.drop_packet);
        set(&mut config.tuning.secure_tcp, settings.secure_tcp);
        let set = |to: &mut bool, from: Option<bool>| *to = from.unwrap_or(*to);
        set(&mut config.tuning.expire_nodest_conn, settings.expire_nodest_conn);
        set(&mut config.tuning.cache_bypass, settings.cache_bypass);
        set(&mut config.tuning.expire_quiescent_template, settings.expire_quiescent_template);
        set(&mut config.tuning.nat_icmp_send, settings.nat_icmp_send);
        set(&mut config.tuning.schedule_icmp, settings.schedule_icmp);
        set(&mut config.tuning.sloppy_sctp, settings.sloppy_sctp);
        set(&mut config.tuning.sloppy_tcp, settings.sloppy_tcp);
        config.when_full = settings.when_full.unwrap_or(config.when_full);
        config
    }

    /// The forwarder's options, for each of so many workers.
    pub(crate) fn options(&self, workers: usize) -> Options {
        let mut options = Options::new();
        options.pmtu_disc = self.settings.pmtu_disc.unwrap_or(options.pmtu_disc);
        options.capture_marked = self.settings.capture_marked.unwrap_or(options.capture_marked);
        options.ip_forward = self.settings.ip_forward.unwrap_or(options.ip_forward);
        options.icmp_rate = part_of_rate(self.settings.icmp_rate.unwrap_or(options.icmp_rate), workers);
        options
    }
}

/// How many ICMP errors each of several workers may send per second; 0 stands for any number.
pub(crate) fn part_of_rate(rate: u32, workers: usize) -> u32 {
    rate.div_ceil(u32::try_from(workers).unwrap_or(u32::MAX).max(1))
}

impl From<raw::Defence> for Defence {
    fn from(mode: raw::Defence) -> Self {
        match mode {
            raw::Defence::Never => Self::Never,
            raw::Defence::Automatic => Self::Automatic,
            raw::Defence::Always => Self::Always,
        }
    }
}

/// The text that is being read, for errors that show it.
#[derive(Clone, Copy)]
struct Reader<'a> {
    source: &'a str,
}

impl Reader<'_> {
    fn error(self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        ConfigError::new(self.source, span, message)
    }

    /// A number if there is one, unless it is out of range.
    fn number(
        self,
        value: Option<&Spanned<Whole>>,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ConfigError> {
        let Some(value) = value else { return Ok(None) };
        let Whole(number) = *value.get_ref();
        match u32::try_from(number) {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            Ok(_) | Err(_) => Err(self
                .error(value.span(), format!("{key} {number} is out of range"))
                .hint(format!("expected {} to {}", range.start(), range.end()))),
        }
    }

    fn settings(self, file: &raw::File) -> Result<Settings, ConfigError> {
        let (timeouts, tuning) = (&file.timeouts, &file.tuning);
        let seconds = 1..=MAX_TIMEOUT_SECS;
        Ok(Settings {
            tcp: self.number(timeouts.tcp.as_ref(), "tcp", seconds.clone())?,
            tcp_fin: self.number(timeouts.tcp_fin.as_ref(), "tcp-fin", seconds.clone())?,
            udp: self.number(timeouts.udp.as_ref(), "udp", seconds)?,
            when_full: tuning.when_full.map(|policy| match policy {
                raw::WhenFull::Reclaim => WhenFull::Reclaim,
                raw::WhenFull::Refuse => WhenFull::Refuse,
            }),
            conn_reuse_mode: self.number(tuning.conn_reuse_mode.as_ref(), "conn-reuse-mode", 0..=3)?,
            am_droprate: self.number(tuning.am_droprate.as_ref(), "am-droprate", 0..=u32::MAX)?,
            amemthresh: self.number(tuning.amemthresh.as_ref(), "amemthresh", 0..=u32::MAX)?,
            drop_entry: tuning.drop_entry.map(Defence::from),
            drop_packet: tuning.drop_packet.map(Defence::from),
            secure_tcp: tuning.secure_tcp.map(Defence::from),
            cache_bypass: tuning.cache_bypass,
            capture_marked: tuning.capture_marked.as_ref().map(|on| *on.get_ref()),
            expire_quiescent_template: tuning.expire_quiescent_template,
            nat_icmp_send: tuning.nat_icmp_send,
            schedule_icmp: tuning.schedule_icmp,
            expire_nodest_conn: tuning.expire_nodest_conn,
            sloppy_sctp: tuning.sloppy_sctp,
            sloppy_tcp: tuning.sloppy_tcp,
            pmtu_disc: tuning.pmtu_disc,
            ip_forward: tuning.ip_forward,
            icmp_rate: self.number(tuning.icmp_rate.as_ref(), "icmp-rate", 0..=1_000_000)?,
        })
    }

    fn interfaces(self, raw: &[raw::Interface], host: &mut TrialHost) -> Result<Vec<Interface>, ConfigError> {
        let mut interfaces: Vec<Interface> = Vec::new();
        for raw in raw {
            let interface = self.interface(raw, host)?;
            if interfaces.iter().any(|other| other.name == interface.name) {
                return Err(self
                    .error(raw.name.span(), format!("interface `{}` is there twice", interface.name))
                    .hint("put all its addresses into one [[interface]]"));
            }
            interfaces.push(interface);
        }
        if interfaces.is_empty() {
            return Err(self
                .error(self.source.len()..self.source.len(), "there is no [[interface]]")
                .hint("name at least one interface by which clients and real servers are reached"));
        }
        Ok(interfaces)
    }

    fn interface(self, raw: &raw::Interface, host: &mut TrialHost) -> Result<Interface, ConfigError> {
        let name = raw.name.get_ref();
        if name.is_empty() || name.len() > 15 || name.contains(|c: char| c == '/' || c.is_whitespace()) {
            return Err(self
                .error(raw.name.span(), format!("`{name}` cannot be the name of an interface"))
                .hint("expected 1 to 15 bytes without blanks and slashes, such as \"eth0\""));
        }
        let port = host
            .add_port(Port::ethernet(MacAddress([2, 0, 0, 0, 0, 0]), 1_500))
            .map_err(|error| self.error(raw.name.span(), error.to_string()))?;
        let mut addresses = Vec::new();
        for prefix in &raw.addresses {
            let raw::Prefix { address, length } = *prefix.get_ref();
            host.add_address(port, address, length).map_err(|error| {
                self.error(prefix.span(), format!("{address} cannot be an own address: {error}"))
            })?;
            addresses.push((address, length));
        }
        let mut routes = Vec::new();
        for gateway in &raw.gateways {
            let via = gateway.get_ref().0;
            let any = if via.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
            routes.push((Route { to: (any, 0), via }, gateway.span()));
        }
        for route in &raw.routes {
            let raw::Prefix { address, length } = *route.to.get_ref();
            routes.push((Route { to: (address, length), via: route.via.get_ref().0 }, route.via.span()));
        }
        for (route, span) in &routes {
            if !addresses.iter().any(|&prefix| covers(prefix, route.via)) {
                return Err(self
                    .error(span.clone(), format!("no address of this interface is in the subnet of {}", route.via))
                    .hint("add an own address in the router's subnet, such as \"10.0.1.254/24\", to `addresses`"));
            }
            let added = Prefix::new(route.to.0, route.to.1)
                .map(|prefix| host.add_route(prefix, Some(route.via), port));
            if let Some(Err(error)) = added {
                return Err(self.error(
                    span.clone(),
                    format!("{} cannot be the router to {}/{}: {error}", route.via, route.to.0, route.to.1),
                ));
            }
        }
        let routes = routes.into_iter().map(|(route, _)| route).collect();
        let wire = match raw.device.as_ref().map(|device| *device.get_ref()) {
            None | Some(raw::Wire::Packet) => Wire::Packet,
            Some(raw::Wire::Xdp) => Wire::Xdp,
            Some(raw::Wire::Auto) => Wire::Auto,
        };
        Ok(Interface { name: name.clone(), wire, mac: self.mac(raw.mac.as_ref())?, addresses, routes })
    }

    /// A rule for each port, or one for all.
    fn marks(self, raw: &[raw::Mark]) -> Result<Vec<MarkRule>, ConfigError> {
        let mut rules = Vec::new();
        for raw in raw {
            let mark = self.number(Some(&raw.mark), "mark", 1..=u32::MAX)?.unwrap_or_default();
            let raw::Prefix { address, length } = *raw.to.get_ref();
            let Some(destination) = Prefix::new(address, length) else {
                return Err(self.error(raw.to.span(), format!("{address} has no {length} bits")));
            };
            let protocol = raw.protocol.map(Into::into);
            let mut rule = |ports| rules.push(MarkRule { mark, protocol, destination, ports });
            match &raw.ports {
                None => rule(0..=u16::MAX),
                Some(ports) => {
                    for port in ports {
                        let port = self.number(Some(port), "port", 1..=65_535)?.unwrap_or_default() as u16;
                        rule(port..=port);
                    }
                }
            }
        }
        Ok(rules)
    }

    /// The services' addresses and the further ones. Own addresses may be virtual ones as well.
    fn virtual_addresses(self, file: &raw::File, host: &mut TrialHost) -> Result<Vec<IpAddr>, ConfigError> {
        let services = file.service.iter().filter_map(|service| service.get_ref().address.as_ref());
        let mut addresses = Vec::new();
        for address in services.chain(&file.virtual_addresses) {
            let (span, address) = (address.span(), address.get_ref().0);
            if !host.owns(address) {
                host.add_virtual_address(address).map_err(|error| {
                    self.error(span, format!("{address} cannot be a virtual address: {error}"))
                })?;
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    fn mac(self, text: Option<&Spanned<String>>) -> Result<Mac, ConfigError> {
        let Some(text) = text else { return Ok(Mac::Own) };
        match text.get_ref().as_str() {
            "own" => return Ok(Mac::Own),
            "same" => return Ok(Mac::Same),
            _ => {}
        }
        let Ok(mac) = text.get_ref().parse::<MacAddress>() else {
            return Err(self
                .error(text.span(), format!("`{}` is no MAC address", text.get_ref()))
                .hint("expected \"own\", \"same\" or one such as \"02:00:5e:00:53:01\""));
        };
        if mac.is_group() || mac == MacAddress::ZERO {
            return Err(self
                .error(text.span(), "no single host can have this MAC address")
                .hint("expected one whose first byte is even, such as \"02:00:5e:00:53:01\""));
        }
        Ok(Mac::Is(mac))
    }

    /// Finds the first real server to which there is no way.
    fn reachable(
        self,
        interfaces: &[Interface],
        services: &[Service],
        raw: &[Spanned<raw::Service>],
    ) -> Result<(), ConfigError> {
        let places = raw.iter().flat_map(|service| {
            let service = service.get_ref();
            service.server.iter().chain(service.sorry_server.as_ref().map(Spanned::get_ref))
        });
        let servers = services.iter().flat_map(|service| service.servers.iter().chain(&service.health.sorry));
        for (server, raw) in servers.zip(places) {
            let address = server.address.ip();
            let known = interfaces.iter().any(|interface| {
                let own = interface.addresses.iter().any(|&prefix| covers(prefix, address));
                own || interface.routes.iter().any(|route| covers(route.to, address))
            });
            if !known {
                return Err(self
                    .error(raw.address.span(), format!("no interface has a way to the real server {address}"))
                    .hint("add an own address in its subnet to an interface, or a gateway"));
            }
        }
        Ok(())
    }
}

/// Whether `address` is in the subnet of `prefix`.
fn covers(prefix: (IpAddr, u8), address: IpAddr) -> bool {
    Prefix::new(prefix.0, prefix.1).is_some_and(|prefix| prefix.contains(address))
}

const DEFAULT_CONNECTIONS: u32 = 1 << 16;
const MAX_CONNECTIONS: u32 = 1 << 27;

#[cfg(test)]
mod tests;
