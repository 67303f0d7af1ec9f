//! Who waits for a handler, and who answers.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::explain::model::{CallerThread, HandlerWaits, TrackerCall};

/// Threads that are told apart: a process may make threads for as long as it lives.
const MOST: usize = 4096;

/// All waits.
#[derive(Default)]
pub(super) struct WaitBook {
    threads: BTreeMap<CallerThread, HandlerWaits>,
    answers: BTreeMap<(CallerThread, u32), u64>,
}

impl WaitBook {
    /// A thread has waited.
    pub(super) fn waited(&mut self, call: &TrackerCall, page: u64) {
        if self.threads.len() >= MOST && !self.threads.contains_key(&call.caller) {
            return;
        }
        let took = call.took();
        let known = self.threads.entry(call.caller.clone());
        let known = known.or_insert_with(|| HandlerWaits {
            caller: call.caller.clone(),
            times: 0,
            whole: took,
            longest: took,
            page,
        });
        known.times += 1;
        if known.times > 1 {
            known.whole += took;
        }
        if took > known.longest {
            (known.longest, known.page) = (took, page);
        }
    }

    /// A thread has answered.
    pub(super) fn answered(&mut self, call: &TrackerCall) {
        let key = (call.caller.clone(), call.cpu);
        if self.answers.len() < MOST || self.answers.contains_key(&key) {
            *self.answers.entry(key).or_default() += 1;
        }
    }

    /// All of them, the thread that waited longest in all first.
    pub(super) fn end(self) -> (Vec<HandlerWaits>, BTreeMap<(CallerThread, u32), u64>) {
        let mut waits: Vec<_> = self.threads.into_values().collect();
        waits.sort_by_key(|waits| Reverse(waits.whole));
        (waits, self.answers)
    }
}
