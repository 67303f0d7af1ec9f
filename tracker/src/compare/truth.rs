//! What a workload has changed, page by page: pure. It knows, because it knows every act.

use super::workload::{CompareWorkload, PageAct, WorkloadMemory, WorkloadStep};
use uffd::PAGE_SIZE;

/// What a step costs, if all of its pages cost the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepCost {
    /// Pages that are not mapped are touched.
    FirstTouch,
    /// Pages that are mapped, and armed by the round before, are written.
    Write,
}

/// The pages of the range that a phase changed, and what its steps are good for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PhaseTruth {
    /// By number, in pages of the memory's size.
    pub changed: Vec<bool>,
    /// For each step: what it measures, and how many pages it touches.
    pub costs: Vec<(Option<StepCost>, u64)>,
}

/// The state of every page of 4 KiB.
#[derive(Debug)]
pub(super) struct WorkloadTruth {
    memory: WorkloadMemory,
    /// The byte at the beginning of each.
    content: Vec<u8>,
    mapped: Vec<bool>,
}

impl WorkloadTruth {
    /// Nothing was touched yet.
    pub(super) fn new(workload: &CompareWorkload, bytes: u64) -> Self {
        let pages = (bytes / PAGE_SIZE) as usize;
        Self {
            memory: workload.memory,
            content: vec![0; pages],
            mapped: vec![false; pages],
        }
    }

    /// What is at the beginning of each page of 4 KiB.
    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    /// Does what a phase does.
    pub(super) fn phase(&mut self, steps: &[(WorkloadStep, u8)]) -> PhaseTruth {
        let (before, there) = (self.content.clone(), self.mapped.clone());
        let costs = steps
            .iter()
            .map(|(step, value)| self.step(step, *value, &there))
            .collect();
        let differs: Vec<_> = before
            .iter()
            .zip(&self.content)
            .map(|(a, b)| a != b)
            .collect();
        let small = (self.memory.page_size() / PAGE_SIZE) as usize;
        let changed = differs.chunks(small).map(|page| page.contains(&true));
        PhaseTruth {
            changed: changed.collect(),
            costs,
        }
    }

    fn step(&mut self, step: &WorkloadStep, value: u8, there: &[bool]) -> (Option<StepCost>, u64) {
        let (mut pages, mut armed, mut absent) = (0, 0, 0);
        let total = self.content.len() as u64;
        for page in step.pages.pages(total) {
            let page = page as usize;
            let (Some(content), Some(mapped)) =
                (self.content.get_mut(page), self.mapped.get_mut(page))
            else {
                continue;
            };
            pages += 1;
            absent += u64::from(!*mapped);
            armed += u64::from(*mapped && there.get(page) == Some(&true));
            match step.act {
                PageAct::Read => *mapped = true,
                PageAct::Write => (*content, *mapped) = (value, true),
                PageAct::Zap => {
                    *mapped = false;
                    if self.memory != WorkloadMemory::Shmem {
                        *content = 0;
                    }
                }
                PageAct::Reclaim => *mapped = false,
                PageAct::WriteInChild => (),
            }
        }
        let cost = match step.act {
            PageAct::Read | PageAct::Write if absent == pages => Some(StepCost::FirstTouch),
            PageAct::Write if armed == pages => Some(StepCost::Write),
            _ => None,
        };
        (cost.filter(|_| pages > 0), pages)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::PagePattern;
    use super::*;

    const ALL: PagePattern = PagePattern::ALL;

    fn truth(memory: WorkloadMemory) -> WorkloadTruth {
        let workload = CompareWorkload {
            name: "test",
            what: "",
            point: "",
            memory,
            sizes: &[],
            before: &[],
            phases: &[],
        };
        WorkloadTruth::new(&workload, 64 * PAGE_SIZE)
    }

    fn step(act: PageAct, pages: PagePattern) -> WorkloadStep {
        WorkloadStep { act, pages }
    }

    #[test]
    fn only_what_differs_has_changed() {
        for (memory, zap_changes) in [(WorkloadMemory::Anon, true), (WorkloadMemory::Shmem, false)]
        {
            let mut truth = truth(memory);
            let first = truth.phase(&[(step(PageAct::Write, ALL), 1)]);
            assert!(first.changed.iter().all(|changed| *changed));
            assert_eq!(first.costs, [(Some(StepCost::FirstTouch), 64)]);
            let lower = PagePattern::parts(0, 32);
            let zapped = truth.phase(&[
                (step(PageAct::Zap, lower), 2),
                (step(PageAct::Read, lower), 3),
            ]);
            assert_eq!(zapped.changed[0], zap_changes);
            assert!(!zapped.changed[32]);
            assert_eq!(zapped.costs[1], (Some(StepCost::FirstTouch), 32));
            let quiet = truth.phase(&[(step(PageAct::WriteInChild, ALL), 4)]);
            assert!(quiet.changed.iter().all(|changed| !changed));
        }
    }

    #[test]
    fn a_step_is_a_write_only_to_what_was_armed_before() {
        let mut truth = truth(WorkloadMemory::Anon);
        let write = step(PageAct::Write, ALL);
        let first = truth.phase(&[(write, 1), (write, 2)]);
        assert_eq!(first.costs[1].0, None, "it was not armed between the two");
        let second = truth.phase(&[(write, 3)]);
        assert_eq!(second.costs[0].0, Some(StepCost::Write));
        let read = truth.phase(&[(step(PageAct::Read, ALL), 4)]);
        assert_eq!(read.costs[0].0, None);
    }
}
