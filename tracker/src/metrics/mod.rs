//! Metric families, their labels and bounds; encoded at scrape time from the model.
//!
//! [`family`] describes every family once; [`Exporter`] turns the model and what the agent says
//! about itself ([`facts`]) into text, and docs/metrics.md is printed from the same descriptions.

mod exporter;
pub mod facts;

pub use exporter::{EncodeError, Exporter, Exposition};
pub use facts::{
    AgentFacts, Availability, BuildInfo, CollectorFacts, Exactness, HookFacts, Signal,
};
