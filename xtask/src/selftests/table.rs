//! The judgement as tables for a developer.

use std::{collections::BTreeSet, fmt};

use super::{guest::NodeCounters, judge::AgentJudgement};

impl fmt::Display for AgentJudgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_runs(f)?;
        self.write_remarks(f)?;
        self.write_counted(f)?;
        writeln!(f)?;
        if self.is_good() {
            return writeln!(
                f,
                "every sub-test ended under the agent as without it; the agent stayed ready at \
                 level full"
            );
        }
        for (name, wrong) in self.verdicts() {
            for what in wrong {
                let what = what.trim_end().replace('\n', "\n    | ");
                writeln!(f, "WRONG {name}: {what}")?;
            }
        }
        Ok(())
    }
}

impl AgentJudgement {
    fn write_runs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:<18} {:>7} {:>7} {:>8} {:>8}",
            "PROGRAM", "RUN", "PASSED", "FAILED", "SKIPPED", "SECONDS"
        )?;
        for program in &self.programs {
            for (phase, [passed, failed, skipped], seconds) in &program.runs {
                writeln!(
                    f,
                    "{:<16} {:<18} {passed:>7} {failed:>7} {skipped:>8} {seconds:>8.1}",
                    program.name,
                    phase.words()
                )?;
            }
        }
        Ok(())
    }

    /// What did not pass without the agent, so not because of it.
    fn write_remarks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for program in &self.programs {
            for (how, names) in &program.remarks {
                let count = names.len();
                writeln!(f, "\n{} without the agent: {count} {how}", program.name)?;
                for line in grouped(names) {
                    writeln!(f, "    {line}")?;
                }
            }
        }
        Ok(())
    }

    /// What the agent counted while each program ran, without zeroes.
    fn write_counted(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEAD: &str = "COUNTED BY THE AGENT";
        let grew = |gained: &NodeCounters| -> Vec<String> {
            gained
                .iter()
                .filter(|(_, value)| **value > 0.0)
                .map(|(series, _)| series.clone())
                .collect()
        };
        let series: BTreeSet<String> = self
            .programs
            .iter()
            .flat_map(|program| grew(&program.gained))
            .collect();
        if series.is_empty() {
            return Ok(());
        }
        let widest = series.iter().map(String::len).fold(HEAD.len(), usize::max);
        write!(f, "\n{HEAD:<widest$}")?;
        for program in &self.programs {
            write!(f, " {:>16}", program.name)?;
        }
        writeln!(f)?;
        for series in series {
            write!(f, "{series:<widest$}")?;
            for program in &self.programs {
                let gained = program.gained.get(&series).copied().unwrap_or(0.0);
                write!(f, " {gained:>16}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Names as lines; `a on x` followed by `a on y` become `a on x, y`.
fn grouped(names: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut last = None;
    for name in names {
        let parts = name.split_once(" on ");
        match (parts, lines.last_mut()) {
            (Some((test, memory)), Some(line)) if last == Some(test) => {
                line.push_str(", ");
                line.push_str(memory);
            }
            _ => lines.push(name.clone()),
        }
        last = parts.map(|(test, _)| test);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::{KernelSelftest, guest::SelftestSession};
    use super::*;

    const SESSION: &str = "\
@selftests run without t 1.00
Testing a on anon... skipped [reason: no b]
Testing a on shmem... skipped [reason: no b]
Testing c on anon... done
Userfaults unit tests: pass=1, skip=2, fail=0 (total=3)
@selftests ended 0 2.50
@selftests metrics t
uffdwp_node_a 1
@selftests end
@selftests metrics t
uffdwp_node_a 6
uffdwp_level{level=\"full\"} 0
@selftests end
";

    #[test]
    fn it_shows_what_ran_what_did_not_pass_and_what_is_wrong() {
        const PROGRAM: KernelSelftest = KernelSelftest {
            name: "t",
            sources: &[],
            one_cpu: false,
            counted: &[],
        };
        let session = SelftestSession::read(SESSION.lines());
        let text = AgentJudgement::new(&session, [&PROGRAM]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "t                without the agent        1       0        2      1.5"
        );
        assert_eq!(
            lines[3..5],
            [
                "t without the agent: 2 skipped (no b)",
                "    a on anon, shmem"
            ]
        );
        assert!(lines[7].starts_with("uffdwp_node_a ") && lines[7].ends_with(" 5"));
        assert!(lines.contains(&"WRONG t: under the agent it did not run"));
        assert!(!text.contains("uffdwp_level"), "{text}");
    }

    #[test]
    fn only_neighbours_of_the_same_test_share_a_line() {
        let names = ["a on x", "a on y", "b on x", "c", "a on z"].map(str::to_owned);
        assert_eq!(grouped(&names), ["a on x, y", "b on x", "c", "a on z"]);
    }
}
