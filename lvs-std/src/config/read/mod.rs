//! From the keys of a file to a configuration, or the first fault.

mod check;
mod health;
mod interfaces;
mod server;
mod service;
mod sysctl;
mod workers;

use core::net::IpAddr;
use core::ops::{Range, RangeInclusive};

use lvs_core::config::{MAX_TIMEOUT_SECS, WhenFull};
use lvs_forward::host::{Host, HostMemory, HostSizes};
use toml::Spanned;

use super::raw::{self, Whole};
use super::{AnswerFor, ConfigError, Configuration, NO_SEED, Sizes, WhenNoInterface};
use crate::control::Durability;

/// The text that is being read, for errors that show it.
#[derive(Clone, Copy)]
struct Reader<'a> {
    source: &'a str,
}

/// Reads and checks a file's text.
pub(super) fn configuration(source: &str) -> Result<Configuration, ConfigError> {
    let file: raw::File = toml::from_str(source).map_err(|error| ConfigError::from_toml(source, &error))?;
    let reader = Reader { source };
    // Addresses and routes are given to a host that never sees a packet, and its refusals become errors: the rules of
    // the host are written down once.
    let sizes = reader.sizes(&file)?;
    let mut host = Host::with_memory(NO_SEED, HostMemory::owned(HostSizes { neighbours: 0, ..sizes.host() }));
    let mut configuration = Configuration::new(reader.interfaces(&file.interface, &mut host)?);
    configuration.sizes = sizes;
    configuration.marks = reader.marks(&file.mark)?;
    configuration.services = reader.services(&file.service, &configuration.marks, sizes.tables)?;
    configuration.virtual_addresses = reader.virtual_addresses(&file, &mut host)?;
    reader.reachable(&configuration.interfaces, &configuration.services, &file.service)?;
    let addresses: Vec<IpAddr> = host.addresses().collect();
    configuration.workers = reader.workers(&file, &configuration.services, &addresses)?;
    configuration.answer_for = match file.answer_for {
        None => AnswerFor::default(),
        Some(raw::AnswerFor::Configured) => AnswerFor::Configured,
        Some(raw::AnswerFor::Services) => AnswerFor::Services,
        Some(raw::AnswerFor::Host) => AnswerFor::Host,
    };
    configuration.when_no_interface = match file.director.when_no_interface {
        None | Some(raw::WhenNoInterface::Wait) => WhenNoInterface::Wait,
        Some(raw::WhenNoInterface::Exit) => WhenNoInterface::Exit,
    };
    configuration.local_clients = reader.local_clients(&file, configuration.workers.count)?;
    configuration.durability = match file.director.durable {
        None | Some(raw::Durable::Process) => Durability::Process,
        Some(raw::Durable::Power) => Durability::Power,
    };
    let group = file.director.control_group.as_ref();
    configuration.control_group = reader.number(group, "control-group", 0..=MAX_GROUP)?;
    let rate = file.director.control_rate.as_ref();
    if let Some(rate) = reader.number(rate, "control-rate", 0..=MAX_RATE)? {
        configuration.control_rate = (rate > 0).then_some(rate);
    }
    reader.timeouts(&file.timeouts, &mut configuration)?;
    reader.tuning(&file.tuning, &mut configuration)?;
    reader.sysctl(&file.sysctl, &mut configuration)?;
    Ok(configuration)
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

    /// Whether programs of this machine are clients: their packets have an own address of the director's as the source,
    /// so what servers answer looks like a request to what shares frames out among workers.
    fn local_clients(self, file: &raw::File, workers: usize) -> Result<bool, ConfigError> {
        match &file.director.local_clients {
            Some(wanted) if *wanted.get_ref() && workers > 1 => Err(self
                .error(wanted.span(), format!("local-clients takes one worker, and there are {workers}"))
                .hint("set workers = 1, or leave local-clients out")),
            Some(wanted) => Ok(*wanted.get_ref()),
            None => Ok(false),
        }
    }

    /// How much there can be, which must be enough for what the file has.
    fn sizes(self, file: &raw::File) -> Result<Sizes, ConfigError> {
        let (raw, mut sizes) = (&file.tuning, Sizes::default());
        for (key, value, size) in [
            ("services", &raw.services, &mut sizes.services),
            ("servers", &raw.servers, &mut sizes.servers),
            ("addresses", &raw.addresses, &mut sizes.addresses),
            ("neighbours", &raw.neighbours, &mut sizes.neighbours),
        ] {
            if let Some(number) = self.number(value.as_ref(), key, 1..=MAX_SIZE)? {
                *size = number as usize;
            }
        }
        let mebibytes = self.number(raw.scheduler_memory.as_ref(), "scheduler-memory", 1..=MAX_MEBIBYTES)?;
        if let Some(mebibytes) = mebibytes {
            sizes.tables = (mebibytes as usize).saturating_mul(1 << 20);
        }
        let mut servers = sizes.servers;
        for (number, service) in file.service.iter().enumerate() {
            if number == sizes.services {
                return Err(self.too_many(service.span(), "services", sizes.services));
            }
            let service = service.get_ref();
            let count = service.server.len() + usize::from(service.sorry_server.is_some());
            servers = match servers.checked_sub(count) {
                Some(left) => left,
                None => {
                    let first = service.server.first();
                    let span = first.or_else(|| service.sorry_server.as_ref().map(Spanned::get_ref));
                    let span = span.map_or(0..0, |server| server.address.span());
                    return Err(self.too_many(span, "servers", sizes.servers));
                }
            };
        }
        Ok(sizes)
    }

    /// More of something than there can be.
    fn too_many(self, span: Range<usize>, key: &str, most: usize) -> ConfigError {
        self.error(span, format!("these are more than {most} {key}"))
            .hint(format!("set a higher `{key}` in [tuning]"))
    }

    fn timeouts(self, raw: &raw::Timeouts, configuration: &mut Configuration) -> Result<(), ConfigError> {
        let seconds = 1..=MAX_TIMEOUT_SECS;
        let to = &mut configuration.timeouts;
        to.tcp = self.number(raw.tcp.as_ref(), "tcp", seconds.clone())?.unwrap_or(to.tcp);
        to.tcp_fin = self.number(raw.tcp_fin.as_ref(), "tcp-fin", seconds.clone())?.unwrap_or(to.tcp_fin);
        to.udp = self.number(raw.udp.as_ref(), "udp", seconds)?.unwrap_or(to.udp);
        Ok(())
    }

    fn tuning(self, raw: &raw::Tuning, configuration: &mut Configuration) -> Result<(), ConfigError> {
        if let Some(connections) =
            self.number(raw.connections.as_ref(), "connections", 1..=MAX_CONNECTIONS)?
        {
            configuration.connections = connections as usize;
        }
        if let Some(policy) = raw.when_full {
            configuration.when_full = match policy {
                raw::WhenFull::Reclaim => WhenFull::Reclaim,
                raw::WhenFull::Refuse => WhenFull::Refuse,
            };
        }
        let options = &mut configuration.options;
        options.capture_marked = raw.capture_marked.as_ref().is_some_and(|on| *on.get_ref());
        if let Some(reject) = &raw.reject {
            options.reject = *reject.get_ref();
        }
        Ok(())
    }
}

const MAX_CONNECTIONS: u32 = 1 << 27;
/// Far more than any site has, and few enough that a mistyped number does not take all memory.
const MAX_SIZE: u32 = 1_000_000;
/// A tebibyte.
const MAX_MEBIBYTES: u32 = 1 << 20;
/// The number above it stands for no group (`chown(2)`).
const MAX_GROUP: u32 = u32::MAX - 1;
/// Steps of a client in a second: more than any processor can do.
const MAX_RATE: u32 = 1_000_000;
