//! The kernel modules that a guest's devices need, in the order in which they load.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::setup::kernels::GuestKernel;

/// The driver of the bus between network card, disk and guest.
pub const BUS: &str = "virtio_pci";
/// The driver of the network card.
pub const NETWORK: &str = "virtio_net";
/// The driver of the disk.
pub const DISK: &str = "virtio_blk";

/// A module that can be loaded.
pub struct KernelModule {
    /// Its name, with `_` for `-`.
    pub name: String,
    /// Its ELF file, uncompressed.
    pub code: Vec<u8>,
}

/// The modules to load for these drivers; none for those that are built in.
pub fn of(kernel: &GuestKernel, drivers: &[&str]) -> Result<Vec<KernelModule>> {
    let Some(dir) = &kernel.modules else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    find_all(dir, &mut files)?;
    let list = fs::read_to_string(dir.join("modules.builtin")).ok();
    let built_in = |driver: &str| is_built_in(driver, list.as_deref(), &files);
    let mut order = Vec::new();
    for driver in drivers.iter().filter(|driver| !built_in(driver)) {
        load_order(driver, &files, &mut order).with_context(|| {
            format!(
                "kernel {} has no driver {driver}, which the guest needs",
                kernel.release
            )
        })?;
    }
    Ok(order)
}

/// Whether a driver is in the kernel itself. Debian's package of 7.3 has no list of these: what is
/// no module there is taken for built in, and a guest that lacks it says so.
fn is_built_in(driver: &str, list: Option<&str>, files: &[PathBuf]) -> bool {
    match list {
        Some(list) => list.lines().any(|line| module_name(line) == driver),
        None => !files
            .iter()
            .any(|file| module_name(&file.to_string_lossy()) == driver),
    }
}

/// Appends `name` to `order`, after the modules that it needs by its own `depends=`: an unpacked
/// package has no modules.dep, which depmod writes at installation.
fn load_order(name: &str, files: &[PathBuf], order: &mut Vec<KernelModule>) -> Result<()> {
    if order.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let file = files
        .iter()
        .find(|file| module_name(&file.to_string_lossy()) == name)
        .with_context(|| format!("there is no module {name}"))?;
    let code = read(file)?;
    for needed in depends(&code) {
        load_order(&needed, files, order)?;
    }
    order.push(KernelModule {
        name: name.to_owned(),
        code,
    });
    Ok(())
}

/// Appends all module files under `dir` to `files`.
fn find_all(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if path.is_dir() && !is_link {
            find_all(&path, files)?;
        } else if entry.file_name().to_string_lossy().contains(".ko") {
            files.push(path);
        }
    }
    Ok(())
}

/// The name of the module in the file `path`: without directory and suffix, and with `_` for `-`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// The modules that the `.modinfo` of a module says it needs.
fn depends(code: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = code.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = code[at + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// The content of `file`, unpacked by the tool that its suffix calls for.
fn read(file: &Path) -> Result<Vec<u8>> {
    let about = || format!("cannot read {}", file.display());
    let tool = match file.extension().and_then(|ext| ext.to_str()) {
        Some("ko") => return fs::read(file).with_context(about),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => bail!("{} is compressed in an unknown way", file.display()),
    };
    let out = Command::new(tool)
        .args(["-dc"])
        .arg(file)
        .output()
        .with_context(|| {
            format!(
                "{tool} is needed to unpack {}: install the package of that name",
                file.display()
            )
        })?;
    if !out.status.success() {
        bail!(
            "{tool} cannot unpack {}: {}",
            file.display(),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    Ok(out.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_a_driver_that_is_no_module_is_built_in() {
        let files = [PathBuf::from("kernel/drivers/net/virtio_net.ko.xz")];
        let list = "kernel/drivers/virtio/virtio_pci.ko\n";
        for list in [Some(list), None] {
            assert!(is_built_in(BUS, list, &files));
            assert!(!is_built_in(NETWORK, list, &files));
        }
        assert!(!is_built_in(DISK, Some(list), &files));
    }

    #[test]
    fn modules_are_known_by_name() {
        assert_eq!(
            module_name("kernel/drivers/net/virtio_net.ko.xz"),
            "virtio_net"
        );
        assert_eq!(module_name("net-failover.ko"), "net_failover");
    }

    #[test]
    fn what_a_module_needs_is_in_its_own_words() {
        assert_eq!(
            depends(b"ELF\0license=GPL\0depends=net_failover,virtio-ring\0x=y\0"),
            ["net_failover", "virtio_ring"]
        );
        assert_eq!(
            depends(b"ELF\0depends=\0retpoline=Y\0"),
            Vec::<String>::new()
        );
        assert_eq!(depends(b""), Vec::<String>::new());
    }
}
