//! A process that does to its memory what each line on standard input says, and answers each with a
//! line, so that the test of a tracker knows exactly which pages were touched, how, and when. Its
//! first line is `ready`.
//!
//! | line | answer |
//! |---|---|
//! | `map KIND PAGES` | start and end of a new area, in hex |
//! | `uffd` | number of a new userfaultfd of this process |
//! | `close FD` | `ok` |
//! | `store AREA VALUE THREADS PAGES` | `ok`, after that many threads stored a word to each page |
//! | `load AREA PAGES` | `ok` |
//! | `zap AREA PAGES` | `ok`, after `MADV_DONTNEED` of them |
//! | `page-out AREA PAGES` | `ok`, after `MADV_PAGEOUT` of them |
//! | `read AREA VALUE PAGES` | `ok`, after read(2) put a byte into each page |
//! | `churn AREA SEED THREADS TIMES` | `ok`, after that many threads touched all pages that often |
//! | `wear AREA SEED THREADS TIMES` | as `churn`, and they zap, give up and page out pages as well |
//! | `unmap AREA PAGES` | `ok` |
//! | `map-at KIND ADDRESS PAGES` | as `map`, at an address in hex |
//! | `remap AREA PAGES` | `ok`, after they were unmapped and mapped anew at the same addresses |
//! | `protect AREA PAGES` | `ok`, after they became read-only |
//! | `unprotect AREA PAGES` | `ok`, after they became writable |
//! | `moment AREA VALUE PAGES` | `ok`, after they were writable while a word was stored to each |
//! | `force AREA VALUE PAGES` | `ok`, after `/proc/self/mem` put a word into each, even read-only |
//! | `alias AREA` | start and end of a new area of the same shared memory |
//! | `grow AREA PAGES` | `ok`, after mremap(2) made it that much longer in place |
//! | `move AREA` | start and end of a new area, to which mremap(2) moved it |
//! | `turmoil AREA SEED THREADS TIMES` | as `churn`, while mappings come, go, split and merge |
//! | `own AREA` | number of a userfaultfd that this process registered for it |
//! | `fork AREA VALUE PAGES` | `ok`, after a child stored to its copy, found it right, and ended |
//! | `share AREA PAGES` | `ok`; a child in the same memory (`CLONE_VM`) stores to each for ever |
//! | `worker` | pid of a new child, which is forked and obeys, too |
//! | `in WORKER ORDER...` | the answer of that worker to an order |
//! | `leave-work` | `ok`, after all workers have ended |
//! | `merge AREA` | `ok`, after it was offered to KSM (MADV_MERGEABLE) |
//! | `spawn` | `ok`, after a child of vfork(2) executed another program and ended |
//! | `exec` | `ready`, from this program executed anew; no area is left |
//! | `thread AREA PAGE` | `ok`; a thread began, whose end the kernel tells by clearing its word there |
//! | `end-thread` | that word, after its end |
//! | `leave` | `ok`, from another thread: the first one has ended |
//! | `exit STATUS` | none: the process has ended |
//!
//! AREA counts from 0 in the order of mapping. PAGES are of 4 KiB: `1,5-9`, with the end.

use std::fs::File;
use std::io::{Seek as _, Write as _, stdin, stdout};
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::str::{FromStr, SplitWhitespace};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};
use rustix::mm::Advice;
use uffd::{RegisterMode, UffdFeatures, Userfaultfd};

use crate::area::MappedArea;
use life::TellingThread;
use worker::ScriptWorker;

mod life;
mod turmoil;
mod wear;
mod worker;

const NO_AREA: &str = "there is no such area";

/// Serves until standard input ends.
pub fn serve(directory: &Path) -> Result<()> {
    let mut script = ScriptServer::new(directory);
    // Only now may others open our /proc files: before exec they would see another address space.
    answer("ready")?;
    if script.serve()? {
        let serving = thread::spawn(move || {
            answer("ok")?;
            script.serve()
        });
        life::end_this_thread(serving);
    }
    Ok(())
}

fn answer(text: &str) -> Result<()> {
    writeln!(stdout(), "{text}").context("cannot answer")
}

