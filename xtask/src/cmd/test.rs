//! `cargo xtask test`: everything that must pass before a change lands.

use std::{
    collections::VecDeque,
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader},
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::{guest_programs, selftests};
use crate::{
    ConsentArgs,
    cargo::{self, Program},
    matrix::{self, ROWS},
    paths,
    setup::{
        self, Extent, kernels,
        kernels::Kernel,
        programs::{self, Kind},
    },
    sh,
    tally::{HostCounts, Tally},
    vm::{
        VmRun,
        guest_log::{self, Verdict},
    },
};

/// Format, lints, tests on this host, and the tests in virtual machines
#[derive(Args)]
pub struct TestArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// Only tests whose name contains this (in guests: PROGRAM::TEST); no lints
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// No virtual machines
    #[arg(long)]
    no_vm: bool,
    /// Only the virtual machines
    #[arg(long, conflicts_with = "no_vm")]
    vm_only: bool,
    /// Boot only this series of the matrix (may be repeated)
    #[arg(long, value_name = "SERIES")]
    kernel: Vec<String>,
    /// Boot this image instead of the matrix's kernels (may be repeated)
    #[arg(long, value_name = "PATH", conflicts_with = "kernel")]
    kernel_image: Vec<std::path::PathBuf>,
    /// Virtual machines at a time, each with two CPUs [default: as many as cores, at most 4]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: Option<u8>,
}

