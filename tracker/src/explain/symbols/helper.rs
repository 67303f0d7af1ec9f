//! Has code named by a child, and goes on when that dies.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::naming::{NamedFrame, NamingAnswer, NamingModule, NamingRequest, NamingSource};

/// For how long all naming may go on.
const PATIENCE: Duration = Duration::from_secs(30);
/// For how long a child that was killed is waited for: what it waits for may never come.
const FAREWELL: Duration = Duration::from_secs(2);
/// The command that a child of ours is.
pub(crate) const COMMAND: &str = "name-code";

/// What names code.
#[derive(Clone, Debug)]
pub enum CodeNamer {
    /// This program, which is tracker, as a child.
    Program(PathBuf),
    /// This thread.
    #[cfg(test)]
    Here,
}

impl CodeNamer {
    /// The program that runs, as a child.
    #[must_use]
    pub fn own() -> Self {
        Self::Program(PathBuf::from("/proc/self/exe"))
    }
}

/// What is known of code, by module and address.
#[derive(Debug, Default)]
pub(super) struct CodeNames {
    names: HashMap<(usize, u64), Vec<NamedFrame>>,
    frameless: HashSet<(usize, u64)>,
}

impl CodeNames {
    pub(super) fn get(&self, place: (usize, u64)) -> Option<&Vec<NamedFrame>> {
        self.names.get(&place)
    }

    pub(super) fn is_frameless(&self, place: (usize, u64)) -> bool {
        self.frameless.contains(&place)
    }
}

/// Why what lies in a module has no names.
#[derive(Debug)]
pub(super) enum NamingFailure {
    /// The child died of it.
    Died(ExitStatus),
    /// It took too long.
    Late,
    /// Somebody ended it.
    Interrupted,
    /// There was no child.
    NoChild(io::Error),
}

impl fmt::Display for NamingFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Died(status) => {
                let why = match status.signal().map(Signal::from_named_raw) {
                    Some(Some(Signal::BUS)) => "the file became shorter while it was read",
                    Some(Some(Signal::ABORT)) => "it takes more memory than it should",
                    Some(Some(Signal::XCPU | Signal::KILL)) => "it takes longer than it should",
                    _ => "reading it failed",
                };
                write!(f, "{why} ({status})")
            }
            Self::Late => write!(f, "it takes longer than {} s", PATIENCE.as_secs()),
            Self::Interrupted => f.write_str("naming was interrupted"),
            Self::NoChild(error) => write!(f, "no child process can name code: {error}"),
        }
    }
}

/// Names what can be named; tells for which modules that failed. What DWARF says of a file that a
/// child died of is left out in a second try.
pub(super) fn name(
    namer: &CodeNamer,
    mut modules: Vec<NamingModule>,
) -> (CodeNames, Vec<(usize, NamingFailure)>) {
    let (mut names, mut failures) = (CodeNames::default(), Vec::new());
    let until = Instant::now() + PATIENCE;
    while !modules.is_empty() {
        let mut run = NamingRun {
            left: modules,
            current: None,
            names: &mut names,
        };
        let end = match namer {
            CodeNamer::Program(program) => run.child(program, until),
            #[cfg(test)]
            CodeNamer::Here => run.here(),
        };
        let current = run.current;
        modules = run.left;
        let Err(failure) = end else { break };
        let at = modules
            .iter()
            .position(|module| Some(module.number) == current);
        let fatal = matches!(failure, NamingFailure::Died(_))
            .then_some(at)
            .flatten();
        match fatal {
            Some(at) => failures.extend(blame(&mut modules, at, failure)),
            None => {
                // One reason for all that is left.
                let first = modules.first().map(|module| module.number);
                failures.extend(first.map(|first| (first, failure)));
                break;
            }
        }
    }
    (names, failures)
}

