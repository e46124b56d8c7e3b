use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::io::Write;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Instant;

use lvs_std::health::{Event, Failure, Http, Probe, State, Tcp};

use crate::servers::{nobody, read_head, serve, silent};
use crate::{Checking, PATIENCE, SHORT, often};

/// A web server that is well while the switch is on, and that counts requests.
fn switched() -> (core::net::SocketAddr, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (well, count) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (is_well, counted) = (well.clone(), count.clone());
    let target = serve(move |mut stream| {
        read_head(&mut stream);
        counted.fetch_add(1, Ordering::Relaxed);
        let status = if is_well.load(Ordering::Relaxed) { "200 OK" } else { "500 Sick" };
        let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
    });
    (target, well, count)
}

fn next(checking: &Checking) -> (State, Option<Failure>) {
    let event = checking.events.recv_timeout(PATIENCE).expect("news in time");
    let Event::Changed { state, why, .. } = event else { panic!("{event:?}") };
    (state, why)
}

#[test]
fn a_target_falls_and_rises_after_as_many_answers_as_the_schedule_says() {
    let (target, well, count) = switched();
    let checking = Checking::start();
    let schedule = often().with_counts(3, 4);
    let id = checking.probes().watch(Probe::new(target, Http::default().into(), schedule));
    assert_eq!(next(&checking), (State::Up, None));
    let seen = count.load(Ordering::Relaxed);
    assert_eq!(seen, 1, "the first answer decides alone");
    for (turn, state, answers) in [(false, State::Down, 4), (true, State::Up, 3)] {
        let before = count.load(Ordering::Relaxed);
        well.store(turn, Ordering::Relaxed);
        let (now, why) = next(&checking);
        assert_eq!((now, why.is_some()), (state, !turn));
        let took = count.load(Ordering::Relaxed) - before;
        assert!((answers..=answers + 2).contains(&took), "{took} answers, not {answers}");
        assert_eq!(checking.probes().report(id).unwrap().state, state);
    }
}

#[test]
fn whoever_wants_the_same_probe_shares_it() {
    let (target, _, count) = switched();
    let checking = Checking::start();
    let probes = checking.probes();
    let mut schedule = often();
    schedule.interval = PATIENCE;
    let probe = Probe::new(target, Http::default().into(), schedule);
    let ids: Vec<_> = (0..500).map(|_| probes.watch(probe.clone())).collect();
    assert!(ids.iter().all(|&id| id == ids[0]));
    assert!(probes.wait_until_ready(PATIENCE));
    sleep(SHORT);
    assert_eq!(count.load(Ordering::Relaxed), 1, "one request for all");
    assert_eq!(probes.report(ids[0]).unwrap().users, 500);
    let other = Http::new("GET", "/other", None).unwrap();
    assert_ne!(probes.watch(Probe::new(target, other.into(), schedule)), ids[0], "another question");
    for id in &ids[1..] {
        assert!(probes.forget(*id));
    }
    assert!(probes.report(ids[0]).is_some(), "one still wants it");
    assert!(probes.forget(ids[0]));
    assert!(probes.report(ids[0]).is_none());
    assert!(!probes.forget(ids[0]));
}

#[test]
fn a_probe_that_nobody_wants_asks_no_more() {
    let (target, _, count) = switched();
    let checking = Checking::start();
    let id = checking.probes().watch(Probe::new(target, Http::default().into(), often()));
    assert_eq!(next(&checking).0, State::Up);
    checking.probes().forget(id);
    sleep(SHORT);
    let asked = count.load(Ordering::Relaxed);
    sleep(SHORT);
    assert_eq!(count.load(Ordering::Relaxed), asked);
}

#[test]
fn it_is_ready_when_all_have_answered_and_before_that_they_are_unknown() {
    let (silent, _sockets) = silent();
    let checking = Checking::start();
    let probes = checking.probes();
    assert!(probes.is_ready(), "nothing is to be known");
    probes.watch(Probe::new(serve(drop), Tcp::new().into(), often()));
    let slow = probes.watch(Probe::new(silent, Tcp::new().into(), often().with_timeout(SHORT)));
    assert!(!probes.is_ready());
    assert_eq!(probes.report(slow).unwrap().state, State::Unknown);
    let began = Instant::now();
    assert!(!probes.wait_until_ready(SHORT / 4));
    assert!(probes.wait_until_ready(PATIENCE));
    assert!(began.elapsed() > SHORT / 2, "it waited for the slow one");
    assert_eq!(probes.report(slow).unwrap().state, State::Down);
}

#[test]
fn targets_that_hang_do_not_delay_others() {
    let (silent, _sockets) = silent();
    let checking = Checking::start();
    for number in 0..500 {
        let mut schedule = often();
        schedule.interval = PATIENCE + Duration::from_millis(number);
        checking.probes().watch(Probe::new(silent, Tcp::new().into(), schedule));
    }
    let began = Instant::now();
    checking.probes().watch(Probe::new(nobody(), Tcp::new().into(), often()));
    assert_eq!(next(&checking), (State::Down, Some(Failure::Refused)));
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
}

#[test]
fn after_a_first_failure_it_asks_again_as_soon_as_the_schedule_says() {
    let (target, well, _) = switched();
    let checking = Checking::start();
    let mut schedule = often().with_counts(1, 4);
    // So long that a machine that stands still for a while does not hide the difference.
    schedule.interval = Duration::from_secs(2);
    schedule.retry = Some(Duration::from_millis(10));
    checking.probes().watch(Probe::new(target, Http::default().into(), schedule));
    assert_eq!(next(&checking).0, State::Up);
    well.store(false, Ordering::Relaxed);
    let began = Instant::now();
    assert_eq!(next(&checking).0, State::Down);
    assert!(began.elapsed() < schedule.interval * 2, "{:?}", began.elapsed());
}
