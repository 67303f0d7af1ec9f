//! Rounds of their tracker between two looks at a page, from its calls and the kernel's events:
//! pure.
//!
//! An epoch begins when their tracker arms the page, and is over when it arms it again: what took
//! the protection off in between was reported. Content is known only of epochs that a look saw
//! begin or end.

use super::epoch::PageEpoch;
use super::memory::WriteAnswer;

/// Something that happened to a page, by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageHappening {
    /// An event took its protection off, if it had any.
    Disarmed {
        /// The event's number.
        event: usize,
        /// It comes to armed pages only, and is one that their tracker answers, if it answers.
        of_armed: bool,
    },
    /// Their tracker has armed it.
    Armed,
    /// Their tracker has put content there, and armed it: it was not there before.
    FilledArmed,
    /// Their tracker has taken its protection off.
    Resolved,
}

/// What two looks saw of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageLooks {
    pub before: PageEpoch,
    pub armed_now: bool,
    pub answered: WriteAnswer,
}

/// A report of their tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TheirReport {
    /// The event that made it; `None`: what was open at the look before.
    pub event: Option<usize>,
    /// The look before saw its epoch begin.
    pub begin_seen: bool,
    /// This look sees the content that it was armed again with.
    pub end_seen: bool,
}

/// What came of a page since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageRounds {
    /// Reports, by time.
    pub reports: Vec<TheirReport>,
    /// The event since which it is not armed, if that is known.
    pub open: Option<usize>,
    /// It is not armed because their tracker took its protection off by itself.
    pub released: bool,
    /// Whether the epoch at hand is the one that the look before saw.
    pub same_epoch: bool,
}

/// What is known of the protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProtectionState {
    Unknown,
    On,
    /// A thread waits for their tracker because of this event.
    Awaited(usize),
    /// Off, since the event.
    Off(Option<usize>),
    /// Off since the event, and on again: reported, as far as the call reached the page.
    Again(Option<usize>),
    /// Their tracker took it off by itself.
    Released,
}

/// What came of a page since the last look. `None`: nothing that events tell.
pub(super) fn rounds(looks: PageLooks, happenings: &[PageHappening]) -> Option<PageRounds> {
    let mut timeline = PageTimeline::new(looks);
    for happening in happenings {
        timeline.add(*happening);
    }
    timeline.end(looks.armed_now)
}

struct PageTimeline {
    state: ProtectionState,
    answered: WriteAnswer,
    reports: Vec<TheirReport>,
    same_epoch: bool,
}

impl PageTimeline {
    fn new(looks: PageLooks) -> Self {
        let state = match looks.before {
            PageEpoch::Armed(_) => ProtectionState::On,
            PageEpoch::Written(_) => ProtectionState::Off(None),
            PageEpoch::Unseen | PageEpoch::Unarmed => ProtectionState::Unknown,
        };
        Self {
            state,
            answered: looks.answered,
            reports: Vec::new(),
            same_epoch: state != ProtectionState::Unknown,
        }
    }

    fn add(&mut self, happening: PageHappening) {
        use PageHappening::{Armed, Disarmed, FilledArmed, Resolved};
        use ProtectionState::{Again, Awaited, Off, On, Released, Unknown};
        self.state = match (happening, self.state) {
            (Disarmed { event, of_armed }, On) => self.disarmed(event, of_armed),
            (Disarmed { event, of_armed }, Again(last)) => {
                self.report(last, false);
                self.disarmed(event, of_armed)
            }
            // It was armed again in between, whoever did that.
            (
                Disarmed {
                    event,
                    of_armed: true,
                },
                Off(last),
            ) => {
                self.report(last, false);
                self.disarmed(event, true)
            }
            (
                Disarmed {
                    event,
                    of_armed: true,
                },
                Released | Unknown,
            ) => {
                self.same_epoch = false;
                self.disarmed(event, true)
            }
            (Armed | FilledArmed, Off(last)) => Again(last),
            (Armed, Released) | (FilledArmed, Released | On | Unknown) => {
                self.same_epoch = false;
                On
            }
            (Resolved, Awaited(event)) => Off(Some(event)),
            (Resolved, On) => Released,
            (Resolved, Again(last)) => {
                self.report(last, false);
                Released
            }
            // Several threads may wait for one answer, and a fault may be tried again.
            (Disarmed { .. } | Armed | FilledArmed | Resolved, state) => state,
        };
    }

    fn disarmed(&self, event: usize, of_armed: bool) -> ProtectionState {
        match self.answered {
            WriteAnswer::Tracker if of_armed => ProtectionState::Awaited(event),
            _ => ProtectionState::Off(Some(event)),
        }
    }

    fn report(&mut self, event: Option<usize>, end_seen: bool) {
        self.reports.push(TheirReport {
            event,
            begin_seen: self.same_epoch,
            end_seen,
        });
        self.same_epoch = false;
    }

