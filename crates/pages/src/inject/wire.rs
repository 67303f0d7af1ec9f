//! What tracker and its helper say to each other: one request, one answer with a descriptor.
#![forbid(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{InjectError, InjectNote, KernelFaults};

/// A process, and no other that gets its number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TargetProcess {
    /// Its number.
    pub(crate) pid: u32,
    /// Its start: another means another process.
    pub(crate) start_time: u64,
}

/// What the helper is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum HelperRequest {
    /// Get a userfaultfd.
    Inject(InjectRequest),
    /// Stop all threads.
    Freeze(FreezeRequest),
    /// Let go of what is registered with the userfaultfd that comes along, once tracker stands still.
    Guard(GuardRequest),
}

/// Get a userfaultfd.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InjectRequest {
    /// Of whom.
    pub(crate) target: TargetProcess,
    /// How long to wait for a thread that can be stopped.
    pub(crate) patience_ms: u64,
    /// How long threads may stand still.
    pub(crate) longest_stop_ms: u64,
    /// What the userfaultfd must be able to do.
    pub(crate) kernel_faults: KernelFaults,
}

/// Stop all threads.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FreezeRequest {
    /// Of whom.
    pub(crate) target: TargetProcess,
    /// How long stopping them may take.
    pub(crate) longest_stop_ms: u64,
    /// How long they stand still if nobody lets them go.
    pub(crate) longest_ms: u64,
}

/// Let go of what is registered, once tracker stands still.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GuardRequest {
    /// Of whom.
    pub(crate) target: TargetProcess,
}

impl HelperRequest {
    /// Whose threads.
    pub(crate) const fn target(&self) -> &TargetProcess {
        match self {
            Self::Inject(InjectRequest { target, .. })
            | Self::Freeze(FreezeRequest { target, .. })
            | Self::Guard(GuardRequest { target }) => target,
        }
    }
}

/// What came of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HelperReply<T> {
    /// That.
    pub(crate) result: Result<T, InjectError>,
    /// The helper waits for threads that were asked to stop and have not yet.
    pub(crate) stays: bool,
}

/// What it did; the userfaultfd comes along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InjectAnswer {
    /// How long threads stood still.
    pub(crate) stopped_ns: u64,
    /// How many the process had.
    pub(crate) threads: usize,
    /// How many stood still.
    pub(crate) stopped_threads: usize,
    /// Faults of the kernel are not handled.
    pub(crate) user_mode_only: bool,
    /// What its owner might notice.
    pub(crate) notes: Vec<InjectNote>,
}

/// All threads stand still.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FreezeAnswer {
    /// How many.
    pub(crate) threads: usize,
    /// What their owner might notice.
    pub(crate) notes: Vec<InjectNote>,
}

/// They are to go on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ThawRequest;

/// They go on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ThawAnswer {
    /// How long they stood still; `None`: they were let go before they were to.
    pub(crate) stood_ns: Option<u64>,
}

/// It is on guard.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GuardAnswer {
    /// It is in the target's control group: what freezes tracker's does not freeze it.
    pub(crate) is_apart: bool,
}

/// tracker runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GuardBeat;

/// No message is longer: notes are about kinds of calls, not about threads.
const LONGEST: usize = 64 << 10;

/// Both ends of a connection that keeps messages apart.
pub(super) fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)
}

/// Sends a message, with a descriptor or without.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    fd: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.as_slice();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::NOBUFS);
    }
    // The other side may have been killed: that must not kill us.
    let flags = SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags).map(drop)
}

/// Waits for a message; `None`: the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
) -> rustix::io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, flags) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if received.bytes == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&bytes[..received.bytes]).map_err(|_| Errno::BADMSG)?;
    Ok(Some((message, rights)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_answer_arrives_with_its_descriptor() {
        let (here, there) = pair().unwrap();
        let sent = HelperReply {
            result: Ok(InjectAnswer {
                stopped_ns: 7,
                threads: 2,
                stopped_threads: 1,
                user_mode_only: true,
                notes: vec![InjectNote::StaysStopped],
            }),
            stays: false,
        };
        send(there.as_fd(), &sent, Some(here.as_fd())).unwrap();
        let (received, fd) = receive::<HelperReply<InjectAnswer>>(&here)
            .unwrap()
            .unwrap();
        assert_eq!(format!("{received:?}"), format!("{sent:?}"));
        assert!(fd.is_some());
        drop((there, fd));
        assert!(
            receive::<HelperReply<InjectAnswer>>(&here)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn an_error_arrives_as_it_was() {
        let (here, there) = pair().unwrap();
        let error = InjectError::from(uffd::ProcessGone { pid: 9 });
        let sent = HelperReply::<InjectAnswer> {
            result: Err(error.clone()),
            stays: true,
        };
        send(there.as_fd(), &sent, None).unwrap();
        let (received, fd) = receive::<HelperReply<InjectAnswer>>(&here)
            .unwrap()
            .unwrap();
        assert_eq!(received.result.err(), Some(error));
        assert!(received.stays);
        assert!(fd.is_none());
    }

    #[test]
    fn nobody_there_is_an_error_and_no_signal() {
        let (here, there) = pair().unwrap();
        drop(here);
        assert_eq!(send(there.as_fd(), &1, None), Err(Errno::PIPE));
    }
}
