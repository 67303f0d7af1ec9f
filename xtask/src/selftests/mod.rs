//! Runs the kernel's own tests of userfaultfd and PAGEMAP_SCAN in one guest without the agent,
//! under it and after it, and compares the runs.

mod guest;
mod judge;
mod subtests;
mod table;

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    setup::{kernels::GuestKernel, selftests::BuiltSelftests},
    sh,
    vm::{GuestFile, VmRun},
};
use guest::SelftestSession;
pub use judge::AgentJudgement;

/// A test program of the kernel.
#[derive(Debug)]
pub struct KernelSelftest {
    /// Name of the program and its file.
    pub name: &'static str,
    /// Its own sources in `tools/testing/selftests/mm`.
    pub sources: &'static [&'static str],
    /// Whether it runs on one CPU of the guest. uffd-unit-tests hands every page from one process
    /// to another. Each of two emulated CPUs waits for the host to run the other one: minutes on a
    /// busy host instead of half a minute. It is also racy there, even without the agent: "events
    /// on anon" ends now and then with `UFFDIO_COPY error: -2`.
    pub one_cpu: bool,
    /// The series of the node that must grow while it runs under the agent.
    pub counted: &'static [&'static str],
}

/// The test of PAGEMAP_SCAN.
pub const PAGEMAP_IOCTL: KernelSelftest = KernelSelftest {
    name: "pagemap_ioctl",
    sources: &["pagemap_ioctl.c"],
    one_cpu: false,
    counted: &[
        r#"uffdwp_node_faults_total{mode="async",entry="pte"}"#,
        r#"uffdwp_node_faults_total{mode="async",entry="marker"}"#,
        r#"uffdwp_node_faults_total{mode="async",entry="huge"}"#,
        r#"uffdwp_node_markers_total{event="consumed"}"#,
    ],
};

/// The test of userfaultfd.
pub const UFFD_UNIT_TESTS: KernelSelftest = KernelSelftest {
    name: "uffd-unit-tests",
    sources: &["uffd-unit-tests.c", "uffd-common.c"],
    one_cpu: true,
    counted: &[r#"uffdwp_node_faults_total{mode="sync",entry="pte"}"#],
};

/// Threads that fault the same pages as fast as they can. It prints no sub-tests, so that a guest
/// test judges the agent beside it (`vm_stress`).
pub const UFFD_STRESS: KernelSelftest = KernelSelftest {
    name: "uffd-stress",
    sources: &["uffd-stress.c", "uffd-common.c"],
    one_cpu: false,
    counted: &[],
};

/// All programs that are built.
pub const BUILT: [&KernelSelftest; 3] = [&PAGEMAP_IOCTL, &UFFD_UNIT_TESTS, &UFFD_STRESS];

/// All programs that can be run without, under and after the agent.
pub const PROGRAMS: [&KernelSelftest; 2] = [&PAGEMAP_IOCTL, &UFFD_UNIT_TESTS];

/// How long a guest may take with all of them on a busy host, with the boot.
const TIMEOUT: Duration = Duration::from_secs(1200);

/// What came of the tests in one guest.
pub struct SelftestOutcome {
    /// Release of the kernel.
    pub release: String,
    /// The package that the programs are from.
    pub package: String,
    /// Boots that the emulator had spoilt, and that were repeated.
    pub repeated: u32,
    /// The verdict on each program, and on the agent.
    pub judgement: AgentJudgement,
}

/// Boots `kernel` with tracker's `programs`, runs `built` in it and judges the agent. Passes each
/// line that the guest prints to `progress`.
pub fn run(
    kernel: &GuestKernel,
    built: &BuiltSelftests,
    programs: Vec<GuestFile>,
    progress: impl FnMut(&str),
) -> Result<SelftestOutcome> {
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
        .context("the guest with the kernel's tests did not finish")?;
    let session = SelftestSession::read(report.lines.iter().map(String::as_str));
    Ok(SelftestOutcome {
        release: kernel.release.clone(),
        package: built.package.clone(),
        repeated: report.repeated,
        judgement: AgentJudgement::new(
            &session,
            built.programs.iter().map(|(program, _)| *program),
        ),
    })
}

impl fmt::Display for SelftestOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel {}, tests of {}", self.release, self.package)?;
        write!(f, "\n{}", self.judgement)
    }
}