/// Runs it all; the last line on stdout is `N passed, N failed`.
pub fn run(args: &TestArgs) -> Result<ExitCode> {
    let extent = if args.no_vm {
        Extent::Build
    } else {
        Extent::Vm
    };
    setup::prepare(extent, &args.consent.consent())?;
    setup::prepare_tests()?;
    let boots = if args.no_vm { Vec::new() } else { boots(args)? };
    let mut tally = Tally::default();
    if !args.vm_only {
        if args.filter.is_none() {
            lint(&mut tally);
        }
        host_tests(args, &mut tally)?;
    }
    if !args.no_vm {
        guest_tests(args, &boots, &mut tally)?;
        if wants_selftests(args) {
            selftests::check(&mut tally);
        }
    }
    print!("\n{tally}");
    Ok(if tally.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn lint(tally: &mut Tally) {
    let cargo = |args: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(args).current_dir(paths::root());
        command
    };
    tally.check(
        "format",
        sh::step(
            "cargo fmt --check",
            &mut cargo(&["fmt", "--all", "--check"]),
        ),
    );
    let deny = ["--", "-D", "warnings"];
    let workspace = ["clippy", "--workspace", "--all-targets"];
    let mut clippy = cargo(&[&workspace[..], &deny].concat());
    tally.check("clippy", sh::step("cargo clippy", &mut clippy));
    let hooks = [
        "clippy",
        "-p",
        "tracker-ebpf",
        "--features",
        "bpf",
        "--bins",
    ];
    let mut clippy = cargo(&[&hooks[..], &deny].concat());
    // On the host: programs without `std` need a panic that aborts.
    clippy.env("CARGO_PROFILE_DEV_PANIC", "abort");
    tally.check(
        "clippy of the hooks",
        sh::step("cargo clippy of the hooks", &mut clippy),
    );
}

/// `cargo test`, its output passed on and counted.
fn host_tests(args: &TestArgs, tally: &mut Tally) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(paths::root());
    command.args(&args.filter);
    for (variable, kind) in [
        ("PATH", Kind::Programs),
        ("LD_LIBRARY_PATH", Kind::Libraries),
    ] {
        command.env(variable, with_fetched(variable, kind)?);
    }
    let shown = sh::display(&command);
    eprintln!("     ... {shown}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut counts = HostCounts::default();
    for line in child
        .stdout
        .take()
        .into_iter()
        .flat_map(|out| BufReader::new(out).split(b'\n'))
    {
        let line = line.context("cannot read cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.push(&line, args.no_vm);
    }
    let status = child.wait().with_context(|| format!("lost `{shown}`"))?;
    tally.host(&counts);
    if !status.success() && counts.failures.is_empty() {
        tally.fail(
            "host tests",
            &format!("`{shown}` failed ({status}); its messages are above"),
        );
    }
    Ok(())
}

/// A list of directories in the environment, and after it those where set-up keeps what the machine has not.
fn with_fetched(variable: &str, kind: Kind) -> Result<OsString> {
    let own = env::var_os(variable).unwrap_or_default();
    let own = env::split_paths(&own).filter(|dir| !dir.as_os_str().is_empty());
    let all = own.chain(programs::directories(kind)?);
    env::join_paths(all).with_context(|| format!("{variable} holds a name that cannot be in it"))
}

/// A kernel and how it is booted.
struct Boot {
    label: String,
    kernel: Kernel,
    append: Vec<String>,
    row: Option<&'static matrix::Row>,
}

/// The rows of the matrix that `args` chooses, with their kernels fetched; or a row for each image.
fn boots(args: &TestArgs) -> Result<Vec<Boot>> {
    if !args.kernel_image.is_empty() {
        let boot = |path| {
            let kernel = kernels::from_image(path)?;
            Ok(Boot {
                label: kernel.label.clone(),
                kernel,
                append: Vec::new(),
                row: None,
            })
        };
        return args.kernel_image.iter().map(|path| boot(path)).collect();
    }
    for wanted in &args.kernel {
        if !kernels::MATRIX.contains(&wanted.as_str()) {
            bail!(
                "{wanted:?} is not in the matrix, which boots {}",
                kernels::MATRIX.join(", ")
            );
        }
    }
    let chosen = |row: &&matrix::Row| {
        args.kernel.is_empty() || args.kernel.iter().any(|kernel| kernel == row.kernel)
    };
    let boot = |row: &'static matrix::Row| {
        Ok(Boot {
            label: row.label(),
            kernel: kernels::prepare(row.kernel)?,
            append: row.append.split_whitespace().map(str::to_owned).collect(),
            row: Some(row),
        })
    };
    ROWS.iter().filter(chosen).map(boot).collect()
}

/// Whether `args` choose the kernel's own tests.
fn wants_selftests(args: &TestArgs) -> bool {
    let (kernel, programs) = matrix::SELFTESTS;
    let chosen = args.kernel.is_empty() || args.kernel.iter().any(|series| series == kernel);
    let filter = args.filter.as_deref().unwrap_or_default();
    let named = |name: &&str| selftests::test_name(name).contains(filter);
    args.kernel_image.is_empty() && chosen && programs.iter().any(named)
}

/// One boot: a test program on one row, and the tests in it.
struct Job<'a> {
    boot: &'a Boot,
    program: &'a Program,
    tests: Vec<&'a str>,
}

fn guest_tests(args: &TestArgs, boots: &[Boot], tally: &mut Tally) -> Result<()> {
    let programs = cargo::programs()?;
    let tests = cargo::guest_tests()?;
    if tests.is_empty() {
        eprintln!("{:>8} no tests for guests: tracker/tests/vm_*.rs", "note");
        return Ok(());
    }
    let filter = args.filter.as_deref().unwrap_or_default();
    let listed = tests
        .iter()
        .map(|program| list(program, filter))
        .collect::<Result<Vec<_>>>()?;
    if listed.iter().all(Vec::is_empty) && args.vm_only && !wants_selftests(args) {
        bail!("no test for guests has {filter:?} in its name, as PROGRAM::TEST");
    }
    let mut jobs = VecDeque::new();
    for boot in boots {
        for (program, tests) in tests.iter().zip(&listed) {
            let tests = not_excused(boot, &program.name, tests);
            if !tests.is_empty() {
                jobs.push_back(Job {
                    boot,
                    program,
                    tests,
                });
            }
        }
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = args.jobs.map_or_else(|| cores.clamp(1, 4), usize::from);
    let (jobs, tally) = (Mutex::new(jobs), Mutex::new(tally));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                // Not `while let`: that would hold the lock while the guest runs.
                loop {
                    let Some(job) = locked(&jobs).pop_front() else {
                        break;
                    };
                    let outcome = boot(&job, &programs);
                    count(&job, outcome, &mut locked(&tally));
                }
            });
        }
    });
    Ok(())
}

