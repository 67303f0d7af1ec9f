//! The one place where counters, discovery and scans meet the model.

use super::discovery::{Found, rounded};
use super::orphans::Orphans;
use crate::metrics::{CollectorFacts, EncodeError, Exporter, Exposition};
use crate::model::sample::{CounterSource, Snapshot};
use crate::model::{Discovery, Input, ScanResult};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by the threads that feed it and by http.
pub struct Engine {
    /// The model and its text form.
    pub exporter: Exporter,
    source: Mutex<Box<dyn CounterSource>>,
    discovery: Mutex<Option<Arc<Discovery>>>,
    scans: Mutex<Vec<ScanResult>>,
    orphans: Mutex<Orphans>,
    collectors: Mutex<BTreeMap<&'static str, CollectorFacts>>,
    started: Instant,
    complete: AtomicBool,
}

impl Engine {
    /// An engine that has collected nothing yet.
    pub fn new(exporter: Exporter, source: Box<dyn CounterSource>) -> Self {
        Self {
            exporter,
            source: Mutex::new(source),
            discovery: Mutex::default(),
            scans: Mutex::default(),
            orphans: Mutex::default(),
            collectors: Mutex::default(),
            started: Instant::now(),
            complete: AtomicBool::new(false),
        }
    }

    /// The agent's clock: time since it started.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Reads all counters and counts what they gained. Does not wait for the kernel.
    pub fn collect(&self) {
        // Held to the end: readings must reach the model in their order.
        let mut source = lock(&self.source);
        let begin = Instant::now();
        let snapshot = joinable(source.snapshot());
        let discovery = lock(&self.discovery).clone();
        let scans = std::mem::take(&mut *lock(&self.scans));
        let releases = self.exporter.collect(&Input {
            snapshot: &snapshot,
            discovery: discovery.as_deref(),
            scans: &scans,
            now: self.now(),
        });
        source.release(&releases.vmas, &releases.mms);
        let orphans = discovery
            .as_ref()
            .and_then(|discovery| lock(&self.orphans).after(discovery, &snapshot));
        if let Some(orphans) = orphans {
            source.end(&orphans);
        }
        self.ran("counters", begin.elapsed(), true);
        if discovery.is_some() {
            self.complete.store(true, Ordering::Release);
        }
    }

    /// Collects, then writes the text.
    ///
    /// # Errors
    /// If the encoder refuses a family.
    pub fn scrape(&self) -> Result<Exposition, EncodeError> {
        self.collect();
        self.exporter.encode()
    }

    /// Takes over what a discovery found.
    pub fn discovered(&self, found: Found) {
        *lock(&self.discovery) = Some(Arc::new(found.discovery));
    }

    /// The last discovery.
    pub fn discovery(&self) -> Option<Arc<Discovery>> {
        lock(&self.discovery).clone()
    }

    /// Takes over the scan of one VMA.
    pub fn scanned(&self, result: ScanResult) {
        lock(&self.scans).push(result);
    }

    /// Notes the run of a collector.
    pub fn ran(&self, collector: &'static str, duration: Duration, success: bool) {
        let mut collectors = lock(&self.collectors);
        let run = CollectorFacts {
            collector: collector.to_owned(),
            duration,
            success,
        };
        collectors.insert(collector, run);
        let all = collectors.values().cloned().collect();
        self.exporter.update_facts(|facts| facts.collectors = all);
    }

    /// Whether a collection has counted with a discovery done.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }
}

/// Rounds process starts to what `/proc` shows, so that both find the same process.
fn joinable(mut snapshot: Snapshot) -> Snapshot {
    for mm in &mut snapshot.mms {
        mm.process = rounded(mm.process);
    }
    snapshot
}

/// A poisoned lock is taken: everything here is replaced as a whole.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
