//! The content of pages, and what it proves.
//!
//! An image is a hash of what a page held, taken while the page was armed. It counts only if the
//! page was armed before and after it was read: nobody wrote to it meanwhile. Only pages that are
//! there are read: reading a hole or a swapped page would change page tables. Hashes are XXH3 (64
//! bits): of 2^32 pages that changed, one in 2^32 would look unchanged.

mod images;
mod reader;
mod store;
mod verdict;

use pages::track::{PageExtent, TrackedMapping};
use uffd::UffdError;

use super::model::UnknownReason;
pub(super) use images::PageImages;
pub(super) use reader::{PageReader, UnarmedPages};
#[cfg(test)]
pub(super) use verdict::hash;
pub(super) use verdict::verdict;

/// What a page held when it was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageImage {
    /// Nobody knows.
    None,
    /// It was not there.
    Hole,
    /// Its content, hashed.
    Content(u64),
}

/// What a look at a page found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageLook {
    /// Its content, hashed, and nobody has written meanwhile.
    Content(u64),
    /// It is not there.
    Hole,
    /// What was mapped there is gone.
    Unmapped,
    /// The content cannot be had.
    Not(UnknownReason),
}

/// A page that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeenPage {
    pub address: u64,
    /// Its image until now.
    pub before: PageImage,
    pub look: PageLook,
}

/// The content of a process, as a round looks at it.
pub(super) trait PageContent {
    /// Looks at pages that are reported: hands each over with its image, and keeps what it finds as
    /// the image for the next round.
    fn look(
        &mut self,
        reported: &[PageExtent],
        each: &mut dyn FnMut(&PageExtent, SeenPage),
    ) -> Result<(), UffdError>;

    /// Looks in the same way at the pages of a mapping that are there, or were, and are not
    /// reported.
    fn verify(
        &mut self,
        mapping: &TrackedMapping,
        reported: &[PageExtent],
        each: &mut dyn FnMut(SeenPage),
    ) -> Result<(), UffdError>;
}
