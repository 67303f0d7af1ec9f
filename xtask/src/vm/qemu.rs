//! The emulator's command line.

use std::{
    fs::OpenOptions,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use super::VmRun;
use crate::sh;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// How the guest's processor is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// KVM where it works, else emulation.
    Fastest,
    /// Emulation in which guest time counts instructions: 1 ns each, whatever the host does.
    /// Only with one CPU.
    CountInstructions,
}

/// The command that boots `run` from `initrd`, perhaps with a disk to swap to, and the kernel's messages in `kernel_log`.
pub fn command(run: &VmRun, initrd: &Path, swap: Option<&Path>, kernel_log: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
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
        Accel::CountInstructions => {
            command.args(["-accel", "tcg", "-icount", "shift=0,sleep=off", "-smp", "1"])
        }
        Accel::Fastest => {
            let accel = if kvm_works() {
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
    if let Some(port) = run.forward {
        command
            .arg("-netdev")
            .arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:{port}"));
        // Without a boot ROM, which is a package of its own.
        command.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
    }
    if let Some(path) = swap {
        // A comma in a name is written twice.
        let file = path.display().to_string().replace(',', ",,");
        command.arg("-drive").arg(format!(
            "file={file},if=none,id=swap,format=raw,cache=unsafe"
        ));
        command.args(["-device", "virtio-blk-pci,drive=swap"]);
    }
    command
}

/// Warnings and worse go to the console; an oops ends the machine; no self-tests of ciphers. The clock is not watched: where
/// the host is busy it is found to be skewed, the kernel then patches its code, and the emulator has run into half of that.
const ARGUMENTS: &str =
    "console=ttyS0 loglevel=5 oops=panic panic=-1 cryptomgr.notests tsc=reliable";

fn kernel_arguments(more: &[String]) -> String {
    let mut arguments = ARGUMENTS.to_owned();
    for argument in more {
        arguments.push(' ');
        arguments.push_str(argument);
    }
    arguments
}

/// Whether KVM can really make a machine here; /dev/kvm alone is no promise. Asked once.
fn kvm_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok()
            && makes_machine().unwrap_or(false)
    })
}

/// Starts a stopped machine with KVM and asks it to quit.
fn makes_machine() -> std::io::Result<bool> {
    let mut child = Command::new(PROGRAM)
        .args([
            "-machine", "q35", "-accel", "kvm", "-cpu", "max", "-m", "64M", "-S",
        ])
        .args(["-display", "none", "-nodefaults", "-qmp", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // Fails when it is gone already, which its status tells better.
        let _ = input.write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n");
    }
    let deadline = Instant::now() + Duration::from_secs(10);
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
