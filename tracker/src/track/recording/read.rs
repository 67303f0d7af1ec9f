//! Reading a recording: whole rounds, whatever comes after them.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;

use pages::track::{
    MappingRound, SessionEvent, TrackHeader, TrackRound, TrackSummary, TrackedMapping,
    TrackedPages, UntrackedPages,
};

use super::format::{
    DiskFrame, DiskWideRound, FRAME_HEAD, MAGIC, MAX_FRAME, MAX_MAPPINGS, MAX_PAYLOAD, VERSION,
    WINDOW_LOG, parse_head,
};
use super::{FrameDamage, RecordingError};

/// Reads a recording, one [`TrackRound`] after the other. After the last one
/// [`RecordingReader::ending`] says how it ends.
pub struct RecordingReader<R> {
    input: R,
    header: TrackHeader,
    slots: ReaderSlots,
    /// Bytes read as whole frames.
    offset: u64,
    /// The last whole round.
    number: u64,
    ending: Option<RecordingEnding>,
    failed: bool,
}

/// How a recording ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingEnding {
    /// It ends with a summary.
    Whole(TrackSummary),
    /// It ends after a round, without a summary: the tracker still runs, or was killed between two
    /// rounds.
    Open,
    /// It ends in the middle of a round: the tracker was killed while it wrote, or a copy is not
    /// complete.
    CutOff {
        /// The round that is not whole.
        round: u64,
    },
}

impl RecordingEnding {
    /// The summary, if there is one.
    #[must_use]
    pub fn summary(&self) -> Option<&TrackSummary> {
        match self {
            Self::Whole(summary) => Some(summary),
            Self::Open | Self::CutOff { .. } => None,
        }
    }

    /// What a reader of the report should know about this ending.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        match self {
            Self::Whole(_) => None,
            Self::Open => Some(
                "the recording has no summary: its tracker was killed, or still writes it"
                    .to_owned(),
            ),
            Self::CutOff { round } => Some(format!(
                "the recording ends in the middle of round {round}: it was cut off"
            )),
        }
    }
}

impl<R: Read> RecordingReader<R> {
    /// Reads up to the header.
    ///
    /// # Errors
    /// If this is no recording, one of another format, or damaged.
    pub fn new(mut input: R) -> Result<Self, RecordingError> {
        let mut magic = [0; MAGIC.len()];
        let read = fill(&mut input, &mut magic)?;
        if read == 0 || magic.get(..read) != MAGIC.get(..read) {
            return Err(RecordingError::Foreign);
        }
        let mut version = [0; 4];
        if fill(&mut input, &mut version)? < version.len() {
            return Err(RecordingError::NoHeader);
        }
        let found = u32::from_le_bytes(version);
        if !(1..=VERSION).contains(&found) {
            return Err(RecordingError::Version { found });
        }
        let mut frames = FrameReader {
            input: &mut input,
            offset: (MAGIC.len() + version.len()) as u64,
            after: 0,
        };
        let header = match frames.next()? {
            NextFrame::Whole(frame) => match *frame {
                DiskFrame::Header(header) => {
                    TrackHeader::try_from(header).map_err(|why| frames.damaged(why))?
                }
                _ => return Err(frames.damaged(FrameDamage::NoHeader)),
            },
            NextFrame::End | NextFrame::CutOff => return Err(RecordingError::NoHeader),
        };
        let offset = frames.offset;
        Ok(Self {
            input,
            header,
            slots: ReaderSlots::default(),
            offset,
            number: 0,
            ending: None,
            failed: false,
        })
    }

    /// Who was tracked.
    pub fn header(&self) -> &TrackHeader {
        &self.header
    }

    /// How the recording ends; `None` before the last round was read, and if it is damaged.
    pub fn ending(&self) -> Option<&RecordingEnding> {
        self.ending.as_ref()
    }

    fn read(&mut self) -> Result<Option<TrackRound>, RecordingError> {
        let mut frames = FrameReader {
            input: &mut self.input,
            offset: self.offset,
            after: self.number,
        };
        let start = self.offset;
        let frame = frames.next()?;
        self.offset = frames.offset;
        frames.offset = start;
        let frame = match frame {
            NextFrame::Whole(frame) => *frame,
            NextFrame::End => {
                self.ending = Some(RecordingEnding::Open);
                return Ok(None);
            }
            NextFrame::CutOff => {
                let round = self.number.saturating_add(1);
                self.ending = Some(RecordingEnding::CutOff { round });
                return Ok(None);
            }
        };
        let frame = match frame {
            DiskFrame::Round(round) => DiskFrame::WideRound(round.into()),
            DiskFrame::Summary(summary) => DiskFrame::WideSummary(summary.into()),
            frame => frame,
        };
        match frame {
            DiskFrame::WideRound(round) => {
                let round = self.slots.decode(round);
                let round = round.map_err(|why| frames.damaged(why))?;
                self.number = round.number;
                Ok(Some(round))
            }
            DiskFrame::WideSummary(summary) => {
                let summary = TrackSummary::try_from(summary).map_err(|why| frames.damaged(why))?;
                frames.offset = self.offset;
                if fill(frames.input, &mut [0])? > 0 {
                    return Err(frames.damaged(FrameDamage::AfterSummary));
                }
                self.ending = Some(RecordingEnding::Whole(summary));
                Ok(None)
            }
            _ => Err(frames.damaged(FrameDamage::SecondHeader)),
        }
    }
}

