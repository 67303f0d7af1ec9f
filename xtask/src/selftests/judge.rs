//! Decides whether the agent changed anything; pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::discriminant,
};

use super::{
    KernelSelftest,
    guest::{AgentPhase, NodeCounters, SelftestRun, SelftestSession},
    subtests::SubtestResult,
};

/// The verdict on the agent in one guest.
#[derive(Debug, Default)]
pub struct AgentJudgement {
    pub(super) programs: Vec<ProgramJudgement>,
    /// What is wrong with the agent itself.
    agent: Vec<String>,
}

/// What one program did without, under and after the agent, and what is wrong with that.
#[derive(Debug)]
pub(super) struct ProgramJudgement {
    pub(super) name: &'static str,
    /// For each run: how many sub-tests passed, failed and were skipped, and its seconds.
    pub(super) runs: Vec<(AgentPhase, [usize; 3], f64)>,
    /// The sub-tests that did not pass without the agent, by how and why.
    pub(super) remarks: BTreeMap<String, Vec<String>>,
    pub(super) gained: NodeCounters,
    wrong: Vec<String>,
}

impl AgentJudgement {
    /// Judges `programs` by what `session` reports.
    pub fn new<'a>(
        session: &SelftestSession,
        programs: impl IntoIterator<Item = &'a KernelSelftest>,
    ) -> Self {
        Self {
            programs: programs
                .into_iter()
                .map(|program| ProgramJudgement::new(session, program))
                .collect(),
            agent: agent(session),
        }
    }

    /// For each program and for the agent, what is wrong: nothing if all is well.
    pub fn verdicts(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        self.programs
            .iter()
            .map(|program| (program.name, program.wrong.as_slice()))
            .chain([("agent", self.agent.as_slice())])
    }

    /// Whether the agent changed nothing and stayed ready.
    pub fn is_good(&self) -> bool {
        self.verdicts().all(|(_, wrong)| wrong.is_empty())
    }
}

impl ProgramJudgement {
    fn new(session: &SelftestSession, program: &KernelSelftest) -> Self {
        let name = program.name;
        let mut runs = Vec::new();
        let mut wrong = Vec::new();
        for phase in [AgentPhase::Without, AgentPhase::Under, AgentPhase::After] {
            let run = session.run(phase, name);
            if let Some(run) = run {
                runs.push((phase, run.subtests.counts(), run.seconds));
            }
            wrong.extend(broken_off(run).map(|how| format!("{} {how}", phase.words())));
        }
        let without = session.run(AgentPhase::Without, name);
        for phase in [AgentPhase::Under, AgentPhase::After] {
            if let (Some(without), Some(run)) = (without, session.run(phase, name)) {
                wrong.extend(differences(without, run));
            }
        }
        let gained = session.gained(name);
        if session.run(AgentPhase::Under, name).is_some() {
            let silent = |series: &&&str| !gained.get(**series).is_some_and(|gain| *gain > 0.0);
            for series in program.counted.iter().filter(silent) {
                wrong.push(format!("the agent counted nothing in {series}"));
            }
        }
        Self {
            name,
            runs,
            remarks: without.map(remarks).unwrap_or_default(),
            gained,
            wrong,
        }
    }
}

impl AgentPhase {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Without => "without the agent",
            Self::Under => "under the agent",
            Self::After => "after the agent",
        }
    }
}

/// How a run broke off, if it did. Such a run proves nothing.
fn broken_off(run: Option<&SelftestRun>) -> Option<String> {
    let Some(run) = run else {
        return Some("it did not run".to_owned());
    };
    let Some(status) = run.status else {
        return Some(format!("it did not end:\n{}", run.tail.join("\n")));
    };
    let [_, failed, _] = run.subtests.counts();
    if run.subtests.complete && (status == 0) == (failed == 0) {
        return None;
    }
    Some(format!(
        "it broke off with status {status} after {} sub-tests:\n{}",
        run.subtests.all.len(),
        run.tail.join("\n")
    ))
}

/// The sub-tests that ended differently in `run` and `without` the agent.
fn differences(without: &SelftestRun, run: &SelftestRun) -> Vec<String> {
    let all = without.subtests.all.iter().chain(&run.subtests.all);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for subtest in all.filter(|subtest| seen.insert(&subtest.key)) {
        let ends = [without, run].map(|run| run.subtests.get(&subtest.key).map(|s| &s.result));
        if ends[0].map(discriminant) != ends[1].map(discriminant) {
            found.push(format!(
                "{:?} {} {}, and {} {}",
                subtest.name,
                words(ends[0]),
                AgentPhase::Without.words(),
                words(ends[1]),
                run.phase.words()
            ));
        }
    }
    found
}

fn words(end: Option<&SubtestResult>) -> String {
    let (verb, why) = match end {
        None => ("is missing", ""),
        Some(SubtestResult::Passed) => ("passed", ""),
        Some(SubtestResult::Failed(why)) => ("failed", why.as_str()),
        Some(SubtestResult::Skipped(why)) => ("skipped", why.as_str()),
    };
    if why.is_empty() {
        verb.to_owned()
    } else {
        format!("{verb} ({why})")
    }
}

