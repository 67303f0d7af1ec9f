//! What the strategy `fault-time` is told: bits for pages of watched address spaces.
//!
//! A third copy of the object, attached when the first process is watched, and detached with
//! [`FaultTimeProbes`]. The bits lie in mmapped memory, so a round reads and takes them without a system call.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, Queue};
use bytemuck::Zeroable as _;
use pages::strategy::{FaultTimeBits, FaultTimeObserver, NotObserved};
use tracker_ebpf::{
    BLOCK_WORDS, FaultTimeWatch, PageBlock, WATCHES, block_key, block_place, kernel::PMD_SIZE,
};
use uffd::PAGE_SIZE;

use super::calibrate;
use super::continued_proof::ContinuedProof;
use super::error::ProbeError;
use super::grace;
use super::hooks::{self, FAULT_TIME_HOOKS, HookId};
use super::iterator;
use super::ladder::HookLadder;
use super::missed::MissSources;
use super::object::{OBJECT, ProbeObject};
use super::plan::{self, HookWishes};
use super::proof;
use super::prover::HookProver;
use super::shared::SharedArray;
use super::values::MapSizes;
use super::verdict::HookPlan;
use crate::kernel::facts::KernelFacts;
use crate::kernel::switches::KernelSwitches;

/// How to attach.
#[derive(Clone, Debug)]
pub struct FaultTimeOptions {
    /// What the user wants of the hooks.
    pub wishes: HookWishes,
    /// Blocks of bits for 2 MiB each, of all watched processes. A block takes 136 bytes; where they
    /// are used up, everything is reported.
    pub blocks: u32,
}

impl Default for FaultTimeOptions {
    fn default() -> Self {
        Self {
            wishes: HookWishes::default(),
            blocks: 16384,
        }
    }
}

/// Threads that can be emptying memory at once.
const EMPTYING: u32 = 1024;

/// Attaches programs when it is asked for, and shares them among all processes that are watched.
pub struct FaultTimeProbes {
    options: FaultTimeOptions,
    /// Or why that failed: it would again.
    attached: Mutex<Option<Result<Arc<FaultTimeObject>, String>>>,
}

impl fmt::Debug for FaultTimeProbes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultTimeProbes").finish_non_exhaustive()
    }
}

impl FaultTimeProbes {
    /// Attaches nothing yet.
    #[must_use]
    pub const fn new(options: FaultTimeOptions) -> Self {
        Self {
            options,
            attached: Mutex::new(None),
        }
    }

    /// One with the usual options, to hand to whoever starts strategies.
    #[must_use]
    pub fn shared() -> Arc<dyn FaultTimeObserver> {
        Arc::new(Self::new(FaultTimeOptions::default()))
    }

    /// As [`Self::shared`], and attached.
    ///
    /// # Errors
    /// If one of the hooks cannot be attached.
    pub fn attached() -> Result<Arc<dyn FaultTimeObserver>, ProbeError> {
        let probes = Self::new(FaultTimeOptions::default());
        probes.object()?;
        Ok(Arc::new(probes))
    }

    /// How each hook is attached; attaches them if they are not.
    ///
    /// # Errors
    /// If one of them cannot be attached.
    pub fn plan(&self) -> Result<Vec<HookPlan>, ProbeError> {
        Ok(self.object()?.plan.clone())
    }

    /// The attached programs; attaches them if they are not.
    fn object(&self) -> Result<Arc<FaultTimeObject>, ProbeError> {
        let mut attached = lock(&self.attached);
        let once = || match FaultTimeObject::attach(&self.options) {
            Ok(object) => Ok(Arc::new(object)),
            Err(ProbeError::CannotWatch(why)) => Err(why),
            Err(error) => Err(error.to_string()),
        };
        let attached = attached.get_or_insert_with(once);
        attached.clone().map_err(ProbeError::CannotWatch)
    }
}

impl FaultTimeObserver for FaultTimeProbes {
    fn watch(&self, pid: u32) -> Result<Box<dyn FaultTimeBits>, NotObserved> {
        let boxed = |error: ProbeError| NotObserved(Box::new(error));
        let object = self.object().map_err(boxed)?;
        let watch = lock(&object.state).watch(pid).map_err(boxed)?;
        Ok(Box::new(WatchedBits { object, watch }))
    }
}

/// Nothing that is guarded here is left half changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The object in the kernel.
struct FaultTimeObject {
    plan: Vec<HookPlan>,
    state: Mutex<WatchState>,
}

