//! Checks, and what a service makes of failures.

use super::*;

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
