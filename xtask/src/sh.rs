//! Runs programs: takes their output, reports their failures, shows progress while they work.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, IsTerminal as _, Read},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How many of the last lines of a failed program are shown.
const TAIL: usize = 25;

/// Runs `command` and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = display(command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("`{shown}` failed ({}):\n{}", out.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs `command` behind a progress line with `title`; shows the end of its output if it fails.
pub fn step(title: &str, command: &mut Command) -> Result<()> {
    let shown = display(command);
    let progress = ProgressLine::start(title);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{title}: cannot start `{shown}`"))?;
    let (sender, lines) = mpsc::channel();
    for pipe in [
        child
            .stdout
            .take()
            .map(|p| Box::new(p) as Box<dyn Read + Send>),
        child
            .stderr
            .take()
            .map(|p| Box::new(p) as Box<dyn Read + Send>),
    ] {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in pipe
                .into_iter()
                .flat_map(|pipe| BufReader::new(pipe).split(b'\n'))
            {
                let Ok(line) = line else { break };
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
    }
    drop(sender);
    let mut tail = VecDeque::new();
    for line in lines {
        progress.detail(&line);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    let status = child
        .wait()
        .with_context(|| format!("{title}: cannot wait for `{shown}`"))?;
    progress.finish(status.success());
    if !status.success() {
        let said: Vec<&str> = tail.iter().map(String::as_str).collect();
        bail!("{title}: `{shown}` failed ({status}):\n{}", said.join("\n"));
    }
    Ok(())
}

/// Progress on stderr: a spinner on a terminal, a line at each end elsewhere.
pub struct ProgressLine {
    title: String,
    bar: Option<ProgressBar>,
    since: Instant,
}

impl ProgressLine {
    /// Shows `title` as being worked on.
    pub fn start(title: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("     ... {title}");
        }
        Self {
            title: title.to_owned(),
            bar,
            since: Instant::now(),
        }
    }

    /// Shows what is going on, on a terminal only.
    pub fn detail(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.trim().replace(|c: char| c.is_control(), " "));
        }
    }

    /// Shows whether it went well, and how long it took.
    pub fn finish(self, ok: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let mark = if ok { "done" } else { "FAILED" };
        eprintln!(
            "{mark:>8} {} ({:.1} s)",
            self.title,
            self.since.elapsed().as_secs_f32()
        );
    }
}

/// `command` as one would type it.
pub fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| quote(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// `word`, quoted for a POSIX shell if necessary.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for word in [
            "plain",
            "",
            "two words",
            "it's",
            "$HOME `id` \"x\"",
            "a\nb",
            "~",
            "*",
        ] {
            let said = output(
                Command::new("sh")
                    .arg("-c")
                    .arg(format!("printf %s {}", quote(word))),
            );
            assert_eq!(said.unwrap(), word);
        }
        assert_eq!(quote("--kernel=/a/b-1.2"), "--kernel=/a/b-1.2");
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let failed = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        let text = failed.to_string();
        assert!(
            text.contains("sh -c") && text.contains("why") && text.contains('3'),
            "{text}"
        );
        let failed = step(
            "trying",
            Command::new("sh").args(["-c", "echo why; exit 3"]),
        )
        .unwrap_err();
        assert!(failed.to_string().contains("why"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let failed = output(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(format!("{failed:#}").contains("no-such-program-here"));
    }
}
