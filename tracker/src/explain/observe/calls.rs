//! Calls of their tracker that arm pages or take their protection off, by page: pure.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;
use tracker_ebpf::{CallKind, EventKind};
use uffd::{PMD_SIZE, UffdFeatures};

use super::store::chunks;
use crate::explain::model::{CallArguments, EventMeaning, ReportCause, TrackerCall, WatchedEvent};

/// A call that arms pages or takes their protection off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArmingCall {
    pub range: Range<u64>,
    pub began: u64,
    pub ended: u64,
    /// Whether it arms; else it takes the protection off.
    pub arms: bool,
    /// Whether it puts content there, into pages that are not there.
    pub fills: bool,
    /// Whether it tells its tracker which pages it has found.
    pub tells: bool,
}

/// Ranges of more huge pages than this are looked up one by one.
const WIDE: u64 = 64;

/// Calls since some time.
#[derive(Default)]
pub(super) struct ArmingCalls {
    calls: Vec<ArmingCall>,
    by_chunk: HashMap<u64, Vec<usize>>,
    wide: Vec<usize>,
}

impl ArmingCall {
    /// `None` of a call that does neither, or of which nobody knows which pages it has armed.
    pub(super) fn of(call: &TrackerCall) -> Option<Self> {
        // What a call has armed before it failed at a gap nobody knows: as far as it came.
        let came_to_gap = call.outcome == Err(Errno::NOENT);
        let mut tells = false;
        let (range, arms, fills) = match &call.what {
            CallArguments::Scan(scan) if scan.arms_all() => {
                tells = scan.room > 0;
                (scan.walked(), true, false)
            }
            CallArguments::Arm(range) => (range.clone(), true, false),
            CallArguments::Resolve(range) => (range.clone(), false, false),
            CallArguments::Fill { range, armed, .. } if *armed || is_release(call) => {
                (range.clone(), *armed, true)
            }
            _ => return None,
        };
        let is_done = call.outcome.is_ok() || came_to_gap && arms && !fills;
        let is_some = is_done && !range.is_empty();
        is_some.then_some(Self {
            tells,
            range,
            began: call.began,
            ended: call.ended,
            arms,
            fills,
        })
    }
}

/// Whether pages that a call fills and does not arm are no report: who answers writes himself is
/// told of none.
const fn is_release(call: &TrackerCall) -> bool {
    let moves = matches!(
        call.what,
        CallArguments::Fill {
            kind: CallKind::Move,
            ..
        }
    );
    !moves && !call.features.contains(UffdFeatures::WP_ASYNC)
}

/// What a call is that fills pages without arming them, where the kernel answers writes: as if they
/// were written. The kernel tells of UFFDIO_MOVE itself.
pub(super) fn filled(call: &TrackerCall) -> Option<WatchedEvent> {
    let CallArguments::Fill {
        kind,
        range,
        armed: false,
    } = &call.what
    else {
        return None;
    };
    let is_some = call.outcome.is_ok() && *kind != CallKind::Move && !is_release(call);
    is_some.then(|| WatchedEvent {
        time: call.ended,
        range: range.clone(),
        address: range.start,
        kind: EventKind::Syscall,
        meaning: EventMeaning::Disarms(ReportCause::Filled),
        tgid: call.caller.tgid,
        tid: call.caller.tid,
        comm: Arc::clone(&call.caller.comm),
        place: call.place,
    })
}

impl ArmingCalls {
    /// Adds calls.
    pub(super) fn add(&mut self, calls: &[TrackerCall]) {
        self.calls.extend(calls.iter().filter_map(ArmingCall::of));
        self.index();
    }

    /// Forgets those that had ended by then.
    pub(super) fn forget(&mut self, by: u64) {
        self.calls.retain(|call| call.ended > by);
        self.index();
    }

    fn index(&mut self) {
        self.by_chunk.clear();
        self.wide.clear();
        for (number, call) in self.calls.iter().enumerate() {
            let touched = chunks(&call.range);
            if touched.end - touched.start > WIDE {
                self.wide.push(number);
                continue;
            }
            for chunk in touched {
                self.by_chunk.entry(chunk).or_default().push(number);
            }
        }
    }

    /// Calls on the page at an address.
    pub(super) fn of_page(&self, page: u64) -> impl Iterator<Item = &ArmingCall> {
        let near = self.by_chunk.get(&(page / PMD_SIZE)).into_iter().flatten();
        let numbers = near.chain(&self.wide);
        let calls = numbers.filter_map(|number| self.calls.get(*number));
        calls.filter(move |call| call.range.contains(&page))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use uffd::PAGE_SIZE;

    use super::*;
    use crate::explain::model::CallerThread;

    fn call(range: Range<u64>, ended: u64) -> ArmingCall {
        ArmingCall {
            range,
            began: ended - 1,
            ended,
            arms: true,
            fills: false,
            tells: false,
        }
    }

    fn fill(armed: bool, features: UffdFeatures) -> TrackerCall {
        TrackerCall {
            began: 1,
            ended: 5,
            what: CallArguments::Fill {
                kind: CallKind::Copy,
                range: 0..PAGE_SIZE,
                armed,
            },
            outcome: Ok(0),
            features,
            caller: CallerThread {
                tgid: 1,
                tid: 2,
                comm: "filler".into(),
            },
            cpu: 0,
            place: None,
        }
    }

    #[test]
    fn what_is_filled_without_being_armed_counts_as_written_where_the_kernel_answers() {
        let (told, answers) = (UffdFeatures::WP_ASYNC, UffdFeatures::default());
        let event = filled(&fill(false, told)).unwrap();
        assert_eq!((event.time, event.range), (5, 0..PAGE_SIZE));
        assert_eq!(ArmingCall::of(&fill(false, told)), None);
        for (armed, features) in [(true, told), (true, answers), (false, answers)] {
            let call = fill(armed, features);
            assert_eq!(filled(&call), None);
            let known = ArmingCall::of(&call).unwrap();
            assert_eq!((known.arms, known.fills), (armed, true));
        }
        let mut moved = fill(false, told);
        moved.what = CallArguments::Fill {
            kind: CallKind::Move,
            range: 0..PAGE_SIZE,
            armed: false,
        };
        assert_eq!((filled(&moved), ArmingCall::of(&moved)), (None, None));
        let mut failed = fill(false, told);
        failed.outcome = Err(rustix::io::Errno::EXIST);
        assert_eq!(filled(&failed), None);
    }

    #[test]
    fn calls_on_a_page_are_found_however_wide_they_are() {
        let mut calls = ArmingCalls {
            calls: vec![
                call(0..PAGE_SIZE, 5),
                call(0..100 * PMD_SIZE, 7),
                call(PAGE_SIZE..3 * PMD_SIZE, 9),
            ],
            ..ArmingCalls::default()
        };
        calls.index();
        let ended = |calls: &ArmingCalls, page| {
            let mut ended: Vec<_> = calls.of_page(page).map(|call| call.ended).collect();
            ended.sort_unstable();
            ended
        };
        assert_eq!(ended(&calls, 0), [5, 7]);
        assert_eq!(ended(&calls, PMD_SIZE), [7, 9]);
        assert_eq!(ended(&calls, 50 * PMD_SIZE), [7]);
        calls.forget(7);
        assert_eq!(ended(&calls, PMD_SIZE), [9]);
        assert_eq!(ended(&calls, 0), [0; 0]);
    }
}
