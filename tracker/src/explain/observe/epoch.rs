//! What becomes of a page of observed memory between two looks: pure.
//!
//! An epoch begins when the page's tracker arms it, and ends when it arms it again: what took the
//! protection off in between is reported to the tracker by then.

use crate::explain::content::{PageImage, PageLook};

/// What is known of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PageEpoch {
    /// Nothing was there, and nobody had armed it.
    #[default]
    Unseen,
    /// Something was there and not armed, and nothing of its mapping was.
    Unarmed,
    /// Armed, with its image.
    Armed(PageImage),
    /// Armed before, or in a mapping that is, and not any more; with its image.
    Written(PageImage),
}

/// What a look tells of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageSight {
    pub armed: bool,
    /// In memory or in swap.
    pub there: bool,
    pub look: PageLook,
}

/// Since when pages of a mapping are armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArmingSeen {
    /// No look before this one has seen any armed.
    NotYet,
    /// The first look, which was the last one, has seen some armed: what was not may have been
    /// written before.
    BeforeLooking,
    /// An earlier look has.
    SinceLooking,
}

/// What a look at a page finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageNews {
    /// Nothing.
    None,
    /// It stayed armed, or seems to have, with the same content.
    Same,
    /// It was armed at both looks, and has another content than this.
    Between(PageImage),
    /// It was armed and is not any more.
    Disarmed,
    /// It is not armed although memory around it is, and nobody has seen it armed.
    NeverArmed,
    /// It was not armed when it was looked at first.
    NotArmedBefore,
    /// It was armed again: an epoch is over that began with this image.
    Rearmed(PageImage),
}

impl PageEpoch {
    /// What is known after another look, and what that tells.
    pub(super) fn after(self, sight: PageSight, arming: ArmingSeen) -> (Self, PageNews) {
        match (self, sight.armed) {
            (Self::Unseen, true) => (Self::Armed(image(sight.look)), PageNews::None),
            (Self::Unarmed, true) => {
                let news = match arming {
                    ArmingSeen::BeforeLooking => PageNews::Rearmed(PageImage::None),
                    _ => PageNews::None,
                };
                (Self::Armed(image(sight.look)), news)
            }
            (Self::Armed(before), true) => armed_twice(before, sight.look),
            (Self::Written(before), true) => {
                let now = Self::Armed(image(sight.look));
                (now, PageNews::Rearmed(before))
            }
            (Self::Unseen | Self::Unarmed, false) if sight.there => self.unarmed(arming),
            (Self::Armed(before), false) => (Self::Written(before), PageNews::Disarmed),
            (Self::Unseen | Self::Unarmed | Self::Written(_), false) => (self, PageNews::None),
        }
    }

    /// The same, and nobody has seen it begin.
    pub(super) const fn without_image(self) -> Self {
        match self {
            Self::Armed(_) => Self::Armed(PageImage::None),
            Self::Unseen | Self::Unarmed | Self::Written(_) => Self::Written(PageImage::None),
        }
    }

    /// After a look that finds something there that is not armed.
    fn unarmed(self, arming: ArmingSeen) -> (Self, PageNews) {
        match (self, arming) {
            (_, ArmingSeen::NotYet) => (Self::Unarmed, PageNews::None),
            // The look before has seen nothing there.
            (Self::Unseen, ArmingSeen::SinceLooking | ArmingSeen::BeforeLooking) => {
                (Self::Written(PageImage::Hole), PageNews::NeverArmed)
            }
            (_, ArmingSeen::SinceLooking) => (Self::Written(PageImage::None), PageNews::NeverArmed),
            (_, ArmingSeen::BeforeLooking) => {
                (Self::Written(PageImage::None), PageNews::NotArmedBefore)
            }
        }
    }
}

/// A page that is armed at two looks.
fn armed_twice(before: PageImage, look: PageLook) -> (PageEpoch, PageNews) {
    let now = match (before, look) {
        // What cannot be read now is armed since its image was taken.
        (_, PageLook::Not(_) | PageLook::Unmapped) => before,
        _ => image(look),
    };
    let news = match (before, now) {
        (PageImage::Content(_), PageImage::Content(_)) if before == now => match look {
            PageLook::Content(_) => PageNews::Same,
            _ => PageNews::None,
        },
        (PageImage::Content(_), PageImage::Content(_) | PageImage::Hole)
        | (PageImage::Hole, PageImage::Content(_)) => PageNews::Between(before),
        _ => PageNews::None,
    };
    (PageEpoch::Armed(now), news)
}

