use core::net::IpAddr;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use proptest::prelude::*;

use super::apply::{Done, Undone, down, up};
use super::error::RealServerError;
use super::files::Format;
use super::machine::{Before, Machine, Now};
use super::plan::{Mode, Plan, PlanError, Unwrap, Wanted};
use super::record::Record;
use super::step::Step;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn wanted(mode: Mode) -> Wanted {
    let mut wanted = Wanted::new(mode, vec![ip("192.0.2.100"), ip("2001:db8::100")]);
    wanted.interface = Some("eth0".to_owned());
    if mode == Mode::Nat {
        wanted.gateways = vec![ip("10.0.1.254"), ip("2001:db8:1::fe")];
    }
    wanted
}

fn by_director() -> Wanted {
    let mut wanted = wanted(Mode::Tunnel);
    wanted.unwrap = Unwrap::Director(vec![(ip("10.0.1.21"), 24)]);
    wanted
}

/// What the plans come to in each format. `UPDATE_GOLDEN=1` writes it.
#[test]
fn the_files_of_each_format_are_as_they_were_written_down() {
    let cases = [
        ("dr", wanted(Mode::Direct)),
        ("tun", wanted(Mode::Tunnel)),
        ("decap", by_director()),
        ("nat", wanted(Mode::Nat)),
    ];
    let formats = [
        ("commands", Format::Commands),
        ("debian", Format::Debian),
        ("rhel", Format::Rhel),
        ("networkd", Format::Networkd),
    ];
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/real_server/golden");
    for (name, wanted) in &cases {
        let plan = Plan::new(wanted).unwrap();
        for (format, of) in formats {
            let mut text = String::new();
            for file in plan.files(of).unwrap() {
                text += &file.path.map(|path| format!("=== {path}\n")).unwrap_or_default();
                text += &file.text;
            }
            let path = folder.join(format!("{name}-{format}.txt"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
        }
    }
}

#[test]
fn every_step_of_a_plan_is_in_the_files_of_every_format() {
    for wanted in [wanted(Mode::Direct), wanted(Mode::Tunnel), by_director(), wanted(Mode::Nat)] {
        let plan = Plan::new(&wanted).unwrap();
        for format in [Format::Commands, Format::Debian, Format::Rhel, Format::Networkd] {
            let text: String = plan.files(format).unwrap().into_iter().map(|file| file.text).collect();
            for step in &plan.steps {
                let word = match step {
                    Step::Link { name, .. } => name.clone(),
                    Step::Sysctl { name, .. } => name.clone(),
                    Step::Address { address, .. } => address.to_string(),
                    Step::Route { gateway, .. } => gateway.to_string(),
                };
                assert!(text.contains(&word), "{format:?} has no {word}:\n{text}");
            }
            assert!(plan.beside.is_none() || text.contains("director decap"), "{format:?}:\n{text}");
        }
    }
}

#[test]
fn arp_is_hidden_before_the_address_is_there() {
    for wanted in [wanted(Mode::Direct), wanted(Mode::Tunnel), by_director()] {
        let plan = Plan::new(&wanted).unwrap();
        let at = |of: fn(&Step) -> bool| plan.steps.iter().position(of).unwrap();
        let ignore = at(|step| matches!(step, Step::Sysctl { name, .. } if name == "arp_ignore"));
        assert!(ignore < at(|step| matches!(step, Step::Address { .. })), "{plan:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_option_that_is_missing() {
    let mut nat = wanted(Mode::Nat);
    nat.gateways.pop();
    assert_eq!(Plan::new(&nat), Err(PlanError::NoGateway(ip("2001:db8::100"))));
    nat.gateways = vec![ip("10.0.1.1"), ip("10.0.1.2")];
    assert!(matches!(Plan::new(&nat), Err(PlanError::TwoGateways(..))));
    let mut tun = by_director();
    tun.interface = None;
    assert_eq!(Plan::new(&tun), Err(PlanError::NoInterface));
    tun.interface = Some("eth0; reboot".to_owned());
    assert!(matches!(Plan::new(&tun), Err(PlanError::Name(_))));
    tun.interface = Some("eth0".to_owned());
    tun.unwrap = Unwrap::Director(Vec::new());
    assert_eq!(Plan::new(&tun), Err(PlanError::NoTunnelAddress));
    for address in ["0.0.0.0", "224.0.0.1", "127.0.0.1", "::", "ff02::1", "::1"] {
        let wrong = Wanted::new(Mode::Direct, vec![ip(address)]);
        assert_eq!(Plan::new(&wrong), Err(PlanError::Improper(ip(address))));
    }
    assert_eq!(Plan::new(&Wanted::new(Mode::Direct, vec![])), Err(PlanError::NoAddress));
    let mut unattached = wanted(Mode::Nat);
    unattached.interface = None;
    let plan = Plan::new(&unattached).unwrap();
    assert_eq!(plan.files(Format::Debian), Err(PlanError::RouteWithoutInterface));
    assert!(plan.files(Format::Commands).is_ok());
}

#[test]
fn a_dot_in_the_name_of_an_interface_is_a_slash_in_a_setting() {
    let mut wanted = wanted(Mode::Direct);
    wanted.interface = Some("eth0.100".to_owned());
    let plan = Plan::new(&wanted).unwrap();
    assert_eq!(plan.commands()[0], "sysctl -w net.ipv4.conf.eth0/100.arp_ignore=1");
}

/// A machine in memory: what there is of each matter, by the name of the matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    state: BTreeMap<String, String>,
    /// Calls that change something until one fails, and whether it is the last thing that happens.
    until: Option<(usize, Failure)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The kernel refuses that one call.
    Refused,
    /// The process is killed before it.
    Killed,
}

fn matter(step: &Step) -> (String, String) {
    match step {
        Step::Link { name, .. } => (format!("link {name}"), "up".to_owned()),
        Step::Sysctl { interface, name, value, .. } => (format!("{interface}.{name}"), value.clone()),
        Step::Address { interface, address } => (format!("{address} on {interface}"), "there".to_owned()),
        Step::Route { gateway, .. } => (format!("default of {}", gateway.is_ipv4()), gateway.to_string()),
    }
}

impl Model {
    /// Settings exist from the start, with other values.
    fn new(plans: &[&Plan]) -> Self {
        let mut model = Self::default();
        for step in plans.iter().flat_map(|plan| &plan.steps) {
            if let Step::Sysctl { .. } = step {
                model.state.insert(matter(step).0, "0".to_owned());
            }
        }
        model
    }

    fn count(&mut self) -> io::Result<()> {
        match &mut self.until {
            Some((0, Failure::Killed)) => Err(io::Error::other("killed")),
            Some((0, Failure::Refused)) => {
                self.until = None;
                Err(io::Error::other("refused"))
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Machine for Model {
    fn look(&mut self, step: &Step) -> io::Result<Now> {
        if let Some((0, Failure::Killed)) = self.until {
            return Err(io::Error::other("killed"));
        }
        let (key, value) = matter(step);
        Ok(match self.state.get(&key) {
            None => Now::Else(Before::Absent),
            Some(now) if *now == value => Now::AsWanted,
            Some(now) if now == "down" => Now::Else(Before::Down),
            Some(now) => Now::Else(Before::Value(now.clone())),
        })
    }

    fn apply(&mut self, step: &Step) -> io::Result<()> {
        self.count()?;
        let (key, value) = matter(step);
        self.state.insert(key, value);
        Ok(())
    }

    fn restore(&mut self, step: &Step, before: &Before) -> io::Result<()> {
        self.count()?;
        let key = matter(step).0;
        match before {
            Before::Absent => drop(self.state.remove(&key)),
            Before::Down => drop(self.state.insert(key, "down".to_owned())),
            Before::Value(value) | Before::Route(value) => drop(self.state.insert(key, value.clone())),
        }
        Ok(())
    }
}

/// A record in a folder of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("record")
    }

    fn record(&self) -> Record {
        Record::read(&self.path()).unwrap()
    }
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let mode = prop_oneof![Just(Mode::Direct), Just(Mode::Tunnel), Just(Mode::Nat)];
    (mode, 0..3_u8, any::<bool>(), any::<bool>()).prop_map(|(mode, gateway, v6, gre)| {
        let mut wanted = wanted(mode);
        if !v6 {
            wanted.addresses.pop();
        }
        if gre {
            wanted.unwrap = Unwrap::Gre;
        }
        if gateway > 0 {
            wanted.gateways = vec![IpAddr::from([10, 0, 1, gateway]), ip("2001:db8:1::fe")];
        }
        Plan::new(&wanted).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_put_up_and_wherever_it_was_cut_off_down_makes_it_as_it_was(
        plans in prop::collection::vec((any_plan(), prop::option::of(0..8_usize)), 1..4),
        cut_down in prop::option::of(0..8_usize),
        there in any::<bool>(),
    ) {
        let place = Place::new();
        let mut model = Model::new(&plans.iter().map(|(plan, _)| plan).collect::<Vec<_>>());
        if there {
            // Some of it was so before, and stays.
            let (key, value) = matter(plans[0].0.steps.last().unwrap());
            model.state.insert(key, value);
            model.state.insert("default of true".to_owned(), "10.0.1.99".to_owned());
        }
        let before = model.state.clone();
        for (plan, killed) in &plans {
            model.until = killed.map(|after| (after, Failure::Killed));
            let done = up(&plan.steps, &mut model, &mut place.record());
            let cut = model.until.take().is_some_and(|(left, _)| left == 0);
            prop_assert!(done.is_ok() || cut, "{done:?}");
        }
        if let Some(after) = cut_down {
            model.until = Some((after, Failure::Killed));
            let _ = down(&mut model, &mut place.record());
            model.until = None;
        }
        down(&mut model, &mut place.record()).unwrap();
        prop_assert_eq!(&model.state, &before);
        prop_assert!(!place.path().exists(), "the record is gone");
    }

    #[test]
    fn a_refusal_anywhere_leaves_the_machine_as_it_was(plan in any_plan(), at in 0..8_usize) {
        let place = Place::new();
        let mut model = Model::new(&[&plan]);
        let before = model.state.clone();
        model.until = Some((at, Failure::Refused));
        match up(&plan.steps, &mut model, &mut place.record()) {
            Ok(done) => prop_assert!(done.len() <= at),
            Err(RealServerError::Step { left, .. }) => {
                prop_assert!(left.is_empty());
                prop_assert_eq!(&model.state, &before);
                prop_assert!(!place.path().exists());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn a_second_up_changes_nothing_in_machine_and_record(plan in any_plan()) {
        let place = Place::new();
        let mut model = Model::new(&[&plan]);
        up(&plan.steps, &mut model, &mut place.record()).unwrap();
        let (state, text) = (model.state.clone(), std::fs::read(place.path()).unwrap());
        let done = up(&plan.steps, &mut model, &mut place.record()).unwrap();
        prop_assert!(done.iter().all(|of| matches!(of, Done::Already(_))), "{done:?}");
        prop_assert_eq!(&model.state, &state);
        prop_assert_eq!(std::fs::read(place.path()).unwrap(), text);
    }
}

#[test]
fn what_somebody_else_has_changed_since_is_left_to_them() {
    let place = Place::new();
    let plan = Plan::new(&wanted(Mode::Direct)).unwrap();
    let mut model = Model::new(&[&plan]);
    up(&plan.steps, &mut model, &mut place.record()).unwrap();
    model.state.insert("eth0.arp_ignore".to_owned(), "8".to_owned());
    model.state.remove("192.0.2.100 on lo");
    let undone = down(&mut model, &mut place.record()).unwrap();
    let how = |word: &str| undone.iter().find(|(step, _)| step.to_string().contains(word)).unwrap().1;
    assert_eq!(how("arp_ignore"), Undone::Left);
    assert_eq!(how("192.0.2.100"), Undone::NotThere);
    assert_eq!(how("arp_announce"), Undone::Restored);
    assert_eq!(model.state["eth0.arp_ignore"], "8");
}

#[test]
fn a_record_that_is_none_or_of_another_namespace_is_refused() {
    let place = Place::new();
    for text in ["", "{", "[]", r#"{"namespace":"net:[1]"}"#] {
        std::fs::write(place.path(), text).unwrap();
        assert!(matches!(Record::read(&place.path()), Err(RealServerError::File { .. })), "{text:?}");
    }
    std::fs::write(place.path(), r#"{"namespace":"net:[1]","changes":[]}"#).unwrap();
    assert!(matches!(Record::read(&place.path()), Err(RealServerError::Elsewhere { .. })));
}
