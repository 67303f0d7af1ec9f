//! From what the kernel tells to what it means: pure.

use tracker_ebpf::kernel::{
    FAULT_FLAG_INTERRUPTIBLE, FAULT_FLAG_REMOTE, FAULT_FLAG_USER, MADV_DONTNEED,
    MADV_DONTNEED_LOCKED, MADV_FREE, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, MADV_POPULATE_WRITE,
    X86_PF_PROT, X86_PF_USER, X86_PF_WRITE, ZAP_FLAG_DROP_MARKER, syscall,
};
use tracker_ebpf::{EventHead, EventKind, HUGE_SPLIT_BY_WRITE};
use uffd::PAGE_SIZE;

use super::model::{EventMeaning, ReportCause};

/// What an event means, of which pages, with a second address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TranslatedEvent {
    pub kind: EventKind,
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// See [`super::model::WatchedEvent::address`].
    pub address: u64,
    pub meaning: EventMeaning,
}

/// What an event means for the pages of process `pid`; `None` if it means nothing, or is of a kind
/// that we do not know.
pub(super) fn translate(head: &EventHead, pid: u32) -> Option<TranslatedEvent> {
    let kind = EventKind::from_number(head.kind)?;
    let meaning = match kind {
        EventKind::Fault => EventMeaning::Disarms(writer(head.flags, head.tgid == pid)),
        EventKind::HugeSplit if head.flags & HUGE_SPLIT_BY_WRITE != 0 => {
            let user = head.syscall == tracker_ebpf::NO_SYSCALL;
            EventMeaning::DisarmsUnit(if user {
                ReportCause::UserStore
            } else {
                ReportCause::KernelCopy
            })
        }
        EventKind::HugeSplit => EventMeaning::Disarms(ReportCause::HugeUnit),
        EventKind::Zap | EventKind::Zapped if head.flags & ZAP_FLAG_DROP_MARKER != 0 => {
            EventMeaning::Disarms(ReportCause::Zap)
        }
        EventKind::Zap | EventKind::Zapped | EventKind::Reclaim => {
            EventMeaning::DisarmsAnonymous(ReportCause::Zap)
        }
        EventKind::Free => EventMeaning::DisarmsSome(ReportCause::Zap),
        EventKind::Fork => EventMeaning::Tells,
        EventKind::Ksm => EventMeaning::Disarms(ReportCause::Ksm),
        EventKind::Guard => EventMeaning::Disarms(ReportCause::Guard),
        EventKind::Move | EventKind::UffdMove => EventMeaning::Disarms(ReportCause::Move),
        EventKind::Unregister => EventMeaning::Disarms(ReportCause::Unregister),
        EventKind::HardwareFault => hardware(head.flags.into())?,
        EventKind::Syscall => return system_call(head),
    };
    let (start, length) = match kind {
        EventKind::HardwareFault => (head.start & !(PAGE_SIZE - 1), PAGE_SIZE),
        _ => (head.start, head.length),
    };
    Some(TranslatedEvent {
        kind,
        start,
        length,
        address: head.address,
        meaning,
    })
}

/// Who writes, by the flags of the fault (kernel: `do_user_addr_fault`, `faultin_page`).
fn writer(flags: u32, own: bool) -> ReportCause {
    if flags & FAULT_FLAG_USER != 0 {
        ReportCause::UserStore
    } else if flags & FAULT_FLAG_INTERRUPTIBLE != 0 && flags & FAULT_FLAG_REMOTE == 0 && own {
        ReportCause::KernelCopy
    } else {
        ReportCause::RemoteOrPin
    }
}

fn hardware(code: u64) -> Option<EventMeaning> {
    const WRITE_PROTECTED: u64 = X86_PF_PROT | X86_PF_WRITE;
    // A first write over a marker faults twice, the second time on the page that is there then.
    if code & WRITE_PROTECTED != WRITE_PROTECTED {
        return None;
    }
    Some(EventMeaning::Disarms(if code & X86_PF_USER != 0 {
        ReportCause::UserStore
    } else {
        ReportCause::KernelCopy
    }))
}

/// What a system call has done to pages, by its arguments.
fn system_call(head: &EventHead) -> Option<TranslatedEvent> {
    let failed = (head.result as i64) < 0;
    if failed {
        return None;
    }
    let (start, length) = (head.start, head.length);
    let told = |meaning| {
        Some(TranslatedEvent {
            kind: EventKind::Syscall,
            start: start & !(PAGE_SIZE - 1),
            length: (start % PAGE_SIZE + length).next_multiple_of(PAGE_SIZE),
            address: 0,
            meaning,
        })
    };
    match head.syscall.into() {
        syscall::MADVISE => match head.address {
            MADV_DONTNEED | MADV_DONTNEED_LOCKED => {
                told(EventMeaning::DisarmsAnonymous(ReportCause::Zap))
            }
            // Pages in swap at once, others if reclaim takes them.
            MADV_FREE => told(EventMeaning::DisarmsSome(ReportCause::Zap)),
            MADV_POPULATE_WRITE => told(EventMeaning::Disarms(ReportCause::RemoteOrPin)),
            MADV_GUARD_INSTALL | MADV_GUARD_REMOVE => {
                told(EventMeaning::Disarms(ReportCause::Guard))
            }
            _ => None,
        },
        syscall::MLOCK | syscall::MLOCK2 => told(EventMeaning::Disarms(ReportCause::RemoteOrPin)),
        // The third argument is the new length: what grows on the way is not moved.
        syscall::MREMAP if head.result != start => Some(TranslatedEvent {
            kind: EventKind::Syscall,
            start: head.result,
            length: length.min(head.address).next_multiple_of(PAGE_SIZE),
            address: start,
            meaning: EventMeaning::Disarms(ReportCause::Move),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    /// mremap(2) that has brought a mapping to another place.
    fn mremap(old: u64, new: u64) -> EventHead {
        EventHead {
            kind: EventKind::Syscall as u32,
            syscall: syscall::MREMAP as u32,
            start: 0x10000,
            length: old,
            address: new,
            result: 0x90000,
            ..EventHead::zeroed()
        }
    }

    #[test]
    fn what_grows_on_its_way_is_moved_as_far_as_it_was_there() {
        for (old, new) in [(0x3000, 0x8000), (0x8000, 0x3000)] {
            let expected = TranslatedEvent {
                kind: EventKind::Syscall,
                start: 0x90000,
                length: 0x3000,
                address: 0x10000,
                meaning: EventMeaning::Disarms(ReportCause::Move),
            };
            assert_eq!(translate(&mremap(old, new), 1), Some(expected));
        }
    }
}
