//! `[director]`: how many workers there are, where they run, and which packets each of them gets.

use core::net::{IpAddr, Ipv4Addr};

use lvs_core::Seed;
use lvs_std::steering::{By, Steer, Unsuited};
use toml::Spanned;

use super::raw::{self, Whole};
use super::{ConfigError, Reader, Service};

/// Who does the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// Threads with a part of the connections each.
    pub(crate) workers: usize,
    /// The processor of each; empty if they may run anywhere.
    pub(crate) cpus: Vec<usize>,
    /// Whether they never wait.
    pub(crate) busy_poll: bool,
    /// Whether bulk transfers may pass them by in the kernel.
    pub(crate) offload: bool,
    /// What tells clients apart for them.
    pub(crate) by: By,
}

pub(super) fn read(
    reader: Reader<'_>,
    file: &raw::File,
    services: &[Service],
    addresses: &[IpAddr],
) -> Result<Work, ConfigError> {
    let raw = &file.director;
    let most = Steer::MOST as u32;
    let workers = reader.number(raw.workers.as_ref(), "workers", 1..=most)?.unwrap_or(1) as usize;
    let mut work = Work {
        workers,
        cpus: cpus(reader, raw, workers)?,
        busy_poll: raw.busy_poll.unwrap_or(false),
        offload: raw.offload.unwrap_or(true),
        by: by(reader, raw, services)?,
    };
    if workers == 1 {
        // Nothing is shared out.
        work.by = By::Endpoint;
        return Ok(work);
    }
    let span = raw.workers.as_ref().map_or(0..0, Spanned::span);
    for interface in &file.interface {
        if let Some(device) = interface.device.as_ref().filter(|device| *device.get_ref() == raw::Wire::Xdp) {
            return Err(reader
                .error(device.span(), "AF_XDP sockets cannot be shared by several workers")
                .hint("use \"packet\" or \"auto\" here, or one worker"));
        }
    }
    if let Some(on) = file.tuning.capture_marked.as_ref().filter(|on| *on.get_ref()) {
        return Err(reader
            .error(on.span(), "what is captured by its mark cannot be shared out over several workers")
            .hint("only what goes to an address of the director shows who the client is; use one worker"));
    }
    let steer = Steer::new(Seed::from_bytes([0; 16]), workers, work.by);
    for (service, raw) in services.iter().zip(&file.service) {
        if let Err(why) = steer.suits(service.key, service.config.persistence) {
            let persistence =
                raw.get_ref().persistence.as_ref().map(|persistence| persistence.timeout.span());
            return Err(reader.error(persistence.unwrap_or_else(|| raw.span()), why.to_string()).hint(
                match why {
                    Unsuited::Call => "use one worker",
                    Unsuited::Ftp | Unsuited::Persistent => "use steer = \"address\", or leave `steer` away",
                    Unsuited::Mask => "use a smaller `steer-v4` or `steer-v6`, or leave them away",
                },
            ));
        }
    }
    if !steer.fits(addresses) {
        return Err(reader
            .error(span, format!("{} addresses are too many for several workers", addresses.len()))
            .hint("the kernel shares frames out by a program with all of them in it; use one worker"));
    }
    Ok(work)
}

fn cpus(reader: Reader<'_>, raw: &raw::Director, workers: usize) -> Result<Vec<usize>, ConfigError> {
    let Some(list) = &raw.cpus else { return Ok(Vec::new()) };
    let mut cpus = Vec::new();
    for cpu in list.get_ref() {
        let number = reader.number(Some(cpu), "cpu", 0..=MOST_CPUS)?.unwrap_or_default() as usize;
        if cpus.contains(&number) {
            return Err(reader
                .error(cpu.span(), format!("cpu {number} is there twice"))
                .hint("two workers on one processor are slower than one"));
        }
        cpus.push(number);
    }
    if cpus.len() != workers {
        return Err(reader
            .error(list.span(), format!("{} processors for {workers} workers", cpus.len()))
            .hint("name one for each worker, or none"));
    }
    Ok(cpus)
}

/// What is asked for, or what suits the services of the file. Where there are none yet, nobody knows what will come: then the address, which
/// suits all but persistence by networks.
fn by(reader: Reader<'_>, raw: &raw::Director, services: &[Service]) -> Result<By, ConfigError> {
    let bits = |value: Option<&Spanned<Whole>>, key, most| reader.number(value, key, 1..=most);
    let v4 = bits(raw.steer_v4.as_ref(), "steer-v4", 32)?;
    let v6 = bits(raw.steer_v6.as_ref(), "steer-v6", 128)?;
    let asked = raw.steer.as_ref().map(|steer| *steer.get_ref());
    if asked == Some(raw::Steer::Endpoint) {
        if let Some(bits) = raw.steer_v4.as_ref().or(raw.steer_v6.as_ref()) {
            return Err(reader
                .error(bits.span(), "clients cannot be told apart by their network and by their port")
                .hint("leave this away, or use steer = \"address\""));
        }
        return Ok(By::Endpoint);
    }
    let suiting = By::suiting(services.iter().map(|service| (service.key, service.config.persistence)));
    let any = asked.is_some() || v4.is_some() || v6.is_some() || services.is_empty();
    Ok(match (suiting, any) {
        (By::Endpoint, false) => By::Endpoint,
        (By::Endpoint, true) => with_bits(By::ADDRESS, v4, v6),
        (by @ By::Address { .. }, _) => with_bits(by, v4, v6),
    })
}

/// With so many bits, where that is said.
fn with_bits(by: By, bits4: Option<u32>, bits6: Option<u32>) -> By {
    match by {
        By::Endpoint => by,
        By::Address { v4, v6 } => By::Address {
            v4: bits4.map_or(v4, |bits| Ipv4Addr::from_bits(u32::MAX << (32 - bits.clamp(1, 32)))),
            // At most 128.
            v6: bits6.map_or(v6, |bits| bits as u8),
        },
    }
}

/// What the kernel's usual set of processors has room for.
const MOST_CPUS: u32 = 1_023;
