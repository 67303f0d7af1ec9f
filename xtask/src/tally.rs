//! Counts what passed and failed; prints the table of guest tests and the line of totals.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::vm::guest_log::TestVerdict;

/// The verdicts of a run of `cargo xtask test`.
#[derive(Default)]
pub struct TestTally {
    passed: u32,
    failed: u32,
    skipped: u32,
    repeated_boots: u32,
    /// What failed, and why.
    failures: Vec<(String, String)>,
    /// Rows of the matrix, in order of appearance: the columns of the table.
    columns: Vec<String>,
    /// Guest test -> row -> verdict; `None` if it is missing.
    table: BTreeMap<String, BTreeMap<String, Option<TestVerdict>>>,
    /// How long guest tests took, with row and name.
    times: Vec<(Duration, String)>,
    /// What guest tests left out, and which, with their rows.
    left_out: BTreeMap<String, BTreeSet<String>>,
}

/// How many of the slowest guest tests are told.
const SLOWEST: usize = 15;

impl TestTally {
    /// Counts a check on the host.
    pub fn check(&mut self, name: &str, result: anyhow::Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => self.fail(name, &format!("{error:#}")),
        }
    }

    /// Counts a failure.
    pub fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        self.failures.push((name.to_owned(), why.to_owned()));
    }

    /// Adds the counts of the tests on the host.
    pub fn host(&mut self, counts: &HostTestCounts) {
        self.passed += counts.passed;
        self.skipped += counts.skipped;
        for name in &counts.failures {
            self.fail(name, "see its output above");
        }
    }

    /// Counts a guest test; without a verdict it failed.
    pub fn guest(&mut self, row: &str, test: &str, verdict: Option<TestVerdict>, why: &str) {
        match verdict {
            Some(TestVerdict::Passed) => self.passed += 1,
            Some(TestVerdict::Ignored) => self.skipped += 1,
            Some(TestVerdict::Failed) | None => self.fail(&format!("{row}: {test}"), why),
        }
        if !self.columns.iter().any(|column| column == row) {
            self.columns.push(row.to_owned());
        }
        self.table
            .entry(test.to_owned())
            .or_default()
            .insert(row.to_owned(), verdict);
    }

    /// Notes how long a guest test took.
    pub fn took(&mut self, row: &str, test: &str, time: Duration) {
        self.times.push((time, format!("{row}: {test}")));
    }

    /// Notes what a guest test left out.
    pub fn left_out(&mut self, row: &str, test: &str, what: &str) {
        let tests = self.left_out.entry(what.to_owned()).or_default();
        tests.insert(format!("{row}: {test}"));
    }

    /// Adds boots that the emulator had spoilt, and that were repeated.
    pub fn repeated(&mut self, boots: u32) {
        self.repeated_boots += boots;
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.failed == 0
    }
}

impl fmt::Display for TestTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.table.is_empty() {
            self.write_table(f)?;
            self.write_slowest(f)?;
            self.write_left_out(f)?;
        }
        let mut last = "";
        for (name, why) in &self.failures {
            writeln!(f, "FAILED {name}")?;
            // One lost boot fails many tests for one reason, shown once.
            if why != last {
                writeln!(f, "       {}", why.trim_end().replace('\n', "\n       "))?;
            }
            last = why;
        }
        if self.repeated_boots > 0 {
            writeln!(
                f,
                "{} boots were spoilt by the emulator and repeated; see the notes above",
                self.repeated_boots
            )?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        writeln!(f)
    }
}

