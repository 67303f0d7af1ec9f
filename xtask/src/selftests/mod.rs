//! The kernel's own tests of userfaultfd and PAGEMAP_SCAN as clients of the agent: run without it,
//! under it and after it in one guest, and compared.

mod guest;
mod judge;
mod subtests;
mod table;

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    setup::{kernels::Kernel, selftests::Built},
    sh,
    vm::{GuestFile, VmRun},
};
use guest::Session;
pub use judge::Judgement;

/// A test program of the kernel.
#[derive(Debug)]
pub struct Program {
    /// What its file is called.
    pub name: &'static str,
    /// Its own sources, in `tools/testing/selftests/mm`.
    pub sources: &'static [&'static str],
    /// Whether it runs on one CPU of the guest. uffd-unit-tests hands every page from one process to
    /// another. Between two emulated CPUs each waits for the host to run the other one: minutes on a
    /// busy host instead of half a minute. It is also racy there, without the agent: "events on anon"
    /// ends now and then with `UFFDIO_COPY error: -2`.
    pub one_cpu: bool,
    /// What the agent must have counted while it ran: series of the node that it makes grow.
    pub counted: &'static [&'static str],
}

/// All of them.
pub const PROGRAMS: [Program; 2] = [
    Program {
        name: "pagemap_ioctl",
        sources: &["pagemap_ioctl.c"],
        one_cpu: false,
        counted: &[
            r#"uffdwp_node_faults_total{mode="async",entry="pte"}"#,
            r#"uffdwp_node_faults_total{mode="async",entry="marker"}"#,
            r#"uffdwp_node_faults_total{mode="async",entry="huge"}"#,
            r#"uffdwp_node_markers_total{event="consumed"}"#,
        ],
    },
    Program {
        name: "uffd-unit-tests",
        sources: &["uffd-unit-tests.c", "uffd-common.c"],
        one_cpu: true,
        counted: &[r#"uffdwp_node_faults_total{mode="sync",entry="pte"}"#],
    },
];

/// How long a guest may take with all of them, the boot included; a busy host is patient.
const TIMEOUT: Duration = Duration::from_secs(1200);

/// What came of one guest.
pub struct Outcome {
    /// The kernel's release.
    pub release: String,
    /// Which package the programs are from.
    pub package: String,
    /// Boots that ended before the guest's own init and were repeated.
    pub early_crashes: u32,
    /// The verdict on each program, and on the agent.
    pub judgement: Judgement,
}

/// Boots `kernel` with tracker's `programs` in it, runs `built` and judges. Gives each line of the
/// guest to `progress`.
pub fn run(
    kernel: &Kernel,
    built: &Built,
    programs: Vec<GuestFile>,
    progress: impl FnMut(&str),
) -> Result<Outcome> {
    let mut run = VmRun::new(&format!("selftests-{}", kernel.label), kernel);
    run.files = programs;
    let mut words = Vec::new();
    for (program, host) in &built.programs {
        run.files.push(GuestFile {
            guest: format!("/selftests/{}", program.name),
            host: host.clone(),
        });
        words.push(if program.one_cpu {
            format!("1:{}", program.name)
        } else {
            format!("all:{}", program.name)
        });
    }
    let words = sh::quote(&words.join(" "));
    run.command = Some(format!("programs={words}\n{}", include_str!("guest.sh")));
    run.timeout = TIMEOUT;
    let report = run.run(progress)?;
    report
        .verdict()
        .context("the guest with the kernel's tests came to no end")?;
    let session = Session::read(report.lines.iter().map(String::as_str));
    Ok(Outcome {
        release: kernel.release.clone(),
        package: built.package.clone(),
        early_crashes: report.early_crashes,
        judgement: Judgement::new(&session, built.programs.iter().map(|(program, _)| *program)),
    })
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel {}, tests of {}", self.release, self.package)?;
        write!(f, "\n{}", self.judgement)
    }
}
