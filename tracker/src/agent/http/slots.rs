//! Who holds how many connections, and which one goes when there are too many.
//!
//! Clients that only hold connections keep nobody out: a new one is always taken, and of the peer
//! that then holds most goes the connection whose last answer, or else whose beginning, is longest
//! ago. So a client that asks for little is never the one that goes, whatever others do.

use super::peer::ClientPeer;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use tokio::sync::oneshot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections that are held; shared by them.
#[derive(Clone, Debug)]
pub(super) struct ClientSlots {
    most: usize,
    /// Those held, and those given up that are not closed yet.
    open: Arc<Semaphore>,
    table: Arc<Mutex<SlotTable>>,
}

#[derive(Debug, Default)]
struct SlotTable {
    next: u64,
    slots: Vec<ClientSlot>,
}

/// A connection that is held.
#[derive(Debug)]
struct ClientSlot {
    id: u64,
    peer: ClientPeer,
    /// Number of its last answer, or of its beginning: the lower, the longer ago.
    answered: Arc<AtomicU64>,
    /// Dropped to give it up.
    _keep: oneshot::Sender<Infallible>,
}

/// The end of a connection; drop it when the connection is closed.
#[derive(Debug)]
pub(super) struct HeldConnection {
    id: u64,
    answered: Arc<AtomicU64>,
    /// `None` once it is to be given up.
    kept: Option<oneshot::Receiver<Infallible>>,
    table: Arc<Mutex<SlotTable>>,
    _open: OwnedSemaphorePermit,
}

impl ClientSlots {
    /// Room for `most`, at least 1.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            open: Arc::new(Semaphore::new(open_at_most(most))),
            table: Arc::default(),
        }
    }

    /// A slot for a new connection. Where none is free another connection is given up. `None` if
    /// those given up are not closed yet.
    pub(super) fn take(&self, peer: ClientPeer) -> Option<HeldConnection> {
        let open = self.open.clone().try_acquire_owned().ok()?;
        let mut table = lock(&self.table);
        if table.slots.len() >= self.most {
            let held: Vec<_> = table.slots.iter().map(ClientSlot::standing).collect();
            if let Some(index) = gives_way(&held, peer) {
                let gone = table.slots.swap_remove(index);
                tracing::warn!(peer = %gone.peer, "gave up a connection of whoever holds most");
            }
        }
        let (keep, kept) = oneshot::channel();
        table.next += 1;
        let (id, answered) = (table.next, Arc::new(AtomicU64::new(table.next)));
        table.slots.push(ClientSlot {
            id,
            peer,
            answered: answered.clone(),
            _keep: keep,
        });
        Some(HeldConnection {
            id,
            answered,
            kept: Some(kept),
            table: self.table.clone(),
            _open: open,
        })
    }
}

/// How many sockets there are at once where `most` connections are held: some are being closed.
pub(in crate::agent) const fn open_at_most(most: usize) -> usize {
    most + most.div_ceil(2)
}

impl ClientSlot {
    fn standing(&self) -> (ClientPeer, u64) {
        (self.peer, self.answered.load(Ordering::Relaxed))
    }
}

impl HeldConnection {
    /// Notes that the client is being answered.
    pub(super) fn answered(&self) {
        let mut table = lock(&self.table);
        table.next += 1;
        self.answered.store(table.next, Ordering::Relaxed);
    }

    /// Whether the connection is to end; wakes the task when it is to.
    pub(super) fn poll_given_up(&mut self, cx: &mut Context<'_>) -> bool {
        let given_up = (self.kept.as_mut()).is_none_or(|kept| Pin::new(kept).poll(cx).is_ready());
        if given_up {
            self.kept = None;
        }
        given_up
    }
}

impl Drop for HeldConnection {
    fn drop(&mut self) {
        lock(&self.table).slots.retain(|slot| slot.id != self.id);
    }
}

/// Which of the connections that are held, each with its peer and the number of its last answer,
/// gives way to a new one of `newcomer`; `None` only if none is held.
fn gives_way(held: &[(ClientPeer, u64)], newcomer: ClientPeer) -> Option<usize> {
    let mut counts: HashMap<ClientPeer, usize> = HashMap::from([(newcomer, 1)]);
    for (peer, _) in held {
        *counts.entry(*peer).or_default() += 1;
    }
    let most = held.iter().filter_map(|(peer, _)| counts.get(peer)).max()?;
    let of_most = held.iter().enumerate();
    of_most
        .filter(|(_, (peer, _))| counts.get(peer) == Some(most))
        .min_by_key(|(_, (_, answered))| *answered)
        .map(|(index, _)| index)
}

/// A poisoned lock is taken: each change of the table is whole.
fn lock(table: &Mutex<SlotTable>) -> MutexGuard<'_, SlotTable> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: ClientPeer = ClientPeer::User(1000);
    const SCRAPER: ClientPeer = ClientPeer::User(113);

    #[test]
    fn who_holds_most_gives_way_by_what_was_answered_longest_ago() {
        let held = [(SCRAPER, 1), (FLOOD, 4), (FLOOD, 3), (FLOOD, 9)];
        assert_eq!(gives_way(&held, SCRAPER), Some(2));
        assert_eq!(gives_way(&held, FLOOD), Some(2));
        assert_eq!(gives_way(&[], FLOOD), None);
    }

    #[test]
    fn among_equals_goes_what_was_answered_longest_ago() {
        let held = [(FLOOD, 7), (SCRAPER, 5)];
        assert_eq!(gives_way(&held, ClientPeer::User(1)), Some(1));
        // The newcomer makes its own peer the one that holds most.
        assert_eq!(gives_way(&held, FLOOD), Some(0));
    }

    #[test]
    fn a_flood_never_takes_the_slot_of_a_scraper() {
        let slots = ClientSlots::new(4);
        let mut scraper = slots.take(SCRAPER);
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        for _ in 0..1000 {
            // Each is closed as soon as it is given up.
            drop(slots.take(FLOOD));
        }
        let mut flood: Vec<_> = (0..6).filter_map(|_| slots.take(FLOOD)).collect();
        assert_eq!(flood.len(), 5, "6 sockets at once, and the scraper has one");
        let gone = |held: &mut HeldConnection, cx: &mut Context<'_>| held.poll_given_up(cx);
        assert_eq!(
            flood
                .iter_mut()
                .filter_map(|held| gone(held, cx).then_some(()))
                .count(),
            2
        );
        assert!(scraper.as_mut().is_some_and(|held| !gone(held, cx)));
        drop(flood);
        assert!(slots.take(FLOOD).is_some());
    }
}
