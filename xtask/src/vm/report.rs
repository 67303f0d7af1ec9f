//! The outcome of a boot, and why a boot proves nothing.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};

use super::guest_log::{self, GuestTranscript};

/// How many of the last lines of a log are shown with a failure.
const TAIL: usize = 30;

/// The outcome of a boot.
#[derive(Debug)]
pub struct BootReport {
    /// The command's exit status, if it ended.
    pub status: Option<i32>,
    /// The command's output, with its standard error.
    pub lines: Vec<String>,
    /// Why this boot proves nothing: no exit status, or a kernel in trouble.
    pub trouble: Option<String>,
    /// Boots that the emulator had spoilt, and that were repeated.
    pub repeated: u32,
    /// The file with the command's output.
    pub log: PathBuf,
}

impl BootReport {
    /// The command's exit status, or the trouble as an error.
    pub fn verdict(&self) -> Result<i32> {
        match (&self.trouble, self.status) {
            (None, Some(status)) => Ok(status),
            (Some(trouble), _) => bail!("{trouble}"),
            (None, None) => bail!(
                "the guest reported no exit status; see {}",
                self.log.display()
            ),
        }
    }
}

impl super::MachineFiles {
    /// `why`, with the last lines of the command and of the kernel.
    pub(super) fn explain(&self, why: &str, output: &[String], kernel: &str) -> String {
        let section = |whose: &str, log: &PathBuf, lines: Vec<&str>| {
            if lines.is_empty() {
                return String::new();
            }
            let start = lines.len().saturating_sub(TAIL);
            let tail: String = lines[start..]
                .iter()
                .map(|line| format!("    | {line}\n"))
                .collect();
            format!(
                "\n  the {whose}'s last lines ({}):\n{}",
                log.display(),
                tail.trim_end()
            )
        };
        let output = output.iter().map(String::as_str).collect();
        format!(
            "{why}{}{}",
            section("command", &self.log, output),
            section("kernel", &self.kernel_log, kernel.lines().collect()),
        )
    }
}

/// Why a boot proves nothing, if so.
pub(super) fn trouble(
    transcript: &GuestTranscript,
    kernel: &str,
    late: Option<Duration>,
    emulator: &str,
) -> Option<String> {
    if let Some(line) = guest_log::complaint(kernel) {
        return Some(format!("the guest's kernel complained: {line}"));
    }
    if transcript.status.is_some() {
        return None;
    }
    let place = if transcript.began {
        "before the command ended"
    } else {
        "before its init"
    };
    let emulator = if emulator.is_empty() {
        String::new()
    } else {
        format!(": {emulator}")
    };
    Some(match late {
        Some(limit) => format!(
            "the guest hung {place}, for {} s{emulator}",
            limit.as_secs()
        ),
        None => format!("the guest ended {place}{emulator}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn transcript(text: &str) -> GuestTranscript {
        let mut transcript = GuestTranscript::new("@@t");
        for line in text.lines() {
            transcript.push(line);
        }
        transcript
    }

    #[test]
    fn a_verdict_and_a_quiet_kernel_are_no_trouble() {
        let done = transcript("@@t begin\nx\n@@t exit 1\n");
        assert_eq!(trouble(&done, "[ 0.1] Linux version\n", None, ""), None);
    }

    #[test]
    fn a_warning_is_trouble_even_with_a_verdict() {
        let done = transcript("@@t begin\n@@t exit 0\n");
        let why = trouble(
            &done,
            "[ 3.1] WARNING: CPU: 0 PID: 1 at mm/x.c:3\n",
            None,
            "",
        );
        assert!(why.unwrap().contains("mm/x.c:3"));
    }

    #[test]
    fn a_missing_verdict_says_how_it_went_missing() {
        let begun = transcript("@@t begin\nx\n");
        let why = trouble(&begun, "", None, "").unwrap();
        assert!(why.contains("before the command ended"), "{why}");
        let why = trouble(&begun, "", Some(Duration::from_secs(9)), "").unwrap();
        assert!(why.contains("for 9 s"), "{why}");
        let why = trouble(&transcript(""), "", None, "no such machine").unwrap();
        assert!(why.contains("before its init: no such machine"), "{why}");
    }
}