/// A child died of this module.
fn blame(
    modules: &mut Vec<NamingModule>,
    at: usize,
    failure: NamingFailure,
) -> Option<(usize, NamingFailure)> {
    if let Some(NamingSource::Elf { lines, .. }) = modules.get_mut(at).map(|m| &mut m.source)
        && std::mem::take(lines)
    {
        return None;
    }
    Some((modules.remove(at).number, failure))
}

/// What one child does.
struct NamingRun<'a> {
    /// Modules that it has not ended.
    left: Vec<NamingModule>,
    /// The module that it looks at.
    current: Option<usize>,
    names: &'a mut CodeNames,
}

impl NamingRun<'_> {
    fn take(&mut self, answer: NamingAnswer) {
        match answer {
            NamingAnswer::Begins { module } => self.current = Some(module),
            NamingAnswer::Named {
                module,
                address,
                frames,
            } => {
                self.names.names.insert((module, address), frames);
            }
            NamingAnswer::Frameless { module, addresses } => {
                let places = addresses.into_iter().map(|address| (module, address));
                self.names.frameless.extend(places);
            }
            NamingAnswer::Ends { module } => self.left.retain(|left| left.number != module),
        }
    }

    #[cfg(test)]
    fn here(&mut self) -> Result<(), NamingFailure> {
        for module in self.left.clone() {
            let told = super::worker::name(&module, &mut |answer| {
                self.take(answer.clone());
                Ok(())
            });
            told.map_err(NamingFailure::NoChild)?;
        }
        Ok(())
    }

    fn child(&mut self, program: &PathBuf, until: Instant) -> Result<(), NamingFailure> {
        let modules = self.left.clone();
        let request = serde_json::to_vec(&NamingRequest { modules });
        let request = request.map_err(|error| NamingFailure::NoChild(error.into()))?;
        let mut child = spawn(program).map_err(NamingFailure::NoChild)?;
        let answers = child.answers.take();
        let asked = child.ask(request);
        let is_late = answers.is_none_or(|answers| self.listen(&answers, until));
        let status = child.end(is_late).map_err(NamingFailure::NoChild)?;
        let interrupted = [Signal::INT, Signal::TERM].map(|signal| Some(signal.as_raw()));
        match status {
            None => Err(NamingFailure::Late),
            _ if is_late => Err(NamingFailure::Late),
            Some(status) if interrupted.contains(&status.signal()) => {
                Err(NamingFailure::Interrupted)
            }
            Some(status) if !status.success() => Err(NamingFailure::Died(status)),
            Some(_) => asked.map_err(NamingFailure::NoChild),
        }
    }

    /// Takes answers until there are no more; true if time is up.
    fn listen(&mut self, answers: &Receiver<NamingAnswer>, until: Instant) -> bool {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match answers.recv_timeout(left) {
                Ok(answer) => self.take(answer),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }
}

/// A child that names code. Dropping it kills it.
struct NamingChild {
    child: Child,
    answers: Option<Receiver<NamingAnswer>>,
}

fn spawn(program: &PathBuf) -> io::Result<NamingChild> {
    let mut child = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (tell, answers) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        let listen = move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let told = serde_json::from_str(&line).ok();
                if told.is_none_or(|answer| tell.send(answer).is_err()) {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("code-names".to_owned())
            .spawn(listen)?;
    }
    Ok(NamingChild {
        child,
        answers: Some(answers),
    })
}

impl NamingChild {
    /// It reads all of the request before it does anything else.
    fn ask(&mut self, request: Vec<u8>) -> io::Result<()> {
        match self.child.stdin.take() {
            Some(mut input) => input.write_all(&request),
            None => Ok(()),
        }
    }

    /// Its status; `None`: it was killed and does not die.
    fn end(&mut self, kill: bool) -> io::Result<Option<ExitStatus>> {
        if !kill {
            return self.child.wait().map(Some);
        }
        self.child.kill()?;
        let until = Instant::now() + FAREWELL;
        loop {
            match self.child.try_wait()? {
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                status => return Ok(status),
            }
        }
    }
}
