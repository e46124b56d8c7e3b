//! Families as they are put together.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder as _, TextEncoder};

/// A label's name and value.
pub(super) type Label = (&'static str, String);

/// Families with their samples.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

impl Families {
    /// A family of numbers that only grow.
    pub(super) fn counters<L: AsRef<[Label]>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) {
        self.add(name, help, MetricType::COUNTER, samples);
    }

    /// A family of numbers that come and go.
    pub(super) fn gauges<L: AsRef<[Label]>>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) {
        self.add(name, help, MetricType::GAUGE, samples);
    }

    fn add<L: AsRef<[Label]>>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) {
        let metrics: Vec<Metric> =
            samples.into_iter().map(|(labels, value)| metric(kind, labels.as_ref(), value)).collect();
        // The format has no word for a family without samples.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// All of them, in Prometheus's text format.
    pub(super) fn text(&self) -> String {
        let mut text = Vec::new();
        // Families without a sample are what it refuses, and there are none. Writing to memory does not fail.
        let _ = TextEncoder::new().encode(&self.0, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

fn metric(kind: MetricType, labels: &[Label], value: f64) -> Metric {
    let mut metric = Metric::default();
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric.set_label(labels.iter().map(pair).collect());
    metric
}

fn pair((name, value): &Label) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name((*name).to_owned());
    pair.set_value(value.clone());
    pair
}
