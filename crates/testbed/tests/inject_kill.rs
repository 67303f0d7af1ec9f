//! kill -9 of tracker at any moment, mostly while its helper holds the target: the target still
//! computes the right result, and nothing stays armed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::inject::InjectTarget;
use testbed::{KilledChild, eventually, program};
use uffd::smaps;

const KILLS: u32 = 200;
/// At least this many of them between two steps of the helper.
const BETWEEN_STEPS: u32 = 100;

/// Random numbers, whose seed is printed.
struct KillRandom(u64);

impl KillRandom {
    fn new() -> Self {
        let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        eprintln!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        Duration::from_nanos((self.0 >> 33) % limit.as_nanos() as u64)
    }
}

/// The pid that traces a thread of a process; 0 for nobody.
fn tracer(pid: u32) -> u32 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tracer = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("TracerPid:"))?;
        line.trim().parse().ok()
    };
    let mut tracers = threads.filter_map(|thread| tracer(thread.unwrap()));
    tracers.find(|tracer| *tracer != 0).unwrap_or(0)
}

/// How many VMAs are registered with a userfaultfd, for anything.
fn registered(pid: u32) -> usize {
    let vmas = smaps(pid).unwrap().map(Result::unwrap);
    vmas.filter(|vma| vma.flags.uffd_wp() || vma.flags.uffd_missing())
        .count()
}

/// Starts tracker on `pid` and kills it after a while; returns whether its helper was at work then,
/// and whether the target was armed.
fn kill_one(pid: u32, random: &mut KillRandom, at_work: bool) -> (bool, bool) {
    // It reads and arms all the time.
    let mut command = Command::new(program("slow-tracker"));
    let command = command.arg(pid.to_string()).stdin(Stdio::null());
    let mut tracker = KilledChild(command.spawn().unwrap());
    if at_work {
        // On a busy machine it may have given up or ended before anybody looks.
        let ended = |tracker: &mut KilledChild| tracker.0.try_wait().unwrap().is_some();
        eventually("the helper is at work", || {
            (tracer(pid) != 0 || registered(pid) > 0 || ended(&mut tracker)).then_some(())
        });
        std::thread::sleep(random.below(Duration::from_millis(50)));
    } else {
        std::thread::sleep(random.below(Duration::from_millis(300)));
    }
    let before = tracer(pid);
    let armed = registered(pid) > 0;
    tracker.0.kill().unwrap();
    tracker.0.wait().unwrap();
    let between_steps = before != 0 && tracer(pid) == before;
    eventually("the helper is done", || (tracer(pid) == 0).then_some(()));
    eventually("nothing is armed", || (registered(pid) == 0).then_some(()));
    (between_steps, armed)
}

#[test]
fn killed_at_any_moment() {
    /// Kills per target, and so per verdict.
    const EACH: u32 = 10;
    let mut random = KillRandom::new();
    let (mut between_steps, mut armed) = (0, 0);
    for round in 0..KILLS / EACH {
        // One thread opens the userfaultfd itself; of two, one has a child open it.
        let case = ["checksum-alone", "checksum-until-asked"][round as usize % 2];
        let target = InjectTarget::until_asked(case);
        for kill in 0..EACH {
            // Two of three are aimed at the helper's work; the others may come at any time.
            let (steps, arms) = kill_one(target.pid(), &mut random, kill % 3 != 0);
            between_steps += u32::from(steps);
            armed += u32::from(arms);
        }
        target.end();
    }
    eprintln!("{KILLS} kills, {between_steps} between two steps, {armed} while armed");
    assert!(between_steps >= BETWEEN_STEPS, "{between_steps}");
    assert!(armed > 0);
}