/// The tests of a program that run in a row; says why the others do not.
fn not_excused<'a>(boot: &Boot, program: &str, tests: &'a [String]) -> Vec<&'a str> {
    let excuse = |name: &str| {
        let why = boot.row?.excuse(name)?;
        eprintln!("{:>8} {name} on {}: {why}", "skipped", boot.label);
        Some(())
    };
    if excuse(program).is_some() {
        return Vec::new();
    }
    let runs = |test: &&str| excuse(&format!("{program}::{test}")).is_none();
    tests.iter().map(String::as_str).filter(runs).collect()
}

/// The lock, whatever became of a thread that held it.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The tests in `program` whose name, as the table shows it, contains `filter`; being static, the program runs here
/// too.
fn list(program: &Program, filter: &str) -> Result<Vec<String>> {
    let mut command = Command::new(&program.path);
    let names = sh::output(command.args(["--list", "--format", "terse"]))?;
    let tests = names.lines().filter_map(|line| line.strip_suffix(": test"));
    let chosen = tests.filter(|test| format!("{}::{test}", program.name).contains(filter));
    Ok(chosen.map(str::to_owned).collect())
}

/// Boots and runs the tests of `job`.
fn boot(job: &Job, programs: &[Program]) -> Result<crate::vm::Report> {
    let name = format!("{}-{}", job.boot.label, job.program.name).replace([' ', '='], "-");
    let mut run = VmRun::new(&name, &job.boot.kernel);
    run.append.clone_from(&job.boot.append);
    run.timeout = matrix::TIMEOUT;
    run.swap = matrix::swap(&job.program.name);
    run.files = guest_programs(programs, "/bin")?;
    run.files
        .extend(guest_programs(std::slice::from_ref(job.program), "/tests")?);
    for name in matrix::programs(&job.program.name) {
        run.files.extend(programs::guest_files(name)?);
    }
    let names: Vec<_> = job.tests.iter().map(|name| sh::quote(name)).collect();
    run.command = Some(format!(
        "exec /tests/{} --include-ignored --test-threads=1 --exact {}\n",
        job.program.name,
        names.join(" ")
    ));
    let progress = sh::Progress::start(&format!("{} on {}", job.program.name, job.boot.label));
    let report = run.run(|line| progress.detail(line));
    progress.finish(
        report
            .as_ref()
            .is_ok_and(|report| matches!(report.verdict(), Ok(0))),
    );
    report
}

/// Counts a verdict for each test of `job`.
fn count(job: &Job, outcome: Result<crate::vm::Report>, tally: &mut Tally) {
    let row = &job.boot.label;
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            let why = format!("{error:#}");
            for test in &job.tests {
                tally.guest(row, &format!("{}::{test}", job.program.name), None, &why);
            }
            return;
        }
    };
    if report.early_crashes > 0 {
        tally.early_crash(report.early_crashes);
    }
    let verdicts = guest_log::verdicts(report.lines.iter().map(String::as_str));
    let tail = report
        .lines
        .iter()
        .rev()
        .take(40)
        .rev()
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    let why = match &report.trouble {
        Some(trouble) => trouble.clone(),
        None => format!("{}\n{tail}", report.log.display()),
    };
    let mut all_passed = true;
    for test in &job.tests {
        let verdict = verdicts
            .iter()
            .find(|(name, _)| name == *test)
            .map(|(_, verdict)| *verdict);
        all_passed &= matches!(verdict, Some(Verdict::Passed | Verdict::Ignored));
        tally.guest(row, &format!("{}::{test}", job.program.name), verdict, &why);
    }
    // Every test passed and yet something is wrong: a kernel's warning, a status that is not 0.
    if all_passed && !matches!(report.verdict(), Ok(0)) {
        tally.fail(&format!("{row}: {}", job.program.name), &why);
    }
}
