//! What of the kernel's BTF attaching needs: the ids of what programs attach to.
//!
//! aya takes 14 MiB for the whole of it, and looks through all types for each program.

use std::collections::BTreeSet;
use std::fs;

use aya::{Btf, Endianness};

use super::error::ProbeError;
use super::hooks::Hook;
use crate::kernel::btf::KernelBtf;

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// BTF in which aya finds what these hooks attach to.
///
/// # Errors
/// If the kernel's BTF cannot be read.
pub fn of_hooks<'a>(hooks: impl IntoIterator<Item = &'a Hook>) -> Result<Btf, ProbeError> {
    let targets: BTreeSet<_> = hooks
        .into_iter()
        .flat_map(|hook| hook.functions.iter().map(|function| target(function)))
        .collect();
    let excerpt = {
        let bytes = fs::read(KERNEL_BTF).map_err(ProbeError::ReadBtf)?;
        KernelBtf::parse(bytes)?.excerpt(targets.iter().map(String::as_str))
    };
    Ok(Btf::parse(&excerpt, Endianness::default())?)
}

/// The name of a function, or of the typedef of a tracepoint.
fn target(function: &str) -> String {
    match function.split_once(':') {
        Some((_, event)) => format!("btf_trace_{event}"),
        None => function.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::probes::hooks::{EVENT_HOOKS, FAULT_TIME_HOOKS, HOOKS};

    /// Against aya's own reading of the running kernel's BTF.
    #[test]
    fn each_target_has_the_id_that_it_has_in_all_of_the_btf() {
        let Ok(bytes) = fs::read(KERNEL_BTF) else {
            eprintln!("skipped: this kernel has no BTF");
            return;
        };
        let all = Btf::parse(&bytes, Endianness::default()).unwrap();
        let hooks = || HOOKS.iter().chain(EVENT_HOOKS).chain(FAULT_TIME_HOOKS);
        let some = of_hooks(hooks()).unwrap();
        let mut found = 0;
        for function in hooks().flat_map(|hook| hook.functions) {
            let name = target(function);
            for kind in [aya_obj::btf::BtfKind::Func, aya_obj::btf::BtfKind::Typedef] {
                let id = |btf: &Btf| btf.id_by_type_name_kind(&name, kind).ok();
                assert_eq!(id(&some), id(&all), "{name}");
                found += usize::from(id(&some).is_some());
            }
        }
        assert!(found > 50, "{found}");
    }
}
