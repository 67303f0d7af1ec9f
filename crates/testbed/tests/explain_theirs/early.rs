//! What happens before memory is looked at for the first time, after it was looked at for the last
//! time, and when calls are lost: nothing is silently absent.

use tracker::probes::events::{EventOptions, EventProbes};

use super::*;

/// A client whose memory is not registered yet, and its explainer.
fn unregistered(target: ClientTarget, seed: u64) -> (ClientProcess, ProcessExplainer<'static>) {
    let mut client = ClientProcess::start(target, ClientWay::Messages, seed);
    client.say("forget");
    let explainer = explained(client.pid(), client.start_of_area(), ReportsAsked::Theirs);
    (client, explainer)
}

/// What must be said of all that a round does, if the verdict cannot be known.
fn without_verdict(reason: UnknownReason) -> AnswerCounts {
    let mut counts = AnswerCounts::new();
    for act in ClientWay::Messages.acts() {
        let key = unknown(said_of(act).1, reason);
        *counts.entry(key).or_default() += act.pages();
    }
    counts
}

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

#[test]
fn messages_before_the_first_look_count_with_an_unknown_verdict() {
    every_target(|target, seed, what| {
        let expected = without_verdict(UnknownReason::NoImageBefore);
        let pages: u64 = expected.values().sum();
        // Armed again after that look.
        let (mut client, mut explainer) = unregistered(target, seed);
        client.say("begin");
        client.say("act");
        assert_eq!(answers(&step(&mut explainer)), [].into(), "{what}");
        assert_eq!(answers(&step(&mut explainer)), [].into(), "{what}");
        client.say("round");
        check(&answers(&step(&mut explainer)), &expected, what);
        let findings = of_theirs(explainer.end().unwrap());
        assert_eq!(findings.not_rearmed, 0, "{what}");
        // Not armed again, as in a snapshot.
        let (mut client, mut explainer) = unregistered(target, seed);
        client.say("begin");
        client.say("act");
        for _ in 0..3 {
            assert_eq!(answers(&step(&mut explainer)), [].into(), "{what}");
        }
        let findings = of_theirs(explainer.end().unwrap());
        assert_eq!(findings.not_rearmed, pages, "{what}");
        let reasons = [(UnknownReason::NoImageBefore, pages)];
        assert_eq!(findings.verdict_unknown, reasons.into(), "{what}");
        assert_eq!(findings.cause_unknown, [].into(), "{what}");
        assert_eq!(findings.perhaps_reported, 0, "{what}");
        // Armed again before that look.
        let (mut client, mut explainer) = unregistered(target, seed);
        client.say("begin");
        client.say("act");
        client.say("round");
        let expected = without_verdict(UnknownReason::ShortRound);
        check(&answers(&step(&mut explainer)), &expected, what);
    });
}

#[test]
fn what_is_given_up_before_a_look_is_counted() {
    every_target(|target, seed, what| {
        let (mut client, mut explainer) = unregistered(target, seed);
        client.say("begin");
        client.say("act");
        client.say("forget");
        assert_eq!(answers(&step(&mut explainer)), [].into(), "{what}");
        client.say("begin");
        assert_eq!(answers(&step(&mut explainer)), [].into(), "{what}");
        let findings = of_theirs(explainer.end().unwrap());
        let pages: u64 = ClientWay::Messages.acts().map(ClientAct::pages).sum();
        assert_eq!(findings.never_observed, pages, "{what}");
        assert_eq!(findings.tally, [].into(), "{what}");
    });
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
