//! Reads kernel memory: directly where the verifier checks each load against BTF, otherwise by
//! copy.
//!
//! Both give zero for an address that cannot be read, as the kernel does for BTF loads.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use tracker_ebpf::NamedField;

use crate::patched::offset;

/// A way to read fields of a kernel object.
pub trait KernelMemory {
    /// Reads a field.
    fn read<F: NamedField<Value: LoadedWord>>(object: *const u8) -> F::Value;

    /// Reads a field that is a pointer.
    fn pointer<F: NamedField<Value = u64>>(object: *const u8) -> *const u8;
}

/// Loads that the verifier checks: for pointers that are arguments of fentry, fexit or iterators.
pub struct DirectMemory;

impl KernelMemory for DirectMemory {
    #[inline(always)]
    fn read<F: NamedField<Value: LoadedWord>>(object: *const u8) -> F::Value {
        F::Value::load::<F>(object)
    }

    #[inline(always)]
    fn pointer<F: NamedField<Value = u64>>(object: *const u8) -> *const u8 {
        u64::load::<F>(object) as *const u8
    }
}

/// Copies by a helper: for pointers that the verifier knows nothing about.
pub struct CopiedMemory;

impl CopiedMemory {
    /// Reads what is at `address`.
    #[inline(always)]
    pub fn at<T: Copy + Default>(address: *const u8) -> T {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(address.cast::<T>()) }.unwrap_or_default()
    }
}

impl KernelMemory for CopiedMemory {
    #[inline(always)]
    fn read<F: NamedField<Value: LoadedWord>>(object: *const u8) -> F::Value {
        Self::at(object.wrapping_add(offset::<F>() as usize))
    }

    #[inline(always)]
    fn pointer<F: NamedField<Value = u64>>(object: *const u8) -> *const u8 {
        Self::read::<F>(object) as *const u8
    }
}

/// What one load instruction reads.
pub trait LoadedWord: Copy + Default {
    /// Loads a field; the agent fills in its offset.
    fn load<F: NamedField>(object: *const u8) -> Self;
}

macro_rules! loaded_words {
    ($($word:ident),*) => {$(
        impl LoadedWord for $word {
            #[cfg(target_arch = "bpf")]
            #[inline(always)]
            fn load<F: NamedField>(object: *const u8) -> Self {
                let value: u64;
                // SAFETY: the verifier checks the load against BTF; a faulting one gives zero.
                unsafe {
                    asm!(
                        concat!("{value} = *(", stringify!($word), " *)({object} + {field})"),
                        value = lateout(reg) value,
                        object = in(reg) object,
                        field = const tracker_ebpf::FIRST_FIELD + F::FIELD as i16,
                        options(readonly, nostack),
                    );
                }
                value as Self
            }

            /// On a host the hooks are only linted.
            #[cfg(not(target_arch = "bpf"))]
            fn load<F: NamedField>(_object: *const u8) -> Self {
                0
            }
        }
    )*};
}

loaded_words!(u8, u32, u64);
