//! The tool before a director of a few lines, which does no more than remember.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::control::{
    Answer, Command, DaemonCommand, DaemonSpec, Errno, Info, Query, ServerReport, ServerSpec, ServiceName,
    ServiceReport, ServiceSpec, Setting, Stats, TableCommand, Timeouts, method,
};
use lvs_core::{Family, Protocol};

use crate::ipvsadm::*;

#[derive(Default)]
struct Memory {
    services: Vec<(ServiceReport, Vec<ServerReport>)>,
    daemons: Vec<DaemonSpec>,
    timeouts: Timeouts,
    unprivileged: bool,
}

impl Memory {
    fn find(&mut self, name: ServiceName) -> Result<&mut (ServiceReport, Vec<ServerReport>), Errno> {
        self.services.iter_mut().find(|entry| entry.0.name == name).ok_or(Errno::NoService)
    }

    fn answer(&mut self, command: &Command) -> Result<Answer, Errno> {
        if self.unprivileged {
            return Err(Errno::Permission);
        }
        match command.clone() {
            Command::Table(TableCommand::NewService(name, spec)) => {
                if self.find(name).is_ok() {
                    return Err(Errno::Exists);
                }
                if spec.scheduler == "bogus" {
                    return Err(Errno::NoEntry);
                }
                self.services.push((service(name, spec), Vec::new()));
            }
            Command::Table(TableCommand::SetService(name, spec, _)) => self.find(name)?.0.spec = spec,
            Command::Table(TableCommand::DelService(name)) => {
                self.find(name)?;
                self.services.retain(|entry| entry.0.name != name);
            }
            Command::Table(TableCommand::NewServer(name, address, spec)) => {
                let servers = &mut self.find(name)?.1;
                if servers.iter().any(|server| server.address == address) {
                    return Err(Errno::Exists);
                }
                if spec.lower > spec.upper {
                    return Err(Errno::Range);
                }
                servers.insert(0, server(address, spec));
            }
            Command::Table(TableCommand::SetServer(name, address, spec)) => {
                let mut servers = self.find(name)?.1.iter_mut();
                servers.find(|server| server.address == address).ok_or(Errno::NoEntry)?.spec = spec;
            }
            Command::Table(TableCommand::DelServer(name, address)) => {
                let servers = &mut self.find(name)?.1;
                let at = servers.iter().position(|server| server.address == address);
                servers.remove(at.ok_or(Errno::NoEntry)?);
            }
            Command::Zero(None) => {}
            Command::Zero(Some(name)) => drop(self.find(name)?.0.clone()),
            Command::Table(TableCommand::Flush) => self.services.clear(),
            Command::Setting(Setting::Sysctl(..)) | Command::Query(Query::Sysctl(_)) => {
                return Err(Errno::Unsupported);
            }
            Command::Query(Query::Service(name)) => {
                return Ok(Answer::Service(Box::new(self.find(name)?.0.clone())));
            }
            Command::Query(Query::Services) => {
                return Ok(Answer::Services(self.services.iter().map(|entry| entry.0.clone()).collect()));
            }
            Command::Query(Query::Servers(name)) => return Ok(Answer::Servers(self.find(name)?.1.clone())),
            Command::Daemon(DaemonCommand::Start(spec)) => self.daemons.push(spec),
            Command::Daemon(DaemonCommand::Stop(role)) => {
                let at = self.daemons.iter().position(|daemon| daemon.role == role);
                self.daemons.remove(at.ok_or(Errno::NoService)?);
            }
            Command::Query(Query::Daemons) => return Ok(Answer::Daemons(self.daemons.clone())),
            Command::Setting(Setting::Timeouts(times)) => self.timeouts = times,
            Command::Query(Query::Timeouts) => return Ok(Answer::Timeouts(self.timeouts)),
            Command::Query(Query::Info) => {
                return Ok(Answer::Info(Info { version: 0x0001_0201, table_size: 4096 }));
            }
        }
        Ok(Answer::Done)
    }
}

