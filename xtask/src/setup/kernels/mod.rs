//! The kernels of guests: Debian's, unpacked but never installed, or any image given by path.

mod image;
pub mod releases;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::paths;
use image::read_release;

/// Debian's flavour: small, boots in seconds, has BTF, kprobes, soft-dirty and uffd-wp.
const CLOUD: &str = "cloud-amd64";
/// The flavour with PREEMPT_RT.
const REALTIME: &str = "rt-amd64";
/// How a series ends of which that one is meant.
const REALTIME_SUFFIX: &str = "-rt";

/// The flavour of a series.
fn flavour(series: &str) -> &'static str {
    if series.ends_with(REALTIME_SUFFIX) {
        REALTIME
    } else {
        CLOUD
    }
}

/// Where packages have modules.
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

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
    /// A series such as `6.12` or `6.12-rt`, which is fetched if it is not here.
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
    match releases::parts(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("give a series such as 6.12 or 6.12-rt".to_owned()),
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
    let flavour = flavour(series);
    let names = source
        .names(&format!("^linux-(image|binary|modules)-[0-9].*-{flavour}$"))
        .with_context(advice)?;
    let Some(release) = releases::newest(&names, series) else {
        bail!(
            "Debian's archive has no {flavour} kernel {series}; it has {}",
            releases::all_series(&names)
        );
    };
    if let Some(kernel) = here
        && !releases::is_newer(release, &kernel.release)
    {
        return Ok(kernel);
    }
    paths::create(paths::tools()?.join("kernels"))?;
    source.unpack(&releases::packages(&names, release), dir)?;
    unpacked(series, dir).with_context(|| format!("the packages of {release} contain no image"))
}

/// The kernel unpacked under `dir`.
fn unpacked(label: &str, dir: &Path) -> Option<GuestKernel> {
    let modules = MODULES
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

/// The kernel whose image is `path`. Its modules are where its package has them, or where they are
/// installed.
fn from_image(path: &Path) -> Result<GuestKernel> {
    let release = read_release(path)?;
    let modules = modules_of(path, &release, Path::new("/"));
    Ok(GuestKernel {
        label: release.clone(),
        image: path.to_owned(),
        modules,
        release,
    })
}

/// The modules of an image: it is among them, or in the `boot` beside them, or they are below
/// `root`.
fn modules_of(image: &Path, release: &str, root: &Path) -> Option<PathBuf> {
    let image = fs::canonicalize(image).ok()?;
    let beside = image.parent()?;
    let package = beside.parent().filter(|_| beside.ends_with("boot"));
    let roots = package.into_iter().chain([root]);
    let below = roots.flat_map(|root| MODULES.map(|dir| root.join(dir).join(release)));
    let mut all = [beside.to_owned()].into_iter().chain(below);
    all.find(|dir| dir.join("kernel").is_dir())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_image_comes_with_its_modules() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let image = root.join("boot/vmlinuz-6.9.1");
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        fs::write(&image, "").unwrap();
        let nowhere = Path::new("/nowhere");
        assert_eq!(modules_of(&image, "6.9.1", nowhere), None);
        let modules = root.join("usr/lib/modules/6.9.1");
        fs::create_dir_all(modules.join("kernel")).unwrap();
        assert_eq!(modules_of(&image, "6.9.1", nowhere).unwrap(), modules);
        let inside = modules.join("vmlinuz");
        fs::write(&inside, "").unwrap();
        assert_eq!(modules_of(&inside, "6.9.1", nowhere).unwrap(), modules);
        let other = root.join("vmlinuz");
        fs::write(&other, "").unwrap();
        assert_eq!(modules_of(&other, "6.9.1", nowhere), None);
        assert_eq!(modules_of(&other, "6.9.1", &root).unwrap(), modules);
    }

    #[test]
    fn a_series_tells_its_flavour() {
        assert_eq!(flavour("6.12"), "cloud-amd64");
        assert_eq!(flavour("6.12-rt"), "rt-amd64");
        assert_eq!(releases::parts("6.12-rt"), releases::parts("6.12"));
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
}
