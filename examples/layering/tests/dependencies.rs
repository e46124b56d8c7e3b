//! How many crates of others a program takes in with each of the three libraries, and which ones it does not.

use std::collections::BTreeSet;
use std::process::Command;

/// The crates of others that a program has with this one, by name and version, however they came.
fn foreign(package: &str, arguments: &[&str]) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--package", package])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).expect("cargo writes UTF-8");
    // A line is `name v1.2.3`, with a path, `(proc-macro)` or `(*)` behind it.
    let crates = lines.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
    let (own, foreign): (BTreeSet<_>, _) = crates.partition(|name| name.starts_with("lvs-"));
    assert!(own.iter().any(|name| name.starts_with(package)), "{lines}");
    foreign
}

#[track_caller]
fn assert_at_most(most: usize, package: &str, arguments: &[&str]) {
    let foreign = foreign(package, arguments);
    assert!(foreign.len() <= most, "{package} has {}, and may have {most}: {foreign:#?}", foreign.len());
}

#[test]
fn lvs_core_takes_at_most_five_crates_and_without_an_allocator_four() {
    assert_at_most(5, "lvs-core", &[]);
    assert_at_most(4, "lvs-core", &["--no-default-features"]);
}

#[test]
fn lvs_forward_takes_at_most_nine_crates() {
    assert_at_most(9, "lvs-forward", &[]);
}

#[test]
fn lvs_std_without_features_takes_at_most_25_crates() {
    assert_at_most(25, "lvs-std", &["--no-default-features"]);
}

#[test]
fn netlink_signals_tls_and_digests_come_with_the_features_that_need_them() {
    let bare = foreign("lvs-std", &["--no-default-features"]);
    for (feature, crates) in [
        ("links", ["netlink-sys", "netlink-packet-route"].as_slice()),
        ("signals", &["signal-hook"]),
        ("health", &["httparse", "md-5", "sha2"]),
        ("health-tls", &["rustls", "rustls-native-certs"]),
        ("config", &["toml", "serde"]),
        ("runtime", &["serde_json", "tracing"]),
    ] {
        let with = foreign("lvs-std", &["--no-default-features", "--features", feature]);
        for name in crates {
            let is_in = |set: &BTreeSet<String>| set.iter().any(|of| of.split(' ').next() == Some(name));
            assert!(!is_in(&bare), "{name} comes without any feature");
            assert!(is_in(&with), "{name} does not come with {feature}: is this list up to date?");
        }
    }
}
