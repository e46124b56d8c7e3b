//! `director decap`: the real server's side of the director's tunnels.

use core::error::Error;
use core::net::IpAddr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::reassembly::Fragments;
use lvs_forward::{Decapsulator, GUE_PORT};
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::device::tun::{self, Layer};
use lvs_std::{Inner, TunnelEnd};
use lvs_support::Output;
use signal_hook::consts::{SIGINT, SIGTERM};

/// What `director decap` can be told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The virtual address belongs on this machine's loopback interface, hidden from ARP:\n\n  \
    director realserver up --mode tun --via director --vip 192.0.2.100 --interface eth0 --tunnel-address 10.0.1.21/24"
)]
pub(crate) struct Arguments {
    /// The interface by which the director's packets come
    #[arg(long, value_name = "IF")]
    interface: String,
    /// A tunnel address with its subnet's prefix length, such as 10.0.1.21/24; may be repeated
    ///
    /// The director's configuration names the real server by this address. This machine's kernel must not have it: the
    /// address belongs to this program, which answers ARP and neighbour discovery for it.
    #[arg(long = "address", value_name = "ADDRESS/LENGTH", required = true, value_parser = prefix)]
    addresses: Vec<(IpAddr, u8)>,
    /// The TUN interface that is made for the unwrapped packets
    #[arg(long, value_name = "NAME", default_value = "lvs0")]
    tun: String,
    /// The UDP port on which GUE is unwrapped
    #[arg(long, value_name = "PORT", default_value_t = GUE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    gue_port: u16,
    /// The MAC address of the tunnel addresses; otherwise one is derived from the interface's
    #[arg(long, value_name = "MAC")]
    mac: Option<MacAddress>,
}

/// Unwraps until SIGINT or SIGTERM. Status 1 when it cannot be started or the interface is gone.
pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    lvs_support::supervise(lvs_support::LogFormat::default(), |streams| run(arguments, &streams.out))
}

fn run(arguments: &Arguments, out: &Output) -> Result<(), Box<dyn Error>> {
    let mut options = PacketOptions::default();
    options.mac = Some(arguments.mac.map_or_else(|| packet::own_mac(&arguments.interface), |mac| Ok(mac.0))?);
    let outer = packet::open(&arguments.interface, &options)?;
    let mac = MacAddress(outer.mac);
    let mut host: Host = Host::new(lvs_std::random_seed()?);
    let port = host.add_port(Port::ethernet(mac, u16::try_from(outer.mtu).unwrap_or(u16::MAX)))?;
    for &(address, length) in &arguments.addresses {
        host.add_address(port, address, length).map_err(|error| format!("{address}/{length}: {error}"))?;
    }
    let inner = tun::open(&arguments.tun, Layer::Ip)?;
    admit_clients(&inner.name)?;
    let decapsulator = Decapsulator::new(host, arguments.gue_port);
    let mut decapsulator = Box::new(decapsulator.with_fragments(Fragments::with_room(FRAGMENTED)));
    decapsulator.host_mut().announce_all(lvs_core::Tick::ZERO);
    let mut end = TunnelEnd::new(decapsulator, outer.device, inner.device, Inner::Bare);
    let (stop, stopped) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, stop.try_clone()?)?;
    }
    tracing::info!("unwrapping what comes to {mac} on {} into {}", arguments.interface, inner.name);
    end.run(&stopped)?;
    let counters = end.counters();
    let (frames, unwrapped) = (counters.received.frames, counters.unwrapped);
    out.say(format_args!("{frames} frames came in, {unwrapped} packets were unwrapped\n"));
    let lost = counters.lost + counters.delivered.lost();
    if lost > 0 {
        out.say(format_args!("{lost} of them could not be handed over\n"));
    }
    Ok(())
}

/// Clients are not behind the inner interface, so a reverse path filter would throw their packets away.
fn admit_clients(inner: &str) -> Result<(), Box<dyn Error>> {
    let setting = |interface: &str| format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
    fs::write(setting(inner), "0")
        .map_err(|error| format!("net.ipv4.conf.{inner}.rp_filter cannot be set to 0: {error}"))?;
    // The kernel takes the stricter one of an interface's own setting and the one for all.
    if fs::read_to_string(setting("all"))?.trim() == "1" {
        return Err("net.ipv4.conf.all.rp_filter is 1, which drops what clients send through a tunnel: \
                    run `sysctl -w net.ipv4.conf.all.rp_filter=0`"
            .into());
    }
    Ok(())
}

/// Tunnel packets that can be in the making at a time.
const FRAGMENTED: usize = 64;

pub(crate) fn prefix(text: &str) -> Result<(IpAddr, u8), String> {
    let parts = text
        .split_once('/')
        .and_then(|(address, length)| Some((address.parse().ok()?, length.parse().ok()?)));
    parts.ok_or_else(|| "expected an address with a prefix length, such as 10.0.1.21/24".to_owned())
}
