//! The findings of a case, as one line of JSON.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a case works: the milliseconds in the second argument, or about a second.
pub fn work() -> Duration {
    let argument = std::env::args().nth(2).and_then(|text| text.parse().ok());
    Duration::from_millis(argument.unwrap_or(1200))
}

/// The findings of a case.
pub struct CaseReport {
    began: Instant,
    fields: BTreeMap<String, Value>,
    descriptors: Vec<String>,
}

impl CaseReport {
    /// Begins the report, before anything else is done.
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            fields: BTreeMap::new(),
            descriptors: Vec::new(),
        }
    }

    /// Says that the case is prepared: from now on it may be stopped at any time.
    pub fn ready(&mut self) {
        self.descriptors = descriptors();
        println!("ready");
        // If the reader is gone, nobody needs to know.
        let _ = std::io::stdout().flush();
        self.began = Instant::now();
    }

    /// Takes all descriptors that are open now, except userfaultfds, as given by the parent: for a
    /// program that did not see the beginning.
    pub fn expect_standard_descriptors(&mut self) {
        self.descriptors = descriptors();
        self.descriptors.retain(|one| !one.contains("userfaultfd"));
    }

    /// Whether the time for work is over.
    pub fn is_over(&self) -> bool {
        self.began.elapsed() >= work()
    }

    /// Reports a value that must be the same in the twin.
    pub fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// Counts one more of something.
    pub fn count(&mut self, name: &str) {
        let entry = self.fields.entry(name.to_owned()).or_insert(json!(0));
        *entry = json!(entry.as_u64().unwrap_or(0) + 1);
    }

    /// Counts the result of a call: success, or its errno.
    pub fn result<T>(&mut self, name: &str, result: rustix::io::Result<T>) {
        match result {
            Ok(_) => self.count(&format!("{name} returned")),
            Err(error) => self.count(&format!("{name} failed with {}", error.raw_os_error())),
        }
    }

    /// Prints the report.
    pub fn end(mut self) -> ExitCode {
        let now = descriptors().into_iter();
        let further: Vec<_> = now.filter(|one| !self.descriptors.contains(one)).collect();
        self.put("further descriptors", further);
        let took = self.began.elapsed().as_millis() as u64;
        self.put("took_ms", took);
        println!("{}", json!(self.fields));
        ExitCode::SUCCESS
    }
}

/// The open descriptors, and what they are.
fn descriptors() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let describe = |entry: std::fs::DirEntry| {
        let link = std::fs::read_link(entry.path()).ok()?;
        let own = link.starts_with("/proc");
        (!own).then(|| format!("{:?} {link:?}", entry.file_name()))
    };
    let mut all: Vec<_> = entries.filter_map(|entry| describe(entry.ok()?)).collect();
    all.sort();
    all
}
