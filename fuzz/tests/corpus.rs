//! Every committed input of every target, once more, without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lvs_fuzz::{TARGETS, Target};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The names in a folder, without what follows a dot.
fn names_in(path: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(path).unwrap();
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Says which input it was, if the target panics.
struct Named<'a>(&'a Path);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.display());
        }
    }
}

fn replay(name: &str, target: Target) {
    let folder = folder("corpus").join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        let named = Named(&path);
        target(&input);
        drop(named);
        count += 1;
    }
    assert!(count >= 5, "{} has only {count} inputs", folder.display());
}

#[test]
fn every_corpus_replays() {
    // Two halves, since there are two processors where this runs at least.
    std::thread::scope(|scope| {
        for part in TARGETS.chunks(TARGETS.len().div_ceil(2)) {
            scope.spawn(|| part.iter().for_each(|(name, target)| replay(name, *target)));
        }
    });
}

#[test]
fn every_target_has_a_corpus_and_a_binary() {
    let mut named: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(named.len(), TARGETS.len(), "a name stands for two targets");
    assert_eq!(names_in(&folder("corpus")), named);
    named.insert("gate".to_owned());
    assert_eq!(names_in(&folder("fuzz_targets")), named);
    let manifest = include_str!("../Cargo.toml");
    let binaries = manifest.split("[[bin]]").skip(1).filter_map(|section| section.split('"').nth(1));
    assert_eq!(binaries.map(str::to_owned).collect::<BTreeSet<_>>(), named);
}
