//! tracker: what userfaultfd write-protection does to a Linux machine, and how true its answers
//! are.
//!
//! Layers look down only: `cli` -> `agent` -> `metrics` -> `explain` -> `track`, `compare`, `top` ->
//! `probes` -> `kernel`, `logging`, `model`, `print` -> the crates `pages` and `uffd`.

#![deny(unsafe_code)]
// They panic where nobody reads: `logging::say` and `cli::output` do not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod agent;
pub mod cli;
mod compare;
pub mod explain;
#[expect(unsafe_code, reason = "settings of malloc, which no crate wraps")]
mod heap;
pub mod kernel;
mod logging;
pub mod metrics;
pub mod model;
mod print;
pub mod probes;
mod top;
pub mod track;

/// tracker's version and revision, as recordings and JSON name them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " ", env!("TRACKER_REVISION"));
