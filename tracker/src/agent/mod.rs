//! The running agent: discovery, collection, background scan, http, life cycle.
//!
//! ```text
//! probes: counters, events missed --\
//! discover thread ------------------> engine: the books --> rows --> metrics::encode --> /metrics
//! scan thread ----------------------/                   \---> /status, /readyz
//! track threads --> tracking: the ledger -----------------/
//! ```
//!
//! A scrape reads the counters and writes text; everything slow has a thread and a budget.

#![forbid(unsafe_code)]

mod addresses;
mod config;
mod discover_loop;
pub mod discovery;
mod engine;
mod error;
mod glance;
pub mod http;
mod landing;
mod life;
mod looks;
mod loops;
mod memory;
mod orphans;
mod pace;
mod panics;
mod probes;
mod processes;
mod ready;
mod redact;
mod room;
mod running;
mod scan;
mod status;
mod stop;
mod tracking;
mod usage;

pub use config::{AgentConfig, AgentPace, TrackingConfig};
pub(crate) use discover_loop::DiscoveryState;
pub use error::AgentError;
pub(crate) use glance::see_processes;
pub use life::run;
pub(crate) use memory::tell as tell_of_memory;
pub use probes::{AgentProbes, MakeRoute, ProofResult};
pub use room::NoRoom;
pub(crate) use room::{RoomNeed, claim};
pub use running::RunningAgent;
pub use tracking::ProcessSelector;
