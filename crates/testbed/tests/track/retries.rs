//! A process that tries to register its memory itself, again and again.

use std::io::Write as _;
use std::time::Duration;

use pages::track::{OwnUffd, OwnUffdSight, SessionEvent, TrackNote};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use testbed::inject::InjectTarget;
use testbed::script::ANON;
use testbed::session::{step, try_begin, working};

/// It closes its userfaultfd each time before anybody could find it in `/proc`, and has its memory
/// at the second try: a round is wanted as soon as it has tried, and is made before it is due.
#[test]
fn who_tries_again_with_a_new_userfaultfd_has_its_memory_then() {
    for name in working(ANON)
        .into_iter()
        .filter(|name| name.needs_descriptor())
    {
        let mut target = InjectTarget::until_asked("register");
        let (mut session, _) = try_begin(target.pid(), name).unwrap();
        let is_held_only = |note: &TrackNote| {
            let held = |seen: &OwnUffdSight| matches!(seen, OwnUffdSight::Held { .. });
            matches!(note, TrackNote::RegistersInVain { seen } if held(seen))
        };
        if session.header().notes.iter().any(is_held_only) {
            return eprintln!("skipped: {:?}", session.header().notes);
        }
        let input = target.process.0.stdin.as_mut().unwrap();
        input.write_all(b"x").unwrap();
        let long = Timespec::try_from(Duration::from_secs(60)).unwrap();
        let early = session.early().unwrap();
        let mut early = [PollFd::from_borrowed_fd(early, PollFlags::IN)];
        assert_eq!(poll(&mut early, Some(&long)), Ok(1), "{name}");
        let round = step(&mut session);
        let told = |event: &SessionEvent| {
            matches!(
                event,
                SessionEvent::GaveBack {
                    own: OwnUffd::Created,
                    ..
                }
            )
        };
        assert!(round.events.iter().any(told), "{name}: {:?}", round.events);
        assert!(session.gave_back() && session.early().is_none(), "{name}");
        let (report, _) = target.report();
        assert_eq!(report["registered"], true, "{name}: {report}");
        // The first, and one more if that came before the round was made.
        assert!(report["tries"].as_u64().unwrap() <= 3, "{name}: {report}");
        session.end().unwrap();
    }
}
