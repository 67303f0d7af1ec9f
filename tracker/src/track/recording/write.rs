//! Writing a recording.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use pages::track::{
    MappingRound, TrackHeader, TrackRound, TrackSummary, TrackedMapping, TrackedPages,
    UntrackedPages,
};
use serde::Serialize;
use zstd::bulk::Compressor;

use super::RecordingError;
use super::extents::DiskExtents;
use super::format::{
    DiskEntry, DiskHeader, DiskMapping, DiskRound, DiskSharedPlace, DiskWideRound, DiskWideSummary,
    FrameKind, MAGIC, MAX_FRAME, MAX_MAPPINGS, VERSION, frame_head,
};

/// Writes a recording, each frame with one call of [`Write::write_all`]: a kill leaves whole frames
/// and at most one torn frame at the end. Give it the file itself, not a buffer.
pub struct RecordingWriter<W> {
    out: W,
    compressor: Compressor<'static>,
    slots: WriterSlots,
    /// A write failed, perhaps in the middle of a frame: nothing behind it could be read.
    torn: bool,
}

impl<W: Write> RecordingWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(out: W, header: &TrackHeader) -> Result<Self, RecordingError> {
        let compressor =
            Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL).map_err(RecordingError::Write)?;
        let mut writer = Self {
            out,
            compressor,
            slots: WriterSlots::default(),
            torn: false,
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(writer.frame(FrameKind::Header, &DiskHeader::from(header))?);
        writer.put(&bytes)?;
        Ok(writer)
    }

    /// Appends a round.
    ///
    /// # Errors
    /// If it cannot be written, or is larger than a frame can be; such a round is left out, and
    /// others may follow.
    pub fn round(&mut self, round: &TrackRound) -> Result<(), RecordingError> {
        if round.mappings.len() > MAX_MAPPINGS {
            let mappings = round.mappings.len();
            return Err(RecordingError::TooMany { mappings });
        }
        // Kept only if the frame is written: the reader knows nothing else.
        let mut slots = self.slots.clone();
        let bytes = self.frame(FrameKind::WideRound, &slots.encode(round))?;
        self.put(&bytes)?;
        self.slots = slots;
        Ok(())
    }

    /// Appends the summary and returns what was written to.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self, summary: &TrackSummary) -> Result<W, RecordingError> {
        let bytes = self.frame(FrameKind::WideSummary, &DiskWideSummary::from(summary))?;
        self.put(&bytes)?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), RecordingError> {
        if self.torn {
            let error = io::Error::other("an earlier round could not be written whole");
            return Err(RecordingError::Write(error));
        }
        let written = self.out.write_all(bytes).and_then(|()| self.out.flush());
        self.torn = written.is_err();
        written.map_err(RecordingError::Write)
    }

    fn frame(
        &mut self,
        kind: FrameKind,
        holds: &impl Serialize,
    ) -> Result<Vec<u8>, RecordingError> {
        let plain = postcard::to_stdvec(&(kind.number(), holds))?;
        let too_large = || RecordingError::TooLarge { bytes: plain.len() };
        if plain.len() > MAX_FRAME {
            return Err(too_large());
        }
        let payload = self
            .compressor
            .compress(&plain)
            .map_err(RecordingError::Write)?;
        let length = u32::try_from(payload.len()).map_err(|_| too_large())?;
        let mut bytes = frame_head(&payload, length).to_vec();
        bytes.extend(payload);
        Ok(bytes)
    }
}

/// What the reader will know: which mapping has which slot, and what was last told of it.
#[derive(Clone, Default)]
struct WriterSlots {
    by_mapping: HashMap<Arc<TrackedMapping>, u32>,
    pages: Vec<TrackedPages>,
    order: Vec<u32>,
    not_looked_at: UntrackedPages,
}

impl WriterSlots {
    fn encode(&mut self, round: &TrackRound) -> DiskWideRound {
        let (described, shared) = self.describe(&round.mappings);
        let order: Vec<u32> = round
            .mappings
            .iter()
            .filter_map(|m| self.by_mapping.get(&m.mapping).copied())
            .collect();
        let mut entries = Vec::new();
        let mut skip = 0;
        for (told, slot) in round.mappings.iter().zip(&order) {
            let Some(last) = self.pages.get_mut(*slot as usize) else {
                continue;
            };
            if told.written.is_empty() && told.pages == *last {
                skip += 1;
                continue;
            }
            *last = told.pages;
            entries.push(DiskEntry {
                skip,
                pages: told.pages.into(),
                written: DiskExtents::encode(told.mapping.start, &told.written),
            });
            skip = 0;
        }
        let unchanged = order == self.order;
        let events = round.events.iter();
        let disk = DiskRound {
            number: round.number,
            at: round.at,
            lasted: round.lasted,
            took: round.took,
            described,
            order: (!unchanged).then(|| order.clone()),
            entries,
            events: events.map(ToString::to_string).collect(),
        };
        self.order = order;
        let news = round.not_looked_at != self.not_looked_at;
        self.not_looked_at.clone_from(&round.not_looked_at);
        DiskWideRound {
            round: disk,
            shared,
            not_looked_at: news.then(|| (&round.not_looked_at).into()),
        }
    }

    /// Gives new mappings the slots of those that are gone, so that neither side grows with the
    /// length of a recording. Those that are shared are told a second time.
    fn describe(&mut self, mappings: &[MappingRound]) -> DescribedMappings {
        let here: HashSet<&Arc<TrackedMapping>> = mappings.iter().map(|m| &m.mapping).collect();
        self.by_mapping.retain(|mapping, _| here.contains(mapping));
        if self.by_mapping.len() == here.len() {
            return (Vec::new(), Vec::new());
        }
        let taken: HashSet<u32> = self.by_mapping.values().copied().collect();
        let mut free = (0..).filter(|slot| !taken.contains(slot));
        let (mut described, mut shared) = (Vec::new(), Vec::new());
        for MappingRound { mapping, .. } in mappings {
            if self.by_mapping.contains_key(mapping) {
                continue;
            }
            let Some(slot) = free.next() else { break };
            match self.pages.get_mut(slot as usize) {
                Some(pages) => *pages = TrackedPages::default(),
                None => self.pages.push(TrackedPages::default()),
            }
            described.push((slot, DiskMapping::from(&**mapping)));
            shared.extend(mapping.shared.map(|place| (slot, place.into())));
            self.by_mapping.insert(Arc::clone(mapping), slot);
        }
        (described, shared)
    }
}

/// New mappings, and where those of them that are shared have their pages; each with its slot.
type DescribedMappings = (Vec<(u32, DiskMapping)>, Vec<(u32, DiskSharedPlace)>);
