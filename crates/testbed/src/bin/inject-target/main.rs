//! `inject-target`: a process to take a userfaultfd of, which checks that it notices nothing.
//!
//! `inject-target CASE [MILLISECONDS]` says `ready`, does what the case says for so long or a second, and prints
//! as JSON what came of it. The same must come of a twin that nobody stopped: every field but `took_ms`.

mod family;
mod memory;
mod report;
mod sandbox;
mod signals;
mod sys;
mod threads;
mod waits;

use std::process::ExitCode;

use report::CaseReport;

/// What a case does; it fails only for want of something it needs.
type CaseBody = fn(&mut CaseReport) -> std::io::Result<()>;

const CASES: [(&str, CaseBody); 28] = [
    ("checksum", memory::checksum),
    ("checksum-until-asked", memory::checksum_until_asked),
    ("rseq", memory::restartable_sequence),
    ("nanosleep", waits::nanosleep),
    ("epoll", waits::epoll),
    ("epoll-timeout", waits::epoll_timeout),
    ("epoll-mask", waits::epoll_mask),
    ("pipe", waits::pipe),
    ("futex", waits::futex),
    ("futex-timeout", waits::futex_timeout),
    ("semop", waits::semop),
    ("sigtimedwait", waits::sigtimedwait),
    ("sigtimedwait-timeout", waits::sigtimedwait_timeout),
    ("ppoll", waits::ppoll),
    ("select", waits::select),
    ("receive-timeout", waits::receive_timeout),
    ("sleep-until", waits::sleep_until),
    ("threads", threads::many),
    ("churn", threads::churn),
    ("leader-ends", threads::leader_ends),
    ("signals", signals::storm),
    ("queued", signals::queued),
    ("suspend", signals::suspend),
    ("forks", family::forks),
    ("vfork", family::vfork),
    ("execs", family::execs),
    ("seccomp", sandbox::kills_userfaultfd),
    ("descriptors", family::descriptors),
];

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some((_, case)) = CASES.iter().find(|(case, _)| *case == name) else {
        let names = CASES.map(|(name, _)| name).join(", ");
        eprintln!("inject-target: {name:?} is no case; there are {names}");
        return ExitCode::from(2);
    };
    let mut report = CaseReport::begin();
    match case(&mut report) {
        Ok(()) => report.end(),
        Err(error) => {
            eprintln!("inject-target: {name} cannot do its work: {error}");
            ExitCode::FAILURE
        }
    }
}
