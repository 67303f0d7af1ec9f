//! What the agent knows: processes, VMAs and their counters. Views read this, never the kernel.
//!
//! ```text
//! probes    -> Snapshot  \
//! discovery -> Discovery  > Input -> Model::collect -> Releases (records to give back)
//! scans     -> ScanResult/                |
//!                                 Model::view -> View (rows for metrics, status, top)
//! ```
//!
//! Pure: no I/O and no clocks, time comes in with each [`Input`].

mod accounting;
pub mod counts;
pub mod input;
pub mod limits;
pub mod sample;
pub mod signal;
pub mod view;
pub mod words;

pub use accounting::Model;
pub use counts::{Counts, ProcessCounts};
pub use input::{Discovery, Input, ProcessFacts, Releases, ScanResult};
pub use limits::{Detail, Limits};
pub use signal::{Availability, Exactness, Signal};
pub use view::{Gauges, Outcomes, ProcessRow, View, VmaRow};
