#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use uffd::{PAGE_SIZE, ScratchMapping};

use super::*;

#[inline(never)]
fn known(n: u64) -> u64 {
    std::hint::black_box(n) + 1
}

fn here() -> u64 {
    known as fn(u64) -> u64 as usize as u64
}

fn watch(pid: u32) -> CodeSymbols {
    CodeSymbols::watch(pid, CodeNamer::Here)
}

fn user(symbols: &mut CodeSymbols, stack: &[u64]) -> Vec<StackFrame> {
    symbols.see(stack.iter().copied());
    let named = symbols.name([(0, stack)].into_iter());
    assert!(named.unnamed.is_empty(), "{:?}", named.unnamed);
    named.user(0, stack)
}

fn kernel(stack: &[u64]) -> Vec<StackFrame> {
    watch(std::process::id()).name([].into_iter()).kernel(stack)
}

fn own(stack: &[u64]) -> Vec<StackFrame> {
    user(&mut watch(std::process::id()), stack)
}

#[test]
fn code_of_ours_has_function_line_and_file() {
    let frames = own(&[here()]);
    let frame = frames.last().unwrap();
    assert!(
        frame.function.ends_with("symbols::tests::known"),
        "{frame:?}"
    );
    let (file, line) = frame.line.as_ref().unwrap();
    assert!(file.ends_with("tests.rs") && *line > 0, "{frame:?}");
    let program = std::env::current_exe().unwrap();
    let module = format!("{}+0x", program.display());
    assert!(frame.module.starts_with(&module), "{frame:?}");
    assert_eq!((frame.address, frame.inlined), (here(), false));
}

#[test]
fn a_return_address_is_of_the_call_before_it() {
    // The call before the first instruction of `known` is the last of another function.
    let frames = own(&[here(), here()]);
    let (first, second) = (frames.first().unwrap(), frames.last().unwrap());
    assert!(first.function.ends_with("known"));
    assert!(!second.function.ends_with("known"), "{second:?}");
    assert_eq!(second.address, here());
}

#[test]
fn what_nobody_knows_is_an_address() {
    for (pid, stack) in [
        (std::process::id(), &[8, 0, u64::MAX]),
        (u32::MAX, &[8, 0, 9]),
    ] {
        let frames = user(&mut watch(pid), stack);
        assert_eq!(frames.len(), 3);
        assert!(
            frames
                .iter()
                .all(|f| f.function.is_empty() && f.module.is_empty())
        );
    }
    assert_eq!(kernel(&[1, 2]).len(), 2);
    assert!(own(&[]).is_empty());
}

#[test]
fn kernel_code_has_a_name_if_it_may_be_read() {
    let list = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let line = list
        .lines()
        .find(|line| line.ends_with(" T handle_mm_fault"));
    let address = line.and_then(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok());
    let Some(address) = address.filter(|address| *address != 0) else {
        return;
    };
    let frames = kernel(&[address + 4]);
    let frame = frames.last().unwrap();
    assert_eq!(
        (frame.function.as_str(), frame.module.as_str()),
        ("handle_mm_fault", "[kernel]")
    );
}

#[test]
fn the_vdso_has_names() {
    let vdso = uffd::maps(std::process::id()).unwrap();
    let Some(vdso) = vdso.map(Result::unwrap).find(|vma| vma.name == b"[vdso]") else {
        return;
    };
    let mut symbols = watch(std::process::id());
    let stack: Vec<_> = (vdso.start..vdso.end).step_by(16).collect();
    let named = user(&mut symbols, &stack).into_iter();
    let named: Vec<_> = named.filter(|frame| !frame.function.is_empty()).collect();
    assert!(
        named.iter().any(|f| f.function.contains("clock_gettime")),
        "{named:?}"
    );
    assert!(named.iter().all(|f| f.module.starts_with("[vdso]+0x")));
}

