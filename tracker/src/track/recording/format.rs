//! The bytes of a recording: constants, and what a frame holds.
//!
//! Structs of their own, apart from the model: the model may change, what lies on disk may not
//! without a new [`VERSION`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pages::track::{
    SharedPlace, TrackEnd, TrackHeader, TrackNote, TrackSummary, TrackedMapping, TrackedPages,
    UntrackedPages, UntrackedReason,
};
use serde::{Deserialize, Serialize};
use uffd::Backing;

use super::FrameDamage;
use super::extents::DiskExtents;

/// What a recording begins with.
pub(super) const MAGIC: [u8; 8] = *b"uffdwpTR";
/// The format that is written. Format 1, which is read, too, has no wide rounds and summaries.
pub(super) const VERSION: u32 = 2;
/// The most bytes of a frame before compression. Both sides refuse a frame of more.
pub(super) const MAX_FRAME: usize = 64 << 20;
/// The most bytes of a compressed frame: what zstd cannot compress becomes a little larger.
pub(super) const MAX_PAYLOAD: usize = MAX_FRAME + (MAX_FRAME >> 7);
/// The most mappings of a round, 16 times what Linux allows unless told otherwise. A round of a few
/// bytes, because it is like the one before, must not become any amount of memory.
pub(super) const MAX_MAPPINGS: usize = 1 << 20;
/// log2 of the memory that decompressing may take to look back.
pub(super) const WINDOW_LOG: u32 = 23;
/// Length, checksum of the length, checksum of the payload: each a little-endian u32.
pub(super) const FRAME_HEAD: usize = 12;

/// The head of a frame. The length has a checksum of its own, so that a wrong length does not look
/// like a file that was cut off.
pub(super) fn frame_head(payload: &[u8], length: u32) -> [u8; FRAME_HEAD] {
    let mut head = [0; FRAME_HEAD];
    let sums = [
        length,
        crc32c::crc32c(&length.to_le_bytes()),
        crc32c::crc32c(payload),
    ];
    let (words, _) = head.as_chunks_mut::<4>();
    for (word, sum) in words.iter_mut().zip(sums) {
        *word = sum.to_le_bytes();
    }
    head
}

/// The three numbers of a head.
pub(super) fn parse_head(head: [u8; FRAME_HEAD]) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = head;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes)
}

/// What a frame is. Its number is the first of the frame; new kinds are added at the end, with a
/// new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Header,
    /// Of format 1.
    Round,
    /// Of format 1.
    Summary,
    WideRound,
    WideSummary,
}

impl FrameKind {
    const ALL: [Self; 5] = [
        Self::Header,
        Self::Round,
        Self::Summary,
        Self::WideRound,
        Self::WideSummary,
    ];

    pub(super) const fn number(self) -> u32 {
        self as u32
    }