impl FaultTimeObject {
    fn attach(options: &FaultTimeOptions) -> Result<Self, ProbeError> {
        let functions = hooks::functions(FAULT_TIME_HOOKS);
        let mut facts = KernelFacts::gather(&functions, &hooks::tracepoints(FAULT_TIME_HOOKS));
        facts.tried = calibrate::tried();
        facts.switches = KernelSwitches::read(&facts.mounts);
        let ladder = HookLadder {
            table: FAULT_TIME_HOOKS,
            facts: &facts,
            wishes: &options.wishes,
            sizes: MapSizes::NONE,
        };
        let object = ProbeObject::parse(OBJECT.into()).map_err(Into::into);
        let (plan, loaded) = ladder.attach(
            object,
            |loader| {
                loader
                    .map_max_entries("BLOCKS", options.blocks)
                    .map_max_entries("BLOCK_BITS", options.blocks)
                    .map_max_entries("FREE_BLOCKS", options.blocks)
                    .map_max_entries("EMPTYING", EMPTYING);
            },
            |ebpf| {
                Ok((
                    FaultTimeMaps::take(ebpf, options.blocks)?,
                    HookProver::take(ebpf)?,
                ))
            },
        );
        let mut plan = plan;
        let loaded = loaded.map(|(mut ebpf, (maps, prover))| {
            let switches = || KernelSwitches::read(&facts.mounts);
            let states = prover.prove_or_attach_anew(&plan, switches, || &mut ebpf);
            plan = proof::settled(&plan, &states, switches());
            (ebpf, maps, prover)
        });
        if let Some(missing) = plan.iter().find(|plan| plan.is_missing()) {
            let without = missing.hook.without;
            let reason = format!("{}: {}: {without}", missing.hook.name(), missing.reason());
            return Err(ProbeError::CannotWatch(reason));
        }
        let Some((ebpf, maps, prover)) = loaded else {
            return Err(ProbeError::CannotWatch(plan::level(&plan).1));
        };
        let sources = MissSources::find(&ebpf, &plan);
        if sources.all().is_none() {
            let reason = "this kernel does not tell what it keeps from eBPF programs".to_owned();
            return Err(ProbeError::CannotWatch(reason));
        }
        let state = Mutex::new(WatchState {
            ebpf,
            sources,
            maps,
            watches: BTreeMap::new(),
            last: 0,
            retired: Vec::new(),
            untold: 0,
            proof: ContinuedProof::new(prover, facts.mounts),
        });
        Ok(Self { plan, state })
    }
}

/// What the programs share with us.
struct FaultTimeMaps {
    blocks: SharedArray<PageBlock>,
    watches: SharedArray<FaultTimeWatch>,
    /// Block key -> index.
    index: HashMap<MapData, u64, u32>,
    free: Queue<MapData, u32>,
    pids: HashMap<MapData, u32, u32>,
    watched: HashMap<MapData, u64, u32>,
}

impl FaultTimeMaps {
    fn take(ebpf: &mut Ebpf, blocks: u32) -> Result<Self, ProbeError> {
        let array = |name| ebpf.map(name).ok_or(ProbeError::NoMap(name));
        let block_array = SharedArray::map(array("BLOCK_BITS")?, blocks)?;
        let watches = SharedArray::map(array("FAULT_TIME")?, WATCHES)?;
        let mut free: Queue<MapData, u32> = take(ebpf, "FREE_BLOCKS")?.try_into()?;
        for block in 0..blocks {
            free.push(block, 0)?;
        }
        Ok(Self {
            blocks: block_array,
            watches,
            index: take(ebpf, "BLOCKS")?.try_into()?,
            free,
            pids: take(ebpf, "WATCH_PIDS")?.try_into()?,
            watched: take(ebpf, "WATCHED")?.try_into()?,
        })
    }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, ProbeError> {
    ebpf.take_map(name).ok_or(ProbeError::NoMap(name))
}

/// All that changes.
struct WatchState {
    ebpf: Ebpf,
    sources: MissSources,
    maps: FaultTimeMaps,
    watches: BTreeMap<u32, WatchBlocks>,
    /// The id that was given last.
    last: u32,
    /// Blocks that no program finds any more, but one may still be using.
    retired: Vec<u32>,
    /// How often it was not known what the programs miss: the kernel did not tell, or one of them
    /// does not fire.
    untold: u64,
    proof: ContinuedProof,
}

/// The blocks of a watch that are known.
#[derive(Default)]
struct WatchBlocks {
    pid: u32,
    /// How many had been made when they were looked for.
    made: u64,
    /// Indices by first address.
    at: BTreeMap<u64, u32>,
}

/// The bits of a block that are meant.
#[derive(Clone, Copy, Debug)]
enum BlockBits {
    Written,
    OnlyRead,
}

impl BlockBits {
    const fn offset(self) -> usize {
        match self {
            Self::Written => offset_of!(PageBlock, written),
            Self::OnlyRead => offset_of!(PageBlock, read_only),
        }
    }
}

impl WatchState {
    /// Watches the address space that a process has now.
    fn watch(&mut self, pid: u32) -> Result<u32, ProbeError> {
        let mut ids = (self.last + 1..WATCHES).chain(1..=self.last);
        let id = ids.find(|id| !self.watches.contains_key(id));
        let id = id.ok_or(ProbeError::TooManyWatches)?;
        let zeroed = FaultTimeWatch::zeroed();
        self.maps.watches.write(id as usize, zeroed);
        self.last = id;
        let blocks = WatchBlocks {
            pid,
            ..WatchBlocks::default()
        };
        self.watches.insert(id, blocks);
        let found = self.find(pid, id);
        if !matches!(found, Ok(true)) {
            self.unwatch(id);
        }
        if found? {
            Ok(id)
        } else {
            Err(ProbeError::NoProcess(pid))
        }
    }

