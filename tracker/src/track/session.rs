//! One process, tracked round by round.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;

use super::TrackError;
use super::attach::{self, Attached, Options};
use super::borders;
use super::model::{Extent, Header, Mapping, MappingRound, Pages, Round};
use super::populated::{self, Populated, There};
use super::vmas::{Found, Reader};
use crate::inject::{Life, Lifeline};
use crate::model::words;
use crate::strategy::{Area, Facts, Name, Strategy, Written};
use crate::uffd::{self, Error, Pagemap, pages_in};

/// What a round came to.
#[derive(Debug)]
pub enum Step {
    /// A round, complete.
    Round(Round),
    /// The process has ended.
    Exited,
}

/// A tracked process. Dropping it disarms everything; so does the kernel if this process is killed.
pub struct Session {
    pid: u32,
    options: Options,
    facts: Facts,
    header: Header,
    tracking: Tracking,
    began: Instant,
    last: Instant,
    number: u64,
    /// What is told with the next round.
    events: Vec<String>,
}

/// One address space, tracked until the process executes another program.
struct Tracking {
    strategy: Box<dyn Strategy>,
    lifeline: Lifeline,
    populated: Populated,
    reader: Reader,
    /// What is tracked, by address.
    areas: Vec<Area>,
    /// Mappings that cannot be tracked, with the reason, by start.
    passed_over: BTreeMap<u64, (Arc<Mapping>, String)>,
}

/// What came of one area in a round.
#[derive(Default)]
struct Part {
    pages: Pages,
    extents: Vec<Extent>,
}

/// The address space is gone, or is another one.
struct Lost;

type Reached<T> = Result<Result<T, Lost>, Error>;

impl Session {
    /// Attaches to a process, arms everything, and returns the session with round 0.
    ///
    /// # Errors
    /// Whatever stands against it; the process goes on as before then.
    pub fn begin(pid: u32, facts: Facts, options: Options) -> Result<(Self, Round), TrackError> {
        let kernel = |source| TrackError::Kernel { pid, source };
        let attached = attach::attach(pid, &facts, &options)?;
        let comm = uffd::comm(pid)
            .map_err(kernel)?
            .ok_or(TrackError::Gone(pid))?;
        let command = uffd::arguments(pid).map_err(kernel)?.unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let header = Header {
            pid,
            comm: text(comm),
            command: command.into_iter().map(text).collect(),
            strategy: attached.strategy.name().to_string(),
            reason: attached.reason.clone(),
            interval: options.interval,
            began: SystemTime::now(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            tracker: concat!(env!("CARGO_PKG_VERSION"), " ", env!("TRACKER_REVISION")).to_owned(),
            stopped: attached.stopped,
            notes: attached.notes.clone(),
        };
        let now = Instant::now();
        let tracking = Tracking::new(pid, &facts, attached)
            .map_err(kernel)?
            .ok_or(TrackError::Gone(pid))?;
        let mut session = Self {
            pid,
            options,
            facts,
            header,
            tracking,
            began: now,
            last: now,
            number: 0,
            events: Vec::new(),
        };
        let Step::Round(first) = session.step()? else {
            return Err(TrackError::Gone(pid));
        };
        session.header.notes.extend(session.tracking.notes());
        Ok((session, first))
    }

    /// What does not change. Its notes are complete after [`Self::begin`].
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Reads what was written since the last round and arms it again.
    ///
    /// # Errors
    /// If the kernel refuses something that is not the process's end.
    pub fn step(&mut self) -> Result<Step, TrackError> {
        let pid = self.pid;
        let kernel = |source| TrackError::Kernel { pid, source };
        loop {
            let began = Instant::now();
            match self.tracking.round().map_err(kernel)? {
                Ok(mappings) => {
                    let round = Round {
                        number: self.number,
                        at: began - self.began,
                        lasted: began - self.last,
                        took: began.elapsed(),
                        mappings,
                        events: std::mem::take(&mut self.events),
                    };
                    self.last = began;
                    self.number += 1;
                    return Ok(Step::Round(round));
                }
                Err(Lost) => match self.tracking.lifeline.life().map_err(kernel)? {
                    Life::Ended => return Ok(Step::Exited),
                    // exec was under way, or a read was refused for another reason.
                    Life::Same => std::thread::sleep(Duration::from_millis(1)),
                    Life::Replaced => {
                        if !self.attach_again()? {
                            return Ok(Step::Exited);
                        }
                    }
                },
            }
        }
    }

    /// Ends it: everything is disarmed and nobody waits.
    ///
    /// # Errors
    /// If the kernel refuses to disarm something that is still there; closing the descriptor, which follows, does.
    pub fn end(self) -> Result<(), TrackError> {
        let pid = self.pid;
        self.tracking
            .strategy
            .release()
            .map_err(|source| TrackError::Kernel { pid, source })
    }

    /// Readable when the process has ended.
    #[must_use]
    pub fn lifeline(&self) -> &Lifeline {
        &self.tracking.lifeline
    }

    /// After exec; false if the process has ended meanwhile.
    fn attach_again(&mut self) -> Result<bool, TrackError> {
        let pid = self.pid;
        let kernel = |source| TrackError::Kernel { pid, source };
        let mut options = self.options.clone();
        // The rounds before and after must mean the same.
        options.strategy = Some(self.tracking.strategy.name());
        let attached = match attach::attach(pid, &self.facts, &options) {
            Ok(attached) => attached,
            Err(TrackError::Gone(_)) => return Ok(false),
            Err(error) => {
                let ended = matches!(self.tracking.lifeline.life(), Ok(Life::Ended));
                return if ended { Ok(false) } else { Err(error) };
            }
        };
        let stopped = attached.stopped.unwrap_or_default();
        let Some(tracking) = Tracking::new(pid, &self.facts, attached).map_err(kernel)? else {
            return Ok(false);
        };
        self.tracking = tracking;
        let comm = uffd::comm(pid).map_err(kernel)?.unwrap_or_default();
        self.events.push(format!(
            "executes another program, {}: attached again (it stood still for {:.2} ms); its first pages are unknown",
            String::from_utf8_lossy(&comm),
            stopped.as_secs_f64() * 1e3
        ));
        Ok(true)
    }
}

impl Tracking {
    fn new(pid: u32, facts: &Facts, attached: Attached) -> Result<Option<Self>, Error> {
        let scans = facts.behaviour.written.is_some();
        Ok(Pagemap::open(pid)?.map(|pagemap| Self {
            strategy: attached.strategy,
            lifeline: attached.lifeline,
            populated: Populated::new(pagemap, scans),
            reader: Reader::new(pid),
            areas: Vec::new(),
            passed_over: BTreeMap::new(),
        }))
    }

