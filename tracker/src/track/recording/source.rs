//! Where a recording comes from, to be read more than once: what is counted in one pass decides
//! what the next one counts.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

use super::format::{FRAME_HEAD, MAGIC, MAX_PAYLOAD, parse_head};
use super::{MemoryBudget, RecordingError, RecordingReader};

/// A recording that can be read from its beginning again.
#[derive(Debug)]
pub struct RecordingSource {
    bytes: SourceBytes,
    budget: MemoryBudget,
}

#[derive(Debug)]
enum SourceBytes {
    File { file: File, start: u64 },
    Kept(Vec<u8>),
}

impl RecordingSource {
    /// A file, or a pipe whose frames are kept.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(mut file: File, budget: MemoryBudget) -> Result<Self, RecordingError> {
        let bytes = match file.stream_position() {
            Ok(start) => SourceBytes::File { file, start },
            Err(_) => SourceBytes::Kept(frames(file).map_err(RecordingError::Read)?),
        };
        Ok(Self { bytes, budget })
    }

    /// What was recorded into memory.
    #[must_use]
    pub fn of_bytes(bytes: Vec<u8>, budget: MemoryBudget) -> Self {
        Self {
            bytes: SourceBytes::Kept(bytes),
            budget,
        }
    }

    /// Reads it from its beginning.
    ///
    /// # Errors
    /// If this is no recording, one of another format, or damaged.
    pub fn reader(&self) -> Result<RecordingReader<Box<dyn Read + '_>>, RecordingError> {
        let input: Box<dyn Read + '_> = match &self.bytes {
            SourceBytes::File { file, start } => {
                let mut file = file;
                file.seek(SeekFrom::Start(*start))
                    .map_err(RecordingError::Read)?;
                Box::new(BufReader::new(file))
            }
            SourceBytes::Kept(bytes) => Box::new(bytes.as_slice()),
        };
        RecordingReader::new(input, self.budget)
    }
}

/// What a pipe has, up to the end or to what no frame begins with: a reader tells the difference.
fn frames(input: File) -> io::Result<Vec<u8>> {
    let mut input = BufReader::new(input);
    let mut bytes = Vec::new();
    let mut piece = MAGIC.len() + 4;
    loop {
        let read = input.by_ref().take(piece as u64).read_to_end(&mut bytes)?;
        if read < piece || !bytes.starts_with(&MAGIC) {
            return Ok(bytes);
        }
        let before = bytes.len();
        let head = input.by_ref().take(FRAME_HEAD as u64);
        { head }.read_to_end(&mut bytes)?;
        let Some(head) = bytes.get(before..).and_then(|head| head.as_array()) else {
            return Ok(bytes);
        };
        let [length, sum, _] = parse_head(*head);
        let is_sound = crc32c::crc32c(&length.to_le_bytes()) == sum;
        if !is_sound || length as usize > MAX_PAYLOAD {
            return Ok(bytes);
        }
        piece = length as usize;
    }
}
