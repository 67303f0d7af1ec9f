//! From the flags to attached probes.

use super::agent::HookArgs;
use super::environment;
use crate::agent::AgentError;
use crate::probes::{
    self, AttachedProbes, HOOKS, Hook, HookId, HookMechanism, HookWishes, MapSizes, OBJECT,
    ProbeOptions,
};
use std::borrow::Cow;
use std::path::PathBuf;
use std::thread::available_parallelism;
use thiserror::Error;

/// Attaches what can be attached; dropping the result detaches it.
///
/// # Errors
/// [`AgentError::Usage`] if a flag names a hook or mechanism that does not exist.
pub(crate) fn attach(args: &HookArgs) -> Result<AttachedProbes, AgentError> {
    let cpus = available_parallelism().map_or(1, usize::from);
    let wishes = wishes(&args.no_hook, &args.force_mechanism);
    let options = ProbeOptions {
        wishes: wishes.map_err(|error| AgentError::Usage(error.to_string()))?,
        sizes: MapSizes::new(args.vma_records, args.process_records, cpus),
        object: object()?,
    };
    Ok(probes::attach(&options))
}

/// The programs built in, or those of the file that `TRACKER_EBPF_OBJECT` names, for people who
/// work on them.
fn object() -> Result<Cow<'static, [u8]>, AgentError> {
    let named = std::env::var_os("TRACKER_EBPF_OBJECT");
    let Some(path) = named.filter(|name| !environment::is_blank(name)) else {
        return Ok(OBJECT.into());
    };
    let path = PathBuf::from(path);
    let cannot = |e| format!("TRACKER_EBPF_OBJECT: cannot read {}: {e}", path.display());
    std::fs::read(&path)
        .map(Cow::Owned)
        .map_err(|e| AgentError::Usage(cannot(e)))
}

/// Why a flag cannot be followed.
#[derive(Debug, Error)]
enum WishError {
    #[error("--no-hook {0}: {1}")]
    Off(String, NameError),
    #[error("--force-mechanism {0}: {1}")]
    Force(String, NameError),
}

/// Why a name means nothing.
#[derive(Debug, Error)]
enum NameError {
    #[error("there is no such hook; there are {}", names())]
    NoHook,
    #[error("`{text}` cannot be had there; choose {}", join(.choice))]
    NoMechanism {
        text: String,
        choice: Vec<HookMechanism>,
    },
}

fn names() -> String {
    let names: Vec<_> = HOOKS.iter().map(Hook::name).collect();
    names.join(", ")
}

fn join(choice: &[HookMechanism]) -> String {
    let names: Vec<_> = choice.iter().map(|one| one.as_str()).collect();
    names.join(" or ")
}

fn wishes(no_hook: &[String], force: &[String]) -> Result<HookWishes, WishError> {
    // An environment variable that is set to nothing asks for nothing.
    fn given(texts: &[String]) -> impl Iterator<Item = &String> {
        texts.iter().filter(|text| !text.is_empty())
    }
    let off = given(no_hook).map(|name| {
        let hook = known(name).map_err(|e| WishError::Off(name.clone(), e))?;
        Ok(hook.id)
    });
    let forced =
        given(force).map(|wish| forced(wish).map_err(|e| WishError::Force(wish.clone(), e)));
    Ok(HookWishes {
        off: off.collect::<Result<_, _>>()?,
        forced: forced.collect::<Result<_, _>>()?,
    })
}

/// `MECHANISM` or `HOOK=MECHANISM`.
fn forced(wish: &str) -> Result<(Option<HookId>, HookMechanism), NameError> {
    let Some((name, wanted)) = wish.split_once('=') else {
        return Ok((None, mechanism(wish, &HookMechanism::IN_FUNCTIONS)?));
    };
    let hook = known(name)?;
    let choice: Vec<_> = hook.mechanisms().collect();
    Ok((Some(hook.id), mechanism(wanted, &choice)?))
}

fn known(name: &str) -> Result<&'static Hook, NameError> {
    let hook = HOOKS.iter().find(|hook| hook.name() == name);
    hook.ok_or(NameError::NoHook)
}

fn mechanism(text: &str, choice: &[HookMechanism]) -> Result<HookMechanism, NameError> {
    let found = choice.iter().find(|one| one.as_str() == text).copied();
    found.ok_or_else(|| NameError::NoMechanism {
        text: text.to_owned(),
        choice: choice.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(no_hook: &[&str], force: &[&str]) -> Result<HookWishes, String> {
        let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        wishes(&own(no_hook), &own(force)).map_err(|error| error.to_string())
    }

    #[test]
    fn names_of_hooks_and_mechanisms() {
        let wishes = parse(&["do_wp_page", ""], &["kprobe", "do_wp_page=fentry"]).unwrap();
        assert_eq!(wishes.off, [HookId::do_wp_page]);
        let one = (Some(HookId::do_wp_page), HookMechanism::Fentry);
        assert_eq!(wishes.forced, [(None, HookMechanism::Kprobe), one]);
    }

    #[test]
    fn what_does_not_exist_is_told_with_what_does() {
        assert!(parse(&["do_wp"], &[]).unwrap_err().contains("do_wp_page"));
        let error = parse(&[], &["magic"]).unwrap_err();
        assert!(error.contains("fentry or fexit or kprobe"), "{error}");
        let error = parse(&[], &["do_wp_page=fexit"]).unwrap_err();
        assert!(error.contains("fentry or kprobe"), "{error}");
        let error = parse(&[], &["nothing=kprobe"]).unwrap_err();
        assert!(error.contains("there are "), "{error}");
    }
}
