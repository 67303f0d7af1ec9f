//! Following the written pages of a process, round by round.
//!
//! ```text
//! attach: userfaultfd of the process (inject), the best strategy (strategy)
//!   |
//! session: [ mappings (vmas) --> borders (pure) --> read and arm --> arm what is new (populated) ]*
//!   |
//! model: header, rounds, summary (working_set)
//! ```

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
mod tracking;
mod vmas;
mod working_set;

pub use attach::{MAX_MAPPING, Options};
pub use error::TrackError;
pub use event::SessionEvent;
pub use model::{End, Extent, Header, Mapping, MappingRound, Pages, Round, Summary};
pub use note::TrackNote;
pub use passed_over::{PassedOver, PassedOverReason};
pub use populated::{Populated, There};
pub use session::{Session, Step};
pub use working_set::WorkingSet;
