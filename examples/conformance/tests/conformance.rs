//! Equal to the kernel: every recording of Linux's IPVS, on every store, one by one and in batches.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use lvs_conformance::{Action, Behaviours, Deliberate, Manner, Scenario, StoreKind, Verdict, play};

#[test]
fn every_recording_is_reproduced() {
    let deliberate = Deliberate::load(&folder().join("deliberate.toml")).unwrap();
    let own = deliberate.differences.iter().filter(|entry| !entry.host);
    let own: BTreeSet<&str> = own.map(|entry| entry.scenario.as_str()).collect();
    assert!(own.len() <= 5, "few things may be deliberate");
    let not_yet = not_yet();
    let (mut report, mut equal, mut frames) = (Vec::new(), 0, 0);
    let scenarios = scenarios();
    let mut results = BTreeMap::new();
    for scenario in &scenarios {
        let mut differences = Vec::new();
        for manner in manners() {
            let played = play(scenario, manner);
            let left = match &played {
                Ok(played) => deliberate.excuse(&scenario.name, &played.differences),
                Err(error) => {
                    differences.push(format!("{}: cannot be played: {error}", scenario.name));
                    break;
                }
            };
            frames += played.map_or(0, |played| played.frames);
            let name =
                |what| format!("{} ({:?}, batches of {}): {what}", scenario.name, manner.store, manner.batch);
            differences.extend(left.iter().map(|left| name(format!("step {}: {}", left.step, left.what))));
        }
        equal += usize::from(differences.is_empty());
        let mut meant =
            deliberate.differences.iter().filter(|entry| entry.scenario == scenario.name).peekable();
        let verdict = match (differences.is_empty(), meant.peek().is_some()) {
            (true, false) => Verdict::Equal,
            (true, true) if meant.all(|entry| entry.host && is_by_host(scenario, entry.step)) => {
                Verdict::Host
            }
            (true, true) => Verdict::Deliberate,
            (false, _) => Verdict::Different,
        };
        results.insert(scenario.name.clone(), verdict);
        match (differences.is_empty(), not_yet.contains(&scenario.name)) {
            (true, true) => report
                .push(format!("{}: is equal now: it stands in not-yet.txt no more {UPDATE}", scenario.name)),
            (false, false) => report.extend(differences.into_iter().take(SHOWN)),
            (true, false) | (false, true) => {}
        }
    }
    // Past the capture of tests: this is how far the project is.
    writeln!(io::stderr(), "{equal} of {} scenarios are equal, {frames} frames", scenarios.len()).unwrap();
    if updates() {
        let left = not_yet.iter().filter(|name| results.get(*name) == Some(&Verdict::Different));
        fs::write(folder().join("not-yet.txt"), left.map(|name| format!("{name}\n")).collect::<String>())
            .unwrap();
        report.retain(|line| !line.ends_with(UPDATE));
    }
    for name in &not_yet {
        assert!(results.contains_key(name), "not-yet.txt: there is no scenario {name}");
    }
    for entry in &deliberate.differences {
        assert!(scenarios.iter().any(|scenario| scenario.name == entry.scenario), "{}", entry.scenario);
    }
    assert!(scenarios.len() >= 167, "recordings are missing: {}", scenarios.len());
    assert!(report.is_empty(), "\n{}", report.join("\n"));
    let behaviours = Behaviours::load(&folder().join("behaviours.toml")).unwrap();
    let faults = behaviours.faults(&scenarios);
    assert!(faults.is_empty(), "examples/conformance/behaviours.toml:\n{}", faults.join("\n"));
    hold(&behaviours.describe(&scenarios, &results, &deliberate));
}

/// Whether all that a step is expected to send was made by the host.
fn is_by_host(scenario: &Scenario, number: u32) -> bool {
    let step = scenario.steps.iter().find(|step| step.number == number).unwrap();
    matches!(&step.action, Action::Frame { out, .. } if !out.is_empty() && out.iter().all(|frame| frame.host == 1))
}

/// Holds the document to what it should be, or writes it.
fn hold(text: &str) {
    let file = folder().join("../../docs/conformance.md");
    if updates() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    assert!(there == text, "docs/conformance.md is old {UPDATE}");
}

/// Whether what depends on the results is to be written anew.
fn updates() -> bool {
    std::env::var_os("UPDATE_CONFORMANCE").is_some()
}

/// Scenarios that are not equal yet. The list only gets shorter: one that has become equal is a failure too.
fn not_yet() -> Vec<String> {
    fs::read_to_string(folder().join("not-yet.txt")).unwrap().lines().map(str::to_owned).collect()
}

/// All scenarios, by name.
fn scenarios() -> Vec<Scenario> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(folder().join("scenarios")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders.iter().map(|folder| Scenario::load(folder).unwrap()).collect()
}

/// Every store, one by one and in batches.
fn manners() -> impl Iterator<Item = Manner> {
    [StoreKind::Heap, StoreKind::Fixed]
        .into_iter()
        .flat_map(|store| [1, 3, 64].map(|batch| Manner::default().with_store(store).with_batch(batch)))
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// How to write it anew.
const UPDATE: &str = "(UPDATE_CONFORMANCE=1 cargo test -p lvs-conformance --test conformance)";
/// How many differences of one scenario are shown.
const SHOWN: usize = 8;
