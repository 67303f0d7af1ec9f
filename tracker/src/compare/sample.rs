//! Made-up runs for tests of whatever shows them.

use std::time::Duration;

use pages::strategy::{ExtraReports, StrategyFacts, StrategyName, StrategyOutcome, StrategyTrial};
use uffd::{Backing, KernelBehaviour, UffdFeatures, WrittenMeaning};

use super::measured::{PhaseMeasurement, RunMeasurement, RunOutcome};
use super::order::{CompareOrder, Comparison, compare};
use super::run::RunOrder;
use super::workload::WORKLOADS;

/// A kernel on which every strategy works from outside, for all but hugetlb.
pub(super) fn facts() -> StrategyFacts {
    let trial = |(strategy, backing)| StrategyTrial {
        strategy,
        backing,
        outcome: if backing == Backing::Hugetlb {
            StrategyOutcome::Untried(pages::strategy::UntriedReason::NoHugePages)
        } else {
            StrategyOutcome::Works(ExtraReports::default())
        },
    };
    let each = |strategy| Backing::ALL.map(|backing| (strategy, backing));
    StrategyFacts {
        observer: None,
        behaviour: KernelBehaviour {
            features: UffdFeatures::WP_ASYNC,
            written: Some(WrittenMeaning::Fixed),
            anonymous_markers: true,
            soft_dirty: true,
            ..KernelBehaviour::default()
        },
        kernel_faults: true,
        trials: StrategyName::ALL
            .into_iter()
            .flat_map(each)
            .map(trial)
            .collect(),
    }
}

/// All workloads, with numbers that differ from strategy to strategy.
pub(super) fn comparison() -> Comparison {
    let order = CompareOrder {
        workloads: WORKLOADS.iter().collect(),
        strategies: StrategyName::ALL.to_vec(),
        range: None,
        repeats: 3,
        limit: Duration::from_secs(60),
    };
    compare(
        &order,
        facts(),
        || Duration::ZERO,
        |order, _| RunOutcome::Measured(made_up(order)),
        |_| (),
    )
}

fn made_up(order: &RunOrder) -> RunMeasurement {
    let place = order.strategy.map_or(0, |name| {
        1 + StrategyName::ALL
            .iter()
            .take_while(|it| **it != name)
            .count() as u64
    });
    let phases = order.workload.phases.iter().map(|phase| PhaseMeasurement {
        faults: 100 * (place + 1),
        steps: phase
            .steps
            .iter()
            .map(|_| 1_000_000 + 400_000 * place * place)
            .collect(),
        round: order.strategy.map(|_| 20_000 * place),
        changed: 1024,
        reported: 1024 + place * 1000 * (place % 2),
        false_positives: place * 1000 * (place % 2),
        false_negatives: (place % 3) * 64,
        in_doubt: u64::from(order.strategy == Some(StrategyName::FaultTime)) * 512,
    });
    RunMeasurement {
        tables_before: 100 << 10,
        tables_armed: (100 << 10) + place * order.bytes / 512,
        tables_end: (164 << 10) + place * order.bytes / 512,
        resident: 5 << 20,
        tracker: place << 16,
        arm: place * order.bytes / 1000,
        phases: phases.collect(),
        clean: vec![9_000 * place; 3],
    }
}
