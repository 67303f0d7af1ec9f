//! Finds the processes that selectors select.

use std::collections::BTreeSet;
use std::fs;

use super::selector::{ProcessSelector, SelectorTraits};
use crate::agent::discovery::key;
use crate::metrics::label;
use crate::model::ProcessKey;
use uffd::{ProcessStat, UffdError, unless_gone};

/// A process that is to be tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedProcess {
    /// Which process it is.
    pub key: ProcessKey,
    /// Its name; any bytes.
    pub comm: Vec<u8>,
    /// The user who started it, if known.
    pub uid: Option<u32>,
    /// The selector that selects it, the first if several do.
    pub selector: ProcessSelector,
    /// Whether it is to be explained, too.
    pub explained: bool,
}

impl SelectedProcess {
    /// Number, name and user, for people.
    pub fn named(&self) -> String {
        let (pid, comm) = (self.key.pid, label::text(&self.comm));
        match self.uid {
            Some(uid) => format!("{pid} ({comm}, user {uid})"),
            None => format!("{pid} ({comm})"),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundProcesses {
    /// The processes that are selected, those to be explained first: in the order of the selectors,
    /// and for each selector by age, the oldest first.
    pub selected: Vec<SelectedProcess>,
    /// Those asked for by number that live, and that `/proc` does not show.
    pub hidden: BTreeSet<u32>,
}

/// The parent of all kernel threads, and its number where it can be seen at all.
const KTHREADD: (u32, &[u8]) = (2, b"kthreadd");

/// Finds them.
///
/// # Errors
/// If `/proc` cannot be listed.
pub fn find(
    track: &[ProcessSelector],
    explain: &[ProcessSelector],
) -> Result<FoundProcesses, UffdError> {
    let selectors: &[ProcessSelector] = &[explain, track].concat();
    let cgroups = selectors
        .iter()
        .any(|s| matches!(s, ProcessSelector::Cgroup(_)));
    let kernel_threads = cgroups && is_kthreadd(unless_gone(uffd::stat(KTHREADD.0))?.as_ref());
    let (mut found, mut hidden) = (Vec::new(), BTreeSet::new());
    for pid in pids(selectors)? {
        let stat = match uffd::stat(pid) {
            Ok(stat) => stat,
            Err(UffdError::Hidden { pid }) => {
                hidden.insert(pid);
                continue;
            }
            // One that ends meanwhile is selected by nothing.
            Err(_) => continue,
        };
        let of_kernel = kernel_threads && (stat.parent == KTHREADD.0 || pid == KTHREADD.0);
        let cgroup = if cgroups && !of_kernel {
            uffd::cgroup_path(pid).unwrap_or_default()
        } else {
            Vec::new()
        };
        let traits = SelectorTraits {
            comm: stat.comm,
            cgroup,
        };
        let Some(index) = selectors.iter().position(|s| s.matches(pid, &traits)) else {
            continue;
        };
        let process = SelectedProcess {
            key: key(pid, stat.start_time),
            comm: traits.comm,
            // Whose it is stays unknown of one that ends meanwhile.
            uid: uffd::real_uid(pid).unwrap_or_default(),
            selector: selectors[index].clone(),
            explained: index < explain.len(),
        };
        found.push((index, process));
    }
    found.sort_by_key(|(index, found)| (*index, found.key.start_boottime_ns, found.key.pid));
    Ok(FoundProcesses {
        selected: found.into_iter().map(|(_, found)| found).collect(),
        hidden,
    })
}

fn is_kthreadd(stat: Option<&ProcessStat>) -> bool {
    stat.is_some_and(|stat| stat.comm == KTHREADD.1)
}

/// The processes to look at: all but ourselves, or only those given by number.
fn pids(selectors: &[ProcessSelector]) -> Result<BTreeSet<u32>, UffdError> {
    let (mut pids, own) = (BTreeSet::new(), uffd::own_pid_in_proc());
    for selector in selectors {
        match selector {
            ProcessSelector::Pid(pid) => {
                pids.insert(*pid);
            }
            ProcessSelector::Comm(_) | ProcessSelector::Cgroup(_) => {
                let all = fs::read_dir("/proc")
                    .map_err(|error| UffdError::system("cannot list", "/proc", error))?;
                let numbers =
                    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
                pids.extend(numbers.filter(|pid: &u32| Some(*pid) != own));
            }
        }
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn find(track: &[ProcessSelector], explain: &[ProcessSelector]) -> Vec<SelectedProcess> {
        super::find(track, explain).unwrap().selected
    }

    fn selectors(text: &[&str]) -> Vec<ProcessSelector> {
        text.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_process_is_found_by_its_number_and_by_its_name() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let pid = child.id();
        let by_number = find(&selectors(&[&format!("pid:{pid}")]), &[]);
        let by_name = find(&selectors(&["comm:sleep", &format!("pid:{pid}")]), &[]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(by_number.len(), 1);
        assert_eq!(by_number[0].key.pid, pid);
        let ours: Vec<_> = by_name
            .iter()
            .filter(|found| found.key.pid == pid)
            .collect();
        assert_eq!(ours.len(), 1, "one row, whatever selects it");
        assert!(find(&[], &selectors(&[&format!("pid:{pid}")])).is_empty());
    }

    #[test]
    fn neither_kernel_threads_nor_ourselves_are_in_a_control_group() {
        let all = find(&selectors(&["cgroup:/"]), &[]);
        assert!(all.iter().all(|found| found.key.pid != std::process::id()));
        assert!(all.iter().all(|found| found.comm != KTHREADD.1));
    }
}
