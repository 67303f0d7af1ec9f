//! What a strategy cannot do, or asks for: read off its entry.
#![forbid(unsafe_code)]

use uffd::KernelBehaviour;

use super::StrategyName;

/// Something that stands against a strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategyLimit {
    /// It cannot track another process.
    #[error("tracks only the process it runs in")]
    OwnProcess,
    /// It acts through a userfaultfd of the process.
    #[error("needs a userfaultfd of the process, and cannot nest with one of its own")]
    Descriptor,
    /// Faults of the process wait for an answer.
    #[error("the process waits for a thread of the tracker in each such fault")]
    TargetWaits,
    /// What is not there costs memory.
    #[error("takes memory for pages that are not there")]
    PaysForAbsent,
    /// What is not there is not armed.
    #[error("cannot tell a page that was never there from one that was emptied")]
    IgnoresAbsent,
    /// It reads everything.
    #[error("reads all memory in each round, and sees only content that differs")]
    ReadsContent,
    /// It disturbs somebody else.
    #[error("{0}")]
    Caveat(&'static str),
}

impl StrategyLimit {
    /// All that stand against a strategy on this kernel.
    pub(super) fn of(name: StrategyName, kernel: &KernelBehaviour) -> Vec<Self> {
        let all = [
            (name.is_in_process(), Self::OwnProcess),
            (name.needs_descriptor(), Self::Descriptor),
            (name.waits(kernel), Self::TargetWaits),
            (name.pays_for_absent(), Self::PaysForAbsent),
            (!name.watches_absent(), Self::IgnoresAbsent),
            (name.reads_content(), Self::ReadsContent),
        ];
        let plain = all.into_iter().filter(|(holds, _)| *holds);
        let caveat = name.caveat().map(Self::Caveat);
        plain.map(|(_, limit)| limit).chain(caveat).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A strategy without any price would need no other beside it.
    #[test]
    fn every_strategy_has_its_price() {
        let kernel = KernelBehaviour::default();
        for name in StrategyName::ALL {
            assert!(!name.limits(&kernel).is_empty(), "{name}");
            let waits = name.limits(&kernel).contains(&StrategyLimit::TargetWaits);
            assert_eq!(waits, name.waits(&kernel), "{name}");
        }
    }
}
