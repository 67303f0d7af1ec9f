//! What a metric family is: described once, for the scrape, for HELP and for docs/metrics.md.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use tracker_ebpf::BUCKETS;

use super::facts::{Availability, Exactness, Signal};
use super::scrape::Scrape;

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name, with `_total` on counters.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What one is.
    pub unit: &'static str,
    /// Names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence or two.
    pub help: &'static str,
    /// Where the number comes from: kernel functions or files.
    pub source: &'static str,
    /// How exact it is where its hooks are attached.
    pub exactness: &'static str,
    /// A question it answers, in PromQL.
    pub example: &'static str,
    /// What must be counted for it; none for what does not depend on hooks.
    pub signals: fn() -> Vec<Signal>,
    /// Its samples.
    pub samples: fn(&Scrape, &mut Samples),
}

/// Type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never goes down while its series is there.
    Counter,
    /// What is now.
    Gauge,
    /// How long things took.
    Histogram,
}

impl Kind {
    /// The word after `# TYPE`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    const fn proto(self) -> MetricType {
        match self {
            Self::Counter => MetricType::COUNTER,
            Self::Gauge => MetricType::GAUGE,
            Self::Histogram => MetricType::HISTOGRAM,
        }
    }
}

impl Family {
    /// The family with its samples; `None` without any: what is not counted is not exported.
    pub(super) fn gather(&self, scrape: &Scrape) -> Option<MetricFamily> {
        let signals = (self.signals)();
        let available = &scrape.facts.availability;
        if !signals.is_empty() && !signals.iter().any(|signal| available.has(*signal)) {
            return None;
        }
        let mut samples = Samples {
            kind: self.kind,
            metrics: Vec::new(),
        };
        (self.samples)(scrape, &mut samples);
        if samples.metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help_text(available));
        family.set_field_type(self.kind.proto());
        family.set_metric(samples.metrics);
        Some(family)
    }

    /// HELP: meaning, unit, source, and what is estimated or absent here.
    #[must_use]
    pub fn help_text(&self, available: &Availability) -> String {
        let mut help = format!(
            "{} Unit: {}. Source: {}.",
            self.help, self.unit, self.source
        );
        for signal in (self.signals)() {
            match available.get(signal) {
                Exactness::Exact => {}
                Exactness::Estimated(reason) => {
                    help.push_str(&format!(" Estimated here: {signal} ({reason})."));
                }
                Exactness::Absent => help.push_str(&format!(" Not counted here: {signal}.")),
            }
        }
        help
    }
}

/// The samples of one family, as they are collected.
#[derive(Debug)]
pub struct Samples {
    kind: Kind,
    metrics: Vec<Metric>,
}

impl Samples {
    /// Adds a value with the labels of its row and some more.
    pub(super) fn add<const N: usize>(
        &mut self,
        row: &[LabelPair],
        further: [(&str, &str); N],
        value: f64,
    ) {
        let mut labels = Vec::with_capacity(row.len() + N);
        labels.extend_from_slice(row);
        labels.extend(further.map(|(name, value)| super::label::pair(name, value)));
        let mut metric = Metric::from_label(labels);
        if self.kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    /// Adds a count.
    #[allow(
        clippy::cast_precision_loss,
        reason = "the text format knows only doubles"
    )]
    pub(super) fn count<const N: usize>(
        &mut self,
        row: &[LabelPair],
        further: [(&str, &str); N],
        value: u64,
    ) {
        self.add(row, further, value as f64);
    }

    /// Adds durations.
    pub(super) fn histogram(&mut self, durations: &tracker_ebpf::TimeHistogram) {
        let mut histogram = Histogram::default();
        let mut cumulative = 0_u64;
        let mut buckets = Vec::with_capacity(BUCKETS);
        for (n, in_bucket) in durations.buckets.iter().enumerate() {
            cumulative = cumulative.saturating_add(*in_bucket);
            if n < BUCKETS {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(upper_bound(n));
                bucket.set_cumulative_count(cumulative);
                buckets.push(bucket);
            }
        }
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative);
        histogram.set_sample_sum(seconds(durations.sum_ns));
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }
}

/// Upper bound of a bucket in seconds: `1e-6 * 4^n`, divided last so that it prints short.
#[allow(
    clippy::cast_precision_loss,
    reason = "at most 4^12, which a double holds"
)]
fn upper_bound(n: usize) -> f64 {
    (1_u64 << (2 * n)) as f64 / 1e6
}

/// Nanoseconds as seconds.
#[allow(
    clippy::cast_precision_loss,
    reason = "exact up to 104 days, then to some nanoseconds"
)]
pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
