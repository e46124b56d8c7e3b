mod session;

use proptest::prelude::*;

use super::*;

fn refused(line: &str) -> (String, u8) {
    let error = parse(line.split_whitespace(), &Numeric).expect_err(line);
    (error.to_string(), error.status())
}

fn read(line: &str) -> Command {
    parse(line.split_whitespace(), &Numeric).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn words_are_refused_as_by_ipvsadm() {
    let cases = [
        ("-A -t 10.99.0.1:80 -b mh-port", "incompatible scheduler flag `mh-port'", 2),
        ("-A -t 10.99.0.1:80 -s sh -b sh-bogus", "invalid scheduler flag `sh-bogus'", 2),
        ("-A -t 10.99.0.1:80 -s rr -p 0", "invalid timeout value `0' specified", 2),
        ("-A -t 10.99.0.1:80 -s rr -p 2678401", "invalid timeout value `2678401' specified", 2),
        (
            "-A -t 10.99.0.1:80 -s rr -p 60 -M 300.0.0.0",
            "illegal virtual server persistent mask specified",
            2,
        ),
        ("-A -t 10.99.0.1:80 -s rr -o", "One-Packet Scheduling is only for UDP virtual services", 2),
        ("-A -u 10.99.0.1:53 -O", "-O: unknown option", 255),
        ("-A -t 10.99.0.1:0 -s rr", "Zero port specified for non-persistent service", 2),
        ("-A -t 10.99.0.1:65536 -s rr", "illegal virtual server address[:port] specified", 2),
        (
            "-a -t 10.99.0.1:80 -r [2001:db8:1::11]:80 -m",
            "Different address family is allowed only for tunneling servers",
            2,
        ),
        ("-A -f 0 -s rr", "invalid fwmark value `0' specified", 2),
        ("-A -f -1 -s rr", "invalid fwmark value `-1' specified", 2),
        ("-A -6 -f 1 -s rr", "-6 used before -f\n", 2),
        ("-a -f 1 -6 -r [2001:db8:1::11] -g", "illegal real server address[:port] specified", 2),
        ("-a -f 1 -r 2001:db8:1::11 -g", "Different address family is allowed only for tunneling servers", 2),
        ("-Z -L", "invalid option `-L'", 2),
        ("-a -t 10.99.0.1:80 -r 10.0.1.11 -w 2147483648", "illegal weight specified", 2),
        ("-a -t 10.99.0.1:80 -r 10.0.1.11 -w -1", "illegal weight specified", 2),
        ("-t 10.99.0.1:80 -A", HINT, 255),
        ("foo", HINT, 255),
        ("-6", HINT, 255),
        ("-A -D -t 10.99.0.1:80", "invalid option `-D'", 2),
        ("-A -t 10.99.0.1:80 foo", "unexpected argument foo", 2),
        ("-Ln foo", "unexpected argument foo", 2),
        ("-Ln -- -c", "unexpected argument -c", 2),
        ("-A -t", "-t: missing argument", 255),
        ("-D", "You need to supply the 'service-address' option for the 'delete-service' command", 2),
        ("-a -t 10.99.0.1:80", "You need to supply the 'real-server' option for the 'add-server' command", 2),
        ("-A -t 10.99.0.1:80 -r 10.0.1.11", "Illegal 'real-server' option with the 'add-service' command", 2),
        ("-C -t 10.99.0.1:80", "Illegal 'service-address' option with the 'flush' command", 2),
        ("-R -n", "Illegal 'numeric' option with the 'restore' command", 2),
        ("-A -t 10.99.0.1:80 -u 10.99.0.1:80", "multiple 'service-address' options specified", 2),
        ("-a -t 10.99.0.1:80 -r 10.0.1.11 -m -g", "multiple 'forwarding-method' options specified", 2),
        (
            "-L -c --timeout",
            "The option 'timeout' conflicts with the 'connection' option in the 'list' command",
            2,
        ),
        (
            "-L --timeout -t 10.99.0.1:80",
            "The option 'timeout' conflicts with the 'service-address' option in the 'list' command",
            2,
        ),
        ("-L --timeout --rate", "options conflicts in the list command", 2),
        ("-a -t 10.99.0.1:80 -r 10.0.1.11 -i --tun-type vxlan", "illegal tunnel type specified", 2),
        (
            "-a -t 10.99.0.1:80 -r 10.0.1.11 -i --tun-type gue",
            "You need to supply the 'tun-port' option for the 'gue' tunnel type",
            2,
        ),
        (
            "-a -t 10.99.0.1:80 -r 10.0.1.11 -i --tun-type gre --tun-port 6080",
            "Illegal 'tun-port' option with the 'gre' tunnel type",
            2,
        ),
        (
            "-a -t 10.99.0.1:80 -r 10.0.1.11 -i --tun-csum",
            "Illegal 'tun-csum' option with the 'ipip' tunnel type",
            2,
        ),
        (
            "-a -t 10.99.0.1:80 -r 10.0.1.11 -i --tun-type gue --tun-port 6080 --tun-csum --tun-remcsum",
            "The option 'tun-remcsum' conflicts with the 'tun-csum' option in the 'gue' tunnel type",
            2,
        ),
        ("-a -t 10.99.0.1:80 -r 10.0.1.11 --tun-type gre", "Tunnel options conflict with forward method", 2),
        ("--add-serv -t 10.99.0.1:80", HINT, 255),
        ("--set 2678401 1 1", "invalid timeout value `2678401' specified", 2),
        ("--set 1 2", "--set option requires 3 timeout values", 2),
        ("--set 1 2 3 4", "unexpected argument 4", 2),
        ("--set 1 2 3 -n", "Illegal 'numeric' option with the 'set' command", 2),
        ("--start-daemon test", "illegal start-daemon parameter specified", 2),
        ("--stop-daemon test", "illegal start_daemon specified", 2),
        ("--start-daemon", HINT, 255),
        ("--start-daemon master --mcast-group 10.0.0.1", "invalid IPv4 mcast-group `10.0.0.1'", 2),
        ("--start-daemon master --mcast-group 2001:db8::1", "invalid IPv6 mcast-group `2001:db8::1'", 2),
        ("--start-daemon master --mcast-ttl 256", "illegal mcast-ttl specified", 2),
        ("--start-daemon master --sync-maxlen 65508", "illegal sync-maxlen specified", 2),
        (
            "--start-daemon master -t 10.99.0.1:80",
            "Illegal 'service-address' option with the 'start-daemon' command",
            2,
        ),
    ];
    for (line, text, status) in cases {
        assert_eq!(refused(line), (text.to_owned(), status), "{line}");
    }
}

#[test]
fn a_server_has_the_port_of_its_service_unless_nat_gives_it_another() {
    let port = |line: &str| {
        let Command::AddServer(_, server) = read(line) else { panic!("{line}") };
        server.address.port()
    };
    assert_eq!(port("-a -t 10.99.0.1:80 -r 10.0.1.11 -m"), 80);
    assert_eq!(port("-a -t 10.99.0.1:80 -r 10.0.1.11:8080 -m"), 8080);
    assert_eq!(port("-a -t 10.99.0.1:80 -r 10.0.1.11:8080"), 80);
    assert_eq!(port("-a -t 10.99.0.1:80 -r 10.0.1.11:8080 -i"), 80);
    assert_eq!(port("-a -r 10.0.1.11 -t 10.99.0.1:80 -m"), 0, "the service was not known yet");
    assert_eq!(port("-a -f 1 -r 10.0.1.11:8080"), 8080);
}

#[test]
fn the_forms_of_an_option_are_equal() {
    let long = read("--add-service --tcp-service=10.99.0.1:80 --scheduler rr --persistent=99");
    for other in ["-At 10.99.0.1:80 -srr -p99", "-A -p 99 -s rr -t 10.99.0.1:80"] {
        assert_eq!(read(other), long, "{other}");
    }
    assert_eq!(
        read("-a -t 10.99.0.1:80 -r10.0.1.11 -mw3"),
        read("-a -t 10.99.0.1:80 -m -w +03 -r 10.0.1.11:80")
    );
}

#[test]
fn persistence_needs_no_value() {
    let persistence = |line: &str| {
        let Command::AddService(_, options) = read(line) else { panic!("{line}") };
        options.persistence
    };
    let of = |timeout, mask| Some(Persistence { timeout, mask });
    let whole = Mask::V4(Ipv4Addr::BROADCAST);
    assert_eq!(persistence("-A -t 10.99.0.1:80 -p"), of(360, whole));
    assert_eq!(persistence("-A -t 10.99.0.1:80 -p -s rr"), of(360, whole));
    assert_eq!(
        persistence("-A -t 10.99.0.1:80 -p 5 -M 255.255.255.0"),
        of(5, Mask::V4([255, 255, 255, 0].into()))
    );
    assert_eq!(persistence("-A -t 10.99.0.1:80 -M 255.255.255.0"), None);
    assert_eq!(persistence("-A -f 1 -6 -p -M 64"), of(360, Mask::V6(64)));
    assert_eq!(
        persistence("-A -p 60 -M 64 -t [2001:db8:99::1]:80"),
        of(60, Mask::V6(128)),
        "it was read as IPv4"
    );
}

#[test]
fn no_words_list_everything() {
    assert_eq!(parse([], &Numeric), Ok(Command::List(Listing::default())));
    let numeric = Listing { subject: Subject::Connections, numeric: true, ..Listing::default() };
    assert_eq!(read("-Lnc"), Command::List(numeric));
}

const HINT: &str = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";

proptest! {
    #[test]
    fn any_words_are_a_command_or_an_error_that_can_be_shown(
        words in proptest::collection::vec("-{0,2}[A-Za-z0-9=:.,\\[\\]]{0,12}|-[AEaedLt]|--tun-type|-[trpwM]", 0..8),
    ) {
        if let Err(error) = parse(words.iter().map(String::as_str), &Numeric) {
            prop_assert!(!error.to_string().is_empty());
            prop_assert!([2, 255].contains(&error.status()));
        }
    }
}
