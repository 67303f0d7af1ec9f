//! The release of a kernel, from its image.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// The release in the header of a bzImage.
pub fn read_release(image: &Path) -> Result<String> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

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
