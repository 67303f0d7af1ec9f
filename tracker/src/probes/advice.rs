//! What a person can do to see more, from facts alone.

use super::hooks::{HookMechanism, HookSubject};
use super::proof;
use super::report::USED;
use super::verdict::{HookPlan, HookVerdict};
use crate::kernel::capabilities::{Capability, UserNamespace};
use crate::kernel::facts::{FactSource, KernelFacts};
use crate::kernel::lockdown::Lockdown;

/// One sentence for each obstacle that somebody can remove; the most far-reaching first.
#[must_use]
pub fn advice(facts: &KernelFacts, plan: &[HookPlan]) -> Vec<String> {
    let absent = plan
        .iter()
        .any(|plan| matches!(plan.verdict, HookVerdict::Absent(_)));
    let all = [
        privilege(facts),
        namespace(facts),
        seccomp(facts).filter(|_| absent),
        btf(facts),
        lockdown(facts),
        switches(facts, plan),
        function_hooks(facts, plan),
        addresses(facts).filter(|_| absent),
        tracefs(facts).filter(|_| absent),
    ];
    all.into_iter().flatten().collect()
}

fn privilege(facts: &KernelFacts) -> Option<String> {
    if facts.unavailable.contains_key(&FactSource::Status) {
        return Some("mount /proc (mount -t proc proc /proc): without it nothing is seen".into());
    }
    let missing = USED.iter().filter(|one| !facts.privilege.grants(**one));
    let missing: Vec<_> = missing.map(|one| one.name()).collect();
    let names = missing.join(" ");
    (!missing.is_empty())
        .then(|| format!("run as root, or give it {names} (deploy/tracker.service does)"))
}

fn namespace(facts: &KernelFacts) -> Option<String> {
    (facts.privilege.user_namespace == UserNamespace::Nested).then(|| {
        "run it outside the user namespace: a capability inside one does not open the kernel".into()
    })
}

fn seccomp(facts: &KernelFacts) -> Option<String> {
    facts.privilege.seccomp_filter.then(|| {
        "a seccomp filter is in force; let it pass bpf, perf_event_open and userfaultfd \
         (in a container: --security-opt seccomp=unconfined or a profile with these)"
            .into()
    })
}

fn btf(facts: &KernelFacts) -> Option<String> {
    let reason = facts.unavailable.get(&FactSource::Btf)?;
    Some(format!(
        "boot a kernel built with CONFIG_DEBUG_INFO_BTF: {reason}"
    ))
}

fn lockdown(facts: &KernelFacts) -> Option<String> {
    (facts.lockdown == Some(Lockdown::Confidentiality)).then(|| {
        "kernel lockdown is at confidentiality; integrity suffices (boot with lockdown=integrity)"
            .into()
    })
}

/// What is switched off.
fn switches(facts: &KernelFacts, plan: &[HookPlan]) -> Option<String> {
    let silent = plan.iter().find_map(|plan| match plan.verdict {
        HookVerdict::Silent { cause, .. } => Some(cause),
        _ => None,
    });
    let mechanisms = HookMechanism::IN_FUNCTIONS.into_iter();
    let mut off = mechanisms.filter_map(|one| proof::switched_off(one, facts.switches));
    silent.or_else(|| off.next()).map(|cause| cause.to_string())
}

/// Neither trampolines nor kprobes: only another kernel helps.
fn function_hooks(facts: &KernelFacts, plan: &[HookPlan]) -> Option<String> {
    let privileged = facts.privilege.grants(Capability::Bpf);
    let functions = || {
        plan.iter()
            .filter(|plan| plan.hook.subject != HookSubject::Discovery)
    };
    let none = functions().all(|plan| plan.mechanism().is_none());
    (privileged && none && facts.has(FactSource::Btf) && facts.kprobe_pmu.is_none()).then(|| {
        "function hooks need a kernel built with CONFIG_FUNCTION_TRACER or CONFIG_KPROBES".into()
    })
}

fn addresses(facts: &KernelFacts) -> Option<String> {
    if let Some(reason) = facts.unavailable.get(&FactSource::Kallsyms) {
        return Some(format!(
            "let it read /proc/kallsyms: {reason} (a systemd unit with ProtectKernelTunables=yes \
             hides it)"
        ));
    }
    // At 2 they are hidden from everyone, CAP_SYSLOG or not (kallsyms_show_value).
    let remedy = match facts.sysctls.kptr_restrict {
        Some(2..) => "`sysctl kernel.kptr_restrict=1`: at 2 no capability helps",
        _ => "give it CAP_SYSLOG, or `sysctl kernel.kptr_restrict=0`",
    };
    facts
        .addresses_hidden
        .then(|| format!("/proc/kallsyms hides addresses: {remedy}"))
}

