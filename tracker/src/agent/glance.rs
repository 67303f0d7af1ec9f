//! One discovery without an agent: what an agent here would see of processes.

use super::discover_loop::{DiscoveryState, describe};
use super::looks::LookWatch;
use super::loops::LoopClock;
use super::pace::thread_cpu_time;
use super::probes::{MakeRoute, by_iterator, by_smaps};
use crate::probes::AttachedProbes;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How often to look whether a thread is stuck.
const WATCH: Duration = Duration::from_secs(1);

/// How long it may take in all: files that do not answer are given up after 10 s each.
const PATIENCE: Duration = Duration::from_secs(60);

/// Discovers as the agent would, by the iterator if that is attached. Whatever a file of a process
/// waits for, it comes to an end.
pub(crate) fn see_processes(attached: &mut AttachedProbes) -> DiscoveryState {
    let mut make_route = by_iterator(attached).unwrap_or_else(by_smaps);
    let (watch, end) = (
        LookWatch::new(LoopClock::default()),
        Instant::now() + PATIENCE,
    );
    loop {
        let seen = match start(&mut make_route, watch.clone()) {
            Ok(answer) => wait(&answer, &watch, end),
            Err(error) => Some(failed(format!(
                "cannot start a thread that discovers: {error}"
            ))),
        };
        if let Some(seen) = seen {
            return seen;
        }
    }
}

/// Has a thread discover: one that is stuck is left behind.
fn start(
    make_route: &mut MakeRoute,
    watch: LookWatch,
) -> std::io::Result<Receiver<DiscoveryState>> {
    let (tell, answer) = channel();
    let mut route = make_route();
    let discover = move || {
        let (begin, cpu) = (Instant::now(), thread_cpu_time());
        let found = route.discover(Duration::ZERO, &watch);
        let cpu = thread_cpu_time() - cpu;
        // Nobody listens any more if it took too long.
        let _ = tell.send(describe(route.route(), &found, begin.elapsed(), cpu));
    };
    let thread = Builder::new().name("discover".to_owned());
    thread.spawn(discover).map(|_| answer)
}

/// What was seen; `None` if the thread is stuck, and another one is to go on.
fn wait(
    answer: &Receiver<DiscoveryState>,
    watch: &LookWatch,
    end: Instant,
) -> Option<DiscoveryState> {
    loop {
        match answer.recv_timeout(WATCH) {
            Ok(seen) => return Some(seen),
            Err(RecvTimeoutError::Disconnected) => {
                return Some(failed("the thread that discovers has panicked".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) if watch.give_up() => return None,
            Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
            Err(RecvTimeoutError::Timeout) => {
                let waited = PATIENCE.as_secs();
                return Some(failed(format!(
                    "files of /proc have not answered for {waited} s: does a file system hang?"
                )));
            }
        }
    }
}

fn failed(why: String) -> DiscoveryState {
    DiscoveryState {
        failure: Some(why),
        ..DiscoveryState::default()
    }
}
