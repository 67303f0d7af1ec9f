//! Finds a series that is in an exposition twice: Prometheus then drops one of them, unseen.

use std::collections::HashSet;

use prometheus::proto::MetricFamily;

/// The first series of a family that is there twice, as text.
#[must_use]
pub fn find(family: &MetricFamily) -> Option<String> {
    let mut series = HashSet::new();
    for metric in family.get_metric() {
        let mut labels: Vec<_> = (metric.get_label().iter())
            .map(|pair| (pair.name(), pair.value()))
            .collect();
        labels.sort_unstable();
        if !series.insert(labels.clone()) {
            return Some(format!("{}{labels:?}", family.name()));
        }
    }
    None
}
