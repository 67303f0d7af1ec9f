//! A BPF array that both sides have mapped, so that reading it takes no system call.

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::Map;
use bytemuck::Pod;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::error::ProbeError;

/// An mmapped `BPF_MAP_TYPE_ARRAY` of `T`.
#[derive(Debug)]
pub struct SharedArray<T> {
    base: NonNull<T>,
    len: usize,
    bytes: usize,
    kind: PhantomData<T>,
}

// SAFETY: all access is volatile or atomic, checked against the length.
unsafe impl<T: Send> Send for SharedArray<T> {}

impl<T: Pod> SharedArray<T> {
    /// Maps a map of `len` entries.
    ///
    /// # Errors
    /// If it is no array, or the kernel refuses to map it.
    pub fn map(map: &Map, len: u32) -> Result<Self, ProbeError> {
        let Map::Array(data) = map else {
            return Err(ProbeError::NoArray);
        };
        // The kernel rounds values up to eight bytes; ours are multiples of that.
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let len = len as usize;
        let bytes = (len * size_of::<T>()).next_multiple_of(rustix::param::page_size());
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                data.fd().as_fd(),
                0,
            )
        };
        let base = base.map_err(std::io::Error::from)?;
        let base = NonNull::new(base.cast()).ok_or(ProbeError::NoArray)?;
        Ok(Self {
            base,
            len,
            bytes,
            kind: PhantomData,
        })
    }

    /// The number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    fn at(&self, index: usize) -> Option<*mut T> {
        // SAFETY: in bounds of the mapping.
        (index < self.len).then(|| unsafe { self.base.as_ptr().add(index) })
    }

    /// A copy of an entry, in which each word is whole; zeroes beyond the end.
    #[must_use]
    pub fn read(&self, index: usize) -> T {
        match self.at(index) {
            // SAFETY: in bounds and aligned; any bits are a T.
            Some(entry) => unsafe { entry.read_volatile() },
            None => T::zeroed(),
        }
    }

    /// Overwrites an entry that the kernel side no longer touches.
    pub fn write(&self, index: usize, value: T) {
        if let Some(entry) = self.at(index) {
            // SAFETY: in bounds and aligned.
            unsafe { entry.write_volatile(value) }
        }
    }

    /// Overwrites one word of an entry.
    pub fn write_word(&self, index: usize, offset: usize, value: u64) {
        if let Some(word) = self.word(index, offset) {
            word.store(value, Ordering::Release);
        }
    }

    /// Stores four bytes of an entry.
    pub fn store_u32(&self, index: usize, offset: usize, value: u32) {
        let fits = offset.is_multiple_of(4) && offset + 4 <= size_of::<T>();
        if let Some(entry) = self.at(index).filter(|_| fits) {
            // SAFETY: in bounds and aligned.
            unsafe {
                entry
                    .cast::<u8>()
                    .add(offset)
                    .cast::<u32>()
                    .write_volatile(value)
            }
        }
    }

    /// A word of an entry, as both sides see it.
    #[must_use]
    pub fn word(&self, index: usize, offset: usize) -> Option<&AtomicU64> {
        let entry = self.at(index)?;
        let fits = offset.is_multiple_of(8) && offset + 8 <= size_of::<T>();
        // SAFETY: in bounds, aligned, and lives as long as the mapping.
        fits.then(|| unsafe { AtomicU64::from_ptr(entry.cast::<u8>().add(offset).cast()) })
    }
}

impl SharedArray<u64> {
    /// Stores one entry for the kernel side to see.
    pub fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.word(index, 0) {
            word.store(value, Ordering::Release);
        }
    }
}

impl<T> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and no reference into it outlives self.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}
