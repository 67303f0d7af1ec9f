//! Reads what the kernel's test programs print: TAP, or the lines of uffd-unit-tests.

/// How a sub-test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubtestResult {
    Passed,
    /// With the reason it gave, or an empty string.
    Failed(String),
    /// With the reason it gave, or an empty string.
    Skipped(String),
}

/// A sub-test in the output of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSubtest {
    /// Identifies it in every run: in TAP its number, because names repeat and contain counts.
    pub key: String,
    /// Its name as printed.
    pub name: String,
    /// How it ended.
    pub result: SubtestResult,
}

/// The sub-tests in the output of one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SubtestLog {
    /// The sub-tests in their order.
    pub all: Vec<KernelSubtest>,
    /// Whether the run reported as many as it had planned.
    pub complete: bool,
}

impl SubtestLog {
    /// Reads the output of one run.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        let mut planned = None;
        let mut unfinished: Option<String> = None;
        for line in lines {
            if let Some(count) = line.strip_prefix("1..") {
                planned = count.trim().parse::<usize>().ok();
            } else if let Some(subtest) = tap(line) {
                found.all.push(subtest);
            } else if let Some(rest) = line.strip_prefix("Testing ") {
                match rest.split_once("... ") {
                    Some((name, end)) => match verdict(end) {
                        Some(result) => found.push(name, result),
                        None => unfinished = Some(name.to_owned()),
                    },
                    None => unfinished = Some(rest.trim_end_matches("...").to_owned()),
                }
            } else if line.starts_with("Userfaults unit tests: ") {
                // Its totals leave out the two checks for a userfaultfd at all.
                planned = Some(found.all.len());
            } else if let Some(name) = unfinished.take() {
                // The test's own output comes between its name and its end.
                match verdict(line) {
                    Some(result) => found.push(&name, result),
                    None => unfinished = Some(name),
                }
            }
        }
        found.complete = planned == Some(found.all.len()) && unfinished.is_none();
        found
    }

    fn push(&mut self, name: &str, result: SubtestResult) {
        self.all.push(KernelSubtest {
            key: name.to_owned(),
            name: name.to_owned(),
            result,
        });
    }

    /// The sub-test with that key.
    pub fn get(&self, key: &str) -> Option<&KernelSubtest> {
        self.all.iter().find(|subtest| subtest.key == key)
    }

    /// How many passed, failed and were skipped.
    pub fn counts(&self) -> [usize; 3] {
        let count =
            |is: fn(&SubtestResult) -> bool| self.all.iter().filter(|s| is(&s.result)).count();
        [
            count(|result| matches!(result, SubtestResult::Passed)),
            count(|result| matches!(result, SubtestResult::Failed(_))),
            count(|result| matches!(result, SubtestResult::Skipped(_))),
        ]
    }
}

/// A result line of the Test Anything Protocol: `not ok 3 name`, `ok 4 # SKIP name`.
fn tap(line: &str) -> Option<KernelSubtest> {
    let (good, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (number, name) = rest.split_once(' ').unwrap_or((rest, ""));
    number.parse::<u32>().ok()?;
    let skipped = name
        .strip_prefix("# SKIP")
        .or_else(|| name.strip_prefix("# XFAIL"));
    let (name, result) = match skipped.map(split_reason) {
        Some((name, why)) => (name, SubtestResult::Skipped(why.to_owned())),
        None if good => (name, SubtestResult::Passed),
        None => (name, SubtestResult::Failed(String::new())),
    };
    Some(KernelSubtest {
        key: number.to_owned(),
        name: name.trim().to_owned(),
        result,
    })
}

/// Splits `name (why not)`; a single word in parentheses belongs to the name.
fn split_reason(text: &str) -> (&str, &str) {
    let reason = text
        .split_once(" (")
        .and_then(|(name, why)| Some((name, why.trim_end().strip_suffix(')')?)))
        .filter(|(_, why)| why.contains(' '));
    reason.unwrap_or((text, ""))
}

/// How uffd-unit-tests before 7.0 ends the line of a sub-test: `done`, `failed [reason: x]`,
/// `skipped [reason: x]`.
fn verdict(text: &str) -> Option<SubtestResult> {
    let text = text.trim();
    let reason = || {
        let inner = text.split_once("[reason: ")?.1;
        Some(inner.trim_end_matches(']').to_owned())
    };
    if text == "done" {
        Some(SubtestResult::Passed)
    } else if text.starts_with("failed [") {
        Some(SubtestResult::Failed(reason().unwrap_or_default()))
    } else if text.starts_with("skipped [") {
        Some(SubtestResult::Skipped(reason().unwrap_or_default()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn read(text: &str) -> SubtestLog {
        SubtestLog::read(text.lines())
    }

    #[test]
    fn tap_is_told_by_number() {
        let found = read(
            "TAP version 13\n1..4\nok 1 test_simple count 192\nnot ok 2 Hugetlb mem: written\n\
             # a remark\nok 3 # SKIP Huge page: written\nok 4 Hugetlb mem: written\n\
             # Totals: pass:2 fail:1 xfail:0 xpass:0 skip:1 error:0\n",
        );
        assert!(found.complete);
        assert_eq!(found.counts(), [2, 1, 1]);
        assert_eq!(found.get("2").unwrap().name, "Hugetlb mem: written");
        assert_eq!(found.get("3").unwrap().name, "Huge page: written");
    }

    #[test]
    fn the_reason_of_a_skip_is_not_its_name() {
        let found = read(
            "1..2\nok 1 # SKIP wp-fork-pin on anon (CONFIG_GUP_TEST missing or unprivileged)\n\
             ok 2 # SKIP Huge page: all must be written (dirty)\n",
        );
        assert_eq!(found.all[0].name, "wp-fork-pin on anon");
        let why = "CONFIG_GUP_TEST missing or unprivileged".to_owned();
        assert_eq!(found.all[0].result, SubtestResult::Skipped(why));
        assert_eq!(found.all[1].name, "Huge page: all must be written (dirty)");
    }

    #[test]
    fn fewer_than_planned_is_not_complete() {
        assert!(!read("1..2\nok 1 a\n").complete);
        assert!(!read("1..2\nok 1 a\nBail out! why\n").complete);
        assert!(!read("").complete);
        assert!(!read("Testing events on anon... done\nTesting poison on anon... ").complete);
    }

    #[test]
    fn userfaults_own_words_are_read() {
        let found = read(
            "Testing UFFDIO_API (with syscall)... done\n\
             Testing wp-fork-pin on anon... skipped [reason: Possibly CONFIG_GUP_TEST missing]\n\
             Testing minor on shmem... failed [reason: read() failed]\n\
             Testing move on anon... a warning\ndone\n\
             Userfaults unit tests: pass=1, skip=1, fail=1 (total=3)\n",
        );
        assert!(found.complete);
        assert_eq!(found.counts(), [2, 1, 1]);
        assert_eq!(
            found.get("minor on shmem").unwrap().result,
            SubtestResult::Failed("read() failed".to_owned())
        );
        assert_eq!(found.all[3].name, "move on anon");
    }

    #[test]
    fn a_death_in_a_test_leaves_it_unfinished() {
        let found = read(
            "Testing events on anon... ERROR: nr 6904 memory corruption 0 1\n \
             (errno=0, @x.c:754)\n",
        );
        assert_eq!(found.counts(), [0, 0, 0]);
        assert!(!found.complete);
    }
}
