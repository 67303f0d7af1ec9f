//! Reading kernel memory: directly where the verifier checks each load against BTF, else by copy.
//!
//! Both give zero for an address that cannot be read, as the kernel itself does for BTF loads.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// A way to read a field of a kernel object.
pub trait Memory {
    /// Reads a `T` at `offset` bytes into `object`.
    fn read<T: Copy + Default>(object: *const u8, offset: u32) -> T;

    /// Reads a pointer at `offset` bytes into `object`.
    fn pointer(object: *const u8, offset: u32) -> *const u8;
}

/// Loads that the verifier checks: for pointers from fentry, fexit and iterator arguments.
pub struct Direct;

impl Memory for Direct {
    #[inline(always)]
    fn read<T: Copy + Default>(object: *const u8, offset: u32) -> T {
        // SAFETY: the verifier checks the load against BTF; a faulting one gives zero.
        unsafe { object.add(offset as usize).cast::<T>().read_volatile() }
    }

    #[inline(always)]
    fn pointer(object: *const u8, offset: u32) -> *const u8 {
        // SAFETY: as above.
        unsafe {
            object
                .add(offset as usize)
                .cast::<*const u8>()
                .read_volatile()
        }
    }
}

/// Copies by helper: for pointers that the verifier knows nothing of.
pub struct Copied;

impl Memory for Copied {
    #[inline(always)]
    fn read<T: Copy + Default>(object: *const u8, offset: u32) -> T {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(object.wrapping_add(offset as usize).cast::<T>()) }
            .unwrap_or_default()
    }

    #[inline(always)]
    fn pointer(object: *const u8, offset: u32) -> *const u8 {
        Self::read::<u64>(object, offset) as *const u8
    }
}
