//! Asking before root is used.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::MetadataExt as _,
};

use anyhow::{Context as _, Result, bail};

/// Whether packages may be installed without asking.
pub struct Consent {
    given: bool,
}

impl Consent {
    /// Given by `--yes`, or by `CI` in the environment as CI systems set it.
    pub fn new(yes: bool) -> Self {
        let ci = env::var_os("CI").is_some_and(|v| !v.is_empty() && v != "false" && v != "0");
        Self { given: yes || ci }
    }

    /// Asks whether `command` may run as root, because `why`.
    ///
    /// Without a terminal nobody can answer: then it runs if we are root already, as whoever
    /// started us chose, and is an error otherwise.
    pub fn ask(&self, why: &str, command: &str) -> Result<()> {
        eprintln!("{:>8} {why}: {command}", "root");
        if self.given {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            if is_root() {
                return Ok(());
            }
            bail!(
                "{why} needs root, and nobody can be asked here. Add --yes, or run:\n\n    {command}\n"
            );
        }
        eprint!("         Run this now? [Y/n] ");
        io::stderr().flush().context("cannot write to stderr")?;
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .context("cannot read the answer")?;
        if agrees(&answer) {
            return Ok(());
        }
        bail!("{why} was declined. To do it yourself:\n\n    {command}\n");
    }
}

/// Whether we run as root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Whether `answer` means yes; an empty line does, the end of input does not.
fn agrees(answer: &str) -> bool {
    answer.ends_with('\n')
        && matches!(
            answer.trim().to_ascii_lowercase().as_str(),
            "" | "y" | "yes"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_answer_agrees() {
        assert!(agrees("\n") && agrees("y\n") && agrees("Yes\n"));
        assert!(!agrees("") && !agrees("n\n") && !agrees("what?\n"));
    }
}
