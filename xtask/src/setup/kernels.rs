//! The kernels of guests: Debian's cloud kernels, unpacked but never installed, or any image given
//! by path.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::paths;

/// Debian's flavour: small, boots in seconds, has BTF, kprobes, soft-dirty and uffd-wp.
const FLAVOUR: &str = "cloud-amd64";

/// A kernel to boot in a guest.
#[derive(Clone, Debug)]
pub struct GuestKernel {
    /// Its name in tables: the series, or the release if it was given by path.
    pub label: String,
    /// As `uname -r` prints it.
    pub release: String,
    /// Path of the bzImage.
    pub image: PathBuf,
    /// Its `lib/modules/RELEASE`, if it has modules.
    pub modules: Option<PathBuf>,
}

/// A kernel on the command line.
#[derive(Clone, Debug)]
pub enum KernelChoice {
    /// A series such as `6.12`, which is fetched if it is not here.
    Series(String),
    /// An image given by path.
    Image(Box<GuestKernel>),
}

impl KernelChoice {
    /// Takes the path of an image, or anything that looks like a series.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains('/') || Path::new(text).is_file() {
            return parse_image(text).map(|kernel| Self::Image(Box::new(kernel)));
        }
        parse_series(text)
            .map(Self::Series)
            .map_err(|advice| format!("{advice}, or the path of an image"))
    }

    /// The kernel, fetched if necessary.
    pub fn prepare(&self) -> Result<GuestKernel> {
        match self {
            Self::Series(series) => prepare(series),
            Self::Image(kernel) => Ok((**kernel).clone()),
        }
    }
}

/// Takes a series from the command line.
pub fn parse_series(text: &str) -> Result<String, String> {
    match parts(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("give a series such as 6.12".to_owned()),
    }
}

/// Takes the path of an image from the command line.
pub fn parse_image(text: &str) -> Result<GuestKernel, String> {
    from_image(Path::new(text)).map_err(|error| format!("{error:#}"))
}

/// The kernel of `series` that is here, or else the archive's newest.
pub fn prepare(series: &str) -> Result<GuestKernel> {
    let dir = dir(series)?;
    match unpacked(series, &dir) {
        Some(kernel) => Ok(kernel),
        None => fetch(series, &dir, None),
    }
}

/// The archive's newest kernel of `series`; replaces an older one that is here.
pub fn refresh(series: &str) -> Result<GuestKernel> {
    let dir = dir(series)?;
    fetch(series, &dir, unpacked(series, &dir))
}

/// Where the kernel of `series` is unpacked.
fn dir(series: &str) -> Result<PathBuf> {
    Ok(paths::tools()?.join("kernels").join(series))
}

/// Fetches the newest kernel of `series` into `dir`, unless `here` is as new.
fn fetch(series: &str, dir: &Path, here: Option<GuestKernel>) -> Result<GuestKernel> {
    let advice = || {
        format!(
            "there is no kernel {series} here. Without Debian's archive, give the path of an image \
             (`cargo xtask test`: --kernel-image PATH) with BTF, kprobes and \
             CONFIG_PTE_MARKER_UFFD_WP"
        )
    };
    let source = apt::PackageSource::open().with_context(advice)?;
    let names = source
        .names(&format!("^linux-(image|binary|modules)-[0-9].*-{FLAVOUR}$"))
        .with_context(advice)?;
    let Some(release) = newest(&names, series) else {
        bail!(
            "Debian's archive has no {FLAVOUR} kernel {series}; it has {}",
            all_series(&names)
        );
    };
    if let Some(kernel) = here
        && !is_newer(release, &kernel.release)
    {
        return Ok(kernel);
    }
    paths::create(paths::tools()?.join("kernels"))?;
    source.unpack(&packages(&names, release), dir)?;
    unpacked(series, dir).with_context(|| format!("the packages of {release} contain no image"))
}

