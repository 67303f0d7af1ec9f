//! Reading a recording: whole rounds, whatever comes after them.

use std::io::Read;

use pages::track::{TrackHeader, TrackRound, TrackSummary};

use super::cursor::{FrameCursor, FrameError};
use super::format::{DiskHeader, DiskSummary, DiskWideSummary, FrameKind, MAGIC, VERSION};
use super::frames::{FrameReader, NextFrame, fill};
use super::rounds::RoundDecoder;
use super::{FrameDamage, MemoryBudget, RecordingError};

/// Bytes that a header or summary takes for each of its own: an empty text is one byte.
const WORDS: u64 = 48;

/// Reads a recording, one [`TrackRound`] after the other, and holds one at a time. After the last
/// one [`RecordingReader::ending`] says how it ends.
pub struct RecordingReader<R> {
    frames: FrameReader<R>,
    header: TrackHeader,
    rounds: RoundDecoder,
    budget: MemoryBudget,
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
    pub fn new(mut input: R, mut budget: MemoryBudget) -> Result<Self, RecordingError> {
        begin(&mut input)?;
        let mut frames = FrameReader::new(input)?;
        let header = match frames.next(&mut budget, header)? {
            NextFrame::Whole(header) => header,
            NextFrame::End | NextFrame::CutOff => return Err(RecordingError::NoHeader),
        };
        Ok(Self {
            frames,
            header,
            rounds: RoundDecoder::default(),
            budget,
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

    /// What may be allocated until the next round.
    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// The next round; `None` after the last one, and after an error.
    ///
    /// # Errors
    /// If the recording is damaged, cannot be read, or takes more memory than the budget has.
    pub fn next_round(&mut self) -> Result<Option<&TrackRound>, RecordingError> {
        self.next_beside(0)
    }

    /// The next round for a caller that holds so many bytes of those before.
    ///
    /// # Errors
    /// As [`RecordingReader::next_round`].
    pub(crate) fn next_beside(&mut self, held: u64) -> Result<Option<&TrackRound>, RecordingError> {
        if self.failed || self.ending.is_some() {
            return Ok(None);
        }
        self.budget.caller = held;
        self.failed = true;
        let rounds = &mut self.rounds;
        let frame = self.frames.next(&mut self.budget, |cursor, budget| {
            read_frame(rounds, cursor, budget)
        })?;
        let ending = match frame {
            NextFrame::Whole(ReadFrame::Round) => {
                self.failed = false;
                let round = self.rounds.round();
                self.frames.after = round.number;
                return Ok(Some(round));
            }
            NextFrame::Whole(ReadFrame::Summary(summary)) => {
                self.frames.nothing_follows()?;
                RecordingEnding::Whole(summary)
            }
            NextFrame::End => RecordingEnding::Open,
            NextFrame::CutOff => RecordingEnding::CutOff {
                round: self.frames.after.saturating_add(1),
            },
        };
        self.failed = false;
        self.ending = Some(ending);
        Ok(None)
    }
}

/// Reads what stands before all frames.
fn begin(input: &mut impl Read) -> Result<(), RecordingError> {
    let mut magic = [0; MAGIC.len()];
    let read = fill(input, &mut magic)?;
    if read == 0 || magic.get(..read) != MAGIC.get(..read) {
        return Err(RecordingError::Foreign);
    }
    let mut version = [0; 4];
    if fill(input, &mut version)? < version.len() {
        return Err(RecordingError::NoHeader);
    }
    match u32::from_le_bytes(version) {
        1..=VERSION => Ok(()),
        found => Err(RecordingError::Version { found }),
    }
}

fn header(
    mut cursor: FrameCursor<'_>,
    budget: &mut MemoryBudget,
) -> Result<TrackHeader, FrameError> {
    if cursor.take::<u32>()? != FrameKind::Header.number() {
        return Err(FrameDamage::NoHeader.into());
    }
    let words = (cursor.left() as u64).saturating_mul(WORDS);
    budget.check(words)?;
    let header = cursor.take::<DiskHeader>()?;
    cursor.end()?;
    budget.kept += words;
    Ok(header.try_into()?)
}

/// What a frame after the header was.
enum ReadFrame {
    Round,
    Summary(TrackSummary),
}

fn read_frame(
    rounds: &mut RoundDecoder,
    mut cursor: FrameCursor<'_>,
    budget: &mut MemoryBudget,
) -> Result<ReadFrame, FrameError> {
    let unknown = FrameDamage::Decode(postcard::Error::SerdeDeCustom);
    let kind = FrameKind::of(cursor.take()?).ok_or(unknown)?;
    let words = (cursor.left() as u64).saturating_mul(WORDS);
    let summary = match kind {
        FrameKind::Round | FrameKind::WideRound => {
            rounds.decode(cursor, kind == FrameKind::WideRound, budget)?;
            return Ok(ReadFrame::Round);
        }
        FrameKind::Header => return Err(FrameDamage::SecondHeader.into()),
        FrameKind::Summary => cursor.take::<DiskSummary>()?.into(),
        FrameKind::WideSummary => {
            budget.check(words)?;
            cursor.take::<DiskWideSummary>()?
        }
    };
    cursor.end()?;
    Ok(ReadFrame::Summary(summary.try_into()?))
}
