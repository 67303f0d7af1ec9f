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
mod creations;
mod error;
mod event;
mod holder;
mod mapping_limit;
mod model;
mod note;
mod others;
mod parts;
mod passed_over;
mod populated;
mod session;
mod shape;
mod space;
mod tree;
mod untracked;
mod vmas;
mod working_set;

pub use attach::{MAX_MAPPING, TrackOptions};
pub use error::TrackError;
pub use event::SessionEvent;
pub use holder::UffdHolder;
pub use model::{
    HugePageChange, MappingCount, MappingRound, PageExtent, ProcessRound, SharedFile, SharedPlace,
    TrackEnd, TrackHeader, TrackRound, TrackSummary, TrackedMapping, TrackedPages,
};
pub use note::TrackNote;
pub use others::{OwnUffd, OwnUffdSight};
pub use populated::{PageOwner, PagePresence, PopulatedPages};
pub use session::{TrackSession, TrackStep};
pub use shape::{deciding_shape, memory_shape};
pub use tree::{TrackScope, TrackTree};
pub use untracked::{UntrackedDetail, UntrackedMapping, UntrackedPages, UntrackedReason};
pub use working_set::WorkingSet;