    pub(super) fn of(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiskHeader {
    pid: u32,
    comm: String,
    command: Vec<String>,
    strategy: String,
    reason: String,
    interval: Duration,
    began: DiskTime,
    kernel: String,
    tracker: String,
    stopped: Option<Duration>,
    notes: Vec<String>,
}

/// Seconds since 1970, rounded down, and the rest: serde's own format refuses times before 1970.
#[derive(Debug, Serialize, Deserialize)]
struct DiskTime {
    seconds: i64,
    nanoseconds: u32,
}

/// A round as a difference from the one before. `rounds` takes these fields one by one.
#[derive(Debug, Serialize)]
pub(super) struct DiskRound {
    pub number: u64,
    pub at: Duration,
    pub lasted: Duration,
    pub took: Duration,
    /// Mappings that were not in the round before, each with the slot it has from here on.
    pub described: Vec<(u32, DiskMapping)>,
    /// The slots of all mappings by address; `None` if they are those of the round before.
    pub order: Option<Vec<u32>>,
    /// Mappings with news.
    pub entries: Vec<DiskEntry>,
    pub events: Vec<String>,
}

/// A round, with what format 1 does not have. `rounds` takes these fields one by one.
#[derive(Debug, Serialize)]
pub(super) struct DiskWideRound {
    pub round: DiskRound,
    /// Which of the mappings described in this round are shared, by slot.
    pub shared: Vec<(u32, DiskSharedPlace)>,
    /// What was not looked at; `None` if it is that of the round before.
    pub not_looked_at: Option<DiskUntracked>,
}

/// A summary, with what format 1 does not have.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiskWideSummary {
    summary: DiskSummary,
    shared: u64,
    not_looked_at: DiskUntracked,
}

/// One mapping in a round. A mapping without an entry has no extents, and the counts of the round
/// before.
#[derive(Debug, Serialize)]
pub(super) struct DiskEntry {
    /// How many mappings of `order` lie between the entry before and this one.
    pub skip: u64,
    pub pages: DiskPages,
    pub written: DiskExtents,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiskMapping {
    start: u64,
    length: u64,
    name: String,
    backing: u8,
    page_size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiskSharedPlace {
    device: (u32, u32),
    inode: u64,
    offset: u64,
}

/// Reasons, by their number, with pages.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiskUntracked(Vec<(u8, u64)>);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiskPages {
    tracked: u64,
    armed: u64,
    written: u64,
    unknown: u64,
    touched: Option<u64>,
    zapped: Option<u64>,
    moved: Option<u64>,
    vanished: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiskSummary {
    rounds: u64,
    lasted: Duration,
    written_set: u64,
    written: u64,
    unknown_set: u64,
    tracked: u64,
    took: Duration,
    end: u8,
    status: Option<i32>,
}

impl From<&TrackHeader> for DiskHeader {
    fn from(header: &TrackHeader) -> Self {
        // Names every field: a new one in the model does not compile until it is recorded.
        let TrackHeader {
            pid,
            comm,
            command,
            strategy,
            reason,
            interval,
            began,
            kernel,
            tracker,
            stopped,
            notes,
        } = header.clone();
        let began = DiskTime::from(began);
        let notes = notes.iter().map(ToString::to_string).collect();
        Self {
            pid,
            comm,
            command,
            strategy,
            reason,
            interval,
            began,
            kernel,
            tracker,
            stopped,
            notes,
        }
    }
}

impl TryFrom<DiskHeader> for TrackHeader {
    type Error = FrameDamage;

    fn try_from(header: DiskHeader) -> Result<Self, Self::Error> {
        let DiskHeader {
            pid,
            comm,
            command,
            strategy,
            reason,
            interval,
            began,
            kernel,
            tracker,
            stopped,
            notes,
        } = header;
        let began = began.decode().ok_or(FrameDamage::Time)?;
        let notes = notes.into_iter().map(TrackNote::Recorded).collect();
        Ok(Self {
            pid,
            comm,
            command,
            strategy,
            reason,
            interval,
            began,
            kernel,
            tracker,
            stopped,
            notes,
        })
    }
}

impl From<SystemTime> for DiskTime {
    fn from(time: SystemTime) -> Self {
        let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => (since.as_secs().cast_signed(), since.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                let part = before.subsec_nanos();
                let whole = before.as_secs().wrapping_add(u64::from(part > 0));
                (
                    whole.cast_signed().wrapping_neg(),
                    if part > 0 { 1_000_000_000 - part } else { 0 },
                )
            }
        };
        Self {
            seconds,
            nanoseconds,
        }
    }
}

impl DiskTime {
    fn decode(&self) -> Option<SystemTime> {
        if self.nanoseconds >= 1_000_000_000 {
            return None;
        }
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let seconds = if self.seconds < 0 {
            UNIX_EPOCH.checked_sub(whole)
        } else {
            UNIX_EPOCH.checked_add(whole)
        };
        seconds?.checked_add(Duration::from_nanos(self.nanoseconds.into()))
    }
}

impl From<&TrackedMapping> for DiskMapping {
    fn from(mapping: &TrackedMapping) -> Self {
        let TrackedMapping {
            start,
            end,
            name,
            backing,
            page_size,
            // Stands beside it in the round.
            shared: _,
        } = mapping.clone();
        Self {
            start,
            length: end.wrapping_sub(start),
            name,
            backing: backing as u8,
            page_size,
        }
    }
}

impl TryFrom<DiskMapping> for TrackedMapping {
    type Error = FrameDamage;

