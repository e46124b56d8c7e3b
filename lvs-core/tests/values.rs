//! What Rust programs expect of values: that they are read as they are written, that what can be compared for equality
//! can be a key of a map, and that numbers and flags go together by the usual operators.

#![cfg_attr(feature = "serde", expect(clippy::unwrap_used, reason = "a test that cannot go on fails"))]

use core::hash::Hash;
use core::time::Duration;

use lvs_core::config::*;
use lvs_core::error::*;
use lvs_core::event::*;
use lvs_core::method::*;
use lvs_core::packet::*;
use lvs_core::sched::{Change, Schedule, ScheduleFlags, TableLen};
use lvs_core::service::*;
use lvs_core::stats::*;
use lvs_core::sync::{MessageError, SyncEntry, Version};
use lvs_core::{ConnId, Forward, Inspected, Reason, Scheduler, Tick, Verdict, conn, tables};

#[test]
fn every_scheduler_is_read_by_its_name_and_writes_it() {
    for name in Scheduler::NAMES {
        let scheduler: Scheduler = name.to_uppercase().parse().unwrap();
        assert_eq!((scheduler.name(), scheduler.to_string().as_str()), (*name, *name));
    }
    assert_eq!("best".parse::<Scheduler>().map(|_| ()), Err(ParseError::Scheduler));
}

#[test]
fn flags_and_weights_go_together_by_the_usual_operators() {
    let mut flags = TcpFlags::SYN;
    flags |= TcpFlags::ACK;
    assert_eq!(flags, TcpFlags::from_byte(0x12));
    let mut options = ScheduleFlags::default();
    options |= ScheduleFlags::PORT;
    assert_eq!(options | ScheduleFlags::FALLBACK, ScheduleFlags { fallback: true, port: true });
    assert_eq!(Weight::try_from(u32::MAX), Err(WeightError::TooLarge));
    assert_eq!(Weight::try_from(7_u32).map(u32::from), Ok(7));
    assert_eq!(Tick::ZERO + Duration::from_secs(2), Tick::from(Duration::from_millis(2_000)));
}

/// Fails to compile where one cannot be a key. A `Seed` cannot on purpose: who hashes a secret shows something of it.
#[test]
fn what_can_be_compared_for_equality_can_be_a_key() {
    fn keys<T: Eq + Hash>() {}
    keys::<(Capacity, Defence, NoMemory, Timeouts, Tuning, WhenFull)>();
    keys::<(ConnId, ServerId, ServiceId, ServiceKey, Tick, Weight)>();
    keys::<(
        conn::Connection,
        conn::Template<'_>,
        conn::Offloaded,
        conn::Swept,
        conn::State,
        conn::Expectation,
    )>();
    keys::<(AddServerError, AddServiceError, ApplyError, EditServerError, EditServiceError, ExpectError)>();
    keys::<(ParseError, RemoveServerError, RemoveServiceError, WeightError, ZeroError)>();
    keys::<(Event, Cause, SyncEntry, Version, MessageError)>();
    keys::<(Method, MethodKind, Tunnel, TunnelKind, Rewrite, Forward, Verdict, Inspected<'_>, Reason)>();
    keys::<(Addresses, Family, Flow, Protocol, Chunk, Content, Packet, Path, TcpFlags)>();
    keys::<(Mask, Persistence, PersistenceEngine, ServerConfig, ScheduleFlags, Change, TableLen)>();
    keys::<(Counters, Meter, Rates, Traffic, tables::Member)>();
}

#[cfg(feature = "serde")]
mod serial {
    use super::*;
    use lvs_core::{Config, Director, Heap, Seed, ServiceConfig};

    fn round<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T, expected: &str) -> T {
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(text, expected);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_configuration_is_text_that_a_person_would_write() {
        let key: ServiceKey = "tcp [2001:db8::1]:80".parse().unwrap();
        assert_eq!(round(&key, "\"TCP [2001:db8::1]:80\""), key);
        let flow: Flow = "udp 192.0.2.7:4 > 10.99.0.1:53".parse().unwrap();
        assert_eq!(round(&flow, "\"UDP 192.0.2.7:4 > 10.99.0.1:53\""), flow);
        let gue = Method::Tunnel(Tunnel::Gue { port: 6_080, checksum: true });
        let server = ServerConfig::new("10.0.1.11:80".parse().unwrap(), gue).with_weight(Weight::from(3));
        let text = "{\"address\":\"10.0.1.11:80\",\"method\":{\"tun\":{\"gue\":{\"port\":6080,\"checksum\":true}}},\
                    \"weight\":3,\"upper\":0,\"lower\":0,\"draining\":false,\"tag\":0}";
        assert_eq!(round(&server, text), server);
        let short: ServerConfig =
            serde_json::from_str("{\"address\":\"10.0.1.11:80\",\"method\":\"dr\"}").unwrap();
        assert_eq!(short, ServerConfig::new("10.0.1.11:80".parse().unwrap(), Method::Direct));
        let service: ServiceConfig = serde_json::from_str(
            "{\"scheduler\":\"mh\",\"flags\":{\"port\":true},\"persistence\":{\"timeout\":60,\"mask\":\"24\"}}",
        )
        .unwrap();
        assert_eq!(service.scheduler.name(), "mh");
        assert_eq!(service.persistence, Some(Persistence::new(60).with_mask(24)));
        let tuning: Tuning =
            serde_json::from_str("{\"sloppy_tcp\":true,\"drop_entry\":\"automatic\"}").unwrap();
        assert_eq!((tuning.sloppy_tcp, tuning.drop_entry), (true, Defence::Automatic));
        assert_eq!(serde_json::from_str::<Timeouts>("{\"udp\":60}").unwrap().tcp, Timeouts::default().tcp);
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_a_word() {
        let why = |text: &str| serde_json::from_str::<ServerConfig>(text).unwrap_err().to_string();
        assert!(why("{\"address\":\"10.0.1.11:80\",\"method\":\"dr\",\"wait\":1}").contains("wait"));
        let heavy = why("{\"address\":\"10.0.1.11:80\",\"method\":\"nat\",\"weight\":2147483648}");
        assert!(heavy.contains("at most 2147483647"), "{heavy}");
        assert!(serde_json::from_str::<ServiceConfig>("{\"scheduler\":\"best\"}").is_err());
    }

    #[test]
    fn listings_are_written() {
        let store: Heap = Heap::with_capacity(16);
        let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
        let web: ServiceKey = "tcp 10.99.0.1:80".parse().unwrap();
        director.add_service(web, ServiceConfig::new(Scheduler::default()).with_tag(70)).unwrap();
        let config = ServerConfig::new("10.0.1.11:80".parse().unwrap(), Method::Nat).with_tag(71);
        director.add_server(web, config).unwrap();
        let flow: Flow = "tcp 192.0.2.7:4000 > 10.99.0.1:80".parse().unwrap();
        let syn = Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60);
        let _ = director.decide(Tick::ZERO, &syn, Inspected::Nothing);
        let value = |text: Result<serde_json::Value, _>| text.unwrap();
        let service = value(serde_json::to_value(director.service(web).unwrap()));
        assert_eq!((&service["key"], &service["servers"]), (&"TCP 10.99.0.1:80".into(), &1.into()));
        let server = value(serde_json::to_value(director.servers(web).next().unwrap().1));
        assert_eq!((&server["active"], &server["method"]), (&1.into(), &"nat".into()));
        assert_eq!(
            (&service["tag"], &server["tag"], &server["generation"]),
            (&70.into(), &71.into(), &0.into())
        );
        let connection = value(serde_json::to_value(director.connections(Tick::ZERO).next().unwrap()));
        assert_eq!(connection["flow"], "TCP 192.0.2.7:4000 > 10.99.0.1:80");
        assert_eq!(connection["state"], "SYN_RECV");
        let counters = value(serde_json::to_value(director.counters()));
        assert_eq!((&counters["reasons"]["no-server"], &counters["live"]), (&0.into(), &1.into()));
        for listed in [&service, &server, &connection, &counters] {
            let names = listed.as_object().unwrap().keys();
            assert!(names.clone().count() > 6 && names.clone().all(|name| !name.contains('_')), "{listed}");
        }
    }
}

#[cfg(feature = "log")]
thread_local! {
    /// What was said in this thread: other tests' directors are in others.
    static SAID: core::cell::RefCell<Vec<String>> = const { core::cell::RefCell::new(Vec::new()) };
}

/// Keeps what is said from now on.
#[cfg(feature = "log")]
fn listen() {
    struct Keeper;
    impl log::Log for Keeper {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            SAID.with_borrow_mut(|said| said.push(format!("{} {}", record.level(), record.args())));
        }
        fn flush(&self) {}
    }
    // The first test that comes here sets it for all.
    let _ = log::set_logger(&Keeper);
    log::set_max_level(log::LevelFilter::Trace);
}

