mod any_text;
mod health;
mod workers;

use lvs_core::{Method, Seed, Tunnel};

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
fn the_example_file_shows_every_switch_that_can_be_turned_with_its_default() {
    let text = include_str!("../../../../examples/director/director.toml");
    for switch in sysctl::all().filter(|switch| !switch.is_fixed()) {
        let (name, value) = (switch.full_name(), switch.default_value().replace('\t', " "));
        // Of two switches of both families one is shown, and the other's name beside it.
        let beside = name.starts_with("net.ipv6.") && text.contains(&name);
        let shown = [format!("\n{name} = {value} "), format!("\n{name} = \"{value}\" ")];
        assert!(beside || shown.iter().any(|line| text.contains(line)), "{shown:?}");
    }
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
         net.ipv4.vs.sync_threshold = \"4 60\"\nnet.ipv4.vs.pmtu_disc = 0\n\
         net.ipv4.ip_forward = 1\nnet.ipv4.icmp_ratelimit = 7\n"
    );
    let file = Configuration::parse(&text).unwrap();
    let tuning = file.core(Seed::from_bytes([0; 16])).tuning;
    assert_eq!((tuning.drop_entry, tuning.secure_tcp), (Defence::Automatic, Defence::Always));
    assert_eq!((tuning.sync_threshold, tuning.sync_period), (4, 60));
    assert!(file.options.ip_forward && file.options.icmp_rate == 7);
    assert!(tuning.nat_icmp_send && file.watches_memory() && !file.options_each().pmtu_disc);
}

#[test]
fn a_time_out_of_zero_is_refused_by_its_key() {
    for key in ["tcp", "tcp-fin", "udp"] {
        let text = refusal(&format!("{HEAD}[timeouts]\n{key} = 0\n"));
        assert!(text.ends_with(&format!("{key} 0 is out of range; expected 1 to 5000000")), "{text}");
    }
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

#[test]
fn a_router_that_is_in_no_subnet_is_taken_where_that_can_be_meant() {
    let interface = |text: &str| Configuration::parse(&format!("[[interface]]\nname = \"eth0\"\n{text}"));
    for text in [
        "addresses = [\"203.0.113.5/32\"]\ngateways = [\"172.31.1.1\"]\n",
        "addresses = [\"2001:db8::5/64\"]\ngateways = [\"fe80::1\"]\n",
        "addresses = [\"2001:db8::5/128\"]\ngateways = [\"2001:db8:ffff::1\"]\n",
        "addresses = [\"10.0.1.254/24\"]\n\
         routes = [{ to = \"10.5.0.0/16\", via = \"172.31.1.1\", on-link = true }]\n",
    ] {
        let read = interface(text).unwrap();
        assert!(read.describe().contains("on the link"), "{}", read.describe());
    }
    let on_link =
        interface("addresses = [\"10.0.1.254/24\"]\nroutes = [{ to = \"10.5.0.0/16\" }]\n").unwrap();
    assert!(on_link.interfaces[0].reaches("10.5.0.9".parse().unwrap()));
    for (text, expected) in [
        ("addresses = [\"10.0.1.254/24\"]\ngateways = [\"172.31.1.1\"]\n", "in the subnet of 172.31.1.1"),
        ("addresses = [\"10.0.1.254/32\"]\ngateways = [\"fe80::1\"]\n", "of the family of fe80::1"),
        (
            "addresses = [\"10.0.1.254/24\"]\nroutes = [{ to = \"10.5.0.0/16\", on-link = true }]\n",
            "on the link anyway",
        ),
    ] {
        let refused = interface(text).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn several_networks_of_one_trunk_are_ports_of_their_own() {
    let port = |rest: &str| format!("[[interface]]\nname = \"eth0\"\n{rest}\n");
    let text = [port(""), port("vlan = 100"), port("vlan = 4094")].concat();
    let vlans: Vec<_> =
        Configuration::parse(&text).unwrap().interfaces.iter().map(|port| port.vlan).collect();
    assert_eq!(vlans, [None, Some(100), Some(4_094)]);
    for (second, expected) in [
        ("vlan = 100", "`eth0 VLAN 100` is there twice"),
        ("vlan = 0", "vlan 0 is out of range"),
        ("vlan = 4095", "vlan 4095 is out of range"),
        ("device = \"xdp\"", "cannot share AF_XDP"),
    ] {
        let text = [port("vlan = 100"), port(second)].concat();
        let refused = Configuration::parse(&text).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn thousands_of_services_are_read() {
    let mut text = HEAD.to_owned();
    for number in 0..5_000_u16 {
        let [high, low] = number.to_be_bytes();
        text += &SERVICE.replace("192.0.2.100", &format!("10.96.{high}.{low}"));
        text += &format!("[[service.server]]\naddress = \"10.0.1.{}\"\nmethod = \"nat\"\n", low / 2 + 1);
    }
    let read = Configuration::parse(&text).unwrap();
    assert_eq!((read.services.len(), read.virtual_addresses.len()), (5_000, 5_000));
}

#[test]
fn more_than_there_can_be_is_refused_with_the_key() {
    for (tuning, expected) in [
        ("services = 1", "more than 1 services; set a higher `services` in [tuning]"),
        ("servers = 1", "more than 1 servers; set a higher `servers` in [tuning]"),
        ("addresses = 2", "more than 2 addresses; set a higher `addresses` in [tuning]"),
        ("neighbours = 0", "neighbours 0 is out of range"),
        ("scheduler-memory = 0", "scheduler-memory 0 is out of range"),
        ("scheduler-memory = 1", "than they may from here on; set a higher `scheduler-memory` in [tuning]"),
    ] {
        let server = "[[service.server]]\naddress = \"10.0.1.11\"\nmethod = \"nat\"\n";
        // One of these tables is more than a MiB.
        let other = SERVICE.replace("192.0.2.100", "192.0.2.101") + "scheduler = \"lblcr\"\n";
        let text = format!("{HEAD}{SERVICE}{server}{other}{server}[tuning]\n{tuning}\n");
        let refused = refusal(&text);
        assert!(refused.contains(expected), "{refused}");
    }
}
