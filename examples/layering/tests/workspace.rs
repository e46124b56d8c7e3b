//! The layers of the three libraries. `cargo test -p layering` says what is wrong, with file and line.

use std::path::Path;

use layering::{Layers, check};

/// Layers go from the lowest to the highest. The last one of a crate is used by nobody. A new module needs no entry
/// here.
#[track_caller]
fn assert_layered(name: &str, layers: &[&[&str]]) {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there");
    let violations = check(Layers { folder: &workspace.join(name), layers }).expect("its source can be read");
    let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "{name}:\n{}\n", texts.join("\n\n"));
}

#[test]
fn lvs_core_uses_nothing_above() {
    assert_layered("lvs-core", &[&["model"], &["conntrack"], &["store"], &["director"]]);
}

#[test]
fn lvs_forward_uses_nothing_above() {
    assert_layered(
        "lvs-forward",
        &[&["frame"], &["parse"], &["icmp"], &["host"], &["forwarder"], &["engine"]],
    );
}

#[test]
fn lvs_std_uses_nothing_above() {
    assert_layered(
        "lvs-std",
        &[&["sys"], &["bpf"], &["device"], &["offload"], &["worker"], &["ownership"], &["control"], &["lab"]],
    );
}