/// Obeys lines.
pub struct ScriptServer {
    directory: PathBuf,
    areas: Vec<MappedArea>,
    uffds: Vec<Userfaultfd>,
    workers: Vec<ScriptWorker>,
    threads: Vec<TellingThread>,
}

impl ScriptServer {
    /// Has mapped nothing yet; files are in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            areas: Vec::new(),
            uffds: Vec::new(),
            workers: Vec::new(),
            threads: Vec::new(),
        }
    }

    /// Serves until standard input ends, or until `leave`; returns whether this thread must end.
    fn serve(&mut self) -> Result<bool> {
        for line in stdin().lines() {
            let line = line.context("cannot read the script")?;
            if line == "leave" {
                return Ok(true);
            }
            answer(&self.obey(&line).with_context(|| format!("`{line}`"))?)?;
        }
        Ok(false)
    }

    /// Does what a line says; returns the answer.
    pub fn obey(&mut self, line: &str) -> Result<String> {
        let words = &mut line.split_whitespace();
        match word(words)? {
            "map" => self.map(words),
            "map-at" => self.map_at(words),
            "move" => self.move_away(words),
            "alias" => self.alias(words),
            "uffd" => self.open(),
            "own" => self.own(words),
            "exec" => Err(life::execute_anew(&self.directory)),
            "worker" => self.fork_worker(),
            "end-thread" => self.end_thread(),
            "in" => self.in_worker(words),
            "exit" => std::process::exit(parse(words)?),
            order => self.act(order, words).map(|()| "ok".to_owned()),
        }
    }

    fn end_thread(&mut self) -> Result<String> {
        let thread = self.threads.pop().context("there is no such thread")?;
        Ok(thread.end().to_string())
    }

    /// Does what is answered with `ok`.
    fn act(&mut self, order: &str, words: &mut SplitWhitespace<'_>) -> Result<()> {
        let parts = |words: &mut _| self.parts(words);
        match order {
            "close" => self.close(parse(words)?),
            "spawn" => life::spawn()?,
            "thread" => {
                let (area, page) = (*self.area(words)?, parse(words)?);
                self.threads.push(TellingThread::start(&area, page)?);
            }
            "leave-work" => self.workers.clear(),
            "share" => {
                let area = self.area(words)?;
                life::share(area, pages(word(words)?)?)?;
            }
            "merge" => self.area(words)?.offer_to_ksm()?,
            "fork" => {
                let (area, value) = (self.area(words)?, parse(words)?);
                life::fork(area, value, &pages(word(words)?)?)?;
            }
            "grow" => {
                let number: usize = parse(words)?;
                let area = self.areas.get_mut(number).context(NO_AREA)?;
                area.grow(parse(words)?)?;
            }
            "unmap" => parts(words)?.iter().try_for_each(MappedArea::unmap)?,
            "remap" => parts(words)?.iter().try_for_each(|part| {
                part.unmap()?;
                let (start, pages) = (part.range().start, part.pages());
                MappedArea::map_at(part.kind, start, pages, &self.directory).map(drop)
            })?,
            "protect" => parts(words)?.iter().try_for_each(|it| it.protect(false))?,
            "unprotect" => parts(words)?.iter().try_for_each(|it| it.protect(true))?,
            "moment" => {
                let (area, value) = (self.area(words)?, parse(words)?);
                for run in runs(word(words)?)? {
                    let part = area.pages_part(run);
                    part.protect(true)?;
                    (0..part.pages()).for_each(|page| part.store(page, value));
                    part.protect(false)?;
                }
            }
            "force" => {
                let (area, value) = (self.area(words)?, parse(words)?);
                force(area, value, &pages(word(words)?)?)?;
            }
            "zap" => {
                let zap = |part: &MappedArea| part.advise(Advice::LinuxDontNeed);
                parts(words)?.iter().try_for_each(zap)?;
            }
            "page-out" => {
                let page_out = |part: &MappedArea| part.advise(Advice::LinuxPageOut);
                parts(words)?.iter().try_for_each(page_out)?;
            }
            "load" => {
                let load = |part: &MappedArea| (0..part.pages()).for_each(|page| part.load(page));
                parts(words)?.iter().for_each(load);
            }
            "store" => {
                let (area, value) = (self.area(words)?, parse(words)?);
                store(area, value, parse(words)?, &pages(word(words)?)?);
            }
            "read" => {
                let (area, value) = (self.area(words)?, parse(words)?);
                read(area, value, &pages(word(words)?)?)?;
            }
            "churn" => {
                let area = self.area(words)?;
                churn(area, parse(words)?, parse(words)?, parse(words)?);
            }
            "wear" => {
                let area = self.area(words)?;
                wear::wear(area, parse(words)?, parse(words)?, parse(words)?);
            }
            "turmoil" => {
                let (area, seed) = (self.area(words)?, parse(words)?);
                let (threads, times) = (parse(words)?, parse(words)?);
                turmoil::turmoil(area, seed, &self.directory, || {
                    churn(area, seed, threads, times);
                    Ok(())
                })?;
            }
            other => bail!("there is no {other}"),
        }
        Ok(())
    }

    /// The parts of an area that AREA and PAGES name.
    fn parts(&self, words: &mut SplitWhitespace<'_>) -> Result<Vec<MappedArea>> {
        let area = self.area(words)?;
        let runs = runs(word(words)?)?.into_iter();
        Ok(runs.map(|run| area.pages_part(run)).collect())
    }

    fn map(&mut self, words: &mut SplitWhitespace<'_>) -> Result<String> {
        let (kind, place) = (word(words)?.parse()?, self.areas.len() as u64);
        Ok(self.add(MappedArea::map(
            kind,
            place,
            parse(words)?,
            &self.directory,
        )?))
    }

    fn map_at(&mut self, words: &mut SplitWhitespace<'_>) -> Result<String> {
        let kind = word(words)?.parse()?;
        let address = u64::from_str_radix(word(words)?, 16)?;
        Ok(self.add(MappedArea::map_at(
            kind,
            address,
            parse(words)?,
            &self.directory,
        )?))
    }

    fn move_away(&mut self, words: &mut SplitWhitespace<'_>) -> Result<String> {
        let moved = self.area(words)?.move_to(self.areas.len() as u64)?;
        Ok(self.add(moved))
    }

    fn alias(&mut self, words: &mut SplitWhitespace<'_>) -> Result<String> {
        let alias = self.area(words)?.alias(self.areas.len() as u64)?;
        Ok(self.add(alias))
    }

    fn add(&mut self, area: MappedArea) -> String {
        self.areas.push(area);
        let Range { start, end } = area.range();
        format!("{start:x} {end:x}")
    }

    fn fork_worker(&mut self) -> Result<String> {
        let mut server = Self {
            directory: self.directory.clone(),
            areas: self.areas.clone(),
            uffds: Vec::new(),
            workers: Vec::new(),
            threads: Vec::new(),
        };
        let worker = ScriptWorker::fork(|line| server.obey(line))?;
        let pid = worker.pid().to_string();
        self.workers.push(worker);
        Ok(pid)
    }

    fn in_worker(&mut self, words: &mut SplitWhitespace<'_>) -> Result<String> {
        let number: usize = parse(words)?;
        let order: Vec<&str> = words.collect();
        let worker = self.workers.get_mut(number);
        worker
            .context("there is no such worker")?
            .say(&order.join(" "))
    }

    fn own(&mut self, words: &mut SplitWhitespace<'_>) -> Result<String> {
        let range = self.area(words)?.range();
        let number = self.open()?;
        let uffd = self.uffds.last().context("it was just opened")?;
        uffd.enable(UffdFeatures::default())?;
        uffd.register(&range, RegisterMode::WP)?;
        Ok(number)
    }

    fn open(&mut self) -> Result<String> {
        let uffd = Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only())?;
        let number = uffd.as_fd().as_raw_fd();
        self.uffds.push(uffd);
        Ok(number.to_string())
    }

    fn close(&mut self, number: i32) {
        self.uffds.retain(|uffd| uffd.as_fd().as_raw_fd() != number);
    }

    fn area(&self, words: &mut SplitWhitespace<'_>) -> Result<&MappedArea> {
        self.areas.get(parse::<usize>(words)?).context(NO_AREA)
    }
}

