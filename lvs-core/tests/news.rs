//! Of what happens to real servers nothing is lost, and of lost events one hears how many.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::config::Capacity;
use lvs_core::error::ObserveError;
use lvs_core::event::ServerNews;
use lvs_core::pick::Outcome;
use lvs_core::*;
use proptest::prelude::*;
use support::*;

/// A director whose queue holds so many events, with servers 1 to 3, tagged with ten times their numbers.
fn director(events: usize) -> Director<Heap> {
    let mut capacity = Capacity::new(64);
    (capacity.events, capacity.servers) = (events, 4);
    let mut director = Director::new(config(), Heap::new(capacity));
    director.add_service(WEB, scheduler("rr").with_tag(7)).unwrap();
    for number in 1..=3 {
        let config = server(number, Method::Nat, 1).with_tag(u64::from(number) * 10);
        director.add_server(WEB, config).unwrap();
    }
    director
}

fn news(director: &mut Director<Heap>) -> Vec<(u64, [bool; 3])> {
    let all = core::iter::from_fn(|| director.poll_server());
    all.map(|news| (news.tag, [news.drained, news.overloaded, news.relieved])).collect()
}

fn events(director: &mut Director<Heap>) -> Vec<Event> {
    core::iter::from_fn(|| director.poll_event()).collect()
}

/// A server's place, and how many others had it before.
fn place(director: &Director<Heap>, number: u8) -> (ServerId, u32) {
    let (id, server) = director.servers(WEB).find(|(_, of)| of.address() == address(number)).unwrap();
    (id, server.generation())
}

/// Tells that a server is drained, by its quiescing.
fn quiesce(director: &mut Director<Heap>, number: u8) {
    director.edit_server(WEB, server(number, Method::Nat, 0).with_tag(u64::from(number) * 10)).unwrap();
}

#[test]
fn a_server_keeps_what_happened_to_it_though_the_queue_is_full() {
    let mut director = director(1);
    director.edit_server(WEB, server(2, Method::Nat, 1).with_thresholds(1, 0).with_tag(20)).unwrap();
    for port in 4_000..4_003 {
        let _ = director.decide(Tick::ZERO, &request(WEB, [192, 0, 2, 7], port, SYN), Inspected::Nothing);
    }
    quiesce(&mut director, 2);
    quiesce(&mut director, 1);
    let over = Tick::from_millis(60_000);
    director.sweep(over, 64);
    assert!(matches!(events(&mut director)[..], [Event::Opened { .. }, Event::Lost { count: 7.. }]));
    assert_eq!(news(&mut director), [(20, [true, true, true]), (10, [true, false, false])]);
    assert_eq!(news(&mut director), []);
}

#[test]
fn lost_events_are_told_of_where_they_are_missing() {
    let mut director = director(3);
    (1..=3).for_each(|number| quiesce(&mut director, number));
    for _ in 0..2 {
        quiesce(&mut director, 1);
    }
    assert!(matches!(director.poll_event(), Some(Event::Drained { .. })));
    // There is room for one: not for the word that two were lost, and the event behind it.
    quiesce(&mut director, 2);
    assert!(matches!(director.poll_event(), Some(Event::Drained { .. })));
    quiesce(&mut director, 3);
    let told = events(&mut director);
    assert!(
        matches!(told[..], [Event::Drained { .. }, Event::Lost { count: 3 }, Event::Drained { .. }]),
        "{told:?}"
    );
    assert_eq!(director.counters().events_lost, 3);
    assert_eq!(director.poll_event(), None);
}

#[test]
fn a_tag_goes_along_with_its_service_and_its_server() {
    let mut director = director(8);
    assert_eq!(director.service(WEB).unwrap().tag(), 7);
    director.edit_service(WEB, scheduler("wlc").with_tag(8)).unwrap();
    assert_eq!(director.service(WEB).unwrap().tag(), 8);
    let tags = |director: &Director<Heap>| -> Vec<u64> {
        director.servers(WEB).map(|(_, server)| server.tag()).collect()
    };
    assert_eq!(tags(&director), [30, 20, 10]);
    director.edit_server(WEB, server(2, Method::Nat, 1).with_tag(99)).unwrap();
    assert_eq!(tags(&director), [30, 99, 10]);
}

#[test]
fn the_news_of_a_server_whose_place_another_one_has_are_nobodys() {
    let mut director = director(8);
    let former = place(&director, 2);
    director.remove_server(WEB, address(2)).unwrap();
    // Two looks of the trash later its place is free, and still in the list of those that have news.
    for minute in 1..6 {
        director.sweep(Tick::from_millis(minute * 61_000), 64);
    }
    director.add_server(WEB, server(4, Method::Nat, 1).with_tag(40)).unwrap();
    let new = place(&director, 4);
    assert!(new.0 == former.0 && new.1 != former.1, "the same place, and another server");
    assert_eq!(director.poll_server(), None);
    quiesce(&mut director, 1);
    director.edit_server(WEB, server(4, Method::Nat, 0).with_tag(40)).unwrap();
    let all: Vec<ServerNews> = core::iter::from_fn(|| director.poll_server()).collect();
    assert_eq!(
        all.iter().map(|news| (news.tag, news.generation)).collect::<Vec<_>>(),
        [(10, 0), (40, new.1)]
    );
}

