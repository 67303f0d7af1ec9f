//! Rounds that come before the first that counts: pure.
//!
//! The first look reads all memory and takes long. What was written meanwhile is looked at again,
//! before anything counts.

use pages::track::{SessionEvent, TrackRound};

/// How far settling has come.
#[derive(Debug, Default)]
pub(super) struct SettlingRounds {
    /// Rounds that did not count.
    rounds: u64,
    /// What happened to the process in them.
    untold: Vec<SessionEvent>,
    /// Pages of the last round that were written again before they could be read.
    busy: u64,
}

/// A process that writes all the time never settles.
const AT_MOST: u64 = 3;

impl SettlingRounds {
    /// A round has been read: so many of its pages could not be.
    pub(super) fn read(&mut self, busy: u64) {
        self.busy = busy;
    }

    /// Whether another round is worth it.
    pub(super) fn goes_on(&self) -> bool {
        self.busy != 0 && self.rounds < AT_MOST
    }

    /// Takes a round that does not count: it has the number 0, and its events wait.
    pub(super) fn take(&mut self, round: &mut TrackRound) {
        self.rounds += 1;
        round.number = 0;
        self.untold.append(&mut round.events);
    }

    /// Gives a round that counts its number, and the events that waited.
    pub(super) fn number(&mut self, round: &mut TrackRound) {
        round.number -= self.rounds;
        round.events.splice(0..0, self.untold.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(number: u64, event: &str) -> TrackRound {
        TrackRound {
            number,
            events: vec![SessionEvent::Recorded(event.to_owned())],
            ..TrackRound::default()
        }
    }

    #[test]
    fn it_goes_on_while_pages_are_busy_but_not_for_ever() {
        let mut settling = SettlingRounds::default();
        assert!(!settling.goes_on());
        for number in 1..=3 {
            settling.read(5);
            assert!(settling.goes_on());
            settling.take(&mut round(number, ""));
        }
        assert!(!settling.goes_on());
    }

    #[test]
    fn rounds_that_do_not_count_leave_their_events_to_the_first_that_does() {
        let mut settling = SettlingRounds::default();
        let (mut first, mut second) = (round(1, "one"), round(2, "two"));
        settling.take(&mut first);
        assert_eq!((first.number, first.events.len()), (0, 0));
        settling.number(&mut second);
        let events: Vec<_> = second.events.iter().map(ToString::to_string).collect();
        assert_eq!(
            (second.number, &events[..]),
            (1, &["one".into(), "two".into()][..])
        );
        let mut third = round(3, "three");
        settling.number(&mut third);
        assert_eq!((third.number, third.events.len()), (2, 1));
    }
}
