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

    /// Asks whether `command` may run as root, which installs `what`.
    ///
    /// Without a terminal nobody can answer: then it runs if we are root already, as whoever
    /// started us chose, and is an error otherwise.
    pub fn ask(&self, what: &str, command: &str) -> Result<()> {
        eprintln!("{:>8} {what} must be installed: {command}", "root");
        if self.given {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Answer::Nobody { root: is_root() }.check(what, command);
        }
        eprint!("         Run this now? [Y/n] ");
        io::stderr().flush().context("cannot write to stderr")?;
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .context("cannot read the answer")?;
        Answer::Given(agrees(&answer)).check(what, command)
    }
}

/// What came of asking.
enum Answer {
    Given(bool),
    /// Nobody is there to answer; whether we are root already.
    Nobody {
        root: bool,
    },
}

impl Answer {
    /// An error that says how to go on, unless `what` may be installed.
    fn check(&self, what: &str, command: &str) -> Result<()> {
        match self {
            Self::Given(true) | Self::Nobody { root: true } => Ok(()),
            Self::Given(false) => {
                bail!(
                    "{what} is missing, and installing it was declined. To do it yourself:\n\n    {command}\n"
                )
            }
            Self::Nobody { root: false } => bail!(
                "{what} is missing, and nobody can be asked here whether to install it as root. \
                 Add --yes, or run:\n\n    {command}\n"
            ),
        }
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

    #[test]
    fn a_refusal_says_what_to_type() {
        let refused = |answer: Answer| {
            let error = answer.check("QEMU", "sudo apt-get install qemu").err();
            error.map(|error| error.to_string())
        };
        for answer in [Answer::Given(false), Answer::Nobody { root: false }] {
            let message = refused(answer).unwrap_or_default();
            assert!(message.starts_with("QEMU is missing"), "{message}");
            assert!(
                message.contains("\n    sudo apt-get install qemu\n"),
                "{message}"
            );
        }
        assert_eq!(refused(Answer::Given(true)), None);
        assert_eq!(refused(Answer::Nobody { root: true }), None);
    }
}
