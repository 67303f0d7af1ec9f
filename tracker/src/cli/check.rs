//! `tracker check`: what can be done with this kernel and this privilege, hook by hook and strategy
//! by strategy, and why not more.
//!
//! It asks the kernel itself: it attaches everything as the agent would and detaches it again, has
//! several threads make the hooks fire at once, looks for processes as the agent would, and has
//! every strategy track a scratch mapping.

use super::agent::{HookArgs, LevelArg};
use super::causes::CauseHooks;
use super::exit::UNABLE;
use super::output::{CommandOutputs, MakeWhole, OutputArgs, OutputEntry, PrintTarget};
use super::probes;
use super::strategies::StrategyReport;
use crate::agent::http::HttpLimits;
use crate::agent::{self, AgentError, DiscoveryState, RoomNeed};
use crate::metrics::{CountReport, counts};
use crate::print::format;
use crate::probes::{CROWD, Hook, HookReport, HookState, HookVerdict, ProbeLevel, ProbeReport};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::process::ExitCode;

/// The flags of `tracker check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    outputs: OutputArgs<CheckOutputs>,
    #[command(flatten)]
    hooks: HookArgs,
    /// End with status 3 below this level
    #[arg(long, env = "TRACKER_REQUIRE_LEVEL", value_enum)]
    #[arg(default_value = "observe", value_name = "LEVEL")]
    require_level: LevelArg,
}

/// Prints the report; the status is 3 if the required level is not reached, or no process can be
/// seen: an agent would not be ready.
///
/// # Errors
/// If a flag names an unknown hook or mechanism.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    agent::claim(RoomNeed::of(HttpLimits::default(), 0, true)).map_err(AgentError::from)?;
    agent::tell_of_memory();
    let (report, counts, processes) = {
        let mut attached = probes::attach(&args.hooks)?;
        let mut report = ProbeReport::of(&attached);
        report.note_missed(&attached.misses_in_a_crowd());
        let availability = attached.availability.clone();
        let counts = counts(&availability.less_missed(|hook| report.missed(hook)));
        (report, counts, agent::see_processes(&mut attached))
    };
    let check = CheckResults {
        report,
        counts,
        processes,
        causes: CauseHooks::find(),
        strategies: StrategyReport::find(),
    };
    args.outputs.print(&check, PrintTarget::Ours)?;
    let enough = check.report.level >= ProbeLevel::from(args.require_level);
    Ok(if enough && check.processes.blindness().is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNABLE)
    })
}

/// What `tracker check` can show.
struct CheckOutputs;

impl CommandOutputs for CheckOutputs {
    type OutputMaker = MakeWhole<CheckResults>;

    const OUTPUTS: &'static [OutputEntry<MakeWhole<CheckResults>>] = &[
        OutputEntry {
            format: &format::TEXT,
            help: "",
            make: |check| Ok(check.text().into_bytes()),
        },
        OutputEntry {
            format: &format::JSON,
            help: "Print JSON",
            make: |check| Ok((serde_json::to_string_pretty(check)? + "\n").into_bytes()),
        },
    ];
}

/// All that is printed.
#[derive(Serialize)]
struct CheckResults {
    #[serde(flatten)]
    report: ProbeReport,
    counts: Vec<CountReport>,
    processes: DiscoveryState,
    causes: CauseHooks,
    strategies: StrategyReport,
}

impl CheckResults {
    fn text(&self) -> String {
        let report = ReportText(&self.report, &self.counts);
        format!(
            "{report}{}{}{}",
            ProcessesText(&self.processes),
            CauseHooksText(&self.causes),
            self.strategies
        )
    }
}

/// The report for people.
struct ReportText<'a>(&'a ProbeReport, &'a [CountReport]);

impl fmt::Display for ReportText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(report, counts) = self;
        writeln!(f, "level {}: {}", report.level.as_str(), report.reason)?;
        hooks(f, &report.hooks)?;
        writeln!(f, "\ncounts")?;
        counts.iter().try_for_each(|count| count_line(f, count))?;
        if report.level > ProbeLevel::Observe {
            writeln!(
                f,
                "  exact is what missed nothing while {CROWD} threads made the hooks fire at once; what \
                 an agent\n  misses later is in uffdwp_probe_missed_total"
            )?;
        }
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

/// What an agent would see of processes, for people.
struct ProcessesText<'a>(&'a DiscoveryState);

impl fmt::Display for ProcessesText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(state) = self;
        if let Some(failure) = &state.failure {
            return writeln!(f, "\nprocesses: none can be seen: {failure}");
        }
        let (seen, refused) = (state.processes, state.refused);
        let all = if state.sees_all {
            "; the VMAs of those are seen nevertheless"
        } else {
            ""
        };
        let refusals = if refused == 0 {
            "none refused".to_owned()
        } else {
            format!("{refused} refused{all}")
        };
        writeln!(f, "\nprocesses: {seen} seen by {}, {refusals}", state.route)?;
        for (reason, first) in &state.first_refusals {
            let count = state.refused_by_reason.get(reason).unwrap_or(&0);
            writeln!(f, "  {reason:13}  {count}; the first: {first}")?;
        }
        state
            .fallen_back
            .iter()
            .try_for_each(|why| writeln!(f, "  not by the iterator: {why}"))
    }
}

