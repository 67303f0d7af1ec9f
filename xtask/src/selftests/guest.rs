//! Reading what `guest.sh` told: runs of programs, and what the agent said between them.

use std::collections::BTreeMap;

use super::subtests::Subtests;

/// When a program ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the agent was started.
    Without,
    /// While it ran.
    Under,
    /// After it ended.
    After,
}

/// One run of one program.
#[derive(Debug)]
pub struct Run {
    /// When.
    pub phase: Phase,
    /// Its name.
    pub program: String,
    /// What it told.
    pub subtests: Subtests,
    /// Its exit status, if it ended.
    pub status: Option<i32>,
    /// How long it took, in seconds of the guest.
    pub seconds: f64,
    /// Its last lines.
    pub tail: Vec<String>,
}

/// Series of the node, by name and labels as the agent prints them.
pub type Counters = BTreeMap<String, f64>;

/// All that a guest told.
#[derive(Debug, Default)]
pub struct Session {
    /// In the order in which they ran.
    pub runs: Vec<Run>,
    /// For each program under the agent: its counters before and after.
    pub counters: BTreeMap<String, Vec<Counters>>,
    /// Whether the agent was ready, at first and at last.
    pub ready: Vec<bool>,
    /// What it said of why not.
    pub unready: Vec<String>,
    /// The agent's exit status.
    pub agent_status: Option<i32>,
    /// The agent's own log.
    pub agent_log: Vec<String>,
}

/// What starts a line of the script itself.
const MARK: &str = "@selftests ";

/// Lines of a program kept for a failure.
const TAIL: usize = 8;

impl Session {
    /// Reads the lines of a guest.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut session = Self::default();
        let mut head: Vec<&str> = Vec::new();
        let mut body: Vec<&str> = Vec::new();
        for line in lines {
            // A program that dies may leave its last line without an end.
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

    /// Takes what stood between the marks `head` and `next`.
    fn section(&mut self, head: &[&str], body: &[&str], next: &[&str]) {
        match *head {
            ["run", phase, program, began] => {
                let phase = match phase {
                    "without" => Phase::Without,
                    "under" => Phase::Under,
                    _ => Phase::After,
                };
                let (status, ended) = match *next {
                    ["ended", status, ended] => (status.parse().ok(), ended.parse().ok()),
                    _ => (None, None),
                };
                let began: Option<f64> = began.parse().ok();
                let tail = &body[body.len().saturating_sub(TAIL)..];
                self.runs.push(Run {
                    phase,
                    program: program.to_owned(),
                    subtests: Subtests::read(body.iter().copied()),
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
    pub fn run(&self, phase: Phase, program: &str) -> Option<&Run> {
        self.runs
            .iter()
            .find(|run| run.phase == phase && run.program == program)
    }

    /// What each series gained while `program` ran under the agent.
    pub fn gained(&self, program: &str) -> Counters {
        let Some([before, after]) = self.counters.get(program).map(Vec::as_slice) else {
            return Counters::new();
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
        let session = Session::read(SESSION.lines());
        let run = session.run(Phase::Without, "t").unwrap();
        assert_eq!((run.status, run.seconds), (Some(0), 2.25));
        assert!(run.subtests.complete);
        let run = session.run(Phase::Under, "t").unwrap();
        assert_eq!(run.status, Some(1));
        assert_eq!(run.tail.last().unwrap(), "ERROR: dies");
        let run = session.run(Phase::After, "t").unwrap();
        assert_eq!(run.status, None, "the guest ended in it");
    }

    #[test]
    fn what_the_agent_said_is_kept() {
        let session = Session::read(SESSION.lines());
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
