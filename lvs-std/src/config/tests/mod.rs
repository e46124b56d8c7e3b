use lvs_core::{Method, Seed, Tunnel};
use proptest::prelude::*;

use super::*;

const HEAD: &str = "[[interface]]\nname = \"eth0\"\naddresses = [\"10.0.1.254/24\", \"2001:db8:1::fe/64\"]\n";
const SERVICE: &str = "[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.100\"\nport = 80\n";
const SERVER: &str = "[[service.server]]\naddress = \"10.0.1.11\"\n";

fn refusal(text: &str) -> String {
    Configuration::parse(text).expect_err(text).to_string()
}

fn with_server(lines: &str) -> String {
    format!("{HEAD}{SERVICE}{SERVER}{lines}")
}

#[test]
fn the_example_file_is_read_whole() {
    let configuration =
        Configuration::parse(include_str!("../../../../examples/director/director.toml")).unwrap();
    assert_eq!((configuration.interfaces.len(), configuration.marks.len()), (1, 2));
    let methods: Vec<Method> =
        configuration.services.iter().flat_map(|s| &s.servers).map(|server| server.method).collect();
    assert!(methods.contains(&Method::Nat));
    assert!(methods.contains(&Method::Direct));
    assert!(methods.contains(&Method::Tunnel(Tunnel::Gue { port: 6080, checksum: true })));
}

#[test]
fn a_misspelt_key_is_shown_with_its_place_and_the_right_one() {
    let text = with_server("method = \"nat\"\nwieght = 3\n");
    assert_eq!(refusal(&text), "11:1: unknown key `wieght`; did you mean `weight`?");
}

#[test]
fn a_word_that_is_no_method_is_shown_with_the_right_ones() {
    assert_eq!(
        refusal(&with_server("method = \"masq\"\n")),
        "10:10: unknown value `masq`; known are `nat`, `dr`, `tun`"
    );
}

#[test]
fn a_broken_line_says_where_it_breaks() {
    let text = refusal("[[interface]]\nname = eth0\n");
    assert!(text.starts_with("2:8: "), "{text}");
}

#[test]
fn errors_are_about_toml_and_not_about_rust() {
    assert_eq!(refusal("interface = 3\n"), "1:13: invalid type: integer `3`, expected a list");
    assert_eq!(refusal("tuning = 3\n"), "1:10: invalid type: integer `3`, expected a table");
    assert_eq!(refusal(&with_server("")), "8:1: missing key `method`");
}

#[test]
fn an_address_that_is_none_is_shown_with_an_example() {
    let text =
        refusal(&format!("{HEAD}{SERVICE}[[service.server]]\naddress = \"10.0.1.300\"\nmethod = \"nat\"\n"));
    assert!(text.starts_with("9:11: `10.0.1.300` is no IP address, expected one such as"), "{text}");
}

#[test]
fn a_service_can_be_there_once() {
    let text = refusal(&format!("{HEAD}{SERVICE}{SERVICE}"));
    assert!(text.starts_with("10:11: the service TCP 192.0.2.100:80 is there twice"), "{text}");
}

#[test]
fn a_server_can_be_there_once() {
    let text = refusal(&format!("{}{SERVER}method = \"dr\"\n", with_server("method = \"nat\"\n")));
    assert!(text.starts_with("12:11: the real server 10.0.1.11 cannot be added: the service has"), "{text}");
}

#[test]
fn gue_needs_a_port() {
    let text = refusal(&with_server("method = \"tun\"\ntunnel = \"gue\"\n"));
    assert_eq!(
        text,
        "11:10: a gue tunnel has no port; write `tunnel-port = 6080`, the UDP port on which the real server \
         decapsulates"
    );
}

#[test]
fn a_key_without_effect_is_refused() {
    let text = refusal(&with_server("method = \"nat\"\ntunnel-port = 6080\n"));
    assert_eq!(text, "11:15: `tunnel-port` belongs to method \"tun\"; leave it out");
    let text = refusal(&format!("{HEAD}{SERVICE}scheduler = \"rr\"\nflags = [\"port\"]\n"));
    assert_eq!(text, "9:10: the scheduler `rr` has no flags; flags belong to `sh` and `mh`");
    let text = refusal(&with_server("method = \"dr\"\nport = 81\n"));
    assert!(text.starts_with("11:8: only NAT changes the port"), "{text}");
}