impl<R: Read> Iterator for RecordingReader<R> {
    type Item = Result<TrackRound, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.ending.is_some() {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        read.transpose()
    }
}

/// What comes next in the file.
enum NextFrame {
    Whole(Box<DiskFrame>),
    End,
    CutOff,
}

/// The input, and where an error is.
struct FrameReader<'a, R> {
    input: &'a mut R,
    offset: u64,
    after: u64,
}

impl<R: Read> FrameReader<'_, R> {
    fn damaged(&self, why: FrameDamage) -> RecordingError {
        RecordingError::Damaged {
            offset: self.offset,
            after: self.after,
            why,
        }
    }

    fn next(&mut self) -> Result<NextFrame, RecordingError> {
        let mut head = [0; FRAME_HEAD];
        match fill(self.input, &mut head)? {
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
        let mut payload = Vec::new();
        let whole = self
            .input
            .by_ref()
            .take(length.into())
            .read_to_end(&mut payload);
        if whole.map_err(RecordingError::Read)? < length as usize {
            return Ok(NextFrame::CutOff);
        }
        if crc32c::crc32c(&payload) != sum {
            return Err(self.damaged(FrameDamage::Checksum));
        }
        let frame = decode(&payload).map_err(|why| self.damaged(why))?;
        self.offset += (FRAME_HEAD + payload.len()) as u64;
        Ok(NextFrame::Whole(Box::new(frame)))
    }

    fn only_zeroes_follow(&mut self) -> Result<bool, RecordingError> {
        let mut piece = [0; 4096];
        loop {
            let read = fill(self.input, &mut piece)?;
            if piece.iter().take(read).any(|byte| *byte != 0) {
                return Ok(false);
            }
            if read < piece.len() {
                return Ok(true);
            }
        }
    }
}

fn decode(payload: &[u8]) -> Result<DiskFrame, FrameDamage> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)
        .map_err(FrameDamage::Decompress)?
        .single_frame();
    let bounded = decoder.window_log_max(WINDOW_LOG);
    bounded.map_err(FrameDamage::Decompress)?;
    let mut plain = Vec::new();
    decoder
        .take(MAX_FRAME as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(FrameDamage::Decompress)?;
    if plain.len() > MAX_FRAME {
        return Err(FrameDamage::Unpacked);
    }
    match postcard::take_from_bytes(&plain) {
        Ok((frame, [])) => Ok(frame),
        Ok(_) => Err(FrameDamage::Rest),
        Err(error) => Err(FrameDamage::Decode(error)),
    }
}

/// Reads until the buffer is full or the input ends; returns how much it read.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, RecordingError> {
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

/// What the frames so far have told of mappings.
#[derive(Default)]
struct ReaderSlots {
    mappings: Vec<(Arc<TrackedMapping>, TrackedPages)>,
    order: Vec<u32>,
    not_looked_at: UntrackedPages,
}

impl ReaderSlots {
    fn decode(&mut self, wide: DiskWideRound) -> Result<TrackRound, FrameDamage> {
        let DiskWideRound {
            round: disk,
            shared,
            not_looked_at,
        } = wide;
        let mut shared: HashMap<_, _> = shared.into_iter().collect();
        for (slot, mapping) in disk.described {
            let mapping = TrackedMapping {
                shared: shared.remove(&slot).map(Into::into),
                ..TrackedMapping::try_from(mapping)?
            };
            let told = (Arc::new(mapping), TrackedPages::default());
            // Slots are given in order: a large number is no reason to make room for so many.
            if slot as usize == self.mappings.len() {
                self.mappings.push(told);
            } else {
                *self
                    .mappings
                    .get_mut(slot as usize)
                    .ok_or(FrameDamage::SlotOrder)? = told;
            }
        }
        if let Some(order) = disk.order {
            if order.len() > MAX_MAPPINGS {
                return Err(FrameDamage::Mappings);
            }
            self.order = order;
        }
        if !shared.is_empty() {
            return Err(FrameDamage::Absent);
        }
        if let Some(untracked) = not_looked_at {
            self.not_looked_at = untracked.try_into()?;
        }
        let mut entries = disk.entries.into_iter();
        let mut entry = entries.next();
        let mut skip = entry.as_ref().map(|e| e.skip);
        let mut mappings = Vec::new();
        for slot in &self.order {
            let known = self.mappings.get_mut(*slot as usize);
            let (mapping, pages) = known.ok_or(FrameDamage::Undescribed)?;
            let mut written = Vec::new();
            match (&mut skip, &entry) {
                (Some(0), Some(told)) => {
                    *pages = TrackedPages::from(&told.pages);
                    written = told.written.decode(mapping.start)?;
                    entry = entries.next();
                    skip = entry.as_ref().map(|e| e.skip);
                }
                (Some(skip), _) => *skip -= 1,
                (None, _) => {}
            }
            mappings.push(MappingRound {
                mapping: Arc::clone(mapping),
                pages: *pages,
                written,
            });
        }
        if entry.is_some() {
            return Err(FrameDamage::Absent);
        }
        let events = disk.events.into_iter();
        Ok(TrackRound {
            number: disk.number,
            at: disk.at,
            lasted: disk.lasted,
            took: disk.took,
            mappings,
            not_looked_at: self.not_looked_at.clone(),
            events: events.map(SessionEvent::Recorded).collect(),
        })
    }
}
