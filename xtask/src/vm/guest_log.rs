//! Reads what a guest printed: the command's output and status, and the kernel's complaints.

/// The output of the serial line that only the command writes to.
pub struct GuestTranscript {
    token: String,
    /// Whether the guest's init has started the command.
    pub began: bool,
    /// The command's exit status, once it is known.
    pub status: Option<i32>,
    /// The command's output.
    pub lines: Vec<String>,
}

impl GuestTranscript {
    /// Begins with no lines. `token`, a word that no program prints by chance, marks those of init.
    pub fn new(token: &str) -> Self {
        Self {
            token: token.to_owned(),
            began: false,
            status: None,
            lines: Vec::new(),
        }
    }

    /// Takes the next line and returns the part that is the command's output.
    pub fn push(&mut self, line: &str) -> Option<&str> {
        let line = line.trim_end_matches('\r');
        let Some((before, mark)) = line.split_once(&self.token) else {
            return self.keep(line);
        };
        // Text before the mark is the command's last line, left unfinished.
        let kept = !before.is_empty() && self.keep(before).is_some();
        match mark.trim().split_once(' ') {
            None if mark.trim() == "begin" => self.began = true,
            Some(("exit", status)) => self.status = status.parse().ok(),
            _ => {}
        }
        if kept {
            self.lines.last().map(String::as_str)
        } else {
            None
        }
    }

    fn keep(&mut self, line: &str) -> Option<&str> {
        if !self.began || self.status.is_some() {
            return None;
        }
        self.lines.push(line.to_owned());
        self.lines.last().map(String::as_str)
    }
}

/// What a kernel prints when something is wrong with it.
const COMPLAINTS: [&str; 10] = [
    "Kernel panic",
    "WARNING:",
    "BUG:",
    "kernel BUG at",
    "Oops",
    "general protection fault",
    "Unable to handle",
    "self-detected stall",
    "detected stalls",
    "blocked for more than",
];

/// Whether a kernel met a breakpoint of its own that it had taken away already. It patches its code
/// by way of a breakpoint, which all other CPUs are told of before and after. Seen twice with QEMU
/// 7.2, in the scheduler, whose static branches were being switched: taken for the emulator's
/// translating code while another CPU patches it, which is not proven.
pub fn is_half_patched(log: &str) -> bool {
    log.contains("Oops: int3")
}

/// Lines that look like a complaint but are none.
const HARMLESS: [&str; 1] = ["Unprivileged eBPF is enabled"];

/// The first complaint in the log of a kernel.
pub fn complaint(log: &str) -> Option<&str> {
    log.lines().map(str::trim).find(|line| {
        COMPLAINTS.iter().any(|word| line.contains(word))
            && !HARMLESS.iter().any(|word| line.contains(word))
    })
}

/// The verdict on a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestVerdict {
    Passed,
    Failed,
    /// It did not run.
    Ignored,
}

/// The verdict on each test in the output of Rust's test harness.
pub fn verdicts<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<(String, TestVerdict)> {
    let mut reader = VerdictReader::default();
    let lines = lines.into_iter();
    lines.filter_map(|line| reader.push(line)).collect()
}

/// What tests say that they left out, with the test's name: lines with `skipped: ` in the output that
/// the harness shows with `--show-output`.
pub fn left_out<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, &'a str)> {
    let mut test = None;
    let said = lines.into_iter().filter_map(|line| {
        let head = line.strip_prefix("---- ");
        if let Some(name) = head.and_then(|head| head.strip_suffix(" stdout ----")) {
            test = Some(name);
        } else if matches!(line, "successes:" | "failures:") {
            test = None;
        } else if line.contains("skipped: ") {
            return Some((test?, line.trim()));
        }
        None
    });
    said.collect()
}

/// What the test called `test` printed, with its panic, in the output that the harness shows with
/// `--show-output`.
pub fn said_by<'a>(lines: impl IntoIterator<Item = &'a str>, test: &str) -> Vec<&'a str> {
    let head = format!("---- {test} stdout ----");
    let said = lines.into_iter().skip_while(|line| *line != head).skip(1);
    let ends = |line: &str| {
        matches!(line, "successes:" | "failures:")
            || line.starts_with("---- ") && line.ends_with(" stdout ----")
    };
    said.take_while(|line| !ends(line)).collect()
}

/// Reads the output of Rust's test harness line by line.
#[derive(Default)]
pub struct VerdictReader {
    /// With one thread, the harness prints the name before the test runs, and the test's own output
    /// may come between name and verdict.
    open: Option<String>,
}

