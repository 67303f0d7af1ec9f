//! Every strategy against the judge: programs that do anything to their memory are stopped, all of
//! it is compared, and what changed must have been reported, to the page.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use pages::track::{TrackError, TrackScope, TrackTree};
use testbed::foreign::{PostgresServer, RedisServer};
use testbed::judge::{judge_session, judge_tree};
use testbed::script::{ANON, FACTS, MEMFD, seed};
use testbed::session::{options, registered, try_begin, working};
use testbed::{KilledChild, has};

/// Judges some rounds of a process that `start` starts, with each strategy.
fn judge<T>(start: impl Fn() -> T, pid: impl Fn(&T) -> u32, rounds: u32, interval: Duration) {
    for name in working(ANON) {
        let process = start();
        let pid = pid(&process);
        let (mut session, _) = try_begin(pid, name).unwrap();
        judge_session(pid, &mut session, rounds, interval);
        session.end().unwrap();
        assert_eq!(registered(pid), 0, "{name}");
    }
}

/// Judges a program that runs on.
fn judge_program(command: impl Fn() -> Command) {
    let start = || {
        let mut command = command();
        let child = KilledChild(command.stdin(Stdio::null()).spawn().unwrap());
        // It does something by then.
        std::thread::sleep(Duration::from_millis(500));
        child
    };
    judge(start, |child| child.0.id(), 4, Duration::from_millis(300));
}

/// The program that does anything to its memory.
fn fuzz() -> KilledChild {
    let seed = seed();
    eprintln!("STRATEGY_SEED={seed}");
    let mut command = Command::new(testbed::program("uffdwp-workload"));
    command.args(["fuzz", "--seed", &seed.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = KilledChild(command.spawn().unwrap());
    let stdout = process.0.stdout.take().unwrap();
    let ready = BufReader::new(stdout).lines().next().unwrap().unwrap();
    assert_eq!(ready, format!("ready {seed}"));
    process
}

#[test]
fn anything_at_random() {
    judge(fuzz, |fuzz| fuzz.0.id(), 12, Duration::from_millis(50));
}

#[test]
fn redis_under_load() {
    if !has("redis-server") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let redis = RedisServer::start(dir.path());
        let load = redis.benchmark();
        (redis, load)
    };
    judge(
        start,
        |(redis, _)| redis.pid(),
        4,
        Duration::from_millis(300),
    );
}

/// Objects come and go, and libraries are loaded between two rounds: their RELRO is written and
/// read-only before a round looks.
#[test]
fn python_that_loads_libraries() {
    const PROGRAM: &str = "\
import importlib, time
names = ['ssl', 'sqlite3', 'lzma', 'bz2', 'decimal', 'ctypes', 'zlib', 'hashlib', 'curses', 'uuid',
         'xml.parsers.expat', 'unicodedata', 'array', 'mmap', 'audioop', 'readline', 'dbm']
keep = []
for turn in range(1000000):
    if turn % 4 == 0 and names:
        try:
            keep.append(importlib.import_module(names.pop()))
        except ImportError:
            pass
    items = [[n, str(n * turn)] for n in range(5000)]
    del items
    time.sleep(0.05)";
    if !has("python3") {
        return;
    }
    judge_program(|| {
        let mut command = Command::new("python3");
        command.args(["-c", PROGRAM]);
        command
    });
}

/// Code is made all the time, and thrown away.
#[test]
fn node_that_compiles() {
    const PROGRAM: &str = "\
let turn = 0;
function step() {
  turn += 1;
  const f = new Function('a',
    `let s = ${turn}; for (let i = 0; i < 20000; i++) s = (s + a * i) | 0; return s;`);
  for (let i = 0; i < 20; i++) f(i);
  globalThis.kept = new Array(20000).fill(turn);
  setTimeout(step, 5);
}
step();";
    if !has("node") {
        return;
    }
    judge_program(|| {
        let mut command = Command::new("node");
        command.args(["-e", PROGRAM]);
        command
    });
}

/// One shared memory with many writers: all of them together miss nothing.
#[test]
fn postgres_and_its_children() {
    if !["postgres", "initdb", "pgbench"].into_iter().all(has) {
        return;
    }
    for name in working(MEMFD) {
        let dir = tempfile::tempdir().unwrap();
        let postgres = PostgresServer::start(dir.path());
        let _load = postgres.load();
        let scope = TrackScope::WithChildren;
        let options = options(name);
        let begun = TrackTree::begin(postgres.pid(), FACTS.clone(), options, scope);
        // The userfaultfd of a process without privilege is for its own faults only.
        if let Err(error @ TrackError::Refused { .. }) = &begun {
            eprintln!("skipped: {error}");
            continue;
        }
        let (mut tree, first) = begun.unwrap();
        assert!(first.children.len() > 3, "{:?}", first.events);
        judge_tree(&mut tree, 2, Duration::from_millis(300));
        tree.end().unwrap();
    }
}

/// Traces are written to pages that are writable for the moment of the write only.
#[test]
fn luajit_that_compiles() {
    const PROGRAM: &str = "\
for turn = 1, 1e9 do
  local f = loadstring('local s = ' .. turn ..
    ' for i = 1, 5000 do s = (s + i * 3) % 1000003 end return s')
  for i = 1, 4 do f() end
end";
    // It knows no --version.
    if Command::new("luajit").arg("-v").output().is_err() {
        eprintln!("skipped: luajit is not installed");
        return;
    }
    judge_program(|| {
        let mut command = Command::new("luajit");
        command.args(["-e", PROGRAM]);
        command
    });
}
