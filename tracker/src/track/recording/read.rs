//! Reading a recording: whole rounds, whatever comes after them.

use std::io::{self, Read};
use std::sync::Arc;

use super::RecordingError;
use super::format::{
    DiskRound, FRAME_HEAD, Frame, MAGIC, MAX_FRAME, MAX_MAPPINGS, MAX_PAYLOAD, VERSION, WINDOW_LOG,
    parse_head,
};
use pages::track::{
    MappingRound, SessionEvent, TrackHeader, TrackRound, TrackSummary, TrackedMapping, TrackedPages,
};

/// Reads a recording, one [`TrackRound`] after the other. After the last one [`Reader::ending`] tells how it ends.
pub struct Reader<R> {
    input: R,
    header: TrackHeader,
    slots: Slots,
    /// Bytes read as whole frames.
    offset: u64,
    /// The last whole round.
    number: u64,
    ending: Option<Ending>,
    failed: bool,
}

/// How a recording ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a summary.
    Whole(TrackSummary),
    /// Behind a round, without a summary: the tracker still runs, or was killed between two rounds.
    Open,
    /// In the middle of a round: the tracker was killed while it wrote, or a copy is not complete.
    CutOff {
        /// The round that is not whole.
        round: u64,
    },
}

impl Ending {
    /// The summary, if there is one.
    #[must_use]
    pub fn summary(&self) -> Option<&TrackSummary> {
        match self {
            Self::Whole(summary) => Some(summary),
            Self::Open | Self::CutOff { .. } => None,
        }
    }

