//! What the programs need to know of the running kernel beside field offsets: one line a value. The
//! agent finds each out (`tracker/src/probes/values.rs`) and writes it into the instructions.

use crate::numbered::numbered;

numbered! {
    /// A number that only the running kernel, or the agent's options, tell.
    #[allow(non_camel_case_types, reason = "programs write `value!(marker_pte)`")]
    pub enum KernelValue {
        /// The pte that is a uffd-wp marker, bit for bit.
        marker_pte,
        /// The uffd-wp bit of a present pte or PMD.
        uffd_bit,
        /// Text of the function that `wp_huge_pmd` is inlined into: first address.
        fault_text_start,
        /// ... and the address after its last.
        fault_text_end,
        /// Text of `zap_huge_pmd`: first address.
        zap_huge_text_start,
        /// ... and the address after its last.
        zap_huge_text_end,
        /// Shards of the fault counters, less one (a power of two less one).
        shard_mask,
        /// VMA records, and so the stride of a shard.
        vma_records,
        /// Process records.
        mm_records,
        /// Where `uffd_wp_range` has its VMA: argument 0, or 1 on kernels that pass the mm first.
        wp_range_vma_arg,
        /// 1 if `move_page_tables` takes one `pagetable_move_control`.
        move_takes_control,
        /// 1 if MADV_POPULATE's function takes an mm, 0 if a VMA.
        faultin_takes_mm,
        /// Bits of a PMD entry that are the physical address of the table it points to.
        table_address_mask,
        /// Address of the kernel's variable `page_offset_base`; 0 if it has none.
        page_offset_symbol,
        /// Text of `__split_huge_pmd`: first address.
        split_text_start,
        /// ... and the address after its last.
        split_text_end,
        /// The flag of a folio that is written to swap: `PG_swapbacked`, as a bit.
        folio_swapbacked,
        /// The flag of a folio of several pages: `PG_head`, as a bit.
        folio_head,
        /// 1 if UFFDIO_UNREGISTER is seen by nothing but the system call.
        ioctl_unregisters,
    }
}
