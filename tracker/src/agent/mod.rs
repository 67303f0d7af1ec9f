//! The running agent: discovery, collection, background scan, http, life cycle.
//!
//! ```text
//! probes --snapshot--> \
//! discover thread ----> engine (model) --> http: /metrics /status /readyz
//! scan thread --------> /
//! track threads ------> tracking (processes of --track) --> http
//! ```
//!
//! A scrape reads the counters and writes text; everything slow has a thread and a budget.

mod config;
mod discover_loop;
pub mod discovery;
mod engine;
mod error;
pub mod http;
mod life;
mod orphans;
mod pace;
mod probes;
mod ready;
mod running;
mod scan;
mod status;
mod stop;
mod tracking;

pub use config::{Config, Pace, TrackConfig};
pub use error::AgentError;
pub use life::run;
pub use probes::{NoCounters, Probes};

pub use running::Running;
pub use tracking::{How, Selector, Tracking};
