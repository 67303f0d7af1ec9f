//! Special targets of an injection: refused with the reason, left unharmed, or served all the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pages::inject::{self, InjectError, InjectOptions, KernelFaults, ProcessLife, UffdLease};
use rustix::process::{Pid, Signal};
use testbed::inject::{InjectTarget, inject, options, sleeper};
use testbed::{KilledChild, eventually, program};
use uffd::{RegisterMode, UffdFeatures, VmFlags, smaps};

/// The target's filter kills for the call that is made; if it cannot be suspended, the target is
/// left alone.
#[test]
fn a_filter_that_kills() {
    let (mut target, mut twin) = (
        InjectTarget::start("seccomp"),
        InjectTarget::start("seccomp"),
    );
    match inject(target.pid()) {
        Ok(_) => eprintln!("the filter was suspended"),
        Err(error @ InjectError::Seccomp { .. }) => eprintln!("refused: {error}"),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(target.report().0, twin.report().0);
}

#[test]
fn a_first_thread_that_has_ended_is_told() {
    let mut target = InjectTarget::start("leader-ends");
    eventually("the first thread ends", || {
        (target.state() == 'Z').then_some(())
    });
    let error = inject(target.pid()).unwrap_err();
    assert!(matches!(error, InjectError::NoLeader { .. }), "{error}");
    target.report();
}

#[test]
fn what_cannot_be_a_target_is_told() {
    let kind = |pid| inject(pid).unwrap_err();
    let own = std::process::id();
    assert_eq!(kind(own), InjectError::Ourselves { pid: own });
    let never = 0x3fff_fff0;
    assert_eq!(
        kind(never),
        InjectError::Gone(uffd::ProcessGone { pid: never })
    );
    let kernel = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        comm.starts_with("kthreadd").then_some(pid)
    });
    for pid in kernel {
        assert!(matches!(kind(pid), InjectError::KernelThread { .. }));
    }
    let mut ended = Command::new("true").spawn().unwrap();
    let stat = format!("/proc/{}/stat", ended.id());
    eventually("it ends", || {
        fs::read_to_string(&stat)
            .unwrap()
            .contains(") Z ")
            .then_some(())
    });
    assert!(matches!(kind(ended.id()), InjectError::Zombie { .. }));
    ended.wait().unwrap();
}

#[test]
fn another_tracer_is_named() {
    let sleeper = sleeper();
    let pid = Pid::from_child(&sleeper.0);
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (ready, seized) = std::sync::mpsc::channel();
    // Only the thread that seized it can let it go, which it does when it ends.
    let tracer = std::thread::spawn(move || {
        // SAFETY: PTRACE_SEIZE takes no memory.
        let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid.as_raw_pid(), 0, 0) };
        ready.send(result).unwrap();
        let _ = wait.recv();
    });
    assert_eq!(seized.recv().unwrap(), 0);
    let error = inject(sleeper.0.id()).unwrap_err();
    assert!(matches!(error, InjectError::Traced { .. }), "{error}");
    drop(done);
    tracer.join().unwrap();
    // The thread is joined before the kernel has disposed of it.
    eventually("it is let go", || inject(sleeper.0.id()).ok());
}

/// If faults of the kernel are not handled, the target's own calls fail, so a strategy can insist.
#[test]
fn an_unprivileged_target_gives_a_lesser_one_or_none() {
    use std::os::unix::process::CommandExt as _;
    if fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd")
        .unwrap()
        .trim()
        != "0"
    {
        return;
    }
    let target = KilledChild(
        Command::new("sleep")
            .arg("1000")
            .uid(65_534)
            .spawn()
            .unwrap(),
    );
    let pid = target.0.id();
    // Until exec it has the capabilities of root.
    eventually("it sleeps", || {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        (comm.trim() == "sleep" || comm.trim() == "busybox").then_some(())
    });
    assert!(inject(pid).unwrap().user_mode_only);
    let options = InjectOptions {
        kernel_faults: KernelFaults::Required,
        ..options()
    };
    let error = inject::userfaultfd(pid, &options).unwrap_err();
    assert!(
        error.to_string().contains("unprivileged_userfaultfd"),
        "{error}"
    );
}

