//! The kernel's own tracer as an oracle: kprobe events with histogram triggers
//! (Documentation/trace/kprobetrace.rst, histogram.rst), which share no code with the agent's
//! programs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const TRACING: &str = "/sys/kernel/tracing";
const GROUP: &str = "oracle";

/// A kprobe event that counts the calls that pass a filter.
pub struct TracerProbe {
    /// Of the event.
    pub name: &'static str,
    /// Type, function and arguments of the event, as `kprobe_events` takes them. `struct vm_fault`
    /// has its flags at 40 and the pte at 64 on every kernel of the matrix.
    pub event: (&'static str, &'static str, &'static str),
    /// Which calls count; with `own`, only those of the workload.
    pub filter: &'static str,
    /// Whether only calls of the workload's main thread count.
    pub own: bool,
}

impl TracerProbe {
    /// Write-protect faults that a handler is told of, of all processes.
    pub const MESSAGE: Self = Self {
        name: "message",
        event: ("p", "handle_userfault", "reason=%si:u64"),
        filter: "reason == 0x1000",
        own: false,
    };

    /// Calls that arm, of all processes.
    pub const ARM: Self = Self {
        name: "arm",
        // struct uffdio_writeprotect: start, len, mode.
        event: ("p", "userfaultfd_ioctl", "cmd=%si:u32 mode=+u16(%dx):u64"),
        // UFFDIO_WRITEPROTECT with UFFDIO_WRITEPROTECT_MODE_WP.
        filter: "cmd == 0xc018aa06 && mode & 1",
        own: false,
    };

    /// All calls of `function` by the workload's main thread.
    pub const fn calls(name: &'static str, function: &'static str) -> Self {
        Self {
            name,
            event: ("p", function, ""),
            filter: "",
            own: true,
        }
    }
}

/// The events of some probes whose functions this kernel has; removed when dropped.
pub struct FunctionTracer {
    triggers: BTreeMap<&'static str, String>,
}

impl FunctionTracer {
    /// Begins to count, for probes that are about its `own` calls those of the thread `own`.
    pub fn start(probes: &[TracerProbe], own: Option<u32>) -> Self {
        let mut tracer = Self {
            triggers: BTreeMap::new(),
        };
        for probe in probes {
            let (kind, function, arguments) = probe.event;
            let event = format!("{kind}:{GROUP}/{} {function} {arguments}\n", probe.name);
            if append("kprobe_events", &event).is_err() {
                println!("    no {function} on this kernel");
                continue;
            }
            let own = probe.own.then(|| format!("common_pid == {}", own.unwrap()));
            let filter = match (own, probe.filter) {
                (Some(own), "") => format!(" if {own}"),
                (Some(own), filter) => format!(" if {own} && ({filter})"),
                (None, "") => String::new(),
                (None, filter) => format!(" if {filter}"),
            };
            let trigger = format!("hist:keys=common_pid{filter}");
            append(file(probe.name, "trigger"), &format!("{trigger}\n")).unwrap();
            tracer.triggers.insert(probe.name, trigger);
        }
        tracer
    }

    /// How many calls passed the filter; `None` if there is no such function.
    pub fn hits(&self, name: &str) -> Option<f64> {
        let trigger = self.triggers.get(name)?;
        let text = fs::read_to_string(Path::new(TRACING).join(file(name, "hist"))).unwrap();
        let number = |title: &str| -> f64 {
            let mut lines = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix(title));
            lines
                .next()
                .unwrap_or_else(|| panic!("{trigger}: {text}"))
                .trim()
                .parse()
                .unwrap()
        };
        assert_eq!(number("Dropped:"), 0.0, "{text}");
        Some(number("Hits:"))
    }

    /// Calls of all probes that the kernel kept from the tracer itself (`kprobe_profile`).
    pub fn missed(&self) -> u64 {
        let text = fs::read_to_string(Path::new(TRACING).join("kprobe_profile")).unwrap();
        let of = |line: &str| -> Option<u64> {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            self.triggers.contains_key(name).then_some(())?;
            words.nth(1)?.parse().ok()
        };
        text.lines().filter_map(of).sum()
    }
}

impl Drop for FunctionTracer {
    fn drop(&mut self) {
        for (name, trigger) in &self.triggers {
            append(file(name, "trigger"), &format!("!{trigger}\n")).unwrap();
            append("kprobe_events", &format!("-:{GROUP}/{name}\n")).unwrap();
        }
    }
}

fn file(name: &str, of: &str) -> PathBuf {
    ["events", GROUP, name, of].iter().collect()
}

fn append(path: impl AsRef<Path>, text: &str) -> std::io::Result<()> {
    let path = Path::new(TRACING).join(path);
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(text.as_bytes())
}
