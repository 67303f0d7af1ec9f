//! What `/proc` says about the threads of a process while they run.
#![forbid(unsafe_code)]

use std::fs;
use uffd::ProcessGone;

use super::super::{InjectError, facts};
use super::calls::CallMade;

/// The threads of a process, as far as they can be listed while they come and go.
pub(super) fn tasks(pid: u32) -> Result<Vec<u32>, InjectError> {
    Ok(list(pid)?.collect())
}

/// Whether a process has no thread but this one, which stands still and makes none.
pub(super) fn is_alone(pid: u32, tid: u32) -> Result<bool, InjectError> {
    Ok(list(pid)?.all(|other| other == tid))
}

fn list(pid: u32) -> Result<impl Iterator<Item = u32>, InjectError> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| ProcessGone { pid })?;
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(move |entry| number(entry.ok()?)))
}

/// The state of a thread: `R`, `S`, `D`, `T`, `Z`, ...
pub(super) fn state(pid: u32, tid: u32) -> Option<char> {
    let stat = fs::read(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    // The name before it may hold anything.
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(close + 2).map(|state| char::from(*state))
}

/// A first thread that has ended stays in the list until the others have, and cannot be seized.
pub(super) fn has_ended(pid: u32, tid: u32) -> bool {
    matches!(state(pid, tid), None | Some('Z' | 'X' | 'x'))
}

/// Where in the kernel a thread sleeps, if the kernel tells.
pub(super) fn place(pid: u32, tid: u32) -> Option<String> {
    let place = fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan")).ok()?;
    (!place.is_empty() && place != "0").then_some(place)
}

/// The processes whose first thread this process traces.
pub(super) fn processes_traced_by_us() -> impl Iterator<Item = u32> {
    let us = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(move |&pid: &u32| tracer(pid, pid) == Some(us))
}

/// Who traces a thread; 0 is nobody.
pub(super) fn tracer(pid: u32, tid: u32) -> Option<u32> {
    let status = fs::read(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    facts::field(&status, "TracerPid")?.parse().ok()
}

/// Whether a thread's children live in the same pid namespace as itself (not after
/// `unshare(CLONE_NEWPID)`, when the next one becomes the first process of a new one).
pub(super) fn children_share_pid_namespace(pid: u32, tid: u32) -> bool {
    let link = |name| fs::read_link(format!("/proc/{pid}/task/{tid}/ns/{name}")).ok();
    match (link("pid"), link("pid_for_children")) {
        // A kernel without such namespaces.
        (None, None) => true,
        (own, children) => own == children,
    }
}

/// The number that a process has in its own pid namespace.
pub(super) fn number_in_its_namespace(pid: u32) -> Option<u64> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    // The outermost namespace first.
    let numbers = facts::field(&status, "NSpid")?;
    numbers.split_ascii_whitespace().last()?.parse().ok()
}

/// What a thread does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ThreadActivity {
    /// It runs, or waits for a processor: in user code, as a rule.
    Runs,
    /// It sleeps in a call.
    InCall(CallMade),
    /// It sleeps, and not in a call: in a page fault.
    Elsewhere,
    /// The kernel does not tell.
    Unknown,
}

/// What a thread does at the moment.
pub(super) fn activity(pid: u32, tid: u32) -> ThreadActivity {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall"));
    text.ok()
        .map_or(ThreadActivity::Unknown, |text| parse(&text))
}

/// `running`, or `-1 STACK CODE`, or `NUMBER ARGUMENT*6 STACK CODE`.
fn parse(text: &str) -> ThreadActivity {
    let mut words = text.split_ascii_whitespace();
    let number = match words.next() {
        Some("running") => return ThreadActivity::Runs,
        Some("-1") => return ThreadActivity::Elsewhere,
        Some(number) => number.parse().ok(),
        None => None,
    };
    let hexadecimal = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let arguments: Option<Vec<u64>> = words.take(6).map(hexadecimal).collect();
    let arguments = arguments.and_then(|list| list.try_into().ok());
    match (number, arguments) {
        (Some(number), Some(arguments)) => ThreadActivity::InCall(CallMade { number, arguments }),
        _ => ThreadActivity::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc() {
        assert_eq!(parse("running\n"), ThreadActivity::Runs);
        assert_eq!(parse("-1 0x7ffd 0x401000\n"), ThreadActivity::Elsewhere);
        assert_eq!(parse(""), ThreadActivity::Unknown);
        assert_eq!(parse("7 0x1 0x2\n"), ThreadActivity::Unknown);
        let call = CallMade {
            number: 35,
            arguments: [1, 0xff, 3, 4, 5, 6],
        };
        let text = "35 0x1 0xff 0x3 0x4 0x5 0x6 0x7ffd 0x401000\n";
        assert_eq!(parse(text), ThreadActivity::InCall(call));
    }

    #[test]
    fn our_own() {
        let pid = std::process::id();
        assert!(state(pid, pid).is_some_and(|state| "RS".contains(state)));
        assert!(!has_ended(pid, pid));
        assert_eq!(tracer(pid, pid), Some(0));
        assert!(children_share_pid_namespace(pid, pid));
        assert!(number_in_its_namespace(pid).is_some());
    }
}
