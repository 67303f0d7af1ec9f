//! Recordings: a header, rounds and a summary in a file that survives a kill.
//!
//! docs/recording.md has the format. A [`Writer`] appends each round with one write, a [`Reader`] gives back every
//! round that is whole, whatever the file holds besides.

mod error;
mod extents;
mod format;
mod read;
mod write;

pub use error::RecordingError;
pub use read::{Ending, Reader};
pub use write::Writer;

#[cfg(test)]
mod tests;
