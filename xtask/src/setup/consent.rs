//! Asks before something is done as root.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::MetadataExt as _,
};

use anyhow::{Context as _, Result, bail};

/// Whether packages may be installed without asking.
pub struct RootConsent {
    given: bool,
}

impl RootConsent {
    /// Given by `--yes`, or by `CI` in the environment, which CI systems set.
    pub fn new(yes: bool) -> Self {
        let ci = env::var_os("CI").is_some_and(|v| !v.is_empty() && v != "false" && v != "0");
        Self { given: yes || ci }
    }

    /// Asks whether `command`, which installs `what`, may run as root.
    ///
    /// Without a terminal nobody can answer. Then it may run if we are root already, which whoever
    /// started us chose; otherwise it is an error.
    pub fn ask(&self, what: &str, command: &str) -> Result<()> {
        eprintln!("{:>8} {what} must be installed: {command}", "root");
        if self.given {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return ConsentAnswer::Nobody { root: is_root() }.check(what, command);
        }
        eprint!("         Run this now? [Y/n] ");
        io::stderr().flush().context("cannot write to stderr")?;
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .context("cannot read the answer")?;
        ConsentAnswer::Given(agrees(&answer)).check(what, command)
    }
}

/// The answer to the question.
enum ConsentAnswer {
    Given(bool),
    /// There is no terminal; whether we are root already.
    Nobody {
        root: bool,
    },
}

impl ConsentAnswer {
    /// Fails with advice unless `what` may be installed.
    fn check(&self, what: &str, command: &str) -> Result<()> {
        match self {
            Self::Given(true) | Self::Nobody { root: true } => Ok(()),
            Self::Given(false) => {
                bail!(
                    "{what} is missing, and you declined to install it. To install it \
                     yourself:\n\n    {command}\n"
                )
            }
            Self::Nobody { root: false } => bail!(
                "{what} is missing, and without a terminal nobody can be asked whether to install \
                 it as root. Add --yes, or run:\n\n    {command}\n"
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
        let refused = |answer: ConsentAnswer| {
            let error = answer.check("QEMU", "sudo apt-get install qemu").err();
            error.map(|error| error.to_string())
        };
        for answer in [
            ConsentAnswer::Given(false),
            ConsentAnswer::Nobody { root: false },
        ] {
            let message = refused(answer).unwrap_or_default();
            assert!(message.starts_with("QEMU is missing"), "{message}");
            assert!(
                message.contains("\n    sudo apt-get install qemu\n"),
                "{message}"
            );
        }
        assert_eq!(refused(ConsentAnswer::Given(true)), None);
        assert_eq!(refused(ConsentAnswer::Nobody { root: true }), None);
    }
}
