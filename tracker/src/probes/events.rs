//! Events of watched address spaces: what takes the uffd-wp bit off their pages, and what trackers
//! do to them, one by one, through two ring buffers.
//!
//! Separate from the counters: a second copy of the object, attached only while somebody explains.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, RingBuf};
use bytemuck::Zeroable as _;
use tracker_ebpf::{CallRecord, EventDrops, EventHead, FRAMES, WATCHES};

use super::calibrate;
use super::error::ProbeError;
use super::hooks::{self, EVENT_HOOKS, HookId, HookSubject};
use super::iterator;
use super::ladder::HookLadder;
use super::missed::MissSources;
use super::object::{OBJECT, ProbeObject};
use super::plan::{self, HookWishes, ProbeLevel};
use super::proof::{self, HookStates};
use super::prover::HookProver;
use super::shared::SharedArray;
use super::values::MapSizes;
use super::verdict::{HookPlan, HookVerdict};
use crate::kernel::facts::KernelFacts;
use crate::kernel::mounts::MountPoints;
use crate::kernel::switches::KernelSwitches;

/// How to attach.
#[derive(Clone, Debug)]
pub struct EventOptions {
    /// What the user wants of the hooks.
    pub wishes: HookWishes,
    /// Size of the ring in bytes, a power of two. An event takes 368 or 624.
    pub ring: u32,
    /// Size of the ring of trackers' calls in bytes, a power of two. A call takes 448.
    pub calls: u32,
    /// The programs: [`OBJECT`], unless others are tried out.
    pub object: Cow<'static, [u8]>,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self {
            wishes: HookWishes::default(),
            ring: 16 << 20,
            calls: 1 << 20,
            object: OBJECT.into(),
        }
    }
}

/// A watched address space: [`EventHead::watch`] of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u32);

/// The attached programs, and what they share with us. Dropping it detaches everything.
pub struct EventProbes {
    /// What sees: an attached hook may be silent.
    plan: Vec<HookPlan>,
    /// What is attached, whether it fires or not.
    attached: Vec<HookPlan>,
    states: HookStates,
    mounts: MountPoints,
    level: ProbeLevel,
    reason: String,
    object: Option<EventObject>,
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<EventProbes>();
};

/// The object in the kernel.
struct EventObject {
    ebpf: Ebpf,
    /// Where the kernel tells what it keeps from the hooks, as they are attached now.
    sources: MissSources,
    maps: EventMaps,
    prover: HookProver,
    /// Process ids by watch id.
    watches: BTreeMap<u32, u32>,
    /// The id that was given last.
    last: u32,
    /// Dropped events of watches whose id was given again.
    dropped_before: u64,
}

/// What the programs share with us.
struct EventMaps {
    ring: RingBuf<MapData>,
    /// Size of the ring in bytes.
    capacity: usize,
    calls: RingBuf<MapData>,
    calls_capacity: usize,
    call_drops: SharedArray<u64>,
    pids: HashMap<MapData, u32, u32>,
    watched: HashMap<MapData, u64, u32>,
    drops: SharedArray<EventDrops>,
}

impl EventMaps {
    fn take(ebpf: &mut Ebpf, options: &EventOptions) -> Result<Self, ProbeError> {
        let shared = |name| ebpf.map(name).ok_or(ProbeError::NoMap(name));
        Ok(Self {
            drops: SharedArray::map(shared("DROPS")?, WATCHES)?,
            call_drops: SharedArray::map(shared("CALL_DROPS")?, WATCHES)?,
            calls: take(ebpf, "CALLS")?.try_into()?,
            ring: take(ebpf, "EVENTS")?.try_into()?,
            capacity: options.ring as usize,
            calls_capacity: options.calls as usize,
            pids: take(ebpf, "WATCH_PIDS")?.try_into()?,
            watched: take(ebpf, "WATCHED")?.try_into()?,
        })
    }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, ProbeError> {
    ebpf.take_map(name).ok_or(ProbeError::NoMap(name))
}

impl EventProbes {
    /// Attaches what can be attached. This never fails: what cannot be had is absent, with its
    /// reason.
    #[must_use]
    pub fn attach(options: &EventOptions) -> Self {
        let functions = hooks::functions(EVENT_HOOKS);
        let mut facts = KernelFacts::gather(&functions, &hooks::tracepoints(EVENT_HOOKS));
        facts.tried = calibrate::tried();
        facts.switches = KernelSwitches::read(&facts.mounts);
        let ladder = HookLadder {
            table: EVENT_HOOKS,
            facts: &facts,
            wishes: &options.wishes,
            sizes: MapSizes::NONE,
        };
        let object = ProbeObject::parse(options.object.clone()).map_err(Into::into);
        let (plan, loaded) = ladder.attach(
            object,
            |loader| {
                loader.map_max_entries("EVENTS", options.ring);
                loader.map_max_entries("CALLS", options.calls);
            },
            |ebpf| Ok((EventMaps::take(ebpf, options)?, HookProver::take(ebpf)?)),
        );
        let (level, reason) = plan::level(&plan);
        let mut probes = Self {
            attached: plan.clone(),
            plan,
            states: HookStates::new(),
            mounts: facts.mounts,
            level,
            reason,
            object: loaded.map(|(ebpf, (maps, prover))| EventObject {
                ebpf,
                sources: MissSources::default(),
                maps,
                prover,
                watches: BTreeMap::new(),
                last: 0,
                dropped_before: 0,
            }),
        };
        probes.prove();
        probes
    }

