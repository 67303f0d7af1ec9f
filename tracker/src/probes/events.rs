//! Events of watched address spaces: what takes the uffd-wp bit off their pages, one by one, through a ring buffer.
//!
//! Apart from the counters: an object of its own, attached only while somebody explains.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use aya::maps::{HashMap, Map, MapData, RingBuf};
use aya::{Btf, Ebpf, EbpfLoader};
use bytemuck::Zeroable as _;
use tracker_ebpf::{EventDrops, EventHead, FRAMES, WATCHES};

use super::attach::{self, OBJECT};
use super::constants::{self, MapSizes};
use super::hooks::{self, EVENT_HOOKS, Hook};
use super::plan::{self, HookPlan, HookVerdict, HookWishes, ProbeLevel, ProbedFacts};
use super::shared::SharedArray;
use super::{calibrate, diagnostics, iterator, patch};
use crate::kernel::btf::KernelBtf;
use crate::kernel::facts::KernelFacts;
use crate::kernel::inputs::KernelInputs;

/// The program that finds address spaces.
const WATCH: &str = "watch";

/// How to attach.
#[derive(Clone, Debug)]
pub struct EventOptions {
    /// What the user wants.
    pub wishes: HookWishes,
    /// Bytes of the ring: a power of two. An event takes 360 or 616.
    pub ring: u32,
    /// The programs; [`OBJECT`] unless one is tried out.
    pub object: Cow<'static, [u8]>,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self {
            wishes: HookWishes::default(),
            ring: 16 << 20,
            object: OBJECT.into(),
        }
    }
}

/// A watched address space: [`EventHead::watch`] of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u32);

/// The programs and what they share with us. Everything is detached when it is dropped.
pub struct EventProbes {
    plan: Vec<HookPlan>,
    level: ProbeLevel,
    reason: String,
    object: Option<Object>,
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<EventProbes>();
};

/// The object in the kernel.
struct Object {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    /// Bytes that the ring holds.
    capacity: usize,
    pids: HashMap<MapData, u32, u32>,
    watched: HashMap<MapData, u64, u32>,
    drops: SharedArray<EventDrops>,
    /// Process ids by watch id.
    watches: BTreeMap<u32, u32>,
    /// The id given last.
    last: u32,
    /// Events dropped by watches whose id was given anew.
    dropped_before: u64,
}

impl EventProbes {
    /// Attaches what can be attached. Nothing here fails: what cannot be had is absent, with its reason.
    #[must_use]
    pub fn attach(options: &EventOptions) -> Self {
        let inputs = KernelInputs::gather();
        let functions = hooks::functions(EVENT_HOOKS);
        let tracepoints = hooks::tracepoints(EVENT_HOOKS);
        let mut facts = KernelFacts::from_inputs(&inputs, &functions, &tracepoints);
        let found = look(&inputs);
        let mut plan = plan::plan(EVENT_HOOKS, &facts, &found, &options.wishes);
        let mut object = None;
        if plan.iter().any(|hook| hook.mechanism().is_some()) {
            match load(&facts, &found, options) {
                Ok((mut loaded, btf)) => {
                    let ebpf = &mut loaded.ebpf;
                    let wishes = &options.wishes;
                    plan = attach::climb(EVENT_HOOKS, ebpf, &btf, &mut facts, &found, wishes);
                    object = Some(loaded);
                }
                Err(error) => attach::give_up(&mut plan, &error.to_string()),
            }
        }
        let (level, reason) = plan::level(&plan);
        Self {
            plan,
            level,
            reason,
            object,
        }
    }

    /// What is attached, and why something is not.
    #[must_use]
    pub fn plan(&self) -> &[HookPlan] {
        &self.plan
    }

    /// How much of what happens can be seen.
    #[must_use]
    pub const fn level(&self) -> ProbeLevel {
        self.level
    }

    /// Why it is not more.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether address spaces can be watched: without the iterator nothing is.
    #[must_use]
    pub fn can_watch(&self) -> bool {
        self.object.is_some() && self.has(WATCH)
    }

