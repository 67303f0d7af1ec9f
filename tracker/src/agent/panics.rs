//! Notices a panic of any thread or task: an agent that goes on without it would be blind.

use crate::logging;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Told of every panic of this program.
#[derive(Clone, Debug, Default)]
pub struct PanicWatch(Arc<(Mutex<Option<String>>, Notify)>);

impl PanicWatch {
    /// Watches from here on; whoever was told before is told, too.
    pub fn begin() -> Self {
        let watch = Self::default();
        let (ours, others) = (watch.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            others(info);
            ours.note(logging::message(info));
        }));
        watch
    }

    /// The first panic, in words; waits for it.
    pub async fn first(&self) -> String {
        loop {
            let told = self.0.1.notified();
            if let Some(message) = self.message().clone() {
                return message;
            }
            told.await;
        }
    }

    fn note(&self, message: String) {
        self.message().get_or_insert(message);
        self.0.1.notify_one();
    }

    fn message(&self) -> MutexGuard<'_, Option<String>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
