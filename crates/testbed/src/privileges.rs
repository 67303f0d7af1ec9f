//! Runs a command with few privileges: as another user, with only some capabilities.
//!
//! util-linux's setpriv(1) could do it, but guests do not have it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{Gid, Uid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// The user `nobody` in every guest.
const NOBODY: u32 = 65_534;

/// The set of these capabilities, which are named as in capabilities(7): `CAP_BPF`.
pub fn capabilities(names: &[&str]) -> CapabilitySet {
    let named = names.iter().map(|name| {
        CapabilitySet::from_name(name.trim_start_matches("CAP_"))
            .unwrap_or_else(|| panic!("{name} is no capability"))
    });
    named.collect()
}

/// Makes `command` run as nobody, with these capabilities and no way to get more, like a systemd
/// unit with `DynamicUser`, `AmbientCapabilities`, `CapabilityBoundingSet` and `NoNewPrivileges`.
pub fn as_nobody_with(mut command: Command, kept: CapabilitySet) -> Command {
    let give_up = move || give_up(kept);
    // SAFETY: between fork and exec it only makes system calls, and allocates nothing.
    unsafe { command.pre_exec(give_up) };
    command
}

fn give_up(kept: CapabilitySet) -> io::Result<()> {
    for one in CapabilitySet::all().difference(kept) {
        // The kernel may not know the newest capabilities.
        if thread::capability_is_in_bounding_set(one).unwrap_or(false) {
            thread::remove_capability_from_bounding_set(one)?;
        }
    }
    thread::set_keep_capabilities(true)?;
    thread::set_thread_groups(&[])?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    thread::set_thread_res_gid(group, group, group)?;
    thread::set_thread_res_uid(user, user, user)?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: kept,
    };
    thread::set_capabilities(None, sets)?;
    for one in kept {
        thread::configure_capability_in_ambient_set(one, true)?;
    }
    Ok(thread::set_no_new_privs(true)?)
}
