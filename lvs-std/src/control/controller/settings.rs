//! What holds for a whole director: time-outs, switches, counters that begin anew.

use lvs_core::service::SchedulerOf;
use lvs_core::{Scheduler, Store};

use super::Controller;
use crate::control::backend::Backend;
use crate::control::convert::key;
use crate::control::journal::Entry;
use crate::control::sysctl::{self, Switch, SysctlError};
use crate::control::{Command, CommandError, Errno, ServiceName, Setting, Timeouts};

impl<S, R> Controller<S, R>
where
    S: Store + 'static,
    SchedulerOf<S>: From<Scheduler>,
    R: Backend<S>,
{
    /// Turns a switch, by its name with `net.ipv4.vs.` or without, as [`submit`](Self::submit) does it, and says in
    /// words what is wrong.
    ///
    /// `director sysctl`, a write to a file below `/proc/sys/net/ipv4/vs` and a reload come here: the switch takes
    /// effect at every worker and is in the journal, or it is refused.
    ///
    /// # Errors
    /// [`SysctlError`], and nothing has changed; [`CommandError::Gone`].
    pub fn set_sysctl(&mut self, name: &str, value: &str) -> Result<(), CommandError<SysctlError>> {
        let switch = Switch::find(name).ok_or(CommandError::Refused(SysctlError::Unknown))?;
        let asked = value.trim().to_owned();
        let tried = self.backend.with(move |director, forwarder, _| {
            let (mut tuning, mut options) = (director.config().tuning, *forwarder.options());
            sysctl::set(&mut tuning, &mut options, switch.name, &asked)
        });
        // What is said of a value depends on it alone: all workers would say the same.
        tried?.map_err(CommandError::Refused)?;
        if switch.is_fixed() {
            return Ok(());
        }
        let setting = Setting::Sysctl(switch.name.to_owned(), value.trim().to_owned());
        let turned = self.kept(Entry::of(&Command::Setting(setting)), |controller| {
            controller.turn(switch, value).map_err(numbered)
        });
        turned.map_err(|error: CommandError| match error {
            CommandError::Gone => CommandError::Gone,
            CommandError::Refused(errno) => CommandError::Refused(SysctlError::NotKept(errno)),
        })
    }

    /// Sets a time-out or switch that was checked, without keeping it.
    pub(super) fn set(&mut self, setting: &Setting) -> Result<(), CommandError> {
        match setting {
            Setting::Timeouts(timeouts) => self.set_timeouts(*timeouts),
            Setting::Sysctl(name, value) => {
                let switch = Switch::find(name).ok_or(Errno::NoEntry)?;
                self.turn(switch, value).map_err(numbered)
            }
        }
    }

    /// Turns a switch at every worker.
    fn turn(&mut self, switch: &'static Switch, value: &str) -> Result<(), CommandError<SysctlError>> {
        let (workers, asked) = (self.backend.workers(), value.trim().to_owned());
        let done = self.backend.with_each(move |_, director, forwarder, _| {
            let (mut config, mut options) = (director.config().clone(), *forwarder.options());
            sysctl::set(&mut config.tuning, &mut options, switch.name, &asked)?;
            if switch.is_shared_out() {
                // Each worker answers for itself, and all together must not send more than was asked for by much.
                options.icmp_rate = sysctl::worker_share(options.icmp_rate, workers);
            }
            director.set_config(config);
            forwarder.set_options(options);
            Ok(())
        })?;
        done.into_iter().collect::<Result<(), SysctlError>>().map_err(CommandError::Refused)?;
        if switch.is_shared_out() {
            self.icmp_rate = value.trim().parse().ok();
        }
        if !switch.is_fixed() {
            self.turned.insert(switch.name);
        }
        Ok(())
    }

    /// What a switch is set to.
    pub(super) fn sysctl(&self, switch: &'static Switch) -> Result<String, CommandError> {
        let read = self.backend.with_each(move |_, director, forwarder, _| {
            let options = forwarder.options();
            let value = sysctl::get(&director.config().tuning, options, switch.name);
            (value.unwrap_or_default(), options.icmp_rate)
        })?;
        if switch.is_shared_out() {
            let parts: Vec<u32> = read.iter().map(|(_, rate)| *rate).collect();
            let whole =
                |asked: &u32| parts.iter().all(|part| *part == sysctl::worker_share(*asked, parts.len()));
            // The number that was asked for, while the parts still are of it: a program may have set the options of
            // its workers itself.
            let rate = self.icmp_rate.filter(whole).unwrap_or_else(|| parts.iter().sum());
            return Ok(rate.to_string());
        }
        Ok(read.into_iter().next().map(|(value, _)| value).unwrap_or_default())
    }

    /// The switches that were turned since the start, as they are now.
    pub(super) fn turned_switches(&self) -> Result<Vec<Setting>, CommandError> {
        let turned = self.turned.iter().filter_map(|name| Switch::find(name));
        turned.map(|switch| Ok(Setting::Sysctl(switch.name.to_owned(), self.sysctl(switch)?))).collect()
    }

    pub(super) fn timeouts(&self) -> Result<Timeouts, CommandError> {
        let read = self.backend.with(|director, _, _| director.config().timeouts);
        let timeouts = read?;
        Ok(Timeouts { tcp: timeouts.tcp, tcp_fin: timeouts.tcp_fin, udp: timeouts.udp })
    }

    pub(super) fn set_timeouts(&self, asked: Timeouts) -> Result<(), CommandError> {
        let Timeouts { tcp, tcp_fin, udp } = asked;
        let done = self.backend.with_each(move |_, director, _, _| {
            let mut config = director.config().clone();
            // 0 leaves a time-out as it is, as with `ipvsadm --set`.
            let set = |to: &mut u32, from: u32| *to = if from == 0 { *to } else { from };
            set(&mut config.timeouts.tcp, tcp);
            set(&mut config.timeouts.tcp_fin, tcp_fin);
            set(&mut config.timeouts.udp, udp);
            director.set_config(config);
        });
        Ok(done.map(drop)?)
    }

    pub(super) fn zero(&self, name: Option<ServiceName>) -> Result<(), CommandError> {
        let key = match name {
            None => None,
            Some(name) if self.desired.service(name).is_none() => return Err(Errno::NoService.into()),
            // A service that the director does not have has counted nothing.
            Some(name) => match key(name) {
                None => return Ok(()),
                key => key,
            },
        };
        // For the same reason it does not matter if it is not there.
        let zeroed = self.backend.with_each(move |_, director, _, _| _ = director.zero(key));
        Ok(zeroed.map(drop)?)
    }
}

/// Finds a time-out that no director takes.
pub(super) fn check_timeouts(asked: Timeouts) -> Result<(), Errno> {
    let Timeouts { tcp, tcp_fin, udp } = asked;
    if [tcp, tcp_fin, udp].into_iter().any(|seconds| seconds > LONGEST_TIMEOUT) {
        return Err(Errno::Invalid);
    }
    Ok(())
}

/// What a client is told of a switch, as a number.
pub(super) fn numbered(error: CommandError<SysctlError>) -> CommandError {
    match error {
        CommandError::Gone => CommandError::Gone,
        CommandError::Refused(why) => CommandError::Refused(why.into()),
    }
}

/// The kernel's limit, from the ticks that it counts in.
const LONGEST_TIMEOUT: u32 = i32::MAX.cast_unsigned() / 250;