#[test]
fn what_is_meant_for_a_former_server_reaches_no_other_one() {
    let mut director = director(8);
    let (id, generation) = place(&director, 2);
    let former = id.of_generation(generation);
    quiesce(&mut director, 2);
    assert_eq!(director.poll_server().unwrap().server_ref(), former);
    director.observe(Tick::ZERO, former, Outcome::Failure).unwrap();
    director.remove_server(WEB, address(2)).unwrap();
    for minute in 1..6 {
        director.sweep(Tick::from_millis(minute * 61_000), 64);
    }
    director.add_server(WEB, server(4, Method::Nat, 1)).unwrap();
    let now = Tick::from_millis(400_000);
    let packet = request(WEB, [192, 0, 2, 7], 4_000, SYN);
    (1..=3).step_by(2).for_each(|number| quiesce(&mut director, number));
    assert_eq!(forwarded(director.decide(now, &packet, Inspected::Nothing)).unwrap().server, id);
    assert_eq!(director.observe(now, former, Outcome::Failure), Err(ObserveError::NotFound));
    assert_eq!(director.set_load(former, 7), Err(ObserveError::NotFound));
    assert_eq!(director.cut(now, former, 0, 64), 0);
    let other = director.server(id).unwrap();
    assert_eq!((other.failures(), other.load(), other.active()), (0, 0, 1));
    // By its place alone, or as what it is, it is reached.
    assert_eq!(director.set_load(id.of_generation(generation + 1), 7), Ok(()));
    assert_eq!(director.cut(now, id, 0, 64), 1);
}

#[test]
fn news_name_the_service_also_when_that_is_gone() {
    let mut director = director(8);
    quiesce(&mut director, 1);
    director.remove_service(WEB).unwrap();
    director.add_service(DNS, scheduler("rr")).unwrap();
    let all: Vec<ServerNews> = core::iter::from_fn(|| director.poll_server()).collect();
    assert_eq!(all.iter().map(|news| news.tag).collect::<Vec<_>>(), [10, 30, 20]);
    assert!(all.iter().all(|news| news.service == WEB && news.drained));
}

#[test]
fn a_server_that_comes_back_says_nothing_of_before_but_how_it_is() {
    let mut director = director(64);
    let own = server(2, Method::Nat, 1).with_thresholds(2, 0).with_tag(20);
    director.edit_server(WEB, own).unwrap();
    let before = place(&director, 2);
    for port in 4_000..4_006 {
        let _ = director.decide(Tick::ZERO, &request(WEB, [192, 0, 2, 7], port, SYN), Inspected::Nothing);
    }
    // Overloaded when it goes, and drained is another one.
    director.remove_server(WEB, address(1)).unwrap();
    director.remove_server(WEB, address(2)).unwrap();
    director.sweep(Tick::from_millis(70_000), 64);
    events(&mut director);
    director.add_server(WEB, server(1, Method::Nat, 1).with_tag(11)).unwrap();
    director.add_server(WEB, own.with_tag(21)).unwrap();
    assert_eq!(place(&director, 2), before, "it is the same one");
    assert_eq!(news(&mut director), [], "of a former time there is nothing to say");
}

#[test]
fn a_server_that_comes_back_overloaded_says_so() {
    let mut director = director(64);
    let own = server(2, Method::Nat, 1).with_thresholds(2, 0).with_tag(20);
    director.edit_server(WEB, own).unwrap();
    for port in 4_000..4_006 {
        let _ = director.decide(Tick::ZERO, &request(WEB, [192, 0, 2, 7], port, SYN), Inspected::Nothing);
    }
    director.remove_server(WEB, address(2)).unwrap();
    director.add_server(WEB, own.with_tag(21)).unwrap();
    assert_eq!(news(&mut director), [(21, [false, true, false])]);
}

proptest! {
    /// However rarely somebody asks: events told and events lost are all that there were, and every server that has
    /// something to say is heard once.
    #[test]
    fn events_are_told_or_counted(room in 1_usize..5, steps in prop::collection::vec((0_u8..5, 1_u8..4), 1..60)) {
        let (mut director, mut all) = (director(room), director(4_096));
        let (mut told, mut lost, mut pending) = (0, 0, std::collections::BTreeSet::new());
        let mut take = |event: Option<Event>| match event {
            None => {}
            Some(Event::Lost { count }) => lost += count,
            Some(_) => told += 1,
        };
        for (step, number) in steps {
            match step {
                0 => take(director.poll_event()),
                1 => {
                    let heard = director.poll_server();
                    prop_assert_eq!(heard.is_some(), !pending.is_empty());
                    prop_assert!(heard.is_none_or(|news| news.drained && pending.remove(&news.tag)));
                }
                _ => {
                    quiesce(&mut director, number);
                    quiesce(&mut all, number);
                    pending.insert(u64::from(number) * 10);
                }
            }
        }
        while let Some(event) = director.poll_event() {
            take(Some(event));
        }
        let expected = events(&mut all).len() as u64;
        prop_assert_eq!((told + lost, lost), (expected, director.counters().events_lost));
        let heard: Vec<u64> = news(&mut director).into_iter().map(|(tag, _)| tag).collect();
        prop_assert_eq!(heard.iter().copied().collect::<std::collections::BTreeSet<_>>(), pending);
    }
}