#[cfg(feature = "log")]
fn said() -> Vec<String> {
    SAID.take()
}

#[cfg(feature = "log")]
#[test]
fn defences_say_why_they_go_on_and_that_they_go_off() {
    use lvs_core::config::Defence;
    use lvs_core::{Config, Director, Heap, Seed};

    listen();
    let mut config = Config::new(Seed::from_bytes([7; 16]));
    config.tuning.drop_packet = Defence::Automatic;
    let store: Heap = Heap::with_capacity(16);
    let mut director = Director::new(config, store);
    director.report_available(0);
    for secs in 1..4 {
        director.sweep(Tick::ZERO.plus_secs(secs), 1);
    }
    assert_eq!(said(), ["WARN memory is short", "WARN drop_packet goes on"]);
    director.report_available(1 << 20);
    director.sweep(Tick::ZERO.plus_secs(5), 1);
    assert_eq!(said(), ["INFO memory is short no more", "INFO drop_packet goes off"]);
}

#[cfg(feature = "log")]
#[test]
fn control_says_what_it_changed_and_packets_say_nothing() {
    use lvs_core::{Config, Director, Heap, Seed, ServiceConfig};

    listen();
    let store: Heap = Heap::with_capacity(16);
    let mut director = Director::new(Config::new(Seed::from_bytes([7; 16])), store);
    let web: ServiceKey = "tcp 10.99.0.1:81".parse().unwrap();
    director.add_service(web, ServiceConfig::new(Scheduler::default())).unwrap();
    director.add_server(web, ServerConfig::new("10.0.1.11:81".parse().unwrap(), Method::Nat)).unwrap();
    let flow: Flow = "tcp 192.0.2.7:4000 > 10.99.0.1:81".parse().unwrap();
    let _ =
        director.decide(Tick::ZERO, &Packet::new(flow, Content::Tcp(TcpFlags::SYN), 60), Inspected::Nothing);
    director.remove_service(web).unwrap();
    assert!(director.remove_service(web).is_err());
    assert_eq!(
        said(),
        [
            "DEBUG service TCP 10.99.0.1:81 added",
            "DEBUG server 10.0.1.11:81 added to service TCP 10.99.0.1:81",
            "DEBUG service TCP 10.99.0.1:81 removed with its servers",
        ]
    );
}
