//! The fields of kernel structs that the programs read: one line each. The agent looks them up in
//! the running kernel's BTF and writes their offsets into the instructions.

/// Declares [`KernelField`] and [`field`]: of each field its name, the type that is read, and the
/// path from its struct. Two kinds may be missing without harm, see [`FieldPresence`].
macro_rules! fields {
    (@member $first:ident $($rest:ident)*) => {
        concat!(stringify!($first), $(".", stringify!($rest)),*)
    };
    (@presence) => { FieldPresence::Required };
    (@presence $presence:ident) => { FieldPresence::$presence };
    ($($name:ident: $read:ty = $owner:ident $(.$member:ident)+ $(, $presence:ident)?;)*) => {
        /// A field of a kernel struct.
        #[allow(non_camel_case_types, reason = "programs write `field::vma_mm`")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum KernelField {
            $(
                #[doc = concat!(
                    "`", fields!(@member $($member)+), "` of `struct ", stringify!($owner), "`."
                )]
                $name,
            )*
        }

        impl KernelField {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            /// Its name here.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The struct it is in.
            #[must_use]
            pub const fn owner(self) -> &'static str {
                match self { $(Self::$name => stringify!($owner),)* }
            }

            /// Its path in the struct.
            #[must_use]
            pub const fn member(self) -> &'static str {
                match self { $(Self::$name => fields!(@member $($member)+),)* }
            }

            /// Bytes that the programs read: a member of another size is another thing by that
            /// name.
            #[must_use]
            pub const fn size(self) -> usize {
                match self { $(Self::$name => size_of::<$read>(),)* }
            }

            /// What a kernel without it means.
            #[must_use]
            pub const fn presence(self) -> FieldPresence {
                match self { $(Self::$name => fields!(@presence $($presence)?),)* }
            }
        }

        /// A type for each field, so that reading one gives what the field holds.
        #[allow(non_camel_case_types, reason = "programs write `field::vma_mm`")]
        pub mod field {
            use super::{KernelField, NamedField};
            $(
                #[doc = concat!("[`KernelField::", stringify!($name), "`]")]
                pub enum $name {}
                impl NamedField for $name {
                    type Value = $read;
                    const FIELD: KernelField = KernelField::$name;
                }
            )*
        }
    };
}

/// A field as a type.
pub trait NamedField {
    /// What it holds.
    type Value;
    /// Which it is.
    const FIELD: KernelField;
}

/// What it means that a kernel lacks a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldPresence {
    /// No program that reads it can run.
    Required,
    /// Programs test whether it is there.
    Optional,
    /// Programs do not read it on a kernel without the whole struct.
    WithStruct,
}

fields! {
    fault_vma: u64 = vm_fault.vma;
    fault_address: u64 = vm_fault.address;
    fault_flags: u32 = vm_fault.flags;
    fault_orig_pte: u64 = vm_fault.orig_pte;
    fault_pte: u64 = vm_fault.pte;
    fault_pmd: u64 = vm_fault.pmd;

    vma_start: u64 = vm_area_struct.vm_start;
    vma_end: u64 = vm_area_struct.vm_end;
    vma_mm: u64 = vm_area_struct.vm_mm;
    vma_flags: u64 = vm_area_struct.vm_flags;
    vma_ops: u64 = vm_area_struct.vm_ops;
    vma_file: u64 = vm_area_struct.vm_file;
    vma_pgoff: u64 = vm_area_struct.vm_pgoff;
    vma_uffd_ctx: u64 = vm_area_struct.vm_userfaultfd_ctx.ctx;

    uffd_features: u32 = userfaultfd_ctx.features;
    uffd_flags: u32 = userfaultfd_ctx.flags;
    uffd_released: u8 = userfaultfd_ctx.released;
    uffd_mm: u64 = userfaultfd_ctx.mm;

    mm_pgd: u64 = mm_struct.pgd;
    // Only with CONFIG_MEMCG.
    mm_owner: u64 = mm_struct.owner, Optional;
    // The tree of an mm's VMAs, since 6.1.
    mm_tree_root: u64 = mm_struct.mm_mt.ma_root;
    maple_range_pivots: [u64; 15] = maple_range_64.pivot;
    maple_range_slots: [u64; 16] = maple_range_64.slot;
    maple_range_end: u8 = maple_range_64.meta.end;
    maple_arange_pivots: [u64; 9] = maple_arange_64.pivot;
    maple_arange_slots: [u64; 10] = maple_arange_64.slot;
    maple_arange_end: u8 = maple_arange_64.meta.end;

    task_mm: u64 = task_struct.mm;
    // Where a thread hangs in the list of its number.
    task_pid_links: [u64; 8] = task_struct.pid_links;
    task_group_leader: u64 = task_struct.group_leader;
    task_tgid: u32 = task_struct.tgid;
    task_pid: u32 = task_struct.pid;
    task_comm: [u8; 16] = task_struct.comm;
    task_start_boottime: u64 = task_struct.start_boottime;
    task_flags: u32 = task_struct.flags;
    task_min_flt: u64 = task_struct.min_flt;
    task_maj_flt: u64 = task_struct.maj_flt;

    file_inode: u64 = file.f_inode;
    file_private_data: u64 = file.private_data;
    inode_sb: u64 = inode.i_sb;
    inode_mode: u16 = inode.i_mode;
    // The inode of a file in /proc/PID, and what is around it.
    proc_pid: u64 = proc_inode.pid, WithStruct;
    proc_inode_mode: u16 = proc_inode.vfs_inode.i_mode, WithStruct;
    // The threads of a number: first of it as a thread's, which is one.
    pid_thread: [u64; 4] = pid.tasks;
    sb_magic: u64 = super_block.s_magic;

    gather_mm: u64 = mmu_gather.mm;
    zap_flags: u32 = zap_details.zap_flags;
    walk_vma: u64 = mm_walk.vma;
    // Newer kernels (6.18) pass move_page_tables both VMAs in this struct.
    move_old: u64 = pagetable_move_control.old, WithStruct;
    move_new: u64 = pagetable_move_control.new, WithStruct;
    move_old_addr: u64 = pagetable_move_control.old_addr, WithStruct;
    move_new_addr: u64 = pagetable_move_control.new_addr, WithStruct;
    move_length: u64 = pagetable_move_control.len_in, WithStruct;

    ksm_address: u64 = ksm_rmap_item.address;
    folio_flags: u64 = folio.flags;
    folio_mapping: u64 = folio.mapping;
    folio_index: u64 = folio.index;
    // Since 6.12.
    rmap_maps_zero: u8 = rmap_walk_arg.map_unused_to_zeropage, WithStruct;
    // Its offset is the size of a `struct page`: the second page's flags.
    folio_second_flags: u64 = folio._flags_1;
}