#[test]
fn families_mix_only_in_tunnels() {
    let server = "[[service.server]]\naddress = \"2001:db8:1::11\"\n";
    let text = refusal(&format!("{HEAD}{SERVICE}{server}method = \"nat\"\n"));
    assert!(text.starts_with("9:11: the real server 2001:db8:1::11 cannot be added: only tunnels"), "{text}");
    assert!(Configuration::parse(&format!("{HEAD}{SERVICE}{server}method = \"tun\"\n")).is_ok());
}

#[test]
fn a_weight_out_of_range_is_shown_with_the_range() {
    for weight in ["-1", "2147483648", "9223372036854775807"] {
        let text = refusal(&with_server(&format!("method = \"nat\"\nweight = {weight}\n")));
        assert_eq!(text, format!("11:10: weight {weight} is out of range; expected 0 to 2147483647"));
    }
}

#[test]
fn thresholds_must_be_in_order() {
    let text = refusal(&with_server("method = \"nat\"\nupper-threshold = 5\nlower-threshold = 6\n"));
    assert!(text.starts_with("12:19: the real server 10.0.1.11 cannot be added: the lower"), "{text}");
}

#[test]
fn a_server_without_a_way_to_it_is_refused() {
    let text =
        refusal(&format!("{HEAD}{SERVICE}[[service.server]]\naddress = \"10.0.2.11\"\nmethod = \"nat\"\n"));
    assert!(text.starts_with("9:11: no interface has a way to the real server 10.0.2.11"), "{text}");
}

#[test]
fn a_router_must_be_a_neighbour() {
    let text = refusal(&format!("{HEAD}gateways = [\"10.0.2.1\"]\n"));
    assert!(text.starts_with("4:13: no address of this interface is in the subnet of 10.0.2.1"), "{text}");
}

#[test]
fn an_address_belongs_to_one_interface_once() {
    let text = refusal(&format!("{HEAD}[[interface]]\nname = \"eth1\"\naddresses = [\"10.0.1.254/25\"]\n"));
    assert_eq!(text, "6:14: 10.0.1.254 cannot be an own address: the host has this address already");
    let text = refusal("[[interface]]\nname = \"eth0\"\naddresses = [\"127.0.0.1/8\"]\n");
    assert!(text.starts_with("3:14: 127.0.0.1 cannot be an own address"), "{text}");
}

#[test]
fn virtual_addresses_are_the_services_and_further_ones() {
    let text = format!(
        "virtual-addresses = [\"192.0.2.101\", \"10.0.1.254\"]\n{}",
        with_server("method = \"nat\"\n")
    );
    let configuration = Configuration::parse(&text).unwrap();
    assert_eq!(
        configuration.virtual_addresses,
        ["192.0.2.100", "192.0.2.101"].map(|a| a.parse::<IpAddr>().unwrap())
    );
    let text = refusal(&format!("virtual-addresses = [\"224.0.0.1\"]\n{HEAD}"));
    assert!(text.starts_with("1:22: 224.0.0.1 cannot be a virtual address"), "{text}");
}

#[test]
fn a_service_by_mark_needs_a_rule_that_marks() {
    let service = "[[service]]\nmark = 7\nfamily = \"v4\"\n";
    let text = refusal(&format!("{HEAD}{service}"));
    assert!(text.starts_with("5:8: no [[mark]] gives IPv4 packets the mark 7; add one"), "{text}");
    let mark = "[[mark]]\nmark = 7\nto = \"192.0.2.100/32\"\nprotocol = \"tcp\"\nports = [80, 443]\n";
    let configuration = Configuration::parse(&format!("{HEAD}{mark}{service}")).unwrap();
    let ports: Vec<_> = configuration.marks.iter().map(|rule| rule.ports.clone()).collect();
    assert_eq!(ports, [80..=80, 443..=443]);
}

