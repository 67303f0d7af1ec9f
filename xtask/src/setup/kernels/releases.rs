//! Releases of kernels in Debian's archive: numbers, order, packages.

/// The newest release of `series` that has an image among the packages `names`.
pub fn newest<'a>(names: &'a [String], series: &str) -> Option<&'a str> {
    let wanted = parts(series)?;
    let images = names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-"));
    images
        .filter(|release| parts(release).is_some_and(|parts| parts.starts_with(&wanted)))
        .max_by_key(|release| parts(release))
}

/// Whether `release` comes after `than`.
pub fn is_newer(release: &str, than: &str) -> bool {
    parts(release) > parts(than)
}

/// The packages that together contain `release`: one up to 6.18, three after that.
pub fn packages(names: &[String], release: &str) -> Vec<String> {
    ["image", "binary", "modules"]
        .iter()
        .map(|part| format!("linux-{part}-{release}"))
        .filter(|name| names.contains(name))
        .collect()
}

/// The series of all images among `names`, in order.
pub fn all_series(names: &[String]) -> String {
    let images = names
        .iter()
        .filter_map(|name| parts(name.strip_prefix("linux-image-")?));
    let mut series: Vec<Vec<u64>> = images
        .map(|mut p| {
            p.truncate(2);
            p
        })
        .collect();
    series.sort();
    series.dedup();
    let series: Vec<String> = series
        .iter()
        .map(|p| p.iter().map(u64::to_string).collect::<Vec<_>>().join("."))
        .collect();
    series.join(", ")
}

/// The numbers of a version: 6, 12, 117 for `6.12.117+deb12-cloud-amd64`, and 6, 1, 0, 56 for
/// `6.1.0-56-cloud-amd64`. `None` if it does not start with two numbers.
pub fn parts(version: &str) -> Option<Vec<u64>> {
    let head = version.split(['+', '~']).next()?;
    let numbers: Vec<u64> = head
        .split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .collect();
    (numbers.len() >= 2).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `apt-cache search --names-only` of bookworm, bookworm-security and trixie-backports.
    fn archive() -> Vec<String> {
        include_str!("../fixtures/names.txt")
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_newest_release_is_chosen_by_number() {
        let names = archive();
        assert_eq!(newest(&names, "6.1"), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(newest(&names, "6.12"), Some("6.12.117+deb12-cloud-amd64"));
        assert_eq!(newest(&names, "6.18"), Some("6.18.15+deb13-cloud-amd64"));
        assert_eq!(newest(&names, "7.2"), Some("7.2.12+deb13-cloud-amd64"));
        assert_eq!(newest(&names, "6.18.9"), Some("6.18.9+deb13-cloud-amd64"));
        assert_eq!(newest(&names, "5.10"), None);
    }

    #[test]
    fn a_kernel_is_replaced_by_a_newer_one_only() {
        let (here, newer) = ("6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64");
        assert!(is_newer(newer, here));
        assert!(!is_newer(newer, newer));
        // A mirror may be behind the one it came from.
        assert!(!is_newer(here, newer));
        assert!(is_newer(
            "6.12.117+deb12-cloud-amd64",
            "6.12.98+deb12-cloud-amd64"
        ));
    }

    #[test]
    fn a_split_release_needs_all_its_packages() {
        let names = archive();
        assert_eq!(packages(&names, "6.18.15+deb13-cloud-amd64").len(), 1);
        assert_eq!(packages(&names, "7.3.4+deb13-cloud-amd64").len(), 3);
    }

    #[test]
    fn a_series_is_numbers() {
        assert_eq!(parts("6.12"), Some(vec![6, 12]));
        for wrong in ["", "6", "bzImage", "six.one"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_the_archive_has_is_listed() {
        assert_eq!(all_series(&archive()), "6.1, 6.12, 6.18, 7.2, 7.3");
    }
}
