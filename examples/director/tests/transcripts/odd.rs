//! A director that reports what no real one does, and refuses whatever it is asked to: for how tools show that.

use core::net::SocketAddr;

use lvs_core::Family;
use lvs_std::control::{
    Answer, Command, CommandHandler, DaemonCommand, DaemonSpec, Errno, Info, Query, Role, ServerReport,
    ServerSpec, ServiceName, ServiceReport, ServiceSpec, Setting, Stats, TableCommand, Timeouts, flags,
};

/// A director of another kind has the services of a small zoo, and refuses changes with the error that the port (of a
/// service), the mark, the first time-out or the sync id is the number of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odd;

impl CommandHandler for Odd {
    fn handle(&mut self, command: &Command) -> Result<Answer, Errno> {
        let refuse = |number: u32| Errno::from_number(number as i32).map_or(Ok(Answer::Done), Err);
        let by_name = |name: &ServiceName| match *name {
            ServiceName::Address { port, .. } => refuse(port.into()),
            ServiceName::Mark { mark, .. } => refuse(mark),
        };
        match command {
            Command::Table(TableCommand::NewService(name, _))
            | Command::Table(TableCommand::SetService(name, ..))
            | Command::Table(TableCommand::DelService(name))
            | Command::Query(Query::Service(name))
            | Command::Table(TableCommand::NewServer(name, ..))
            | Command::Table(TableCommand::SetServer(name, ..))
            | Command::Table(TableCommand::DelServer(name, _))
            | Command::Zero(Some(name)) => by_name(name),
            Command::Query(Query::Services) => Ok(Answer::Services(services())),
            Command::Query(Query::Servers(name)) => Ok(Answer::Servers(servers(*name))),
            Command::Setting(Setting::Timeouts(times)) => refuse(times.tcp),
            Command::Daemon(DaemonCommand::Start(spec)) => refuse(spec.sync_id),
            Command::Daemon(DaemonCommand::Stop(_)) => refuse(22),
            Command::Query(Query::Daemons) => Ok(Answer::Daemons(daemons())),
            Command::Query(Query::Timeouts) => {
                Ok(Answer::Timeouts(Timeouts { tcp: 2_147_483_647, tcp_fin: 0, udp: 1 }))
            }
            Command::Query(Query::Info) => {
                Ok(Answer::Info(Info { version: 0x0004_2107, table_size: 1 << 20 }))
            }
            Command::Setting(Setting::Sysctl(..)) | Command::Query(Query::Sysctl(_)) => Err(Errno::NoEntry),
            Command::Zero(None) | Command::Table(TableCommand::Flush) => refuse(12),
        }
    }

    fn has_service(&mut self, _: ServiceName) -> bool {
        true
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        if path == "/proc/net/ip_vs_conn" { Ok(CONNECTIONS.into()) } else { Err(Errno::NoEntry) }
    }
}

/// Listings of all kinds, and every change with every error.
pub(crate) fn script() -> String {
    let mut text = String::new();
    let mut call = |line: &str| {
        text.push_str(&format!("echo '== {line}'; ipvsadm {line} 2>&1; echo \"status $?\"\n"));
    };
    for kind in [
        "",
        "--stats",
        "--stats -X",
        "--rate",
        "--rate -X",
        "--thresholds",
        "--persistent-conn",
        "--tun-info",
    ] {
        for names in ["-L", "-Ln", "-Ln --nosort"] {
            call(&format!("{names} {kind}"));
        }
    }
    for line in [
        "-S",
        "-Sn",
        "-Lc",
        "-Lnc",
        "-Lc --persistent-conn",
        "-Lnc --persistent-conn",
        "-L --timeout",
        "-L --daemon",
    ] {
        call(line);
    }
    for number in [1, 2, 3, 12, 16, 17, 19, 22, 34, 95, 97] {
        for service in [format!("-t 10.99.0.1:{number}"), format!("-f {number} -6")] {
            let server = if service.ends_with('6') { "2001:db8::1" } else { "10.0.1.11" };
            for line in ["-A", "-E", "-D", "-Z", "-L"] {
                call(&format!("{line} {service}"));
            }
            for line in ["-a", "-e", "-d"] {
                call(&format!("{line} {service} -r {server}"));
            }
        }
        call(&format!("--set {number} 1 1"));
        call(&format!("--start-daemon backup --syncid {number}"));
    }
    for line in ["--stop-daemon master", "-C", "-Z"] {
        call(line);
    }
    text
}

fn services() -> Vec<ServiceReport> {
    let mut all = Vec::new();
    let mut add =
        |name: ServiceName, scheduler: &str, flags: u32, timeout: u32, netmask: u32, engine: &str| {
            let number = all.len() as u64;
            let engine = Some(engine.to_owned()).filter(|engine| !engine.is_empty());
            let spec = ServiceSpec { scheduler: scheduler.to_owned(), flags, timeout, netmask, engine };
            all.push(ServiceReport { name, spec, stats: stats(number) });
        };
    let at = |protocol, text: &str| {
        let socket: SocketAddr = text.parse().expect("an address");
        ServiceName::Address { protocol, address: socket.ip(), port: socket.port() }
    };
    let persistent = flags::PERSISTENT;
    add(at(6, "10.99.0.1:80"), "rr", 0, 77, 0xffff_ff00, "");
    add(at(6, "10.99.0.1:8080"), "sh", 0xf8, 0, u32::MAX, "");
    add(at(17, "10.99.0.5:53"), "mh", 0x38 | flags::ONE_PACKET | persistent, 3, 0, "sip");
    add(at(17, "10.99.0.6:53"), "averylongnamefo", persistent | 0xff00, u32::MAX, 0xff00_ff00, "");
    add(at(17, "10.99.0.7:5060"), "none", 0, 0, u32::MAX, "sip");
    add(at(132, "10.99.0.8:9000"), "wlc", 0x20, 0, u32::MAX, "");
    add(at(6, "[2001:db8:99::1]:80"), "sh", 0x20 | persistent, 60, 64, "");
    add(at(6, "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"), "rr", persistent, 1, 128, "");
    add(at(17, "[::ffff:10.1.2.3]:53"), "rr", 4, 0, 128, "");
    add(at(6, "10.99.0.9:443"), "rr", 0, 0, u32::MAX, "");
    add(ServiceName::Mark { family: Family::V4, mark: 7 }, "rr", persistent, 9, u32::MAX, "");
    add(ServiceName::Mark { family: Family::V6, mark: 7 }, "rr", persistent, 9, 48, "");
    add(ServiceName::Mark { family: Family::V4, mark: u32::MAX }, "rr", 0, 0, u32::MAX, "");
    all
}

