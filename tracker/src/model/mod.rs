//! The books: processes, VMAs, and what each of them counted.
//!
//! ```text
//! probes    -> CounterSnapshot \
//! discovery -> VmaDiscovery     > CollectionInput -> SeriesBooks::collect -> RecordReleases
//! scans     -> ScanResult      /                            |
//!                                             SeriesBooks::view -> SeriesView
//! ```
//!
//! Pure: no I/O and no clock; time comes in with each [`CollectionInput`].

#![forbid(unsafe_code)]

mod accounting;
mod collection;
mod container;
mod counters;
mod limits;
mod series;
mod snapshot;

pub use accounting::SeriesBooks;
pub use collection::{CollectionInput, ProcessFacts, RecordReleases, ScanResult, VmaDiscovery};
pub use container::ContainerPath;
pub use counters::{CounterSet, ProcessCounters, VmaCounters};
pub use limits::{SeriesDetail, SeriesLimits, VmaLabel};
pub use series::{EventOutcomes, ProcessRow, ScannedPages, SeriesView, VmaGauges, VmaRow};
pub use snapshot::{
    CounterSnapshot, CounterSource, FoundVma, MmSample, NodeReading, ProcessKey, RecordUsage,
    VmaSample,
};
