//! A process whose mappings multiply because it is tracked.

use pages::strategy::StrategyName;
use pages::track::{SessionEvent, UntrackedReason};

use testbed::eventually;
use testbed::inject::InjectTarget;
use testbed::script::ANON;
use testbed::session::{registered, step, try_begin, working};

/// An allocator that unmaps and maps single pages: it is let go before a call of it fails, that is
/// told, and all of its memory is counted as not looked at from then on.
#[test]
fn a_process_near_its_limit_is_let_go_before_a_call_fails() {
    // The others register as the first does; reading is slow on emulated machines.
    let tried = [
        StrategyName::Markers,
        StrategyName::Sync,
        StrategyName::Hash,
    ];
    for name in working(ANON)
        .into_iter()
        .filter(|name| tried.contains(name))
    {
        let mut target = InjectTarget::until_asked("refill");
        let pid = target.pid();
        let (mut session, _) = try_begin(pid, name).unwrap();
        let told = |event: &SessionEvent| matches!(event, SessionEvent::MappingLimit { .. });
        if name.needs_descriptor() {
            eventually("it is let go", || {
                std::thread::sleep(std::time::Duration::from_millis(200));
                let round = step(&mut session);
                round.events.iter().any(told).then_some(())
            });
            assert_eq!(registered(pid), 0, "{name}");
        }
        let round = step(&mut session);
        assert!(!round.events.iter().any(told), "{name}: told once");
        let let_go = round.not_looked_at.of(UntrackedReason::MappingLimit) > 80_000;
        assert_eq!(let_go, name.needs_descriptor(), "{name}");
        session.end().unwrap();
        let report = target.ask();
        assert_eq!(report["failed calls"], 0, "{name}: {report}");
        assert_eq!(report["any pass"], true, "{name}: {report}");
    }
}
