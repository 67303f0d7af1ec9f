//! What explaining tells: answers, events, and what they rest on.
//!
//! Pages are counted in units of 4 KiB whatever their size.

mod audited;
mod call;
mod event;
mod findings;
mod options;
mod round;
mod sight;
mod words;

pub use audited::{AuditFinding, AuditFindings, AuditKind, AuditSight, HandlerWaits};
pub use call::CallerThread;
pub(crate) use call::{CallArguments, ScanArguments, TrackerCall};
pub(crate) use event::{EventMeaning, WatchedEvent};
pub use findings::{
    AgainstFindings, CodePlace, ExplainEnd, ExplainFindings, FrozenTime, NamingCost, PageStory,
    RoundDelay, RoundFindings, StackFrame, StoryLine, UnnamedCode, VmaFindings,
};
pub use options::{ExplainOptions, PageSampling};
pub(crate) use round::RoundKind;
pub use round::{
    AnswerTally, ByMapping, ExplainedRound, MissedPages, MissedRange, PlaceId, ReportAnswer,
    ReportedPages,
};
pub use sight::{CauseSight, SightGap};
pub use words::{
    MissCandidate, ReportCause, ReportOwner, ReportVerdict, SecondOnly, UnknownReason,
};
