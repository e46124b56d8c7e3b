//! Replies and active commands, with what Linux 6.1.192 made of each in a control connection of its own; passive
//! commands as IPVS looks for them.

extern crate std;

use super::*;
use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;

const SERVER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 1, 11));

/// The address found, and the payload with that place replaced.
fn rewritten(payload: &[u8], found: Search, with: &Text) -> Option<(SocketAddr, Vec<u8>)> {
    let Search::Found(place) = found else { return None };
    let (before, after) = (&payload[..place.start], &payload[place.end..]);
    Some((place.address, [before, with.as_bytes(), after].concat()))
}

#[test]
fn replies_227_are_read_and_rewritten_as_by_ipvs() {
    let cases: &[(&str, Option<(&str, &str)>)] = &[
        (
            "227 Entering Passive Mode (10,0,1,11,195,80).\r\n",
            Some(("10.0.1.11:50000", "227 Entering Passive Mode (10,99,0,1,195,80).\r\n")),
        ),
        ("227 ok (10,0,1,11,195,0,5)\r\n", Some(("10.0.1.11:49920", "227 ok (10,99,0,1,195,0,5)\r\n"))),
        ("227 10,0,1,11,195,1\r\n", Some(("10.0.1.11:49921", "227 10,99,0,1,195,1\r\n"))),
        (
            "227 x 10,0,1,11,195,2 (10,0,1,11,196,2)\r\n",
            Some(("10.0.1.11:49922", "227 x 10,99,0,1,195,2 (10,0,1,11,196,2)\r\n")),
        ),
        ("227 ((((10,0,1,11,195,3)\r\n", Some(("10.0.1.11:49923", "227 ((((10,99,0,1,195,3)\r\n"))),
        ("227 (10, 0,1,11,195,4)\r\n", None),
        ("227 (10,0,1,11,195,5", None),
        ("227 (10,0,1,11,195,6)", Some(("10.0.1.11:49926", "227 (10,99,0,1,195,6)"))),
        ("227 (010,0,01,11,195,007)\r\n", Some(("10.0.1.11:49927", "227 (10,99,0,1,195,7)\r\n"))),
        ("227 (10,0,1,11,,8)\r\n", Some(("10.0.1.11:8", "227 (10,99,0,1,0,8)\r\n"))),
        ("227 (10,0,1,11,300,9)\r\n", None),
        ("227 (10,0,1,11,195,10x)\r\n", Some(("10.0.1.11:49930", "227 (10,99,0,1,195,10x)\r\n"))),
        ("227-hello (10,0,1,11,195,11)\r\n", None),
        ("227 (10,0,1,11,195,)\r\n", Some(("10.0.1.11:49920", "227 (10,99,0,1,195,0)\r\n"))),
        ("227 (,,,,195,13)\r\n", Some(("0.0.0.0:49933", "227 (10,99,0,1,195,13)\r\n"))),
        ("227 (10,0,1,11,195,256)\r\n", None),
        ("227 ()10,0,1,11,195,15)\r\n", None),
        ("227 ok\r\n227 (10,0,1,11,195,16)\r\n", None),
        ("227 (10,0,1,11,195,4294967313)\r\n", None),
    ];
    for (payload, expected) in cases {
        let found = passive_reply(payload.as_bytes());
        let port = if let Search::Found(place) = found { place.address.port() } else { 0 };
        let text = passive_text(SocketAddrV4::new([10, 99, 0, 1].into(), port));
        let expected = expected.map(|(address, after)| (address.parse().unwrap(), after.as_bytes().to_vec()));
        assert_eq!(rewritten(payload.as_bytes(), found, &text), expected, "{payload:?}");
    }
}

