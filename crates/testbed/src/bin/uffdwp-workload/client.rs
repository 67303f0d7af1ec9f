//! A tracker of its own memory or of another process's, with a known number of reports of each
//! kind, for whoever explains trackers.
//!
//! Its first line is `tracks PID START END`, of the process and the area, in hex. Then it does what
//! each line on standard input says:
//!
//! | line | answer |
//! |---|---|
//! | `act` | `acted` and a digest of the pages, after all acts of a round |
//! | `release PAGES` | `released`, after it took the protection off so many pages by itself |
//! | `release-each PAGES` | the same, by a call for each page |
//! | `forget` | `forgot`, after it has unregistered the area |
//! | `begin` | `begun`, after it has registered the area again and armed it |
//! | `round` | `told`, how many pages it was told, and a digest of them; they are armed again |

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Lines, Write as _, stdin, stdout};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use testbed::client::{ClientPlan, ClientTarget, ClientWay, FIRST, PAGES, PlannedAct};
use uffd::{
    PAGE_SIZE, PageRegion, Pagemap, PagemapEntry, RegisterMode, ScanQuery, UffdFeatures,
    UffdMessage, Userfaultfd,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::messages;
use crate::script::ScriptServer;

#[derive(clap::Args)]
pub struct ClientArguments {
    /// Whose memory it tracks
    #[arg(long, value_enum)]
    target: ClientTarget,
    /// How it learns what was written
    #[arg(long, value_enum)]
    way: ClientWay,
    /// Decides which pages are acted on
    #[arg(long)]
    seed: u64,
    /// Directory for files
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// Serves until standard input ends.
pub fn serve(arguments: &ClientArguments) -> Result<()> {
    let mut target = TrackedTarget::start(arguments.target, &arguments.dir)?;
    let client = TrackerClient::start(&mut target, arguments.way)?;
    let mut plan = ClientPlan::new(arguments.way, arguments.seed);
    let Range { start, end } = client.range;
    answer(&format!("tracks {} {start:x} {end:x}", target.pid()))?;
    for line in stdin().lines() {
        let line = line.context("cannot read what to do")?;
        match &*line {
            release if release.starts_with("release ") => {
                let pages = release.trim_start_matches("release ").parse()?;
                client.release(pages)?;
                answer("released")?;
            }
            each if each.starts_with("release-each ") => {
                let pages = each.trim_start_matches("release-each ").parse()?;
                client.release_each(pages)?;
                answer("released")?;
            }
            "forget" => {
                client.uffd.unregister(&client.range)?;
                answer("forgot")?;
            }
            "begin" => {
                client.begin()?;
                answer("begun")?;
            }
            "act" => {
                let acted = act(&mut target, &plan.round())?;
                answer(&format!("acted {:016x}", digest(&acted)))?;
            }
            "round" => {
                let told = client.round()?;
                answer(&format!("told {} {:016x}", told.len(), digest(&told)))?;
            }
            other => bail!("there is no {other}"),
        }
    }
    Ok(())
}

fn answer(text: &str) -> Result<()> {
    writeln!(stdout(), "{text}").context("cannot answer")
}

/// Of the numbers of pages.
fn digest(pages: &BTreeSet<u64>) -> u64 {
    let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

/// Does everything of a round; returns the pages.
fn act(target: &mut TrackedTarget, acts: &[PlannedAct]) -> Result<BTreeSet<u64>> {
    for act in acts {
        target.tell(&act.line(0))?;
    }
    Ok(acts.iter().map(|act| act.page).collect())
}

/// The process whose memory is tracked.
pub enum TrackedTarget {
    /// This one.
    Inside(Box<ScriptServer>),
    /// A child that obeys a script, and ends when its standard input does.
    Outside {
        process: Child,
        to: ChildStdin,
        from: Lines<BufReader<ChildStdout>>,
    },
}

impl TrackedTarget {
    pub fn start(target: ClientTarget, directory: &Path) -> Result<Self> {
        if target == ClientTarget::Inside {
            return Ok(Self::Inside(Box::new(ScriptServer::new(directory))));
        }
        let mut process = Command::new("/proc/self/exe")
            .arg("script")
            .arg("--dir")
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the process that is tracked")?;
        let to = process.stdin.take().context("it has no input")?;
        let from = process.stdout.take().context("it has no output")?;
        let mut from = BufReader::new(from).lines();
        let ready = from.next().context("it ended")??;
        ensure!(ready == "ready", "it said {ready}");
        Ok(Self::Outside { process, to, from })
    }

    pub fn pid(&self) -> u32 {
        match self {
            Self::Inside(_) => std::process::id(),
            Self::Outside { process, .. } => process.id(),
        }
    }

    /// Has it obey a line of a script.
    pub fn say(&mut self, line: &str) -> Result<String> {
        match self {
            Self::Inside(server) => server.obey(line),
            Self::Outside { to, from, .. } => {
                writeln!(to, "{line}").context("the process that is tracked ended")?;
                Ok(from.next().context("the process that is tracked ended")??)
            }
        }
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let answer = self.say(line)?;
        ensure!(answer == "ok", "`{line}` was answered with {answer}");
        Ok(())
    }

    /// A userfaultfd of its memory.
    pub fn userfaultfd(&mut self) -> Result<Userfaultfd> {
        if let Self::Inside(_) = self {
            return Ok(Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only())?);
        }
        let number = self.say("uffd")?;
        let pid = Pid::from_raw(i32::try_from(self.pid())?).context("it has no pid")?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let uffd = pidfd_getfd(&process, number.parse()?, PidfdGetfdFlags::empty())?;
        self.tell(&format!("close {number}"))?;
        Ok(uffd.into())
    }
}

/// The tracker.
struct TrackerClient {
    range: Range<u64>,
    way: ClientWay,
    uffd: Arc<Userfaultfd>,
    pagemap: Pagemap,
    /// Pages of which messages told.
    messages: Arc<Mutex<BTreeSet<u64>>>,
}

impl TrackerClient {
    /// Maps and fills the area, registers it and arms all of it.
    fn start(target: &mut TrackedTarget, way: ClientWay) -> Result<Self> {
        let area = target.say(&format!("map anon {PAGES}"))?;
        target.tell(&format!("store 0 {FIRST} 1 0-{}", PAGES - 1))?;
        let (start, end) = area.split_once(' ').context("it maps nothing")?;
        let range = u64::from_str_radix(start, 16)?..u64::from_str_radix(end, 16)?;
        let uffd = Arc::new(target.userfaultfd()?);
        uffd.enable(match way {
            ClientWay::Messages => UffdFeatures::default(),
            _ => UffdFeatures::WP_ASYNC | UffdFeatures::WP_UNPOPULATED,
        })?;
        let client = Self {
            pagemap: Pagemap::open(target.pid())?,
            range,
            way,
            uffd,
            messages: Arc::default(),
        };
        if way == ClientWay::Messages {
            client.answer_messages();
        }
        client.begin()?;
        Ok(client)
    }

    /// Registers the area and arms all of it.
    fn begin(&self) -> Result<()> {
        self.uffd.register(&self.range, RegisterMode::WP)?;
        Ok(self.uffd.arm(&self.range)?)
    }

    /// Starts a thread that reads and answers messages.
    fn answer_messages(&self) {
        let (uffd, told) = (Arc::clone(&self.uffd), Arc::clone(&self.messages));
        std::thread::spawn(move || {
            if let Err(error) = serve_messages(&uffd, &told) {
                eprintln!("uffdwp-workload: the client's handler ended: {error:#}");
                std::process::exit(1);
            }
        });
    }

    /// What was written since the last round, by number; it is armed again.
    fn round(&self) -> Result<BTreeSet<u64>> {
        let mut regions = [PageRegion::default(); 64];
        let mut told = BTreeSet::new();
        match self.way {
            ClientWay::Scan => {
                let query = ScanQuery::WRITTEN_AND_ARM;
                let each = |region: PageRegion| told.extend(pages(region.range()));
                self.pagemap.scan(&self.range, &query, &mut regions, each)?;
            }
            ClientWay::ScanThenArm => {
                let query = ScanQuery::WRITTEN;
                let each = |region: PageRegion| told.extend(pages(region.range()));
                self.pagemap.scan(&self.range, &query, &mut regions, each)?;
                self.arm(&told)?;
            }
            ClientWay::Pagemap => {
                let mut entries = vec![PagemapEntry::default(); PAGES as usize];
                self.pagemap.read(&self.range, &mut entries)?;
                let pages = pages(self.range.clone()).zip(entries);
                told.extend(pages.filter(|(_, entry)| !entry.armed()).map(|it| it.0));
                self.arm(&told)?;
            }
            ClientWay::Messages => {
                let mut messages = self.messages.lock();
                let messages = messages.as_deref_mut();
                let messages = messages.unwrap_or_else(|poisoned| poisoned.get_mut());
                told = std::mem::take(messages);
                self.arm(&told)?;
            }
        }
        let start = self.range.start;
        let number = |page: u64| (page - start) / PAGE_SIZE;
        Ok(told.into_iter().map(number).collect())
    }

    /// Takes the protection off the first pages, as for a snapshot that has them by now.
    fn release(&self, pages: u64) -> Result<()> {
        let start = self.range.start;
        Ok(self.uffd.resolve(&(start..start + pages * PAGE_SIZE))?)
    }

    /// The same, by a call for each page.
    fn release_each(&self, count: u64) -> Result<()> {
        let each = pages(self.range.clone()).take(count as usize);
        for page in each {
            self.uffd.resolve(&(page..page + PAGE_SIZE))?;
        }
        Ok(())
    }

    fn arm(&self, told: &BTreeSet<u64>) -> Result<()> {
        for page in told {
            self.uffd.arm(&(*page..page + PAGE_SIZE))?;
        }
        Ok(())
    }
}

fn pages(range: Range<u64>) -> impl Iterator<Item = u64> {
    range.step_by(PAGE_SIZE as usize)
}

/// Answers messages for ever.
fn serve_messages(uffd: &Userfaultfd, told: &Mutex<BTreeSet<u64>>) -> Result<()> {
    let mut messages = Vec::new();
    loop {
        messages::next(uffd, &mut messages)?;
        for message in &messages {
            let UffdMessage::Fault { address, .. } = message else {
                bail!("a message that nobody asked for: {message:?}");
            };
            let page = address / PAGE_SIZE * PAGE_SIZE;
            // Before the writer goes on.
            told.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(page);
            uffd.resolve(&(page..page + PAGE_SIZE))?;
        }
    }
}