impl Channel for Memory {
    fn call(&mut self, command: &Command) -> Result<Answer, ChannelError> {
        self.answer(command).map_err(ChannelError::Refused)
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, ChannelError> {
        Err(ChannelError::Lost(format!("there is no {path}")))
    }
}

fn service(name: ServiceName, spec: ServiceSpec) -> ServiceReport {
    ServiceReport { name, spec, stats: Stats::default() }
}

fn server(address: SocketAddr, spec: ServerSpec) -> ServerReport {
    ServerReport { address, spec, active: 0, inactive: 0, persistent: 0, stats: Stats::default() }
}

/// A few names.
struct Example;

impl Names for Example {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "vip.example").then_some(Ipv4Addr::new(10, 99, 0, 1))
    }

    fn port(&self, name: &str, _: Protocol) -> Option<u16> {
        (name == "http").then_some(80)
    }

    fn host_of(&self, address: IpAddr) -> Option<String> {
        match address.to_string().as_str() {
            "10.99.0.1" => Some("vip.example".to_owned()),
            "10.0.1.13" => Some("a-real-server-with-a-very-long-name.example".to_owned()),
            "2001:db8:99::1" => Some("vip6.example".to_owned()),
            _ => None,
        }
    }

    fn port_of(&self, port: u16, _: u16) -> Option<String> {
        (port == 80).then(|| "http".to_owned())
    }
}

/// Runs a line, with what standard input has; returns output, errors and status.
fn run_with(memory: &mut Memory, line: &str, mut input: &[u8]) -> (String, String, u8) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let words: Vec<&str> = line.split_whitespace().collect();
    let status = Session {
        program: "lvsadm",
        names: &Example,
        channel: memory,
        input: &mut input,
        out: &mut out,
        errors: &mut errors,
        more_help: "",
    }
    .run(&words);
    (String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap(), status)
}

fn run(memory: &mut Memory, line: &str) -> (String, String, u8) {
    run_with(memory, line, b"")
}

/// A director that carried out these lines.
fn told(lines: &[&str]) -> Memory {
    let mut memory = Memory::default();
    for line in lines {
        assert_eq!(run(&mut memory, line), (String::new(), String::new(), 0), "{line}");
    }
    memory
}

#[test]
fn refusals_are_said_as_by_ipvsadm() {
    let mut memory = told(&["-A -t 10.99.0.1:80", "-a -t 10.99.0.1:80 -r 10.0.1.11"]);
    for (line, said, status) in [
        ("-A -t 10.99.0.1:80", "Service already exists", 255),
        ("-A -t 10.99.0.2:80 -s bogus", "Scheduler or persistence engine not found", 255),
        ("-E -t 10.99.0.2:80", "No such service", 255),
        ("-D -t 10.99.0.2:80", "No such service", 255),
        ("-Z -t 10.99.0.2:80", "No such service", 255),
        ("-Ln -t 10.99.0.2:80", "No such service", 1),
        ("-a -t 10.99.0.2:80 -r 10.0.1.11", "Service not defined", 255),
        ("-a -t 10.99.0.1:80 -r 10.0.1.11", "Destination already exists", 255),
        ("-a -t 10.99.0.1:80 -r 10.0.1.12 -y 5", "Numerical result out of range", 255),
        ("-d -t 10.99.0.1:80 -r 10.0.1.12", "No such destination", 255),
        ("--stop-daemon backup", "No daemon is running", 255),
        ("-Lc", "cannot open file /proc/net/ip_vs_conn", 1),
        ("foo", "Try `lvsadm -h' or 'lvsadm --help' for more information.", 255),
        ("-Ln foo", "unexpected argument foo", 2),
    ] {
        assert_eq!(run(&mut memory, line), (String::new(), format!("{said}\n"), status), "{line}");
    }
}

