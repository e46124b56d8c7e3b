//! Room for the state file.

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;

/// Without room, commands to the director are refused.
pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let Some((folder, free)) = patient.disk.as_ref().filter(|(_, free)| *free < ENOUGH) else {
        return Vec::new();
    };
    let what = format!(
        "{free} bytes are free in {}, where the director keeps its state: commands will be refused",
        folder.display()
    );
    vec![Finding::error("disk", what, "make room there, or keep the state elsewhere by --state FILE")]
}

/// Bytes for a state file of some thousand servers, twice: the new one is written beside the old one.
const ENOUGH: u64 = 1 << 20;
