//! Frames as they lie in the file: checked, and unpacked into one buffer.

use std::io::{self, Read};

use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};
use zstd::zstd_safe::DParameter;

use super::cursor::{FrameCursor, FrameError};
use super::format::{FRAME_HEAD, MAGIC, MAX_FRAME, MAX_PAYLOAD, WINDOW_LOG, parse_head};
use super::{FrameDamage, MemoryBudget, RecordingError};

/// The least by which the buffer of what was unpacked grows.
const STEP: usize = 4096;

/// What comes next in the file.
pub(super) enum NextFrame<T> {
    Whole(T),
    End,
    CutOff,
}

/// The input, and where an error is.
pub(super) struct FrameReader<R> {
    input: R,
    /// Where the next frame begins.
    offset: u64,
    /// The last whole round; 0 if there is none.
    pub after: u64,
    decoder: Decoder<'static>,
    payload: Vec<u8>,
    plain: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    /// For an input that stands before its first frame.
    pub(super) fn new(input: R) -> Result<Self, RecordingError> {
        let mut decoder = Decoder::new().map_err(RecordingError::Read)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG))
            .map_err(RecordingError::Read)?;
        Ok(Self {
            input,
            offset: (MAGIC.len() + size_of::<u32>()) as u64,
            after: 0,
            decoder,
            payload: Vec::new(),
            plain: Vec::new(),
        })
    }

    /// Reads a frame, and lets `decode` make something of it.
    pub(super) fn next<T>(
        &mut self,
        budget: &mut MemoryBudget,
        decode: impl FnOnce(FrameCursor<'_>, &mut MemoryBudget) -> Result<T, FrameError>,
    ) -> Result<NextFrame<T>, RecordingError> {
        let mut head = [0; FRAME_HEAD];
        match fill(&mut self.input, &mut head)? {
            0 => return Ok(NextFrame::End),
            FRAME_HEAD => {}
            _ => return Ok(NextFrame::CutOff),
        }
        if head == [0; FRAME_HEAD] && self.only_zeroes_follow()? {
            // The machine lost power when its file system had noted the new size but not the data.
            return Ok(NextFrame::CutOff);
        }
        let [length, sum_of_length, sum] = parse_head(head);
        if crc32c::crc32c(&length.to_le_bytes()) != sum_of_length {
            return Err(self.damaged(FrameDamage::LengthChecksum));
        }
        if length as usize > MAX_PAYLOAD {
            return Err(self.damaged(FrameDamage::Length { length }));
        }
        // Grows with what is there, not with what the length promises.
        self.payload.clear();
        let whole = self.input.by_ref().take(length.into());
        let read = { whole }.read_to_end(&mut self.payload);
        if read.map_err(RecordingError::Read)? < length as usize {
            return Ok(NextFrame::CutOff);
        }
        if crc32c::crc32c(&self.payload) != sum {
            return Err(self.damaged(FrameDamage::Checksum));
        }
        let bytes = (FRAME_HEAD + self.payload.len()) as u64;
        budget.file += bytes;
        let decoded = self.unpack(budget).and_then(|()| {
            let room = self.plain.capacity() as u64;
            budget.kept += room;
            let decoded = decode(FrameCursor::new(&self.plain), budget);
            budget.kept -= room;
            decoded
        });
        let decoded = decoded.map_err(|error| self.failed(error))?;
        self.offset += bytes;
        Ok(NextFrame::Whole(decoded))
    }

    /// The end of the file must come now.
    pub(super) fn nothing_follows(&mut self) -> Result<(), RecordingError> {
        match fill(&mut self.input, &mut [0])? {
            0 => Ok(()),
            _ => Err(self.damaged(FrameDamage::AfterSummary)),
        }
    }

    fn failed(&self, error: FrameError) -> RecordingError {
        match error {
            FrameError::Damage(why) => self.damaged(why),
            FrameError::Memory(over) => over.into(),
        }
    }

    fn damaged(&self, why: FrameDamage) -> RecordingError {
        RecordingError::Damaged {
            offset: self.offset,
            after: self.after,
            why,
        }
    }

    fn only_zeroes_follow(&mut self) -> Result<bool, RecordingError> {
        let mut piece = [0; 4096];
        loop {
            let read = fill(&mut self.input, &mut piece)?;
            if piece.iter().take(read).any(|byte| *byte != 0) {
                return Ok(false);
            }
            if read < piece.len() {
                return Ok(true);
            }
        }
    }

    fn unpack(&mut self, budget: &MemoryBudget) -> Result<(), FrameError> {
        let (decoder, plain) = (&mut self.decoder, &mut self.plain);
        plain.clear();
        decoder.reinit().map_err(FrameDamage::Decompress)?;
        let mut packed = InBuffer::around(&self.payload);
        loop {
            if plain.len() == plain.capacity() {
                let more = plain.len().max(STEP);
                // The old buffer and the new one.
                budget.check((2 * plain.len() + more) as u64)?;
                plain.reserve_exact(more);
            }
            let length = plain.len();
            let mut out = OutBuffer::around_pos(plain, length);
            let left = decoder.run(&mut packed, &mut out);
            let left = left.map_err(FrameDamage::Decompress)?;
            if plain.len() > MAX_FRAME {
                return Err(FrameDamage::Unpacked.into());
            }
            if left == 0 {
                return Ok(());
            }
            if packed.pos() == self.payload.len() && plain.len() < plain.capacity() {
                let end = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(FrameDamage::Decompress(end).into());
            }
        }
    }
}

/// Reads until the buffer is full or the input ends; returns how much it read.
pub(super) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, RecordingError> {
    let mut rest = buffer;
    let mut read = 0;
    while !rest.is_empty() {
        match input.read(rest) {
            Ok(0) => break,
            Ok(n) => {
                read += n;
                rest = rest.get_mut(n..).unwrap_or_default();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(RecordingError::Read(e)),
        }
    }
    Ok(read)
}