    fn try_from(mapping: DiskMapping) -> Result<Self, Self::Error> {
        let DiskMapping {
            start,
            length,
            name,
            backing,
            page_size,
        } = mapping;
        let backing = Backing::ALL
            .get(usize::from(backing))
            .ok_or(FrameDamage::Backing)?;
        Ok(Self {
            start,
            end: start.wrapping_add(length),
            name,
            backing: *backing,
            page_size,
            shared: None,
        })
    }
}

impl From<SharedPlace> for DiskSharedPlace {
    fn from(place: SharedPlace) -> Self {
        let SharedPlace {
            device,
            inode,
            offset,
        } = place;
        Self {
            device,
            inode,
            offset,
        }
    }
}

impl From<DiskSharedPlace> for SharedPlace {
    fn from(place: DiskSharedPlace) -> Self {
        let DiskSharedPlace {
            device,
            inode,
            offset,
        } = place;
        Self {
            device,
            inode,
            offset,
        }
    }
}

impl From<&UntrackedPages> for DiskUntracked {
    fn from(pages: &UntrackedPages) -> Self {
        let number = |reason| {
            (0..)
                .zip(UntrackedReason::ALL)
                .find(|(_, it)| *it == reason)
        };
        let coded = pages
            .iter()
            .filter_map(|(reason, pages)| Some((number(reason)?.0, pages)));
        Self(coded.collect())
    }
}

impl TryFrom<DiskUntracked> for UntrackedPages {
    type Error = FrameDamage;

    fn try_from(pages: DiskUntracked) -> Result<Self, Self::Error> {
        let reason = |number: u8| {
            let reason = UntrackedReason::ALL.get(usize::from(number));
            reason.copied().ok_or(FrameDamage::Untracked)
        };
        let decoded = pages.0.into_iter();
        decoded
            .map(|(number, pages)| Ok((reason(number)?, pages)))
            .collect()
    }
}

impl From<TrackedPages> for DiskPages {
    fn from(pages: TrackedPages) -> Self {
        let TrackedPages {
            tracked,
            armed,
            written,
            unknown,
            touched,
            zapped,
            moved,
            vanished,
        } = pages;
        Self {
            tracked,
            armed,
            written,
            unknown,
            touched,
            zapped,
            moved,
            vanished,
        }
    }
}

impl From<&DiskPages> for TrackedPages {
    fn from(pages: &DiskPages) -> Self {
        let &DiskPages {
            tracked,
            armed,
            written,
            unknown,
            touched,
            zapped,
            moved,
            vanished,
        } = pages;
        Self {
            tracked,
            armed,
            written,
            unknown,
            touched,
            zapped,
            moved,
            vanished,
        }
    }
}

impl From<&TrackSummary> for DiskWideSummary {
    fn from(summary: &TrackSummary) -> Self {
        let TrackSummary {
            rounds,
            lasted,
            written_set,
            written,
            unknown_set,
            tracked,
            shared,
            not_looked_at,
            took,
            end,
            status,
            huge_pages: _,
        } = summary.clone();
        let end = match end {
            TrackEnd::Done => 0,
            TrackEnd::Interrupted => 1,
            TrackEnd::Exited => 2,
        };
        Self {
            summary: DiskSummary {
                rounds,
                lasted,
                written_set,
                written,
                unknown_set,
                tracked,
                took,
                end,
                status,
            },
            shared,
            not_looked_at: (&not_looked_at).into(),
        }
    }
}

impl From<DiskSummary> for DiskWideSummary {
    fn from(summary: DiskSummary) -> Self {
        Self {
            summary,
            shared: 0,
            not_looked_at: DiskUntracked(Vec::new()),
        }
    }
}

impl TryFrom<DiskWideSummary> for TrackSummary {
    type Error = FrameDamage;

    fn try_from(wide: DiskWideSummary) -> Result<Self, Self::Error> {
        let DiskWideSummary {
            summary,
            shared,
            not_looked_at,
        } = wide;
        let DiskSummary {
            rounds,
            lasted,
            written_set,
            written,
            unknown_set,
            tracked,
            took,
            end,
            status,
        } = summary;
        let end = match end {
            0 => TrackEnd::Done,
            1 => TrackEnd::Interrupted,
            2 => TrackEnd::Exited,
            _ => return Err(FrameDamage::End),
        };
        Ok(Self {
            rounds,
            lasted,
            written_set,
            written,
            unknown_set,
            tracked,
            shared,
            not_looked_at: not_looked_at.try_into()?,
            took,
            end,
            status,
            huge_pages: None,
        })
    }
}
