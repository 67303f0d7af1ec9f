//! What the owner of a tracked process should know.

use std::fmt;

use serde::{Serialize, Serializer};
use uffd::CreationSight;

use super::others::OwnUffdSight;
use super::untracked::UntrackedMapping;
use crate::inject::InjectNote;

/// One note. Its text is for people; decisions match the variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackNote {
    /// Something happened when its userfaultfd was taken.
    Injected(InjectNote),
    /// A mapping is not tracked.
    PassedOver(UntrackedMapping),
    /// The process cannot register tracked memory with a userfaultfd of its own.
    RegistersInVain {
        /// How its attempts are seen.
        seen: OwnUffdSight,
    },
    /// The process held a userfaultfd before.
    HoldsUserfaultfd,
    /// Code and other files are mapped page by page from now on.
    NoFaultAround,
    /// It has many mappings, and gets more while it is tracked.
    ManyMappings {
        /// How many it has.
        mappings: usize,
        /// At how many it is let go.
        bound: usize,
        /// `vm.max_map_count`.
        most: usize,
    },
    /// Memory is shared: what others write to it is not seen.
    SharedMemory {
        /// How many different pages.
        pages: u64,
    },
    /// It has huge pages, or would get some.
    HugePages {
        /// MiB that it has of them (`AnonHugePages`).
        mib: u64,
        /// Whether memory that is armed before its first touch gets none.
        armed_first: bool,
    },
    /// The guard is frozen together with this process.
    FrozenTogether,
    /// What the strategy does to whoever else watches the process.
    Strategy(&'static str),
    /// From a recording, which holds the text only.
    Recorded(String),
}

impl TrackNote {
    /// Whether it says that the process was stopped (SIGSTOP) before it was attached to.
    #[must_use]
    pub const fn is_stays_stopped(&self) -> bool {
        matches!(self, Self::Injected(InjectNote::StaysStopped))
    }
}

impl fmt::Display for TrackNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Injected(note) => note.fmt(f),
            Self::PassedOver(passed_over) => passed_over.fmt(f),
            Self::RegistersInVain { seen } => {
                f.write_str(
                    "a userfaultfd that the process registers itself for a tracked mapping is \
                     refused with EBUSY at first; ",
                )?;
                match seen {
                    OwnUffdSight::Created(CreationSight::Kprobe) => f.write_str(
                        "when it creates one, all memory is given back for as long as it tries",
                    ),
                    OwnUffdSight::Created(CreationSight::Tracepoint) => f.write_str(
                        "when it creates one, all memory is given back for as long as it tries; \
                         this kernel tells that by a tracepoint, which makes each system call of \
                         every process some 0.1 us longer",
                    ),
                    OwnUffdSight::Held { reason } => write!(
                        f,
                        "when a round sees that it holds one, all memory is given back for a \
                         while; one that it closes again at once is not seen, and then it never \
                         succeeds ({reason})"
                    ),
                }
            }
            Self::HoldsUserfaultfd => f.write_str(
                "it holds a userfaultfd already: whatever it registers with that from now on is \
                 refused, too, if it is tracked",
            ),
            Self::NoFaultAround => f.write_str(
                "what it maps of code and other files for the first time, it maps page by page: the \
                 kernel maps no neighbours along (fault-around) in registered memory",
            ),
            Self::ManyMappings {
                mappings,
                bound,
                most,
            } => write!(
                f,
                "it has {mappings} mappings, of {most} that it may have (vm.max_map_count), and \
                 what it maps beside tracked memory stays apart: at {bound} it is let go"
            ),
            Self::SharedMemory { pages } => write!(
                f,
                "{pages} pages are shared memory: what other processes write to it, or anybody \
                 through its file, is not seen; `tracker track --children` tracks a process and \
                 its children as one"
            ),
            Self::HugePages { mib, armed_first } => {
                if *mib > 0 {
                    write!(f, "it has {mib} MiB of huge pages: ")?;
                }
                f.write_str(
                    "while it is tracked, a first write to a huge page splits it, and MADV_COLLAPSE \
                     fails with EINVAL where pages are armed",
                )?;
                if *armed_first {
                    f.write_str(
                        "; memory that is touched for the first time gets small pages, except with \
                         the strategies none-is-clean and fault-time",
                    )?;
                }
                Ok(())
            }
            Self::FrozenTogether => f.write_str(
                "its faults are answered by tracker: if tracker is stopped, the process stands \
                 still for two seconds, and is let go then; but not if tracker is frozen together \
                 with its control group (docker pause, cgroup.freeze), since its guard could not \
                 move to that of the process",
            ),
            Self::Strategy(text) => f.write_str(text),
            Self::Recorded(text) => f.write_str(text),
        }
    }
}

impl Serialize for TrackNote {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
