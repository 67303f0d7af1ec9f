//! Reads the output of `guest.sh`: runs of the programs, and what the agent said between them.

use std::collections::BTreeMap;

use super::subtests::SubtestLog;

/// When a program ran: before, under or after the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentPhase {
    /// Before the agent started.
    Without,
    /// While the agent ran.
    Under,
    /// After the agent ended.
    After,
}

/// One run of one program.
#[derive(Debug)]
pub struct SelftestRun {
    /// When it ran.
    pub phase: AgentPhase,
    /// Name of the program.
    pub program: String,
    /// What it reported.
    pub subtests: SubtestLog,
    /// Its exit status; `None` if it did not end.
    pub status: Option<i32>,
    /// How long it took, by the guest's clock.
    pub seconds: f64,
    /// The last lines of its output.
    pub tail: Vec<String>,
}

/// Values of the node's series, by name and labels as the agent prints them.
pub type NodeCounters = BTreeMap<String, f64>;

/// All that the guest's script reported.
#[derive(Debug, Default)]
pub struct SelftestSession {
    /// The runs in their order.
    pub runs: Vec<SelftestRun>,
    /// For each program under the agent, the counters before and after it.
    pub counters: BTreeMap<String, Vec<NodeCounters>>,
    /// Whether the agent was ready, at the start and at the end.
    pub ready: Vec<bool>,
    /// Why it was not ready.
    pub unready: Vec<String>,
    /// The agent's exit status.
    pub agent_status: Option<i32>,
    /// The log of the agent.
    pub agent_log: Vec<String>,
}

/// Marks the lines of the script itself.
const MARK: &str = "@selftests ";

/// How many of a program's last lines are kept to explain a failure.
const TAIL: usize = 8;

impl SelftestSession {
    /// Reads the lines that the guest printed.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut session = Self::default();
        let mut head: Vec<&str> = Vec::new();
        let mut body: Vec<&str> = Vec::new();
        for line in lines {
            // A program that dies may leave its last line unfinished.
            let (before, mark) = match line.split_once(MARK) {
                Some((before, mark)) => (before, Some(mark)),
                None => (line, None),
            };
            if mark.is_none() || !before.is_empty() {
                body.push(before);
            }
            if let Some(mark) = mark {
                let mark: Vec<&str> = mark.split(' ').collect();
                session.section(&head, &body, &mark);
                (head, body) = (mark, Vec::new());
            }
        }
        session.section(&head, &body, &[]);
        session
    }

    /// Takes the lines between the marks `head` and `next`.
    fn section(&mut self, head: &[&str], body: &[&str], next: &[&str]) {
        match *head {
            ["run", phase, program, began] => {
                let phase = match phase {
                    "without" => AgentPhase::Without,
                    "under" => AgentPhase::Under,
                    _ => AgentPhase::After,
                };
                let (status, ended) = match *next {
                    ["ended", status, ended] => (status.parse().ok(), ended.parse().ok()),
                    _ => (None, None),
                };
                let began: Option<f64> = began.parse().ok();
                let tail = &body[body.len().saturating_sub(TAIL)..];
                self.runs.push(SelftestRun {
                    phase,
                    program: program.to_owned(),
                    subtests: SubtestLog::read(body.iter().copied()),
                    status,
                    seconds: ended
                        .zip(began)
                        .map_or(0.0, |(to, from): (f64, f64)| to - from),
                    tail: tail.iter().map(|line| (*line).to_owned()).collect(),
                });
            }
            ["metrics", program] => {
                let counters = body.iter().filter_map(|line| {
                    let (series, value) = line.rsplit_once(' ')?;
                    Some((series.to_owned(), value.parse().ok()?))
                });
                let scrapes = self.counters.entry(program.to_owned()).or_default();
                scrapes.push(counters.collect());
            }
            ["ready", _, answer] => {
                self.ready.push(answer == "yes");
                self.unready
                    .extend(body.iter().map(|line| (*line).to_owned()));
            }
            ["stopped", status] => {
                self.agent_status = status.parse().ok();
                self.agent_log = body.iter().map(|line| (*line).to_owned()).collect();
            }
            _ => {}
        }
    }

    /// The run of `program` in `phase`.
    pub fn run(&self, phase: AgentPhase, program: &str) -> Option<&SelftestRun> {
        self.runs
            .iter()
            .find(|run| run.phase == phase && run.program == program)
    }

    /// How much each series grew while `program` ran under the agent.
    pub fn gained(&self, program: &str) -> NodeCounters {
        let Some([before, after]) = self.counters.get(program).map(Vec::as_slice) else {
            return NodeCounters::new();
        };
        let gained = |(series, value): (&String, &f64)| {
            let before = before.get(series).copied().unwrap_or(0.0);
            (series.clone(), value - before)
        };
        after.iter().map(gained).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const SESSION: &str = "\
@selftests run without t 1.50
1..1
ok 1 a
@selftests ended 0 3.75
@selftests ready before yes
@selftests metrics t
uffdwp_node_faults_total{mode=\"sync\",entry=\"pte\"} 2
@selftests end
@selftests run under t 10.00
1..1
ERROR: dies@selftests ended 1 11.00
@selftests metrics t
uffdwp_node_faults_total{mode=\"sync\",entry=\"pte\"} 7
uffdwp_level{level=\"full\"} 1
@selftests end
@selftests ready after no
level partial
@selftests stopped 0
a log
@selftests end
@selftests run after t 20.00
1..1
";

    #[test]
    fn runs_are_told_apart() {
        let session = SelftestSession::read(SESSION.lines());
        let run = session.run(AgentPhase::Without, "t").unwrap();
        assert_eq!((run.status, run.seconds), (Some(0), 2.25));
        assert!(run.subtests.complete);
        let run = session.run(AgentPhase::Under, "t").unwrap();
        assert_eq!(run.status, Some(1));
        assert_eq!(run.tail.last().unwrap(), "ERROR: dies");
        let run = session.run(AgentPhase::After, "t").unwrap();
        assert_eq!(run.status, None, "the guest ended in it");
    }

    #[test]
    fn what_the_agent_said_is_kept() {
        let session = SelftestSession::read(SESSION.lines());
        let gained = session.gained("t");
        let faults = r#"uffdwp_node_faults_total{mode="sync",entry="pte"}"#;
        assert_eq!(gained[faults], 5.0);
        assert_eq!(session.ready, [true, false]);
        assert_eq!(session.unready, ["level partial"]);
        assert_eq!(
            (session.agent_status, session.agent_log.len()),
            (Some(0), 1)
        );
        assert!(session.gained("other").is_empty());
    }
}
