//! How to explain.

use pages::strategy::StrategyName;
use pages::track::TrackOptions;

use crate::explain::CodeNamer;

/// How to explain.
#[derive(Clone, Debug)]
pub struct ExplainOptions {
    /// How to track.
    pub track: TrackOptions,
    /// Bytes of content looked at, at most: of a process with more memory pages are sampled.
    pub content_limit: u64,
    /// A page whose whole story is kept.
    pub page: Option<u64>,
    /// A second strategy on the same rounds: one of [`crate::explain::second_strategies`].
    pub against: Option<StrategyName>,
    /// Whether the process stands still in each round until what was reported has been read.
    pub freeze: bool,
    /// What names the code of [`crate::explain::ExplainFindings`], which grow with each round then;
    /// `None`: they do not, and memory stays bounded however long it goes on.
    pub findings: Option<CodeNamer>,
}

/// Which pages have their content looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSampling {
    /// One page of so many, chosen by a hash of its address; 1: all.
    pub one_of: u64,
}
