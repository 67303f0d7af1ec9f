//! The handler of sync mode: a thread that reads messages and lets the writers continue.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::{Context as _, Result};
use rustix::event::epoll;
use uffd::{PAGE_SIZE, UffdFeatures, UffdMessage, Userfaultfd};

/// A running handler, whose thread lives as long as the process.
#[derive(Clone, Debug)]
pub struct SyncHandler(Arc<SyncHandlerState>);

#[derive(Debug)]
struct SyncHandlerState {
    /// Faults answered so far.
    faults: AtomicU64,
    /// How many bytes to resolve for each fault: a page of 4 KiB or 2 MiB.
    unit: AtomicU64,
}

impl SyncHandler {
    /// Starts the thread, and waits until it has all the memory that it will need.
    pub fn start(uffd: Arc<Userfaultfd>) -> Result<Self> {
        let shared = Arc::new(SyncHandlerState {
            faults: AtomicU64::new(0),
            unit: AtomicU64::new(PAGE_SIZE),
        });
        let (handler, ready) = (Self(shared), Arc::new(Barrier::new(2)));
        let (theirs, started) = (handler.clone(), ready.clone());
        let mut serving = SyncHandlerThread::new(uffd, theirs)?;
        let body = move || {
            crate::warm_up();
            started.wait();
            if let Err(error) = serving.run() {
                // Writers wait for this thread, and without it the row would hang.
                eprintln!("uffdwp-workload: the fault handler failed: {error:#}");
                std::process::exit(1);
            }
        };
        thread::Builder::new()
            .name("handler".into())
            .spawn(body)
            .context("cannot start a thread")?;
        ready.wait();
        Ok(handler)
    }

    /// Resolves whole units of this size from now on.
    pub fn set_unit(&self, bytes: u64) {
        self.0.unit.store(bytes, Ordering::Relaxed);
    }

    /// Faults answered so far, in this process and in forked ones.
    pub fn faults(&self) -> u64 {
        self.0.faults.load(Ordering::Relaxed)
    }
}

/// What the thread works with. While a fork waits for its message to be read, glibc holds the locks
/// of malloc, so the thread must not allocate before it reads: hence the buffers.
struct SyncHandlerThread {
    handler: SyncHandler,
    /// Ours first, then one for each child that a fork message announced.
    uffds: Vec<Arc<Userfaultfd>>,
    epoll: OwnedFd,
    messages: Vec<UffdMessage>,
}

impl SyncHandlerThread {
    fn new(uffd: Arc<Userfaultfd>, handler: SyncHandler) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot create an epoll")?;
        let (uffds, messages) = (Vec::with_capacity(8), Vec::with_capacity(16));
        let mut serving = Self {
            handler,
            uffds,
            epoll,
            messages,
        };
        serving.add(uffd)?;
        Ok(serving)
    }

    fn add(&mut self, uffd: Arc<Userfaultfd>) -> Result<()> {
        let index = epoll::EventData::new_u64(self.uffds.len() as u64);
        epoll::add(&self.epoll, &uffd, index, epoll::EventFlags::IN)
            .context("cannot watch a userfaultfd")?;
        self.uffds.push(uffd);
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        loop {
            let mut buffer = [MaybeUninit::uninit(); 8];
            let events = match epoll::wait(&self.epoll, &mut buffer[..], None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result.context("cannot wait for messages")?.0,
            };
            for event in events {
                let uffd = self.uffds[event.data.u64() as usize].clone();
                self.serve(&uffd)?;
            }
        }
    }

    fn serve(&mut self, uffd: &Userfaultfd) -> Result<()> {
        self.messages.clear();
        uffd.read_messages(&mut self.messages)?;
        (0..self.messages.len()).try_for_each(|index| self.answer(uffd, self.messages[index]))
    }

    fn answer(&mut self, uffd: &Userfaultfd, message: UffdMessage) -> Result<()> {
        match message {
            UffdMessage::Fault {
                address,
                write_protect: true,
                ..
            } => {
                // Count first: the writer continues as soon as the fault is resolved.
                self.handler.0.faults.fetch_add(1, Ordering::Relaxed);
                uffd.resolve(&self.unit_at(address))?;
            }
            UffdMessage::Fork { fd } => {
                // SAFETY: the message just gave us this descriptor, and only we read messages.
                let child = unsafe { Userfaultfd::from_fork(fd) };
                self.add(Arc::new(child))?;
            }
            UffdMessage::Remap { .. } | UffdMessage::Removed { .. } => (),
            other => anyhow::bail!("a message no row asked for: {other:?}"),
        }
        Ok(())
    }

    fn unit_at(&self, address: u64) -> Range<u64> {
        let unit = self.handler.0.unit.load(Ordering::Relaxed);
        let start = address / unit * unit;
        start..start + unit
    }
}

/// Whether somebody must read messages: in async mode, only events have any.
pub fn is_needed(features: UffdFeatures) -> bool {
    let events = UffdFeatures::EVENT_FORK | UffdFeatures::EVENT_REMAP;
    !features.is_async() || features & events != UffdFeatures::default()
}
