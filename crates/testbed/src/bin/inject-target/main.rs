//! `inject-target`: a process to take a userfaultfd from, which checks that it notices nothing.
//!
//! `inject-target CASE [MILLISECONDS]` prints `ready`, does what the case says for that long or
//! about a second, and prints the outcome as JSON. Every field but `took_ms` must be the same in a
//! twin that nobody stopped.

mod crowd;
mod family;
mod mappings;
mod memory;
mod props;
mod report;
mod sandbox;
mod signals;
mod sys;
mod threads;
mod transfers;
mod turmoil;
mod until_asked;
mod waits;
mod witness;

use std::process::ExitCode;

use report::CaseReport;

/// What a case does; it only fails if something that it needs is missing.
type CaseBody = fn(&mut CaseReport) -> std::io::Result<()>;

const CASES: [(&str, CaseBody); 43] = [
    ("checksum", memory::checksum),
    ("checksum-until-asked", memory::checksum_until_asked),
    ("checksum-alone", memory::checksum_alone),
    ("crowd-waiting", crowd::waiting),
    ("crowd-sleeping", crowd::sleeping),
    ("crowd-spinning", crowd::spinning),
    ("waiting-alone", crowd::waiting_alone),
    ("transfers", transfers::all),
    ("transfer-alone", transfers::alone),
    ("drain", transfers::drain_input),
    ("turmoil", turmoil::all),
    ("witness", witness::all),
    ("pid-namespace", family::pid_namespace),
    ("execs-beside", family::execs_beside_threads),
    ("refill", mappings::refill),
    ("register", mappings::register),
    ("reserve", mappings::reserve),
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
        eprintln!("inject-target: there is no case {name:?}; the cases are {names}");
        return ExitCode::from(2);
    };
    let mut report = CaseReport::begin();
    match case(&mut report) {
        Ok(()) => report.end(),
        Err(error) => {
            eprintln!("inject-target: the case {name} cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}
