//! The constants of the running kernel that the programs need, from facts.

use tracker_ebpf::{ABSENT, Config, Offsets};

use super::plan::{self, ProbedFacts};
use crate::kernel::facts::KernelFacts;
use crate::kernel::offsets::FieldOffset;

/// x86-64: the uffd-wp bit of a present pte or PMD (`_PAGE_BIT_UFFD_WP`, bit 10).
const UFFD_BIT: u64 = 1 << 10;
/// x86-64: the physical address in a table entry (`PTE_PFN_MASK`, 52 bits).
const TABLE_ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

/// Sizes of the shared maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// VMA records, the unusable record 0 among them. A record takes 272 bytes, and 64 bytes more
    /// in each shard.
    pub vma_records: u32,
    /// Process records, the unusable record 0 among them. A record takes 320 bytes.
    pub mm_records: u32,
    /// Shards of the fault counters: a power of two.
    pub shards: u32,
}

impl MapSizes {
    /// Nothing is counted.
    pub const NONE: Self = Self {
        vma_records: 1,
        mm_records: 1,
        shards: 1,
    };

    /// Sizes for so many VMAs and processes, and a shard per CPU up to 16.
    #[must_use]
    pub fn new(vmas: u32, processes: u32, cpus: usize) -> Self {
        let shards = u32::try_from(cpus.clamp(1, 16))
            .unwrap_or(16)
            .next_power_of_two();
        Self {
            vma_records: vmas.saturating_add(1),
            mm_records: processes.saturating_add(1),
            shards,
        }
    }
}

/// The field offsets; one that this kernel lacks is [`ABSENT`], and what needs it is not loaded.
#[must_use]
pub fn offsets(facts: &KernelFacts) -> Offsets {
    let known = &facts.offsets;
    let at = |offset: &FieldOffset| offset.get().unwrap_or(ABSENT);
    Offsets {
        fault_vma: at(&known.vm_fault_vma),
        fault_address: at(&known.vm_fault_address),
        fault_flags: at(&known.vm_fault_flags),
        fault_orig_pte: at(&known.vm_fault_orig_pte),
        fault_pte: at(&known.vm_fault_pte),
        fault_pmd: at(&known.vm_fault_pmd),
        vma_start: at(&known.vma_vm_start),
        vma_end: at(&known.vma_vm_end),
        vma_mm: at(&known.vma_vm_mm),
        vma_flags: at(&known.vma_vm_flags),
        vma_ops: at(&known.vma_vm_ops),
        vma_file: at(&known.vma_vm_file),
        vma_uffd_ctx: at(&known.vma_uffd_ctx),
        uffd_features: at(&known.uffd_ctx_features),
        uffd_flags: at(&known.uffd_ctx_flags),
        uffd_released: at(&known.uffd_ctx_released),
        uffd_mm: at(&known.uffd_ctx_mm),
        mm_pgd: at(&known.mm_pgd),
        zap_flags: at(&known.zap_details_zap_flags),
        mm_tree_root: at(&known.mm_tree_root),
        maple_range_pivots: at(&known.maple_range_pivots),
        maple_range_slots: at(&known.maple_range_slots),
        maple_range_end: at(&known.maple_range_end),
        maple_arange_pivots: at(&known.maple_arange_pivots),
        maple_arange_slots: at(&known.maple_arange_slots),
        maple_arange_end: at(&known.maple_arange_end),
        mm_owner: at(&known.mm_owner),
        task_mm: at(&known.task_mm),
        task_group_leader: at(&known.task_group_leader),
        task_tgid: at(&known.task_tgid),
        task_comm: at(&known.task_comm),
        task_start_boottime: at(&known.task_start_boottime),
        task_flags: at(&known.task_flags),
        file_inode: at(&known.file_f_inode),
        file_private_data: at(&known.file_private_data),
        inode_sb: at(&known.inode_i_sb),
        sb_magic: at(&known.super_block_s_magic),
        gather_mm: at(&known.mmu_gather_mm),
        move_new: at(&known.pmc_new),
        task_pid: at(&known.task_pid),
        task_min_flt: at(&known.task_min_flt),
        task_maj_flt: at(&known.task_maj_flt),
        move_old: at(&known.pmc_old),
        move_old_addr: at(&known.pmc_old_addr),
        move_new_addr: at(&known.pmc_new_addr),
        move_length: at(&known.pmc_len_in),
        walk_vma: at(&known.mm_walk_vma),
        ksm_address: at(&known.ksm_rmap_item_address),
        folio_flags: at(&known.folio_flags),
        folio_mapping: at(&known.folio_mapping),
        folio_index: at(&known.folio_index),
        vma_pgoff: at(&known.vma_vm_pgoff),
    }
}

/// What the programs need to know beside offsets.
#[must_use]
pub fn config(facts: &KernelFacts, found: &ProbedFacts, sizes: MapSizes) -> Config {
    let (fault_text_start, fault_text_end) = found.fault_text.unwrap_or_default();
    let (zap_huge_text_start, zap_huge_text_end) = found.zap_huge_text.unwrap_or_default();
    let (split_text_start, split_text_end) = found.split_text.unwrap_or_default();
    let first_is_mm = |function: &str| {
        let signature = facts
            .functions
            .get(function)
            .and_then(|f| f.signature.as_ref());
        let first = signature.and_then(|s| s.params.first());
        u64::from(first.is_some_and(|p| p.type_name.contains("mm_struct")))
    };
    Config {
        marker_pte: found.marker_pte.unwrap_or_default(),
        uffd_bit: UFFD_BIT,
        fault_text_start,
        fault_text_end,
        zap_huge_text_start,
        zap_huge_text_end,
        shard_mask: u64::from(sizes.shards - 1),
        vma_records: u64::from(sizes.vma_records),
        mm_records: u64::from(sizes.mm_records),
        wp_range_vma_arg: first_is_mm("uffd_wp_range"),
        move_takes_control: u64::from(facts.offsets.pmc_new.get().is_some()),
        faultin_takes_mm: first_is_mm("faultin_page_range"),
        table_address_mask: TABLE_ADDRESS_MASK,
        page_offset_symbol: found.page_offset_symbol.unwrap_or_default(),
        split_text_start,
        split_text_end,
        folio_swapbacked: found.folio_swapbacked.unwrap_or_default(),
        folio_head: found.folio_head.unwrap_or_default(),
        ioctl_unregisters: u64::from(!plan::exists("userfaultfd_clear_vma", facts)),
    }
}