    fn end(mut self, armed_now: bool) -> Option<PageRounds> {
        use ProtectionState::{Again, Awaited, Off, Released};
        let mut open = None;
        match (armed_now, self.state) {
            // Whoever has armed it, if that call is not seen.
            (true, Again(last)) => self.report(last, true),
            (true, Off(Some(event))) => self.report(Some(event), true),
            (false, Awaited(event) | Off(Some(event)) | Again(Some(event))) => open = Some(event),
            _ => (),
        }
        let told = !self.reports.is_empty() || open.is_some();
        told.then_some(PageRounds {
            reports: self.reports,
            open,
            released: !armed_now && self.state == Released,
            same_epoch: self.same_epoch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::content::PageImage;

    use PageHappening::{Armed, Resolved};

    const ARMED: PageEpoch = PageEpoch::Armed(PageImage::Content(7));
    const WRITTEN: PageEpoch = PageEpoch::Written(PageImage::Content(7));

    const fn fault(event: usize) -> PageHappening {
        PageHappening::Disarmed {
            event,
            of_armed: true,
        }
    }

    const fn zap(event: usize) -> PageHappening {
        PageHappening::Disarmed {
            event,
            of_armed: false,
        }
    }

    fn looks(before: PageEpoch, armed_now: bool) -> PageLooks {
        PageLooks {
            before,
            armed_now,
            answered: WriteAnswer::Kernel,
        }
    }

    fn answered(before: PageEpoch, armed_now: bool) -> PageLooks {
        PageLooks {
            answered: WriteAnswer::Tracker,
            ..looks(before, armed_now)
        }
    }

    const fn report(event: Option<usize>, begin_seen: bool, end_seen: bool) -> TheirReport {
        TheirReport {
            event,
            begin_seen,
            end_seen,
        }
    }

    /// Reports, what is open, and whether its epoch is that of the look before.
    type Told = (Vec<TheirReport>, Option<usize>, bool);

    fn told(looks: PageLooks, happenings: &[PageHappening]) -> Option<Told> {
        rounds(looks, happenings).map(|it| (it.reports, it.open, it.same_epoch))
    }

    #[test]
    fn one_round_between_two_looks_is_known_whole() {
        let whole = (vec![report(Some(1), true, true)], None, false);
        let armed = looks(ARMED, true);
        assert_eq!(told(armed, &[fault(1), Armed]), Some(whole.clone()));
        assert_eq!(told(armed, &[zap(1), Armed]), Some(whole.clone()));
        // Whoever armed it.
        assert_eq!(told(armed, &[fault(1)]), Some(whole));
        let open = (vec![], Some(1), true);
        assert_eq!(told(looks(ARMED, false), &[fault(1)]), Some(open));
    }

    #[test]
    fn of_several_rounds_only_the_first_begin_and_the_last_end_are_seen() {
        let happenings = [fault(1), Armed, fault(2), Armed, zap(3), Armed];
        let reports = vec![
            report(Some(1), true, false),
            report(Some(2), false, false),
            report(Some(3), false, true),
        ];
        let found = told(looks(ARMED, true), &happenings);
        assert_eq!(found, Some((reports.clone(), None, false)));
        let found = told(looks(ARMED, false), &happenings[..5]);
        let open = (reports[..2].to_vec(), Some(3), false);
        assert_eq!(found, Some(open));
    }

    #[test]
    fn what_was_open_is_reported_before_it_is_written_again() {
        let found = told(looks(WRITTEN, false), &[Armed, fault(1)]);
        let carried = report(None, true, false);
        assert_eq!(found, Some((vec![carried], Some(1), false)));
        // A fault comes to armed pages only.
        let found = told(looks(WRITTEN, true), &[fault(1), Armed]);
        let reports = vec![carried, report(Some(1), false, true)];
        assert_eq!(found, Some((reports, None, false)));
        // A zap of what is not armed is nothing.
        assert_eq!(told(looks(WRITTEN, false), &[zap(1)]), None);
    }

    #[test]
    fn several_faults_at_one_page_await_one_answer() {
        let happenings = [fault(1), fault(2), Resolved, Armed];
        let whole = (vec![report(Some(1), true, true)], None, false);
        assert_eq!(told(answered(ARMED, true), &happenings), Some(whole));
        let open = (vec![], Some(1), true);
        assert_eq!(
            told(answered(ARMED, false), &happenings[..3]),
            Some(open.clone())
        );
        // The answer is not seen, and the page not armed any more.
        assert_eq!(told(answered(ARMED, false), &happenings[..2]), Some(open));
        // It waits, and is told of when it is answered.
        assert_eq!(told(answered(ARMED, true), &happenings[..2]), None);
    }

    #[test]
    fn what_their_tracker_releases_is_no_report_and_its_content_is_not_known() {
        assert_eq!(told(answered(ARMED, false), &[Resolved]), None);
        assert_eq!(told(answered(ARMED, true), &[Resolved, Armed]), None);
        let happenings = [Resolved, Armed, fault(1), Resolved];
        let open = (vec![], Some(1), false);
        assert_eq!(told(answered(ARMED, false), &happenings), Some(open));
    }

    #[test]
    fn what_is_filled_and_armed_begins_an_epoch_with_content_that_nobody_saw() {
        let filled = [PageHappening::FilledArmed, fault(1), Armed];
        let reports = vec![report(Some(1), false, true)];
        for before in [ARMED, PageEpoch::Unseen] {
            let found = told(looks(before, true), &filled);
            assert_eq!(found, Some((reports.clone(), None, false)));
        }
        assert_eq!(told(looks(ARMED, true), &filled[..1]), None);
    }

    #[test]
    fn a_call_that_did_not_reach_the_page_reports_nothing() {
        let open = (vec![], Some(1), true);
        let found = told(looks(ARMED, false), &[fault(1), Armed]);
        assert_eq!(found, Some(open));
        assert_eq!(told(looks(WRITTEN, false), &[Armed]), None);
    }

    #[test]
    fn what_was_never_seen_armed_was_if_it_has_a_fault() {
        let found = told(looks(PageEpoch::Unseen, true), &[Armed, fault(1), Armed]);
        let reports = vec![report(Some(1), false, true)];
        assert_eq!(found, Some((reports, None, false)));
        assert_eq!(told(looks(PageEpoch::Unseen, true), &[Armed, zap(1)]), None);
    }
}
