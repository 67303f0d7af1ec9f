//! Which frame of a stack to name: not that of memcpy, but that of its caller.

use std::fmt;

use crate::explain::{CodePlace, StackFrame};
use crate::print::words::printable;

/// A place in the code, in short. Printable.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CodeLocation {
    /// The function, or the file and the offset there, or an address.
    pub function: String,
    /// Source file, without directories, and line. `None` for a helper, where it says nothing.
    pub line: Option<String>,
    /// Whether the stack ends in a helper.
    pub caller_unknown: bool,
    /// The helper that did it on its behalf, such as memcpy.
    pub via: Option<String>,
    /// The system call that it was in.
    pub syscall: Option<String>,
}

/// How names of libraries begin that work on behalf of others; without directories.
const LIBRARIES: [&str; 9] = [
    "libc.",
    "libc-",
    "ld-linux",
    "ld-musl",
    "libpthread",
    "libstdc++",
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
];

/// How names of functions begin that work on behalf of others; without leading underscores.
const FUNCTIONS: [&str; 60] = [
    "memcpy",
    "memmove",
    "memset",
    "mempcpy",
    "memccpy",
    "bcopy",
    "bzero",
    "explicit_bzero",
    "strcpy",
    "strncpy",
    "strlcpy",
    "strcat",
    "stpcpy",
    "wmemset",
    "malloc",
    "calloc",
    "realloc",
    "free",
    "int_malloc",
    "int_free",
    "operator new",
    "operator delete",
    "core::",
    "alloc::",
    "std::",
    "<core::",
    "<alloc::",
    "<std::",
    "compiler_builtins::",
    "gnu_cxx::",
    // Go: copying, clearing, allocating, growing, and what its compiler calls on its own.
    "runtime.mem",
    "runtime.typedmem",
    "runtime.typedslicecopy",
    "runtime.duff",
    "runtime.malloc",
    "runtime.new",
    "runtime.make",
    "runtime.growslice",
    "runtime.appendSlice",
    "runtime.mapassign",
    "runtime.hashGrow",
    "runtime.concatstring",
    "runtime.slicebyte",
    "runtime.stringto",
    "runtime.rawbyteslice",
    "runtime.rawstring",
    "runtime.convT",
    "runtime.heapSetType",
    "runtime.heapBitsSetType",
    "runtime.bulkBarrier",
    "runtime.gcWriteBarrier",
    "runtime.wbBuf",
    "runtime.(*mheap)",
    "runtime.(*mcache)",
    "runtime.(*mcentral)",
    "runtime.(*mspan)",
    "runtime.(*pageAlloc)",
    "runtime.systemstack",
    "runtime.sysAlloc",
    "internal/runtime/maps.",
];

impl CodeLocation {
    /// The location of a place.
    pub(super) fn new(place: &CodePlace) -> Self {
        let syscall = place.syscall.as_ref().map(|name| printable(name));
        let innermost = place.user.first();
        let Some(frame) = chosen(&place.user) else {
            return Self {
                function: kernel(place),
                syscall,
                ..Self::default()
            };
        };
        let via = innermost
            .filter(|first| *first != frame && !first.function.is_empty())
            .map(|first| printable(&first.function));
        let caller_unknown = is_helper(frame);
        let line = frame.line.as_ref().filter(|_| !caller_unknown);
        Self {
            function: name(frame),
            caller_unknown,
            line: line.map(|(file, line)| format!("{}:{line}", printable(base(file)))),
            via: via.filter(|via| syscall.as_ref() != Some(via)),
            syscall,
        }
    }
}

impl fmt::Display for CodeLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        if let Some(line) = &self.line {
            write!(f, " at {line}")?;
        }
        if self.caller_unknown {
            f.write_str(" (caller unknown)")?;
        }
        if let Some(via) = &self.via {
            write!(f, ", via {via}")?;
        }
        match &self.syscall {
            Some(syscall) => write!(f, ", in {syscall}(2)"),
            None => Ok(()),
        }
    }
}

/// The first frame that is nobody's helper; if there is none, the first that has a name.
fn chosen(stack: &[StackFrame]) -> Option<&StackFrame> {
    let own = stack
        .iter()
        .find(|frame| is_known(frame) && !is_helper(frame));
    own.or_else(|| stack.iter().find(|frame| is_known(frame)))
        .or_else(|| stack.first())
}

fn is_known(frame: &StackFrame) -> bool {
    !frame.function.is_empty() || !frame.module.is_empty()
}

/// Whether it works on behalf of its caller: libc, allocators, the standard libraries of C++ and
/// Rust.
pub(super) fn is_helper(frame: &StackFrame) -> bool {
    let file = base(&frame.module);
    let function = frame.function.trim_start_matches('_');
    file.starts_with(StackFrame::VDSO)
        || LIBRARIES.iter().any(|library| file.starts_with(library))
        || FUNCTIONS.iter().any(|helper| function.starts_with(helper))
}