/// Stores to each page; the threads take turns.
fn store(area: &MappedArea, value: u64, threads: usize, pages: &[u64]) {
    in_threads(0..threads, |first| {
        let own = pages.iter().skip(first).step_by(threads);
        own.for_each(|page| area.store(*page, value));
    });
}

/// Calls `each` in a thread for each number, and waits until all threads are gone: the end of a
/// scope alone waits for what they do, and a process that forks then could copy a lock that one of
/// them holds as it ends. They are not joined: with `sync` the word that pthread_join(3) waits for
/// can stay as it is (docs/strategies.md).
fn in_threads<N: Send>(numbers: impl Iterator<Item = N>, each: impl Fn(N) + Sync) {
    let each = &each;
    let tids = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in numbers {
            let tids = &tids;
            scope.spawn(move || {
                let tid = rustix::thread::gettid().as_raw_nonzero();
                tids.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(tid);
                each(number);
            });
        }
    });
    for tid in tids.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let task = format!("/proc/self/task/{tid}");
        while Path::new(&task).exists() {
            thread::yield_now();
        }
    }
}

/// Puts a word into each page as a debugger does, which asks for no permission.
fn force(area: &MappedArea, value: u64, pages: &[u64]) -> Result<()> {
    let memory = File::options().write(true).open("/proc/self/mem")?;
    for page in pages {
        let address = area.range().start + page * uffd::PAGE_SIZE;
        memory.write_all_at(&value.to_ne_bytes(), address)?;
    }
    Ok(())
}

