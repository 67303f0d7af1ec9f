//! Gives memory that was needed for a moment back to the kernel: BTF and kallsyms at the start, and
//! what many mappings left behind. Else glibc's malloc keeps it for ever.

/// From this size on an allocation is a mapping of its own. That is what malloc begins with; it
/// raises the threshold with each such allocation that is freed, unless it is set.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 128 << 10;

/// Lets all threads allocate from one arena, since each further one keeps what it was given once,
/// and lets large allocations go back when they are freed, and grow without being copied.
pub(crate) fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes settings of malloc, under malloc's own lock (mallopt(3)).
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MAPPED_FROM);
    }
}

/// Gives back what is free. Takes as long as there is memory to look at: milliseconds.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it releases pages that hold no allocation, under malloc's own lock (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