#[test]
fn replies_229_are_read_and_rewritten_as_by_ipvs() {
    let cases: &[(&str, Option<(&str, &str)>)] = &[
        ("229 ok (|||50016|)\r\n", Some(("10.0.1.11:50016", "229 ok (|||50016|)\r\n"))),
        ("229 (!!!50017!)\r\n", Some(("10.0.1.11:50017", "229 (|||50017|)\r\n"))),
        ("229 (|1|10.0.1.11|50018|)\r\n", Some(("10.0.1.11:50018", "229 (|||50018|)\r\n"))),
        ("229 (||10.0.1.11|50019|)\r\n", None),
        ("229 (|||0|)\r\n", None),
        ("229 (|||65536|)\r\n", None),
        ("229 (|||50022)\r\n", None),
        ("229 (|||050023|)\r\n", Some(("10.0.1.11:50023", "229 (|||50023|)\r\n"))),
        ("229 |||50024|\r\n", None),
        ("229 (|||5 0025|)\r\n", None),
        ("229 (2225002620)\r\n", None),
        ("229 (|2|::1|50027|)\r\n", None),
        ("229 (|||50028|", Some(("10.0.1.11:50028", "229 (|||50028|"))),
        ("229 (||||)\r\n", None),
        ("229 (|||4294967396|)\r\n", None),
        ("229 (((|||50029|)\r\n", Some(("10.0.1.11:50029", "229 (((|||50029|)\r\n"))),
        ("229 ( |||50030|)\r\n", None),
        ("229 5 (|||50031|)\r\n", Some(("10.0.1.11:50031", "229 5 (|||50031|)\r\n"))),
    ];
    for (payload, expected) in cases {
        let found = extended_passive_reply(payload.as_bytes(), SERVER);
        let port = if let Search::Found(place) = found { place.address.port() } else { 0 };
        let expected = expected.map(|(address, after)| (address.parse().unwrap(), after.as_bytes().to_vec()));
        let after = rewritten(payload.as_bytes(), found, &extended_passive_text(port));
        assert_eq!(after, expected, "{payload:?}");
    }
}

#[test]
fn active_commands_are_read_as_by_ipvs() {
    let cases: &[(&str, Option<&str>)] = &[
        ("PORT 192,0,2,7,156,80\r\n", Some("192.0.2.7:40016")),
        ("EPRT |1|192.0.2.7|5030|\r\n", Some("192.0.2.7:5030")),
        ("EPRT |1|192.0.2.007|5031|\r\n", Some("192.0.2.7:5031")),
        ("EPRT |1|192.0.2|5032|\r\n", None),
        ("EPRT |||5036|\r\n", None),
        ("EPRT   |1|192.0.2.7|5037|\r\n", Some("192.0.2.7:5037")),
        ("eprt |1|192.0.2.7|5038|\r\n", Some("192.0.2.7:5038")),
        ("EPRT|1|192.0.2.7|5039|\r\n", None),
        ("EPRT x |1|192.0.2.7|5040|\r\n", None),
        ("EPRT |1|192.0.2.7|5044", None),
        ("EPRT |1|192.0.2.7|5045x|\r\n", None),
        ("EPRT |1||5048|\r\n", None),
        ("EPRT |2|::1|5049|\r\n", None),
        ("PORT 192,0,2,7,20,50", None),
        ("PORT 192,0,2,7,20,51\r", Some("192.0.2.7:5171")),
        ("PORT192,0,2,7,20,52\r\n", Some("192.0.2.7:5172")),
        ("port\t192,0,2,7,20,53\r\n", Some("192.0.2.7:5173")),
        ("PORTx 192,0,2,7,20,54\r\n", Some("192.0.2.7:5174")),
        ("EPRT 1 1 192.0.2.7 5057 \r\n", None),
        ("EPRT 1111192.0.2.71505815\r\n", None),
        (" PORT 192,0,2,7,20,59\r\n", None),
        ("PORT   192,0,2,7,20,60\r\n", Some("192.0.2.7:5180")),
        ("EPRT |1|192.0.2.7|5062|", Some("192.0.2.7:5062")),
        ("EPRT |1|1.2.3.4|005066|\r\n", Some("1.2.3.4:5066")),
        ("EPRT .1.1.2.3.4.5069.\r\n", None),
        ("EPRT :1:1.2.3.4:5070:\r\n", Some("1.2.3.4:5070")),
        ("EPRT 11", None),
        ("EPRT |1|1.2.3.4\r|5071|\r\n", None),
    ];
    for (payload, expected) in cases {
        let expected = expected.map(|address| Command::Active(address.parse().unwrap()));
        assert_eq!(client_command(payload.as_bytes(), Family::V4), expected, "{payload:?}");
    }
    let cases: &[(&str, Option<&str>)] = &[
        ("EPRT |2|2001:db8:c::7|5060|\r\n", Some("[2001:db8:c::7]:5060")),
        ("EPRT |1|192.0.2.7|5075|\r\n", None),
        ("PORT 192,0,2,7,20,76\r\n", None),
        ("EPRT |2||5077|\r\n", None),
        ("EPRT :2:2001:db8:c::7:5079:\r\n", None),
    ];
    for (payload, expected) in cases {
        let expected = expected.map(|address| Command::Active(address.parse().unwrap()));
        assert_eq!(client_command(payload.as_bytes(), Family::V6), expected, "{payload:?}");
    }
}

