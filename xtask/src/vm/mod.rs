//! Boots a kernel in an emulator, runs one command in it, and judges the outcome.

mod cpio;
mod debian;
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

pub use debian::ROOT as DEBIAN_ROOT;
pub use initramfs::GuestFile;
pub use qemu::GuestAccel;
pub use report::BootReport;
pub use running::RunningGuest;

use crate::{paths, setup::kernels::GuestKernel};

/// A boot: the kernel, its root file system, and the command.
#[derive(Clone, Debug)]
pub struct VmRun {
    /// Names the logs: `target/vm/NAME.log` and `NAME.kernel.log`.
    pub name: String,
    /// The kernel to boot.
    pub kernel: GuestKernel,
    /// Arguments for the kernel beyond ours.
    pub append: Vec<String>,
    /// How many virtual CPUs.
    pub cpus: u32,
    /// Memory, as for QEMU's `-m`: `2G`.
    pub memory: String,
    /// Programs and files to copy into the guest.
    pub files: Vec<GuestFile>,
    /// A shell script to run; `None` for a shell on the terminal.
    pub command: Option<String>,
    /// How long boot and command may take together.
    pub timeout: Duration,
    /// How the processor is emulated.
    pub accel: GuestAccel,
    /// A TCP port of the host's loopback to forward to the same port of the guest.
    pub forward: Option<u16>,
    /// Whether to mount /sys/fs/bpf.
    pub bpffs: bool,
    /// How many huge pages of 2 MiB the guest reserves.
    pub hugepages: u32,
    /// MiB of swap on a disk; 0 for none.
    pub swap: u32,
    /// The packages of a Debian that the guest is, under systemd; none for a guest of busybox. Its
    /// files have their places below [`DEBIAN_ROOT`].
    pub debian: Vec<PathBuf>,
}

impl VmRun {
    /// Two CPUs, 2 GiB, 64 huge pages, no swap, ten minutes, of busybox.
    pub fn new(name: &str, kernel: &GuestKernel) -> Self {
        Self {
            name: name.to_owned(),
            kernel: kernel.clone(),
            append: Vec::new(),
            cpus: 2,
            memory: "2G".to_owned(),
            files: Vec::new(),
            command: None,
            timeout: Duration::from_secs(600),
            accel: GuestAccel::Fastest,
            forward: None,
            bpffs: true,
            hugepages: 64,
            swap: 0,
            debian: Vec::new(),
        }
    }

    /// Boots, runs the command and passes each line of its output to `sink`.
    ///
    /// A boot that the emulator has spoilt is repeated once, and that is told.
    pub fn run(&self, mut sink: impl FnMut(&str)) -> Result<BootReport> {
        let (report, spoilt) = self.spawn()?.wait(&mut sink)?;
        let Some(why) = spoilt else {
            return Ok(report);
        };
        let kept = paths::vm_dir()?.join(format!("{}.spoilt.kernel.log", self.name));
        let log = paths::vm_dir()?.join(format!("{}.kernel.log", self.name));
        // The next boot begins a new one. A boot that ended at once has none.
        let kept = match fs::rename(&log, &kept) {
            Ok(()) => format!("its messages are in {}", kept.display()),
            Err(error) => format!("its messages are lost: {error}"),
        };
        eprintln!(
            "{:>8} {}: {why}; it is repeated, and {kept}",
            "note", self.name
        );
        let (report, _) = self.spawn()?.wait(&mut sink)?;
        Ok(BootReport {
            repeated: 1,
            ..report
        })
    }

    /// Boots, and returns while the guest runs.
    pub fn spawn(&self) -> Result<RunningGuest> {
        let machine = MachineFiles::new(self, &random_token())?;
        let mut command = machine.command(self)?;
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
        Ok(RunningGuest {
            machine,
            child,
            lines,
            since,
            timeout: self.timeout,
        })
    }

    /// Boots into a shell on this terminal.
    pub fn interact(&self) -> Result<ExitStatus> {
        let machine = MachineFiles::new(self, &random_token())?;
        let mut command = machine.command(self)?;
        command
            .status()
            .with_context(|| format!("cannot start `{}`", qemu::display(&command)))
    }
}

/// The files of a boot. Dropping them deletes the image and the disk, and keeps the logs.
struct MachineFiles {
    token: String,
    initrd: PathBuf,
    swap: Option<PathBuf>,
    log: PathBuf,
    kernel_log: PathBuf,
}

impl MachineFiles {
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
        let settings = initramfs::InitSettings {
            token,
            command: run.command.as_deref(),
            bpffs: run.bpffs,
            hugepages: run.hugepages,
            drivers: &drivers,
            debian: &run.debian,
        };
        initramfs::write(&machine.initrd, &run.kernel, &run.files, &settings)?;
        Ok(machine)
    }

    fn command(&self, run: &VmRun) -> Result<Command> {
        qemu::command(run, &self.initrd, self.swap.as_deref(), &self.kernel_log)
    }
}

impl Drop for MachineFiles {
    fn drop(&mut self) {
        // Leftovers in `target` do no harm.
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
