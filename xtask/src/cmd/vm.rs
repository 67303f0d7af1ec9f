//! `cargo xtask vm`: a shell or one command in a virtual machine that has tracker in it.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{guest_program, guest_programs};
use crate::{
    ConsentArgs, cargo,
    setup::{self, SetupExtent, kernels::KernelChoice},
    sh,
    vm::{GuestAccel, GuestFile, VmRun},
};

/// Boot a kernel in QEMU and run a shell or one command, with tracker at hand
#[derive(Args)]
pub struct VmArgs {
    /// A series (6.1, 6.12, 6.18, or any in Debian's archive) or the path of an image
    #[arg(value_parser = KernelChoice::parse)]
    kernel: KernelChoice,
    /// More arguments for the kernel (may be repeated)
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Virtual CPUs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Memory, as for QEMU's -m
    #[arg(long, default_value = "2G")]
    memory: String,
    /// Copy a file with its libraries, or a directory, into the guest [default: to /root/NAME]
    #[arg(long = "file", value_name = "HOST[:GUEST]", value_parser = GuestFile::parse)]
    files: Vec<GuestFile>,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
    /// Make the guest's clock count instructions (one CPU)
    #[arg(long)]
    icount: bool,
    /// Do not mount /sys/fs/bpf
    #[arg(long)]
    no_bpffs: bool,
    /// Huge pages of 2 MiB to reserve
    #[arg(long, default_value_t = 64, value_name = "PAGES")]
    hugepages: u32,
    /// Swap to a disk of this many MiB
    #[arg(long, default_value_t = 0, value_name = "MIB")]
    swap: u32,
    /// Forward this port of 127.0.0.1 to the same port of the guest
    #[arg(long, value_name = "PORT")]
    forward: Option<u16>,
    /// Neither build nor copy tracker's programs and tests
    #[arg(long)]
    bare: bool,
    #[command(flatten)]
    consent: ConsentArgs,
    /// The command to run instead of a shell
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs it, and exits with the status of the command.
pub fn run(args: VmArgs) -> Result<ExitCode> {
    setup::prepare(SetupExtent::Vm, &args.consent.consent())?;
    let kernel = args.kernel.prepare()?;
    let mut run = VmRun::new(&format!("vm-{}", kernel.label), &kernel);
    run.append = args.append;
    run.cpus = args.cpus;
    run.memory = args.memory;
    run.timeout = Duration::from_secs(args.timeout);
    run.bpffs = !args.no_bpffs;
    run.hugepages = args.hugepages;
    run.swap = args.swap;
    run.forward = args.forward;
    if args.icount {
        run.accel = GuestAccel::CountInstructions;
    }
    if !args.bare {
        run.files
            .extend(guest_programs(&cargo::programs()?, "/bin")?);
        for test in cargo::guest_tests()? {
            run.files.push(guest_program(&test.program, "/tests")?);
        }
    }
    run.files.extend(args.files);
    if args.command.is_empty() {
        eprintln!(
            "{:>8} {} on this terminal; Ctrl-A X ends it at once",
            "boot", kernel.release
        );
        let status = run.interact()?;
        return Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let words: Vec<String> = args.command.iter().map(|word| sh::quote(word)).collect();
    run.command = Some(words.join(" "));
    let mut stdout = std::io::stdout();
    let mut broken = None;
    let report = run.run(|line| {
        if let Err(error) = writeln!(stdout, "{line}") {
            broken.get_or_insert(error);
        }
    })?;
    if let Some(error) = broken {
        return Err(error).context("cannot write the guest's output");
    }
    Ok(ExitCode::from(u8::try_from(report.verdict()?).unwrap_or(1)))
}