/// Memory of another userfaultfd is named, and cannot be registered twice.
#[test]
fn what_belongs_to_a_userfaultfd_is_named() {
    let target = InjectTarget::start("epoll-timeout");
    let (mut first, armed) = attach(target.pid());
    let heap = armed[0].clone();
    first.register(&heap, RegisterMode::WP).unwrap();
    let second = inject(target.pid()).unwrap();
    let occupied: Vec<_> = second.occupied.iter().map(|vma| vma.range()).collect();
    assert_eq!(occupied, std::slice::from_ref(&heap));
    let mut second = UffdLease::new(second, UffdFeatures::default()).unwrap();
    assert_eq!(
        second
            .register(&heap, RegisterMode::WP)
            .unwrap_err()
            .errno(),
        Some(rustix::io::Errno::BUSY)
    );
    // A failed registration does not give back what belongs to another userfaultfd.
    drop(second);
    assert_eq!(registered(target.pid()), 1);
    drop(first);
    assert_eq!(registered(target.pid()), 0);
}

/// A lease of a userfaultfd, and private anonymous mappings to register.
fn attach(pid: u32) -> (UffdLease, Vec<std::ops::Range<u64>>) {
    let attached = UffdLease::new(inject(pid).unwrap(), UffdFeatures::default()).unwrap();
    let vmas = smaps(pid).unwrap().map(Result::unwrap);
    let wanted = vmas.filter(|vma| vma.is_anonymous() && vma.permissions == *b"rw-p");
    let ranges: Vec<_> = wanted.map(|vma| vma.range()).collect();
    (attached, ranges)
}

/// How many VMAs of a process are registered for write-protect faults.
fn registered(pid: u32) -> usize {
    let vmas = smaps(pid).unwrap();
    let flags = vmas.map(|vma| vma.unwrap().flags);
    flags.filter(VmFlags::uffd_wp).count()
}

