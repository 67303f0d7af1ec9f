//! `tracker check`: what this kernel and this privilege can do, hook by hook, and why not.

use super::agent::{HookArgs, LevelArg};
use super::exit::UNABLE;
use super::probes;
use crate::agent::hooks::{HookReport, Level, Report};
use clap::Args;
use std::fmt;
use std::process::ExitCode;

/// The flags of `tracker check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Print JSON
    #[arg(long, env = "TRACKER_JSON")]
    json: bool,
    #[command(flatten)]
    hooks: HookArgs,
    /// End with status 3 below this level
    #[arg(
        long,
        env = "TRACKER_REQUIRE_LEVEL",
        value_enum,
        default_value = "observe",
        value_name = "LEVEL"
    )]
    require_level: LevelArg,
}

/// Prints the report; status 3 if the level required is not reached.
///
/// # Errors
/// If an option names an unknown hook or mechanism, or the facts cannot be gathered.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let report = probes::report(&args.hooks)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", Text(&report));
    }
    let enough = report.level >= Level::from(args.require_level);
    Ok(if enough {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNABLE)
    })
}

/// The report for people.
struct Text<'a>(&'a Report);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        writeln!(f, "level {}: {}", report.level, report.reason)?;
        let widths = Widths::of(&report.hooks);
        for hook in &report.hooks {
            widths.line(f, hook)?;
        }
        for missing in &report.missing_capabilities {
            writeln!(f, "without {}: no {}", missing.name, missing.gives)?;
        }
        for advice in &report.advice {
            writeln!(f, "to do: {advice}")?;
        }
        Ok(())
    }
}

struct Widths {
    name: usize,
    mechanism: usize,
}

impl Widths {
    fn of(hooks: &[HookReport]) -> Self {
        let widest = |f: fn(&HookReport) -> usize| hooks.iter().map(f).max().unwrap_or_default();
        Self {
            name: widest(|h| h.name.len()),
            mechanism: widest(|h| mechanism(h).len()),
        }
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, hook: &HookReport) -> fmt::Result {
        let (name, mechanism) = (&hook.name, mechanism(hook));
        let exact = match (&hook.mechanism, hook.exact) {
            (None, _) => "-",
            (_, true) => "exact",
            (_, false) => "estimated",
        };
        let (n, m) = (self.name, self.mechanism);
        writeln!(
            f,
            "  {name:n$}  {mechanism:m$}  {exact:9}  {}",
            hook.subject
        )?;
        if hook.mechanism.is_none() || !hook.exact {
            writeln!(f, "  {:n$}    {}", "", hook.reason)?;
            writeln!(f, "  {:n$}    affects {}", "", hook.families.join(", "))?;
        }
        Ok(())
    }
}

fn mechanism(hook: &HookReport) -> &str {
    hook.mechanism.as_deref().unwrap_or("absent")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::hooks::MissingCapability;

    fn hook(name: &str, mechanism: Option<&str>, exact: bool) -> HookReport {
        HookReport {
            name: name.into(),
            subject: "writes to armed pages".into(),
            mechanism: mechanism.map(Into::into),
            exact,
            reason: "the kernel has no such function".into(),
            families: vec!["uffdwp_faults_total".into()],
            missed: None,
        }
    }

    #[test]
    fn absent_and_estimated_hooks_say_why_and_what_they_affect() {
        let report = Report {
            level: Level::Partial,
            reason: "zap is absent".into(),
            hooks: vec![
                hook("do_wp_page", Some("fentry"), true),
                hook("zap", None, false),
            ],
            missing_capabilities: vec![MissingCapability {
                name: "CAP_PERFMON".into(),
                gives: "eBPF program that reads kernel memory".into(),
            }],
            advice: vec!["run as root".into()],
        };
        let text = Text(&report).to_string();
        let expected = "\
level partial: zap is absent
  do_wp_page  fentry  exact      writes to armed pages
  zap         absent  -          writes to armed pages
                the kernel has no such function
                affects uffdwp_faults_total
without CAP_PERFMON: no eBPF program that reads kernel memory
to do: run as root
";
        assert_eq!(text, expected);
    }
}
