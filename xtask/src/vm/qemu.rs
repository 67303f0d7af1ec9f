//! The command line of the emulator.

use std::{
    fs::OpenOptions,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::VmRun;
use crate::{setup, sh};

/// How the guest's processor is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestAccel {
    /// By KVM where it works, else in software.
    Fastest,
    /// In software, with a clock that counts instructions: 1 ns each, whatever the host does. Only
    /// with one CPU.
    CountInstructions,
}

/// The command that boots `run` from `initrd`, with a disk to swap to if there is one; the messages
/// of the kernel go to `kernel_log`.
pub fn command(
    run: &VmRun,
    initrd: &Path,
    swap: Option<&Path>,
    kernel_log: &Path,
) -> Result<Command> {
    let mut command = setup::qemu::command()?;
    command.args([
        "-machine",
        "q35",
        "-cpu",
        "max",
        "-display",
        "none",
        "-nodefaults",
    ]);
    command.arg("-no-reboot");
    match run.accel {
        GuestAccel::CountInstructions => {
            command.args(["-accel", "tcg", "-icount", "shift=0,sleep=off", "-smp", "1"])
        }
        GuestAccel::Fastest => {
            let accel = if kvm_works(&run.kernel.image) {
                "kvm"
            } else {
                "tcg,thread=multi"
            };
            command.args(["-accel", accel, "-smp", &run.cpus.to_string()])
        }
    };
    command.args(["-m", &run.memory]);
    command
        .arg("-kernel")
        .arg(&run.kernel.image)
        .arg("-initrd")
        .arg(initrd);
    command.args(["-append", &kernel_arguments(&run.append)]);
    command
        .arg("-serial")
        .arg(format!("file:{}", kernel_log.display()));
    if run.command.is_some() {
        command.args(["-serial", "stdio", "-monitor", "none"]);
        command.stdin(Stdio::null());
    } else {
        command.args(["-serial", "mon:stdio"]);
    }
    add_devices(&mut command, run, swap);
    Ok(command)
}

/// The network card and the disk, as far as `run` needs them.
fn add_devices(command: &mut Command, run: &VmRun, swap: Option<&Path>) {
    if let Some(port) = run.forward {
        command
            .arg("-netdev")
            .arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:{port}"));
        // No boot ROM, which would need another package.
        command.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
    }
    if let Some(path) = swap {
        // QEMU wants a comma in a name doubled.
        let file = path.display().to_string().replace(',', ",,");
        command.arg("-drive").arg(format!(
            "file={file},if=none,id=swap,format=raw,cache=unsafe"
        ));
        command.args(["-device", "virtio-blk-pci,drive=swap"]);
    }
}

/// Warnings and worse go to the console, an oops ends the machine, and ciphers are not self-tested.
/// The clock is not watched: on a busy host it seems skewed, the kernel then patches its code, and
/// the emulator has run into half of that.
/// Debian's newest kernels let a debugger only write through read-only mappings by /proc/PID/mem;
/// tests do so to show what becomes of such writes.
const ARGUMENTS: &str = "console=ttyS0 loglevel=5 oops=panic panic=-1 cryptomgr.notests \
                         tsc=reliable proc_mem.force_override=always";

fn kernel_arguments(more: &[String]) -> String {
    let mut arguments = ARGUMENTS.to_owned();
    for argument in more {
        arguments.push(' ');
        arguments.push_str(argument);
    }
    arguments
}

/// Whether a kernel boots under KVM here, which neither /dev/kvm nor a machine that can be made
/// promises: where virtual machines are nested, KVM may not know all instructions of a kernel's
/// start. Tried once.
fn kvm_works(image: &Path) -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok()
            && boots_by_kvm(image).unwrap_or(false)
    })
}

/// How long a kernel may take to find that it has no root, which takes a second.
const BOOT: Duration = Duration::from_secs(15);

/// Boots a kernel without a root under KVM. It panics, which ends the machine with status 0.
fn boots_by_kvm(image: &Path) -> Result<bool> {
    let mut child = setup::qemu::command()?
        .args([
            "-machine", "q35", "-accel", "kvm", "-cpu", "max", "-m", "256M",
        ])
        .args([
            "-display",
            "none",
            "-nodefaults",
            "-no-reboot",
            "-append",
            "panic=-1",
        ])
        .arg("-kernel")
        .arg(image)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + BOOT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

/// What the emulator itself complained about, for an error message.
pub fn complaints(stderr: &mut impl std::io::Read) -> String {
    let mut said = String::new();
    let mut bytes = Vec::new();
    if stderr.take(4096).read_to_end(&mut bytes).is_ok() {
        said.push_str(String::from_utf8_lossy(&bytes).trim());
    }
    said
}

/// `command` for people.
pub fn display(command: &Command) -> String {
    sh::display(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_arguments_come_last_and_so_win() {
        let line = kernel_arguments(&["preempt=full".to_owned(), "loglevel=8".to_owned()]);
        assert!(line.ends_with(" preempt=full loglevel=8"));
    }
}
