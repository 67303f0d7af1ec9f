//! What can be wrong with a recording, and what to do about it. Whoever opened the file says which
//! it is.

use std::io;

use super::format::{MAX_FRAME, MAX_MAPPINGS, VERSION};

/// Why a recording cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It is another kind of file.
    #[error("this is not a recording of tracker; `tracker track --output FILE` makes one")]
    Foreign,
    /// It begins as a recording and ends before its header does.
    #[error("the recording ends before its header is whole: it was cut off, and holds no round")]
    NoHeader,
    /// This tracker does not know its format.
    #[error(
        "the recording has format {found} and this tracker reads formats up to {VERSION}; \
         read it with the tracker that made it, or a newer one"
    )]
    Version {
        /// Its format.
        found: u32,
    },
    /// It was changed after it was written.
    #[error(
        "the recording is damaged at byte {offset}, after round {after}: {why}; \
         the rounds before are sound, those after it are lost: if there is another copy of the \
         file, use that"
    )]
    Damaged {
        /// Where the damaged frame begins.
        offset: u64,
        /// The last sound round; 0 if there is none.
        after: u64,
        /// What does not fit.
        why: FrameDamage,
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
    /// One round has more mappings than a frame holds.
    #[error(
        "a round of {mappings} mappings does not fit into a recording, which holds \
         {MAX_MAPPINGS}; track fewer mappings"
    )]
    TooMany {
        /// How many it has.
        mappings: usize,
    },
    /// It becomes more memory than a file of its size should.
    #[error(
        "the recording is not shown: its first {file} bytes become more than {} MiB of memory, \
         which no tracker's usual recording does; if it is not damaged, --max-memory allows more",
        .limit >> 20
    )]
    Memory {
        /// Bytes that may be allocated.
        limit: u64,
        /// Bytes of the file that were read.
        file: u64,
    },
    /// It is not what it was a moment ago.
    #[error("the recording was changed while it was read; read it again when nothing changes it")]
    Changed,
    /// The file cannot be read.
    #[error("cannot read: {0}")]
    Read(#[source] io::Error),
    /// The file cannot be written.
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
    /// The encoder fails; no data that the model allows makes it do so.
    #[error("cannot encode: {0}")]
    Encode(#[from] postcard::Error),
}

/// What of a frame does not fit.
#[derive(Debug, thiserror::Error)]
pub enum FrameDamage {
    /// The length has a checksum of its own.
    #[error("the length of a frame does not match its checksum")]
    LengthChecksum,
    /// No writer makes such a frame.
    #[error("a frame of {length} bytes is more than a recording has")]
    Length {
        /// What the frame claims.
        length: u32,
    },
    /// The payload is another than was written.
    #[error("a frame does not match its checksum")]
    Checksum,
    /// zstd refuses the payload.
    #[error("a frame cannot be decompressed ({0})")]
    Decompress(io::Error),
    /// It unpacks to more than any round needs.
    #[error("a frame is more than {MAX_FRAME} bytes")]
    Unpacked,
    /// postcard refuses what was unpacked.
    #[error("a frame cannot be decoded ({0})")]
    Decode(postcard::Error),
    /// Bytes are left over.
    #[error("a frame is longer than what it tells")]
    Rest,
    /// A recording begins with its header.
    #[error("its first frame is no header")]
    NoHeader,
    /// A recording has one header.
    #[error("a second header")]
    SecondHeader,
    /// The summary is the end.
    #[error("something follows the summary")]
    AfterSummary,
    /// Nobody's clock shows it.
    #[error("a time that does not exist")]
    Time,
    /// A number that names no backing.
    #[error("a backing that does not exist")]
    Backing,
    /// A number that names no reason.
    #[error("a reason that does not exist")]
    Untracked,
    /// A number that names no end.
    #[error("an end that does not exist")]
    End,
    /// Slots are given in order.
    #[error("a mapping out of order")]
    SlotOrder,
    /// More than any process has.
    #[error("more mappings than a recording holds")]
    Mappings,
    /// A slot is used before it is given.
    #[error("a mapping that was not described")]
    Undescribed,
    /// More entries than mappings.
    #[error("something is told of a mapping that is not there")]
    Absent,
    /// A shift that no writer uses.
    #[error("distances in a unit that does not exist")]
    Unit,
    /// Kinds and distances disagree.
    #[error("extents whose number does not match")]
    Extents,
}
