//! Messages of a userfaultfd, for clients that answer them.

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use uffd::{UffdMessage, Userfaultfd};

/// Waits for messages, and puts them in the place of those of before.
pub fn next(uffd: &Userfaultfd, messages: &mut Vec<UffdMessage>) -> Result<()> {
    messages.clear();
    loop {
        match poll(&mut [PollFd::new(uffd, PollFlags::IN)], None) {
            Err(Errno::INTR) => (),
            result => {
                result.context("cannot wait for messages")?;
                break;
            }
        }
    }
    Ok(uffd.read_messages(messages)?)
}
