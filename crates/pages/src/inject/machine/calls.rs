//! System calls that a stop may meet, and what it does to them: one row each.
#![forbid(unsafe_code)]

use super::super::CallTimeout;
use super::ptrace::ThreadRegisters;

/// A call that a thread is in: its number and arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallMade {
    /// Its number.
    pub(super) number: u64,
    /// As they are in the registers.
    pub(super) arguments: [u64; 6],
}

/// What a stop does to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallInterruption {
    /// It goes on where it was: the kernel knows how long it still has to sleep.
    GoesOn,
    /// It has done nothing yet and begins again.
    BeginsAgain,
    /// It returns what it has moved so far, which is less than it was asked for.
    CutShort,
    /// As [`Self::CutShort`] if its flags, in the argument of this number, have `MSG_WAITALL`; else
    /// as [`Self::BeginsAgain`], because it returns as soon as there is anything.
    CutShortIfAll(usize),
}

/// Where a call says how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallLimit {
    /// Nowhere: it waits forever.
    Never,
    /// Milliseconds in an argument, forever if negative.
    Milliseconds(usize),
    /// Argument that points to a time; null: forever.
    Pointer(usize),
    /// The socket's.
    Socket,
}

/// Where a call says how much it is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallAmount {
    /// Moves nothing, or does not say.
    None,
    /// Bytes or messages in an argument.
    Argument(usize),
    /// An array of `struct iovec` and their number in two arguments.
    Vector(usize, usize),
    /// A pointer to a `struct msghdr` in an argument.
    Message(usize),
}

/// A row.
pub(super) struct KnownCall {
    number: i64,
    /// Its name.
    pub(super) name: &'static str,
    interruption: CallInterruption,
    /// It returns EINTR although no signal came (signal(7)), having done nothing by then.
    returns_eintr: Option<CallLimit>,
    /// Sets a signal mask for as long as it waits.
    pub(super) masks_signals: bool,
    amount: CallAmount,
}

use CallAmount::{Argument, Message, Vector};
use CallInterruption::{BeginsAgain, CutShort, CutShortIfAll, GoesOn};
use CallLimit::{Milliseconds, Never, Pointer, Socket};

impl KnownCall {
    const fn new(number: i64, name: &'static str, interruption: CallInterruption) -> Self {
        Self {
            number,
            name,
            interruption,
            returns_eintr: None,
            masks_signals: false,
            amount: CallAmount::None,
        }
    }

    const fn eintr(self, limit: CallLimit) -> Self {
        Self {
            returns_eintr: Some(limit),
            ..self
        }
    }

    const fn masks(self) -> Self {
        Self {
            masks_signals: true,
            ..self
        }
    }

    const fn moves(self, amount: CallAmount) -> Self {
        Self { amount, ..self }
    }
}

/// libc has no name for these.
const SYS_IO_PGETEVENTS: i64 = 333;
const SYS_FUTEX_WAITV: i64 = 449;

const fn row(number: i64, name: &'static str, interruption: CallInterruption) -> KnownCall {
    KnownCall::new(number, name, interruption)
}

