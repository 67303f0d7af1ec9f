//! What a thread does: one thing after another, chosen at random.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use rustix::mm::Advice;

use super::place::{self, FuzzBacking, FuzzPlace, MOST_PAGES, PageAccess};

/// Where the places of the first thread are: nothing of a process is mapped between here and
/// 17 TiB.
const FIRST: u64 = 0x1000_0000_0000;
/// Between the places of two threads.
const THREAD: u64 = 1 << 30;
/// Between two places, each of which has a second one to move to in its middle.
const STRIDE: u64 = 4 << 20;
const PLACES: usize = 20;

/// A thread's memory, and how it chooses.
pub struct FuzzWorker {
    start: u64,
    random: Rng,
    places: Vec<Option<FuzzPlace>>,
    memory: File,
    thread: u64,
    directory: PathBuf,
    /// Every value is written once, so that each write is a change.
    value: u64,
}

// SAFETY: what is shared in it by `Rc` belongs to the places of one worker, which moves as a whole.
unsafe impl Send for FuzzWorker {}

impl FuzzWorker {
    /// With nothing mapped.
    pub fn new(thread: u64, seed: u64, directory: &Path) -> Result<Self> {
        let memory = File::options()
            .read(true)
            .write(true)
            .open("/proc/self/mem");
        Ok(Self {
            start: FIRST + thread * THREAD,
            random: Rng::with_seed(seed ^ thread << 32),
            places: (0..PLACES).map(|_| None).collect(),
            memory: memory.context("cannot open /proc/self/mem")?,
            thread,
            directory: directory.to_owned(),
            value: (thread + 1) << 48,
        })
    }

    /// Does one thing.
    pub fn turn(&mut self) -> Result<()> {
        let number = self.random.usize(0..PLACES);
        let Some(mut place) = self.places[number].take() else {
            self.places[number] = Some(self.map(number)?);
            return Ok(());
        };
        let first = self.random.usize(0..place.len());
        let count = self.random.usize(1..=place.len() - first);
        let keep = self.act(number, &mut place, first, count)?;
        if keep {
            self.places[number] = Some(place);
        }
        Ok(())
    }

    /// One thing to the pages of a run; false: the place is empty now.
    fn act(
        &mut self,
        number: usize,
        place: &mut FuzzPlace,
        first: usize,
        count: usize,
    ) -> Result<bool> {
        let stays = place.must_stay();
        match self.random.u32(0..100) {
            0..30 => self.store(place, first, count),
            30..42 => self.store_for_a_moment(place, first, count)?,
            42..50 => self.force(place, first, count),
            50..54 => {
                let value = self.next();
                place.read_into(first, value)?;
            }
            54..64 => (first..first + count).try_for_each(|page| place.check(page))?,
            64..74 => {
                let access = self.access();
                place.protect(first, count, access)?;
            }
            74..80 if !stays => place.empty(first, count)?,
            80..84 => place.advise(first, count, Advice::LinuxPopulateWrite)?,
            84..86 => place.advise(first, count, Advice::LinuxPopulateRead)?,
            86..88 if !stays => place.unmap(first, count)?,
            88..91 if !stays => {
                let access = self.access();
                place.map_again(first, count, access)?;
            }
            91..93 => place.resize(self.random.usize(1..=MOST_PAGES))?,
            93..95 if !stays => {
                let second = self.random.bool();
                return place.move_to(self.place_at(number, second));
            }
            95..97 => self.fork(place)?,
            _ if stays => (),
            _ => {
                place.unmap(0, place.len())?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn place_at(&self, number: usize, second: bool) -> u64 {
        let half = if second { STRIDE / 2 } else { 0 };
        self.start + number as u64 * STRIDE + half
    }

    fn map(&mut self, number: usize) -> Result<FuzzPlace> {
        let backing = match self.random.u32(0..10) {
            0..5 => FuzzBacking::Anon,
            5..7 => FuzzBacking::File(Rc::new(place::file(&self.directory, self.thread)?)),
            7..9 => place::shared()?,
            // What another place has mapped already.
            _ => self.shared_already().map_or_else(place::shared, Ok)?,
        };
        let (count, access) = (self.random.usize(1..=MOST_PAGES), self.access());
        FuzzPlace::map(self.place_at(number, false), count, access, backing)
    }

    fn shared_already(&self) -> Option<FuzzBacking> {
        let mut shared = self.places.iter().flatten().map(FuzzPlace::backing);
        shared
            .find(|backing| matches!(backing, FuzzBacking::Shared(..)))
            .cloned()
    }

    fn access(&mut self) -> PageAccess {
        if self.random.bool() {
            PageAccess::Write
        } else {
            PageAccess::ALL[self.random.usize(0..PageAccess::ALL.len())]
        }
    }

    fn next(&mut self) -> u64 {
        self.value += 1;
        self.value
    }

    /// Some of the pages of a run.
    fn some(&mut self, first: usize, count: usize) -> Vec<usize> {
        let dense = self.random.bool();
        let pages = first..first + count;
        pages
            .filter(|_| dense || self.random.u32(0..6) == 0)
            .collect()
    }

    fn store(&mut self, place: &mut FuzzPlace, first: usize, count: usize) {
        for page in self.some(first, count) {
            let value = self.next();
            place.store(page, value);
        }
    }

    /// As what makes code at run time does: writable for the write only.
    fn store_for_a_moment(
        &mut self,
        place: &mut FuzzPlace,
        first: usize,
        count: usize,
    ) -> Result<()> {
        let access = if self.random.bool() {
            PageAccess::Execute
        } else {
            PageAccess::Read
        };
        place.protect(first, count, PageAccess::Write)?;
        self.store(place, first, count);
        place.protect(first, count, access)
    }

    fn force(&mut self, place: &mut FuzzPlace, first: usize, count: usize) {
        for page in self.some(first, count) {
            let value = self.next();
            place.force(page, value, &self.memory);
        }
    }

    /// A child stores to its copy of private memory, and ends.
    fn fork(&mut self, place: &mut FuzzPlace) -> Result<()> {
        let shared = matches!(place.backing(), FuzzBacking::Shared(..));
        let writable: Vec<usize> = (0..place.len())
            .filter(|page| !shared && place.access(*page) == Some(PageAccess::Write))
            .collect();
        // SAFETY: the child allocates nothing, stores to its own memory, and leaves by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            for page in writable {
                place.store(page, u64::MAX);
            }
            // SAFETY: it ends the child.
            unsafe { libc::_exit(0) };
        }
        ensure!(child > 0, "fork: {}", std::io::Error::last_os_error());
        // SAFETY: waits for our child.
        let waited = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        ensure!(waited == child, "cannot wait for a child");
        Ok(())
    }
}