fn tracefs(facts: &KernelFacts) -> Option<String> {
    facts.mounts.tracing_dir().is_none().then(|| {
        "`mount -t tracefs tracefs /sys/kernel/tracing` shows which functions can be traced".into()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kernel::capabilities::Privilege;
    use crate::kernel::facts::KernelAddresses;
    use crate::probes::plan::{HookTrials, HookWishes, PlanInputs, plan};
    use crate::probes::{HOOKS, OBJECT, ProbeObject};

    fn facts(captured: &str) -> KernelFacts {
        serde_json::from_str(captured).unwrap()
    }

    fn debian() -> KernelFacts {
        let mut facts = facts(include_str!("../../tests/fixtures/kernel/debian-6.12.json"));
        for granted in facts.privilege.capabilities.values_mut() {
            *granted = true;
        }
        facts
    }

    fn advised(facts: &KernelFacts) -> String {
        let inputs = PlanInputs {
            facts,
            object: &ProbeObject::parse(OBJECT.into()).unwrap(),
            wishes: &HookWishes::default(),
            trials: &HookTrials::new(),
        };
        advice(facts, &plan(HOOKS, inputs)).join("\n")
    }

    #[test]
    fn where_everything_works_nothing_is_advised() {
        assert_eq!(advised(&debian()), "");
    }

    #[test]
    fn missing_capabilities_are_named_and_no_others() {
        let mut facts = debian();
        facts
            .privilege
            .capabilities
            .insert(Capability::SysAdmin, false);
        facts
            .privilege
            .capabilities
            .insert(Capability::Perfmon, false);
        let text = advised(&facts);
        assert!(
            text.contains("CAP_PERFMON") && !text.contains("CAP_BPF"),
            "{text}"
        );
    }

    #[test]
    fn where_capabilities_are_not_known_none_is_called_missing() {
        let text = with(|facts| {
            facts.privilege = Privilege::parse(b"", None);
            _ = (facts.unavailable).insert(FactSource::Status, "no such file".into());
        });
        assert!(
            text.contains("mount /proc") && !text.contains("CAP_"),
            "{text}"
        );
    }

    /// The advice where a kernel or a privilege lacks something.
    fn with(change: impl FnOnce(&mut KernelFacts)) -> String {
        let mut facts = debian();
        change(&mut facts);
        advised(&facts)
    }

    #[test]
    fn each_obstacle_has_its_way_round() {
        let nested = with(|f| f.privilege.user_namespace = UserNamespace::Nested);
        assert!(nested.contains("outside the user namespace"), "{nested}");
        let btf = with(|f| _ = f.unavailable.insert(FactSource::Btf, "no such file".into()));
        assert!(btf.contains("CONFIG_DEBUG_INFO_BTF: no such file"), "{btf}");
        let hidden = |restrict| {
            with(|f| {
                f.addresses_hidden = true;
                f.sysctls.kptr_restrict = Some(restrict);
                f.unavailable.insert(FactSource::Btf, "no such file".into());
            })
        };
        assert!(hidden(1).contains("CAP_SYSLOG"), "{}", hidden(1));
        let two = hidden(2);
        assert!(
            two.contains("kptr_restrict=1") && !two.contains("CAP_SYSLOG"),
            "{two}"
        );
        let unread = with(|f| {
            f.addresses = KernelAddresses::default();
            let reason = "it has no symbols".into();
            f.unavailable.insert(FactSource::Kallsyms, reason);
        });
        assert!(unread.contains("ProtectKernelTunables"), "{unread}");
        let locked = with(|f| f.lockdown = Some(Lockdown::Confidentiality));
        assert!(locked.contains("lockdown=integrity"), "{locked}");
        let filtered = with(|f| {
            f.privilege.seccomp_filter = true;
            f.unavailable.insert(FactSource::Btf, "no such file".into());
        });
        assert!(filtered.contains("seccomp"), "{filtered}");
    }

    #[test]
    fn what_stops_nothing_is_not_mentioned() {
        assert_eq!(with(|f| f.privilege.seccomp_filter = true), "");
        assert_eq!(
            with(|f| (f.mounts.tracefs, f.mounts.debugfs) = (None, None)),
            ""
        );
    }
}