#[test]
fn without_a_privilege_nothing_begins() {
    let mut memory = Memory { unprivileged: true, ..Memory::default() };
    let (out, errors, status) = run(&mut memory, "-h");
    assert_eq!((out.as_str(), status), ("", 2));
    assert_eq!(
        errors,
        "Can't initialize ipvs: Permission denied (you must be root)\n\
         Are you sure that IP Virtual Server is built in the kernel or as module?\n"
    );
}

#[test]
fn names_are_shown_and_cut_where_columns_end() {
    let mut memory = told(&[
        "-A -t vip.example:http -s sh -b flag-3",
        "-a -t vip.example:http -r 10.0.1.13 -w 7",
        "-A -t [2001:db8:99::1]:80",
    ]);
    let (text, ..) = run(&mut memory, "-L");
    let lines: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "TCP  vip.example:http sh ()",
            "  -> a-real-server-with-a-very-lo Route   7      0          0         ",
            "TCP  [vip6.example]:http wlc"
        ]
    );
    let (text, ..) = run(&mut memory, "-S");
    assert!(text.starts_with("-A -t vip.example:http -s sh -b \n-a -t vip.example:http -r a-real"), "{text}");
}

#[test]
fn numbers_are_shortened_unless_asked_not_to_be() {
    let mut memory = told(&["-A -t 10.99.0.2:80", "-a -t 10.99.0.2:80 -r 10.0.1.11"]);
    let (service, servers) = &mut memory.services[0];
    for stats in [&mut service.stats, &mut servers[0].stats] {
        stats.traffic.connections = 99_999_999;
        stats.traffic.in_packets = 100_000_000;
        stats.traffic.out_packets = 1_000_000_000;
        stats.traffic.in_bytes = 100_000_000_000;
        stats.traffic.out_bytes = 100_000_000_000_000;
        stats.rates.connections = 123_456_789;
        stats.rates.in_bytes = 123_456_789;
    }
    let lines = |memory: &mut Memory, line: &str| {
        let (text, ..) = run(memory, line);
        text.lines().skip(3).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        lines(&mut memory, "-Ln --stats"),
        [
            "TCP  10.99.0.2:80                 99999999  100000K    1000M     100G     100T",
            "  -> 10.0.1.11:80                 99999999  100000K    1000M     100G     100T"
        ]
    );
    assert_eq!(
        lines(&mut memory, "-Ln --stats -X")[0],
        "TCP  10.99.0.2:80                 99999999 100000000 1000000000 100000000000 100000000000000"
    );
    assert_eq!(
        lines(&mut memory, "-Ln --rate"),
        [
            "TCP  10.99.0.2:80                  123456K        0        0  123456K        0",
            "  -> 10.0.1.11:80                 123456789        0        0  123456K        0"
        ]
    );
}

#[test]
fn a_restored_table_saves_as_the_same_lines() {
    let saved = "\
-A -t 10.99.0.1:80 -s rr
-a -t 10.99.0.1:80 -r 10.0.1.11:80 -i -w 1 --tun-type ipip
-a -t 10.99.0.1:80 -r 10.0.1.16:80 -i -w 1 --tun-type gue --tun-port 1 --tun-remcsum
-a -t 10.99.0.1:80 -r 10.0.1.18:80 -i -w 1 --tun-type gre --tun-nocsum
-a -t 10.99.0.1:80 -r 10.0.1.21:8080 -m -w 0
-A -u 10.99.0.1:5060 -s rr --pe sip
-A -u 10.99.0.1:53 -s mh -p 30 -M 255.255.255.0 -o -b mh-fallback,mh-port
-A --sctp-service [2001:db8:99::1]:9000 -s fo -p 60 -M 64
-A -f 7 -s wlc -b flag-2,flag-3
-A -f 7 -6 -s rr
-a -f 7 -6 -r [2001:db8::1]:0 -g -w 3
";
    let mut memory = Memory::default();
    assert_eq!(run_with(&mut memory, "-R", saved.as_bytes()), (String::new(), String::new(), 0));
    let sorted = run(&mut memory, "-Sn").0;
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&sorted), lines(saved));
    assert_eq!(save_text(&memory.services), sorted);
    let mut again = Memory::default();
    for command in parse_save(&sorted, &Numeric).unwrap() {
        again.answer(&command).unwrap();
    }
    assert_eq!(save_text(&again.services), sorted);
}