    /// What a reader of the report should know about it.
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

impl<R: Read> Reader<R> {
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
        if found != VERSION {
            return Err(RecordingError::Version { found });
        }
        let mut bytes = Bytes {
            input: &mut input,
            offset: (MAGIC.len() + version.len()) as u64,
            after: 0,
        };
        let header = match bytes.frame()? {
            Next::Frame(frame) => match *frame {
                Frame::Header(header) => {
                    TrackHeader::try_from(header).map_err(|why| bytes.damaged(why))?
                }
                _ => return Err(bytes.damaged("its first frame is no header")),
            },
            Next::End | Next::CutOff => return Err(RecordingError::NoHeader),
        };
        let offset = bytes.offset;
        let slots = Slots::default();
        Ok(Self {
            input,
            header,
            slots,
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
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    fn read(&mut self) -> Result<Option<TrackRound>, RecordingError> {
        let mut bytes = Bytes {
            input: &mut self.input,
            offset: self.offset,
            after: self.number,
        };
        let start = self.offset;
        let frame = bytes.frame()?;
        self.offset = bytes.offset;
        bytes.offset = start;
        let frame = match frame {
            Next::Frame(frame) => *frame,
            Next::End => {
                self.ending = Some(Ending::Open);
                return Ok(None);
            }
            Next::CutOff => {
                let round = self.number.saturating_add(1);
                self.ending = Some(Ending::CutOff { round });
                return Ok(None);
            }
        };
        match frame {
            Frame::Round(round) => {
                let round = self.slots.decode(round).map_err(|why| bytes.damaged(why))?;
                self.number = round.number;
                Ok(Some(round))
            }
            Frame::Summary(summary) => {
                let summary = TrackSummary::try_from(summary).map_err(|why| bytes.damaged(why))?;
                bytes.offset = self.offset;
                if fill(bytes.input, &mut [0])? > 0 {
                    return Err(bytes.damaged("something follows the summary"));
                }
                self.ending = Some(Ending::Whole(summary));
                Ok(None)
            }
            Frame::Header(_) => Err(bytes.damaged("a second header")),
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
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
enum Next {
    Frame(Box<Frame>),
    End,
    CutOff,
}

/// The input with what an error tells about the place.
struct Bytes<'a, R> {
    input: &'a mut R,
    offset: u64,
    after: u64,
}

impl<R: Read> Bytes<'_, R> {
    fn damaged(&self, why: impl Into<String>) -> RecordingError {
        RecordingError::Damaged {
            offset: self.offset,
            after: self.after,
            why: why.into(),
        }
    }

    fn frame(&mut self) -> Result<Next, RecordingError> {
        let mut head = [0; FRAME_HEAD];
        match fill(self.input, &mut head)? {
            0 => return Ok(Next::End),
            FRAME_HEAD => {}
            _ => return Ok(Next::CutOff),
        }
        if head == [0; FRAME_HEAD] && self.only_zeroes_follow()? {
            // A file system that had noted the new size when the machine lost power, but not the data.
            return Ok(Next::CutOff);
        }
        let [length, sum_of_length, sum] = parse_head(head);
        if crc32c::crc32c(&length.to_le_bytes()) != sum_of_length {
            return Err(self.damaged("the length of a frame does not match its checksum"));
        }
        if length as usize > MAX_PAYLOAD {
            return Err(self.damaged(format!(
                "a frame of {length} bytes is more than a recording has"
            )));
        }
        // Grows with what is there, not with what the length promises.
        let mut payload = Vec::new();
        let whole = self
            .input
            .by_ref()
            .take(length.into())
            .read_to_end(&mut payload);
        if whole.map_err(RecordingError::Read)? < length as usize {
            return Ok(Next::CutOff);
        }
        if crc32c::crc32c(&payload) != sum {
            return Err(self.damaged("a frame does not match its checksum"));
        }
        let frame = decode(&payload).map_err(|why| self.damaged(why))?;
        self.offset += (FRAME_HEAD + payload.len()) as u64;
        Ok(Next::Frame(Box::new(frame)))
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

fn decode(payload: &[u8]) -> Result<Frame, String> {
    let cannot = |e: io::Error| format!("a frame cannot be decompressed ({e})");
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)
        .map_err(cannot)?
        .single_frame();
    decoder.window_log_max(WINDOW_LOG).map_err(cannot)?;
    let mut plain = Vec::new();
    decoder
        .take(MAX_FRAME as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(cannot)?;
    if plain.len() > MAX_FRAME {
        return Err(format!("a frame is more than {MAX_FRAME} bytes"));
    }
    match postcard::take_from_bytes(&plain) {
        Ok((frame, [])) => Ok(frame),
        Ok(_) => Err("a frame is longer than what it tells".to_owned()),
        Err(e) => Err(format!("a frame cannot be decoded ({e})")),
    }
}

/// Reads until the buffer is full or the input ends; tells how much it read.
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

/// What the frames so far have told of the mappings.
#[derive(Default)]
struct Slots {
    mappings: Vec<(Arc<TrackedMapping>, TrackedPages)>,
    order: Vec<u32>,
}

impl Slots {
    fn decode(&mut self, disk: DiskRound) -> Result<TrackRound, &'static str> {
        for (slot, mapping) in disk.described {
            let told = (
                Arc::new(TrackedMapping::try_from(mapping)?),
                TrackedPages::default(),
            );
            // Slots are given in order: a large number is no reason to have room for so many.
            if slot as usize == self.mappings.len() {
                self.mappings.push(told);
            } else {
                *self
                    .mappings
                    .get_mut(slot as usize)
                    .ok_or("a mapping out of order")? = told;
            }
        }
        if let Some(order) = disk.order {
            if order.len() > MAX_MAPPINGS {
                return Err("more mappings than a recording holds");
            }
            self.order = order;
        }
        let mut entries = disk.entries.into_iter();
        let mut entry = entries.next();
        let mut skip = entry.as_ref().map(|e| e.skip);
        let mut mappings = Vec::new();
        for slot in &self.order {
            let unknown = "a mapping that was not described";
            let (mapping, pages) = self.mappings.get_mut(*slot as usize).ok_or(unknown)?;
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
            return Err("something is told of a mapping that is not there");
        }
        Ok(TrackRound {
            number: disk.number,
            at: disk.at,
            lasted: disk.lasted,
            took: disk.took,
            mappings,
            events: disk
                .events
                .into_iter()
                .map(SessionEvent::Recorded)
                .collect(),
        })
    }
}
