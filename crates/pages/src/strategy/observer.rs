//! Whoever sees what page tables forget, at the moment at which it happens. This crate knows only
//! what it must tell.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::ops::Range;

/// Sees the page faults of processes.
pub trait FaultTimeObserver: fmt::Debug + Send + Sync {
    /// Begins to watch the address space that a process has now.
    ///
    /// # Errors
    /// If it cannot see everything that [`FaultTimeBits`] must tell.
    fn watch(&self, pid: u32) -> Result<Box<dyn FaultTimeBits>, NotObserved>;
}

/// Why faults cannot be seen.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NotObserved(#[from] pub Box<dyn Error + Send + Sync>);

/// What was seen of one address space, in memory that is registered for write protection. Dropping
/// it ends the watch. Ranges are of whole pages of 4 KiB, by address and apart from each other.
pub trait FaultTimeBits: Send {
    /// Pages of shared memory that a read mapped last, and to which nobody has written since. A
    /// page may be missing here, but none may be here that can be written without a fault.
    fn only_read(&self, range: &Range<u64>) -> Vec<Range<u64>>;

    /// Takes the pages that were written (of shared memory) or emptied (of private memory) since
    /// they were taken last. May be told before it has taken effect, for shared memory within the
    /// same hold of the page table lock, for private memory while [`Self::is_emptying`].
    fn take(&mut self, range: &Range<u64>) -> Vec<Range<u64>>;

    /// Forgets which pages were only read.
    fn forget_only_read(&mut self, range: &Range<u64>);

    /// Forgets everything of a range that is not tracked any more.
    fn forget(&mut self, range: &Range<u64>);

    /// Events that no page was told of, since the watch began: for want of memory, or because the
    /// kernel kept them from the observer; it grows, too, while the observer may see nothing. Asking
    /// takes a system call for each hook, and now and then some ten milliseconds.
    fn lost(&self) -> u64;

    /// Whether some thread is emptying private memory of which pages were told already.
    fn is_emptying(&self) -> bool;

    /// Whether the zero page may just be taking the place of another page, of which [`Self::take`]
    /// tells afterwards.
    fn is_splitting(&self) -> bool;
}
