//! What this process may do: capabilities, user namespace, seccomp.

use std::collections::BTreeMap;

/// The inode of the initial user namespace (`PROC_USER_INIT_INO`), the same on every machine.
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// A capability (capabilities(7)) that it can take to observe memory or to trace the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Capability {
    /// `CAP_BPF`
    #[cfg_attr(feature = "serde", serde(rename = "CAP_BPF"))]
    Bpf,
    /// `CAP_PERFMON`
    #[cfg_attr(feature = "serde", serde(rename = "CAP_PERFMON"))]
    Perfmon,
    /// `CAP_SYS_ADMIN`
    #[cfg_attr(feature = "serde", serde(rename = "CAP_SYS_ADMIN"))]
    SysAdmin,
    /// `CAP_SYS_PTRACE`
    #[cfg_attr(feature = "serde", serde(rename = "CAP_SYS_PTRACE"))]
    SysPtrace,
    /// `CAP_SYSLOG`
    #[cfg_attr(feature = "serde", serde(rename = "CAP_SYSLOG"))]
    Syslog,
    /// `CAP_SYS_RESOURCE`
    #[cfg_attr(feature = "serde", serde(rename = "CAP_SYS_RESOURCE"))]
    SysResource,
    /// `CAP_DAC_READ_SEARCH`
    #[cfg_attr(feature = "serde", serde(rename = "CAP_DAC_READ_SEARCH"))]
    DacReadSearch,
}

impl Capability {
    /// All of them.
    const ALL: [Self; 7] = [
        Self::Bpf,
        Self::Perfmon,
        Self::SysAdmin,
        Self::SysPtrace,
        Self::Syslog,
        Self::SysResource,
        Self::DacReadSearch,
    ];

    /// Its name, as setcap(8), systemd and container runtimes have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::Syslog => "CAP_SYSLOG",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
        }
    }

    /// Its bit in the masks of `/proc/PID/status` (linux/capability.h).
    const fn bit(self) -> u32 {
        match self {
            Self::DacReadSearch => 2,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::SysResource => 24,
            Self::Syslog => 34,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

/// Which user namespace this process is in (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum UserNamespace {
    /// The machine's own: capabilities mean what they say.
    Initial,
    /// Another one: capabilities hold inside it only, and the kernel refuses BPF and tracing.
    Nested,
    /// `/proc/self/ns/user` could not be read.
    Unknown,
}

impl UserNamespace {
    /// From the text of the link `/proc/self/ns/user`.
    fn from_link(link: Option<&str>) -> Self {
        match link {
            Some(INITIAL_USER_NAMESPACE) => Self::Initial,
            Some(_) => Self::Nested,
            None => Self::Unknown,
        }
    }
}

/// What a process may do, as far as that decides what it may observe.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Privilege {
    /// Its effective user id; `None` if its status could not be read.
    pub euid: Option<u32>,
    /// Whether each capability is in its effective set; empty if that is not known.
    pub capabilities: BTreeMap<Capability, bool>,
    /// The user namespace that the capabilities hold in.
    pub user_namespace: UserNamespace,
    /// Whether a seccomp filter is in force, which may refuse bpf(2) and userfaultfd(2) whatever
    /// the capabilities: those of container runtimes do, unless told otherwise.
    pub seccomp_filter: bool,
}

impl Privilege {
    /// From `/proc/self/status` and the link `/proc/self/ns/user`.
    #[must_use]
    pub fn parse(status: &[u8], user_namespace_link: Option<&str>) -> Self {
        let effective =
            field(status, "CapEff:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
        let held = |capability: Capability| Some(effective? >> capability.bit() & 1 == 1);
        Self {
            euid: field(status, "Uid:").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok()),
            capabilities: Capability::ALL
                .into_iter()
                .filter_map(|one| Some((one, held(one)?)))
                .collect(),
            user_namespace: UserNamespace::from_link(user_namespace_link),
            seccomp_filter: field(status, "Seccomp:") == Some("2"),
        }
    }