    /// One round: what is tracked is read and armed again, what is new is armed for the first time.
    fn round(&mut self) -> Reached<Vec<MappingRound>> {
        let Some(vmas) = self.reader.read()? else {
            return Ok(Err(Lost));
        };
        let mut parts = Parts::default();
        let old = self.areas.clone();
        self.fit(&vmas);
        for area in &old {
            let left = borders::overlapping(&self.areas, &area.range)
                .map(|kept| {
                    pages_in(
                        &(kept.range.start.max(area.range.start)
                            ..kept.range.end.min(area.range.end)),
                    )
                })
                .sum::<u64>();
            parts.vanished(area, pages_in(&area.range).saturating_sub(left));
        }
        for area in self.areas.clone() {
            match self.read(&area)? {
                Ok(part) => parts.add(area.range.start, part),
                Err(lost) => return Ok(Err(lost)),
            }
        }
        self.passed_over.retain(|start, (mapping, _)| {
            let at = vmas.binary_search_by_key(start, |found| found.mapping.start);
            at.is_ok_and(|index| vmas[index].mapping == *mapping)
        });
        let wanted = vmas
            .iter()
            .filter(|found| !self.passed_over.contains_key(&found.mapping.start));
        for hole in borders::holes(&self.areas, wanted) {
            match self.take(&hole, &vmas)? {
                Ok(Some(part)) => parts.add(hole.range.start, part),
                Ok(None) => (),
                Err(lost) => return Ok(Err(lost)),
            }
        }
        self.fit(&vmas);
        if self.strategy.end_round()?.is_none() {
            return Ok(Err(Lost));
        }
        Ok(Ok(parts.rows(&self.areas, &vmas)))
    }

    /// Draws the borders of what is tracked where the mappings have theirs.
    fn fit(&mut self, vmas: &[Found]) {
        self.areas.sort_by_key(|area| area.range.start);
        let fitted = borders::fit(&self.areas, vmas);
        let (old, new) = borders::changes(&self.areas, &fitted);
        if !old.is_empty() || !new.is_empty() {
            self.strategy.redraw(&old, &new);
        }
        self.areas = fitted;
    }