    /// Whether a hook is attached.
    #[must_use]
    pub fn has(&self, hook: &str) -> bool {
        let mut plan = self.plan.iter();
        plan.any(|plan| plan.hook == hook && plan.mechanism().is_some())
    }

    /// What is not known, in a few words each, because a hook is absent.
    #[must_use]
    pub fn not_seen(&self) -> Vec<&'static str> {
        let absent = |hook: &&Hook| {
            let mut plan = self.plan.iter().filter(|plan| plan.hook == hook.name);
            plan.any(|plan| matches!(plan.verdict, HookVerdict::Absent | HookVerdict::Off))
        };
        let hooks = EVENT_HOOKS.iter().filter(absent);
        let mut all: Vec<_> = hooks.map(|hook| hook.without).collect();
        all.dedup();
        all
    }

    /// Watches the address space that a process has now; after an exec it has another. Only the newest watch of a
    /// process is told of it. The id of a watch is not
    /// given again soon, so that what is left of it in the ring is not taken for another's.
    ///
    /// # Errors
    /// If there is no such process, too many are watched, or address spaces cannot be found on this kernel.
    pub fn watch(&mut self, pid: u32) -> io::Result<WatchId> {
        if !self.can_watch() {
            let found = self.plan.iter().find(|plan| plan.hook == WATCH);
            let reason = found.map_or(self.reason.as_str(), |plan| plan.reason.as_str());
            return Err(io::Error::other(format!("cannot watch: {reason}")));
        }
        let object = self.object.as_mut();
        let object = object.ok_or_else(|| io::Error::other("cannot watch"))?;
        object.watch(pid)
    }

    /// Ends a watch. What is in the ring of it stays there.
    pub fn unwatch(&mut self, watch: WatchId) {
        if let Some(object) = &mut self.object {
            object.unwatch(watch.0);
        }
    }

    /// Hands over every event that is in the ring now, with its user and its kernel frames; how many there were. It ends
    /// however quickly more come: a ring full is the most.
    ///
    /// # Errors
    /// If what is in the ring is no event.
    pub fn drain(&mut self, mut each: impl FnMut(&EventHead, &[u64], &[u64])) -> io::Result<u64> {
        let Some(object) = &mut self.object else {
            return Ok(0);
        };
        let (mut events, mut left) = (0, object.capacity);
        while left > 0
            && let Some(bytes) = object.ring.next()
        {
            let (head, user, kernel) =
                parse(&bytes).ok_or_else(|| io::Error::other("the ring holds what is no event"))?;
            each(&head, user, kernel);
            events += 1;
            left = left.saturating_sub(bytes.len());
        }
        Ok(events)
    }

    /// Events of a watch that did not fit into the ring, and when.
    #[must_use]
    pub fn drops(&self, watch: WatchId) -> EventDrops {
        let object = self.object.as_ref();
        object.map_or(EventDrops::zeroed(), |object| {
            object.drops.read(watch.0 as usize)
        })
    }

    /// Events of all watches that did not fit into the ring.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.object.as_ref().map_or(0, Object::dropped)
    }

    /// Events that the kernel kept from a program, because it was running already on that CPU.
    #[must_use]
    pub fn missed(&self) -> u64 {
        let Some(object) = &self.object else {
            return 0;
        };
        let hooks = self
            .plan
            .iter()
            .filter_map(|plan| Some((plan, plan.mechanism()?)));
        hooks
            .filter_map(|(plan, mechanism)| attach::missed(&object.ebpf, plan, mechanism))
            .sum()
    }
}

