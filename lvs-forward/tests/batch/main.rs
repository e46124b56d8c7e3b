//! `Forwarder::process_batch` against `Forwarder::process`, frame by frame in two identical worlds: long runs of plain
//! frames of known connections, of both families and all methods, ended and interrupted by whatever else may come.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod arrival;
#[expect(dead_code, reason = "frames are processed here without copies")]
#[path = "../lab/mod.rs"]
mod lab;
#[expect(dead_code, reason = "its transforms are the laws' business")]
#[path = "../sample/mod.rs"]
mod sample;
mod world;

use arrival::{BOTH, arrivals};
use lab::{Lab, METHODS};
use lvs_core::Tick;
use lvs_forward::{Options, Outcome};
use proptest::prelude::*;
use world::{Change, World};

fn change() -> impl Strategy<Value = Change> {
    let which = || (prop::sample::select(BOTH), 0..METHODS.len());
    prop_oneof![
        4 => Just(Change::Nothing),
        2 => prop_oneof![3 => 0u64..5_000, 1 => 5_000u64..1_000_000].prop_map(Change::Wait),
        1 => (0usize..500).prop_map(Change::Sweep),
        1 => (which(), any::<u8>()).prop_map(|((family, method), last)| Change::Moved(family, method, last)),
        1 => which().prop_map(|(family, method)| Change::Quiesced(family, method)),
        1 => (which(), any::<bool>()).prop_map(|((family, method), own)| Change::Own(family, method, own)),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    any::<[bool; 4]>().prop_map(|[ip_forward, capture_marked, pmtu_disc, limits]| {
        let mut options = Options::new();
        (options.ip_forward, options.capture_marked, options.pmtu_disc) =
            (ip_forward, capture_marked, pmtu_disc);
        options.icmp_rate = if limits { 1_000 } else { 0 };
        options
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_of_plain_frames_and_others_equals_one_by_one(
        options in options(),
        together in any::<bool>(),
        steps in prop::collection::vec((change(), arrivals()), 1..16),
    ) {
        let (mut single, mut batched) = (World::new(options), World::new(options));
        if together {
            batched.lab.director.set_hash_together(lvs_std::cpu::hash_together());
        }
        for (change, arrivals) in &steps {
            single.apply(change);
            batched.apply(change);
            let (expected, got) = (single.one_by_one(arrivals), batched.batch(arrivals));
            for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                prop_assert_eq!(got, expected, "frame {} of {}", at, arrivals.len());
            }
            prop_assert_eq!(batched.own_frames(), single.own_frames());
            prop_assert_eq!(batched.events(), single.events());
            let (single, batched) = (&single.lab, &batched.lab);
            prop_assert_eq!(batched.forwarder.counters(), single.forwarder.counters());
            prop_assert_eq!(batched.director.counters(), single.director.counters());
            prop_assert!(batched.director.connections(Tick::ZERO).eq(single.director.connections(Tick::ZERO)));
            prop_assert!(batched.director.templates(Tick::ZERO).eq(single.director.templates(Tick::ZERO)));
            for service in single.director.services() {
                let key = service.key();
                let other = batched.director.service(key).unwrap();
                prop_assert_eq!(other.meter().live(), service.meter().live());
                let traffic = |lab: &Lab| -> Vec<_> {
                    lab.director.servers(key).map(|(_, server)| server.meter().live()).collect()
                };
                prop_assert_eq!(traffic(batched), traffic(single));
            }
        }
    }

    #[test]
    fn what_is_rehearsed_of_each_frame_is_what_a_batch_then_does_and_leaves_no_trace(
        options in options(),
        steps in prop::collection::vec((change(), arrivals()), 1..6),
    ) {
        let (mut asked, mut batched) = (World::new(options), World::new(options));
        for (change, arrivals) in &steps {
            asked.apply(change);
            batched.apply(change);
            let done = batched.batch(arrivals);
            for (arrival, done) in arrivals.iter().zip(&done) {
                let said = asked.rehearse(arrival);
                let is_fragment = said.is_none();
                let single = asked.one_by_one(core::slice::from_ref(arrival));
                if let Some(said) = said {
                    prop_assert_eq!(&said, done);
                }
                let waited =
                    matches!(done.outcome(), Outcome::Consumed | Outcome::Assembled(_) | Outcome::Drop(_));
                prop_assert!(!is_fragment || waited);
                prop_assert_eq!(&single[0], done, "asking has changed something");
            }
            prop_assert_eq!(batched.own_frames(), asked.own_frames());
            prop_assert_eq!(batched.events(), asked.events());
            prop_assert_eq!(batched.lab.forwarder.counters(), asked.lab.forwarder.counters());
            prop_assert_eq!(batched.lab.director.counters(), asked.lab.director.counters());
        }
    }
}
