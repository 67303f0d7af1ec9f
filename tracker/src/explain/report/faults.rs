//! Faults of the process's own tracker by source line: optimised code makes one call from several
//! stacks.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::location::CodeLocation;
use crate::explain::{AuditFinding, AuditKind, ExplainFindings, PlaceId};

/// What is one finding: of a stack without names nothing is known but itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FaultPlace {
    Nowhere,
    Named(CodeLocation),
    Stack(PlaceId),
}

/// All findings of the audit, by kind, those with most pages first.
pub(super) fn faults(findings: &ExplainFindings) -> Vec<AuditFinding> {
    let mut groups: BTreeMap<(AuditKind, FaultPlace), AuditFinding> = BTreeMap::new();
    for found in findings.audit.iter().flat_map(|audit| &audit.found) {
        let place = match found.place {
            None => FaultPlace::Nowhere,
            Some(id) => match findings.stacks.get(&id) {
                Some(stack) => FaultPlace::Named(CodeLocation::new(stack)),
                None => FaultPlace::Stack(id),
            },
        };
        match groups.get_mut(&(found.kind, place.clone())) {
            Some(group) => group.add(found.clone()),
            None => drop(groups.insert((found.kind, place), found.clone())),
        }
    }
    let mut faults: Vec<_> = groups.into_values().collect();
    faults.sort_by_key(|found| (found.kind, Reverse(found.pages)));
    faults
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::explain::sample::half_blind;

    #[test]
    fn stacks_of_one_line_are_one_finding() {
        let mut findings = half_blind();
        let (id, stack) = findings.stacks.iter().next().unwrap();
        let (id, other) = (*id, PlaceId(u32::MAX));
        let stack = stack.clone();
        findings.stacks.insert(other, stack);
        let audit = findings.audit.as_mut().unwrap();
        let first = audit.found.first().unwrap().clone();
        let at = |place| AuditFinding {
            place,
            ..first.clone()
        };
        let unnamed = Some(PlaceId(u32::MAX - 1));
        audit.found = vec![at(Some(id)), at(Some(other)), at(unnamed), at(None)];
        let found = faults(&findings);
        let times: Vec<_> = found.iter().map(|it| it.times).collect();
        assert_eq!(times.iter().sum::<u64>(), 4 * first.times);
        assert!(
            found.len() == 3 && times.contains(&(2 * first.times)),
            "{found:?}"
        );
    }
}