/// Lets the kernel write one byte to each page, by read(2).
fn read(area: &MappedArea, value: u8, pages: &[u64]) -> Result<()> {
    let memfd = rustix::fs::memfd_create("script", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut source = File::from(memfd);
    source.write_all(&[value])?;
    for page in pages {
        source.rewind()?;
        area.read_into(*page, &source)?;
    }
    Ok(())
}

/// Each thread stores to or loads from all pages, from a place of its own on, so that they meet at
/// the same pages.
fn churn(area: &MappedArea, seed: u64, threads: u64, times: u64) {
    in_threads(0..threads, |thread| {
        let mut random = fastrand::Rng::with_seed(seed + thread);
        for _ in 0..times {
            let first = random.u64(0..area.pages());
            for page in 0..area.pages() {
                let page = (page + first) % area.pages();
                if random.bool() {
                    area.load(page);
                } else {
                    area.store(page, random.u64(..));
                }
            }
        }
    });
}

fn pages(text: &str) -> Result<Vec<u64>> {
    Ok(runs(text)?.into_iter().flatten().collect())
}

fn runs(text: &str) -> Result<Vec<Range<u64>>> {
    let run = |part: &str| -> Result<Range<u64>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Ok(first.parse()?..last.parse::<u64>()? + 1)
    };
    text.split(',').map(run).collect()
}

fn word<'a>(words: &mut SplitWhitespace<'a>) -> Result<&'a str> {
    words.next().context("a word is missing")
}

fn parse<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    words: &mut SplitWhitespace<'_>,
) -> Result<T> {
    Ok(word(words)?.parse()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn pages_are_numbers_and_ranges() {
        assert_eq!(pages("1,5-7").unwrap(), [1, 5, 6, 7]);
        assert!(pages("1,x").is_err());
    }

    #[test]
    fn a_script_maps_and_touches() {
        let mut script = ScriptServer {
            directory: "/tmp".into(),
            areas: Vec::new(),
            uffds: Vec::new(),
            workers: Vec::new(),
            threads: Vec::new(),
        };
        assert!(script.obey("store 0 1 1 0").is_err(), "no area yet");
        let area = script.obey("map shared-anon 8");
        // Another test in this process may have taken the address.
        let Ok(area) = area else { return };
        assert!(area.contains(' '), "{area}");
        for line in [
            "store 0 7 2 0-7",
            "load 0 3",
            "read 0 9 1,2",
            "zap 0 1-2",
            "page-out 0 3-4",
            "wear 0 1 2 20",
            "protect 0 3",
            "unprotect 0 3",
            "remap 0 3",
        ] {
            assert_eq!(script.obey(line).unwrap(), "ok", "{line}");
        }
        assert!(script.obey("dance").is_err());
    }
}