    /// Proves that each attached hook fires, and attaches anew what does not. Plan and level are
    /// then what was seen. Takes some ten milliseconds.
    pub fn prove(&mut self) {
        let Some(object) = &mut self.object else {
            return;
        };
        let switches = || KernelSwitches::read(&self.mounts);
        let ebpf = &mut object.ebpf;
        let prover = &object.prover;
        let tested = prover.prove_or_attach_anew(&self.attached, switches, || ebpf);
        if let Some(why) = proof::failure(&tested) {
            tracing::warn!("the self-test of the hooks failed: {why}");
        }
        object.sources = MissSources::find(&object.ebpf, &self.attached);
        self.states = proof::kept(&self.states, tested);
        self.plan = proof::settled(&self.attached, &self.states, switches());
        (self.level, self.reason) = plan::level(&self.plan);
    }

    /// The hooks that are attached and do not fire, as of the last self-test.
    pub fn silent(&self) -> impl Iterator<Item = &HookPlan> {
        let silent = |plan: &&HookPlan| matches!(plan.verdict, HookVerdict::Silent { .. });
        self.plan.iter().filter(silent)
    }

    /// What is attached, and why something is not.
    #[must_use]
    pub fn plan(&self) -> &[HookPlan] {
        &self.plan
    }

    /// Whether each attached hook is known to fire, as of the last self-test.
    #[must_use]
    pub const fn states(&self) -> &HookStates {
        &self.states
    }

    /// How much of what happens can be seen.
    #[must_use]
    pub const fn level(&self) -> ProbeLevel {
        self.level
    }

    /// Why not more can be seen.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether address spaces can be watched, which takes the iterator.
    #[must_use]
    pub fn can_watch(&self) -> bool {
        self.object.is_some() && self.has(HookId::watch)
    }

    /// Whether a hook is attached.
    #[must_use]
    pub fn has(&self, hook: HookId) -> bool {
        let mut plan = self.plan.iter();
        plan.any(|plan| plan.hook.id == hook && plan.program().is_some())
    }

    /// What is not known because a hook is absent, in a few words each.
    #[must_use]
    pub fn not_seen(&self) -> Vec<&'static str> {
        let missing = self.plan.iter().filter(|plan| plan.is_missing());
        let mut all: Vec<_> = missing.map(|plan| plan.hook.without).collect();
        all.dedup();
        all
    }

    /// Watches the address space that a process has now; after an exec it has another. Events go to
    /// the newest watch of a process. Ids of watches are reused as late as possible, so that what
    /// is left in the ring is not taken for another watch's.
    ///
    /// # Errors
    /// If there is no such process, if too many are watched, or if this kernel does not let address
    /// spaces be found.
    pub fn watch(&mut self, pid: u32) -> Result<WatchId, ProbeError> {
        if !self.can_watch() {
            let mut plan = self.plan.iter();
            let found = plan.find(|plan| plan.hook.id == HookId::watch);
            let reason = found.map_or_else(|| self.reason.clone(), HookPlan::reason);
            return Err(ProbeError::CannotWatch(reason));
        }
        let reason = || ProbeError::CannotWatch(self.reason.clone());
        self.object.as_mut().ok_or_else(reason)?.watch(pid)
    }

    /// Ends a watch. Its events in the ring stay there.
    pub fn unwatch(&mut self, watch: WatchId) {
        if let Some(object) = &mut self.object {
            object.unwatch(watch.0);
        }
    }

    /// Passes on every event that is in the ring now, with its user and kernel frames; returns how
    /// many there were. It stops after a ring full, however fast more come.
    ///
    /// # Errors
    /// If something in the ring is no event.
    pub fn drain(
        &mut self,
        mut each: impl FnMut(&EventHead, &[u64], &[u64]),
    ) -> Result<u64, ProbeError> {
        let Some(object) = &mut self.object else {
            return Ok(0);
        };
        let (mut events, mut left) = (0, object.maps.capacity);
        while left > 0
            && let Some(bytes) = object.maps.ring.next()
        {
            let (head, user, kernel) = parse(&bytes).ok_or(ProbeError::NoEvent)?;
            each(&head, user, kernel);
            events += 1;
            left = left.saturating_sub(bytes.len());
        }
        Ok(events)
    }

