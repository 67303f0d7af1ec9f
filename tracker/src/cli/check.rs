//! `tracker check`: what this kernel and this privilege can do, hook by hook and strategy by strategy, and why not.
//!
//! It attaches everything, as the agent would, and detaches it again, and has every strategy track a scratch mapping:
//! the kernel's own answers.

use super::agent::{HookArgs, LevelArg};
use super::causes::Causes;
use super::exit::UNABLE;
use super::output::print;
use super::probes;
use super::strategies::Strategies;
use crate::probes::ProbeLevel;
use crate::probes::{CountReport, HookReport, ProbeReport};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
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
    #[arg(long, env = "TRACKER_REQUIRE_LEVEL", value_enum)]
    #[arg(default_value = "observe", value_name = "LEVEL")]
    require_level: LevelArg,
}

/// Prints the report; status 3 if the level required is not reached.
///
/// # Errors
/// If a flag names an unknown hook or mechanism.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let check = Check {
        report: ProbeReport::of(&probes::attach(&args.hooks)?),
        causes: Causes::find(),
        strategies: Strategies::find(),
    };
    let text = if args.json {
        serde_json::to_string_pretty(&check)? + "\n"
    } else {
        format!(
            "{}{}{}",
            Text(&check.report),
            CausesText(&check.causes),
            check.strategies
        )
    };
    print(&text)?;
    let enough = check.report.level >= ProbeLevel::from(args.require_level);
    Ok(if enough {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNABLE)
    })
}

/// All that is printed.
#[derive(Serialize)]
struct Check {
    #[serde(flatten)]
    report: ProbeReport,
    causes: Causes,
    strategies: Strategies,
}

/// The report for people.
struct Text<'a>(&'a ProbeReport);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.0;
        writeln!(f, "level {}: {}", report.level.as_str(), report.reason)?;
        hooks(f, &report.hooks)?;
        writeln!(f, "\ncounts")?;
        report
            .counts
            .iter()
            .try_for_each(|count| count_line(f, count))?;
        if !report.missing_capabilities.is_empty() {
            writeln!(f, "\nmissing capabilities")?;
        }
        for missing in &report.missing_capabilities {
            writeln!(f, "  {}: needed to {}", missing.name, missing.needed_to)?;
        }
        if !report.advice.is_empty() {
            writeln!(f, "\nto see more")?;
        }
        report
            .advice
            .iter()
            .try_for_each(|advice| writeln!(f, "  {advice}"))
    }
}

/// The causes for people.
struct CausesText<'a>(&'a Causes);

impl fmt::Display for CausesText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Causes {
            level,
            reason,
            hooks: all,
        } = self.0;
        let level = level.as_str();
        writeln!(
            f,
            "\ncauses that `tracker explain` sees: level {level}: {reason}"
        )?;
        hooks(f, all)
    }
}

/// Those attached first; the others by reason, because one reason often stops many.
fn hooks(f: &mut Formatter<'_>, hooks: &[HookReport]) -> fmt::Result {
    let width = hooks
        .iter()
        .map(|hook| hook.name.len())
        .max()
        .unwrap_or_default();
    let (attached, others): (Vec<_>, Vec<_>) =
        hooks.iter().partition(|hook| hook.mechanism.is_some());
    if !attached.is_empty() {
        writeln!(f, "\nhooks attached")?;
    }
    for hook in attached {
        let (how, function) = (hook.mechanism.unwrap_or_default(), hook.function.as_deref());
        write!(
            f,
            "  {:width$}  {how:10}  {}",
            hook.name,
            function.unwrap_or_default()
        )?;
        let reason = Some(&hook.reason).filter(|reason| *reason != "first choice");
        reason
            .iter()
            .try_for_each(|reason| write!(f, "; {reason}"))?;
        writeln!(f)?;
    }
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for hook in others {
        let reason = (hook.verdict, &hook.reason);
        groups.entry(reason).or_default().push(hook);
    }
    let (shared, own): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|(_, hooks)| hooks.len() > 1);
    for ((verdict, reason), hooks) in shared {
        writeln!(f, "\nhooks {}: {reason}", verdict.replace('-', " "))?;
        for hook in hooks {
            writeln!(f, "  {:width$}  {}", hook.name, hook.without)?;
        }
    }
    if !own.is_empty() {
        writeln!(f, "\nhooks with reasons of their own")?;
    }
    for hook in own.into_iter().flat_map(|(_, hooks)| hooks) {
        let verdict = hook.verdict.replace('-', " ");
        writeln!(
            f,
            "  {:width$}  {verdict}: {}; {}",
            hook.name, hook.reason, hook.without
        )?;
    }
    Ok(())
}

fn count_line(f: &mut Formatter<'_>, count: &CountReport) -> fmt::Result {
    let family = count.families.first().copied().unwrap_or_default();
    write!(f, "  {:9}  {family} {}", count.exactness, count.part)?;
    count
        .reason
        .iter()
        .try_for_each(|reason| write!(f, ": {reason}"))?;
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::MissingCapability;

    fn hook(name: &str, mechanism: Option<&'static str>) -> HookReport {
        HookReport {
            name: name.into(),
            subject: "faults".into(),
            verdict: if mechanism.is_some() {
                "attached"
            } else {
                "absent"
            },
            mechanism,
            function: mechanism.map(|_| name.into()),
            reason: if mechanism.is_some() {
                "first choice"
            } else {
                "it was renamed"
            }
            .into(),
            without: "async faults at ptes",
            missed: None,
        }
    }

    #[test]
    fn absent_hooks_and_estimates_say_why() {
        let exit = HookReport {
            reason: "it is of no use without the hook fork".into(),
            ..hook("fork_exit", None)
        };
        let report = ProbeReport {
            level: ProbeLevel::Partial,
            reason: "without zap: it was renamed".into(),
            hooks: vec![
                hook("do_wp_page", Some("fentry")),
                hook("zap", None),
                hook("split", None),
                exit,
            ],
            counts: vec![CountReport {
                families: &["uffdwp_markers_total"],
                part: "event=installed".into(),
                exactness: "estimated",
                reason: Some("it is inlined".into()),
            }],
            missing_capabilities: vec![MissingCapability {
                name: "CAP_PERFMON",
                needed_to: "attach BPF programs",
            }],
            advice: vec!["run as root".into()],
        };
        let expected = "\
level partial: without zap: it was renamed

hooks attached
  do_wp_page  fentry      do_wp_page

hooks absent: it was renamed
  zap         async faults at ptes
  split       async faults at ptes

hooks with reasons of their own
  fork_exit   absent: it is of no use without the hook fork; async faults at ptes

counts
  estimated  uffdwp_markers_total event=installed: it is inlined

missing capabilities
  CAP_PERFMON: needed to attach BPF programs

to see more
  run as root
";
        assert_eq!(Text(&report).to_string(), expected);
    }
}
