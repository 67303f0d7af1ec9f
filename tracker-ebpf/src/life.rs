//! The life of VMAs and of address spaces: when an identity begins and ends.

use tracker_ebpf::RecordState;

use crate::{
    context::FunctionEntry,
    maps::{GENERATION, MM_RECORDS, MMS, PROCESSES, VMA_RECORDS, VMAS},
    record::uses_uffd_wp,
};

/// `vm_area_free(vma)`: the kernel object goes away, and with it the identity of its record.
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
                    (*record).state = RecordState::Ended as u32;
                }
            }
        }
    }
    GENERATION.add(1);
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
