//! Following the written pages of a process, round by round.
//!
//! ```text
//! attach: userfaultfd of the process (inject), the best strategy (strategy)
//!   |
//! session: [ mappings (vmas) --> borders (pure) --> read and arm --> arm what is new (populated: unknown pages) ]*
//!   |
//! model: header, rounds, summary (working_set) --> live table, JSON, recording, report
//! ```

#[cfg(test)]
pub(crate) mod arbitrary;
mod attach;
mod borders;
pub mod clock;
mod error;
pub mod json;
mod model;
mod others;
mod parts;
mod passed_over;
mod populated;
pub mod recording;
pub mod report;
#[cfg(test)]
pub(crate) mod sample;
mod session;
mod tracking;
mod vmas;
mod working_set;

pub use attach::{MAX_MAPPING, Options};
pub use error::TrackError;
pub use model::{End, Extent, Header, Mapping, MappingRound, Pages, Round, Summary};
pub(crate) use populated::{Populated, There};
pub use session::{Session, Step};
pub use working_set::WorkingSet;
