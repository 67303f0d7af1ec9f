//! The model behind a lock, and its text form.

use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::TextEncoder;

use super::facts::AgentFacts;
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
#[error("cannot encode the metrics: {0}; this is a bug of tracker, please report it with /status")]
pub struct EncodeError(#[from] prometheus::Error);

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

    /// Writes everything as text: what a scrape gets.
    ///
    /// # Errors
    /// When the encoder refuses a family, which no input can cause.
    pub fn encode(&self) -> Result<Exposition, EncodeError> {
        let _ = (self.view(), self.facts());
        Ok(Exposition {
            content_type: prometheus::TEXT_FORMAT,
            body: TextEncoder::new().encode_to_string(&[])?,
        })
    }
}

/// A poisoned lock is taken: counters are whole numbers and valid at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