#[test]
fn persistence_says_how_long_for_whom_and_by_what() {
    let read = |text: &str| {
        Configuration::parse(&format!("{HEAD}{SERVICE}{text}\n")).map(|file| file.services[0].config.clone())
    };
    let config = read("persistence = { timeout = 300, mask = 24, engine = \"sip\" }").unwrap();
    let expected = lvs_core::service::Persistence::new(300)
        .with_mask(24)
        .with_engine(lvs_core::service::PersistenceEngine::Sip);
    assert_eq!(config.persistence, Some(expected));
    assert!(
        refusal(&format!("{HEAD}{SERVICE}persistence = {{ timeout = 300, mask = 33 }}\n"))
            .contains("mask 33")
    );
    let text = refusal(&format!("{HEAD}{SERVICE}persistence = {{ timeout = 1, engine = \"sap\" }}\n"));
    assert!(text.contains("unknown engine `sap`; there is one: `sip`"), "{text}");
    let text = refusal(&format!("{HEAD}{SERVICE}one-packet = true\n"));
    assert!(text.contains("only UDP"), "{text}");
    let all = SERVICE.replace("port = 80", "port = 0");
    let text = refusal(&format!("{HEAD}{all}"));
    assert!(text.contains("needs persistence"), "{text}");
}

#[test]
fn switches_reach_the_director() {
    let text = format!(
        "{HEAD}[sysctl]\nnet.ipv4.vs.drop_entry = 1\n\"net.ipv4.vs.secure_tcp\" = \"3\"\n\
         net.ipv4.vs.nat_icmp_send = true\n\
         net.ipv4.vs.sync_threshold = \"4 60\"\nnet.ipv4.vs.pmtu_disc = 0\n"
    );
    let file = Configuration::parse(&text).unwrap();
    let tuning = file.core(Seed::from_bytes([0; 16])).tuning;
    assert_eq!((tuning.drop_entry, tuning.secure_tcp), (Defence::Automatic, Defence::Always));
    assert_eq!((tuning.sync_threshold, tuning.sync_period), (4, 60));
    assert!(tuning.nat_icmp_send && file.watches_memory() && !file.options_each().pmtu_disc);
}

#[test]
fn a_switch_that_does_not_exist_or_has_no_such_value_is_shown_with_its_place() {
    let text = |line: &str| refusal(&format!("{HEAD}[sysctl]\n{line}\n"));
    assert_eq!(
        text("net.ipv4.vs.slopy_tcp = 1"),
        "5:13: unknown switch `net.ipv4.vs.slopy_tcp`; did you mean `net.ipv4.vs.sloppy_tcp`?"
    );
    assert_eq!(text("net.ipv4.vs.sloppy_tcp = 2"), "5:26: net.ipv4.vs.sloppy_tcp cannot be `2`");
    assert!(
        text("net.ipv4.tcp_syncookies = 1").starts_with("5:10: unknown switch `net.ipv4.tcp_syncookies`")
    );
    assert!(text("net.ipv4.vs.sloppy_tcp = []").starts_with("5:26: invalid type: "));
    assert_eq!(refusal("sysctl = 3\n"), "1:10: expected a table of switches and their values");
    // The keys of older files.
    let old = refusal(&format!("{HEAD}[tuning]\nsloppy-tcp = true\n"));
    assert_eq!(
        old,
        "5:1: unknown key `sloppy-tcp`; it is a switch: write `net.ipv4.vs.sloppy_tcp` below [sysctl]"
    );
}

const CHECKED: &str = "method = \"nat\"\nweight = 3\n";

fn with_health(lines: &str) -> String {
    format!("{HEAD}{SERVICE}{lines}\n{SERVER}{CHECKED}")
}

