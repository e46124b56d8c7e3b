//! The check finds what is planted, and names its line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use layering::{Layers, Violation, check};

/// A crate in a folder of its own, which goes with it.
struct Planted(PathBuf);

impl Planted {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("layering-{}-{name}", std::process::id()));
        for (file, text) in files {
            let path = folder.join("src").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn check(&self, layers: &[&[&str]]) -> Vec<Violation> {
        check(Layers { folder: &self.0, layers }).expect("it can be read")
    }

    fn texts(&self, layers: &[&[&str]]) -> Vec<String> {
        let source = format!("{}/", self.0.join("src").display());
        self.check(layers).iter().map(|violation| violation.to_string().replace(&source, "")).collect()
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_circle_is_found_with_its_lines_also_behind_a_re_export() {
    let planted = Planted::new(
        "circle",
        &[
            ("lib.rs", "mod low;\nmod high;\npub use high::High;\n"),
            (
                "low.rs",
                "//! Low.\n\nuse crate::High;\npub(crate) struct Low(pub(crate) Option<Box<High>>);\n",
            ),
            ("high.rs", "use crate::low::Low;\npub struct High(Low);\n"),
        ],
    );
    let found = planted.texts(&[]);
    assert_eq!(
        found,
        ["circle in the crate among high, low\n  high.rs:1: high uses low\n  low.rs:3: low uses high"]
    );
}

#[test]
fn a_circle_of_folders_is_one_and_a_parent_with_its_children_is_none() {
    let planted = Planted::new(
        "folders",
        &[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a/mod.rs", "mod one;\nmod two;\npub(crate) use one::One;\npub(crate) struct A(One);\n"),
            ("a/one.rs", "use super::A;\npub(crate) struct One;\nimpl A { fn f(&self) {} }\n"),
            ("a/two.rs", "pub(crate) fn two() { crate::b::b() }\n"),
            ("b.rs", "pub(crate) fn b() { let _ = core::mem::size_of::<crate::a::One>(); }\n"),
        ],
    );
    let found = planted.texts(&[]);
    assert_eq!(
        found,
        ["circle in the crate among a, b\n  a/two.rs:1: a::two uses b\n  b.rs:1: b uses a::one"]
    );
}

#[test]
fn a_use_that_points_up_is_found_also_by_way_of_a_module_without_a_layer() {
    let planted = Planted::new(
        "up",
        &[
            ("lib.rs", "mod sys;\nmod between;\nmod worker;\n#[cfg(test)]\nmod tests { use super::*; }\n"),
            ("sys.rs", "use crate::between::Between;\npub(crate) struct Sys(Between);\n"),
            ("between.rs", "\nuse crate::worker;\npub(crate) struct Between(worker::Worker);\n"),
            ("worker.rs", "pub(crate) struct Worker;\n"),
        ],
    );
    assert_eq!(planted.texts(&[]), [""; 0], "no circle");
    let found = planted.texts(&[&["sys"], &["worker"]]);
    let expected = [
        "between is below worker, or beside it, and uses it\n  between.rs:2: between uses worker",
        "sys is below worker, or beside it, and uses it\n  sys.rs:1: sys uses between\n  \
         between.rs:2: between uses worker",
    ];
    assert_eq!(found, expected);
    assert_eq!(planted.texts(&[&["worker"], &["sys"]]), [""; 0], "the other way round it is none");
}

#[test]
fn tests_may_use_what_they_like() {
    let planted = Planted::new(
        "tests",
        &[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "pub(crate) struct A;\n#[cfg(test)]\nmod tests { use crate::b::B; }\n"),
            ("b.rs", "use crate::a::A;\npub(crate) struct B(A);\n"),
        ],
    );
    assert_eq!(planted.texts(&[&["a"], &["b"]]), [""; 0]);
}

#[test]
fn a_layer_that_is_not_there_is_an_error() {
    let planted = Planted::new("missing", &[("lib.rs", "mod a;\nmod b;\n"), ("a.rs", ""), ("b.rs", "")]);
    assert!(check(Layers { folder: Path::new(&planted.0), layers: &[&["c"]] }).is_err());
}
