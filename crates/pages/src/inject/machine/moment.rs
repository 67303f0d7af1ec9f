//! Which thread to stop, and when: the one that notices least (pure), as `/proc` shows them.
#![forbid(unsafe_code)]

use super::calls::{CallInterruption, CallMade};
use super::proc::{self, ThreadActivity};

/// How a thread would notice a stop, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopDisturbance {
    /// Not at all: it sleeps, and the kernel lets it sleep on; or all of the process is stopped.
    None,
    /// Its call has done nothing yet, and begins again.
    CallAgain,
    /// It runs: in user code, as a rule, but perhaps in a call.
    Running,
    /// Its call begins again with its whole time.
    TimeAgain,
    /// The same in a call that has a signal mask of its own.
    MaskedCall,
    /// Nobody knows.
    Unknown,
    /// Its call returns less than it was asked for.
    CutShort,
}

impl StopDisturbance {
    /// Whether to wait for a better moment before this is taken.
    pub(super) fn is_worth_waiting(self) -> bool {
        self >= Self::Unknown
    }
}

/// How a thread would notice a stop; `None`: it cannot be stopped at the moment.
fn disturbance(state: char, activity: ThreadActivity) -> Option<StopDisturbance> {
    match (state, activity) {
        // Nothing wakes it from there; it has ended; another tracer holds it.
        ('D' | 'Z' | 'X' | 'x' | 't', _) => None,
        ('T', _) => Some(StopDisturbance::None),
        (_, ThreadActivity::Runs) | ('R', ThreadActivity::Unknown) => {
            Some(StopDisturbance::Running)
        }
        (_, ThreadActivity::InCall(call)) => Some(in_call(&call)),
        (_, ThreadActivity::Elsewhere | ThreadActivity::Unknown) => Some(StopDisturbance::Unknown),
    }
}

fn in_call(call: &CallMade) -> StopDisturbance {
    use super::super::CallTimeout;
    let Some(known) = call.known() else {
        return StopDisturbance::Unknown;
    };
    let interruption = known.interruption(call);
    if interruption == CallInterruption::CutShort {
        return StopDisturbance::CutShort;
    }
    if known.masks_signals {
        return StopDisturbance::MaskedCall;
    }
    match (interruption, known.timeout(call)) {
        (CallInterruption::GoesOn, _) => StopDisturbance::None,
        // A socket's timeout is seldom set.
        (_, None | Some(CallTimeout::None | CallTimeout::Socket)) => StopDisturbance::CallAgain,
        (_, Some(CallTimeout::Finite)) => StopDisturbance::TimeAgain,
    }
}

/// A thread that could be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ThreadCandidate {
    /// It.
    pub(super) tid: u32,
    /// How it would notice.
    pub(super) disturbance: StopDisturbance,
}

/// Looks at threads, in this order, and finds the one that would notice least: at the first that
/// would not at all the look ends, and at the latest after some hundred that run or wait.
pub(super) fn best(pid: u32, tids: impl IntoIterator<Item = u32>) -> Option<ThreadCandidate> {
    /// A look takes some 20 us.
    const LOOKS: usize = 512;
    let look = |tid| {
        let state = proc::state(pid, tid)?;
        let disturbance = disturbance(state, proc::activity(pid, tid))?;
        Some(ThreadCandidate { tid, disturbance })
    };
    let mut best: Option<ThreadCandidate> = None;
    for candidate in tids.into_iter().filter_map(look).take(LOOKS) {
        if best.is_none_or(|best| candidate.disturbance < best.disturbance) {
            best = Some(candidate);
        }
        if candidate.disturbance == StopDisturbance::None {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeps_in(number: i64, arguments: [u64; 6]) -> Option<StopDisturbance> {
        let number = number as u64;
        disturbance('S', ThreadActivity::InCall(CallMade { number, arguments }))
    }

    #[test]
    fn the_best_sleep_in_what_the_kernel_goes_on_with() {
        for call in [
            libc::SYS_futex,
            libc::SYS_nanosleep,
            libc::SYS_restart_syscall,
        ] {
            assert_eq!(sleeps_in(call, [0; 6]), Some(StopDisturbance::None));
        }
        assert_eq!(
            disturbance('T', ThreadActivity::Unknown),
            Some(StopDisturbance::None),
            "SIGSTOP"
        );
    }

    #[test]
    fn time_that_begins_again_is_worse_than_none() {
        let ever = [0, 0, 0, u64::MAX, 0, 0];
        assert_eq!(
            sleeps_in(libc::SYS_epoll_wait, ever),
            Some(StopDisturbance::CallAgain)
        );
        let limited = [0, 0, 0, 1000, 0, 0];
        assert_eq!(
            sleeps_in(libc::SYS_epoll_wait, limited),
            Some(StopDisturbance::TimeAgain)
        );
        assert!(StopDisturbance::CallAgain < StopDisturbance::TimeAgain);
    }

    #[test]
    fn transfers_come_last_and_are_waited_for() {
        for call in [libc::SYS_write, libc::SYS_sendto, libc::SYS_getrandom] {
            let cut = sleeps_in(call, [0; 6]);
            assert_eq!(cut, Some(StopDisturbance::CutShort));
            assert!(cut.is_some_and(StopDisturbance::is_worth_waiting));
        }
        assert_eq!(
            sleeps_in(libc::SYS_ioctl, [0; 6]),
            Some(StopDisturbance::Unknown)
        );
        let runs = disturbance('R', ThreadActivity::Runs);
        assert!(runs.is_some_and(|runs| !runs.is_worth_waiting()));
    }

    #[test]
    fn who_cannot_be_stopped_is_no_candidate() {
        for state in ['D', 'Z', 't'] {
            assert_eq!(disturbance(state, ThreadActivity::Unknown), None, "{state}");
        }
    }
}
