//! The thread that answers the messages of a userfaultfd, for strategies whose target waits for an
//! answer.
//!
//! However the thread ends, it lets go of everything first: nobody is left waiting.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use uffd::{Backing, PAGE_SIZE, UffdError, UffdMessage};

use super::area::TrackedArea;
use super::registered::{RegisteredAreas, is_unmapped};

/// A fault that waits for an answer.
#[derive(Clone, Debug)]
pub(super) struct WaitingFault {
    /// The area that holds the page.
    pub(crate) area: TrackedArea,
    /// Whether the area was armed by us. A mapping that grows in place (a stack, mremap(2)) takes
    /// its registration along, before anybody tells of it.
    pub(crate) known: bool,
    /// The page that the answer is about.
    pub(crate) page: Range<u64>,
    /// Whether the page is armed and was written to; otherwise it is missing.
    pub(crate) write_protect: bool,
    /// Whether the access is a write.
    pub(crate) write: bool,
}

/// What the thread does with each fault.
pub(super) type FaultAnswer =
    Box<dyn FnMut(&RegisteredAreas, &WaitingFault) -> Result<(), UffdError> + Send>;

/// The running thread. Dropping this ends it.
#[derive(Debug)]
pub(super) struct FaultHandler {
    stop: Arc<OwnedFd>,
    failure: Arc<Mutex<Option<UffdError>>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultHandler {
    /// Starts answering.
    pub(super) fn start(
        registered: Arc<RegisteredAreas>,
        answer: FaultAnswer,
    ) -> Result<Self, UffdError> {
        let failed = |what| move |e| UffdError::system("cannot create", what, e);
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(failed("an eventfd"))?;
        let (stop, failure) = (Arc::new(stop), Arc::new(Mutex::default()));
        let serving = HandlerThread {
            registered,
            answer,
            stop: stop.clone(),
            failure: failure.clone(),
        };
        let thread = thread::Builder::new()
            .name("fault handler".into())
            .spawn(move || serving.run())
            .map_err(|e| UffdError::system("cannot create", "a thread", e))?;
        Ok(Self {
            stop,
            failure,
            thread: Some(thread),
        })
    }

    /// Fails if the thread has ended: nothing is tracked any more then.
    pub(super) fn check(&self) -> Result<(), UffdError> {
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match failure {
            Some(error) => Err(error),
            None if self.thread.as_ref().is_none_or(JoinHandle::is_finished) => {
                Err(UffdError::system(
                    "the fault handler of",
                    "the target has ended",
                    Errno::CANCELED,
                ))
            }
            None => Ok(()),
        }
    }
}

impl Drop for FaultHandler {
    fn drop(&mut self) {
        // An eventfd takes 2^64 - 2 of these.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct HandlerThread {
    registered: Arc<RegisteredAreas>,
    answer: FaultAnswer,
    stop: Arc<OwnedFd>,
    failure: Arc<Mutex<Option<UffdError>>>,
}

impl Drop for HandlerThread {
    /// Runs on a panic, too.
    fn drop(&mut self) {
        let _ = self.registered.release();
    }
}

impl HandlerThread {
    fn run(mut self) {
        if let Err(error) = self.serve() {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }

    fn serve(&mut self) -> Result<(), UffdError> {
        let mut messages = Vec::with_capacity(16);
        while self.wait()? {
            messages.clear();
            self.registered.uffd().read_messages(&mut messages)?;
            messages
                .iter()
                .try_for_each(|message| self.handle(message))?;
        }
        Ok(())
    }

    /// Waits for messages. False: the thread is to end.
    fn wait(&self) -> Result<bool, UffdError> {
        let uffd = self.registered.uffd();
        let mut fds = [
            PollFd::new(uffd, PollFlags::IN),
            PollFd::new(&*self.stop, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => Ok(fds[1].revents().is_empty()),
            Err(e) => Err(UffdError::system("cannot wait for", "a userfaultfd", e)),
        }
    }

    fn handle(&mut self, message: &UffdMessage) -> Result<(), UffdError> {
        let UffdMessage::Fault {
            address,
            write_protect,
            write,
        } = *message
        else {
            // No events were asked for.
            return Ok(());
        };
        let known = self.registered.at(address);
        let grown = || {
            let start = address / PAGE_SIZE * PAGE_SIZE;
            // Hugetlb does not grow, and shmem takes the answer of anonymous memory.
            TrackedArea {
                range: start..start + PAGE_SIZE,
                backing: Backing::Anon,
                page_size: PAGE_SIZE,
                shared: false,
            }
        };
        let (known, area) = (known.is_some(), known.unwrap_or_else(grown));
        let page = area.page_at(address);
        let fault = WaitingFault {
            area,
            known,
            page,
            write_protect,
            write,
        };
        (self.answer)(&self.registered, &fault)
    }
}

/// Disarms a page and wakes whoever waits for it, even if it is no longer registered.
pub(super) fn resolve(registered: &RegisteredAreas, page: &Range<u64>) -> Result<(), UffdError> {
    match registered.uffd().resolve(page) {
        Err(e) if is_unmapped(&e) => registered.uffd().wake(page),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use uffd::{RegisterMode, ScratchMapping, UffdFeatures, Userfaultfd};

    /// Has `answer` answer a write to an armed page, and returns what the handler says afterwards.
    fn write_answered_by(answer: FaultAnswer) -> Result<(), UffdError> {
        let scratch = ScratchMapping::anonymous(PAGE_SIZE).unwrap();
        let area = TrackedArea {
            range: scratch.range(),
            backing: Backing::Anon,
            page_size: PAGE_SIZE,
            shared: false,
        };
        let uffd = Userfaultfd::open_user_mode_only().unwrap();
        let registered = Arc::new(
            RegisteredAreas::new(uffd, UffdFeatures::default(), RegisterMode::WP).unwrap(),
        );
        let handler = FaultHandler::start(registered.clone(), answer).unwrap();
        registered.add(&area).unwrap();
        scratch.write(0);
        registered.arm_all(&area).unwrap();
        scratch.store(0, 2);
        assert_eq!(scratch.read(0), 2);
        while !handler.thread.as_ref().unwrap().is_finished() {
            thread::yield_now();
        }
        handler.check()
    }

    #[test]
    fn a_handler_that_fails_lets_the_writer_go_on_and_says_why() {
        let refuse = || UffdError::system("cannot do", "it", Errno::NOSPC);
        let error = write_answered_by(Box::new(move |_, _| Err(refuse()))).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOSPC));
    }

    #[test]
    fn a_handler_that_panics_lets_the_writer_go_on() {
        let error = write_answered_by(Box::new(|_, _| panic!("as planned"))).unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
    }
}
