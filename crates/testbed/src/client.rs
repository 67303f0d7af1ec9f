//! What `uffdwp-workload client` does to its pages in each round: a tracker with a known number of
//! reports, true and false.

/// Something that the client does to pages in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientAct {
    /// A thread stores what is there.
    SameStore,
    /// A thread stores another value.
    OtherStore,
    /// A thread stores zeroes.
    ZeroStore,
    /// read(2) puts in what is there.
    SameRead,
    /// read(2) puts in another value.
    OtherRead,
    /// `/proc/PID/mem` puts in what is there.
    SameForce,
    /// `/proc/PID/mem` puts in another value.
    OtherForce,
    /// Given back with `MADV_DONTNEED`.
    Zap,
}

impl ClientAct {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SameStore,
        Self::OtherStore,
        Self::ZeroStore,
        Self::SameRead,
        Self::OtherRead,
        Self::SameForce,
        Self::OtherForce,
        Self::Zap,
    ];

    /// To so many pages of 4 KiB in each round.
    #[must_use]
    pub const fn pages(self) -> u64 {
        match self {
            Self::SameStore => 23,
            Self::OtherStore => 19,
            Self::ZeroStore => 5,
            Self::SameRead => 11,
            Self::OtherRead => 13,
            Self::SameForce => 3,
            Self::OtherForce => 2,
            Self::Zap => 7,
        }
    }

    /// What a page holds after it in a round, that held `before`.
    #[must_use]
    pub const fn value(self, before: u64, round: u64) -> u64 {
        match self {
            Self::SameStore | Self::SameRead | Self::SameForce => before,
            Self::ZeroStore | Self::Zap => 0,
            Self::OtherStore => 100 + round,
            Self::OtherRead => 120 + round,
            Self::OtherForce => 140 + round,
        }
    }

    /// The line of `uffdwp-workload script` that does it.
    #[must_use]
    pub fn line(self, area: u64, value: u64, page: u64) -> String {
        match self {
            Self::SameStore | Self::OtherStore | Self::ZeroStore => {
                format!("store {area} {value} 1 {page}-{page}")
            }
            Self::SameRead | Self::OtherRead => format!("read {area} {value} {page}-{page}"),
            Self::SameForce | Self::OtherForce => format!("force {area} {value} {page}-{page}"),
            Self::Zap => format!("zap {area} {page}-{page}"),
        }
    }
}

/// How the client learns what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientWay {
    /// PAGEMAP_SCAN that arms what it reports, in one step.
    Scan,
    /// PAGEMAP_SCAN, and then UFFDIO_WRITEPROTECT of what it reported.
    ScanThenArm,
    /// Bit 57 of `/proc/PID/pagemap`, and then UFFDIO_WRITEPROTECT.
    Pagemap,
    /// A message for each first write, which a thread answers with UFFDIO_WRITEPROTECT.
    Messages,
}

impl ClientWay {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Scan, Self::ScanThenArm, Self::Pagemap, Self::Messages];

    /// As it is written on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::ScanThenArm => "scan-then-arm",
            Self::Pagemap => "pagemap",
            Self::Messages => "messages",
        }
    }

    /// What the client does in each round. No message tells of what is given back, and where a
    /// handler answers, a write through `/proc/PID/mem` fails.
    pub fn acts(self) -> impl Iterator<Item = ClientAct> {
        let answered = self == Self::Messages;
        let unanswered = |act: &ClientAct| {
            use ClientAct::{OtherForce, SameForce, Zap};
            !matches!(act, SameForce | OtherForce | Zap)
        };
        let acts = ClientAct::ALL.into_iter();
        acts.filter(move |act| !answered || unanswered(act))
    }
}

/// Whose memory the client tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientTarget {
    /// Its own.
    Inside,
    /// That of a child.
    Outside,
}

impl ClientTarget {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Inside, Self::Outside];

    /// As it is written on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Outside => "outside",
        }
    }
}
