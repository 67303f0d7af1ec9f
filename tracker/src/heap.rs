//! Gives memory that was needed for a moment back to the kernel: BTF and kallsyms at the start, and
//! what many mappings left behind. Else glibc's malloc keeps it for ever.

/// Lets all threads allocate from one arena: each further one keeps what it was given once.
pub(crate) fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes a setting of malloc, under malloc's own lock (mallopt(3)).
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
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
