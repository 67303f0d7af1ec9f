//! tracker: what userfaultfd write-protection does to a Linux machine, and how true its answers are.
//!
//! Layers look down only: `cli` -> `agent` -> `explain`, `metrics`, `track`, `model` -> `probes`, `strategy`, `inject` -> `kernel`, `uffd`.

pub mod agent;
pub mod cli;
pub mod explain;
pub mod inject;
pub mod kernel;
pub mod metrics;
pub mod model;
pub mod probes;
pub mod strategy;
pub mod track;
pub mod uffd;
