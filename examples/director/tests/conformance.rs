//! Equal to the kernel: every recording of Linux's IPVS, on every store, one by one and in batches.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use lvs_director::replay::{Deliberate, Manner, Scenario, StoreKind, play};

/// Scenarios that are not equal yet. One that has become equal must be taken out.
const NOT_YET: &[&str] = &[
    "dr-frag-small",
    "dr-local",
    "dr6-frag",
    "ftp-epsv-ct0",
    "ftp-epsv-ct1",
    "ftp-pasv-ct1",
    "ftp-pasv-seq-ct0",
    "ftp-port-ct0",
    "nat-frag-in",
    "nat-frag-out",
    "nat-icmp-unrelated",
    "nat6-frag",
    "pe-sip",
    "pe-sip-ops",
    "sync-backup-v0",
    "sync-backup-v6",
    "sync-master-all",
    "sync-master-v0",
    "sync-master-v6",
    "tun-decap-in",
    "tun-ipip-frag",
];

#[test]
fn every_recording_is_reproduced() {
    let deliberate = Deliberate::load(&folder().join("deliberate.toml")).unwrap();
    assert!(deliberate.differences.len() <= 5, "few things may be deliberate");
    let (mut report, mut equal, mut frames) = (Vec::new(), 0, 0);
    let scenarios = scenarios();
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
        match (differences.is_empty(), NOT_YET.contains(&scenario.name.as_str())) {
            (true, true) => report.push(format!("{}: is equal now: take it out of NOT_YET", scenario.name)),
            (false, false) => report.extend(differences.into_iter().take(SHOWN)),
            (true, false) | (false, true) => {}
        }
    }
    // Past the capture of tests: this is how far the project is.
    writeln!(io::stderr(), "{equal} of {} scenarios are equal, {frames} frames", scenarios.len()).unwrap();
    for name in NOT_YET {
        assert!(scenarios.iter().any(|scenario| scenario.name == *name), "there is no scenario {name}");
    }
    for entry in &deliberate.differences {
        assert!(scenarios.iter().any(|scenario| scenario.name == entry.scenario), "{}", entry.scenario);
    }
    assert!(scenarios.len() >= 167, "recordings are missing: {}", scenarios.len());
    assert!(report.is_empty(), "\n{}", report.join("\n"));
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
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance")
}

/// How many differences of one scenario are shown.
const SHOWN: usize = 8;
