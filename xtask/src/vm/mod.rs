//! Booting a kernel in an emulator, running one command in it, and judging what came out.

mod cpio;
pub mod guest_log;
mod initramfs;
mod modules;
pub mod qemu;
mod report;
mod running;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};

pub use initramfs::GuestFile;
pub use qemu::Accel;
pub use report::Report;
pub use running::Running;

use crate::{paths, setup::kernels::Kernel};

/// One boot: a kernel, what is in its root file system, and what it runs.
#[derive(Clone, Debug)]
pub struct VmRun {
    /// Names the logs: `target/vm/NAME.log` and `NAME.kernel.log`.
    pub name: String,
    /// What boots.
    pub kernel: Kernel,
    /// Further kernel arguments.
    pub append: Vec<String>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// As QEMU's `-m`: `2G`.
    pub memory: String,
    /// Programs and files for the guest.
    pub files: Vec<GuestFile>,
    /// A shell script to run; none means a shell on the terminal.
    pub command: Option<String>,
    /// Until the command must be done; the boot included.
    pub timeout: Duration,
    /// How the processor is made.
    pub accel: Accel,
    /// A TCP port of the host's loopback that leads to the same port of the guest.
    pub forward: Option<u16>,
    /// Whether /sys/fs/bpf is mounted.
    pub bpffs: bool,
    /// 2 MiB pages the guest reserves.
    pub hugepages: u32,
    /// MiB of swap on a disk; 0: none.
    pub swap: u32,
}

impl VmRun {
    /// Two CPUs, 2 GiB, 64 huge pages, no swap, ten minutes.
    pub fn new(name: &str, kernel: &Kernel) -> Self {
        Self {
            name: name.to_owned(),
            kernel: kernel.clone(),
            append: Vec::new(),
            cpus: 2,
            memory: "2G".to_owned(),
            files: Vec::new(),
            command: None,
            timeout: Duration::from_secs(600),
            accel: Accel::Fastest,
            forward: None,
            bpffs: true,
            hugepages: 64,
            swap: 0,
        }
    }

    /// Boots, runs the command and gives each of its lines to `sink` as it comes.
    ///
    /// A boot that ends before the guest's own init is tried once more: the emulator's doing.
    pub fn run(&self, mut sink: impl FnMut(&str)) -> Result<Report> {
        let since = Instant::now();
        let mut early_crashes = 0;
        loop {
            let (mut report, again) = self.spawn()?.wait(&mut sink)?;
            if !again || early_crashes == 1 {
                report.early_crashes = early_crashes;
                report.elapsed = since.elapsed();
                return Ok(report);
            }
            early_crashes += 1;
            eprintln!(
                "{:>8} {}: ended before its init, booting again",
                "note", self.name
            );
        }
    }

    /// Boots and returns at once.
    pub fn spawn(&self) -> Result<Running> {
        let machine = Machine::new(self, &random_token())?;
        let mut command = machine.command(self);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", qemu::display(&command)))?;
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take();
        thread::spawn(move || {
            for line in stdout
                .into_iter()
                .flat_map(|out| BufReader::new(out).split(b'\n'))
            {
                let Ok(line) = line else { break };
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
        let since = Instant::now();
        Ok(Running {
            machine,
            child,
            lines,
            since,
            timeout: self.timeout,
        })
    }

    /// Boots into a shell on this terminal.
    pub fn interact(&self) -> Result<ExitStatus> {
        let machine = Machine::new(self, &random_token())?;
        let mut command = machine.command(self);
        command
            .status()
            .with_context(|| format!("cannot start `{}`", qemu::display(&command)))
    }
}

/// The files of one boot; the image and the disk go when it ends.
struct Machine {
    token: String,
    initrd: PathBuf,
    swap: Option<PathBuf>,
    log: PathBuf,
    kernel_log: PathBuf,
}

impl Machine {
    fn new(run: &VmRun, token: &str) -> Result<Self> {
        let dir = paths::vm_dir()?;
        let machine = Self {
            token: token.to_owned(),
            initrd: dir.join(format!("{}.{}.cpio", run.name, std::process::id())),
            swap: (run.swap != 0)
                .then(|| dir.join(format!("{}.{}.swap", run.name, std::process::id()))),
            log: dir.join(format!("{}.log", run.name)),
            kernel_log: dir.join(format!("{}.kernel.log", run.name)),
        };
        let _ = fs::remove_file(&machine.kernel_log);
        if let Some(path) = &machine.swap {
            let about = || format!("cannot create {}", path.display());
            let file = fs::File::create(path).with_context(about)?;
            file.set_len(u64::from(run.swap) << 20)
                .with_context(about)?;
        }
        let network = run.forward.map(|_| modules::NETWORK);
        let disk = machine.swap.as_ref().map(|_| modules::DISK);
        let mut drivers: Vec<_> = network.into_iter().chain(disk).collect();
        if !drivers.is_empty() {
            drivers.push(modules::BUS);
        }
        let settings = initramfs::Settings {
            token,
            command: run.command.as_deref(),
            bpffs: run.bpffs,
            hugepages: run.hugepages,
            drivers: &drivers,
        };
        initramfs::write(&machine.initrd, &run.kernel, &run.files, &settings)?;
        Ok(machine)
    }

    fn command(&self, run: &VmRun) -> Command {
        qemu::command(run, &self.initrd, self.swap.as_deref(), &self.kernel_log)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nobody to tell; `target` is a place for leftovers.
        for file in [Some(&self.initrd), self.swap.as_ref()]
            .into_iter()
            .flatten()
        {
            let _ = fs::remove_file(file);
        }
    }
}

/// A word that no guest program prints by chance.
fn random_token() -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("@@tracker-vm-{:x}-{:x}", now.as_nanos(), std::process::id())
}
