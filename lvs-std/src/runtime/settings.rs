//! Time-outs and switches of a configuration, as the commands that set them on a running director.

use lvs_core::config::MAX_TIMEOUT_SECS;

use super::SysctlError;
use crate::config::Configuration;
use crate::control::sysctl::{self, Switch};
use crate::control::{CommandError, Setting, Timeouts};

/// Finds a time-out or switch that no command would set so. A file was checked when it was read, but a configuration
/// that a program has made may say anything.
///
/// Whoever applies a configuration asks first: what comes after that is not refused halfway.
pub(super) fn check(configuration: &Configuration) -> Result<(), SysctlError> {
    let refusal = |key: &str, value: String, why| SysctlError {
        key: key.to_owned(),
        value,
        why: CommandError::Refused(why),
    };
    let timeouts = configuration.timeouts;
    for (key, seconds) in [
        ("timeouts.tcp", timeouts.tcp),
        ("timeouts.tcp-fin", timeouts.tcp_fin),
        ("timeouts.udp", timeouts.udp),
    ] {
        // The command takes 0 for "as it is", which no configuration means.
        if !(1..=MAX_TIMEOUT_SECS).contains(&seconds) {
            return Err(refusal(key, seconds.to_string(), sysctl::SysctlError::Value));
        }
    }
    for switch in sysctl::all() {
        let Some(value) = value(configuration, switch) else { continue };
        let (mut tuning, mut options) = (configuration.tuning, configuration.options);
        sysctl::set(&mut tuning, &mut options, switch.name, &value)
            .map_err(|why| refusal(&switch.full_name(), value, why))?;
    }
    Ok(())
}

/// The commands for what `new` says otherwise than `old` does. What both say alike stays as operators have set it
/// meanwhile, as it does for services and servers.
pub(super) fn changes(old: &Configuration, new: &Configuration) -> Vec<Setting> {
    let mut changes = Vec::new();
    if old.timeouts != new.timeouts {
        // 0 leaves a time-out as it is.
        let changed = |old: u32, new: u32| if old == new { 0 } else { new };
        changes.push(Setting::Timeouts(Timeouts {
            tcp: changed(old.timeouts.tcp, new.timeouts.tcp),
            tcp_fin: changed(old.timeouts.tcp_fin, new.timeouts.tcp_fin),
            udp: changed(old.timeouts.udp, new.timeouts.udp),
        }));
    }
    for switch in sysctl::all() {
        let wanted = value(new, switch);
        if wanted != value(old, switch) {
            changes.extend(wanted.map(|value| Setting::Sysctl(switch.name.to_owned(), value)));
        }
    }
    changes
}

fn value(configuration: &Configuration, switch: &Switch) -> Option<String> {
    sysctl::get(&configuration.tuning, &configuration.options, switch.name)
}
