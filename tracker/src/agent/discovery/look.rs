//! Which processes must be searched: reading smaps walks every page table of a process.
//!
//! What is known without it, per machine: a VMA can only be registered while a userfaultfd is open,
//! so where nobody holds one there is nothing to find (one that is only in flight over a socket, or
//! held by io_uring alone, is not seen; the BPF iterator sees its VMAs). Per process:
//! `PAGEMAP_SCAN` finds async VMAs without walking others. Only sync VMAs whose userfaultfd another
//! process holds leave no cheap trace; those are searched for at intervals.

use std::time::Duration;

/// How long a search that found nothing counts, where only smaps can tell.
pub const SEARCH_AGAIN: Duration = Duration::from_secs(60);

/// What the userfaultfds of the whole machine say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineClues {
    /// Some process holds one.
    pub any: bool,
    /// Some process holds one that is not async.
    pub any_sync: bool,
    /// Some process could not be asked.
    pub unknown: bool,
}

/// What is known of one process without reading its smaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessClues {
    /// It had uffd-wp VMAs when it was last searched.
    pub had_some: bool,
    /// It holds a userfaultfd.
    pub holds_one: bool,
    /// `PAGEMAP_SCAN` sees an async VMA; `None` where that cannot be asked.
    pub has_async: Option<bool>,
    /// Time since a search of it found nothing.
    pub clean_for: Option<Duration>,
}

impl MachineClues {
    /// Whether any process can have a uffd-wp VMA.
    pub const fn may_have_any(self) -> bool {
        self.any || self.unknown
    }
}

/// What to do about one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchNeed {
    /// Its smaps must be read now.
    Now,
    /// It cannot have a uffd-wp VMA, by the clues.
    Nothing,
    /// A search found nothing a short while ago. It is passed over, so nothing is known.
    Later,
}

/// Whether the smaps of a process must be read now.
pub fn look(machine: MachineClues, clues: ProcessClues) -> SearchNeed {
    if clues.had_some || clues.holds_one || clues.has_async == Some(true) {
        return SearchNeed::Now;
    }
    let only_smaps_can_tell = machine.any_sync || machine.unknown || clues.has_async.is_none();
    if !machine.may_have_any() || !only_smaps_can_tell {
        return SearchNeed::Nothing;
    }
    match clues.clean_for {
        Some(clean_for) if clean_for < SEARCH_AGAIN => SearchNeed::Later,
        _ => SearchNeed::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: MachineClues = MachineClues {
        any: false,
        any_sync: false,
        unknown: false,
    };
    const ASYNC: MachineClues = MachineClues { any: true, ..NONE };
    const SYNC: MachineClues = MachineClues {
        any_sync: true,
        ..ASYNC
    };
    const NOTHING: ProcessClues = ProcessClues {
        had_some: false,
        holds_one: false,
        has_async: Some(false),
        clean_for: None,
    };

    #[test]
    fn nobody_is_searched_where_no_userfaultfd_is_open() {
        for has_async in [Some(false), None] {
            let clues = ProcessClues {
                has_async,
                ..NOTHING
            };
            assert_eq!(look(NONE, clues), SearchNeed::Nothing);
        }
    }

    #[test]
    fn each_clue_suffices() {
        for machine in [NONE, ASYNC, SYNC] {
            let fresh = ProcessClues {
                clean_for: Some(Duration::ZERO),
                ..NOTHING
            };
            for clues in [
                ProcessClues {
                    had_some: true,
                    ..fresh
                },
                ProcessClues {
                    holds_one: true,
                    ..fresh
                },
                ProcessClues {
                    has_async: Some(true),
                    ..fresh
                },
            ] {
                assert_eq!(look(machine, clues), SearchNeed::Now, "{clues:?}");
            }
        }
    }

    #[test]
    fn pagemap_scan_clears_a_process_where_all_userfaultfds_are_async() {
        let lately = ProcessClues {
            clean_for: Some(Duration::ZERO),
            ..NOTHING
        };
        assert_eq!(look(ASYNC, NOTHING), SearchNeed::Nothing);
        assert_eq!(look(ASYNC, lately), SearchNeed::Nothing);
        let unasked = ProcessClues {
            has_async: None,
            ..NOTHING
        };
        assert_eq!(look(ASYNC, unasked), SearchNeed::Now);
    }

    #[test]
    fn a_sync_one_held_elsewhere_is_searched_for_at_intervals() {
        let clean = |seconds| ProcessClues {
            clean_for: Some(Duration::from_secs(seconds)),
            ..NOTHING
        };
        let unknown = MachineClues {
            unknown: true,
            ..NONE
        };
        for machine in [SYNC, unknown] {
            assert_eq!(look(machine, NOTHING), SearchNeed::Now);
            assert_eq!(look(machine, clean(59)), SearchNeed::Later);
            assert_eq!(look(machine, clean(60)), SearchNeed::Now);
        }
    }
}
