//! docs/metrics.md, printed from the descriptions of the families.
