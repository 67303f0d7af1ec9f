//! The bill of materials, as CycloneDX: what the program consists of, for those who look for
//! known flaws in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{NAME, crates::LinkedCrate, licences, release::Release, sums};

/// Writes it.
pub fn write(
    release: &Release,
    program: &Path,
    crates: &[LinkedCrate],
    out: &Path,
) -> Result<PathBuf> {
    let digest = sums::of_file(program)?;
    let mut bom = bom(release, &digest, crates);
    if let Some(components) = bom["components"].as_array_mut() {
        components.extend(licences::toolchain()?.iter().map(|part| {
            json!({
                "type": "library",
                "name": part.name,
                "version": part.version,
                "licenses": [{ "expression": part.licence }],
            })
        }));
    }
    let file = out.join(format!("{NAME}-{}.cdx.json", release.version));
    fs::write(&file, format!("{bom:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn bom(release: &Release, digest: &str, crates: &[LinkedCrate]) -> Value {
    let components: Vec<_> = crates.iter().map(component).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": release.time,
            "component": {
                "type": "application",
                "bom-ref": NAME,
                "name": NAME,
                "version": release.version,
                "hashes": [{ "alg": "SHA-256", "content": digest }],
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            },
        },
        "components": components,
    })
}

fn component(one: &LinkedCrate) -> Value {
    // A + would be read as a space.
    let version = one.version.replace('+', "%2B");
    let purl = format!("pkg:cargo/{}@{version}", one.name);
    json!({
        "type": "library",
        "bom-ref": purl,
        "name": one.name,
        "version": one.version,
        "purl": purl,
        "licenses": [{ "expression": one.licence }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_named_as_advisories_name_it() {
        let one = component(&LinkedCrate {
            name: "zstd-sys".to_owned(),
            version: "2.0.1+zstd.1.5".to_owned(),
            licence: "MIT".to_owned(),
            directory: PathBuf::new(),
        });
        assert_eq!(one["purl"], "pkg:cargo/zstd-sys@2.0.1%2Bzstd.1.5");
        assert_eq!(one["version"], "2.0.1+zstd.1.5");
    }
}
