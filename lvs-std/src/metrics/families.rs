//! Families as they are put together.

use std::collections::BTreeMap;

/// A label's name and value.
pub(super) type Label = (&'static str, String);

/// Numbers of one kind, told apart by labels.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Family {
    /// What the numbers are, in words.
    pub help: String,
    /// Whether they only grow.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The numbers.
    pub samples: Vec<Sample>,
}

/// What numbers of a [`Family`] do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "Prometheus's two kinds of plain numbers")]
pub enum Kind {
    /// The numbers only grow.
    Counter,
    /// The numbers come and go.
    Gauge,
}

/// A number of a [`Family`].
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// Labels by their names.
    pub labels: BTreeMap<&'static str, String>,
    /// The number.
    pub value: f64,
}

/// Families by their names, in the order in which they are told.
#[derive(Default)]
pub(super) struct Families(pub(super) Vec<(String, Family)>);

impl Families {
    /// A family of numbers that only grow.
    pub(super) fn counters<L: AsRef<[Label]>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) {
        self.add(name, help, Kind::Counter, samples);
    }

    /// A family of numbers that come and go.
    pub(super) fn gauges<L: AsRef<[Label]>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) {
        self.add(name, help, Kind::Gauge, samples);
    }

    fn add<L: AsRef<[Label]>>(
        &mut self,
        name: &str,
        help: &str,
        kind: Kind,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) {
        let samples: Vec<Sample> = samples
            .into_iter()
            .map(|(labels, value)| Sample { labels: labels.as_ref().iter().cloned().collect(), value })
            .collect();
        // Prometheus's text has no word for a family without samples.
        if !samples.is_empty() {
            self.0.push((name.to_owned(), Family { help: help.to_owned(), kind, samples }));
        }
    }
}
