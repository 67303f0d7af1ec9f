//! Which frame of a stack somebody wants to be told: not that of memcpy, but of who called it.

use std::fmt;

use crate::explain::{Frame, Place};
use crate::track::report::words::printable;

/// A place in the code, in short. Printable.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The function, or the file and the offset there, or an address.
    pub function: String,
    /// Source file, without directories, and line; not of a helper, in which it tells nothing.
    pub line: Option<String>,
    /// The stack ends in a helper.
    pub caller_unknown: bool,
    /// The function that did it on its behalf, such as memcpy.
    pub via: Option<String>,
    /// The system call that it was in.
    pub syscall: Option<String>,
}

/// Where files of libraries that do things on behalf of others begin, without directories.
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

/// Where names of functions that do things on behalf of others begin, without underscores before them.
const FUNCTIONS: [&str; 30] = [
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
];

impl Location {
    /// Of a place.
    pub fn new(place: &Place) -> Self {
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

impl fmt::Display for Location {
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

/// The first frame that is nobody's helper; the first of all if there is none.
fn chosen(stack: &[Frame]) -> Option<&Frame> {
    let own = stack
        .iter()
        .find(|frame| is_known(frame) && !is_helper(frame));
    own.or_else(|| stack.iter().find(|frame| is_known(frame)))
        .or_else(|| stack.first())
}

fn is_known(frame: &Frame) -> bool {
    !frame.function.is_empty() || !frame.module.is_empty()
}

/// Whether it works on behalf of who calls it: libc, allocators, the standard libraries of C++ and Rust.
pub fn is_helper(frame: &Frame) -> bool {
    let file = base(&frame.module);
    let function = frame.function.trim_start_matches('_');
    file.starts_with("[vdso]")
        || LIBRARIES.iter().any(|library| file.starts_with(library))
        || FUNCTIONS.iter().any(|helper| function.starts_with(helper))
}

/// What a frame is called: by its function, or by where it lies.
pub fn name(frame: &Frame) -> String {
    match (frame.function.as_str(), frame.module.as_str()) {
        ("", "" | "[anon]") => {
            let module = if frame.module.is_empty() {
                ""
            } else {
                "[anon] "
            };
            format!("{module}{:#x}", frame.address)
        }
        ("", module) => printable(base(module)),
        (function, _) => printable(function),
    }
}

/// A path without its directories.
pub fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The innermost function of the kernel that is not one of ours.
fn kernel(place: &Place) -> String {
    let frame = place.kernel.iter().find(|frame| !is_probe(frame));
    frame.map_or_else(
        || "unknown code".to_owned(),
        |frame| format!("kernel {}", name(frame)),
    )
}

/// Whether it is the probe that looked, not what it looked at.
pub fn is_probe(frame: &Frame) -> bool {
    const PROBES: [&str; 4] = [
        "bpf_prog_",
        "bpf_trampoline_",
        "bpf_get_stack",
        "__bpf_prog_",
    ];
    PROBES.iter().any(|probe| frame.function.starts_with(probe))
}

/// Frames below which nothing is told: the beginning of a thread, or of a system call.
pub fn is_beginning(frame: &Frame) -> bool {
    const NAMES: [&str; 8] = [
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

    fn frame(function: &str, module: &str) -> Frame {
        Frame {
            address: 0x7f00_1234,
            function: function.into(),
            line: None,
            module: module.into(),
            inlined: false,
        }
    }

    fn told(user: Vec<Frame>, kernel: Vec<Frame>, syscall: Option<&str>) -> String {
        let syscall = syscall.map(str::to_owned);
        let place = Place {
            user,
            kernel,
            syscall,
        };
        Location::new(&place).to_string()
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