/// The rows. With a time that is in read-only memory, select and its kin return EINTR; else the
/// kernel restarts them with the time that is left.
const KNOWN: [KnownCall; 52] = [
    row(libc::SYS_nanosleep, "nanosleep", GoesOn),
    row(libc::SYS_clock_nanosleep, "clock_nanosleep", GoesOn),
    row(libc::SYS_restart_syscall, "restart_syscall", GoesOn),
    row(libc::SYS_futex, "futex", GoesOn),
    row(SYS_FUTEX_WAITV, "futex_waitv", GoesOn),
    row(libc::SYS_poll, "poll", GoesOn),
    row(libc::SYS_pause, "pause", GoesOn),
    row(libc::SYS_wait4, "wait4", GoesOn),
    row(libc::SYS_waitid, "waitid", GoesOn),
    row(libc::SYS_select, "select", GoesOn).eintr(Pointer(4)),
    row(libc::SYS_pselect6, "pselect6", GoesOn)
        .eintr(Pointer(4))
        .masks(),
    row(libc::SYS_ppoll, "ppoll", GoesOn)
        .eintr(Pointer(2))
        .masks(),
    row(libc::SYS_rt_sigsuspend, "rt_sigsuspend", BeginsAgain).masks(),
    row(libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", BeginsAgain).eintr(Pointer(2)),
    row(libc::SYS_epoll_wait, "epoll_wait", BeginsAgain).eintr(Milliseconds(3)),
    row(libc::SYS_epoll_pwait, "epoll_pwait", BeginsAgain)
        .eintr(Milliseconds(3))
        .masks(),
    row(libc::SYS_epoll_pwait2, "epoll_pwait2", BeginsAgain)
        .eintr(Pointer(3))
        .masks(),
    row(libc::SYS_semop, "semop", BeginsAgain).eintr(Never),
    row(libc::SYS_semtimedop, "semtimedop", BeginsAgain).eintr(Pointer(3)),
    row(libc::SYS_msgsnd, "msgsnd", BeginsAgain),
    row(libc::SYS_msgrcv, "msgrcv", BeginsAgain),
    row(libc::SYS_mq_timedsend, "mq_timedsend", BeginsAgain),
    row(libc::SYS_mq_timedreceive, "mq_timedreceive", BeginsAgain),
    row(libc::SYS_flock, "flock", BeginsAgain),
    row(libc::SYS_fcntl, "fcntl", BeginsAgain),
    row(libc::SYS_io_uring_enter, "io_uring_enter", BeginsAgain)
        .eintr(Never)
        .masks(),
    row(libc::SYS_accept, "accept", BeginsAgain).eintr(Socket),
    row(libc::SYS_accept4, "accept4", BeginsAgain).eintr(Socket),
    row(libc::SYS_connect, "connect", BeginsAgain).eintr(Socket),
    // They sleep only as long as there is nothing.
    row(libc::SYS_read, "read", BeginsAgain).eintr(Socket),
    row(libc::SYS_readv, "readv", BeginsAgain).eintr(Socket),
    row(libc::SYS_recvfrom, "recvfrom", CutShortIfAll(3))
        .eintr(Socket)
        .moves(Argument(2)),
    row(libc::SYS_recvmsg, "recvmsg", CutShortIfAll(2))
        .eintr(Socket)
        .moves(Message(1)),
    row(libc::SYS_recvmmsg, "recvmmsg", CutShort)
        .eintr(Socket)
        .moves(Argument(2)),
    row(libc::SYS_write, "write", CutShort)
        .eintr(Socket)
        .moves(Argument(2)),
    row(libc::SYS_writev, "writev", CutShort)
        .eintr(Socket)
        .moves(Vector(1, 2)),
    row(libc::SYS_sendto, "sendto", CutShort)
        .eintr(Socket)
        .moves(Argument(2)),
    row(libc::SYS_sendmsg, "sendmsg", CutShort)
        .eintr(Socket)
        .moves(Message(1)),
    row(libc::SYS_sendmmsg, "sendmmsg", CutShort)
        .eintr(Socket)
        .moves(Argument(2)),
    row(libc::SYS_sendfile, "sendfile", CutShort).moves(Argument(3)),
    row(libc::SYS_splice, "splice", CutShort).moves(Argument(4)),
    row(libc::SYS_tee, "tee", CutShort).moves(Argument(2)),
    row(libc::SYS_vmsplice, "vmsplice", CutShort).moves(Vector(1, 2)),
    row(libc::SYS_copy_file_range, "copy_file_range", CutShort).moves(Argument(4)),
    row(libc::SYS_getrandom, "getrandom", CutShort).moves(Argument(1)),
    row(libc::SYS_pread64, "pread64", CutShort),
    row(libc::SYS_preadv, "preadv", CutShort),
    row(libc::SYS_pwrite64, "pwrite64", CutShort).moves(Argument(2)),
    row(libc::SYS_pwritev, "pwritev", CutShort).moves(Vector(1, 2)),
    row(libc::SYS_pwritev2, "pwritev2", CutShort).moves(Vector(1, 2)),
    row(libc::SYS_io_getevents, "io_getevents", CutShort)
        .eintr(Pointer(4))
        .moves(Argument(1)),
    row(SYS_IO_PGETEVENTS, "io_pgetevents", CutShort)
        .masks()
        .moves(Argument(1)),
];

impl CallMade {
    /// The call whose way out a stopped thread is on; `None`: it is in user code.
    pub(super) fn of(registers: &ThreadRegisters) -> Option<Self> {
        let r = registers;
        (r.orig_rax as i64 >= 0).then_some(Self {
            number: r.orig_rax,
            arguments: [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9],
        })
    }

    /// Its row.
    pub(super) fn known(&self) -> Option<&'static KnownCall> {
        let is_it = |known: &&KnownCall| u64::try_from(known.number) == Ok(self.number);
        KNOWN.iter().find(is_it)
    }
}

