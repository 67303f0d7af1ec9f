//! Following the written pages of a process, round by round.

mod model;

pub use model::{End, Extent, Header, Mapping, MappingRound, Pages, Round, Summary};
