//! `iter/task_vma`: writes every uffd-wp VMA of every process to the reader of the iterator.
//!
//! It works where function hooks do not, and it makes processes known that registered before the
//! agent started.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_seq_write};
use tracker_ebpf::{COMM_LEN, IterVma, field};

use crate::{
    maps::{AGENT, GENERATION, RETIRED},
    memory::{CopiedMemory, DirectMemory, KernelMemory},
    patched::offset,
    record::{self, resolve_mm, uses_uffd_wp},
};

/// The context: `struct bpf_iter__task_vma`.
#[repr(C)]
struct IterTaskVma {
    meta: *const *mut c_void,
    task: *const u8,
    vma: *const u8,
}

/// Called for each VMA, and once more at the end.
#[inline(always)]
pub fn task_vma(ctx: *const c_void) {
    let ctx: *const IterTaskVma = ctx.cast();
    // SAFETY: the context of this iterator; task and vma may be NULL and are tested.
    let (meta, task, vma) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).vma) };
    if task.is_null() || vma.is_null() {
        // The last call. From here on no CPU uses what it remembers, in case no event said to.
        AGENT.store(bpf_get_current_pid_tgid() >> 32);
        for place in 0..tracker_ebpf::RETIRED {
            if let Some(id) = RETIRED.get_ptr_mut(place) {
                // SAFETY: a map value; the agent writes only where there is a zero.
                unsafe {
                    record::forget(*id as u32);
                    *id = 0;
                }
            }
        }
        GENERATION.add(1);
        return;
    }
    if !uses_uffd_wp::<DirectMemory>(vma) {
        return;
    }
    let tgid = DirectMemory::read::<field::task_tgid>(task);
    if u64::from(tgid) == bpf_get_current_pid_tgid() >> 32 {
        // Its reader, whose memory is for exercises only.
        return;
    }
    let mm = DirectMemory::pointer::<field::vma_mm>(vma) as u64;
    let leader = DirectMemory::pointer::<field::task_group_leader>(task);
    resolve_mm(mm);
    let found = IterVma {
        vma: vma as u64,
        mm,
        start: DirectMemory::read::<field::vma_start>(vma),
        end: DirectMemory::read::<field::vma_end>(vma),
        flags: DirectMemory::read::<field::vma_flags>(vma),
        start_boottime_ns: DirectMemory::read::<field::task_start_boottime>(leader),
        tgid,
        features: DirectMemory::read::<field::uffd_features>(DirectMemory::pointer::<
            field::vma_uffd_ctx,
        >(vma)),
        backing: record::backing::<DirectMemory>(vma) as u32,
        reserved: 0,
        comm: CopiedMemory::at::<[u8; COMM_LEN]>(
            leader.wrapping_add(offset::<field::task_comm>() as usize),
        ),
    };
    // SAFETY: meta->seq is its first field; the record is initialised to its last byte.
    unsafe {
        bpf_seq_write(
            (*meta).cast(),
            (&raw const found).cast(),
            size_of::<IterVma>() as u32,
        );
    }
}