    /// Runs the iterator; returns whether it found the address space.
    fn find(&mut self, pid: u32, id: u32) -> Result<bool, ProbeError> {
        self.maps.pids.insert(pid, id, 0)?;
        let found = iterator::run(&mut self.ebpf, HookId::fault_time_watch.name())?;
        Ok(found.chunks_exact(4).any(|found| found == id.to_ne_bytes()))
    }

    fn unwatch(&mut self, id: u32) {
        let watched = self.maps.watched.iter().flatten();
        let spaces: Vec<u64> = watched
            .filter(|(_, found)| *found == id)
            .map(|(mm, _)| mm)
            .collect();
        for mm in spaces {
            // It is gone if the process has ended in the meantime.
            let _ = self.maps.watched.remove(&mm);
        }
        self.forget(id, &(0..u64::MAX));
        if let Some(blocks) = self.watches.remove(&id)
            && self
                .maps
                .pids
                .get(&blocks.pid, 0)
                .is_ok_and(|found| found == id)
        {
            // It is there, and only we remove it.
            let _ = self.maps.pids.remove(&blocks.pid);
        }
    }

    /// Looks for blocks that programs have made since the last time.
    fn refresh(&mut self, id: u32) {
        let made = self.maps.watches.read(id as usize).made;
        let Some(known) = self.watches.get_mut(&id) else {
            return;
        };
        if known.made == made {
            return;
        }
        known.made = made;
        for index in 0..self.maps.blocks.len() {
            let key = self.maps.blocks.word(index, offset_of!(PageBlock, key));
            let key = key.map_or(0, |key| key.load(Ordering::Acquire));
            let (watch, start) = block_place(key);
            if watch == id
                && let Ok(index) = u32::try_from(index)
            {
                known.at.insert(start, index);
            }
        }
    }

    /// Applies `change` to each word of the blocks of a range, with the bits of the range in it;
    /// returns the pages whose bits it returns.
    fn words(
        &mut self,
        id: u32,
        range: &Range<u64>,
        bits: BlockBits,
        change: impl Fn(&AtomicU64, u64) -> u64,
    ) -> Vec<Range<u64>> {
        self.refresh(id);
        let mut found: Vec<Range<u64>> = Vec::new();
        let Some(known) = self.watches.get(&id) else {
            return found;
        };
        let first = range.start / PMD_SIZE * PMD_SIZE;
        for (&start, &index) in known.at.range(first..range.end.max(first)) {
            for word in 0..BLOCK_WORDS {
                let at = start + word as u64 * WORD;
                let mask = mask(at, range);
                let Some(place) = self
                    .maps
                    .blocks
                    .word(index as usize, bits.offset() + 8 * word)
                else {
                    continue;
                };
                if mask != 0 {
                    add_pages(&mut found, at, change(place, mask));
                }
            }
        }
        found
    }

    /// Forgets the bits of a range; blocks that lie in it as a whole are given back.
    fn forget(&mut self, id: u32, range: &Range<u64>) {
        for bits in [BlockBits::Written, BlockBits::OnlyRead] {
            self.words(id, range, bits, |word, mask| {
                word.fetch_and(!mask, Ordering::AcqRel);
                0
            });
        }
        let Some(known) = self.watches.get_mut(&id) else {
            return;
        };
        let first = range.start.next_multiple_of(PMD_SIZE);
        let inside = known.at.range(first..range.end.max(first));
        let whole = inside.filter(|(start, _)| *start + PMD_SIZE <= range.end);
        let whole: Vec<(u64, u32)> = whole.map(|(start, index)| (*start, *index)).collect();
        for (start, index) in whole {
            known.at.remove(&start);
            // It is there, and only we remove it.
            let _ = self.maps.index.remove(&block_key(id, start));
            self.maps
                .blocks
                .write_word(index as usize, offset_of!(PageBlock, key), 0);
            self.retired.push(index);
        }
        if self.retired.len() > self.maps.blocks.len() / 4 {
            self.reuse();
        }
    }

