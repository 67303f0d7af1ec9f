//! The thread that answers the messages of a userfaultfd, for strategies in which the target waits for an answer.
//!
//! However it ends, it lets go of everything first: nobody is left waiting.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use uffd::Backing;

use super::area::TrackedArea;
use super::registered::{RegisteredAreas, is_unmapped};
use uffd::{PAGE_SIZE, UffdError, UffdMessage};

/// A fault that waits for an answer.
#[derive(Clone, Debug)]
pub(super) struct WaitingFault {
    /// The area it is in.
    pub(crate) area: TrackedArea,
    /// False: nobody has told of it yet. A mapping that grows in place (a stack, mremap(2)) takes its registration along.
    pub(crate) known: bool,
    /// The page that is answered for.
    pub(crate) page: Range<u64>,
    /// A write to an armed page; otherwise the page is missing.
    pub(crate) write_protect: bool,
    /// A write.
    pub(crate) write: bool,
}

/// What the thread does with each fault.
pub(super) type FaultAnswer =
    Box<dyn FnMut(&RegisteredAreas, &WaitingFault) -> Result<(), UffdError> + Send>;

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct FaultHandler {
    stop: Arc<OwnedFd>,
    failure: Arc<Mutex<Option<UffdError>>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultHandler {
    /// Starts to answer.
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

    /// Fails if the thread has ended on an error: then nothing is tracked any more.
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
    /// Also when it panics.
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

    /// Waits for messages; false: it is to end.
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
            // Events were not asked for.
            return Ok(());
        };
        let known = self.registered.at(address);
        let grown = || {
            let start = address / PAGE_SIZE * PAGE_SIZE;
            // Hugetlb does not grow; shmem takes what anonymous memory does.
            TrackedArea {
                range: start..start + PAGE_SIZE,
                backing: Backing::Anon,
                page_size: PAGE_SIZE,
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

/// Disarms a page and wakes who waits for it, also if it is not registered any more.
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

    /// A write to an armed page, answered by `answer`, ends; what the handler then says of itself.
    fn write_answered_by(answer: FaultAnswer) -> Result<(), UffdError> {
        let scratch = ScratchMapping::anonymous(PAGE_SIZE).unwrap();
        let area = TrackedArea {
            range: scratch.range(),
            backing: Backing::Anon,
            page_size: PAGE_SIZE,
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