#[test]
fn code_made_at_run_time_is_named_by_its_perf_map() {
    let code = ScratchMapping::executable(2 * PAGE_SIZE).unwrap();
    let address = code.range().start;
    let frames = own(&[address + 8]);
    assert_eq!(
        (frames[0].function.as_str(), frames[0].module.as_str()),
        ("", "[anon]")
    );

    let map = format!("/tmp/perf-{}.map", std::process::id());
    let mut file = fs::File::create(&map).unwrap();
    writeln!(file, "{address:x} 100 js::sum (made up)").unwrap();
    let frames = own(&[address + 8, address + 0x400]);
    fs::remove_file(&map).unwrap();
    assert_eq!(frames[0].function, "js::sum (made up)");
    assert_eq!(frames[0].module, "[anon]");
    assert_eq!(frames[1].function, "");
}

/// A program that waits, started from a copy of its file that is deleted by now.
struct WaitingProgram(Child);

impl WaitingProgram {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("cat");
        fs::copy("/bin/cat", &copy).unwrap();
        let mut command = Command::new(&copy);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It answers: it runs its own code by now.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Self(child)
    }

    fn code(&self, of: &str) -> u64 {
        let maps = uffd::maps(self.0.id()).unwrap();
        let is = |vma: &uffd::ProcVma| {
            vma.permissions[2] == b'x' && String::from_utf8_lossy(&vma.name).contains(of)
        };
        maps.map(Result::unwrap).find(is).unwrap().start
    }
}

impl Drop for WaitingProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_deleted_file_without_symbols_has_its_name_and_offsets() {
    let waiting = WaitingProgram::new();
    let at = waiting.code("/cat (deleted)") + 0x10;
    let frames = user(&mut watch(waiting.0.id()), &[at]);
    let module = &frames.last().unwrap().module;
    assert!(
        module.contains("/cat+0x") && !module.contains("deleted"),
        "{module}"
    );
}

#[test]
fn code_of_a_process_that_has_ended_still_has_names() {
    let mut waiting = WaitingProgram::new();
    let (pid, libc) = (waiting.0.id(), waiting.code("/libc.so.6"));
    let mut symbols = watch(pid);
    waiting.0.kill().unwrap();
    waiting.0.wait().unwrap();
    let stack: Vec<_> = (libc..libc + 0x10_0000).step_by(0x1000).collect();
    let frames = user(&mut symbols, &stack);
    let named = frames.iter().filter(|frame| !frame.function.is_empty());
    assert!(named.count() > 10);
    symbols.begin_again();
    let named = symbols.name([].into_iter());
    assert_eq!(named.user(1, &[libc]).last().unwrap().module, "");
}

/// What reads what the process made may die, hang or talk nonsense: the rest has names, and what has
/// none is told with the reason.
#[test]
fn a_child_that_dies_is_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let stack = [here()];
    for (script, why) in [
        ("kill -BUS $$", "became shorter while it was read"),
        ("kill -ABRT $$", "takes more memory than it should"),
        ("kill -TERM $$", "naming was interrupted"),
        ("exit 3", "reading it failed"),
        ("echo nonsense", ""),
    ] {
        let program = directory.path().join("namer");
        let begins = r#"echo '{"Begins":{"module":0}}'"#;
        let text = format!("#!/bin/sh\ncat >/dev/null\n{begins}\n{script}\n");
        // In a file of its own: one that is open for writing cannot be executed.
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let namer = CodeNamer::Program(program);
        let mut symbols = CodeSymbols::watch(std::process::id(), namer);
        let named = symbols.name([(0, &stack[..])].into_iter());
        let told = named.user(0, &stack);
        assert!(
            told[0].function.is_empty() && told[0].module.contains("+0x"),
            "{told:?}"
        );
        match named.unnamed.as_slice() {
            [] => assert_eq!(why, ""),
            [code] => assert!(
                code.why.contains(why) && !why.is_empty(),
                "{script}: {code:?}"
            ),
            more => panic!("{more:?}"),
        }
    }
}
