//! The systemd unit as packages have it: that of `deploy/`, with the paths of a package.

use anyhow::{Result, bail};

/// The unit of `deploy/`.
const UNIT: &str = include_str!("../../../deploy/tracker.service");

/// What differs in it.
const PATHS: [[&str; 2]; 2] = [
    ["=/usr/local/bin/tracker ", "=/usr/bin/tracker "],
    [
        "=-/etc/default/tracker\n",
        "=-/etc/default/uffdwp-tracker\n",
    ],
];

/// Its first lines, instead of how to install it by hand.
const HEAD: &str = "\
# The agent on one host; /usr/share/doc/uffdwp-tracker/README.md says more.
# Options: /etc/default/uffdwp-tracker. Changes of this file: systemctl edit uffdwp-tracker
";

/// The text of `uffdwp-tracker.service`.
pub fn packaged() -> Result<String> {
    let body = UNIT.find("[Unit]").map(|at| &UNIT[at..]);
    let Some(mut body) = body.map(str::to_owned) else {
        bail!("deploy/tracker.service has no [Unit]");
    };
    for [ours, packaged] in PATHS {
        if body.matches(ours).count() != 1 {
            bail!("deploy/tracker.service is to have {:?} once", ours.trim());
        }
        body = body.replace(ours, packaged);
    }
    Ok(format!("{HEAD}{body}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_unit_differs_from_that_of_deploy_in_its_paths_only() {
        let packaged = packaged().unwrap();
        let settings = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        let (ours, theirs) = (settings(UNIT), settings(&packaged));
        let differ: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).collect();
        assert_eq!(
            differ,
            [
                "ExecStart=/usr/bin/tracker agent",
                "EnvironmentFile=-/etc/default/uffdwp-tracker"
            ]
        );
        assert_eq!(ours.len(), theirs.len());
        assert!(!packaged.contains("/usr/local") && !packaged.contains("install -m"));
    }
}
