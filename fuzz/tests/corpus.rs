//! Every committed input of every target, once more, without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        println!("{}", path.display());
        target(&input);
        count += 1;
    }
    assert!(count >= 5, "{} has only {count} inputs", folder.display());
}

#[test]
fn director_corpus_replays() {
    replay("director", lvs_fuzz::director);
}

#[test]
fn backup_corpus_replays() {
    replay("backup", lvs_fuzz::backup);
}

#[test]
fn batch_corpus_replays() {
    replay("batch", lvs_fuzz::batch);
}

#[test]
fn control_corpus_replays() {
    replay("control", lvs_fuzz::control);
}

#[test]
fn decap_corpus_replays() {
    replay("decap", lvs_fuzz::decap);
}

#[test]
fn host_corpus_replays() {
    replay("host", lvs_fuzz::host_on_the_wire);
}

#[test]
fn parse_corpus_replays() {
    replay("parse", lvs_fuzz::parse);
}

#[test]
fn transform_corpus_replays() {
    replay("transform", lvs_fuzz::transform);
}

#[test]
fn ftp_corpus_replays() {
    replay("ftp", lvs_fuzz::ftp);
}

#[test]
fn sip_corpus_replays() {
    replay("sip", lvs_fuzz::sip);
}

#[test]
fn sync_corpus_replays() {
    replay("sync", lvs_fuzz::sync);
}

#[test]
fn fragments_corpus_replays() {
    replay("fragments", lvs_fuzz::fragments);
}

#[test]
fn helper_corpus_replays() {
    replay("helper", lvs_fuzz::helper);
}

#[test]
fn icmp_corpus_replays() {
    replay("icmp", lvs_fuzz::icmp);
}

#[test]
fn json_corpus_replays() {
    replay("json", lvs_fuzz::json);
}

#[test]
fn rules_corpus_replays() {
    replay("rules", lvs_fuzz::rules);
}

#[test]
fn http_corpus_replays() {
    replay("http", lvs_fuzz::http);
}

#[test]
fn journal_corpus_replays() {
    replay("journal", lvs_fuzz::journal);
}

#[test]
fn offload_corpus_replays() {
    replay("offload", lvs_fuzz::offload);
}

#[test]
fn steering_corpus_replays() {
    replay("steering", lvs_fuzz::steering);
}
