//! What only the running kernel knows. The agent writes it into the instructions when it loads the
//! programs, so that reading a field costs no more than in the kernel itself.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

use tracker_ebpf::NamedField;

/// A [`tracker_ebpf::KernelValue`] by its name.
macro_rules! value {
    ($value:ident) => {
        $crate::patched::value_of::<{ tracker_ebpf::KernelValue::$value as u64 }>()
    };
}
pub(crate) use value;

/// The offset of a field in its struct, in bytes.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn offset<F: NamedField>() -> u32 {
    let offset: u64;
    // SAFETY: it only sets a register.
    unsafe {
        asm!(
            "{offset} = {tagged} ll",
            offset = lateout(reg) offset,
            tagged = const tracker_ebpf::FIELD_TAG + F::FIELD as u64,
            options(pure, nomem, nostack),
        );
    }
    offset as u32
}

/// A value by its number.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn value_of<const VALUE: u64>() -> u64 {
    let value: u64;
    // SAFETY: it only sets a register.
    unsafe {
        asm!(
            "{value} = {tagged} ll",
            value = lateout(reg) value,
            tagged = const tracker_ebpf::VALUE_TAG + VALUE,
            options(pure, nomem, nostack),
        );
    }
    value
}

/// On a host the hooks are only linted.
#[cfg(not(target_arch = "bpf"))]
pub fn offset<F: NamedField>() -> u32 {
    F::FIELD as u32
}

/// On a host the hooks are only linted.
#[cfg(not(target_arch = "bpf"))]
pub fn value_of<const VALUE: u64>() -> u64 {
    VALUE
}
