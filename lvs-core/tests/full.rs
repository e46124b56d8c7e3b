//! What a full table gives up for a new connection, and in which order.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::config::WhenFull;
use lvs_core::event::Cause;
use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];

fn start(when_full: WhenFull, connections: usize) -> Director<Heap> {
    let mut config = config();
    config.when_full = when_full;
    let mut director = Director::new(config, Heap::with_capacity(connections));
    for key in [WEB, DNS] {
        director.add_service(key, scheduler("rr")).unwrap();
        director.add_server(key, server(1, Method::Direct, 1)).unwrap();
    }
    director
}

fn run(director: &mut Director<Heap>, secs: u64, port: u16, contents: &[Content]) -> Verdict {
    let mut verdict = Verdict::Drop(Reason::TableFull);
    for &content in contents {
        let key = if content == Content::Udp { DNS } else { WEB };
        verdict = director.decide(
            Tick::ZERO.plus_secs(secs),
            &request(key, CLIENT, port, content),
            Inspected::Nothing,
        );
    }
    verdict
}

fn ended(director: &mut Director<Heap>) -> Vec<(u16, Cause)> {
    let events = core::iter::from_fn(|| director.poll_event());
    let closed = events.filter_map(|event| {
        let Event::Closed { flow, cause, .. } = event else { return None };
        Some((flow.source_port, cause))
    });
    closed.collect()
}

#[test]
fn closing_ones_go_first_then_half_open_ones_then_udp_then_what_its_client_alone_speaks_for() {
    let mut director = start(WhenFull::Reclaim, 4);
    let _ = run(&mut director, 0, 1, &[SYN, ACK]);
    let _ = run(&mut director, 0, 2, &[Content::Udp]);
    let _ = run(&mut director, 0, 3, &[SYN]);
    let _ = run(&mut director, 0, 4, &[SYN, ACK, FIN]);
    for port in 11..=14 {
        assert!(forwarded(run(&mut director, 1, port, &[SYN, ACK])).is_some());
    }
    let gone = [(4, Cause::Reclaimed), (3, Cause::Reclaimed), (2, Cause::Reclaimed), (1, Cause::OneWay)];
    assert_eq!(ended(&mut director), gone);
    let counters = director.counters();
    assert_eq!((counters.reclaimed, counters.reclaimed_one_way), (4, 1));
    assert_eq!((counters.expired, counters.live, counters.of(Reason::TableFull)), (0, 4, 0));
    let (_, web) = director.servers(WEB).next().unwrap();
    let (_, dns) = director.servers(DNS).next().unwrap();
    assert_eq!((web.active(), web.inactive(), dns.inactive()), (4, 0, 0));
}

#[test]
fn among_one_way_connections_the_one_with_the_fewest_packets_goes_and_of_equals_the_one_silent_for_longest() {
    let mut director = start(WhenFull::Reclaim, 4);
    let _ = run(&mut director, 0, 1, &[SYN, ACK, ACK, ACK, ACK]);
    let _ = run(&mut director, 1, 4, &[SYN, ACK]);
    let _ = run(&mut director, 2, 2, &[SYN, ACK]);
    let _ = run(&mut director, 3, 3, &[SYN, ACK]);
    for port in 11..=13 {
        assert!(forwarded(run(&mut director, 10, port, &[SYN; 8])).is_some());
    }
    assert_eq!(ended(&mut director).iter().map(|&(port, _)| port).collect::<Vec<_>>(), [4, 2, 3]);
    // Port 1 has had five packets, and those that came just now count as if they had had eight.
    assert!(forwarded(run(&mut director, 10, 14, &[SYN])).is_some());
    assert_eq!(ended(&mut director), [(1, Cause::OneWay)]);
}

#[test]
fn expired_ones_go_before_all_others_and_whatever_their_state() {
    let mut director = start(WhenFull::Reclaim, 3);
    let _ = run(&mut director, 0, 1, &[SYN, ACK]);
    let _ = run(&mut director, 899, 2, &[SYN]);
    let _ = run(&mut director, 899, 3, &[SYN]);
    assert!(forwarded(run(&mut director, 900, 11, &[SYN])).is_some());
    assert_eq!(ended(&mut director), [(1, Cause::Expired)]);
    assert_eq!((director.counters().reclaimed, director.counters().expired), (0, 1));
}

#[test]
fn refusing_gives_up_nothing() {
    let mut director = start(WhenFull::Refuse, 1);
    let _ = run(&mut director, 0, 1, &[SYN, ACK, FIN]);
    assert_eq!(run(&mut director, 1_000, 2, &[SYN]), Verdict::Drop(Reason::TableFull));
    assert_eq!(ended(&mut director), []);
    director.sweep(Tick::ZERO.plus_secs(1_000), 1);
    assert!(forwarded(run(&mut director, 1_000, 2, &[SYN])).is_some());
}
