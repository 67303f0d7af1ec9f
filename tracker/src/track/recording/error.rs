//! What can be wrong with a recording, and what to do about it. Whoever opened the file says which it is.

use std::io;

use super::format::{MAX_FRAME, MAX_MAPPINGS, VERSION};

/// Why a recording cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It is another kind of file.
    #[error("this is not a recording of tracker; `tracker track --output FILE` makes one")]
    Foreign,
    /// It begins as a recording and ends before one can know of what.
    #[error("the recording ends before its header is whole: it was cut off, and holds no round")]
    NoHeader,
    /// It is of a format that this tracker does not know.
    #[error(
        "the recording has format {found} and this tracker reads format {VERSION}; \
         read it with the tracker that made it, or a newer one"
    )]
    Version {
        /// Its format.
        found: u32,
    },
    /// It was changed after it was written.
    #[error(
        "the recording is damaged at byte {offset}, after round {after}: {why}; \
         the rounds before are sound, those after it are lost: if there is another copy of the file, use that"
    )]
    Damaged {
        /// Where the damaged frame begins.
        offset: u64,
        /// The last sound round; 0 if there is none.
        after: u64,
        /// What does not fit.
        why: String,
    },
    /// More happened in one round than a frame holds.
    #[error(
        "a round of {bytes} bytes does not fit into a recording, whose frames hold {MAX_FRAME}; \
         track fewer mappings or shorter rounds"
    )]
    TooLarge {
        /// Its size before compression.
        bytes: usize,
    },
    /// There are more mappings in one round than a frame holds.
    #[error(
        "a round of {mappings} mappings does not fit into a recording, which holds {MAX_MAPPINGS}; \
         track fewer mappings"
    )]
    TooMany {
        /// How many.
        mappings: usize,
    },
    /// It cannot be read.
    #[error("cannot read: {0}")]
    Read(#[source] io::Error),
    /// It cannot be written.
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
    /// What the encoder says; no data that the model allows makes it fail.
    #[error("cannot encode: {0}")]
    Encode(#[from] postcard::Error),
}