impl VerdictReader {
    /// Takes the next line; returns the test of which it has the verdict.
    pub fn push(&mut self, line: &str) -> Option<(String, TestVerdict)> {
        let head = line.strip_prefix("test ");
        let Some((name, rest)) = head.and_then(|head| head.split_once(" ... ")) else {
            let verdict = verdict(line)?;
            return self.open.take().map(|name| (name, verdict));
        };
        let name = plain_name(name);
        let verdict = verdict(rest);
        if verdict.is_none() {
            self.open = Some(name);
            return None;
        }
        verdict.map(|verdict| (name, verdict))
    }
}

/// The name of a test without what the harness adds.
fn plain_name(name: &str) -> String {
    name.trim_end_matches(" - should panic").to_owned()
}

fn verdict(text: &str) -> Option<TestVerdict> {
    match text.trim() {
        "ok" => Some(TestVerdict::Passed),
        "FAILED" => Some(TestVerdict::Failed),
        text if text == "ignored" || text.starts_with("ignored, ") => Some(TestVerdict::Ignored),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> GuestTranscript {
        let mut transcript = GuestTranscript::new("@@7f");
        for line in text.lines() {
            transcript.push(line);
        }
        transcript
    }

    #[test]
    fn the_status_is_read_and_the_output_kept() {
        let done = read("noise of the boot\n@@7f begin\none\n\ntwo@@7f exit 3\nafter\n");
        assert!(done.began);
        assert_eq!(done.status, Some(3));
        assert_eq!(done.lines, ["one", "", "two"]);
    }

    #[test]
    fn no_verdict_is_no_status() {
        let crashed = read("@@7f begin\none\n");
        assert!(crashed.began && crashed.status.is_none());
        assert!(!read("nothing\n").began);
        assert_eq!(read("@@7f begin\n@@7f exit what\n").status, None);
    }

    #[test]
    fn a_program_cannot_forge_a_verdict_without_the_token() {
        assert_eq!(read("@@7f begin\n@@00 exit 0\n").status, None);
    }

    #[test]
    fn what_tests_leave_out_is_found_in_what_they_print() {
        let shown = "test a::x ... ok\ntest y ... ok\n\nsuccesses:\n\n\
                     ---- a::x stdout ----\nsync anon skipped: no mode\nnoise\n\n\
                     ---- y stdout ----\nskipped: no KSM\n\n\
                     successes:\n    a::x\n    y\nskipped: not by a test\n";
        let found = left_out(shown.lines());
        let expected = [
            ("a::x", "sync anon skipped: no mode"),
            ("y", "skipped: no KSM"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_test_says_ends_where_another_begins() {
        let shown = "test a ... ok\n\nsuccesses:\n\n---- a stdout ----\nfine\n\n\nfailures:\n\n\
                     ---- b::x stdout ----\npanicked\nstatus\n---- b stdout ----\nlater\n\n\
                     failures:\n    b::x\n";
        assert_eq!(said_by(shown.lines(), "b::x"), ["panicked", "status"]);
        assert_eq!(said_by(shown.lines(), "b"), ["later", ""]);
        assert!(said_by(shown.lines(), "c").is_empty());
    }

    #[test]
    fn complaints_are_found() {
        let log =
            "[    0.1] Linux version 6.12\n[    9.1] WARNING: CPU: 1 PID: 77 at mm/x.c:1 f+0x1\n";
        assert!(complaint(log).is_some_and(|line| line.contains("mm/x.c")));
        for line in [
            "[  1.0] BUG: kernel NULL pointer dereference, address: 0",
            "[  1.0] Oops: 0002 [#1] PREEMPT SMP",
            "[ 60.0] rcu: INFO: rcu_preempt self-detected stall on CPU",
            "[  1.0] Kernel panic - not syncing: Fatal exception",
            "[  1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
        ] {
            assert!(complaint(line).is_some(), "{line}");
        }
        assert!(is_half_patched(
            "[  9.1] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI"
        ));
        assert!(!is_half_patched(log));
        let fine =
            "[ 0.1] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on\nfine\n";
        assert_eq!(complaint(fine), None);
    }

    #[test]
    fn verdicts_of_the_harness_are_read() {
        let lines = "running 4 tests\ntest a::b ... ok\ntest c ... FAILED\n\
                     test d ... ignored, needs more\ntest e - should panic ... ok\n\
                     test f ... said something\nok\ntest g ... \n\ntest result: FAILED. 3 passed\n";
        let expected = [
            ("a::b", TestVerdict::Passed),
            ("c", TestVerdict::Failed),
            ("d", TestVerdict::Ignored),
            ("e", TestVerdict::Passed),
            ("f", TestVerdict::Passed),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, v)| ((*n).to_owned(), *v))
            .collect();
        assert_eq!(verdicts(lines.lines()), expected);
    }
}
