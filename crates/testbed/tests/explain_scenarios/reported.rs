//! The first half of the table: what a session reports as written, and what as unknown.

use std::collections::BTreeSet;

use pages::strategy::TrackedArea;
use pages::track::TrackRound;
use uffd::Backing;
use uffd::PAGE_SIZE;

use crate::came::{ActedScenarios, PageLot};
use crate::table::{KernelClass, PageFate};
use crate::target::{ActedGround, ScenarioSetup, ScenarioTarget};
use testbed::script::list;
use testbed::session::{SeenPages, step, try_begin};

/// Lets scenarios act between two rounds; returns how many pages they were about, and what was
/// wrong.
pub fn differences(names: &[&str], how: ScenarioSetup, class: KernelClass) -> (u64, Vec<String>) {
    let target = ScenarioTarget::start(names, how);
    let (mut session, _) = try_begin(target.pid(), class.strategy()).unwrap();
    let before = step(&mut session);
    let came = ActedScenarios::of(target, class);
    let round = step(&mut session);
    let after = step(&mut session);
    session.end().unwrap();
    let wrong = came.check(|ground, lots| {
        let mut wrong: Vec<_> = lots
            .iter()
            .filter_map(|lot| check(&round, ground, lot))
            .collect();
        for (when, round) in [("before", &before), ("again", &after)] {
            let seen = seen(round, ground).all();
            if !seen.is_empty() {
                wrong.push(format!("{when}: {}", list(&seen)));
            }
        }
        wrong
    });
    (came.pages(), wrong)
}

fn check(round: &TrackRound, ground: &ActedGround, lot: &PageLot) -> Option<String> {
    let seen = seen(round, ground);
    let here = |pages: &BTreeSet<u64>| -> BTreeSet<u64> { pages & &lot.pages };
    let (written, unknown) = (here(&seen.written), here(&seen.unknown));
    let all = lot.pages.len();
    let right = match lot.fate {
        PageFate::Reported(..) => written.len() == all && unknown.is_empty(),
        PageFate::AllButOne(..) => written.len() == all - 1 && unknown.is_empty(),
        PageFate::New(..) => written.is_empty() && unknown.len() == all,
        PageFate::Quiet | PageFate::Missed { .. } | PageFate::Hidden | PageFate::Refused => {
            written.is_empty() && unknown.is_empty()
        }
    };
    (!right).then(|| {
        format!(
            "{} of {all} pages: {:?}: {} written, {} unknown",
            lot.name,
            lot.fate,
            written.len(),
            unknown.len()
        )
    })
}

fn seen(round: &TrackRound, ground: &ActedGround) -> SeenPages {
    let area = TrackedArea {
        range: ground.range.clone(),
        backing: Backing::Anon,
        page_size: PAGE_SIZE,
        shared: false,
    };
    SeenPages::of(round, &area)
}
