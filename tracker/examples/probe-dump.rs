//! Attaches everything, prints the plan, runs a command, prints what was counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a developer's tool"
)]
use tracker::model::sample::CounterSource;
use tracker::probes::{self, Mechanism};

fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut wishes = probes::plan::Wishes::default();
    if let Some(m) = args.first().and_then(|a| Mechanism::parse(a)) {
        wishes.forced.push((None, m));
        args.remove(0);
    }
    let sizes = probes::globals::Sizes::new(1024, 64, 2);
    let mut attached = probes::attach(&probes::Options {
        wishes,
        sizes,
        object: std::env::var_os("OBJECT").map_or(probes::attach::OBJECT.into(), |f| {
            std::fs::read(f).unwrap().into()
        }),
    });
    println!("level {:?}: {}", attached.level, attached.reason);
    for hook in &attached.plan {
        println!(
            "  {:24} {:?}  ({})",
            hook.hook,
            hook.mechanism(),
            hook.reason
        );
    }
    if args.is_empty() {
        return;
    }
    if let Some(it) = &attached.iterator {
        println!("iter {:?}", it.read().map(|v| v.len()));
    }
    let status = std::process::Command::new(&args[0])
        .args(&args[1..])
        .status();
    println!("{status:?}");
    if let Some(it) = &attached.iterator {
        println!("iter {:?}", it.read());
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    let counters = attached.counters.as_mut().unwrap();
    counters.snapshot();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let s = counters.snapshot();
    for v in &s.vmas {
        println!("{v:?}");
    }
    for v in &s.mms {
        println!("{v:?}");
    }
    println!(
        "losses {:?} {:?} {:?}",
        s.losses, s.vma_records, s.mm_records
    );
    for d in &s.durations {
        println!("{d:?}");
    }
    for m in attached.misses() {
        if m.2 != Some(0) {
            println!("miss {m:?}");
        }
    }
}
