//! The model behind a lock, and its text form.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus::TextEncoder;
use prometheus::core::Collector;

use super::duplicates;
use super::facts::{AgentFacts, CollectorFacts};
use super::scrape::Scrape;
use super::selfstats::SelfStats;
use crate::model::{Input, Limits, Model, Releases, View};

/// What `/metrics` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposition {
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Prometheus text format 0.0.4.
    pub body: String,
}

/// The exposition could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The encoder refused a family.
    #[error(
        "cannot encode the metrics: {0}; this is a bug of tracker, please report it with the answer of /status"
    )]
    Encoder(#[from] prometheus::Error),
    /// A series is there twice.
    #[error(
        "cannot export the metrics: {0} is there twice; this is a bug of tracker, please report it with the answer of /status"
    )]
    Duplicate(String),
}

/// What one row of the VMA families takes as text, about; what the rest takes.
const ROOM_PER_ROW: usize = 2_000;
const ROOM_BESIDES: usize = 32_000;

/// The model and what the agent says about itself, shared by the collection loop and http.
///
/// Locks are held to count or to copy rows out, never while text is written.
#[derive(Debug)]
pub struct Exporter {
    model: Mutex<Model>,
    facts: Mutex<AgentFacts>,
}

impl Exporter {
    /// An exporter with nothing counted.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            model: Mutex::new(Model::new(limits)),
            facts: Mutex::new(AgentFacts::default()),
        }
    }

    /// Counts one reading; the records returned are to be given to `CounterSource::release`.
    pub fn collect(&self, input: &Input<'_>) -> Releases {
        lock(&self.model).collect(input)
    }

    /// The rows as of the last collection, for `/status` and other views.
    #[must_use]
    pub fn view(&self) -> View {
        lock(&self.model).view()
    }

    /// Changes what the agent says about itself.
    pub fn update_facts(&self, change: impl FnOnce(&mut AgentFacts)) {
        change(&mut lock(&self.facts));
    }

    /// A copy of what the agent says about itself.
    #[must_use]
    pub fn facts(&self) -> AgentFacts {
        lock(&self.facts).clone()
    }

    /// Writes everything as text: what a scrape gets. Reads `/proc/self` for `process_*`; if that
    /// fails those families are left out and the collector `process` is reported as failed.
    ///
    /// # Errors
    /// When the encoder refuses a family or, in debug builds, a series is there twice: neither
    /// can be caused by input.
    pub fn encode(&self) -> Result<Exposition, EncodeError> {
        let begin = Instant::now();
        let process = SelfStats::read().inspect_err(|error| tracing::warn!("{error}"));
        let mut facts = self.facts();
        facts.collectors.push(CollectorFacts {
            collector: "process".to_owned(),
            duration: begin.elapsed(),
            success: process.is_ok(),
        });
        encode(&Scrape::new(
            self.view(),
            facts,
            process.unwrap_or_default(),
        ))
    }
}

/// Writes one scrape as text. Pure: the same scrape gives the same text.
///
/// # Errors
/// As [`Exporter::encode`].
pub fn encode(scrape: &Scrape) -> Result<Exposition, EncodeError> {
    let families = scrape.collect();
    if cfg!(debug_assertions)
        && let Some(series) = duplicates::find(&families)
    {
        return Err(EncodeError::Duplicate(series));
    }
    let mut body = String::with_capacity(ROOM_PER_ROW * scrape.rows() + ROOM_BESIDES);
    TextEncoder::new().encode_utf8(&families, &mut body)?;
    Ok(Exposition {
        content_type: prometheus::TEXT_FORMAT,
        body,
    })
}

/// A poisoned lock is taken: counters are whole numbers and valid at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
