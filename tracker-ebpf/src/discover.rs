//! `iter/task_vma`: every uffd-wp VMA of every process, written to the reader of the iterator.
//!
//! It works where function hooks do not, and it makes processes known that registered before the
//! agent came.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_seq_write};
use tracker_ebpf::{COMM_LEN, IterVma};

use crate::{
    maps::{AGENT, GENERATION, offset},
    memory::{Copied, Direct, Memory},
    record::{self, resolve_mm, uses_uffd_wp},
};

/// `struct bpf_iter__task_vma`
#[repr(C)]
struct TaskVma {
    meta: *const *mut c_void,
    task: *const u8,
    vma: *const u8,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_vma")]
fn task_vma(ctx: *const c_void) -> i32 {
    let ctx: *const TaskVma = ctx.cast();
    // SAFETY: the context of this iterator; task and vma may be NULL and are tested.
    let (meta, task, vma) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).vma) };
    if task.is_null() || vma.is_null() {
        // The last call. Labels that went stale without an event are fresh again from here.
        AGENT.store(bpf_get_current_pid_tgid() >> 32);
        GENERATION.add(1);
        return 0;
    }
    if !uses_uffd_wp::<Direct>(vma) {
        return 0;
    }
    let mm = Direct::pointer(vma, offset!(vma_mm)) as u64;
    let leader = Direct::pointer(task, offset!(task_group_leader));
    resolve_mm(mm);
    let found = IterVma {
        vma: vma as u64,
        mm,
        start: Direct::read(vma, offset!(vma_start)),
        end: Direct::read(vma, offset!(vma_end)),
        flags: Direct::read(vma, offset!(vma_flags)),
        start_boottime_ns: Direct::read(leader, offset!(task_start_boottime)),
        tgid: Direct::read(task, offset!(task_tgid)),
        features: Direct::read(
            Direct::pointer(vma, offset!(vma_uffd_ctx)),
            offset!(uffd_features),
        ),
        backing: record::backing::<Direct>(vma) as u32,
        reserved: 0,
        comm: Copied::read::<[u8; COMM_LEN]>(leader, offset!(task_comm)),
    };
    // SAFETY: meta->seq is its first field; the record is initialised to its last byte.
    unsafe {
        bpf_seq_write(
            (*meta).cast(),
            (&raw const found).cast(),
            size_of::<IterVma>() as u32,
        );
    }
    0
}