/// The image of a page that is armed.
fn image(look: PageLook) -> PageImage {
    match look {
        PageLook::Content(hash) => PageImage::Content(hash),
        PageLook::Hole => PageImage::Hole,
        PageLook::Unmapped | PageLook::Not(_) => PageImage::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::model::UnknownReason;

    use ArmingSeen::{BeforeLooking, NotYet, SinceLooking};
    use PageEpoch::{Armed, Unarmed, Unseen, Written};

    const A: PageImage = PageImage::Content(7);
    const B: PageImage = PageImage::Content(8);
    const SWAPPED: PageLook = PageLook::Not(UnknownReason::Swapped);

    fn armed(look: PageLook) -> PageSight {
        PageSight {
            armed: true,
            there: true,
            look,
        }
    }

    fn disarmed(there: bool) -> PageSight {
        PageSight {
            armed: false,
            there,
            look: PageLook::Not(UnknownReason::WrittenAgain),
        }
    }

    #[test]
    fn an_epoch_ends_when_the_page_is_armed_again() {
        let (epoch, news) = Unseen.after(armed(PageLook::Content(7)), SinceLooking);
        assert_eq!((epoch, news), (Armed(A), PageNews::None));
        let (epoch, news) = epoch.after(armed(PageLook::Content(7)), SinceLooking);
        assert_eq!((epoch, news), (Armed(A), PageNews::Same));
        let (epoch, news) = epoch.after(disarmed(true), SinceLooking);
        assert_eq!((epoch, news), (Written(A), PageNews::Disarmed));
        let (epoch, news) = epoch.after(disarmed(true), SinceLooking);
        assert_eq!((epoch, news), (Written(A), PageNews::None));
        let (epoch, news) = epoch.after(armed(PageLook::Content(8)), SinceLooking);
        assert_eq!((epoch, news), (Armed(B), PageNews::Rearmed(A)));
    }

    #[test]
    fn what_changes_while_it_is_armed_is_told() {
        let between = Armed(A).after(armed(PageLook::Content(8)), SinceLooking);
        assert_eq!(between, (Armed(B), PageNews::Between(A)));
        let emptied = Armed(A).after(armed(PageLook::Hole), SinceLooking);
        assert_eq!(emptied, (Armed(PageImage::Hole), PageNews::Between(A)));
        // Neither swap nor a page that could not be read loses the image.
        let kept = Armed(A).after(armed(SWAPPED), SinceLooking);
        assert_eq!(kept, (Armed(A), PageNews::None));
    }

    #[test]
    fn the_first_arming_of_a_mapping_reports_nothing() {
        let (epoch, news) = Unseen.after(disarmed(true), NotYet);
        assert_eq!((epoch, news), (Unarmed, PageNews::None));
        let first = epoch.after(armed(PageLook::Content(7)), NotYet);
        assert_eq!(first, (Armed(A), PageNews::None));
        // One that was written when looking began is reported, with no image.
        let (_, news) = epoch.after(armed(PageLook::Content(7)), BeforeLooking);
        assert_eq!(news, PageNews::Rearmed(PageImage::None));
    }

    #[test]
    fn what_was_written_before_the_first_look_stays_written() {
        let written = Unarmed.without_image();
        assert_eq!(written, Written(PageImage::None));
        let later = written.after(disarmed(true), BeforeLooking);
        assert_eq!(later, (written, PageNews::None));
        let (_, again) = written.after(armed(PageLook::Content(7)), BeforeLooking);
        assert_eq!(again, PageNews::Rearmed(PageImage::None));
        assert_eq!(Armed(A).without_image(), Armed(PageImage::None));
    }

    #[test]
    fn what_comes_without_protection_was_never_armed() {
        let absent = Unseen.after(disarmed(false), SinceLooking);
        assert_eq!(absent, (Unseen, PageNews::None));
        let hole = Written(PageImage::Hole);
        let came = Unseen.after(disarmed(true), SinceLooking);
        assert_eq!(came, (hole, PageNews::NeverArmed));
        let left = Unarmed.after(disarmed(true), SinceLooking);
        assert_eq!(left, (Written(PageImage::None), PageNews::NeverArmed));
        let before = Unarmed.after(disarmed(true), BeforeLooking);
        assert_eq!(before, (Written(PageImage::None), PageNews::NotArmedBefore));
    }
}