#[test]
fn passive_commands_are_found_anywhere() {
    let four = |text: &str| client_command(text.as_bytes(), Family::V4);
    let six = |text: &str| client_command(text.as_bytes(), Family::V6);
    for text in
        ["PASV\r\n", "pasv\r\n", "NOOP\r\nPASV\r\nNOOP\r\n", "xxPasv\r\n", "PORT 192,0,2,7,20,56\r\nPASV\r\n"]
    {
        assert_eq!(four(text), Some(Command::Passive), "{text:?}");
        assert_eq!(six(text), None, "{text:?}");
    }
    for text in ["EPSV\r\n", "epsv\r\n", "NOOP\r\nEPSV\r\n", "EPSVx EPSV\r\n"] {
        assert_eq!(four(text), Some(Command::ExtendedPassive), "{text:?}");
        assert_eq!(six(text), Some(Command::ExtendedPassive), "{text:?}");
    }
    assert_eq!((four("EPSV 1\r\n"), six("EPSV 1\r\n")), (Some(Command::ExtendedPassive), None));
    assert_eq!((four("EPSV 2\r\n"), six("EPSV 2\r\n")), (None, Some(Command::ExtendedPassive)));
    // A question that cannot be answered hides what comes after it.
    assert_eq!(four("EPSV ALL\r\nPASV\r\n"), None);
    assert_eq!(four("EPSV 1x\r\nPASV\r\n"), None);
    for text in ["PASV", "PASV\r", "PASV \r\n", "EPSV\n\r\n", "EPSV\r", "", "P"] {
        assert_eq!(four(text), None, "{text:?}");
    }
}

#[test]
fn a_beginning_is_incomplete_and_anything_else_absent() {
    for text in ["", "2", "22", "227", "227 ", "227 ok", "227 (", "227 (10,0"] {
        assert_eq!(passive_reply(text.as_bytes()), Search::Incomplete, "{text:?}");
    }
    for text in ["3", "228", "230 logged in", "22x"] {
        assert_eq!(passive_reply(text.as_bytes()), Search::Absent, "{text:?}");
    }
}

#[test]
fn the_longest_texts_fit() {
    let longest = SocketAddrV4::new([255, 255, 255, 255].into(), u16::MAX);
    assert_eq!(passive_text(longest).as_bytes(), b"255,255,255,255,255,255");
    assert_eq!(extended_passive_text(u16::MAX).as_bytes(), b"|||65535|");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(bits: u32, port in 1_u16.., server: u128) {
        let address = SocketAddrV4::new(bits.into(), port);
        let reply = [b"227 (", passive_text(address).as_bytes(), b")\r\n"].concat();
        let place = Place { address: address.into(), start: 5, end: reply.len() - 3 };
        prop_assert_eq!(passive_reply(&reply), Search::Found(place));
        let server = IpAddr::V6(server.into());
        let reply = [b"229 (", extended_passive_text(port).as_bytes(), b")\r\n"].concat();
        let place = Place { address: SocketAddr::new(server, port), start: 5, end: reply.len() - 3 };
        prop_assert_eq!(extended_passive_reply(&reply, server), Search::Found(place));
    }

    #[test]
    fn a_place_lies_in_its_payload(
        text in "(227 |229 |PORT |EPRT )?[(]{0,2}[|,0-9a.:(]{0,30}[|)\r]{0,2}",
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        for payload in [text.as_bytes(), &bytes] {
            let _ = client_command(payload, Family::V4).or_else(|| client_command(payload, Family::V6));
            for found in [passive_reply(payload), extended_passive_reply(payload, SERVER)] {
                if let Search::Found(place) = found {
                    prop_assert!(4 <= place.start && place.start < place.end && place.end <= payload.len());
                    let said = String::from_utf8_lossy(&payload[place.start..place.end]);
                    prop_assert!(said.contains(',') || said.ends_with(said.chars().next().unwrap()));
                }
            }
        }
    }
}