#[test]
fn restoring_ends_at_words_that_are_none_and_goes_on_after_a_refusal() {
    let listed = |memory: &mut Memory| run(memory, "-Sn").0.lines().count();
    let mut memory = Memory::default();
    let input = b"ipvsadm -A -t 10.99.0.1:80\n\n \t\n-A -t 10.99.0.1:81 -w 5\n-A -t 10.99.0.1:82\n";
    let (_, errors, status) = run_with(&mut memory, "-R", input);
    assert_eq!((errors.as_str(), status), ("Illegal 'weight' option with the 'add-service' command\n", 2));
    assert_eq!(listed(&mut memory), 1);
    let input = b"-A -t 10.99.0.1:80\n-A -t 10.99.0.1:83";
    assert_eq!(run_with(&mut memory, "-R", input), (String::new(), "Service already exists\n".to_owned(), 0));
    assert_eq!(listed(&mut memory), 2);
    for (input, said, status) in [
        ("-R\n-C\n", "Try `lvsadm -h'", 255),
        ("# first\n-C\n", "Try `lvsadm -h'", 255),
        ("-L -t 10.99.0.9:80\n-C\n", "No such service", 1),
        ("-v\n-C\n", "", 0),
    ] {
        let (_, errors, ended) = run_with(&mut memory, "-R", input.as_bytes());
        assert!(errors.starts_with(said) && ended == status, "{input}: {errors}");
        assert_eq!(listed(&mut memory), 2, "{input}");
    }
    let (_, errors, status) = run_with(&mut memory, "-R", b"-D -t 10.99.0.9:80\n-A -t\n-A --bogus\n-C\n");
    assert_eq!((errors.lines().count(), status, listed(&mut memory)), (3, 0, 0), "{errors}");
}

#[test]
fn a_saved_table_with_a_wrong_line_is_refused_by_its_number() {
    let error = parse_save("# table\n-A -t 10.99.0.1:80\n\n-L\n", &Numeric).unwrap_err();
    assert_eq!(error.line(), 4);
    assert_eq!(error.to_string(), "line 4: this command changes nothing; a saved table has -A and -a");
}

#[test]
fn daemons_and_time_outs_have_lines_of_their_own() {
    let mut memory = told(&["--set 100 50 20", "--start-daemon master --mcast-interface eth1 --syncid 5"]);
    assert_eq!(run(&mut memory, "-L --timeout").0, "Timeout (tcp tcpfin udp): 100 50 20\n");
    assert_eq!(run(&mut memory, "-L --daemon").0, "master sync daemon (mcast=eth1, syncid=5)\n");
    memory.daemons[0].max_len = Some(1472);
    memory.daemons[0].group = Some("224.0.0.81".parse().unwrap());
    memory.daemons[0].port = Some(8848);
    memory.daemons[0].ttl = Some(1);
    assert_eq!(
        run(&mut memory, "-L --daemon").0,
        "master sync daemon (mcast=eth1, syncid=5, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)\n"
    );
}

#[test]
fn long_addresses_push_the_rest_of_the_line() {
    let name = ServiceName::tcp("[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap());
    let address = "[2001:db8:1:1111:2222:3333:4444:5555]:65535".parse().unwrap();
    let service = service(name, ServiceSpec::new(Family::V6, "wlc"));
    let entry = (service, vec![server(address, ServerSpec::new(method::MASQUERADING, 65_535))]);
    let text = table::table(&Listing::default(), &[entry], &Numeric);
    assert!(text.contains("  -> [2001:db8:1:1111:2222:3333:4444:5555]:65535 Masq    65535  0"), "{text}");
}