/// The causes for people.
struct CauseHooksText<'a>(&'a CauseHooks);

impl fmt::Display for CauseHooksText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let CauseHooks {
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

/// Attached hooks first, then the others by reason, since one reason often stops many.
fn hooks(f: &mut Formatter<'_>, hooks: &[HookReport]) -> fmt::Result {
    let width = hooks.iter().map(|hook| hook.plan.hook.name().len()).max();
    let width = width.unwrap_or_default();
    let (attached, others): (Vec<&HookReport>, Vec<_>) =
        hooks.iter().partition(|hook| hook.plan.program().is_some());
    if !attached.is_empty() {
        writeln!(f, "\nhooks attached")?;
    }
    for hook in attached {
        attached_line(f, hook, width)?;
    }
    let mut groups: BTreeMap<_, Vec<&Hook>> = BTreeMap::new();
    for HookReport { plan, .. } in others {
        let reason = (plan.verdict.as_str().replace('-', " "), plan.reason());
        groups.entry(reason).or_default().push(plan.hook);
    }
    let (shared, own): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|(_, hooks)| hooks.len() > 1);
    for ((verdict, reason), hooks) in shared {
        writeln!(f, "\nhooks {verdict}: {reason}")?;
        for hook in hooks {
            writeln!(f, "  {:width$}  {}", hook.name(), hook.without)?;
        }
    }
    if !own.is_empty() {
        writeln!(f, "\nhooks with reasons of their own")?;
    }
    for ((verdict, reason), hooks) in own {
        for hook in hooks {
            let (name, without) = (hook.name(), hook.without);
            writeln!(f, "  {name:width$}  {verdict}: {reason}; {without}")?;
        }
    }
    Ok(())
}

fn attached_line(f: &mut Formatter<'_>, hook: &HookReport, width: usize) -> fmt::Result {
    let HookReport {
        plan,
        state,
        missed,
    } = hook;
    let HookVerdict::Attach {
        program,
        function,
        instead_of,
    } = &plan.verdict
    else {
        return Ok(());
    };
    let (name, mechanism) = (plan.hook.name(), program.mechanism.as_str());
    write!(f, "  {name:width$}  {mechanism:10}  {function}")?;
    if !instead_of.is_empty() {
        write!(f, "; {}", plan.verdict)?;
    }
    match state {
        Some(HookState::NotProven(gap)) => write!(f, "; not proven that it fires: {gap}")?,
        Some(HookState::Partly { seen, done }) => write!(f, "; it fired {seen} of {done} times")?,
        Some(HookState::Firing | HookState::Silent) | None => {}
    }
    if let Some(missed @ 1..) = missed {
        write!(f, "; missed {missed} events of several threads at once")?;
    }
    writeln!(f)
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
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::probes::verdict::HookObstacle;
    use crate::probes::{HOOKS, HookId, HookPlan, MissingCapability};

    fn report_of(id: HookId, verdict: impl FnOnce(&'static Hook) -> HookVerdict) -> HookReport {
        let hook = HOOKS.iter().find(|hook| hook.id == id).unwrap();
        let verdict = verdict(hook);
        HookPlan { hook, verdict }.into()
    }

    #[test]
    fn absent_hooks_and_estimates_say_why() {
        let attached = |hook: &'static Hook| HookVerdict::Attach {
            program: &hook.programs[0],
            function: hook.functions[0],
            instead_of: Vec::new(),
        };
        let renamed = |_| HookVerdict::Absent(HookObstacle::Renamed("f", ".isra.0".to_owned()));
        let alone = |_| HookVerdict::Absent(HookObstacle::Alone(HookId::fork));
        let report = ProbeReport {
            level: ProbeLevel::Partial,
            reason: "without zap: it was renamed".into(),
            hooks: vec![
                HookReport {
                    missed: Some(3),
                    ..report_of(HookId::do_wp_page, attached)
                },
                report_of(HookId::zap, renamed),
                report_of(HookId::marks, renamed),
                report_of(HookId::fork_exit, alone),
            ],
            missing_capabilities: vec![MissingCapability {
                name: "CAP_PERFMON",
                needed_to: "attach BPF programs",
            }],
            advice: vec!["run as root".into()],
        };
        let counts = [CountReport {
            families: vec!["uffdwp_markers_total"],
            part: "event=installed".into(),
            exactness: "estimated",
            reason: Some("it is inlined".into()),
        }];
        let expected = "\
level partial: without zap: it was renamed

hooks attached
  do_wp_page  fentry      do_wp_page; missed 3 events of several threads at once

hooks absent: f was renamed to f.isra.0 in this kernel
  zap         markers that unmapping drops, or makes of armed pages of files
  marks       markers that arming makes of empty entries, and that disarming drops

hooks with reasons of their own
  fork_exit   absent: it is of no use without the hook fork; which tables fork allocates

counts
  estimated  uffdwp_markers_total event=installed: it is inlined
  exact is what missed nothing while 8 threads made the hooks fire at once; what an agent
  misses later is in uffdwp_probe_missed_total

missing capabilities
  CAP_PERFMON: needed to attach BPF programs

to see more
  run as root
";
        assert_eq!(ReportText(&report, &counts).to_string(), expected);
    }
}