/// The sub-tests that failed or were skipped in `run`, by how and why.
fn remarks(run: &SelftestRun) -> BTreeMap<String, Vec<String>> {
    let mut remarks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for subtest in &run.subtests.all {
        if subtest.result != SubtestResult::Passed {
            let how = words(Some(&subtest.result));
            remarks.entry(how).or_default().push(subtest.name.clone());
        }
    }
    remarks
}

/// What is wrong with the agent itself.
fn agent(session: &SelftestSession) -> Vec<String> {
    let mut wrong = Vec::new();
    let said = session.unready.join("\n");
    match *session.ready {
        [true, true] => {}
        [true, false] => wrong.push(format!("it is no longer ready at level full:\n{said}")),
        [true] => wrong.push("it was not asked for its readiness again".to_owned()),
        _ => wrong.push(format!("it did not become ready at level full:\n{said}")),
    }
    if session.agent_status != Some(0) {
        let status = session.agent_status.map_or_else(
            || "is unknown".to_owned(),
            |status| format!("is {status} after SIGTERM"),
        );
        wrong.push(format!(
            "its exit status {status}:\n{}",
            session.agent_log.join("\n")
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: KernelSelftest = KernelSelftest {
        name: "t",
        sources: &[],
        one_cpu: false,
        counted: &["uffdwp_node_a"],
    };

    /// A session in which `t` prints the given lines and ends with the given status, each time.
    fn session(runs: [(&str, i32); 3], counted: u32, rest: &str) -> SelftestSession {
        let [without, under, after] = runs;
        let run = |phase: &str, (output, status): (&str, i32)| {
            format!("@selftests run {phase} t 1\n{output}\n@selftests ended {status} 2\n")
        };
        let text = format!(
            "{}@selftests metrics t\nuffdwp_node_a 1\n@selftests end\n{}\
             @selftests metrics t\nuffdwp_node_a {}\n@selftests end\n{rest}{}",
            run("without", without),
            run("under", under),
            1 + counted,
            run("after", after),
        );
        SelftestSession::read(text.lines())
    }

    const WELL: &str =
        "@selftests ready before yes\n@selftests ready after yes\n@selftests stopped 0\n";

    fn wrong(session: &SelftestSession) -> Vec<String> {
        let judgement = AgentJudgement::new(session, [&PROGRAM]);
        let all: Vec<String> = judgement
            .verdicts()
            .flat_map(|(_, wrong)| wrong.to_vec())
            .collect();
        assert_eq!(judgement.is_good(), all.is_empty());
        all
    }

    const GOOD: (&str, i32) = ("1..2\nok 1 a\nok 2 b", 0);
    const BAD: (&str, i32) = ("1..2\nok 1 a\nnot ok 2 b", 1);

    #[test]
    fn the_same_ends_are_good_even_bad_ones() {
        assert!(wrong(&session([GOOD; 3], 5, WELL)).is_empty());
        assert!(wrong(&session([BAD; 3], 5, WELL)).is_empty());
    }

    #[test]
    fn a_different_end_is_told_with_both() {
        let found = wrong(&session([GOOD, BAD, GOOD], 5, WELL));
        assert_eq!(
            found,
            ["\"b\" passed without the agent, and failed under the agent"]
        );
        // Also the other way round: it is a change, too.
        assert_eq!(wrong(&session([BAD, GOOD, BAD], 5, WELL)).len(), 1);
        assert_eq!(wrong(&session([GOOD, GOOD, BAD], 5, WELL)).len(), 1);
        let skipped = ("1..2\nok 1 a\nok 2 # SKIP b", 0);
        assert_eq!(wrong(&session([GOOD, skipped, GOOD], 5, WELL)).len(), 1);
    }

    #[test]
    fn a_run_that_breaks_off_proves_nothing_even_alike() {
        let short = ("1..2\nok 1 a\nERROR: out of memory", 1);
        let found = wrong(&session([short; 3], 5, WELL));
        assert_eq!(found.len(), 3);
        assert!(found[0].contains("status 1") && found[0].contains("out of memory"));
        let liar = ("1..2\nok 1 a\nok 2 b", 139);
        assert_eq!(wrong(&session([GOOD, liar, GOOD], 5, WELL)).len(), 1);
    }

    #[test]
    fn an_agent_that_saw_nothing_is_told() {
        let found = wrong(&session([GOOD; 3], 0, WELL));
        assert_eq!(found, ["the agent counted nothing in uffdwp_node_a"]);
    }

    #[test]
    fn the_agents_own_troubles_are_told() {
        let unready = "@selftests ready before yes\n@selftests ready after no\nlevel partial\n\
                       @selftests stopped 0\n";
        let found = wrong(&session([GOOD; 3], 5, unready));
        assert!(found[0].contains("no longer") && found[0].contains("level partial"));
        let died = "@selftests ready before yes\n@selftests ready after yes\n\
                    @selftests stopped 139\nlast words\n";
        let found = wrong(&session([GOOD; 3], 5, died));
        assert!(found[0].contains("139") && found[0].contains("last words"));
        // Three runs that did not take place, an agent that was not ready and did not end.
        assert_eq!(wrong(&SelftestSession::default()).len(), 5);
    }
}