    /// Whether the capability itself is in the effective set.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.get(&capability).copied().unwrap_or(false)
    }

    /// Whether the kernel grants what the capability is for: it is held, or `CAP_SYS_ADMIN` is and
    /// stands for it (as `bpf_capable` and `perfmon_capable` have it), and not only inside a user
    /// namespace.
    #[must_use]
    pub fn grants(&self, capability: Capability) -> bool {
        let by_admin = matches!(capability, Capability::Bpf | Capability::Perfmon)
            && self.has(Capability::SysAdmin);
        self.user_namespace != UserNamespace::Nested && (self.has(capability) || by_admin)
    }

    /// The capabilities that are known not to be granted.
    pub fn missing(&self) -> impl Iterator<Item = Capability> {
        Capability::ALL
            .into_iter()
            .filter(|one| self.capabilities.contains_key(one) && !self.grants(*one))
    }
}

/// The rest of the line that starts with that key. The process's name, which may be no UTF-8, is a
/// line of its own.
fn field<'a>(status: &'a [u8], key: &str) -> Option<&'a str> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(key.as_bytes()))?;
    std::str::from_utf8(value).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::{Capability, Privilege, UserNamespace};

    const INITIAL: Option<&str> = Some("user:[4026531837]");

    fn status(mask: &str) -> Vec<u8> {
        [
            b"Name:\t\xff\xfe odd\nUid:\t1000\t0\t0\t0\nCapEff:\t",
            mask.as_bytes(),
            b"\nSeccomp:\t0\n",
        ]
        .concat()
    }

    #[test]
    fn root_has_everything() {
        let root = Privilege::parse(&status("000001ffffffffff"), INITIAL);
        assert_eq!(root.euid, Some(0));
        assert_eq!(root.missing().next(), None);
        assert!(!root.seccomp_filter);
    }

    #[test]
    fn each_capability_is_its_own_bit() {
        for one in Capability::ALL {
            let mask = format!("{:016x}", 1u64 << one.bit());
            let privilege = Privilege::parse(&status(&mask), INITIAL);
            let held: Vec<_> = Capability::ALL
                .into_iter()
                .filter(|c| privilege.has(*c))
                .collect();
            assert_eq!(held, [one]);
        }
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon_only() {
        let admin = Privilege::parse(&status("0000000000200000"), INITIAL);
        assert!(!admin.has(Capability::Bpf));
        assert!(admin.grants(Capability::Bpf) && admin.grants(Capability::Perfmon));
        let missing: Vec<_> = admin.missing().map(Capability::name).collect();
        let others = [
            "CAP_SYS_PTRACE",
            "CAP_SYSLOG",
            "CAP_SYS_RESOURCE",
            "CAP_DAC_READ_SEARCH",
        ];
        assert_eq!(missing, others);
    }

    #[test]
    fn root_in_a_user_namespace_is_granted_nothing() {
        let root = Privilege::parse(&status("000001ffffffffff"), Some("user:[4026532000]"));
        assert_eq!(root.user_namespace, UserNamespace::Nested);
        assert!(root.has(Capability::Bpf) && !root.grants(Capability::Bpf));
        assert_eq!(root.missing().count(), Capability::ALL.len());
    }

    #[test]
    fn an_unreadable_status_grants_nothing_and_lacks_nothing() {
        for bytes in [&b""[..], b"CapEff:\tnothex\nUid:\t1\n", b"CapEff:\t\xff\n"] {
            let privilege = Privilege::parse(bytes, None);
            assert_eq!((privilege.euid, privilege.missing().count()), (None, 0));
            assert!(privilege.capabilities.is_empty() && !privilege.grants(Capability::Bpf));
            assert_eq!(privilege.user_namespace, UserNamespace::Unknown);
        }
    }
}
