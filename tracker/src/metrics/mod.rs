//! Metric families, their labels and bounds; encoded at scrape time from the model.
//!
//! [`FAMILIES`] describes every family once; [`Exporter`] turns the model and what the agent says
//! about itself ([`facts`]) into text, and docs/metrics.md is printed from the same descriptions
//! ([`doc`]).

mod catalog;
pub mod doc;
pub mod duplicates;
mod exporter;
pub mod facts;
mod family;
pub mod label;
mod scrape;
mod selfstats;

pub use catalog::FAMILIES;
pub use exporter::{EncodeError, Exporter, Exposition, encode};
pub use facts::{
    AgentFacts, Availability, BuildInfo, CollectorFacts, Exactness, ExplainRow, HookFacts, Signal,
    TrackFacts, TrackRow,
};
pub use family::{Family, Kind, Samples};
pub use scrape::{OTHER, Scrape};
pub use selfstats::{SelfStats, SelfStatsError};
