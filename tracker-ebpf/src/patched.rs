//! Constants that only the running kernel knows. The agent writes them into the instructions when
//! it loads the programs, so that reading a field costs no more than in the kernel itself.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

/// The place of a field in [`tracker_ebpf::Offsets`], for [`crate::memory::KernelMemory`].
macro_rules! field {
    ($field:ident) => {
        core::mem::offset_of!(tracker_ebpf::Offsets, $field) / 4
    };
}
pub(crate) use field;

/// The offset `$field` of [`tracker_ebpf::Offsets`], in bytes.
macro_rules! offset {
    ($field:ident) => {
        $crate::patched::offset_of::<{ $crate::patched::field!($field) }>()
    };
}
pub(crate) use offset;

/// The value `$field` of [`tracker_ebpf::Config`].
macro_rules! config {
    ($field:ident) => {
        $crate::patched::config_of::<{ core::mem::offset_of!(tracker_ebpf::Config, $field) / 8 }>()
    };
}
pub(crate) use config;

#[inline(always)]
pub fn offset_of<const FIELD: usize>() -> u32 {
    constant::<{ tracker_ebpf::OFFSET_TAG }, FIELD>() as u32
}

#[inline(always)]
pub fn config_of<const FIELD: usize>() -> u64 {
    constant::<{ tracker_ebpf::CONFIG_TAG }, FIELD>()
}

/// An instruction with a number that the agent replaces.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn constant<const TAG: u64, const FIELD: usize>() -> u64 {
    let value: u64;
    // SAFETY: it only sets a register.
    unsafe {
        asm!(
            "{value} = {tagged} ll",
            value = lateout(reg) value,
            tagged = const TAG + FIELD as u64,
            options(pure, nomem, nostack),
        );
    }
    value
}

/// On a host the hooks are only linted.
#[cfg(not(target_arch = "bpf"))]
fn constant<const TAG: u64, const FIELD: usize>() -> u64 {
    TAG + FIELD as u64
}
