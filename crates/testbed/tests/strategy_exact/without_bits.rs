//! `fault-time` where it cannot be told page by page: it reports more, and never less.

use std::collections::BTreeSet;
use std::sync::Arc;

use pages::strategy::StrategyName;
use testbed::script::{
    ANON, FACTS, FILE, MEMFD, SHMEM, ScriptMemory, ScriptProcess, refused, round,
};
use tracker::probes::fault_time::{FaultTimeOptions, FaultTimeProbes};
use uffd::UffdFeatures;

const PAGES: u64 = 2048;

/// A skipped test proves nothing: where functions can be hooked, and the kernel has the mode, the
/// strategy works.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn it_is_not_refused_where_functions_can_be_hooked() {
    let has_mode = FACTS.behaviour.features.contains(UffdFeatures::WP_ASYNC);
    for kind in [ANON, SHMEM, MEMFD, FILE] {
        let why = refused(StrategyName::FaultTime, kind);
        assert_eq!(why.is_none(), has_mode, "{}: {why:?}", kind.0);
    }
}

/// What is planned for this kernel (docs/hooks.md) is what is attached.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn the_kernel_refuses_no_program_that_is_tried() {
    if !FACTS.behaviour.features.contains(UffdFeatures::WP_ASYNC) {
        return eprintln!("skipped: this kernel has no asynchronous mode");
    }
    let probes = FaultTimeProbes::new(FaultTimeOptions::default());
    for hook in probes.plan().unwrap() {
        let refused = hook.refused();
        assert_eq!(refused, None, "{}: {}", hook.hook.name(), hook.reason());
    }
}

/// Bits for 2 MiB only, in 8 MiB.
#[test]
fn too_few_bits_lead_to_more_reports() {
    for kind in [ANON, SHMEM] {
        match refused(StrategyName::FaultTime, kind) {
            Some(why) => eprintln!("skipped: {}: {why}", kind.0),
            None => check(kind),
        }
    }
}

fn check(kind: ScriptMemory) {
    let options = FaultTimeOptions {
        blocks: 1,
        ..FaultTimeOptions::default()
    };
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(kind, PAGES);
    script.say(&format!("store {number} 1 1 0-2047"));
    let observer = Arc::new(FaultTimeProbes::new(options));
    let mut strategy = script.track_observed(StrategyName::FaultTime, observer);
    strategy.arm(&area).unwrap();
    strategy.end_round().unwrap();
    assert_eq!(round(&mut *strategy, &area), BTreeSet::new(), "{}", kind.0);
    // Written, then unmapped: only bits tell.
    let pages = "5,600,1100,1800";
    script.say(&format!("store {number} 2 1 {pages}"));
    script.say(&format!("zap {number} {pages}"));
    let all: BTreeSet<u64> = (0..PAGES).collect();
    let first = round(&mut *strategy, &area);
    assert_eq!(first, all, "{}", kind.0);
    assert_eq!(round(&mut *strategy, &area), all, "{}", kind.0);
    strategy.release().unwrap();
}
