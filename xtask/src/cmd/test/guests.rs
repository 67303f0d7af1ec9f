//! The tests in virtual machines: a guest for each test program in each row of the matrix.

use std::{
    collections::VecDeque,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{TestArgs, extent, wants_selftests};
use crate::{
    cargo::{self, BuiltGuestTest, BuiltProgram},
    cmd::{guest_program, guest_programs},
    matrix::{self, GuestTest, IMAGE_ROW, MatrixExtent, MatrixRow, ROWS},
    setup::kernels::{self, GuestKernel},
    sh,
    tally::TestTally,
    vm::{
        BootReport, VmRun,
        guest_log::{self, TestVerdict, VerdictReader},
    },
};

/// A kernel and how it is booted.
pub struct MatrixBoot {
    label: String,
    kernel: GuestKernel,
    append: Vec<String>,
    row: &'static MatrixRow,
}

/// The rows of the matrix that `args` choose, with their kernels fetched; or one row per image.
pub fn boots(args: &TestArgs) -> Result<Vec<MatrixBoot>> {
    if !args.kernel_image.is_empty() {
        let boot = |kernel: &GuestKernel| MatrixBoot {
            label: kernel.label.clone(),
            kernel: kernel.clone(),
            append: Vec::new(),
            row: &IMAGE_ROW,
        };
        return Ok(args.kernel_image.iter().map(boot).collect());
    }
    let chosen = |row: &&MatrixRow| {
        args.kernel.is_empty() || args.kernel.iter().any(|kernel| kernel == row.kernel)
    };
    let boot = |row: &'static MatrixRow| {
        Ok(MatrixBoot {
            label: row.label(),
            kernel: kernels::prepare(row.kernel)?,
            append: row.mode.argument().map(str::to_owned).into_iter().collect(),
            row,
        })
    };
    ROWS.iter().filter(chosen).map(boot).collect()
}

/// One guest: the tests of one program, in one row of the matrix.
struct GuestJob<'a> {
    boot: &'a MatrixBoot,
    test: &'a BuiltGuestTest,
    names: Vec<&'a str>,
}

impl GuestJob<'_> {
    /// The name of one of its tests in tables.
    fn full_name(&self, test: &str) -> String {
        format!("{}::{test}", self.test.entry.name)
    }
}

/// How long each test took, by the lines of its program as they come.
#[derive(Default)]
struct TestClock {
    reader: VerdictReader,
    /// The end of the last test, or the program's first line.
    since: Option<Instant>,
    took: Vec<(String, Duration)>,
}

impl TestClock {
    fn push(&mut self, line: &str) {
        let since = *self.since.get_or_insert_with(Instant::now);
        if let Some((test, _)) = self.reader.push(line) {
            self.took.push((test, since.elapsed()));
            self.since = Some(Instant::now());
        }
    }
}

/// Runs the tests that `args` choose in each of `boots`, several guests at a time.
pub fn test(args: &TestArgs, boots: &[MatrixBoot], tally: &mut TestTally) -> Result<()> {
    let programs = cargo::programs()?;
    let tests = cargo::guest_tests()?;
    let filter = args.filter.as_deref().unwrap_or_default();
    let listed = tests
        .iter()
        .map(|test| list(&test.program, filter))
        .collect::<Result<Vec<_>>>()?;
    if listed.iter().all(Vec::is_empty) && args.vm_only && !wants_selftests(args) {
        bail!("no guest test has {filter:?} in its name (PROGRAM::TEST)");
    }
    let mut jobs = VecDeque::new();
    for boot in boots {
        for (test, names) in tests.iter().zip(&listed) {
            let names = not_excused(boot, test.entry, names, extent(args));
            if !names.is_empty() {
                jobs.push_back(GuestJob { boot, test, names });
            }
        }
    }
    // Before several guests want it at once.
    for program in jobs.iter().flat_map(|job| job.test.entry.programs) {
        program.prepare()?;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = args.jobs.map_or_else(|| cores.clamp(1, 4), usize::from);
    let (jobs, tally) = (Mutex::new(jobs), Mutex::new(tally));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                // Not `while let`, which would hold the lock while the guest runs.
                loop {
                    let Some(job) = locked(&jobs).pop_front() else {
                        break;
                    };
                    let mut clock = TestClock::default();
                    let outcome = run(&job, &programs, &mut clock);
                    let mut tally = locked(&tally);
                    for (test, took) in clock.took {
                        tally.took(&job.boot.label, &job.full_name(&test), took);
                    }
                    count(&job, outcome, &mut tally);
                }
            });
        }
    });
    Ok(())
}

/// Those of the tests called `names` that run in a row; prints why the others do not.
fn not_excused<'a>(
    boot: &MatrixBoot,
    test: &GuestTest,
    names: &'a [String],
    extent: MatrixExtent,
) -> Vec<&'a str> {
    let (names, row) = (names.iter().map(String::as_str), boot.row);
    let skip = |name: &str, why| eprintln!("{:>8} {name} on {}: {why}", "skipped", boot.label);
    if let Some(why) = test.excuse(row, extent) {
        skip(test.name, why);
        return Vec::new();
    }
    let runs = |name: &&str| {
        let excuse = test.test_excuse(name, row, extent);
        excuse.inspect(|why| skip(&format!("{}::{name}", test.name), why));
        excuse.is_none()
    };
    names.filter(runs).collect()
}

