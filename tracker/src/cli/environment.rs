//! Environment variables as flags: one that is blank is as one that is not set.

use clap::builder::Resettable;
use clap::{Arg, Command};
use std::ffi::OsStr;

/// The command, its flags without variables that hold nothing but blanks: in a unit file or a
/// manifest that is how people switch one off.
pub(super) fn without_blank(command: Command) -> Command {
    without(command, &|name| {
        std::env::var_os(name).is_some_and(|value| is_blank(&value))
    })
}

/// Whether a variable holds nothing but blanks.
pub(super) fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

fn without(command: Command, blank: &dyn Fn(&OsStr) -> bool) -> Command {
    let unset = |arg: Arg| match arg.get_env() {
        Some(name) if blank(name) => arg.env(Resettable::Reset),
        _ => arg,
    };
    command
        .mut_args(unset)
        .mut_subcommands(|subcommand| without(subcommand, blank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_blanks_is_not_looked_at() {
        let flag = Arg::new("flag").long("flag").env("TRACKER_FLAG");
        let command = Command::new("a").subcommand(Command::new("b").arg(flag));
        let env = |command: Command| {
            let sub = command.get_subcommands().next()?;
            let arg = sub.get_arguments().find(|arg| arg.get_id() == "flag")?;
            arg.get_env().map(OsStr::to_owned)
        };
        assert!(env(without(command.clone(), &|_| false)).is_some());
        assert_eq!(env(without(command, &|name| name == "TRACKER_FLAG")), None);
        assert!(is_blank(OsStr::new(" \t")) && is_blank(OsStr::new("")));
        assert!(!is_blank(OsStr::new("0")));
    }
}
