//! From the flags to attached probes.

use super::agent::HookArgs;
use crate::agent::AgentError;
use crate::probes::constants::MapSizes;
use crate::probes::plan::HookWishes;
use crate::probes::{self, AttachedProbes, HOOKS, HookMechanism, ProbeOptions};
use std::borrow::Cow;
use std::path::PathBuf;
use std::thread::available_parallelism;

/// Attaches what can be attached; dropping the result detaches it.
///
/// # Errors
/// [`AgentError::Usage`] if a flag names a hook or mechanism that does not exist.
pub fn attach(args: &HookArgs) -> Result<AttachedProbes, AgentError> {
    let cpus = available_parallelism().map_or(1, usize::from);
    let options = ProbeOptions {
        wishes: wishes(&args.no_hook, &args.force_mechanism).map_err(AgentError::Usage)?,
        sizes: MapSizes::new(args.vma_records, args.process_records, cpus),
        object: object()?,
    };
    Ok(probes::attach(&options))
}

/// The programs built in, or those of the file that `TRACKER_EBPF_OBJECT` names, for who works on
/// them.
fn object() -> Result<Cow<'static, [u8]>, AgentError> {
    let Some(path) = std::env::var_os("TRACKER_EBPF_OBJECT").map(PathBuf::from) else {
        return Ok(probes::attach::OBJECT.into());
    };
    let cannot = |e| format!("TRACKER_EBPF_OBJECT: cannot read {}: {e}", path.display());
    std::fs::read(&path)
        .map(Cow::Owned)
        .map_err(|e| AgentError::Usage(cannot(e)))
}

fn wishes(no_hook: &[String], force: &[String]) -> Result<HookWishes, String> {
    // An environment variable that is set to nothing wishes nothing.
    let given = |names: &[String]| names.iter().filter(|n| !n.is_empty()).cloned().collect();
    let off: Vec<String> = given(no_hook);
    for name in &off {
        known(name).map_err(|e| format!("--no-hook {name}: {e}"))?;
    }
    let forced: Vec<String> = given(force);
    let forced = forced
        .iter()
        .map(|wish| parse_forced(wish).map_err(|e| format!("--force-mechanism {wish}: {e}")));
    Ok(HookWishes {
        off,
        forced: forced.collect::<Result<_, _>>()?,
    })
}

fn parse_forced(wish: &str) -> Result<(Option<String>, HookMechanism), String> {
    let Some((name, mechanism)) = wish.split_once('=') else {
        return Ok((None, parse_mechanism(wish, &MECHANISMS)?));
    };
    let rungs = known(name)?.rungs;
    Ok((Some(name.to_owned()), parse_mechanism(mechanism, rungs)?))
}

const MECHANISMS: [HookMechanism; 4] = [
    HookMechanism::Fentry,
    HookMechanism::Fexit,
    HookMechanism::Kprobe,
    HookMechanism::Kretprobe,
];

fn parse_mechanism(text: &str, allowed: &[HookMechanism]) -> Result<HookMechanism, String> {
    let found = HookMechanism::parse(text).filter(|mechanism| allowed.contains(mechanism));
    found.ok_or_else(|| {
        let names: Vec<_> = allowed.iter().map(|mechanism| mechanism.as_str()).collect();
        format!(
            "`{text}` cannot be had there; choose {}",
            names.join(" or ")
        )
    })
}

fn known(name: &str) -> Result<&'static probes::Hook, String> {
    HOOKS.iter().find(|hook| hook.name == name).ok_or_else(|| {
        let names: Vec<_> = HOOKS.iter().map(|hook| hook.name).collect();
        format!("there is no such hook; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(no_hook: &[&str], force: &[&str]) -> Result<HookWishes, String> {
        let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        wishes(&own(no_hook), &own(force))
    }

    #[test]
    fn names_of_hooks_and_mechanisms() {
        let wishes = parse(&["do_wp_page", ""], &["kprobe", "do_wp_page=fentry"]).unwrap();
        assert_eq!(wishes.off, ["do_wp_page"]);
        let one = (Some("do_wp_page".to_owned()), HookMechanism::Fentry);
        assert_eq!(wishes.forced, [(None, HookMechanism::Kprobe), one]);
    }

    #[test]
    fn what_does_not_exist_is_told_with_what_does() {
        assert!(parse(&["do_wp"], &[]).unwrap_err().contains("do_wp_page"));
        assert!(
            parse(&[], &["magic"])
                .unwrap_err()
                .contains("fentry or fexit or kprobe")
        );
        let error = parse(&[], &["do_wp_page=fexit"]).unwrap_err();
        assert!(error.contains("fentry or kprobe"), "{error}");
        assert!(
            parse(&[], &["nothing=kprobe"])
                .unwrap_err()
                .contains("there are ")
        );
    }
}
