//! What both sides agree on at load time: constants of the running kernel, which the agent writes
//! into the programs' instructions.

/// A load instruction with this offset, or up to as many more as [`Offsets`] has fields, loads that
/// field. No struct of the kernel that we read is as large.
pub const FIRST_FIELD: i16 = 0x7000;
/// A constant from here on, one for each field of [`Offsets`], stands for that offset.
pub const OFFSET_TAG: u64 = 0x7ac4_0ff5_e700_0000;
/// A constant from here on, one for each field of [`Config`], stands for that value.
pub const CONFIG_TAG: u64 = 0x7ac4_c0f1_9000_0000;

/// Byte offsets of kernel struct fields, from the running kernel's BTF.
///
/// A field that this kernel lacks holds [`ABSENT`]; a program that needs it is not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// `vm_fault.vma`
    pub fault_vma: u32,
    /// `vm_fault.address`
    pub fault_address: u32,
    /// `vm_fault.flags`
    pub fault_flags: u32,
    /// `vm_fault.orig_pte`
    pub fault_orig_pte: u32,
    /// `vm_fault.pte`
    pub fault_pte: u32,
    /// `vm_fault.pmd`
    pub fault_pmd: u32,
    /// `vm_area_struct.vm_start`
    pub vma_start: u32,
    /// `vm_area_struct.vm_end`
    pub vma_end: u32,
    /// `vm_area_struct.vm_mm`
    pub vma_mm: u32,
    /// `vm_area_struct.vm_flags`
    pub vma_flags: u32,
    /// `vm_area_struct.vm_ops`
    pub vma_ops: u32,
    /// `vm_area_struct.vm_file`
    pub vma_file: u32,
    /// `vm_area_struct.vm_userfaultfd_ctx.ctx`
    pub vma_uffd_ctx: u32,
    /// `userfaultfd_ctx.features`
    pub uffd_features: u32,
    /// `userfaultfd_ctx.flags`
    pub uffd_flags: u32,
    /// `userfaultfd_ctx.released`
    pub uffd_released: u32,
    /// `userfaultfd_ctx.mm`
    pub uffd_mm: u32,
    /// `mm_struct.pgd`
    pub mm_pgd: u32,
    /// `zap_details.zap_flags`
    pub zap_flags: u32,
    /// `mm_struct.mm_mt.ma_root`
    pub mm_tree_root: u32,
    /// `maple_range_64.pivot`
    pub maple_range_pivots: u32,
    /// `maple_range_64.slot`
    pub maple_range_slots: u32,
    /// `maple_range_64.meta.end`
    pub maple_range_end: u32,
    /// `maple_arange_64.pivot`
    pub maple_arange_pivots: u32,
    /// `maple_arange_64.slot`
    pub maple_arange_slots: u32,
    /// `maple_arange_64.meta.end`
    pub maple_arange_end: u32,
    /// `mm_struct.owner`
    pub mm_owner: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `task_struct.start_boottime`
    pub task_start_boottime: u32,
    /// `task_struct.flags`
    pub task_flags: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.private_data`
    pub file_private_data: u32,
    /// `inode.i_sb`
    pub inode_sb: u32,
    /// `super_block.s_magic`
    pub sb_magic: u32,
    /// `mmu_gather.mm`
    pub gather_mm: u32,
    /// `pagetable_move_control.new`
    pub move_new: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.min_flt`
    pub task_min_flt: u32,
    /// `task_struct.maj_flt`
    pub task_maj_flt: u32,
    /// `pagetable_move_control.old`
    pub move_old: u32,
    /// `pagetable_move_control.old_addr`
    pub move_old_addr: u32,
    /// `pagetable_move_control.new_addr`
    pub move_new_addr: u32,
    /// `pagetable_move_control.len_in`
    pub move_length: u32,
    /// `mm_walk.vma`
    pub walk_vma: u32,
    /// `ksm_rmap_item.address`
    pub ksm_address: u32,
    /// `folio.flags`
    pub folio_flags: u32,
    /// `folio.mapping`
    pub folio_mapping: u32,
    /// `folio.index`
    pub folio_index: u32,
    /// `vm_area_struct.vm_pgoff`
    pub vma_pgoff: u32,
}

/// A field or function that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// What the programs need to know beside field offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The pte that is a uffd-wp marker, bit for bit.
    pub marker_pte: u64,
    /// The uffd-wp bit of a present pte or PMD.
    pub uffd_bit: u64,
    /// Text of the function that `wp_huge_pmd` is inlined into: first address.
    pub fault_text_start: u64,
    /// ... and the address after its last.
    pub fault_text_end: u64,
    /// Text of `zap_huge_pmd`: first address.
    pub zap_huge_text_start: u64,
    /// ... and the address after its last.
    pub zap_huge_text_end: u64,
    /// Shards of the fault counters, less one (a power of two less one).
    pub shard_mask: u64,
    /// VMA records, and so the stride of a shard.
    pub vma_records: u64,
    /// Process records.
    pub mm_records: u64,
    /// Where `uffd_wp_range` has its VMA: argument 0, or 1 on kernels that pass the mm first.
    pub wp_range_vma_arg: u64,
    /// 1 if `move_page_tables` takes one `pagetable_move_control`.
    pub move_takes_control: u64,
    /// 1 if MADV_POPULATE's function takes an mm, 0 if a VMA.
    pub faultin_takes_mm: u64,
    /// Bits of a PMD entry that are the physical address of the table it points to.
    pub table_address_mask: u64,
    /// Address of the kernel's variable `page_offset_base`; 0 if it has none.
    pub page_offset_symbol: u64,
    /// Text of `__split_huge_pmd`: first address.
    pub split_text_start: u64,
    /// ... and the address after its last.
    pub split_text_end: u64,
    /// The flag of a folio that is written to swap: `PG_swapbacked`, as a bit.
    pub folio_swapbacked: u64,
    /// The flag of a folio of several pages: `PG_head`, as a bit.
    pub folio_head: u64,
    /// 1 if UFFDIO_UNREGISTER is seen by nothing but the system call.
    pub ioctl_unregisters: u64,
}

#[cfg(feature = "user")]
// SAFETY: repr(C), u32 only, no padding.
unsafe impl bytemuck::Zeroable for Offsets {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl bytemuck::Pod for Offsets {}
#[cfg(feature = "user")]
// SAFETY: repr(C), u64 only, no padding.
unsafe impl bytemuck::Zeroable for Config {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl bytemuck::Pod for Config {}

const _: () = {
    assert!(size_of::<Offsets>() == 4 * 52);
    assert!(size_of::<Config>() == 8 * 19);
};
