//! The fast path: each CPU remembers the last VMA it counted for.
//!
//! A slot is used only where its program cannot be preempted: in kprobes, and in fentry programs
//! of functions that run under the pte lock.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use tracker_ebpf::VmaFaults;

use crate::{
    maps::{FAULTS, GENERATION, Racy},
    record::{Found, resolve},
};

/// CPUs beyond these have no slot and take the slow path.
const SLOTS: usize = 1024;

#[repr(C, align(32))]
struct Slot {
    vma: u64,
    generation: u64,
    found: Found,
    reserved: u64,
}

/// Each CPU writes its own slot only.
static LAST: Racy<[Slot; SLOTS]> = Racy::new(
    [const {
        Slot {
            vma: 0,
            generation: 0,
            found: Found::NONE,
            reserved: 0,
        }
    }; SLOTS],
);

/// The record of a VMA, from this CPU's slot if `preemptible` allows it.
#[inline(always)]
pub fn find(vma: *const u8, preemptible: bool) -> Option<Found> {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as usize;
    if preemptible || cpu >= SLOTS {
        return resolve(vma as u64);
    }
    // SAFETY: in bounds; only this CPU uses the slot, and nothing preempts the program.
    let slot = unsafe { &mut (*LAST.get())[cpu] };
    let generation = GENERATION.load();
    if slot.vma == vma as u64 && slot.generation == generation {
        return Some(slot.found);
    }
    let found = resolve(vma as u64)?;
    (slot.vma, slot.generation, slot.found) = (vma as u64, generation, found);
    Some(found)
}

/// The hot counters of a record.
#[inline(always)]
pub fn counters(found: Found) -> Option<*mut VmaFaults> {
    FAULTS.get_ptr_mut(found.place())
}
