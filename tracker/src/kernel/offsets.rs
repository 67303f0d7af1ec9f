//! The struct offsets that the eBPF programs read with, from the running kernel's BTF.
//!
//! An offset that BTF does not give is never guessed: it carries the reason, and the hooks that
//! need it are unavailable.

use serde::{Deserialize, Serialize};

use super::btf::KernelBtf;

/// One offset, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldOffset {
    /// Bytes from the start of the struct.
    At(u32),
    /// Why it is not known, as a sentence without a full stop.
    Missing(String),
}

impl FieldOffset {
    /// The offset in bytes, if it is known.
    #[must_use]
    pub fn get(&self) -> Option<u32> {
        match self {
            Self::At(offset) => Some(*offset),
            Self::Missing(_) => None,
        }
    }

    /// Why it is not known; `None` if it is.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        match self {
            Self::At(_) => None,
            Self::Missing(reason) => Some(reason),
        }
    }

    fn resolve(btf: &KernelBtf, owner: &str, path: &str, size: u32) -> Self {
        match btf.field(owner, path) {
            Ok(field) if field.size == Some(size) => Self::At(field.offset),
            Ok(field) => {
                let found = field
                    .size
                    .map_or_else(|| "no".to_owned(), |size| size.to_string());
                Self::Missing(format!(
                    "{owner}.{path} has {found} bytes in this kernel's BTF instead of {size}"
                ))
            }
            Err(error) => Self::Missing(error.to_string()),
        }
    }
}

/// Declares [`FieldOffsets`]: per line its field, the struct, the path in it, and the size in bytes that
/// the programs read. A member of another size is another thing by the same name.
macro_rules! offsets {
    ($($field:ident = $owner:literal, $path:literal, $size:literal;)*) => {
        /// Offsets in bytes, one field for each struct member that the eBPF programs read.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct FieldOffsets {
            $(
                #[doc = concat!("`", $path, "` of `struct ", $owner, "`: ", $size, " bytes.")]
                pub $field: FieldOffset,
            )*
        }

        impl FieldOffsets {
            /// Looks each of them up.
            #[must_use]
            pub fn resolve(btf: &KernelBtf) -> Self {
                Self { $($field: FieldOffset::resolve(btf, $owner, $path, $size),)* }.checked()
            }

            /// None of them known, all for the same reason (no BTF).
            #[must_use]
            pub fn unavailable(reason: &str) -> Self {
                Self { $($field: FieldOffset::Missing(reason.to_owned()),)* }
            }

            /// Each with the name of its field in this struct, in the order of declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &FieldOffset)> {
                [$((stringify!($field), &self.$field),)*].into_iter()
            }
        }
    };
}

impl FieldOffsets {
    /// Without what is elsewhere than the programs take for granted.
    fn checked(mut self) -> Self {
        // They have one offset for both counts of faults.
        if let (Some(minor), Some(major)) = (self.task_min_flt.get(), self.task_maj_flt.get())
            && major != minor + 8
        {
            self.task_maj_flt = FieldOffset::Missing(format!(
                "task_struct.maj_flt is at {major} in this kernel's BTF instead of right after \
                 min_flt at {minor}"
            ));
        }
        self
    }
}