    /// Gives retired blocks to the programs again, once none can still be using one. Where that
    /// cannot be known they stay retired, and there are fewer blocks.
    fn reuse(&mut self) {
        if grace::wait_for_programs().is_err() {
            return;
        }
        for index in self.retired.drain(..) {
            self.maps.blocks.write(index as usize, PageBlock::zeroed());
            // If it does not fit there is one block less.
            let _ = self.maps.free.push(index, 0);
        }
    }
}

/// Bytes of address space that a word of bits is about.
const WORD: u64 = 64 * PAGE_SIZE;

/// The bits of the word at an address that lie in a range.
fn mask(at: u64, range: &Range<u64>) -> u64 {
    let below = |address: u64| match address.saturating_sub(at) / PAGE_SIZE {
        pages @ 0..64 => (1_u64 << pages) - 1,
        _ => u64::MAX,
    };
    below(range.end) & !below(range.start)
}

/// Appends the pages of the word at an address whose bits are set.
fn add_pages(found: &mut Vec<Range<u64>>, at: u64, mut bits: u64) {
    while bits != 0 {
        let first = bits.trailing_zeros();
        let pages = (bits >> first).trailing_ones();
        let start = at + u64::from(first) * PAGE_SIZE;
        let end = start + u64::from(pages) * PAGE_SIZE;
        match found.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => found.push(start..end),
        }
        let taken = u64::MAX.checked_shl(first + pages).unwrap_or(0);
        bits &= taken;
    }
}

/// One watched address space.
struct WatchedBits {
    object: Arc<FaultTimeObject>,
    watch: u32,
}

impl FaultTimeBits for WatchedBits {
    fn only_read(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut state = lock(&self.object.state);
        state.words(self.watch, range, BlockBits::OnlyRead, |word, mask| {
            word.load(Ordering::Acquire) & mask
        })
    }

    fn take(&mut self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut state = lock(&self.object.state);
        state.words(self.watch, range, BlockBits::Written, |word, mask| {
            if word.load(Ordering::Acquire) & mask == 0 {
                return 0;
            }
            word.fetch_and(!mask, Ordering::AcqRel) & mask
        })
    }

    fn forget_only_read(&mut self, range: &Range<u64>) {
        let mut state = lock(&self.object.state);
        state.words(self.watch, range, BlockBits::OnlyRead, |word, mask| {
            word.fetch_and(!mask, Ordering::AcqRel);
            0
        });
    }

    fn forget(&mut self, range: &Range<u64>) {
        lock(&self.object.state).forget(self.watch, range);
    }

    fn lost(&self) -> u64 {
        let mut state = lock(&self.object.state);
        let missed = state.sources.all();
        if state.proof.is_silent(&self.object.plan) || missed.is_none() {
            state.untold += 1;
        }
        // Another number than before is all that counts.
        let told = state.maps.watches.read(self.watch as usize);
        told.unsure + missed.unwrap_or(0) + state.untold
    }

    fn is_emptying(&self) -> bool {
        let state = lock(&self.object.state);
        state.maps.watches.read(self.watch as usize).emptying != 0
    }

    fn is_splitting(&self) -> bool {
        let state = lock(&self.object.state);
        state.maps.watches.read(self.watch as usize).splitting != 0
    }
}

impl Drop for WatchedBits {
    fn drop(&mut self) {
        lock(&self.object.state).unwatch(self.watch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_pages_and_only_those_of_the_range_count() {
        let at = 7 * WORD;
        let page = |number: u64| at + number * PAGE_SIZE;
        assert_eq!(mask(at, &(page(0)..page(64))), u64::MAX);
        assert_eq!(mask(at, &(0..u64::MAX)), u64::MAX);
        assert_eq!(mask(at, &(page(1)..page(3))), 0b110);
        assert_eq!(mask(at, &(page(63)..page(70))), 1 << 63);
        assert_eq!(mask(at, &(0..at)), 0);
        assert_eq!(mask(at, &(page(64)..page(65))), 0);
        let mut found = Vec::new();
        add_pages(&mut found, at, 0b110 | 1 << 63);
        add_pages(&mut found, page(64), 1);
        assert_eq!(found, [page(1)..page(3), page(63)..page(65)]);
        let mut all = Vec::new();
        add_pages(&mut all, at, u64::MAX);
        assert_eq!((all.len(), all.first()), (1, Some(&(page(0)..page(64)))));
    }
}
