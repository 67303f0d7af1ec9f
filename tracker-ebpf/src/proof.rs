//! Whether programs run at all: while the agent exercises the kernel on memory of its own, each
//! program notes that it was run, and by whom.
//!
//! What the agent does then is not counted: it does not show itself. While nothing is exercised,
//! this costs a program one load and a comparison.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, helpers::bpf_get_current_comm, macros::map, maps::Array};
use tracker_ebpf::{HookFirings, HookId};

use crate::{atomic, maps::RacyCell};

/// The name of the thread that exercises, as two words; zeroes while there is none. Only the agent
/// writes it. A thread id would not do: inside a pid namespace nobody knows the one that the kernel
/// calls it by.
#[unsafe(link_section = ".bss.exerciser")]
static EXERCISER: RacyCell<[u64; 2]> = RacyCell::new([0; 2]);

/// How often each hook fired while something was exercised, by [`HookId`].
#[map]
static FIRINGS: Array<HookFirings> =
    Array::with_max_entries(HookId::ALL.len() as u32, BPF_F_MMAPABLE);

/// Notes that a hook fires, if something is exercised; whether it does because of that, and is to be
/// passed over.
#[inline(always)]
pub fn is_exercise(hook: HookId) -> bool {
    // SAFETY: aligned words.
    let exerciser = unsafe { EXERCISER.get().cast::<u64>().read_volatile() };
    exerciser != 0 && note(hook as u32) && !may_be_of_others(hook)
}

/// Who runs next on a CPU drops the address space that it still had (`finish_task_switch`): whose
/// that was, the current thread does not tell.
const fn may_be_of_others(hook: HookId) -> bool {
    matches!(
        hook,
        HookId::mmdrop | HookId::watch_end | HookId::fault_time_end
    )
}

#[inline(never)]
fn note(hook: u32) -> bool {
    // SAFETY: aligned words.
    let exerciser = unsafe { EXERCISER.get().read_volatile() };
    let ours = match bpf_get_current_comm() {
        Ok(comm) => {
            let [first, second] = words(comm);
            first == exerciser[0] && second == exerciser[1]
        }
        Err(_) => false,
    };
    if let Some(firings) = FIRINGS.get_ptr_mut(hook) {
        // SAFETY: a map value.
        let count = unsafe {
            if ours {
                &raw mut (*firings).exercised
            } else {
                &raw mut (*firings).others
            }
        };
        atomic::add(count, 1);
    }
    ours
}

/// The bytes of a name as two words.
#[inline(always)]
fn words(comm: [u8; 16]) -> [u64; 2] {
    // SAFETY: the same size, and every bit pattern is valid.
    unsafe { core::mem::transmute(comm) }
}
