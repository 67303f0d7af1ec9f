//! Memory that is emptied, given up and paged out while it is written.

use rustix::mm::Advice;

use super::in_threads;
use crate::area::MappedArea;

/// Each thread touches random pages, as often as there are pages, `times` over.
pub fn wear(area: &MappedArea, seed: u64, threads: u64, times: u64) {
    in_threads(0..threads, |thread| {
        let mut random = fastrand::Rng::with_seed(seed + thread);
        (0..times * area.pages()).for_each(|_| touch(area, &mut random));
    });
}

fn touch(area: &MappedArea, random: &mut fastrand::Rng) {
    let first = random.u64(0..area.pages());
    let run = || area.pages_part(first..(first + 3).min(area.pages()));
    match random.u8(0..16) {
        0..7 => area.store(first, random.u64(..)),
        7..11 => area.load(first),
        11 | 12 => advise(&run(), Advice::LinuxDontNeed),
        13 => advise(&run(), Advice::LinuxFree),
        _ => advise(&run(), Advice::LinuxPageOut),
    }
}

/// Where the kernel refuses it, there is that much less wear.
fn advise(part: &MappedArea, advice: Advice) {
    let _ = part.advise(advice);
}