#[test]
fn checks_say_what_is_asked_and_how_often() {
    use crate::health::{Check, Probe, Schedule, Tcp};
    let read = |lines: &str| {
        let file = Configuration::parse(&with_health(lines)).expect(lines);
        file.services[0].health.probes[0].clone()
    };
    let at = |port| core::net::SocketAddr::new("10.0.1.11".parse().unwrap(), port);
    assert_eq!(read(""), []);
    let every = |seconds| Schedule::every(core::time::Duration::from_secs(seconds));
    assert_eq!(read("check = { type = \"tcp\" }"), [Probe::new(at(80), Tcp::new().into(), every(5))]);
    let probes = read(
        "check = [{ type = \"tcp\", interval = 2 }, { type = \"http\", path = \"/health\", host = \"www.example.org\", \
         status = \"200, 204\", text = \"well\", interval = \"1500ms\", timeout = 0.5, rise = 1, \
         fall = 2, retry = \"100ms\" }]",
    );
    assert_eq!(probes[0], Probe::new(at(80), Tcp::new().into(), every(2)));
    let Check::Http(http) = &probes[1].check else { panic!("{probes:?}") };
    assert_eq!(
        (http.path(), http.host(), http.text.as_deref()),
        ("/health", Some("www.example.org"), Some("well"))
    );
    assert_eq!(http.statuses.to_string(), "200, 204");
    let schedule = probes[1].schedule;
    assert_eq!((schedule.interval.as_millis(), schedule.timeout.as_millis()), (1_500, 500));
    assert_eq!(
        (schedule.rise, schedule.fall, schedule.retry.map(|retry| retry.as_millis())),
        (1, 2, Some(100))
    );
}

#[test]
fn every_type_of_check_can_be_written() {
    use crate::health::Check;
    let read = |check: &str| {
        let file = Configuration::parse(&with_health(&format!("check = {{ {check} }}"))).expect(check);
        file.services[0].health.probes[0][0].clone()
    };
    let all = [
        "type = \"tcp\"",
        "type = \"http\", method = \"HEAD\", digest = \"900150983cd24fb0d6963f7d28e17f72\", body-limit = 9",
        "type = \"https\", path = \"/\", trust = \"any\", sni = \"www.example.org\"",
        "type = \"udp\", payload = \"0102\", reply = \"01XX\", shortest = 2, longest = 9",
        "type = \"dns\", name = \"example.org\", record = \"AAAA\"",
        "type = \"ping\"",
        "type = \"program\", command = [\"/bin/true\", \"-x\"], dynamic = true",
    ];
    let names: Vec<&str> = all.iter().map(|check| read(check).check.name()).collect();
    // A through check is not for NAT.
    let others: Vec<&str> = Check::NAMES.iter().copied().filter(|name| *name != "through").collect();
    assert_eq!(names, others);
    let refused = refusal(&with_health("check = { type = \"through\" }"));
    assert!(refused.starts_with("8:18: a through check is for servers by \"dr\" and \"tun\""), "{refused}");
    let direct = with_health("check = { type = \"through\" }").replace("\"nat\"", "\"dr\"");
    let file = Configuration::parse(&direct).unwrap();
    let probe = &file.services[0].health.probes[0][0];
    let Check::Through(through) = &probe.check else { panic!("{probe}") };
    assert_eq!(
        (probe.to_string().as_str(), through.service().to_string().as_str()),
        ("through at 10.0.1.11", "192.0.2.100:80")
    );
    let Check::Udp(udp) = read(all[3]).check else { panic!("udp") };
    assert_eq!((udp.payload.as_slice(), udp.reply.unwrap().longest), (&[1, 2][..], 9));
    let Check::Program(program) = read(all[6]).check else { panic!("program") };
    assert_eq!((program.path.as_str(), program.arguments.len(), program.dynamic), ("/bin/true", 1, true));
    assert_eq!(read(all[5]).to_string(), "ping at 10.0.1.11");
    let text = |check: &str| refusal(&with_health(&format!("check = {{ {check} }}")));
    assert!(text("type = \"https\", trust = \"/nowhere\"").contains("/nowhere: "));
    assert!(text("type = \"https\", sni = \"a b\"").contains("no name of a server"));
    assert!(text("type = \"udp\", longest = 9").contains("no reply is asked for"));
    assert!(text("type = \"udp\", payload = \"0X\"").contains("a payload has no digits that do not matter"));
    assert!(text("type = \"udp\", reply = \"0\"").contains("no bytes: expected pairs"));
    assert!(text("type = \"dns\", record = \"AAA\"").contains("unknown record `AAA`; did you mean `AAAA`?"));
    assert!(text("type = \"dns\", name = \"a..b\"").contains("no domain name"));
    assert!(text("type = \"program\"").contains("this check has no command"));
    assert!(text("type = \"program\", command = []").contains("this command names no program"));
    assert!(
        text("type = \"ping\", path = \"/\"")
            .contains("`path` belongs to checks of type \"http\" and \"https\"")
    );
}