#[test]
fn exec_and_exit_are_told_apart() {
    let mut target = KilledChild(
        Command::new("sh")
            .args(["-c", "read line; exec sleep 1000"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let pid = target.0.id();
    let (attached, _) = attach(pid);
    assert_eq!(attached.life().unwrap(), ProcessLife::Same);
    drop(target.0.stdin.take());
    eventually("it executes another program", || {
        (attached.life().unwrap() == ProcessLife::Replaced).then_some(())
    });
    let (again, _) = attach(pid);
    assert_eq!(again.life().unwrap(), ProcessLife::Same);
    target.0.kill().unwrap();
    eventually("it ends", || {
        (again.life().unwrap() == ProcessLife::Ended).then_some(())
    });
    assert_eq!(attached.life().unwrap(), ProcessLife::Ended);
}

/// The injection leaves nothing open in the process that asks, nor in the target.
#[test]
fn asking_leaves_nothing_open() {
    let sleeper = sleeper();
    let injected = inject(sleeper.0.id()).unwrap();
    let number = injected.uffd.as_fd().as_raw_fd();
    let link = fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
    assert_eq!(link.to_str(), Some("anon_inode:[userfaultfd]"));
    let flags = rustix::io::fcntl_getfd(&injected.uffd).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let children = fs::read_dir(format!("/proc/{}/fd", sleeper.0.id())).unwrap();
    let taken = children.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    assert!(
        !taken
            .into_iter()
            .any(|link| link.to_string_lossy().contains("userfaultfd"))
    );
}

/// A 32-bit program that waits for ever: an ELF header, a program header, and `pause` in a loop.
fn program_of_32_bits() -> Vec<u8> {
    const CODE: [u8; 9] = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    const BASE: u32 = 0x0804_8000;
    let size = 84 + CODE.len() as u32;
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2u16, 3].iter().flat_map(|half| half.to_le_bytes()));
    let words = [1, BASE + 84, 52, 0, 0];
    file.extend(words.iter().flat_map(|word: &u32| word.to_le_bytes()));
    file.extend(
        [52u16, 32, 1, 0, 0, 0]
            .iter()
            .flat_map(|half| half.to_le_bytes()),
    );
    let header = [1, 0, BASE, BASE, size, size, 5, 0x1000];
    file.extend(header.iter().flat_map(|word: &u32| word.to_le_bytes()));
    file.extend(CODE);
    file
}

#[test]
fn a_32_bit_program_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    fs::write(&file, program_of_32_bits()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let target = match Command::new(&file).spawn() {
        Ok(child) => KilledChild(child),
        Err(error) => return eprintln!("skipped: this kernel runs no 32-bit programs: {error}"),
    };
    let error = inject(target.0.id()).unwrap_err();
    assert!(matches!(error, InjectError::Bits32 { .. }), "{error}");
    assert!(error.is_inability());
}

/// A target in its own pid and user namespaces, as in a container.
#[test]
fn a_process_in_other_namespaces() {
    let args = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "sleep",
        "1000",
    ];
    let Ok(child) = Command::new("unshare").args(args).spawn() else {
        return eprintln!("skipped: no unshare");
    };
    let outer = KilledChild(child);
    let inner = || {
        let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.find(|pid| {
            let stat = uffd::stat(*pid).ok();
            stat.is_some_and(|stat| stat.parent == outer.0.id() && stat.comm == b"sleep")
        })
    };
    let begin = Instant::now();
    let pid = loop {
        match inner() {
            Some(pid) => break pid,
            None if begin.elapsed() > Duration::from_secs(10) => {
                return eprintln!("skipped: unshare does not work here");
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let injected = inject(pid);
    let raw = Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(raw, Signal::KILL).unwrap();
    injected.unwrap();
}

#[test]
fn without_privilege_it_says_which() {
    let sleeper = sleeper();
    let path = program("tracker");
    let mut command = Command::new(path);
    command.args(["inject", "--pid", &sleeper.0.id().to_string()]);
    let none = rustix::thread::CapabilitySet::empty();
    let mut command = testbed::privileges::as_nobody_with(command, none);
    let output = match command.output() {
        Ok(output) => output,
        // Another user may not be allowed into the directory of this build.
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("CAP_SYS_PTRACE"), "{said}");
}

/// The helper waits for SIGCHLD, which nohup and some supervisors make programs ignore.
#[test]
fn a_parent_that_ignores_its_children() {
    use std::os::unix::process::CommandExt as _;
    let sleeper = sleeper();
    let mut command = Command::new(program("tracker"));
    command.args(["inject", "--pid", &sleeper.0.id().to_string()]);
    // SAFETY: signal(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            Ok(())
        });
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let stopped = said
        .split_once("still for ")
        .and_then(|(_, rest)| rest.split_once(" ms"));
    let stopped: f64 = stopped
        .unwrap_or_else(|| panic!("{said}"))
        .0
        .parse()
        .unwrap();
    // A step without its signal would take as long as the target may stand still.
    assert!(stopped < 200.0, "{said}");
}

/// A thread that waits for its vfork child cannot be stopped: it is waited for, and named if that
/// takes too long.
#[test]
fn who_cannot_be_stopped_is_told() {
    let mut target = InjectTarget::start("vfork");
    let options = InjectOptions {
        patience: Duration::from_millis(5),
        ..options()
    };
    let busy = || match inject::userfaultfd(target.pid(), &options) {
        Err(error @ InjectError::Busy { .. }) => Some(error),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    };
    let error = eventually("it is met in vfork", busy).to_string();
    assert!(error.contains("state D"), "{error}");
    target.report();
}

/// A frozen control group (version 2) lets a thread stop, but not run.
#[test]
fn who_is_frozen_is_told_and_unharmed() {
    if std::env::var_os("TRACKER_VM").is_none() {
        return eprintln!("skipped: only in guests, whose control groups are ours");
    }
    let root = tempfile::tempdir().unwrap();
    let mount = ["-t", "cgroup2", "none", root.path().to_str().unwrap()];
    assert!(
        Command::new("mount")
            .args(mount)
            .status()
            .unwrap()
            .success()
    );
    let group = root.path().join("frozen");
    fs::create_dir(&group).unwrap();
    let target = InjectTarget::computing();
    fs::write(group.join("cgroup.procs"), target.pid().to_string()).unwrap();
    fs::write(group.join("cgroup.freeze"), "1").unwrap();
    eventually("it is frozen", || {
        let events = fs::read_to_string(group.join("cgroup.events")).unwrap();
        events.contains("frozen 1").then_some(())
    });
    let error = inject(target.pid()).unwrap_err();
    assert!(matches!(error, InjectError::Frozen { .. }), "{error}");
    fs::write(group.join("cgroup.freeze"), "0").unwrap();
    inject(target.pid()).unwrap();
    target.end();
    fs::remove_dir(&group).unwrap();
    assert!(
        Command::new("umount")
            .arg(root.path())
            .status()
            .unwrap()
            .success()
    );
}
