//! `[director]`: how many workers there are, where they run, and which packets each of them gets.

use core::net::{IpAddr, Ipv4Addr};

use toml::Spanned;

use super::Reader;
use crate::config::raw::{self, Whole};
use crate::config::{ConfigError, NO_SEED, VirtualService, Workers};
use crate::steering::{By, Steer, Unsuited};

impl Reader<'_> {
    pub(super) fn workers(
        self,
        file: &raw::File,
        services: &[VirtualService],
        addresses: &[IpAddr],
    ) -> Result<Workers, ConfigError> {
        let raw = &file.director;
        let most = Steer::MOST as u32;
        let workers = self.number(raw.workers.as_ref(), "workers", 1..=most)?.unwrap_or(1) as usize;
        let mut work = Workers {
            count: workers,
            cpus: self.cpus(raw, workers)?,
            busy_poll: raw.busy_poll.unwrap_or(false),
            offload: raw.offload.unwrap_or(true),
            by: self.by(raw, services)?,
        };
        if workers == 1 {
            // One worker has all packets: how they would be shared out must not make a reload ask for a new start.
            work.by = By::Endpoint;
            return Ok(work);
        }
        let span = raw.workers.as_ref().map_or(0..0, Spanned::span);
        if let Some(on) = file.tuning.capture_marked.as_ref().filter(|on| *on.get_ref()) {
            return Err(self
                .error(on.span(), "what is captured by its mark cannot be shared out over several workers")
                .hint(
                    "only what goes to an address of the director shows who the client is; use one worker",
                ));
        }
        let steer = Steer::new(NO_SEED, workers, work.by);
        for (service, raw) in services.iter().zip(&file.service) {
            if let Err(why) = steer.suits(service.key, service.config.persistence) {
                let persistence =
                    raw.get_ref().persistence.as_ref().map(|persistence| persistence.timeout.span());
                return Err(self.error(persistence.unwrap_or_else(|| raw.span()), why.to_string()).hint(
                    match why {
                        Unsuited::Call => "use one worker",
                        Unsuited::Ftp | Unsuited::Persistent => {
                            "use steer = \"address\", or leave `steer` away"
                        }
                        Unsuited::Mask => "use a smaller `steer-v4` or `steer-v6`, or leave them away",
                    },
                ));
            }
        }
        // By AF_XDP the addresses are in maps.
        let is_xdp = |interface: &raw::Interface| {
            interface.device.as_ref().is_some_and(|device| *device.get_ref() == raw::DeviceKind::Xdp)
        };
        if !file.interface.iter().all(is_xdp) && !steer.fits(addresses) {
            return Err(self
                .error(span, format!("{} addresses are too many for several workers", addresses.len()))
                .hint("the kernel shares frames out by a program with all of them in it; use one worker"));
        }
        Ok(work)
    }

    fn cpus(self, raw: &raw::Director, workers: usize) -> Result<Vec<usize>, ConfigError> {
        let Some(list) = &raw.cpus else { return Ok(Vec::new()) };
        let mut cpus = Vec::new();
        for cpu in list.get_ref() {
            let number = self.number(Some(cpu), "cpu", 0..=MOST_CPUS)?.unwrap_or_default() as usize;
            if cpus.contains(&number) {
                return Err(self
                    .error(cpu.span(), format!("cpu {number} is there twice"))
                    .hint("two workers on one processor are slower than one"));
            }
            cpus.push(number);
        }
        if cpus.len() != workers {
            return Err(self
                .error(list.span(), format!("{} processors for {workers} workers", cpus.len()))
                .hint("name one for each worker, or none"));
        }
        Ok(cpus)
    }

    /// What is asked for, or what suits the services of the file. Where there are none yet, nobody knows what will
    /// come: then the address, which suits all but persistence by networks.
    fn by(self, raw: &raw::Director, services: &[VirtualService]) -> Result<By, ConfigError> {
        let bits = |value: Option<&Spanned<Whole>>, key, most| self.number(value, key, 1..=most);
        let v4 = bits(raw.steer_v4.as_ref(), "steer-v4", 32)?;
        let v6 = bits(raw.steer_v6.as_ref(), "steer-v6", 128)?;
        let asked = raw.steer.as_ref().map(|steer| *steer.get_ref());
        if asked == Some(raw::Steer::Endpoint) {
            if let Some(bits) = raw.steer_v4.as_ref().or(raw.steer_v6.as_ref()) {
                return Err(self
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