#[test]
fn a_server_may_be_checked_elsewhere_or_in_another_way() {
    let file = |own: &str| format!("{}{own}\n", with_health("check = { type = \"tcp\" }"));
    let target = |own: &str| {
        let file = Configuration::parse(&file(own)).expect(own);
        let probes = &file.services[0].health.probes[0];
        probes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(target(""), ["tcp at 10.0.1.11:80"]);
    assert_eq!(target("check-port = 8081"), ["tcp at 10.0.1.11:8081"]);
    assert_eq!(target("check-address = \"10.0.1.99\""), ["tcp at 10.0.1.99:80"]);
    assert_eq!(target("check = { type = \"http\" }\ncheck-port = 81"), ["http at 10.0.1.11:81"]);
    assert!(target("check = []").is_empty());
}

#[test]
fn wrong_checks_are_shown_with_their_place() {
    let text = |check: &str| refusal(&with_health(check));
    assert_eq!(text("check = { type = \"htp\" }"), "8:18: unknown type of check `htp`; did you mean `http`?");
    assert_eq!(
        text("check = { type = \"tcp\", intervall = 2 }"),
        "8:25: unknown key `intervall`; did you mean `interval`?"
    );
    assert_eq!(
        text("check = { type = \"tcp\", path = \"/\" }"),
        "8:32: `path` belongs to checks of type \"http\" and \"https\"; leave it out"
    );
    assert_eq!(text("check = { interval = 2 }"), "8:9: missing key `type`");
    assert!(
        text("check = 3").starts_with("8:9: invalid type: integer `3`, expected a table or a list of tables")
    );
    assert_eq!(
        text("check = { type = \"tcp\", timeout = \"2h\" }"),
        "8:35: `2h` is no time, expected one such as \"500ms\" or \"2s\""
    );
    assert_eq!(
        text("check = { type = \"tcp\", interval = 0 }"),
        "8:36: interval 0ns is out of range; expected 10ms to 86400s"
    );
    assert!(
        text("check = { type = \"http\", path = \"x\" }").starts_with("8:33: no path: expected one such as")
    );
    assert!(text("check = { type = \"http\", status = 20 }").starts_with("8:35: no statuses: expected"));
    assert!(text("check = { type = \"http\", digest = \"20\" }").starts_with("8:35: no digest: expected"));
}

#[test]
fn a_service_says_what_it_makes_of_failures() {
    use crate::health::{Initially, OnFailure};
    let file = Configuration::parse(&with_health(
        "check = { type = \"tcp\" }\nquorum = 2\nhysteresis = 1\non-failure = \"quiesce\"\ninitially = \"down\"\n\
         sorry-server = { address = \"10.0.1.99\", method = \"nat\", port = 8080 }",
    ))
    .unwrap();
    let health = &file.services[0].health;
    assert_eq!((health.policy.quorum, health.policy.hysteresis, health.policy.sorry), (2, 1, true));
    assert_eq!((health.policy.on_failure, health.policy.initially), (OnFailure::Quiesce, Initially::Down));
    assert_eq!(health.sorry.unwrap().address.to_string(), "10.0.1.99:8080");
}

#[test]
fn what_a_service_cannot_make_of_failures_is_refused() {
    let text = |lines: &str| refusal(&with_health(&format!("check = {{ type = \"tcp\" }}\n{lines}")));
    assert_eq!(text("quorum = 4"), "9:10: quorum of 4 are never reached; all servers together weigh 3");
    assert_eq!(
        text("quorum = 2\nhysteresis = 2"),
        "10:14: a hysteresis of 2 never lets go of a quorum of 2; it must be less than the quorum"
    );
    let sorry = |more: &str| text(&format!("sorry-server = {{ address = \"{more}, method = \"nat\" }}"));
    assert!(
        sorry("10.0.1.11\"").starts_with("9:28: the real server 10.0.1.11 cannot be added"),
        "{}",
        sorry("10.0.1.11\"")
    );
    assert!(sorry("10.9.1.11\"").starts_with("9:28: no interface has a way"), "{}", sorry("10.9.1.11\""));
    assert!(sorry("10.0.1.99\", weight = 2").contains("a sorry server has no weight"));
    assert_eq!(text("on-failure = \"leave\""), "9:14: unknown value `leave`; known are `remove`, `quiesce`");
    let unchecked = refusal(&with_health("quorum = 2"));
    assert_eq!(
        unchecked,
        "8:10: `quorum` has no effect: nothing is checked; add a check, such as `check = { type = \"tcp\" }`"
    );
    let all_ports = with_health("check = { type = \"tcp\" }\npersistence = { timeout = 9 }")
        .replace("port = 80", "port = 0");
    assert!(refusal(&all_ports).contains("a tcp check of this server has no port; write `check-port = 80`"));
}

/// Lines and pieces that a file may be made of, right and wrong.
fn workers(lines: &str, rest: &str) -> Result<Workers, String> {
    let text = format!("[director]\n{lines}\n{}{rest}", with_server("method = \"nat\"\n"));
    Configuration::parse(&text).map(|of| of.workers).map_err(|error| error.to_string())
}

#[test]
fn clients_are_told_apart_as_the_services_need_it_unless_the_file_says_how() {
    use crate::steering::By;
    let by = |lines: &str, rest: &str| workers(&format!("workers = 2\n{lines}"), rest).map(|work| work.by);
    let persistent = "[service.persistence]\ntimeout = 60\nmask = 24\n";
    let network = By::Address { v4: [255, 255, 255, 0].into(), v6: 128 };
    assert_eq!(by("", ""), Ok(By::Endpoint));
    assert_eq!(by("steer = \"address\"", ""), Ok(By::ADDRESS));
    assert_eq!(by("", persistent), Ok(network));
    assert_eq!(by("steer-v4 = 16", persistent), Ok(By::Address { v4: [255, 255, 0, 0].into(), v6: 128 }));
    let none = format!("{HEAD}[director]\nworkers = 2\n");
    assert_eq!(Configuration::parse(&none).unwrap().workers.by, By::ADDRESS, "nobody knows what will come");
    let refused = by("steer = \"endpoint\"", persistent).unwrap_err();
    assert!(refused.starts_with("15:11: persistence over several workers needs"), "{refused}");
    assert!(by("steer-v4 = 28", persistent).unwrap_err().contains("more bits"));
    assert!(by("steer = \"endpoint\"\nsteer-v4 = 24", "").unwrap_err().starts_with("4:12: "));
    let call = "[service.persistence]\ntimeout = 60\nengine = \"sip\"\n";
    let udp = |lines: &str| {
        let service = SERVICE.replace("tcp", "udp");
        let text = format!("[director]\n{lines}\n{HEAD}{service}{SERVER}method = \"nat\"\n{call}");
        Configuration::parse(&text).map_err(|error| error.to_string())
    };
    assert!(udp("workers = 1").is_ok());
    assert!(udp("workers = 2").unwrap_err().contains("persistence by call needs a director with one worker"));
}

#[test]
fn workers_have_processors_of_their_own_and_devices_that_can_be_shared() {
    let work = workers("workers = 2\ncpus = [3, 1]\nbusy-poll = true\noffload = false", "").unwrap();
    assert_eq!((work.count, work.cpus, work.busy_poll, work.offload), (2, vec![3, 1], true, false));
    let one = workers("", "").unwrap();
    assert_eq!((one.count, one.cpus.len(), one.busy_poll, one.offload), (1, 0, false, true));
    for (lines, rest, words) in [
        ("workers = 0", "", "2:11: workers 0 is out of range; expected 1 to 64"),
        ("workers = 2\ncpus = [1]", "", "3:8: 1 processors for 2 workers"),
        ("workers = 2\ncpus = [1, 1]", "", "3:12: cpu 1 is there twice"),
        ("cpus = [1024]", "", "2:9: cpu 1024 is out of range"),
        ("workers = 2", "[tuning]\ncapture-marked = true\n", "what is captured by its mark"),
        ("workers = 2\nsteer = \"source\"", "", "unknown value `source`"),
    ] {
        let refused = workers(lines, rest).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
    let xdp = HEAD.replace("name =", "device = \"xdp\"\nname =");
    let refused = refusal(&format!("[director]\nworkers = 2\n{xdp}"));
    assert!(refused.starts_with("4:10: AF_XDP sockets cannot be shared by several workers"), "{refused}");
    let auto = HEAD.replace("name =", "device = \"auto\"\nname =");
    assert!(Configuration::parse(&format!("[director]\nworkers = 2\n{auto}")).is_ok());
}

#[test]
fn several_workers_have_room_for_all_connections_and_an_eighth() {
    let each = |workers: usize, connections: u32| {
        let text = format!("[director]\nworkers = {workers}\n{HEAD}[tuning]\nconnections = {connections}\n");
        Configuration::parse(&text).unwrap().connections_each()
    };
    assert_eq!((each(1, 1_000), each(2, 1_000), each(3, 1)), (1_000, 563, 1));
}

fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "name",
        "device",
        "mac",
        "addresses",
        "gateways",
        "routes",
        "protocol",
        "address",
        "port",
        "mark",
        "family",
        "scheduler",
        "flags",
        "persistence",
        "one-packet",
        "net.ipv4.vs.drop_entry",
        "net.ipv4.vs",
        "method",
        "tunnel",
        "tunnel-port",
        "checksum",
        "weight",
        "upper-threshold",
        "check",
        "check-port",
        "quorum",
        "hysteresis",
        "sorry-server",
        "on-failure",
        "connections",
        "tcp",
        "workers",
        "cpus",
        "busy-poll",
        "offload",
        "steer",
        "steer-v4",
        "steer-v6",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "\"eth0\"",
            "\"auto\"",
            "\"tcp\"",
            "\"wrr\"",
            "\"nat\"",
            "\"tun\"",
            "\"gue\"",
            "80",
            "-1",
            "true",
            "[]",
            "[\"port\"]",
            "\"10.0.1.254/24\"",
            "[\"10.0.1.254/24\"]",
            "\"10.0.1.11\"",
            "\"::1\"",
            "\"02:00:00:00:00:01\"",
            "\"é\u{0}\"",
            "[{ to = \"::/0\", via = \"::1\" }]",
            "{ timeout = 300, mask = 33, engine = \"sip\" }",
            "{ timeout = 1 }",
            "\"3 50\"",
            "{ type = \"tcp\", interval = 1e300 }",
            "[{ type = \"http\", path = \"/\" }, { type = \"tcp\" }]",
            "{ address = \"10.0.1.99\", method = \"nat\" }",
            "99999999999999999999",
            "1e400",
            "\"",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| format!("{text:?}")),
    ];
    prop_oneof![
        1 => prop::sample::select(vec![
            "[[interface]]", "[[service]]", "[[service.server]]", "[[mark]]", "[timeouts]", "[tuning]", "[sysctl]",
            "[director]", "[service]", "\u{feff}", "\r",
        ])
        .prop_map(str::to_owned),
        3 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_an_error_that_can_be_shown(text in any::<String>()) {
        if let Err(error) = Configuration::parse(&text) {
            prop_assert!(!error.show("f").to_string().is_empty());
        }
    }

    #[test]
    fn any_lines_are_a_configuration_or_an_error_that_can_be_shown(lines in prop::collection::vec(line(), 0..24)) {
        for text in [lines.join("\n"), format!("{HEAD}{SERVICE}{SERVER}{}", lines.join("\n"))] {
            if let Err(error) = Configuration::parse(&text) {
                prop_assert!(!error.show("f").to_string().is_empty());
            }
        }
    }
}
