//! What an injection did that the target's owner might notice.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// One such thing. Its text is for people; decisions match the variants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InjectNote {
    /// The stop met threads in a system call.
    Interrupted {
        /// How many threads in the same call.
        threads: usize,
        /// What became of it.
        call: InterruptedCall,
    },
    /// The whole process was stopped before, and still is.
    StaysStopped,
    /// All threads had to be stopped, and not one.
    AllStopped {
        /// How many.
        threads: usize,
        /// Why no thread could have the userfaultfd opened while the others ran.
        why: String,
    },
}

/// A system call that returned because of the stop, and would have gone on without it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InterruptedCall {
    /// It had done nothing yet, so the kernel begins it again.
    BegunAgain {
        /// The call.
        name: String,
        /// Its timeout, which begins anew.
        timeout: CallTimeout,
    },
    /// Doing it again might do it twice: it ended with EINTR. The number of the call.
    Ended(u64),
    /// It returned what it had moved so far.
    CutShort {
        /// The call.
        name: String,
    },
}

/// Whether an interrupted call would have ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CallTimeout {
    /// No.
    None,
    /// Yes.
    Finite,
    /// If the socket has a timeout (`SO_RCVTIMEO`, `SO_SNDTIMEO`), and it must have: without one
    /// the kernel restarts the call.
    Socket,
}

impl fmt::Display for InjectNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted { threads: 1, call } => write!(f, "in one thread {call}"),
            Self::Interrupted { threads, call } => write!(f, "in {threads} threads {call}"),
            Self::StaysStopped => f.write_str("the process is stopped (SIGSTOP) and stays so"),
            Self::AllStopped { threads, why } => {
                write!(
                    f,
                    "all {threads} threads were stopped, since none makes a child: {why}"
                )
            }
        }
    }
}

impl fmt::Display for InterruptedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, timeout) = match self {
            Self::BegunAgain { name, timeout } => (name, timeout),
            Self::Ended(number) => {
                return write!(
                    f,
                    "system call {number} ended with EINTR, as after a signal"
                );
            }
            Self::CutShort { name } => {
                return write!(
                    f,
                    "{name} came back short: it had done a part when it was stopped"
                );
            }
        };
        write!(f, "{name} was begun again")?;
        match timeout {
            CallTimeout::None => Ok(()),
            CallTimeout::Finite => f.write_str(", and its timeout with it"),
            CallTimeout::Socket => f.write_str(", and its socket's timeout with it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_owner_reads() {
        let again = |timeout| InterruptedCall::BegunAgain {
            name: "epoll_wait".to_owned(),
            timeout,
        };
        let text = |threads, call| InjectNote::Interrupted { threads, call }.to_string();
        assert_eq!(
            text(1, again(CallTimeout::Finite)),
            "in one thread epoll_wait was begun again, and its timeout with it"
        );
        assert_eq!(
            text(3, again(CallTimeout::Socket)),
            "in 3 threads epoll_wait was begun again, and its socket's timeout with it"
        );
        assert_eq!(
            text(1, InterruptedCall::Ended(3)),
            "in one thread system call 3 ended with EINTR, as after a signal"
        );
        let name = "write".to_owned();
        assert_eq!(
            text(2, InterruptedCall::CutShort { name }),
            "in 2 threads write came back short: it had done a part when it was stopped"
        );
    }
}
