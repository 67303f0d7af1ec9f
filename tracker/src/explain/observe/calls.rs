//! Calls of their tracker that arm pages or take their protection off, by page: pure.

use std::collections::HashMap;
use std::ops::Range;

use uffd::PMD_SIZE;

use super::store::chunks;
use crate::explain::model::{CallArguments, TrackerCall};

/// A call that arms pages or takes their protection off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArmingCall {
    pub range: Range<u64>,
    pub began: u64,
    pub ended: u64,
    /// Whether it arms; else it takes the protection off.
    pub arms: bool,
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
        let (range, arms) = match &call.what {
            CallArguments::Scan(scan) if scan.arms_all() => (scan.walked(), true),
            CallArguments::Arm(range)
            | CallArguments::Fill {
                range, armed: true, ..
            } => (range.clone(), true),
            CallArguments::Resolve(range) => (range.clone(), false),
            _ => return None,
        };
        let is_some = call.outcome.is_ok() && !range.is_empty();
        is_some.then_some(Self {
            range,
            began: call.began,
            ended: call.ended,
            arms,
        })
    }
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

    fn call(range: Range<u64>, ended: u64) -> ArmingCall {
        ArmingCall {
            range,
            began: ended - 1,
            ended,
            arms: true,
        }
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