fn servers(name: ServiceName) -> Vec<ServerReport> {
    let v6 = name.family() == Family::V6;
    let mut all = Vec::new();
    let mut add = |address: &str, method: u32, weight: i32, tunnel: (u8, u16, u16)| {
        let number = all.len() as u64;
        let mut spec = ServerSpec::new(method, weight);
        (spec.tunnel_type, spec.tunnel_port, spec.tunnel_flags) = tunnel;
        (spec.upper, spec.lower) = ((number as u32).wrapping_mul(1_000_000_000), number as u32);
        all.push(ServerReport {
            address: address.parse().expect("an address"),
            spec,
            active: u32::MAX,
            inactive: number as u32,
            persistent: 4_000_000_000,
            stats: bounded(stats(number + 3)),
        });
    };
    if v6 {
        add("[2001:db8:1::11]:80", 3, 1, (0, 0, 0));
        add("[2001:db8:1:1111:2222:3333:4444:5555]:65535", 0, i32::MAX, (1, 1, 1));
        add("10.0.1.11:80", 2, 1, (1, 6080, 2));
    } else {
        for (at, method) in (0..4_u32).enumerate() {
            add(&format!("10.0.1.{}:80", 11 + at), method, at as i32 * 1_000_000, (0, 0, 0));
        }
        add("10.0.1.21:80", 2, 1, (1, 6080, 0));
        add("10.0.1.22:80", 2, 1, (1, 65_535, 1));
        add("10.0.1.23:80", 2, 1, (1, 1, 2));
        add("10.0.1.24:80", 2, 1, (2, 9, 1));
        add("10.0.1.25:80", 2, 1, (2, 0, 0));
        add("10.0.1.26:80", 3, 1, (2, 0, 1));
        add("10.0.1.27:443", 0x102, 1, (0, 0, 0));
        add("10.0.1.28:443", 0x103, 1, (0, 0, 0));
        add("200.100.1.28:65535", 0, 1, (0, 0, 0));
        add("[2001:db8:1::11]:80", 2, 1, (0, 0, 0));
    }
    all
}

/// Numbers around those at which they are shortened.
fn stats(number: u64) -> Stats {
    let of = |shift: u64| {
        let ten = 10_u64.pow((5 + number + shift).min(18) as u32);
        ten - (number + shift) % 2
    };
    let mut stats = Stats::default();
    let (traffic, rates) = (&mut stats.traffic, &mut stats.rates);
    (traffic.connections, traffic.in_packets, traffic.out_packets) = (of(0), of(1), of(2));
    (traffic.in_bytes, traffic.out_bytes) = (of(3), of(4));
    (rates.connections, rates.in_packets, rates.out_packets) = (of(4), of(3), of(2));
    (rates.in_bytes, rates.out_bytes) = (of(1), of(0));
    stats
}

/// Of a server, ipvsadm shows no more than 32 bits of all but the bytes; we show every number whole.
fn bounded(mut stats: Stats) -> Stats {
    let (traffic, rates) = (&mut stats.traffic, &mut stats.rates);
    for number in [
        &mut traffic.connections,
        &mut traffic.in_packets,
        &mut traffic.out_packets,
        &mut rates.connections,
        &mut rates.in_packets,
        &mut rates.out_packets,
        &mut rates.in_bytes,
        &mut rates.out_bytes,
    ] {
        *number = (*number).min(u32::MAX.into());
    }
    stats
}

fn daemons() -> Vec<DaemonSpec> {
    let daemon = |role, sync_id, max_len, group: Option<&str>| DaemonSpec {
        role,
        interface: "averylongname00".to_owned(),
        sync_id,
        max_len,
        group: group.and_then(|group| group.parse().ok()),
        port: Some(65_535),
        ttl: Some(255),
    };
    vec![
        daemon(Role::Master, 65_536, Some(65_507), Some("224.0.0.81")),
        daemon(Role::Backup, 300, Some(1), Some("ff02::51")),
    ]
}

const CONNECTIONS: &str = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP C0000201 03E9 0A630001 0050 0A00010B 0050 ESTABLISHED     899
TCP C0000201 03E9 0A630001 0050 2001:0db8:0001:0000:0000:0000:0000:0011 0050 ESTABLISHED   86400
UDP C0000201 0000 0A630001 13C4 0A00010B 13C4 UDP            6000 sip 4aa6@example
SCTP C0000201 0000 0A630001 0035 0A00010C 0035 C-ECHOED         1
IP  C0000201 0000 00000007 0000 0A00010B 0050 NONE              0
TCP 2001:0db8:000c:0000:0000:0000:0000:0007 03E9 2001:0db8:0099:0000:0000:0000:0000:0001 0050 \
2001:0db8:0001:0000:0000:0000:0000:0011 01BB S-ACK-SENT      59
";
