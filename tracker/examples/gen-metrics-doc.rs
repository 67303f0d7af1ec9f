//! Writes docs/metrics.md from the descriptions of the metric families.

use std::path::Path;

use anyhow::Context as _;
use tracker::metrics::doc;

#[path = "../tests/metrics/full.rs"]
mod full;

fn main() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    std::fs::write(&path, doc::page(full::size()))
        .with_context(|| format!("cannot write {}", path.display()))
}
