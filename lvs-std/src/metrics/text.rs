//! Prometheus's text format.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder as _, TextEncoder};

use super::families::{Families, Family, Kind, Sample};

pub(super) fn encode(families: &Families) -> String {
    let families: Vec<MetricFamily> = families.0.iter().map(|(name, of)| family(name, of)).collect();
    let mut text = Vec::new();
    // Families without a sample are what it refuses, and there are none. Writing to memory does not fail.
    let _ = TextEncoder::new().encode(&families, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

fn family(name: &str, of: &Family) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(of.help.clone());
    family.set_field_type(match of.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
    });
    family.set_metric(of.samples.iter().map(|sample| metric(of.kind, sample)).collect());
    family
}

fn metric(kind: Kind, sample: &Sample) -> Metric {
    let mut metric = Metric::default();
    match kind {
        Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(sample.value);
            metric.set_counter(counter);
        }
        Kind::Gauge => {
            let mut gauge = Gauge::default();
            gauge.set_value(sample.value);
            metric.set_gauge(gauge);
        }
    }
    let pairs = sample.labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    });
    metric.set_label(pairs.collect());
    metric
}
