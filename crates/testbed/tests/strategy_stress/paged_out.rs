//! Pages that are paged out, and read back: what `fault-time` reports of them. Without swap they stay
//! in memory, except those of files.

use std::collections::BTreeSet;

use pages::strategy::StrategyName;
use testbed::script::{ANON, FILE, MEMFD, SHMEM, ScriptMemory, ScriptProcess, refused, round};

const ALL: &str = "0-511";
/// Written before they are paged out, and after.
const BEFORE: [u64; 4] = [3, 64, 127, 300];
const AFTER: [u64; 3] = [64, 200, 511];
/// Emptied while they are out.
const EMPTIED: [u64; 3] = [5, 63, 450];
/// Read back; some of them were written.
const READ: &str = "0-20,100-130,400-511";

#[test]
fn what_is_paged_out_keeps_what_it_was() {
    for kind in [ANON, SHMEM, MEMFD, FILE] {
        match refused(StrategyName::FaultTime, kind) {
            Some(why) => eprintln!("skipped: {}: {why}", kind.0),
            None => check(kind),
        }
    }
}

fn check(kind: ScriptMemory) {
    let name = kind.0;
    let list = |pages: &[u64]| testbed::script::list(pages);
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(kind, 512);
    script.say(&format!("store {number} 1 1 {ALL}"));
    let mut strategy = script.track(StrategyName::FaultTime);
    strategy.arm(&area).unwrap();
    strategy.end_round().unwrap();
    script.say(&format!("page-out {number} {ALL}"));
    script.say(&format!("load {number} {ALL}"));
    assert_eq!(round(&mut *strategy, &area), BTreeSet::new(), "{name}");
    script.say(&format!("store {number} 2 1 {}", list(&BEFORE)));
    script.say(&format!("page-out {number} {ALL}"));
    script.say(&format!("zap {number} {}", list(&EMPTIED)));
    script.say(&format!("store {number} 3 1 {}", list(&AFTER)));
    script.say(&format!("load {number} {READ}"));
    let mut changed: BTreeSet<u64> = BEFORE.into_iter().chain(AFTER).collect();
    if kind == ANON || kind == FILE {
        changed.extend(EMPTIED);
    }
    assert_eq!(round(&mut *strategy, &area), changed, "{name}");
    script.say(&format!("page-out {number} {ALL}"));
    script.say(&format!("load {number} {ALL}"));
    assert_eq!(round(&mut *strategy, &area), BTreeSet::new(), "{name}");
    strategy.release().unwrap();
}
