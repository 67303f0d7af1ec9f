//! `tracker inject`: gets a userfaultfd of a process, and shows what that took. For those who
//! develop how processes are tracked, and for their tests.

use std::io::Read as _;
use std::process::ExitCode;

use clap::Args;
use pages::inject::{self, InjectOptions, KernelFaults, UffdLease};
use uffd::{ProcVma, RegisterMode, UffdFeatures};

use super::output::print;

/// The flags of `tracker inject`.
#[derive(Args, Debug)]
pub(crate) struct InjectArgs {
    /// The process
    #[arg(long, short, env = "TRACKER_PID", value_name = "PID")]
    pid: u32,
    /// Arm all of its private anonymous memory
    #[arg(long, env = "TRACKER_ARM")]
    arm: bool,
    /// Keep it until standard input ends
    #[arg(long, env = "TRACKER_HOLD")]
    hold: bool,
    /// Fail rather than have one that handles faults of user code only
    #[arg(long, env = "TRACKER_KERNEL_FAULTS")]
    kernel_faults: bool,
}

/// Injects, then arms and holds as asked.
///
/// # Errors
/// If the target gives no userfaultfd, or cannot be armed.
pub(crate) fn run(args: &InjectArgs) -> anyhow::Result<ExitCode> {
    let kernel_faults = if args.kernel_faults {
        KernelFaults::Required
    } else {
        KernelFaults::IfAllowed
    };
    let options = InjectOptions {
        kernel_faults,
        ..InjectOptions::default()
    };
    let injected = inject::userfaultfd(args.pid, &options)?;
    let milliseconds = injected.stopped.as_secs_f64() * 1e3;
    let scope = if injected.user_mode_only {
        "of user code only"
    } else {
        "of user code and the kernel"
    };
    let mut text = format!(
        "userfaultfd of process {}: handles faults {scope}; {} of {} threads stood still \
         for {milliseconds:.3} ms\n",
        args.pid, injected.stopped_threads, injected.threads
    );
    for note in &injected.notes {
        text += &format!("note: {note}\n");
    }
    for vma in &injected.occupied {
        text += &format!(
            "skipped {:x}-{:x} {}: belongs to a userfaultfd already\n",
            vma.start,
            vma.end,
            String::from_utf8_lossy(&vma.name)
        );
    }
    print(&text)?;
    let occupied = injected.occupied.clone();
    // Without it the writer of an armed page would wait until somebody answers.
    let features = if UffdFeatures::offered()?.is_async() {
        UffdFeatures::WP_ASYNC
    } else if args.arm {
        anyhow::bail!(
            "cannot arm process {}: this kernel has no WP_ASYNC (6.7)",
            args.pid
        );
    } else {
        UffdFeatures::default()
    };
    let mut attached = UffdLease::new(injected, features)?;
    if args.arm {
        print(&arm(&mut attached, &occupied)?)?;
    }
    if args.hold {
        std::io::stdin().read_to_end(&mut Vec::new())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Arms what can be armed, and tells how much.
fn arm(attached: &mut UffdLease, occupied: &[ProcVma]) -> anyhow::Result<String> {
    let wanted = |vma: &ProcVma| {
        vma.is_anonymous()
            && vma.permissions == *b"rw-p"
            && !occupied.iter().any(|other| other.start == vma.start)
    };
    let (mut vmas, mut bytes) = (0, 0);
    for vma in uffd::smaps(attached.pid())? {
        let range = vma?;
        if !wanted(&range) {
            continue;
        }
        let range = range.range();
        // It may have changed since it was listed.
        if attached.register(&range, RegisterMode::WP).is_ok()
            && attached.uffd().arm(&range).is_ok()
        {
            (vmas, bytes) = (vmas + 1, bytes + (range.end - range.start));
        }
    }
    Ok(format!("armed {bytes} bytes in {vmas} VMAs\n"))
}
