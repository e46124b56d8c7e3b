//! The kernel's files below `/proc/net`, as text.

use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};

use lvs_core::Family;
use lvs_core::conn::TemplateTarget;
use lvs_core::method::MethodKind;
use lvs_core::stats::{Rates, Traffic};

use super::reconcile::table::Entry;
use super::{ServerReport, ServiceName, ServiceReport, flags};

/// `/proc/net/ip_vs`.
pub(super) fn services(table_size: u32, table: &[(ServiceReport, Vec<ServerReport>)]) -> String {
    let mut text = format!(
        "IP Virtual Server version 1.2.1 (size={table_size})\n\
         Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
    );
    for (service, servers) in table {
        let spec = &service.spec;
        let ops = if spec.flags & flags::ONE_PACKET != 0 { "ops " } else { "" };
        // Writing to a string cannot fail, here and below.
        let _ = match service.name {
            ServiceName::Address { protocol, address: address @ IpAddr::V4(_), port } => {
                let protocol = protocol_name(protocol);
                write!(text, "{protocol}  {}:{port:04X} {} {ops} ", hex(address), spec.scheduler)
            }
            ServiceName::Address { protocol, address: address @ IpAddr::V6(_), port } => {
                let protocol = protocol_name(protocol);
                write!(text, "{protocol}  [{}]:{port:04X} {} ", hex(address), spec.scheduler)
            }
            ServiceName::Mark { mark, .. } => write!(text, "FWM  {mark:08X} {} {ops}", spec.scheduler),
        };
        if spec.flags & flags::PERSISTENT != 0 {
            let mask = match service.name.family() {
                Family::V4 => spec.netmask,
                Family::V6 => spec.netmask.swap_bytes(),
            };
            let _ = write!(text, "persistent {} {mask:08X}", spec.timeout.saturating_mul(TICKS_PER_SECOND));
        }
        text.push('\n');
        for server in servers {
            let address = match server.address.ip() {
                IpAddr::V4(_) => hex(server.address.ip()),
                IpAddr::V6(_) => format!("[{}]", hex(server.address.ip())),
            };
            // The kernel has no word for bypass here: it shows what it does not know as masquerading.
            let way = MethodKind::from_number(server.spec.method).filter(|kind| *kind != MethodKind::Bypass);
            let way = way.unwrap_or(MethodKind::Nat).ipvsadm_name();
            let _ = writeln!(
                text,
                "  -> {address}:{:04X}      {way:<7} {:<6} {:<10} {:<10}",
                server.address.port(),
                server.spec.weight,
                server.active,
                server.inactive
            );
        }
    }
    text
}

/// `/proc/net/ip_vs_conn`: its title.
pub(super) const CONNECTIONS: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";
/// `/proc/net/ip_vs_conn_sync`: its title.
pub(super) const CONNECTIONS_SYNC: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n";

/// A line of `/proc/net/ip_vs_conn`, or of `ip_vs_conn_sync` with the entry's origin.
pub(super) fn connection(text: &mut String, entry: &Entry, with_origin: bool) {
    let (protocol, client, target, destination, state, expires_in, synced, call) = match entry {
        Entry::Connection(connection) => (
            connection.flow.protocol.to_string(),
            connection.flow.source(),
            connection.flow.destination(),
            connection.destination,
            connection.state.to_string(),
            connection.expires_in,
            connection.synced,
            None,
        ),
        Entry::Template(template) => {
            let (protocol, target) = match template.target {
                TemplateTarget::Address { protocol, address } => (protocol.to_string(), address),
                TemplateTarget::Mark(mark) => ("IP".to_owned(), mark_address(mark, template.client)),
            };
            let state = if template.assured { "ASSURED" } else { "NONE" };
            let client = SocketAddr::new(template.client, 0);
            let call = template.call.as_deref();
            (
                protocol,
                client,
                target,
                template.destination,
                state.to_owned(),
                template.expires_in,
                false,
                call,
            )
        }
    };
    let _ = write!(text, "{protocol:<3} ");
    for end in [client, target, destination] {
        let _ = write!(text, "{} {:04X} ", hex(end.ip()), end.port());
    }
    let seconds = expires_in / 1_000;
    let _ = if with_origin {
        let origin = if synced { "SYNC" } else { "LOCAL" };
        write!(text, "{state:<11} {origin:<6} {seconds:7}")
    } else {
        write!(text, "{state:<11} {seconds:7}")
    };
    if let Some(call) = call.filter(|_| !with_origin) {
        // Whoever wrote it may have put anything into it: one line stays one line.
        let call: String =
            String::from_utf8_lossy(call).chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = write!(text, " sip {call}");
    }
    text.push('\n');
}

/// `/proc/net/ip_vs_stats`.
pub(super) fn stats(traffic: &Traffic, rates: &Rates) -> String {
    let mut text = String::from(
        "   Total Incoming Outgoing         Incoming         Outgoing\n\
        \x20  Conns  Packets  Packets            Bytes            Bytes\n",
    );
    let Traffic { connections, in_packets, out_packets, in_bytes, out_bytes, .. } = traffic;
    let _ =
        writeln!(text, "{connections:8X} {in_packets:8X} {out_packets:8X} {in_bytes:16X} {out_bytes:16X}\n");
    text.push_str(" Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n");
    let Rates { connections, in_packets, out_packets, in_bytes, out_bytes, .. } = rates;
    let _ =
        writeln!(text, "{connections:8X} {in_packets:8X} {out_packets:8X} {in_bytes:16X} {out_bytes:16X}");
    text
}

/// `/proc/net/ip_vs_stats_percpu`: what each worker has counted in place of a processor, and all together.
pub(super) fn stats_percpu<'a>(
    each: impl Iterator<Item = &'a Traffic>,
    sum: &Traffic,
    rates: &Rates,
) -> String {
    let mut text = String::from(
        "       Total Incoming Outgoing         Incoming         Outgoing\n\
         CPU    Conns  Packets  Packets            Bytes            Bytes\n",
    );
    let mut line = |cpu: &str, traffic: &Traffic, end: &str| {
        let Traffic { connections, in_packets, out_packets, in_bytes, out_bytes, .. } = traffic;
        let _ = write!(
            text,
            "{cpu:>3} {connections:8X} {in_packets:8X} {out_packets:8X} {in_bytes:16X} {out_bytes:16X}{end}"
        );
    };
    for (cpu, traffic) in each.enumerate() {
        line(&format!("{cpu:X}"), traffic, "\n");
    }
    line("~", sum, "\n\n");
    text.push_str("     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n");
    let Rates { connections, in_packets, out_packets, in_bytes, out_bytes, .. } = rates;
    let _ = writeln!(
        text,
        "    {connections:8X} {in_packets:8X} {out_packets:8X} {in_bytes:16X} {out_bytes:16X}"
    );
    text
}

/// An IPv4 address in eight digits, an IPv6 one in eight groups of four.
fn hex(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08X}", address.to_bits()),
        IpAddr::V6(address) => address.segments().map(|group| format!("{group:04x}")).join(":"),
    }
}

/// A protocol as the files name it.
pub(crate) const fn protocol_name(number: u16) -> &'static str {
    match number {
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        _ => "IP",
    }
}

/// As the kernel has it: the mark instead of an address.
fn mark_address(mark: u32, client: IpAddr) -> SocketAddr {
    let address = match client {
        IpAddr::V4(_) => IpAddr::V4(mark.into()),
        IpAddr::V6(_) => IpAddr::V6((u128::from(mark) << 96).into()),
    };
    SocketAddr::new(address, 0)
}

const TICKS_PER_SECOND: u32 = 250;