impl KnownCall {
    /// What a stop does to this call of it.
    pub(super) fn interruption(&self, call: &CallMade) -> CallInterruption {
        match self.interruption {
            CutShortIfAll(flags) if call.arguments[flags] as i32 & libc::MSG_WAITALL != 0 => {
                CutShort
            }
            CutShortIfAll(_) => BeginsAgain,
            other => other,
        }
    }

    /// If it returns EINTR although no signal came: whether it would have ended by itself.
    pub(super) fn timeout(&self, call: &CallMade) -> Option<CallTimeout> {
        let finite = match self.returns_eintr? {
            Never => false,
            // An int: the upper half of the register says nothing.
            Milliseconds(index) => call.arguments[index] as i32 >= 0,
            Pointer(index) => call.arguments[index] != 0,
            Socket => return Some(CallTimeout::Socket),
        };
        Some(if finite {
            CallTimeout::Finite
        } else {
            CallTimeout::None
        })
    }

    /// How much this call is to move, if a stop can cut it short; `read` reads the thread's memory.
    pub(super) fn asked(
        &self,
        call: &CallMade,
        read: impl Fn(u64, &mut [u8]) -> bool,
    ) -> Option<u64> {
        /// More make no array that the kernel takes (`UIO_MAXIOV`).
        const PARTS: u64 = 1024;
        if self.interruption(call) != CutShort {
            return None;
        }
        let word = |at: u64| {
            let mut bytes = [0; 8];
            read(at, &mut bytes).then(|| u64::from_ne_bytes(bytes))
        };
        let sum = |array: u64, parts: u64| {
            let length = |part| word(array.checked_add(16 * part + 8)?);
            let lengths = (0..parts.min(PARTS)).map(length);
            lengths.sum::<Option<u64>>()
        };
        match self.amount {
            CallAmount::None => None,
            Argument(index) => Some(call.arguments[index]),
            Vector(array, parts) => sum(call.arguments[array], call.arguments[parts]),
            Message(index) => {
                // msg_iov and msg_iovlen of a struct msghdr.
                let header = call.arguments[index];
                sum(
                    word(header.checked_add(16)?)?,
                    word(header.checked_add(24)?)?,
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn call(number: i64, arguments: [u64; 6]) -> (CallMade, &'static KnownCall) {
        let made = CallMade {
            number: number as u64,
            arguments,
        };
        (made, made.known().unwrap())
    }

    #[test]
    fn no_call_has_two_rows() {
        let mut numbers = KNOWN.map(|known| known.number);
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn receiving_all_is_cut_and_receiving_anything_is_not() {
        let flags = libc::MSG_WAITALL as u64;
        let (made, known) = call(libc::SYS_recvfrom, [3, 0, 4096, flags, 0, 0]);
        assert_eq!(known.interruption(&made), CutShort);
        assert_eq!(known.asked(&made, |_, _| false), Some(4096));
        let (made, known) = call(libc::SYS_recvfrom, [3, 0, 4096, 0, 0, 0]);
        assert_eq!(known.interruption(&made), BeginsAgain);
        assert_eq!(known.asked(&made, |_, _| false), None);
    }

    #[test]
    fn lengths_of_a_vector_and_of_a_message_are_added_up() {
        let vector = [0x10u64, 100, 0x20, 23];
        let header = [0, 0, 0x1000, 2u64];
        let memory = |at: u64, bytes: &mut [u8]| {
            let (base, words): (u64, &[u64]) = match at {
                0x1000..0x1020 => (0x1000, &vector),
                0x2000..0x2020 => (0x2000, &header),
                _ => return false,
            };
            bytes.copy_from_slice(&words[(at - base) as usize / 8].to_ne_bytes());
            true
        };
        let (made, known) = call(libc::SYS_writev, [1, 0x1000, 2, 0, 0, 0]);
        assert_eq!(known.asked(&made, memory), Some(123));
        let (made, known) = call(libc::SYS_sendmsg, [1, 0x2000, 0, 0, 0, 0]);
        assert_eq!(known.asked(&made, memory), Some(123));
        let (made, known) = call(libc::SYS_sendmsg, [1, 0x3000, 0, 0, 0, 0]);
        assert_eq!(known.asked(&made, memory), None, "unmapped");
    }
}
