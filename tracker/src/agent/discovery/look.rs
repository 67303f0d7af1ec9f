//! Which processes must be searched: reading smaps walks every page table of a process.
//!
//! What is known without it, per machine: a VMA can only be registered while a userfaultfd is
//! open, so where nobody holds one there is nothing to find (one that is only in flight over a
//! socket, or held by io_uring alone, is not seen; the BPF iterator sees its VMAs). Per process:
//! `PAGEMAP_SCAN` tells async VMAs apart without walking others. Only sync VMAs whose userfaultfd
//! another process holds leave no cheap trace; they are searched for at intervals.

use std::time::Duration;

/// How long a search that found nothing counts where only smaps could tell.
pub const SEARCH_AGAIN: Duration = Duration::from_secs(60);

/// What the userfaultfds of the whole machine say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Some process holds one.
    pub any: bool,
    /// Some process holds one that is not async.
    pub any_sync: bool,
    /// Some process could not be asked.
    pub unknown: bool,
}

/// What is known of one process without reading its smaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clues {
    /// It had uffd-wp VMAs when it was last searched.
    pub had_some: bool,
    /// It holds a userfaultfd.
    pub holds_one: bool,
    /// `PAGEMAP_SCAN` sees an async VMA; `None` where that cannot be asked.
    pub has_async: Option<bool>,
    /// Time since a search of it found nothing.
    pub clean_for: Option<Duration>,
}

impl Machine {
    /// Whether any process can have a uffd-wp VMA.
    pub const fn may_have_any(self) -> bool {
        self.any || self.unknown
    }
}

/// Whether the smaps of a process must be read now.
pub fn must_search(machine: Machine, clues: Clues) -> bool {
    if clues.had_some || clues.holds_one || clues.has_async == Some(true) {
        return true;
    }
    let only_smaps_can_tell = machine.any_sync || machine.unknown || clues.has_async.is_none();
    machine.may_have_any()
        && only_smaps_can_tell
        && clues
            .clean_for
            .is_none_or(|clean_for| clean_for >= SEARCH_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Machine = Machine {
        any: false,
        any_sync: false,
        unknown: false,
    };
    const ASYNC: Machine = Machine { any: true, ..NONE };
    const SYNC: Machine = Machine {
        any_sync: true,
        ..ASYNC
    };
    const NOTHING: Clues = Clues {
        had_some: false,
        holds_one: false,
        has_async: Some(false),
        clean_for: None,
    };

    #[test]
    fn nobody_is_searched_where_no_userfaultfd_is_open() {
        assert!(!must_search(NONE, NOTHING));
        assert!(!must_search(
            NONE,
            Clues {
                has_async: None,
                ..NOTHING
            }
        ));
    }

    #[test]
    fn each_clue_suffices() {
        for machine in [NONE, ASYNC, SYNC] {
            let fresh = Clues {
                clean_for: Some(Duration::ZERO),
                ..NOTHING
            };
            assert!(must_search(
                machine,
                Clues {
                    had_some: true,
                    ..fresh
                }
            ));
            assert!(must_search(
                machine,
                Clues {
                    holds_one: true,
                    ..fresh
                }
            ));
            assert!(must_search(
                machine,
                Clues {
                    has_async: Some(true),
                    ..fresh
                }
            ));
        }
    }

    #[test]
    fn pagemap_scan_clears_a_process_where_all_userfaultfds_are_async() {
        assert!(!must_search(ASYNC, NOTHING));
        assert!(must_search(
            ASYNC,
            Clues {
                has_async: None,
                ..NOTHING
            }
        ));
    }

    #[test]
    fn a_sync_one_held_elsewhere_is_searched_for_at_intervals() {
        let clean = |seconds| Clues {
            clean_for: Some(Duration::from_secs(seconds)),
            ..NOTHING
        };
        assert!(must_search(SYNC, NOTHING));
        assert!(!must_search(SYNC, clean(59)));
        assert!(must_search(SYNC, clean(60)));
        let unknown = Machine {
            unknown: true,
            ..NONE
        };
        assert!(must_search(unknown, NOTHING));
        assert!(!must_search(unknown, clean(59)));
    }
}
