//! What one scrape costs with about 10,000 VMA series: copying the rows, and writing the text.
//!
//! `cargo bench -p tracker --bench scrape`; the size of the text is printed first.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tracker::metrics::encode;
use tracker::model::{SeriesLimits, SeriesView};

#[path = "../tests/metrics/full.rs"]
mod full;

use full::VmaFill;

/// Processes and VMAs of each: with 20 series per VMA, about 10,000.
const PROCESSES: u32 = 32;
const VMAS: u32 = 16;

fn text(view: SeriesView) -> String {
    encode(&full::rows(view, full::facts())).unwrap_or_default()
}

fn scrape(c: &mut Criterion) {
    let view = full::view(SeriesLimits::default(), PROCESSES, VMAS, VmaFill::Usual);
    let (series, bytes) = (full::series(view.clone()), text(view.clone()).len());
    println!("scrape: {series} series, {bytes} bytes");
    c.bench_function("scrape/copy rows", |b| b.iter(|| black_box(view.clone())));
    c.bench_function("scrape/rows to text", |b| {
        b.iter_batched(|| view.clone(), text, criterion::BatchSize::LargeInput);
    });
}

fn collect(c: &mut Criterion) {
    c.bench_function("scrape/512 new VMAs", |b| {
        b.iter(|| full::view(SeriesLimits::default(), PROCESSES, VMAS, VmaFill::Usual));
    });
}

criterion_group!(benches, scrape, collect);
criterion_main!(benches);
