//! docs/metrics.md is what the families say.

use std::path::Path;

use tracker::metrics::doc;

use crate::full;

#[test]
fn docs_metrics_md_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == doc::page(full::size()),
        "docs/metrics.md is stale; run: cargo run -p tracker --example gen-metrics-doc"
    );
}

#[test]
fn the_defaults_stay_near_ten_thousand_series() {
    let size = full::size();
    assert!(size.usual < 12_000, "{size:?}");
    assert!(size.most < 25_000, "{size:?}");
    assert!(size.empty < 300, "{size:?}");
}
