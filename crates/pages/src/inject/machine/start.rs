//! Starting a helper, and asking it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::wire::{self, HelperReply, HelperRequest};
use super::super::{InjectError, InjectOptions};
use super::helper;

/// A helper at work. Dropping it hangs up.
pub(super) struct HelperHandle {
    target: u32,
    /// The only thing that ties it to us. Closed before its end is waited for.
    socket: OwnedFd,
    process: HelperProcess,
    /// It answers sooner, unless something holds it as well.
    longest: Duration,
}

/// The helper's process, which is waited for when this is dropped.
struct HelperProcess {
    child: Option<Child>,
    /// It goes on until the last thread has stopped that was asked to.
    stays: bool,
}

/// What a helper answers, with the descriptor that came along.
pub(super) type HelperMessage<T> = (T, Option<OwnedFd>);

impl HelperHandle {
    /// Starts one, gives it a request, with a descriptor or without, and waits for its answer.
    pub(super) fn ask<T: DeserializeOwned>(
        request: &HelperRequest,
        fd: Option<BorrowedFd<'_>>,
        options: &InjectOptions,
    ) -> Result<(Self, HelperMessage<T>), InjectError> {
        let target = request.target().pid;
        let mut helper = Self::start(target, options)?;
        let sent = wire::send(helper.socket.as_fd(), request, fd);
        sent.map_err(|error| unreachable(target, error))?;
        let (reply, fd) = helper.hear::<HelperReply<T>>()?;
        helper.process.stays = reply.stays;
        reply.result.map(|answer| (helper, (answer, fd)))
    }

    fn start(target: u32, options: &InjectOptions) -> Result<Self, InjectError> {
        let (socket, theirs) = wire::pair().map_err(|error| unreachable(target, error))?;
        let mut command = Command::new(&options.helper);
        command.arg(helper::ARGUMENT).stdin(Stdio::from(theirs));
        let child = command.stdout(Stdio::null()).spawn().map_err(|error| {
            let program = options.helper.display();
            lost(target, format!("cannot be started from {program}: {error}"))
        })?;
        let process = HelperProcess {
            child: Some(child),
            stays: false,
        };
        /// For what it does with nobody waiting, on a machine that has other things to do.
        const SPARE: Duration = Duration::from_secs(30);
        Ok(Self {
            target,
            socket,
            process,
            longest: 2 * options.patience + 4 * options.longest_stop + SPARE,
        })
    }

    /// What it is talked to through.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends it a message.
    pub(super) fn say(&self, message: &impl Serialize) -> Result<(), InjectError> {
        let sent = wire::send(self.socket.as_fd(), message, None);
        sent.map_err(|error| unreachable(self.target, error))
    }

    /// Waits for a message, but not forever: what holds the target may hold the helper, which goes
    /// on then until it has repaired what it stopped.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> Result<HelperMessage<T>, InjectError> {
        if !self.is_heard_in_time() {
            self.process.stays = true;
            let seconds = self.longest.as_secs();
            return Err(lost(
                self.target,
                format!("gave no answer within {seconds} s"),
            ));
        }
        let heard = wire::receive(&self.socket);
        let heard = heard.map_err(|error| unreachable(self.target, error))?;
        heard.ok_or_else(|| lost(self.target, self.process.end()))
    }

    fn is_heard_in_time(&self) -> bool {
        let began = Instant::now();
        loop {
            let left = self.longest.saturating_sub(began.elapsed());
            let time = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut message = [PollFd::new(&self.socket, PollFlags::IN)];
            match rustix::event::poll(&mut message, Some(&time)) {
                Err(Errno::INTR) => {}
                // An error is told by whoever receives.
                ready => return ready != Ok(0),
            }
        }
    }
}

impl HelperProcess {
    /// Waits for its end, which came without an answer.
    fn end(&mut self) -> String {
        match self.child.take().map(|mut child| child.wait()) {
            Some(Ok(status)) => format!("ended without an answer ({status})"),
            Some(Err(error)) => format!("is lost: {error}"),
            None => "has ended".to_owned(),
        }
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // Its status tells nothing that its answer did not.
        if self.stays {
            std::thread::spawn(move || child.wait());
        } else {
            let _ = child.wait();
        }
    }
}

fn unreachable(pid: u32, error: Errno) -> InjectError {
    lost(pid, format!("cannot be talked to: {error}"))
}

fn lost(pid: u32, why: String) -> InjectError {
    InjectError::Helper { pid, why }
}