    /// Reads one area and arms it again.
    fn read(&mut self, area: &Area) -> Reached<Part> {
        let mut written = Vec::new();
        let Some(stats) = self.strategy.round(area, &mut written)? else {
            return Ok(Err(Lost));
        };
        let mut part = Part {
            pages: Pages {
                tracked: stats.tracked,
                armed: stats.armed,
                written: stats.written,
                touched: stats.touched,
                zapped: stats.zapped,
                vanished: stats.vanished,
                ..Pages::default()
            },
            extents: written.into_iter().map(extent).collect(),
        };
        if stats.vanished != 0 {
            match self.renew(area)? {
                Ok(unknown) => part.join(unknown),
                Err(lost) => return Ok(Err(lost)),
            }
        }
        Ok(Ok(part))
    }

    /// Part of an area that is mapped was not registered: it was unmapped and mapped anew. Tracks it again.
    fn renew(&mut self, area: &Area) -> Reached<Part> {
        match self.strategy.renew(area) {
            Ok(()) => (),
            // Unmapped since the mappings were read, or another userfaultfd's by now: the next round sees it.
            Err(error) if is_passing(&error) || refusal(&error).is_some() => {
                return Ok(Ok(Part::default()));
            }
            Err(error) => return Err(error),
        }
        let mut there = Vec::new();
        let before = self
            .populated
            .append(&area.range, There::Anywhere, &mut there)?;
        let mut written = Vec::new();
        let (Some(()), Some(stats)) = (before, self.strategy.round(area, &mut written)?) else {
            return Ok(Err(Lost));
        };
        let mut now = Vec::new();
        if self
            .populated
            .append(&area.range, There::InMemory, &mut now)?
            .is_none()
        {
            return Ok(Err(Lost));
        }
        // Unarmed until now, and there: written since it was mapped, or only read.
        let unarmed: Vec<_> = written.into_iter().map(|written| written.range).collect();
        let unknown = [there, now].map(|there| populated::common(&unarmed, &there));
        let [there, now] = unknown;
        Ok(Ok(Part::unknown(area, stats.armed, there, now)))
    }

    /// Begins to track a hole. Nothing if it cannot be, which is noted.
    fn take(&mut self, hole: &Area, vmas: &[Found]) -> Reached<Option<Part>> {
        let mut there = Vec::new();
        if self
            .populated
            .append(&hole.range, There::Anywhere, &mut there)?
            .is_none()
        {
            return Ok(Err(Lost));
        }
        match self.strategy.arm(hole) {
            Ok(Some(())) => (),
            Ok(None) => return Ok(Err(Lost)),
            Err(error) if is_passing(&error) => return Ok(Ok(None)),
            Err(error) => {
                let Some(reason) = refusal(&error) else {
                    return Err(error);
                };
                let found = vmas
                    .iter()
                    .find(|found| found.area().range.contains(&hole.range.start));
                if let Some(found) = found {
                    let mapping = found.mapping.clone();
                    self.passed_over.insert(mapping.start, (mapping, reason));
                }
                return Ok(Ok(None));
            }
        }
        // What came in between is armed and there; it cannot be told from what was there before.
        let mut now = Vec::new();
        if self
            .populated
            .append(&hole.range, There::InMemory, &mut now)?
            .is_none()
        {
            return Ok(Err(Lost));
        }
        self.areas.push(hole.clone());
        let mut part = Part::unknown(hole, hole.pages(), there, now);
        part.pages.tracked = hole.pages();
        Ok(Ok(Some(part)))
    }

    /// What cannot be tracked, for people.
    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<_> = self
            .passed_over
            .values()
            .map(|(mapping, reason)| {
                format!(
                    "passed over {:#x}-{:#x} {}: {reason}",
                    mapping.start,
                    mapping.end,
                    if mapping.name.is_empty() {
                        words::backing(mapping.backing)
                    } else {
                        &mapping.name
                    },
                )
            })
            .collect();
        if self.strategy.name().needs_descriptor() {
            notes.push(
                "a userfaultfd that the process registers itself for a tracked mapping is refused with EBUSY \
                 while it is tracked"
                    .to_owned(),
            );
        }
        if self.strategy.name() == Name::SoftDirty {
            notes.push(
                "every round clears the soft-dirty bits of the process: whoever else uses them (CRIU) loses writes"
                    .to_owned(),
            );
        }
        notes
    }
}

