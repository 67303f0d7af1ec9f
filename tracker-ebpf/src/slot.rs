//! The fast path: each CPU remembers the last VMA it counted for.
//!
//! A slot is used only where its program cannot be preempted: in kprobes, and in fentry programs
//! of functions that run under the pte lock.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use tracker_ebpf::VmaFaults;

use crate::{
    maps::{FAULTS, GENERATION, RacyCell},
    record::{FoundRecord, resolve},
};

/// As many as x86 can have CPUs (the largest `CONFIG_NR_CPUS`).
const SLOTS: usize = 8192;

#[repr(C, align(32))]
struct CpuSlot {
    vma: u64,
    generation: u64,
    found: Option<FoundRecord>,
    reserved: u64,
}

/// The slots. Each CPU writes only its own.
static LAST: RacyCell<[CpuSlot; SLOTS]> = RacyCell::new(
    [const {
        CpuSlot {
            vma: 0,
            generation: 0,
            found: None,
            reserved: 0,
        }
    }; SLOTS],
);

/// The slot of this CPU.
#[inline(always)]
fn own() -> *mut CpuSlot {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as usize & (SLOTS - 1);
    // SAFETY: in bounds.
    unsafe { LAST.get().cast::<CpuSlot>().add(cpu) }
}

/// The record of a VMA, from this CPU's slot if `preemptible` allows it.
#[inline(always)]
pub fn find(vma: *const u8, preemptible: bool) -> Option<FoundRecord> {
    if preemptible {
        return resolve(vma as u64);
    }
    let slot = own();
    // SAFETY: only this CPU uses the slot, and nothing preempts the program.
    unsafe {
        if (*slot).vma == vma as u64 && (*slot).generation == GENERATION.load() {
            return (*slot).found;
        }
    }
    refill(vma as u64)
}

/// The slow path. Not inlined: registers that it saved would cost every fault.
#[inline(never)]
fn refill(vma: u64) -> Option<FoundRecord> {
    let slot = own();
    // Read before the VMA: what changes in between makes the slot stale.
    let generation = GENERATION.load();
    let found = resolve(vma)?;
    // SAFETY: as above.
    unsafe {
        (*slot).vma = vma;
        (*slot).generation = generation;
        (*slot).found = Some(found);
    }
    Some(found)
}

/// The hot counters of a record.
#[inline(always)]
pub fn counters(found: FoundRecord) -> Option<*mut VmaFaults> {
    FAULTS.get_ptr_mut(found.place())
}