offsets! {
    vm_fault_vma = "vm_fault", "vma", 8;
    vm_fault_address = "vm_fault", "address", 8;
    vm_fault_flags = "vm_fault", "flags", 4;
    vm_fault_orig_pte = "vm_fault", "orig_pte", 8;
    vm_fault_orig_pmd = "vm_fault", "orig_pmd", 8;
    vm_fault_pte = "vm_fault", "pte", 8;
    vm_fault_pmd = "vm_fault", "pmd", 8;
    vm_fault_prealloc_pte = "vm_fault", "prealloc_pte", 8;
    vma_vm_start = "vm_area_struct", "vm_start", 8;
    vma_vm_end = "vm_area_struct", "vm_end", 8;
    vma_vm_mm = "vm_area_struct", "vm_mm", 8;
    vma_vm_flags = "vm_area_struct", "vm_flags", 8;
    vma_vm_ops = "vm_area_struct", "vm_ops", 8;
    vma_vm_file = "vm_area_struct", "vm_file", 8;
    vma_uffd_ctx = "vm_area_struct", "vm_userfaultfd_ctx.ctx", 8;
    uffd_ctx_features = "userfaultfd_ctx", "features", 4;
    uffd_ctx_flags = "userfaultfd_ctx", "flags", 4;
    uffd_ctx_released = "userfaultfd_ctx", "released", 1;
    uffd_ctx_mm = "userfaultfd_ctx", "mm", 8;
    mm_owner = "mm_struct", "owner", 8;
    mm_pgd = "mm_struct", "pgd", 8;
    // The tree of an mm's VMAs, since 6.1.
    mm_tree_root = "mm_struct", "mm_mt.ma_root", 8;
    maple_range_pivots = "maple_range_64", "pivot", 120;
    maple_range_slots = "maple_range_64", "slot", 128;
    maple_range_end = "maple_range_64", "meta.end", 1;
    maple_arange_pivots = "maple_arange_64", "pivot", 72;
    maple_arange_slots = "maple_arange_64", "slot", 80;
    maple_arange_end = "maple_arange_64", "meta.end", 1;
    mm_pgtables_bytes = "mm_struct", "pgtables_bytes", 8;
    task_mm = "task_struct", "mm", 8;
    task_group_leader = "task_struct", "group_leader", 8;
    task_tgid = "task_struct", "tgid", 4;
    task_pid = "task_struct", "pid", 4;
    task_comm = "task_struct", "comm", 16;
    task_start_boottime = "task_struct", "start_boottime", 8;
    task_flags = "task_struct", "flags", 4;
    task_min_flt = "task_struct", "min_flt", 8;
    task_maj_flt = "task_struct", "maj_flt", 8;
    file_f_inode = "file", "f_inode", 8;
    file_private_data = "file", "private_data", 8;
    inode_i_sb = "inode", "i_sb", 8;
    super_block_s_magic = "super_block", "s_magic", 8;
    mmu_gather_mm = "mmu_gather", "mm", 8;
    zap_details_zap_flags = "zap_details", "zap_flags", 4;
    // In newer kernels (6.18), whose move_page_tables takes both VMAs in one struct.
    pmc_old = "pagetable_move_control", "old", 8;
    pmc_new = "pagetable_move_control", "new", 8;
    mm_walk_vma = "mm_walk", "vma", 8;
    mm_walk_private = "mm_walk", "private", 8;
    pmc_old_addr = "pagetable_move_control", "old_addr", 8;
    pmc_new_addr = "pagetable_move_control", "new_addr", 8;
    pmc_len_in = "pagetable_move_control", "len_in", 8;
    ksm_rmap_item_address = "ksm_rmap_item", "address", 8;
    folio_flags = "folio", "flags", 8;
    folio_mapping = "folio", "mapping", 8;
    folio_index = "folio", "index", 8;
    vma_vm_pgoff = "vm_area_struct", "vm_pgoff", 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maj_flt_is_known_only_right_after_min_flt() {
        let checked = |minor, major| {
            let mut offsets = FieldOffsets::unavailable("no BTF");
            offsets.task_min_flt = FieldOffset::At(minor);
            offsets.task_maj_flt = FieldOffset::At(major);
            offsets.checked().task_maj_flt
        };
        assert_eq!(checked(1448, 1456), FieldOffset::At(1456));
        for elsewhere in [1440, 1464] {
            let reason = "task_struct.maj_flt is at";
            let offset = checked(1448, elsewhere);
            assert!(offset.missing().is_some_and(|why| why.starts_with(reason)));
        }
        let unavailable = FieldOffsets::unavailable("no BTF");
        assert_eq!(unavailable.clone().checked(), unavailable);
    }
}
