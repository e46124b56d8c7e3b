//! The kernel's switches by their names.

use lvs_core::config::Tuning;
use lvs_forward::Options;
use lvs_std::control::sysctl::{self, SysctlError};

/// Turns a switch.
///
/// # Errors
///
/// A sentence, when the director has no such switch or not with this value.
pub(crate) fn set(tuning: &mut Tuning, options: &mut Options, key: &str, value: &str) -> Result<(), String> {
    let no_value = || format!("{key} cannot be `{value}`");
    let flag = || match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(no_value()),
    };
    let number = || value.parse::<u32>().map_err(|_| no_value());
    // What the host does anyway, if it is set like this.
    let fixed = |expected: &str| {
        if value == expected { Ok(()) } else { Err(format!("{key} is {expected} and cannot be `{value}`")) }
    };
    let Some(name) = key.strip_prefix("net.ipv4.vs.") else {
        return match key {
            "net.ipv4.ip_forward" => flag().map(|on| options.ip_forward = on),
            "net.ipv6.conf.all.forwarding" => fixed(if options.ip_forward { "1" } else { "0" }),
            "net.ipv4.conf.all.rp_filter" | "net.ipv4.conf.all.send_redirects" => fixed("0"),
            "net.ipv4.icmp_ratelimit" | "net.ipv6.icmp.ratelimit" => {
                number().map(|rate| options.icmp_rate = rate)
            }
            _ => Err(format!("{key} is no switch of this director")),
        };
    };
    match name {
        // These say how the kernel does it, and do not change what it does to packets: whether netfilter keeps
        // entries of its own, re-routes replies by source (which needs policy routing), looks into what is tunnelled
        // to it, and how its sync threads queue.
        "conntrack" | "snat_reroute" | "ignore_tunneled" => drop(flag()?),
        "sync_ports" | "sync_qlen_max" | "sync_sock_size" => drop(number()?),
        _ => sysctl::set(tuning, options, name, value).map_err(|error| match error {
            SysctlError::Unknown => format!("{key} is no switch of this director"),
            SysctlError::Value | _ => no_value(),
        })?,
    }
    Ok(())
}
