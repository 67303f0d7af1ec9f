//! The programs, made from the rows of hooks.rs. What a hook does is in the module of its subject.
#![no_std]
#![no_main]
// atomic.rs: rustc has no atomic operations for the BPF target.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod atomic;
mod attribution;
mod calls;
mod causes;
mod context;
mod discover;
mod events;
mod fault_time;
mod faults;
mod life;
mod maple;
mod maps;
mod markers;
mod memory;
mod observed;
mod page_blocks;
mod patched;
mod proof;
mod record;
mod scope;
mod slot;
mod sweep;
mod tables;
mod timing;
mod verifier;
mod walk;
mod watch;

use core::ffi::c_void;

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

/// The kernel lets only GPL-compatible programs call its tracing helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Makes one program: its context is that of its mechanism.
macro_rules! program {
    (fentry $hook:ident $name:ident => $body:path) => {
        #[fentry]
        fn $name(ctx: FEntryContext) -> i32 {
            if !proof::is_exercise(tracker_ebpf::HookId::$hook) {
                $body(&ctx);
            }
            0
        }
    };
    (fexit $hook:ident $name:ident => $body:path) => {
        #[fexit]
        fn $name(ctx: FExitContext) -> i32 {
            if !proof::is_exercise(tracker_ebpf::HookId::$hook) {
                $body(&ctx);
            }
            0
        }
    };
    (kprobe $hook:ident $name:ident => $body:path) => {
        #[kprobe]
        fn $name(ctx: ProbeContext) -> u32 {
            if !proof::is_exercise(tracker_ebpf::HookId::$hook) {
                $body(&ctx);
            }
            0
        }
    };
    (kretprobe $hook:ident $name:ident => $body:path) => {
        #[kretprobe]
        fn $name(ctx: RetProbeContext) -> u32 {
            if !proof::is_exercise(tracker_ebpf::HookId::$hook) {
                $body(&ctx);
            }
            0
        }
    };
    (tracepoint $hook:ident $name:ident => $body:path) => {
        #[btf_tracepoint]
        fn $name(ctx: BtfTracePointContext) -> i32 {
            if !proof::is_exercise(tracker_ebpf::HookId::$hook) {
                $body(&ctx);
            }
            0
        }
    };
    (iterator $hook:ident $name:ident $section:literal => $body:path) => {
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        fn $name(ctx: *const c_void) -> i32 {
            $body(ctx);
            0
        }
    };
}

/// Makes all programs; programs in the same brackets have the same body.
macro_rules! programs {
    ($(
        $(#[$about:meta])*
        $table:ident {
            $(
                $hook:ident: $subject:ident, at [$($at:literal),*],
                by $([$($mechanism:ident $name:ident $($section:literal)?),*] => $body:path,)*
                fires $fires:ident($proof:tt),
                $(under $lock:ident,)?
                $(with $how:ident($partner:ident),)?
                $(only [$($condition:ident),*],)?
                without $without:literal;
            )*
        }
    )*) => {
        $($($(programs!(
            @bodies $hook [$($mechanism $name $($section)?),*] => $body
        );)*)*)*
    };
    (@bodies $hook:ident [$($mechanism:ident $name:ident $($section:literal)?),*]
        => $body:path) => {
        $(program!($mechanism $hook $name $($section)? => $body);)*
    };
}
tracker_ebpf::hooks!(programs);

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
