//! What happens when calls are lost.

use tracker::probes::events::{EventOptions, EventProbes};

use super::*;

fn every_target(mut test: impl FnMut(ClientTarget, u64, &str)) {
    if !sees_everything() {
        return;
    }
    if let Some(why) = refused(StrategyName::Sync, ANON) {
        eprintln!("skipped: {why}");
        return;
    }
    let seed = seed();
    for target in ClientTarget::ALL {
        test(
            target,
            seed,
            &format!("{} EXPLAIN_SEED={seed}", target.as_str()),
        );
    }
}

/// A call that was lost may have armed anything: the next look comes as soon as after one that did.
#[test]
fn a_call_that_was_lost_rings() {
    every_target(|target, seed, what| {
        let options = EventOptions {
            // Nine calls.
            calls: 4096,
            ..EventOptions::default()
        };
        let hub = EventHub::new(EventProbes::attach(&options), 1 << 20).unwrap();
        let mut client = ClientProcess::start(target, ClientWay::Messages, seed);
        let (pid, page) = (client.pid(), client.start_of_area());
        let mut explainer = explained_with(&hub, pid, page, ReportsAsked::Theirs);
        // None of these calls arms anything.
        client.say(&format!("release-each {PAGES}"));
        let told = testbed::soon(|| have_they_armed(&explainer).then_some(()));
        explainer.catch_up().unwrap();
        step(&mut explainer);
        let findings = of_theirs(explainer.end().unwrap());
        let lost = findings.audit.unwrap().dropped;
        assert!(lost > 0, "{what}: no call was lost");
        assert!(told.is_some(), "{what}: {lost} calls were lost");
    });
}
