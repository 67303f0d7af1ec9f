//! The life of VMAs and of address spaces: when an identity begins and ends.

use tracker_ebpf::{RecordState, VmaRecord, field};

use crate::{
    context::FunctionEntry,
    maple,
    maps::{GENERATION, MM_RECORDS, MMS, PROCESSES, VMA_RECORDS, VMAS},
    memory::{CopiedMemory, KernelMemory},
    record::uses_uffd_wp,
};

/// `vm_area_free(vma)`: the kernel object goes away, and with it the identity of its record, unless
/// a split or a merge has left the memory to another object.
#[inline(always)]
pub fn vm_area_free<C: FunctionEntry>(ctx: &C) {
    let vma = ctx.pointer(0);
    if !uses_uffd_wp::<C::Memory>(vma) {
        return;
    }
    let key = vma as u64;
    // SAFETY: the value is one aligned word.
    if let Some(id) = unsafe { VMAS.get(key) }.copied() {
        let _ = VMAS.remove(key);
        if let Some(record) = VMA_RECORDS.get_ptr_mut(id) {
            // SAFETY: a map value; no fault can find a freed VMA.
            unsafe {
                if (*record).vma == key && (*record).state == RecordState::Live as u32 {
                    (*record).state = state_after(record, vma) as u32;
                }
            }
        }
    }
    GENERATION.add(1);
}

/// What becomes of the record of a VMA that is freed. The tree of the mm has what stays by then
/// (`vma_complete`, `vms_complete_munmap_vmas`; on 6.1 `__vma_adjust`), and the task that frees holds
/// the mmap lock. After a split the object may have another start than its record, so that of the
/// record is looked up. What was mapped in its place does not use uffd-wp yet.
#[inline(always)]
fn state_after(record: *const VmaRecord, vma: *const u8) -> RecordState {
    // SAFETY: a map value.
    let start = unsafe { (*record).start };
    let mm = CopiedMemory::pointer::<field::vma_mm>(vma) as u64;
    let heir = maple::vma_at(mm, start) as *const u8;
    let is_heir = !heir.is_null()
        && heir != vma
        && CopiedMemory::read::<field::vma_start>(heir) == start
        && uses_uffd_wp::<CopiedMemory>(heir);
    if is_heir {
        RecordState::Moved
    } else {
        RecordState::Ended
    }
}

/// `vm_area_dup(vma)`: a split, a fork or a move. The start of the original may change next.
#[inline(always)]
pub fn vm_area_dup<C: FunctionEntry>(ctx: &C) {
    if uses_uffd_wp::<C::Memory>(ctx.pointer(0)) {
        GENERATION.add(1);
    }
}

/// `__mmdrop(mm)`: the address space goes away, after its tables were freed.
#[inline(always)]
pub fn mmdrop<C: FunctionEntry>(ctx: &C) {
    if PROCESSES.load() == 0 {
        return;
    }
    let key = ctx.pointer(0) as u64;
    // SAFETY: the value is one aligned word.
    let Some(id) = (unsafe { MMS.get(key) }).copied() else {
        return;
    };
    if MMS.remove(key).is_err() {
        return;
    }
    PROCESSES.add(u64::MAX);
    if let Some(record) = MM_RECORDS.get_ptr_mut(id) {
        // SAFETY: a map value; no task is left in this mm.
        unsafe { (*record).state = RecordState::Ended as u32 };
    }
}
