//! Following the written pages of a process, round by round.
//!
//! ```text
//! attach: userfaultfd of the process (inject), the best strategy (strategy)
//!   |
//! session, space: [ mappings (vmas) --> borders (pure) --> read, arm --> arm what is new ]*
//!   |
//! model: header, rounds, summary (working_set)
//! ```
#![forbid(unsafe_code)]

mod attach;
mod borders;
mod error;
mod event;
mod model;
mod note;
mod others;
mod parts;
mod passed_over;
mod populated;
mod session;
mod space;
mod vmas;
mod working_set;

pub use attach::{MAX_MAPPING, TrackOptions};
pub use error::TrackError;
pub use event::SessionEvent;
pub use model::{
    MappingRound, PageExtent, TrackEnd, TrackHeader, TrackRound, TrackSummary, TrackedMapping,
    TrackedPages,
};
pub use note::TrackNote;
pub use passed_over::{PassedOverMapping, PassedOverReason};
pub use populated::{PagePresence, PopulatedPages};
pub use session::{TrackSession, TrackStep};
pub use working_set::WorkingSet;
