//! Recordings: a header, rounds and a summary in a file that survives a kill.
//!
//! docs/recording.md has the format. A [`RecordingWriter`] appends each round with one write; a
//! [`RecordingReader`] gives back every whole round, whatever else the file holds.

mod error;
mod extents;
mod format;
mod read;
mod write;

pub use error::{FrameDamage, RecordingError};
pub use read::{RecordingEnding, RecordingReader};
pub use write::RecordingWriter;

#[cfg(test)]
mod tests;
