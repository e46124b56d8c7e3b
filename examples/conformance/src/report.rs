//! The comparison as a document: what the recordings show, and with what result.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::deliberate::Deliberate;
use crate::fields::fields;
use crate::scenario::{Action, Expected, Scenario};

/// What the recordings show.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Behaviours {
    /// Each behaviour. The document has them in the order of their sections' numbers.
    #[serde(rename = "behaviour")]
    pub behaviours: Vec<Behaviour>,
    /// Fields that are not compared, because Linux chooses them anew in every boot.
    #[serde(default, rename = "chance")]
    pub chances: Vec<Chance>,
}

/// A behaviour and the scenarios that show it.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Behaviour {
    /// The heading that it stands below.
    pub section: String,
    /// What it is.
    pub what: String,
    /// Names of scenarios.
    pub scenarios: Vec<String>,
}

/// A field that is not compared.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Chance {
    /// The field, as differences name it.
    pub field: String,
    /// Why.
    pub why: String,
}

/// What became of a scenario in all manners of playing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the document must name each")]
pub enum Verdict {
    /// Equal.
    Equal,
    /// Equal but for deliberate differences.
    Deliberate,
    /// Equal but for frames that the host made.
    Host,
    /// Different.
    Different,
}

impl Behaviours {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// A sentence with the file's name.
    pub fn load(file: &Path) -> Result<Self, String> {
        let name = file.display();
        let text = fs::read_to_string(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
        toml::from_str(&text).map_err(|error| format!("{name}: {error}"))
    }

    /// Names that are in no row, or in a row without being a scenario, and fields that are not compared without a
    /// reason.
    #[must_use]
    pub fn faults(&self, scenarios: &[Scenario]) -> Vec<String> {
        let listed: BTreeSet<&str> =
            self.behaviours.iter().flat_map(|row| &row.scenarios).map(String::as_str).collect();
        let there: BTreeSet<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        let mut faults: Vec<String> =
            there.difference(&listed).map(|name| format!("no behaviour names the scenario {name}")).collect();
        faults.extend(listed.difference(&there).map(|name| format!("there is no scenario {name}")));
        for field in masked(scenarios).keys() {
            if !self.chances.iter().any(|chance| chance.field == *field) {
                faults.push(format!("it is not said why {field} is not compared"));
            }
        }
        faults
    }

    /// The document.
    #[must_use]
    pub fn describe(
        &self,
        scenarios: &[Scenario],
        results: &BTreeMap<String, Verdict>,
        deliberate: &Deliberate,
    ) -> String {
        let count = |verdict| results.values().filter(|&&result| result == verdict).count();
        let (frames, expected) =
            scenarios.iter().map(counts).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let mut text = format!(
            "# Equal to the kernel\n\n\
             Written by the test run; do not edit. \
             `UPDATE_CONFORMANCE=1 cargo test -p lvs-conformance --test conformance` writes it anew.\n\n\
             {} scenarios were recorded from Linux 6.1.192 ([how](../examples/conformance/README.md)) and are played \
             through this director, on both stores, frame by frame and in batches: \
             {frames} frames in, {expected} out.\n\n\
             | | scenarios |\n|---|---|\n| equal | {} |\n",
            scenarios.len(),
            count(Verdict::Equal),
        );
        for (what, verdict) in [
            ("equal but for [deliberate differences](#deliberate-differences)", Verdict::Deliberate),
            ("equal but for [frames of the host](#frames-of-the-host)", Verdict::Host),
            ("**different**", Verdict::Different),
        ] {
            if count(verdict) > 0 {
                text.push_str(&format!("| {what} | {} |\n", count(verdict)));
            }
        }
        let mut section = "";
        let mut rows: Vec<&Behaviour> = self.behaviours.iter().collect();
        rows.sort_by_key(|row| number(&row.section));
        for row in rows {
            if row.section != section {
                section = &row.section;
                text.push_str(&format!(
                    "\n## {section}\n\n| behaviour | shown by | result |\n|---|---|---|\n"
                ));
            }
            text.push_str(&format!(
                "| {} | {} | {} |\n",
                row.what,
                names(&row.scenarios),
                result(row, results)
            ));
        }
        text.push_str("\n## Deliberate differences\n\n");
        text.push_str(&listed(deliberate, false));
        if deliberate.differences.iter().any(|entry| entry.host) {
            text.push_str(
                "\n## Frames of the host\n\nWhat the recorded director's ordinary TCP/IP stack said \
                 is nothing that IPVS does.\n\n",
            );
            text.push_str(&listed(deliberate, true));
        }
        text.push_str(
            "\n## What is not compared\n\n\
             Linux chooses these anew in every boot, so their bits are left out where a second recording \
             had others.\n\n| field | in frames | |\n|---|---|---|\n",
        );
        for (field, frames) in masked(scenarios) {
            let why = self.chances.iter().find(|chance| chance.field == field);
            text.push_str(&format!("| {field} | {frames} | {} |\n", why.map_or("", |chance| &chance.why)));
        }
        text
    }
}

/// The deliberate differences as a table: those of frames that the host made, or the others.
fn listed(deliberate: &Deliberate, host: bool) -> String {
    let mut text = String::from("| scenario, step | what | why |\n|---|---|---|\n");
    for entry in deliberate.differences.iter().filter(|entry| entry.host == host) {
        let (scenario, step, what) = (&entry.scenario, entry.step, entry.what.join("; "));
        text.push_str(&format!("| `{scenario}`, {step} | {what} | {} |\n", entry.why));
    }
    text
}

/// The numbers that a heading begins with.
fn number(section: &str) -> Vec<u32> {
    let numbers = section.split(' ').next().unwrap_or_default();
    numbers.split('.').map(|part| part.parse().unwrap_or(u32::MAX)).collect()
}

fn names(scenarios: &[String]) -> String {
    scenarios.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ")
}

/// The result of a row: that of all its scenarios, or which are not equal.
fn result(row: &Behaviour, results: &BTreeMap<String, Verdict>) -> String {
    let of = |verdict: Verdict| -> Vec<String> {
        let has = |name: &&String| results.get(*name) == Some(&verdict);
        row.scenarios.iter().filter(has).map(|name| format!("`{name}`")).collect()
    };
    let (different, deliberate) = (of(Verdict::Different), of(Verdict::Deliberate));
    let mut words = Vec::new();
    if !different.is_empty() {
        words.push(format!("**different**: {}", different.join(" ")));
    }
    let host = of(Verdict::Host);
    if !host.is_empty() {
        words.push(format!("equal but for the host's frames: {}", host.join(" ")));
    }
    if !deliberate.is_empty() {
        words.push(format!("deliberately different: {}", deliberate.join(" ")));
    }
    if words.is_empty() { "equal".to_owned() } else { words.join("; ") }
}

/// Frames in and out.
fn counts(scenario: &Scenario) -> (usize, usize) {
    let frames = scenario.steps.iter().filter(|step| matches!(step.action, Action::Frame { .. })).count();
    (frames, expected(scenario).count())
}

fn expected(scenario: &Scenario) -> impl Iterator<Item = &Expected> {
    scenario.steps.iter().flat_map(|step| match &step.action {
        Action::Frame { out, .. } | Action::Sleep { out, .. } => out.as_slice(),
        Action::Ipvsadm { .. } | Action::Listing {} | Action::Snap { .. } | Action::Sysctl { .. } => &[],
    })
}

/// Fields with bits that are not compared, and in how many frames.
fn masked(scenarios: &[Scenario]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for frame in scenarios.iter().flat_map(expected) {
        let Some(mask) = &frame.mask else { continue };
        let free = |at: usize| mask.0.get(at).is_some_and(|&bits| bits != 0xff);
        let names = fields(&frame.hex.0).into_iter().filter(|field| field.range.clone().any(free));
        for name in names.map(|field| field.name).collect::<BTreeSet<_>>() {
            *counts.entry(name).or_default() += 1;
        }
    }
    counts
}