/// What a frame is called: its function, or where it lies.
pub(super) fn name(frame: &StackFrame) -> String {
    match (frame.function.as_str(), frame.module.as_str()) {
        ("", "") => format!("{:#x}", frame.address),
        ("", module @ StackFrame::ANONYMOUS) => format!("{module} {:#x}", frame.address),
        ("", module) => printable(base(module)),
        (function, _) => printable(function),
    }
}

/// A path without its directories.
pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The innermost function of the kernel that is not one of ours.
fn kernel(place: &CodePlace) -> String {
    let frame = place.kernel.iter().find(|frame| !is_probe(frame));
    frame.map_or_else(
        || "unknown code".to_owned(),
        |frame| format!("kernel {}", name(frame)),
    )
}

/// Whether a frame is the probe that looked, not what it looked at.
pub(super) fn is_probe(frame: &StackFrame) -> bool {
    const PROBES: [&str; 4] = [
        "bpf_prog_",
        "bpf_trampoline_",
        "bpf_get_stack",
        "__bpf_prog_",
    ];
    PROBES.iter().any(|probe| frame.function.starts_with(probe))
}

/// Whether a frame is the beginning of a thread or of a system call, below which nothing is told.
pub(super) fn is_beginning(frame: &StackFrame) -> bool {
    const NAMES: [&str; 9] = [
        "runtime.goexit",
        "_start",
        "__libc_start_main",
        "__libc_start_call_main",
        "start_thread",
        "clone3",
        "__clone3",
        "do_syscall_64",
        "entry_SYSCALL_64_after_hwframe",
    ];
    NAMES
        .iter()
        .any(|name| frame.function.split('@').next() == Some(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, module: &str) -> StackFrame {
        StackFrame {
            address: 0x7f00_1234,
            function: function.into(),
            line: None,
            module: module.into(),
            inlined: false,
        }
    }

    fn told(user: Vec<StackFrame>, kernel: Vec<StackFrame>, syscall: Option<&str>) -> String {
        let syscall = syscall.map(str::to_owned);
        let place = CodePlace {
            user,
            kernel,
            syscall,
        };
        CodeLocation::new(&place).to_string()
    }

    #[test]
    fn helpers_are_passed_over() {
        let own = || frame("app::put", "/opt/app+0x10");
        let cases = [
            (
                frame("__memmove_avx_unaligned_erms", "/lib/libc.so.6+0x1"),
                "__memmove_avx_unaligned_erms",
            ),
            (frame("memcpy", "/opt/static+0x1"), "memcpy"),
            (
                frame("core::ptr::write", "/opt/app+0x1"),
                "core::ptr::write",
            ),
            (
                frame("runtime.memclrNoHeapPointers", "/opt/app+0x1"),
                "runtime.memclrNoHeapPointers",
            ),
            (
                frame("runtime.(*mheap).alloc.func1", "/opt/app+0x1"),
                "runtime.(*mheap).alloc.func1",
            ),
            (
                frame("operator new(unsigned long)", "/opt/app+0x1"),
                "operator new(unsigned long)",
            ),
        ];
        for (helper, via) in cases {
            let stack = vec![helper, own()];
            assert_eq!(told(stack, vec![], None), format!("app::put, via {via}"));
        }
        assert_eq!(
            told(vec![own(), frame("main", "/opt/app+0x1")], vec![], None),
            "app::put"
        );
        let read = vec![frame("read", "/lib/libc.so.6+0x1"), own()];
        assert_eq!(told(read, vec![], Some("read")), "app::put, in read(2)");
    }

    /// What the collector writes on its own behalf is its own work.
    #[test]
    fn the_garbage_collector_of_go_is_nobodys_helper() {
        let stack = [
            "runtime.(*gcWork).putFast",
            "runtime.scanobject",
            "runtime.gcDrain",
        ];
        let stack = stack.map(|name| frame(name, "/opt/app+0x1")).to_vec();
        assert_eq!(told(stack, vec![], None), "runtime.(*gcWork).putFast");
        let sweeps = [
            "runtime.(*mspan).sweep",
            "runtime.sweepone",
            "runtime.bgsweep",
        ];
        let sweeps = sweeps.map(|name| frame(name, "/opt/app+0x1")).to_vec();
        let named = told(sweeps, vec![], None);
        assert_eq!(named, "runtime.sweepone, via runtime.(*mspan).sweep");
    }

    #[test]
    fn something_is_told_of_every_place() {
        let libc = frame("memset", "/lib/libc.so.6+0x1");
        assert_eq!(told(vec![libc], vec![], None), "memset (caller unknown)");
        assert_eq!(
            told(vec![frame("", "/opt/app+0x10")], vec![], None),
            "app+0x10"
        );
        assert_eq!(
            told(vec![frame("", "[anon]")], vec![], None),
            "[anon] 0x7f001234"
        );
        assert_eq!(told(vec![frame("", "")], vec![], None), "0x7f001234");
        let kernel = ["bpf_trampoline_1", "replace_page", "ksm_scan_thread"];
        let kernel = kernel.map(|name| frame(name, "[kernel]")).to_vec();
        assert_eq!(told(vec![], kernel, None), "kernel replace_page");
        assert_eq!(told(vec![], vec![], None), "unknown code");
    }
}