/// The kernel unpacked under `dir`.
fn unpacked(label: &str, dir: &Path) -> Option<GuestKernel> {
    let modules = ["lib/modules", "usr/lib/modules"]
        .iter()
        .filter_map(|sub| fs::read_dir(dir.join(sub)).ok())
        .flat_map(|entries| entries.flatten())
        .map(|entry| entry.path())
        .find(|path| path.is_dir());
    let in_boot = fs::read_dir(dir.join("boot"))
        .ok()
        .into_iter()
        .flatten()
        .flatten();
    let image = in_boot
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz"))
        })
        // Since 7.0 the image is among the modules.
        .or_else(|| {
            modules
                .as_ref()
                .map(|dir| dir.join("vmlinuz"))
                .filter(|p| p.is_file())
        })?;
    let release = read_release(&image).ok()?;
    Some(GuestKernel {
        label: label.to_owned(),
        release,
        image,
        modules,
    })
}

/// The kernel whose image is `path`.
fn from_image(path: &Path) -> Result<GuestKernel> {
    let release = read_release(path)?;
    let modules = Path::new("/lib/modules").join(&release);
    Ok(GuestKernel {
        label: release.clone(),
        image: path.to_owned(),
        modules: Some(modules).filter(|dir| dir.is_dir()),
        release,
    })
}

/// The release in the header of a bzImage.
fn read_release(image: &Path) -> Result<String> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    release_in(&bytes).with_context(|| {
        format!(
            "{} is not an x86 kernel image (bzImage, as in /boot/vmlinuz-*)",
            image.display()
        )
    })
}

/// `Documentation/arch/x86/boot.rst`: `kernel_version` at 0x20e, relative to 0x200.
fn release_in(image: &[u8]) -> Option<String> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let offset = u16::from_le_bytes([*image.get(0x20e)?, *image.get(0x20f)?]);
    let text = image.get(usize::from(offset) + 0x200..)?;
    let end = text
        .iter()
        .take(256)
        .position(|byte| matches!(byte, 0 | b' '))?;
    String::from_utf8(text[..end].to_vec())
        .ok()
        .filter(|release| !release.is_empty())
}

/// The newest release of `series` that has an image among the packages `names`.
fn newest<'a>(names: &'a [String], series: &str) -> Option<&'a str> {
    let wanted = parts(series)?;
    let images = names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-"));
    images
        .filter(|release| parts(release).is_some_and(|parts| parts.starts_with(&wanted)))
        .max_by_key(|release| parts(release))
}

/// Whether `release` comes after `than`.
fn is_newer(release: &str, than: &str) -> bool {
    parts(release) > parts(than)
}

/// The packages that together contain `release`: one up to 6.18, three after that.
fn packages(names: &[String], release: &str) -> Vec<String> {
    ["image", "binary", "modules"]
        .iter()
        .map(|part| format!("linux-{part}-{release}"))
        .filter(|name| names.contains(name))
        .collect()
}

/// The series of all images among `names`, in order.
fn all_series(names: &[String]) -> String {
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
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// `apt-cache search --names-only` of bookworm, bookworm-security and trixie-backports.
    fn archive() -> Vec<String> {
        include_str!("fixtures/names.txt")
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
    fn a_kernel_on_the_command_line_is_a_series_or_an_image() {
        assert!(matches!(KernelChoice::parse("6.12"), Ok(KernelChoice::Series(s)) if s == "6.12"));
        assert!(
            KernelChoice::parse("bogus")
                .unwrap_err()
                .contains("a series such as 6.12")
        );
        assert!(
            KernelChoice::parse("/no/such/image")
                .unwrap_err()
                .contains("/no/such/image")
        );
        assert!(
            KernelChoice::parse("/etc/passwd")
                .unwrap_err()
                .contains("not an x86 kernel")
        );
    }

    #[test]
    fn what_the_archive_has_is_listed() {
        assert_eq!(all_series(&archive()), "6.1, 6.12, 6.18, 7.2, 7.3");
    }

    #[test]
    fn an_image_tells_its_release() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x313].copy_from_slice(b"6.12.117+deb12 (x) ");
        assert_eq!(release_in(&image).unwrap(), "6.12.117+deb12");
        assert_eq!(release_in(&image[..0x280]), None);
        assert_eq!(release_in(b"\x7fELF"), None);
    }
}
