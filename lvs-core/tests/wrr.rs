//! `wrr` against its rules written down once more, round by round, under random changes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::*;
use proptest::prelude::*;
use support::*;

/// The state of the naive scheduler; positions are in the present list, newest first.
#[derive(Debug, Default)]
struct Naive {
    last: Option<usize>,
    level: i64,
    top: i64,
    step: i64,
}

/// A server: weight and whether it is overloaded.
type Listed = (i64, bool);

impl Naive {
    fn changed(&mut self, list: &[Listed], bound: bool) {
        let divides = |step: &i64| list.iter().all(|(weight, _)| weight % step == 0);
        let most = list.iter().map(|&(weight, _)| weight).max().unwrap_or(0);
        self.last = None;
        self.step = (1..=most.max(1)).rev().find(divides).unwrap();
        if most == 0 {
            self.step = 1;
        }
        self.top = most - (self.step - 1);
        if bound || self.level > self.top || self.level == 0 {
            self.level = self.top;
        } else if self.step > 1 {
            self.level = self.level / self.step * self.step + 1;
        }
    }

    fn pick(&mut self, list: &[Listed]) -> Option<usize> {
        if self.top == 0 {
            return None;
        }
        let last = self.last;
        let mut from = last.map_or(0, |at| at + 1);
        let (mut stop, mut last_pass, mut restarted) = (None, false, false);
        loop {
            for (at, &(weight, overloaded)) in list.iter().enumerate().skip(from) {
                if !overloaded && weight >= self.level {
                    self.last = Some(at);
                    return self.last;
                }
                if Some(at) == stop {
                    self.last = Some(at);
                    return None;
                }
            }
            from = 0;
            self.level -= self.step;
            if self.level <= 0 {
                self.level = self.top;
                if last_pass || last.is_none() {
                    self.last = None;
                    return None;
                }
                restarted = true;
            }
            last_pass = self.level <= self.step;
            if last_pass && restarted && last.is_some() {
                stop = last;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, u16, u32),
    Edit(u8, u16, u32),
    Remove(u8),
    Picks(u8),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![0_u16..4, (0_u16..6).prop_map(|weight| weight * 3), 40_u16..60];
    let upper = prop_oneof![3 => Just(0), 2 => 1_u32..9];
    let config = (1_u8..6, weight, upper);
    prop_oneof![
        3 => config.clone().prop_map(|(number, weight, upper)| Step::Add(number, weight, upper)),
        2 => config.prop_map(|(number, weight, upper)| Step::Edit(number, weight, upper)),
        1 => (1_u8..6).prop_map(Step::Remove),
        5 => (1_u8..9).prop_map(Step::Picks),
        1 => Just(Step::Sweep),
    ]
}

fn listed(director: &Director<Heap>) -> Vec<Listed> {
    director.servers(WEB).map(|(_, server)| (i64::from(server.weight()), server.is_overloaded())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn wrr_equals_its_rules_round_by_round(steps in prop::collection::vec(step(), 1..50)) {
        let mut director = Director::new(config(), Heap::with_capacity(1_000));
        director.add_service(WEB, scheduler("wrr")).unwrap();
        let mut naive = Naive::default();
        naive.changed(&[], true);
        let (mut port, mut now) = (1_024, Tick::ZERO);
        for step in steps {
            let config = |number, weight, upper| server(number, Method::Direct, weight).with_thresholds(upper, 0);
            let changed = match step {
                Step::Add(number, weight, upper) => {
                    director.add_server(WEB, config(number, weight, upper)).is_ok()
                }
                Step::Edit(number, weight, upper) => {
                    director.edit_server(WEB, config(number, weight, upper)).is_ok()
                }
                Step::Remove(number) => director.remove_server(WEB, address(number)).is_ok(),
                Step::Picks(count) => {
                    for _ in 0..count {
                        port += 1;
                        let expected = naive.pick(&listed(&director));
                        let expected = expected.map(|at| director.servers(WEB).nth(at).unwrap().0);
                        let syn = request(WEB, [192, 0, 2, 1], port, SYN);
                        let verdict = director.decide(now, &syn, Inspected::Nothing);
                        prop_assert_eq!(forwarded(verdict).map(|forward| forward.server), expected);
                    }
                    false
                }
                Step::Sweep => {
                    now = now.plus_secs(60);
                    director.sweep(now, usize::MAX);
                    false
                }
            };
            if changed {
                naive.changed(&listed(&director), false);
            }
        }
    }
}
