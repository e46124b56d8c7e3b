//! Any text is a configuration, or an error that can be shown.

use proptest::prelude::*;

use super::*;

/// Lines and pieces that a file may be made of, right and wrong.
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
        "services",
        "servers",
        "addresses",
        "neighbours",
        "scheduler-memory",
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
