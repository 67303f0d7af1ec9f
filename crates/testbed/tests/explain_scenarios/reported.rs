//! The left half of the table: what a session reports as written, and what as unknown.

use std::collections::BTreeSet;

use pages::strategy::TrackedArea;
use pages::track::TrackRound;
use uffd::Backing;
use uffd::PAGE_SIZE;

use crate::came::{Came, Lot};
use crate::table::{Class, Fate};
use crate::target::{Ground, How, Target};
use testbed::script::list;
use testbed::session::{SeenPages, step, try_begin};

/// Acts between two rounds; how many pages that was about, and all differences.
pub fn differences(names: &[&str], how: How, class: Class) -> (u64, Vec<String>) {
    let target = Target::start(names, how);
    let (mut session, _) = try_begin(target.pid(), class.strategy()).unwrap();
    let before = step(&mut session);
    let came = Came::of(target, class);
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

fn check(round: &TrackRound, ground: &Ground, lot: &Lot) -> Option<String> {
    let seen = seen(round, ground);
    let here = |pages: &BTreeSet<u64>| -> BTreeSet<u64> { pages & &lot.pages };
    let (written, unknown) = (here(&seen.written), here(&seen.unknown));
    let all = lot.pages.len();
    let right = match lot.fate {
        Fate::Reported(..) => written.len() == all && unknown.is_empty(),
        Fate::AllButOne(..) => written.len() == all - 1 && unknown.is_empty(),
        Fate::New(..) => written.is_empty() && unknown.len() == all,
        Fate::Quiet | Fate::Missed { .. } | Fate::Hidden | Fate::Refused => {
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

fn seen(round: &TrackRound, ground: &Ground) -> SeenPages {
    let area = TrackedArea {
        range: ground.range.clone(),
        backing: Backing::Anon,
        page_size: PAGE_SIZE,
    };
    SeenPages::of(round, &area)
}
