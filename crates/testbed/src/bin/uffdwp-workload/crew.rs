//! Threads that wait for work and are started before anything is measured.

use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

type CrewWork = Arc<dyn Fn(u64) + Send + Sync>;

/// Threads that do the same work at the same time, each with its number.
#[derive(Clone)]
pub struct ThreadCrew(Arc<CrewState>);

struct CrewState {
    work: Mutex<CrewWork>,
    /// All threads and whoever gives them work meet here before it.
    start: Barrier,
    /// They meet here after it.
    end: Barrier,
}

impl ThreadCrew {
    /// Starts `count` threads, which live as long as the process.
    pub fn start(count: u64) -> Result<Self> {
        let meeting = count as usize + 1;
        let crew = Self(Arc::new(CrewState {
            work: Mutex::new(Arc::new(|_| crate::warm_up())),
            start: Barrier::new(meeting),
            end: Barrier::new(meeting),
        }));
        for number in 0..count {
            let shared = crew.0.clone();
            let body = move || shared.serve(number);
            thread::Builder::new()
                .name(format!("writer-{number}"))
                .spawn(body)
                .with_context(|| {
                    format!("cannot start thread {number} of {count}; lower --threads")
                })?;
        }
        crew.go();
        Ok(crew)
    }

    /// Lets every thread do `work`, and waits for all of them.
    pub fn run(&self, work: impl Fn(u64) + Send + Sync + 'static) {
        *self.0.work.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(work);
        self.go();
    }

    fn go(&self) {
        self.0.start.wait();
        self.0.end.wait();
    }
}

impl CrewState {
    fn serve(&self, number: u64) {
        loop {
            self.start.wait();
            let work = self
                .work
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            work(number);
            drop(work);
            self.end.wait();
        }
    }
}