    /// Passes on every call of a tracker that is in its ring now, at most a ring full.
    ///
    /// # Errors
    /// If something in the ring is no call.
    pub fn drain_calls(&mut self, mut each: impl FnMut(&CallRecord)) -> Result<(), ProbeError> {
        let Some(object) = &mut self.object else {
            return Ok(());
        };
        let mut left = object.maps.calls_capacity;
        while left > 0
            && let Some(bytes) = object.maps.calls.next()
        {
            let call = bytemuck::try_pod_read_unaligned(&bytes);
            each(&call.map_err(|_| ProbeError::NoEvent)?);
            left = left.saturating_sub(bytes.len());
        }
        Ok(())
    }

    /// Calls of trackers on a watched address space that did not fit into their ring.
    #[must_use]
    pub fn dropped_calls(&self, watch: WatchId) -> u64 {
        let object = self.object.as_ref();
        object.map_or(0, |object| object.maps.call_drops.read(watch.0 as usize))
    }

    /// Calls of trackers that the kernel kept from a program, of all watches.
    #[must_use]
    pub fn missed_calls(&self) -> u64 {
        self.misses(|subject| subject == HookSubject::Calls)
    }

    /// Events of a watch that did not fit into the ring, and when.
    #[must_use]
    pub fn drops(&self, watch: WatchId) -> EventDrops {
        let object = self.object.as_ref();
        object.map_or(EventDrops::zeroed(), |object| {
            object.maps.drops.read(watch.0 as usize)
        })
    }

    /// Events of all watches that did not fit into the ring.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.object.as_ref().map_or(0, EventObject::dropped)
    }

    /// Events that the kernel kept from a program because it was already running on that CPU.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.misses(|subject| subject != HookSubject::Calls)
    }

    /// Events that were kept from the hooks of some subjects.
    fn misses(&self, of: impl Fn(HookSubject) -> bool) -> u64 {
        let Some(object) = &self.object else {
            return 0;
        };
        let subject = |hook: HookId| {
            let mut hooks = EVENT_HOOKS.iter();
            hooks.find(|it| it.id == hook).map(|it| it.subject)
        };
        let misses = object.sources.read();
        let misses = misses.filter(|missed| subject(missed.hook).is_some_and(&of));
        misses.map(|missed| missed.events).sum()
    }
}

impl EventObject {
    fn watch(&mut self, pid: u32) -> Result<WatchId, ProbeError> {
        let ids = (self.last + 1..WATCHES).chain(1..=self.last);
        let id = ids.into_iter().find(|id| !self.watches.contains_key(id));
        let id = id.ok_or(ProbeError::TooManyWatches)?;
        self.dropped_before += self.maps.drops.read(id as usize).count;
        self.maps.drops.write(id as usize, EventDrops::zeroed());
        self.maps.call_drops.write(id as usize, 0);
        self.last = id;
        self.watches.insert(id, pid);
        let found = self.find(pid, id);
        if !matches!(found, Ok(true)) {
            self.unwatch(id);
        }
        if found? {
            Ok(WatchId(id))
        } else {
            Err(ProbeError::NoProcess(pid))
        }
    }

    /// Runs the iterator; returns whether it found the address space.
    fn find(&mut self, pid: u32, id: u32) -> Result<bool, ProbeError> {
        self.maps.pids.insert(pid, id, 0)?;
        let found = iterator::run(&mut self.ebpf, HookId::watch.name())?;
        Ok(found.chunks_exact(4).any(|found| found == id.to_ne_bytes()))
    }

    fn unwatch(&mut self, id: u32) {
        if let Some(pid) = self.watches.remove(&id)
            && self.maps.pids.get(&pid, 0).is_ok_and(|found| found == id)
        {
            // It is there, and only we remove it.
            let _ = self.maps.pids.remove(&pid);
        }
        let watched = self.maps.watched.iter().flatten();
        let spaces: Vec<u64> = watched
            .filter(|(_, found)| *found == id)
            .map(|(mm, _)| mm)
            .collect();
        for mm in spaces {
            // It is gone if the process has ended in the meantime.
            let _ = self.maps.watched.remove(&mm);
        }
    }

    fn dropped(&self) -> u64 {
        let now = (0..WATCHES as usize).map(|id| self.maps.drops.read(id).count);
        self.dropped_before + now.sum::<u64>()
    }
}

/// The parts of an event in the ring.
fn parse(bytes: &[u8]) -> Option<(EventHead, &[u64], &[u64])> {
    let (head, frames) = bytes.split_at_checked(size_of::<EventHead>())?;
    let head: EventHead = bytemuck::pod_read_unaligned(head);
    let frames: &[u64] = bytemuck::try_cast_slice(frames).ok()?;
    let (user, kernel) = frames.split_at_checked(FRAMES)?;
    let user = user.get(..head.user_frames as usize)?;
    let kernel = kernel.get(..head.kernel_frames as usize)?;
    Some((head, user, kernel))
}
