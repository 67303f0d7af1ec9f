//! Signals, readers that go away, and kill -9: the target is let go, and what was recorded is
//! there.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use pages::strategy::StrategyName;
use rustix::process::{Pid, Signal, kill_process};
use tracker::track::recording::{MemoryBudget, RecordingEnding, RecordingReader};

use crate::output::lines;
use crate::track;
use testbed::script::{MEMFD, ScriptProcess, seed};
use testbed::session::{registered, working};
use testbed::{KilledChild, eventually, program};

/// Starts `tracker track` on a process. A caller that does not read its output must not pass a
/// pipe.
fn start(script: &ScriptProcess, args: &[&str], out: Stdio) -> Child {
    let pid = script.pid().to_string();
    let mut command = track(&["--pid", &pid]);
    command.args(args).stdout(out).spawn().unwrap()
}

/// However fast rounds are, even without a pause between them.
#[test]
fn a_signal_ends_it_with_a_summary() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        for interval in ["1h", "10ms", "0.000001ms"] {
            let script = ScriptProcess::start();
            let mut child = start(&script, &["--json", "-i", interval], Stdio::piped());
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let mut text = Vec::new();
            // With the header and round 0 it is at work.
            output.read_until(b'\n', &mut text).unwrap();
            output.read_until(b'\n', &mut text).unwrap();
            assert!(registered(script.pid()) > 0);
            kill_process(Pid::from_child(&child), signal).unwrap();
            std::io::Read::read_to_end(&mut output, &mut text).unwrap();
            assert!(child.wait().unwrap().success(), "{signal:?} {interval}");
            let (_, _, summary) = lines(&text);
            assert_eq!(summary["end"], "interrupted", "{signal:?} {interval}");
            assert_eq!(registered(script.pid()), 0, "{signal:?} {interval}");
        }
    }
}

/// A program that it started is asked to end, and its status passes through.
#[test]
fn a_signal_ends_the_program_it_started() {
    let mut command = track(&[
        "-i",
        "5ms",
        "-n",
        "1",
        "--",
        "sh",
        "-c",
        "echo up; exec sleep 1000",
    ]);
    let mut child = KilledChild(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "up\n");
    // By now it waits for the program, or still tracks it.
    kill_process(Pid::from_child(&child.0), Signal::INT).unwrap();
    let status = eventually("it ends", || child.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(128 + 15));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let script = ScriptProcess::start();
    let tracker = program("tracker");
    for form in ["", "--json"] {
        let line = format!(
            "set -o pipefail; {tracker} track {form} -i 5ms --pid {} | head -1",
            script.pid()
        );
        let output = std::process::Command::new("bash")
            .args(["-c", &line])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
        assert!(output.stderr.is_empty(), "{output:?}");
        assert_eq!(registered(script.pid()), 0);
    }
}

/// Kills tracker at a random moment while the process writes; returns whether anything was armed
/// then.
fn kill_one(
    script: &mut ScriptProcess,
    name: StrategyName,
    value: u64,
    random: &mut fastrand::Rng,
) -> bool {
    let mut child = start(
        script,
        &["--json", "-i", "1ms", "--strategy", name.as_str()],
        Stdio::null(),
    );
    let pid = script.pid();
    let patience = Duration::from_micros(random.u64(0..60_000));
    let mut armed = false;
    if random.bool() {
        // Otherwise it is mostly killed while it attaches.
        eventually("it tracks", || {
            (registered(pid) > 0 || child.try_wait().unwrap().is_some()).then_some(())
        });
    }
    let begin = std::time::Instant::now();
    let mut child = Some(child);
    while child.is_some() {
        script.say_while(&format!("store 0 {value} 4 0-1023"), || {
            if begin.elapsed() >= patience
                && let Some(mut child) = child.take()
            {
                armed = registered(pid) > 0;
                child.kill().unwrap();
                child.wait().unwrap();
            }
        });
    }
    armed
}

#[test]
fn killed_at_any_moment_it_leaves_the_target_right() {
    const KILLS: u64 = 60;
    let seed = seed();
    eprintln!("STRATEGY_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let names: Vec<StrategyName> = working(MEMFD)
        .into_iter()
        .filter(|name| name.needs_descriptor())
        .collect();
    let mut armed = 0;
    for (name, kill) in names.iter().cycle().zip(0..KILLS) {
        let mut script = ScriptProcess::start();
        let (_, area) = script.map(MEMFD, 1024);
        armed += u64::from(kill_one(&mut script, *name, kill + 1, &mut random));
        let pid = script.pid();
        eventually("nothing is armed", || (registered(pid) == 0).then_some(()));
        script.tell("store 0 7 4 0-99");
        let expected: Vec<u64> = (0..1024)
            .map(|page| if page < 100 { 7 } else { kill + 1 })
            .collect();
        assert_eq!(
            script.words(&area),
            expected,
            "{name} kill {kill} seed {seed}"
        );
    }
    eprintln!("{KILLS} kills, {armed} while armed");
    assert!(armed >= KILLS / 4, "{armed}");
}

fn rounds_in(path: &Path) -> (usize, Option<RecordingEnding>) {
    let bytes = std::fs::read(path).unwrap_or_default();
    match RecordingReader::new(&*bytes, MemoryBudget::DEFAULT) {
        Ok(mut reader) => {
            let mut rounds = 0;
            while reader.next_round().unwrap().is_some() {
                rounds += 1;
            }
            (rounds, reader.ending().cloned())
        }
        Err(_) => (0, None),
    }
}

#[test]
fn a_recording_is_there_up_to_the_last_whole_round() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(seed());
    for number in 0..10 {
        let mut script = ScriptProcess::start();
        script.map(MEMFD, 1024);
        let path = directory.path().join(number.to_string());
        let mut child = start(
            &script,
            &["-i", "1ms", "-o", path.to_str().unwrap()],
            Stdio::null(),
        );
        let mut before = 0;
        script.say_while(&format!("churn 0 1 2 {}", random.u64(1..20)), || {
            before = rounds_in(&path).0
        });
        before = before.max(eventually("some rounds are written", || {
            Some(rounds_in(&path).0).filter(|rounds| *rounds > 5)
        }));
        child.kill().unwrap();
        child.wait().unwrap();
        let (rounds, ending) = rounds_in(&path);
        assert!(rounds >= before, "{rounds} of {before}");
        assert!(
            matches!(
                ending,
                Some(RecordingEnding::Open | RecordingEnding::CutOff { .. })
            ),
            "{ending:?}"
        );
        assert_eq!(registered(script.pid()), 0);
    }
}
