//! What a metric family is: described once, for the scrape, for HELP and for docs/metrics.md.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use tracker_ebpf::{BUCKETS, TimeHistogram};

use super::label::pair;
use super::labelled::{LabelledRows, ProcessLine, VmaLine};
use super::rows::{ScrapeRows, TrackingRows};
use super::tracked::TrackedField;
use crate::model::SeriesView;
use crate::probes::{CountAvailability, CountExactness, CountSignal};

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct FamilySpec {
    /// Its name, with `_total` on counters.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: FamilyKind,
    /// What one unit of it is.
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
    /// What hooks must count for it; empty for what does not depend on hooks.
    pub signals: &'static [CountSignal],
    /// Which rows it has, and how its samples are read off them.
    pub(super) rows: FamilyRows,
}

/// Type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// Never goes down while its series is there.
    Counter,
    /// The state of things now.
    Gauge,
    /// How long things took.
    Histogram,
}

/// Which rows a family has, and how its samples are read off one of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum FamilyRows {
    /// A row for each VMA, for the rest of each process, and for all other processes.
    Vma(fn(&VmaLine<'_>, &mut FamilySamples<'_>)),
    /// A row for each process, and for all others.
    Process(fn(&ProcessLine<'_>, &mut FamilySamples<'_>)),
    /// The node as a whole.
    Node(fn(&SeriesView, &mut FamilySamples<'_>)),
    /// A row for each tracked process.
    Tracked(TrackedField),
    /// Tracking as a whole.
    Tracking(fn(&TrackingRows, &mut FamilySamples<'_>)),
    /// The agent itself.
    Agent(fn(&ScrapeRows, &mut FamilySamples<'_>)),
}

/// A chapter of docs/metrics.md, by which rows its families have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FamilyChapter {
    Vma,
    Process,
    Node,
    Tracking,
    Agent,
}

impl FamilyChapter {
    /// All chapters, in the order of the page.
    pub(super) const ALL: [Self; 5] = [
        Self::Vma,
        Self::Process,
        Self::Node,
        Self::Tracking,
        Self::Agent,
    ];
}

impl FamilyRows {
    pub(super) const fn chapter(&self) -> FamilyChapter {
        match self {
            Self::Vma(_) => FamilyChapter::Vma,
            Self::Process(_) => FamilyChapter::Process,
            Self::Node(_) => FamilyChapter::Node,
            Self::Tracked(_) | Self::Tracking(_) => FamilyChapter::Tracking,
            Self::Agent(_) => FamilyChapter::Agent,
        }
    }
}

impl FamilyKind {
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

impl FamilySpec {
    /// The family with its samples; `None` without any: what is not counted is not exported.
    pub(super) fn gather(&self, lines: &LabelledRows<'_>) -> Option<MetricFamily> {
        let available = &lines.rows.agent.availability;
        if !self.signals.is_empty() && !self.signals.iter().any(|one| available.has(*one)) {
            return None;
        }
        let mut samples = FamilySamples {
            kind: self.kind,
            available,
            metrics: Vec::new(),
        };
        self.read(lines, &mut samples);
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

    fn read(&self, lines: &LabelledRows<'_>, samples: &mut FamilySamples<'_>) {
        match self.rows {
            FamilyRows::Vma(read) => lines.vmas.iter().for_each(|line| read(line, samples)),
            FamilyRows::Process(read) => {
                lines.processes.iter().for_each(|line| read(line, samples));
            }
            FamilyRows::Node(read) => read(&lines.rows.counted, samples),
            FamilyRows::Tracked(field) => {
                for line in &lines.tracked {
                    field.sample(self, line.row, &line.labels, samples);
                }
            }
            FamilyRows::Tracking(read) => {
                lines
                    .rows
                    .tracking
                    .iter()
                    .for_each(|rows| read(rows, samples));
            }
            FamilyRows::Agent(read) => read(lines.rows, samples),
        }
    }

    /// HELP: meaning, unit, source, and what is estimated or absent here.
    fn help_text(&self, available: &CountAvailability) -> String {
        let mut help = format!(
            "{} Unit: {}. Source: {}.",
            self.help, self.unit, self.source
        );
        for signal in self.signals {
            match available.get(*signal) {
                CountExactness::Exact => {}
                CountExactness::Estimated(reason) => {
                    help.push_str(&format!(" Estimated here: {signal} ({reason})."));
                }
                CountExactness::Absent => {
                    help.push_str(&format!(" Not counted here: {signal}."));
                }
            }
        }
        help
    }
}

/// The samples of one family, while they are collected.
#[derive(Debug)]
pub(super) struct FamilySamples<'a> {
    kind: FamilyKind,
    available: &'a CountAvailability,
    metrics: Vec<Metric>,
}

impl FamilySamples<'_> {
    /// Whether `signal` is counted here.
    pub(super) fn has(&self, signal: CountSignal) -> bool {
        self.available.has(signal)
    }

    /// Adds a value with the labels of its row and further ones.
    pub(super) fn add<const N: usize>(
        &mut self,
        row: &[LabelPair],
        further: [(&str, &str); N],
        value: f64,
    ) {
        let mut labels = Vec::with_capacity(row.len() + N);
        labels.extend_from_slice(row);
        labels.extend(further.map(|(name, value)| pair(name, value)));
        let mut metric = Metric::from_label(labels);
        if self.kind == FamilyKind::Counter {
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

    /// Adds a histogram of durations.
    pub(super) fn histogram(&mut self, durations: &TimeHistogram) {
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
