//! Differences that are meant to be.

use std::fs;
use std::path::Path;

use crate::play::Difference;

/// The list of deliberate differences.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Deliberate {
    /// Each of them.
    #[serde(default, rename = "difference")]
    pub differences: Vec<Entry>,
}

/// A step that is deliberately different.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Entry {
    /// The scenario's name.
    pub scenario: String,
    /// The step's number.
    pub step: u32,
    /// What is different: every sentence that the comparison says of this step.
    pub what: Vec<String>,
    /// The reason.
    pub why: String,
    /// Whether it is a frame that the recorded director's ordinary TCP/IP stack made, so nothing that IPVS does.
    #[serde(default)]
    pub host: bool,
}

impl Deliberate {
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

    /// What is left of a scenario's differences without the deliberate ones. One that did not happen is a difference
    /// too.
    #[must_use]
    pub fn excuse(&self, scenario: &str, differences: &[Difference]) -> Vec<Difference> {
        let mine = || self.differences.iter().filter(|entry| entry.scenario == scenario);
        let excused = |difference: &Difference| {
            mine().any(|entry| entry.step == difference.step && entry.what.contains(&difference.what))
        };
        let happened =
            |step: u32, what: &String| differences.iter().any(|d| d.step == step && d.what == *what);
        let left = differences.iter().filter(|difference| !excused(difference)).cloned();
        let missing = mine().flat_map(|entry| {
            entry.what.iter().filter(|what| !happened(entry.step, what)).map(|what| Difference {
                step: entry.step,
                what: format!("the deliberate difference \"{what}\" does not happen"),
            })
        });
        left.chain(missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_excused() {
        let list = "[[difference]]\nscenario = \"a\"\nstep = 2\nwhat = [\"x\", \"y\"]\nwhy = \"because\"\n";
        let list: Deliberate = toml::from_str(list).unwrap();
        let of = |step, what: &str| Difference { step, what: what.to_owned() };
        assert_eq!(list.excuse("a", &[of(2, "x"), of(2, "y")]), []);
        assert_eq!(list.excuse("a", &[of(2, "x"), of(2, "y"), of(3, "x")]), [of(3, "x")]);
        assert_eq!(list.excuse("b", &[of(2, "x")]), [of(2, "x")]);
        let missing = list.excuse("a", &[of(2, "x")]);
        assert_eq!(missing, [of(2, "the deliberate difference \"y\" does not happen")]);
    }
}