impl TestTally {
    fn write_slowest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times: Vec<_> = self.times.iter().collect();
        times.sort_by(|a, b| b.cmp(a));
        for (time, test) in times.into_iter().take(SLOWEST) {
            writeln!(f, "{:>8.1} s {test}", time.as_secs_f64())?;
        }
        Ok(())
    }

    /// A test that passes need not have done everything.
    fn write_left_out(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, tests) in &self.left_out {
            let (first, more) = (tests.first().map_or("", String::as_str), tests.len() - 1);
            write!(f, "left out by {first}")?;
            if more > 0 {
                write!(f, " and {more} more")?;
            }
            writeln!(f, ": {what}")?;
        }
        Ok(())
    }

    fn write_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.table.keys().map(String::len).max().unwrap_or(0);
        let mut head = format!("{:widest$}", "");
        for column in &self.columns {
            head.push_str(&format!("  {column}"));
        }
        writeln!(f, "{head}")?;
        for (test, verdicts) in &self.table {
            let mut line = format!("{test:widest$}");
            for column in &self.columns {
                let cell = match verdicts.get(column) {
                    Some(Some(TestVerdict::Passed)) => "ok",
                    Some(Some(TestVerdict::Failed)) => "FAIL",
                    Some(Some(TestVerdict::Ignored)) => "skip",
                    Some(None) => "LOST",
                    None => "-",
                };
                line.push_str(&format!("  {cell:width$}", width = column.len()));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Counts in the output of `cargo test` on the host.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HostTestCounts {
    /// How many passed.
    pub passed: u32,
    /// How many were ignored, except those that guests run.
    pub skipped: u32,
    /// The names of those that failed.
    pub failures: Vec<String>,
}

/// Marks the reason for which the host ignores guest tests.
const GUEST_ONLY: &str = "cargo xtask test";

/// Marks the reason for which a test's own child process is ignored: it is no test by itself.
const CHILD: &str = "run as a child";

impl HostTestCounts {
    /// Takes a line of `cargo test`. Guest tests count as skipped only if `no_guests`.
    pub fn push(&mut self, line: &str, no_guests: bool) {
        let Some((name, verdict)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        match verdict.trim() {
            "ok" => self.passed += 1,
            "FAILED" => self.failures.push(name.to_owned()),
            text if text.starts_with("ignored") => {
                let elsewhere = !no_guests && text.contains(GUEST_ONLY);
                self.skipped += u32::from(!elsewhere && !text.contains(CHILD));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::{fs, path::Path};

    use super::*;
    use crate::paths;

    #[test]
    fn the_last_line_counts_everything() {
        let mut tally = TestTally::default();
        tally.check("format", Ok(()));
        tally.guest("6.1", "vm_a::x", Some(TestVerdict::Passed), "");
        assert_eq!(tally.to_string().lines().last(), Some("2 passed, 0 failed"));
        assert!(tally.is_good());
        tally.guest("6.12", "vm_a::x", None, "the guest ended");
        tally.guest("6.12", "vm_a::y", Some(TestVerdict::Ignored), "");
        let text = tally.to_string();
        assert_eq!(text.lines().last(), Some("2 passed, 1 failed, 1 skipped"));
        assert!(!tally.is_good());
        assert!(
            text.contains("FAILED 6.12: vm_a::x\n       the guest ended\n"),
            "{text}"
        );
        assert!(text.contains("vm_a::x  ok   LOST"), "{text}");
        assert!(text.contains("vm_a::y  -    skip"), "{text}");
    }

    #[test]
    fn the_slowest_guest_tests_come_first() {
        let mut tally = TestTally::default();
        tally.guest("6.1", "vm_a::x", Some(TestVerdict::Passed), "");
        for second in 1..20 {
            let name = format!("vm_a::x{second}");
            tally.took("6.1", &name, Duration::from_secs(second));
        }
        let text = tally.to_string();
        let told: Vec<_> = text.lines().filter(|line| line.contains(" s ")).collect();
        assert_eq!(told.len(), SLOWEST);
        assert_eq!(told[0], "    19.0 s 6.1: vm_a::x19");
    }

    #[test]
    fn what_is_left_out_is_told_once() {
        let mut tally = TestTally::default();
        for row in ["6.1", "6.12"] {
            tally.guest(row, "vm_a::x", Some(TestVerdict::Passed), "");
            tally.left_out(row, "vm_a::x", "skipped: no KSM");
            tally.left_out(row, "vm_a::x", "skipped: no KSM");
        }
        let told = "left out by 6.12: vm_a::x and 1 more: skipped: no KSM\n";
        assert_eq!(tally.to_string().matches("left out").count(), 1);
        assert!(tally.to_string().contains(told), "{tally}");
    }

    /// Calls `read` with each line of the sources under `dir`.
    fn for_each_line(dir: &Path, read: &mut impl FnMut(&str)) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                for_each_line(&path, read);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                fs::read_to_string(&path)
                    .unwrap()
                    .lines()
                    .for_each(&mut *read);
            }
        }
    }

    #[test]
    fn the_reason_of_every_ignored_test_is_marked() {
        let mut reasons = 0;
        for dir in ["crates", "tracker"] {
            for_each_line(&paths::root().join(dir), &mut |line| {
                if let Some(reason) = line.trim().strip_prefix("#[ignore") {
                    let marked = reason.contains(GUEST_ONLY) || reason.contains(CHILD);
                    assert!(marked, "{line}");
                    reasons += 1;
                }
            });
        }
        assert!(reasons > 0);
    }

    #[test]
    fn host_tests_are_counted_by_line() {
        let lines = "running 4 tests\ntest a ... ok\ntest b::c ... FAILED\n\
            test d ... ignored, needs a kernel: cargo xtask test\n\
            test f ... ignored, run as a child by e\ntest e ... ignored\n\
            test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured\n";
        let count = |no_guests| {
            let mut counts = HostTestCounts::default();
            lines.lines().for_each(|line| counts.push(line, no_guests));
            counts
        };
        let expected = HostTestCounts {
            passed: 1,
            skipped: 1,
            failures: vec!["b::c".to_owned()],
        };
        assert_eq!(count(false), expected);
        assert_eq!(count(true).skipped, 2);
    }
}
