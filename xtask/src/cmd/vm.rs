//! `cargo xtask vm`: a shell or a command in a virtual machine, with the agent in it.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;

use super::guest_programs;
use crate::{
    ConsentArgs, cargo,
    setup::{self, Extent, kernels},
    sh,
    vm::{Accel, GuestFile, VmRun},
};

/// Boot a kernel in QEMU with tracker in it, for a shell or one command
#[derive(Args)]
pub struct VmArgs {
    /// A series (6.1, 6.12, 6.18, or any that Debian's archive has), or a path to an image
    kernel: String,
    /// Further kernel arguments
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Virtual CPUs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Memory, as QEMU's -m
    #[arg(long, default_value = "2G")]
    memory: String,
    /// Put a file or directory into the guest (at /root/NAME unless told), with its libraries
    #[arg(long = "file", value_name = "HOST[:GUEST]", value_parser = GuestFile::parse)]
    files: Vec<GuestFile>,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
    /// Make guest time count instructions (one CPU)
    #[arg(long)]
    icount: bool,
    /// Do not mount /sys/fs/bpf
    #[arg(long)]
    no_bpffs: bool,
    /// 2 MiB pages to reserve
    #[arg(long, default_value_t = 64, value_name = "PAGES")]
    hugepages: u32,
    /// Swap of so many MiB on a disk
    #[arg(long, default_value_t = 0, value_name = "MIB")]
    swap: u32,
    /// Lead a port of 127.0.0.1 to the same port of the guest
    #[arg(long, value_name = "PORT")]
    forward: Option<u16>,
    /// Leave tracker's programs and tests out, and do not build them
    #[arg(long)]
    bare: bool,
    #[command(flatten)]
    consent: ConsentArgs,
    /// What to run, instead of a shell
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs it; the command's exit status passes through.
pub fn run(args: VmArgs) -> Result<ExitCode> {
    setup::prepare(Extent::Vm, &args.consent.consent())?;
    let kernel = kernels::find(&args.kernel)?;
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
        run.accel = Accel::CountInstructions;
    }
    if !args.bare {
        run.files
            .extend(guest_programs(&cargo::programs()?, "/bin")?);
        run.files
            .extend(guest_programs(&cargo::guest_tests()?, "/tests")?);
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
