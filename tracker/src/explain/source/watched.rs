//! What has been read of one process.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use tracker_ebpf::{COMM_LEN, CallRecord, EventHead};
use uffd::ProcVma;

use crate::explain::audit::decode;
use crate::explain::bell::ArmingBell;
use crate::explain::model::{CallerThread, PlaceId, TrackerCall, WatchedEvent};
use crate::explain::places::{PlaceInterner, RawStack};
use crate::explain::translate::translate;

/// What has been read of a process.
pub(super) struct WatchedProcess {
    pub(super) pid: u32,
    pub(super) pending: Vec<WatchedEvent>,
    /// `None`: the reader does not want any.
    pub(super) calls: Option<Vec<TrackerCall>>,
    pub(super) bell: Option<ArmingBell>,
    /// Calls that did not fit into memory.
    pub(super) calls_lost: u64,
    pub(super) places: PlaceInterner,
    names: HashMap<(u32, [u8; COMM_LEN]), Arc<str>>,
    /// Where it has code, as of the last round: nothing else is a place to return to.
    pub(super) code: Vec<Range<u64>>,
    most: usize,
}

/// Names of threads that are remembered of a process: it may make threads for as long as it lives.
const NAMES: usize = 4096;

impl WatchedProcess {
    /// Nothing of it is read yet. `most`: events that are held of it.
    pub(super) fn new(pid: u32, places: PlaceInterner, most: usize) -> Self {
        Self {
            pid,
            pending: Vec::new(),
            calls: None,
            bell: None,
            calls_lost: 0,
            places,
            names: HashMap::new(),
            code: code_of(pid),
            most,
        }
    }

    /// Adds an event; false if there is no room for it.
    pub(super) fn add(&mut self, head: &EventHead, user: &[u64], kernel: &[u64]) -> bool {
        let Some(translated) = translate(head, self.pid) else {
            return true;
        };
        if self.pending.len() >= self.most {
            return false;
        }
        let stack = RawStack {
            user: with_instruction(head.instruction, user),
            top: self.top(head.top),
            kernel: kernel.into(),
            syscall: head.syscall,
        };
        let place = self.place(stack);
        let comm = self.name(head.tid, head.comm);
        self.pending.push(WatchedEvent {
            time: head.time,
            range: translated.start..translated.start.saturating_add(translated.length),
            address: translated.address,
            kind: translated.kind,
            meaning: translated.meaning,
            tgid: head.tgid,
            tid: head.tid,
            comm,
            place,
        });
        true
    }

    /// Adds a call of a tracker. That of another process is in code that is not ours to name: its
    /// stack is not kept.
    pub(super) fn add_call(&mut self, record: &CallRecord) {
        match &self.calls {
            None => return,
            Some(calls) if calls.len() >= self.most => {
                self.calls_lost += 1;
                return;
            }
            Some(_) => (),
        }
        let own = record.tgid == self.pid;
        let place = own.then(|| {
            let frames = record.user.get(..record.user_frames as usize);
            RawStack {
                user: with_instruction(record.instruction, frames.unwrap_or_default()),
                top: self.top(record.top),
                kernel: Box::default(),
                syscall: record.syscall,
            }
        });
        let place = place.and_then(|stack| self.place(stack));
        let caller = CallerThread {
            tgid: record.tgid,
            tid: record.tid,
            comm: self.name(record.tid, record.comm),
        };
        let call = decode(record, caller, place);
        let is_news = |call: &TrackerCall| call.armed().or(call.registers()).is_some();
        let is_news = call.as_ref().is_some_and(is_news);
        if let Some(bell) = self.bell.as_mut().filter(|_| is_news) {
            bell.want();
        }
        if let Some(calls) = &mut self.calls {
            calls.extend(call);
        }
    }

    /// Rings if the reader is to be told of something. `lost`: calls that were lost until now,
    /// before they came here.
    pub(super) fn ring(&mut self, lost: u64) -> io::Result<()> {
        let Some(bell) = &mut self.bell else {
            return Ok(());
        };
        bell.lost(lost + self.calls_lost);
        bell.ring()
    }

    /// What is on top of a stack, if it is code.
    fn top(&self, top: u64) -> u64 {
        let is_code = self.code.iter().any(|code| code.contains(&top));
        if is_code { top } else { 0 }
    }

    fn place(&mut self, stack: RawStack) -> Option<PlaceId> {
        let is_empty = stack.user.is_empty() && stack.kernel.is_empty();
        (!is_empty).then(|| self.places.intern(stack))
    }

    /// The name of a thread.
    fn name(&mut self, tid: u32, comm: [u8; COMM_LEN]) -> Arc<str> {
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        let name = self.names.entry((tid, comm)).or_insert_with(|| {
            let length = comm.iter().position(|byte| *byte == 0);
            String::from_utf8_lossy(&comm[..length.unwrap_or(comm.len())]).into()
        });
        Arc::clone(name)
    }
}

/// Where a process has code, by address; nothing of one that has ended.
pub(super) fn code_of(pid: u32) -> Vec<Range<u64>> {
    let Ok(maps) = uffd::maps(pid) else {
        return Vec::new();
    };
    let executable = |vma: &ProcVma| vma.permissions.get(2) == Some(&b'x');
    let vmas = maps.map_while(Result::ok).filter(executable);
    vmas.map(|vma| vma.start..vma.end).collect()
}

/// A stack that begins where the thread is, even where the kernel could not walk it.
fn with_instruction(instruction: u64, stack: &[u64]) -> Box<[u64]> {
    match stack.first() {
        None if instruction != 0 => [instruction].into(),
        Some(first) if *first != instruction && instruction != 0 => std::iter::once(instruction)
            .chain(stack.iter().copied())
            .collect(),
        _ => stack.into(),
    }
}
