//! Recordings: a header, rounds and a summary in a file that survives a kill.
//!
//! docs/recording.md has the format. A [`RecordingWriter`] appends each round with one write; a
//! [`RecordingReader`] gives back every whole round, whatever else the file holds.

mod budget;
mod cursor;
mod error;
mod extents;
mod format;
mod frames;
mod read;
mod rounds;
mod source;
mod write;

pub use budget::MemoryBudget;
pub(crate) use budget::OverBudget;
pub use error::{FrameDamage, RecordingError};
pub use read::{RecordingEnding, RecordingReader};
pub use source::RecordingSource;
pub use write::RecordingWriter;

#[cfg(test)]
mod tests;
