//! The kernel's events of one process, read while it runs: the ring must not fill up between two
//! rounds.

mod hub;
mod watched;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use self::hub::{HubShared, WatchReader};
use self::watched::code_of;
use super::bell::ArmingBell;
use super::evidence::EventFeed;
use super::model::{AuditSight, CauseSight, TrackerCall, WatchedEvent};
use super::places::PlaceInterner;
use crate::probes::HookId;
use crate::probes::events::EventProbes;

/// All events that are read: one reader for as many processes as are explained.
pub struct EventHub(Arc<HubShared>);

/// The events of one process, for one reader: there may be several, and each has all of them.
pub(super) struct EventSource {
    hub: Arc<HubShared>,
    pid: u32,
    reader: WatchReader,
    /// Tells calls, and rings when pages are armed.
    bell: Option<Arc<OwnedFd>>,
    /// Calls that were missed before it listened.
    missed_before: u64,
}

impl EventHub {
    /// Begins to read. `most`: how many events of a process are held for one round; what comes
    /// beyond that is lost, and counted.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(events: EventProbes, most: usize) -> io::Result<Self> {
        Self::with_self_test(events, most, hub::SELF_TEST)
    }

    /// As [`Self::new`], with the time between two self-tests of the hooks.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn with_self_test(events: EventProbes, most: usize, every: Duration) -> io::Result<Self> {
        HubShared::start(events, most, every).map(Self)
    }

    /// The hooks that were found silent by the last self-test, and fired before.
    #[must_use]
    pub fn silent(&self) -> Vec<HookId> {
        self.0.lock().silent().to_vec()
    }

    /// What can be seen.
    #[must_use]
    pub fn seen(&self) -> &CauseSight {
        &self.0.seen
    }

    /// Whether calls of trackers can be seen.
    #[must_use]
    pub fn calls_seen(&self) -> &AuditSight {
        &self.0.calls_seen
    }

    /// Begins to read the events of a process.
    ///
    /// # Errors
    /// If the process cannot be watched.
    pub(super) fn watch(&self, pid: u32) -> io::Result<EventSource> {
        Ok(EventSource {
            reader: self.0.watch(pid, PlaceInterner::default(), None)?,
            hub: Arc::clone(&self.0),
            pid,
            bell: None,
            missed_before: 0,
        })
    }
}

impl Drop for EventHub {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl EventSource {
    /// The places of its events.
    pub(super) fn places<T>(&self, with: impl FnOnce(&mut PlaceInterner) -> T) -> Option<T> {
        let mut state = self.hub.lock();
        let watched = state.reader(self.reader)?;
        Some(with(&mut watched.places))
    }

    /// From now on tells the calls of its tracker, too.
    ///
    /// # Errors
    /// If there can be no eventfd(2).
    pub(super) fn listen(&mut self) -> io::Result<()> {
        let bell = match &self.bell {
            Some(bell) => Arc::clone(bell),
            None => {
                self.missed_before = self.hub.lock().events.missed_calls();
                ArmingBell::descriptor()?
            }
        };
        self.bell = Some(Arc::clone(&bell));
        let mut state = self.hub.lock();
        let lost = state.lost_calls(self.reader.watch);
        if let Some(watched) = state.reader(self.reader) {
            watched.calls.get_or_insert_default();
            watched.bell = Some(ArmingBell::new(bell, lost + watched.calls_lost));
        }
        Ok(())
    }

    /// Readable when calls have armed pages since they were taken.
    pub(super) fn arming(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(AsFd::as_fd)
    }

    /// It need not be told of what has been armed until now.
    pub(super) fn hush(&self) {
        self.with_bell(ArmingBell::hush);
    }

    /// It does not know all pages that were armed.
    pub(super) fn ring_again(&self) {
        self.with_bell(ArmingBell::want);
    }

    /// It is not told of armed pages for so long.
    pub(super) fn rest(&self, pause: Duration) {
        self.with_bell(|bell| bell.rest(pause));
    }

    fn with_bell(&self, with: impl FnOnce(&mut ArmingBell)) {
        let mut state = self.hub.lock();
        let watched = state.reader(self.reader);
        if let Some(bell) = watched.and_then(|watched| watched.bell.as_mut()) {
            with(bell);
        }
    }

    /// Calls of its tracker since the last time, and how many were lost since it is watched.
    pub(super) fn take_calls(&self) -> (Vec<TrackerCall>, u64) {
        let mut state = self.hub.lock();
        let missed = state.events.missed_calls();
        let missed = missed.saturating_sub(self.missed_before);
        let lost = state.events.dropped_calls(self.reader.watch) + missed;
        let Some(watched) = state.reader(self.reader) else {
            return (Vec::new(), lost);
        };
        if let Some(bell) = &mut watched.bell {
            bell.hush();
        }
        let calls = watched.calls.as_mut().map(std::mem::take);
        (calls.unwrap_or_default(), lost + watched.calls_lost)
    }
}

impl EventFeed for EventSource {
    fn take(&self) -> io::Result<(Vec<WatchedEvent>, u64)> {
        let code = code_of(self.pid);
        let mut state = self.hub.lock();
        state.read();
        if let Some(error) = state.failure() {
            return Err(error);
        }
        let lost = state.lost();
        let watched = state.reader(self.reader);
        let events = watched.map(|watched| {
            watched.code = code;
            std::mem::take(&mut watched.pending)
        });
        Ok((events.unwrap_or_default(), lost))
    }

    fn begin_again(&mut self) -> io::Result<()> {
        let mut places = self.hub.unwatch(self.reader);
        // The same addresses are other code.
        places.forget();
        let old = self.reader.watch;
        self.reader = self.hub.watch(self.pid, places, Some(old))?;
        match self.bell {
            Some(_) => self.listen(),
            None => Ok(()),
        }
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.hub.unwatch(self.reader);
    }
}
