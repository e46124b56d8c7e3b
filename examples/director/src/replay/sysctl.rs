//! The kernel's switches by their names.

use lvs_core::{Defence, Tuning};
use lvs_forward::Options;

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
    let defence = || number().ok().and_then(Defence::from_number).ok_or_else(no_value);
    match name {
        "am_droprate" => tuning.am_droprate = number()?,
        "amemthresh" => tuning.amemthresh = number()?,
        "backup_only" => tuning.backup_only = flag()?,
        "cache_bypass" => tuning.cache_bypass = flag()?,
        "conn_reuse_mode" => tuning.conn_reuse_mode = number()?,
        "drop_entry" => tuning.drop_entry = defence()?,
        "drop_packet" => tuning.drop_packet = defence()?,
        "expire_nodest_conn" => tuning.expire_nodest_conn = flag()?,
        "expire_quiescent_template" => tuning.expire_quiescent_template = flag()?,
        "lblc_expiration" => tuning.lblc_expiration = number()?,
        "lblcr_expiration" => tuning.lblcr_expiration = number()?,
        "nat_icmp_send" => tuning.nat_icmp_send = flag()?,
        "pmtu_disc" => options.pmtu_disc = flag()?,
        "run_estimation" => tuning.run_estimation = flag()?,
        "schedule_icmp" => tuning.schedule_icmp = flag()?,
        "secure_tcp" => tuning.secure_tcp = defence()?,
        "sloppy_sctp" => tuning.sloppy_sctp = flag()?,
        "sloppy_tcp" => tuning.sloppy_tcp = flag()?,
        "sync_persist_mode" => tuning.sync_persist_mode = flag()?,
        "sync_refresh_period" => tuning.sync_refresh_period = number()?,
        "sync_retries" => {
            let retries = u8::try_from(number()?).ok().filter(|retries| *retries <= 3);
            tuning.sync_retries = retries.ok_or_else(no_value)?;
        }
        "sync_version" => {
            let version = u8::try_from(number()?).ok().filter(|version| *version <= 1);
            tuning.sync_version = version.ok_or_else(no_value)?;
        }
        "sync_threshold" => {
            let (threshold, period) = value.split_once([' ', '\t']).ok_or_else(no_value)?;
            let read = |text: &str| text.trim().parse::<u32>().map_err(|_| no_value());
            (tuning.sync_threshold, tuning.sync_period) = (read(threshold)?, read(period)?);
        }
        // These say how the kernel does it, and do not change what it does to packets: whether netfilter keeps entries of
        // its own, re-routes replies by source (which needs policy routing), looks into what is tunnelled to it, and how
        // its sync threads queue.
        "conntrack" | "snat_reroute" | "ignore_tunneled" => drop(flag()?),
        "sync_ports" | "sync_qlen_max" | "sync_sock_size" => drop(number()?),
        _ => return Err(format!("{key} is no switch of this director")),
    }
    Ok(())
}
