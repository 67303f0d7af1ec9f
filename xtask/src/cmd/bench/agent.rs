//! `cargo xtask bench agent`: what the agent costs beside Debian's node_exporter.

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    ConsentArgs,
    cargo::{self, BuiltProgram},
    cmd::guest_programs,
    setup::{
        self, SetupExtent,
        kernels::{GuestKernel, KernelChoice},
        programs::{self, BundlePart, ForeignProgram},
    },
    sh,
    vm::{BootReport, VmRun},
};

/// The benchmark, a program that prints rows of a table.
const BENCH: &str = "agent";

#[derive(Args)]
pub struct BenchAgentArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// A series or the path of an image
    #[arg(long, default_value = "6.12", value_parser = KernelChoice::parse)]
    kernel: KernelChoice,
    /// Only on this machine
    #[arg(long)]
    no_vm: bool,
    /// Only in the guest
    #[arg(long, conflicts_with = "no_vm")]
    vm_only: bool,
}

/// Runs the benchmark in both places and prints their tables.
pub fn run(args: &BenchAgentArgs) -> Result<ExitCode> {
    let extent = if args.no_vm {
        SetupExtent::Build
    } else {
        SetupExtent::Vm
    };
    setup::prepare(extent, &args.consent.consent())?;
    ForeignProgram::NodeExporter.prepare()?;
    let programs = cargo::programs()?;
    let bench = cargo::benches(cargo::TESTBED, BENCH)?;
    if !args.vm_only {
        on_host(&bench)?;
    }
    if !args.no_vm {
        let kernel = args.kernel.prepare()?;
        in_guest(&kernel, programs, bench)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn on_host(bench: &[BuiltProgram]) -> Result<()> {
    let program = bench.first().context("cargo built no benchmark")?;
    let mut command = Command::new(&program.path);
    command.arg("--bench");
    let path = programs::with_fetched("PATH", BundlePart::Programs)?;
    command.env("PATH", path);
    let progress = sh::ProgressLine::start("measuring the agent on this machine");
    let table = sh::output(&mut command);
    progress.finish(table.is_ok());
    let release = rustix::system::uname();
    show(&release.release().to_string_lossy(), "", table?.lines());
    Ok(())
}

fn in_guest(
    kernel: &GuestKernel,
    mut programs: Vec<BuiltProgram>,
    bench: Vec<BuiltProgram>,
) -> Result<()> {
    let mut run = VmRun::new(&format!("bench-{}-agent", kernel.label), kernel);
    run.timeout = Duration::from_secs(1200);
    programs.extend(bench);
    run.files = guest_programs(&programs, "/bin")?;
    run.files
        .extend(ForeignProgram::NodeExporter.guest_files()?);
    run.command = Some(format!("{BENCH} --bench"));
    let progress = sh::ProgressLine::start("measuring the agent in a guest");
    let report = run.run(|line| progress.detail(line));
    let status = report.as_ref().ok().map(BootReport::verdict);
    progress.finish(matches!(status, Some(Ok(0))));
    let report = report?;
    if report.verdict()? != 0 {
        bail!("the benchmark failed; see {}", report.log.display());
    }
    let lines = report.lines.iter().map(String::as_str);
    show(&kernel.release, ", emulated", lines);
    Ok(())
}

fn show<'a>(release: &str, how: &str, lines: impl Iterator<Item = &'a str>) {
    println!("Kernel {release}{how}, `cargo xtask bench agent`\n");
    let (rows, others): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with('|'));
    println!("{}\n", rows.join("\n"));
    for line in others.iter().filter(|line| line.starts_with("- ")) {
        println!("{line}");
    }
    println!();
}
