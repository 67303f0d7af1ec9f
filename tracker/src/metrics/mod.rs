//! Metric families: rows in, text out.
//!
//! The catalog describes every family once: for the scrape, for HELP and for docs/metrics.md
//! ([`doc`]). [`encode`] turns [`ScrapeRows`] into text. What a tracked process shows is part of
//! the same catalog, and `/status` reads it there ([`tracked_fields`]).

#![forbid(unsafe_code)]

mod catalog;
mod counts;
pub mod doc;
mod duplicates;
mod encode;
mod family;
pub mod label;
mod labelled;
mod rows;
mod tracked;

pub use catalog::{families, tracked_fields};
pub use counts::{CountReport, counts};
pub use encode::{CONTENT_TYPE, EncodeError, encode};
pub use family::{FamilyKind, FamilySpec};
pub use rows::{
    AgentFacts, AgentUsage, BuildInfo, CollectorRun, HookRow, ProcessSight, ScrapeRows,
    TrackingRows,
};
pub use tracked::{
    ExplainedTotals, ObservedTotals, TrackedField, TrackedReading, TrackedRow, TrackedValue,
};