impl Object {
    fn watch(&mut self, pid: u32) -> io::Result<WatchId> {
        let ids = (self.last + 1..WATCHES).chain(1..=self.last);
        let id = ids.into_iter().find(|id| !self.watches.contains_key(id));
        let id = id.ok_or_else(|| io::Error::other("too many address spaces are watched"))?;
        self.dropped_before += self.drops.read(id as usize).count;
        self.drops.write(id as usize, EventDrops::zeroed());
        self.last = id;
        self.watches.insert(id, pid);
        let found = self.find(pid, id);
        if !matches!(found, Ok(true)) {
            self.unwatch(id);
        }
        if found? {
            Ok(WatchId(id))
        } else {
            let missing = format!("there is no process {pid} with an address space");
            Err(io::Error::new(io::ErrorKind::NotFound, missing))
        }
    }

    /// Runs the iterator; whether it found the address space.
    fn find(&mut self, pid: u32, id: u32) -> io::Result<bool> {
        self.pids.insert(pid, id, 0).map_err(io::Error::other)?;
        let found = iterator::run(&mut self.ebpf, WATCH)?;
        Ok(found.chunks_exact(4).any(|found| found == id.to_ne_bytes()))
    }

    fn unwatch(&mut self, id: u32) {
        if let Some(pid) = self.watches.remove(&id)
            && self.pids.get(&pid, 0).is_ok_and(|found| found == id)
        {
            // It is there, and nobody else removes it.
            let _ = self.pids.remove(&pid);
        }
        let watched = self.watched.iter().flatten();
        let spaces: Vec<u64> = watched
            .filter(|(_, found)| *found == id)
            .map(|(mm, _)| mm)
            .collect();
        for mm in spaces {
            // Gone already if the process has ended meanwhile.
            let _ = self.watched.remove(&mm);
        }
    }

    fn dropped(&self) -> u64 {
        let now = (0..WATCHES as usize).map(|id| self.drops.read(id).count);
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

/// What the kernel's own files do not tell, and what only events need.
fn look(inputs: &KernelInputs) -> ProbedFacts {
    let btf = inputs.btf.as_ref().ok();
    let btf = btf.and_then(|bytes| KernelBtf::parse(bytes.as_slice()).ok());
    let flag = |name| {
        let bit = u32::try_from(btf.as_ref()?.enum_value(name)?).ok()?;
        1_u64.checked_shl(bit)
    };
    ProbedFacts {
        guard_pages: calibrate::guard_pages(),
        folio_swapbacked: flag("PG_swapbacked"),
        folio_head: flag("PG_head"),
        ..attach::look(inputs)
    }
}

fn load(
    facts: &KernelFacts,
    found: &ProbedFacts,
    options: &EventOptions,
) -> io::Result<(Object, Btf)> {
    let btf = Btf::from_sys_fs().map_err(io::Error::other)?;
    let offsets = constants::offsets(facts);
    let config = constants::config(facts, found, MapSizes::NONE);
    let object = patch::patch(&options.object, &offsets, &config).map_err(io::Error::other)?;
    let level = diagnostics::level();
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&btf))
        .override_global(aya_log::LEVEL, &level, true)
        .map_max_entries("EVENTS", options.ring);
    let mut ebpf = loader.load(&object).map_err(io::Error::other)?;
    drop(loader);
    let drops = ebpf.map("DROPS").ok_or_else(|| absent("DROPS"))?;
    let drops = SharedArray::map(drops, WATCHES)?;
    let object = Object {
        ring: take(&mut ebpf, "EVENTS")?
            .try_into()
            .map_err(io::Error::other)?,
        capacity: options.ring as usize,
        pids: take(&mut ebpf, "WATCH_PIDS")?
            .try_into()
            .map_err(io::Error::other)?,
        watched: take(&mut ebpf, "WATCHED")?
            .try_into()
            .map_err(io::Error::other)?,
        drops,
        ebpf,
        watches: BTreeMap::new(),
        last: 0,
        dropped_before: 0,
    };
    Ok((object, btf))
}

fn take(ebpf: &mut Ebpf, name: &str) -> io::Result<Map> {
    ebpf.take_map(name).ok_or_else(|| absent(name))
}

fn absent(map: &str) -> io::Error {
    io::Error::other(format!("the object has no map {map}"))
}