impl Part {
    /// Pages that were there when they were armed for the first time.
    fn unknown(area: &Area, armed: u64, before: Vec<Range<u64>>, after: Vec<Range<u64>>) -> Self {
        let extents = populated::union(before, after, area.page_size);
        Self {
            pages: Pages {
                armed,
                unknown: extents.iter().map(Extent::pages).sum(),
                ..Pages::default()
            },
            extents,
        }
    }

    fn join(&mut self, other: Self) {
        let (sum, more) = (&mut self.pages, &other.pages);
        let optional =
            |a: Option<u64>, b: Option<u64>| a.map_or(b, |a| Some(a + b.unwrap_or_default()));
        *sum = Pages {
            tracked: sum.tracked + more.tracked,
            armed: sum.armed + more.armed,
            written: sum.written + more.written,
            unknown: sum.unknown + more.unknown,
            touched: optional(sum.touched, more.touched),
            zapped: optional(sum.zapped, more.zapped),
            moved: optional(sum.moved, more.moved),
            vanished: sum.vanished + more.vanished,
        };
        self.extents.extend(other.extents);
    }
}

/// What came of everything, by the address it begins at.
#[derive(Default)]
struct Parts {
    parts: BTreeMap<u64, Part>,
    /// Areas of which a part or all is unmapped, with how many pages.
    vanished: Vec<(Area, u64)>,
}

impl Parts {
    fn add(&mut self, start: u64, part: Part) {
        self.parts.entry(start).or_default().join(part);
    }

    fn vanished(&mut self, area: &Area, pages: u64) {
        if pages != 0 {
            self.vanished.push((area.clone(), pages));
        }
    }

    /// A row for each tracked mapping.
    fn rows(mut self, areas: &[Area], vmas: &[Found]) -> Vec<MappingRound> {
        let mut rows = Vec::new();
        for found in vmas {
            let here = found.area().range;
            if borders::overlapping(areas, &here).next().is_none() {
                continue;
            }
            let mut sum = Part::default();
            let starts: Vec<u64> = self.parts.range(here).map(|(start, _)| *start).collect();
            for part in starts.iter().filter_map(|start| self.parts.remove(start)) {
                sum.join(part);
            }
            sum.extents.sort_by_key(|extent| extent.range.start);
            rows.push(MappingRound {
                mapping: found.mapping.clone(),
                pages: sum.pages,
                written: sum.extents,
            });
        }
        for (area, pages) in self.vanished {
            let after = rows.partition_point(|row| row.mapping.end <= area.range.start);
            match rows.get_mut(after) {
                Some(row) if row.mapping.start < area.range.end => row.pages.vanished += pages,
                _ => rows.insert(after, vanished_row(&area, pages)),
            }
        }
        rows
    }
}

/// A mapping that is gone as a whole.
fn vanished_row(area: &Area, pages: u64) -> MappingRound {
    MappingRound {
        mapping: Arc::new(Mapping {
            start: area.range.start,
            end: area.range.end,
            name: String::new(),
            backing: area.backing,
            page_size: area.page_size,
        }),
        pages: Pages {
            vanished: pages,
            ..Pages::default()
        },
        written: Vec::new(),
    }
}

fn extent(written: Written) -> Extent {
    Extent {
        range: written.range,
        unit: written.unit,
        unknown: false,
    }
}

/// Unmapped meanwhile, or the process is going away: the next look at the mappings tells.
fn is_passing(error: &Error) -> bool {
    const ANSWERS: [Errno; 3] = [Errno::NOENT, Errno::NOMEM, Errno::SRCH];
    ANSWERS
        .iter()
        .any(|errno| error.errno() == Some(errno.raw_os_error()))
}

/// Why a mapping can never be tracked in this way, if that is what the kernel says.
fn refusal(error: &Error) -> Option<String> {
    let errno = error.errno()?;
    let reason = if errno == Errno::BUSY.raw_os_error() {
        "it belongs to a userfaultfd already (userfaultfd cannot be nested); `tracker agent` still observes it"
    } else if errno == Errno::INVAL.raw_os_error() {
        "this kernel cannot write-protect memory of this kind"
    } else if errno == Errno::PERM.raw_os_error() {
        "the file is not open for writing, or sealed against it"
    } else {
        return None;
    };
    Some(reason.to_owned())
}