/// Takes the lock even if a thread panicked while holding it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tests in `program` whose name in the table contains `filter`. The program lists them here:
/// it is static, so it runs on this host too.
fn list(program: &BuiltProgram, filter: &str) -> Result<Vec<String>> {
    let mut command = Command::new(&program.path);
    let names = sh::output(command.args(["--list", "--format", "terse"]))?;
    let tests = names.lines().filter_map(|line| line.strip_suffix(": test"));
    let chosen = tests.filter(|test| format!("{}::{test}", program.name).contains(filter));
    Ok(chosen.map(str::to_owned).collect())
}

/// Boots and runs the tests of `job`.
fn run(job: &GuestJob, programs: &[BuiltProgram], clock: &mut TestClock) -> Result<BootReport> {
    let test = job.test.entry;
    let name = format!("{}-{}", job.boot.label, test.name).replace([' ', '='], "-");
    let mut run = VmRun::new(&name, &job.boot.kernel);
    run.append.clone_from(&job.boot.append);
    run.timeout = matrix::TIMEOUT;
    run.swap = test.swap;
    run.files = guest_programs(programs, "/bin")?;
    run.files.push(guest_program(&job.test.program, "/tests")?);
    for program in test.programs {
        run.files.extend(program.guest_files()?);
    }
    let names: Vec<_> = job.names.iter().map(|name| sh::quote(name)).collect();
    run.command = Some(format!(
        "exec /tests/{} --include-ignored --show-output --test-threads=1 --exact {}\n",
        test.name,
        names.join(" ")
    ));
    let progress = sh::ProgressLine::start(&format!("{} on {}", test.name, job.boot.label));
    let report = run.run(|line| {
        clock.push(line);
        progress.detail(line);
    });
    progress.finish(
        report
            .as_ref()
            .is_ok_and(|report| matches!(report.verdict(), Ok(0))),
    );
    report
}

/// Counts a verdict for each test of `job`.
fn count(job: &GuestJob, outcome: Result<BootReport>, tally: &mut TestTally) {
    let row = &job.boot.label;
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            let why = format!("{error:#}");
            for name in &job.names {
                tally.guest(row, &job.full_name(name), None, &why);
            }
            return;
        }
    };
    tally.repeated(report.repeated);
    let verdicts = guest_log::verdicts(report.lines.iter().map(String::as_str));
    for (test, what) in guest_log::left_out(report.lines.iter().map(String::as_str)) {
        tally.left_out(row, &job.full_name(test), what);
    }
    let mut all_passed = true;
    for name in &job.names {
        let verdict = verdicts
            .iter()
            .find(|(test, _)| test == *name)
            .map(|(_, verdict)| *verdict);
        all_passed &= matches!(verdict, Some(TestVerdict::Passed | TestVerdict::Ignored));
        tally.guest(
            row,
            &job.full_name(name),
            verdict,
            &why(&report, Some(name)),
        );
    }
    // Every test passed, yet something is wrong: a kernel warning, or an exit status other than 0.
    if all_passed && !matches!(report.verdict(), Ok(0)) {
        let name = format!("{row}: {}", job.test.entry.name);
        tally.fail(&name, &why(&report, None));
    }
}

/// What to show for `test` of this boot, which failed: what was wrong with the boot, or else where
/// the log is, with what the test said or the last lines.
fn why(report: &BootReport, test: Option<&str>) -> String {
    if let Some(trouble) = &report.trouble {
        return trouble.clone();
    }
    let lines = report.lines.iter().map(String::as_str);
    let said = test.map_or_else(Vec::new, |test| guest_log::said_by(lines.clone(), test));
    let shown = if said.is_empty() {
        lines
            .skip(report.lines.len().saturating_sub(HEAD + TAIL))
            .collect()
    } else {
        shortened(&said)
    };
    format!("{}\n{}", report.log.display(), shown.join("\n"))
}

/// How many lines of a failure are shown from its start and its end: a panic tells first what is
/// wrong, and then the state of everything.
const HEAD: usize = 30;
const TAIL: usize = 20;

fn shortened<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    if lines.len() <= HEAD + TAIL {
        return lines.to_vec();
    }
    let head = lines[..HEAD].iter().copied();
    let tail = lines[lines.len() - TAIL..].iter().copied();
    head.chain(["[...]"]).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_failure_keeps_its_start_and_its_end() {
        let lines: Vec<_> = (0..1000).map(|line| line.to_string()).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let shown = shortened(&lines);
        assert_eq!(shown.len(), HEAD + 1 + TAIL);
        assert_eq!((shown[0], shown[HEAD]), ("0", "[...]"));
        assert_eq!(shown.last(), Some(&"999"));
        assert_eq!(shortened(&lines[..HEAD + TAIL]), lines[..HEAD + TAIL]);
    }
}
