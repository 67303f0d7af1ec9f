//! The OCI image: one static program and its licences, in an archive that podman and skopeo load.
//!
//! An image of one layer is three short JSON documents, so it is written here.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::{NAME, release::Release, stage::Stage, sums::sha256};
use crate::paths;

/// Where the image has the program.
const PROGRAM: &str = "usr/bin/tracker";

/// A file or, if it ends in `/`, a directory.
struct Entry {
    path: String,
    bytes: Vec<u8>,
    mode: u32,
}

impl Entry {
    fn file(path: &str, bytes: Vec<u8>) -> Self {
        let (path, mode) = (path.to_owned(), 0o644);
        Self { path, bytes, mode }
    }
}

/// Writes the image of what was staged.
pub fn write(release: &Release, stage: &Stage, out: &Path) -> Result<PathBuf> {
    let image = archive(&layout(release, &contents(stage)?)?, release.epoch)?;
    let file = out.join(format!("{NAME}-{}.oci.tar", release.version));
    fs::write(&file, image).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// The files of the image; `/tmp` because a program may expect one.
fn contents(stage: &Stage) -> Result<Vec<Entry>> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let docs = format!("usr/share/doc/{NAME}");
    let mut entries = vec![Entry {
        path: "tmp/".to_owned(),
        bytes: Vec::new(),
        mode: 0o1777,
    }];
    let program = Entry::file(PROGRAM, read(&stage.program)?);
    entries.push(Entry {
        mode: 0o755,
        ..program
    });
    for name in ["LICENSE-APACHE", "LICENSE-GPL-2.0", "LICENSE-MIT"] {
        let text = read(&paths::root().join(name))?;
        entries.push(Entry::file(&format!("{docs}/{name}"), text));
    }
    let theirs = format!("{docs}/third-party-licences.txt");
    entries.push(Entry::file(&theirs, read(&stage.licences)?));
    Ok(entries)
}

/// An image layout: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.
fn layout(release: &Release, contents: &[Entry]) -> Result<Vec<Entry>> {
    let layer = archive(contents, release.epoch)?;
    let uncompressed = digest(&layer);
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    let layer = gzip.write_all(&layer).and_then(|()| gzip.finish());
    let layer = layer.context("cannot compress the layer")?;

    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": release.time,
        "config": {
            "Entrypoint": [format!("/{PROGRAM}")],
            "Cmd": ["agent"],
            "ExposedPorts": { "19943/tcp": {} },
            "StopSignal": "SIGTERM",
        },
        "rootfs": { "type": "layers", "diff_ids": [uncompressed] },
        "history": [{ "created": release.time, "created_by": "cargo xtask dist" }],
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar+gzip", &layer)],
        "annotations": {
            "org.opencontainers.image.title": NAME,
            "org.opencontainers.image.version": release.version,
            "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            "org.opencontainers.image.created": release.time,
        },
    });
    let manifest = manifest.to_string().into_bytes();
    let mut named = descriptor("manifest.v1+json", &manifest);
    named["annotations"] = json!({
        "org.opencontainers.image.ref.name": format!("{NAME}:{}", release.version),
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [named],
    });

    let mut files = vec![
        Entry::file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        Entry::file("index.json", index.to_string().into_bytes()),
    ];
    for blob in [config, manifest, layer] {
        let path = format!("blobs/sha256/{}", sha256(&blob));
        files.push(Entry::file(&path, blob));
    }
    Ok(files)
}

/// What refers to a blob of the image.
fn descriptor(kind: &str, blob: &[u8]) -> Value {
    json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": digest(blob),
        "size": blob.len(),
    })
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", sha256(blob))
}

/// A tar archive with the directories above each entry, all of root and of one time.
fn archive(entries: &[Entry], epoch: u64) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    let mut made: Vec<&str> = Vec::new();
    for Entry { path, bytes, mode } in entries {
        for (end, _) in path.match_indices('/') {
            let above = &path[..=end];
            if !made.contains(&above) {
                made.push(above);
                let mode = if above == path { *mode } else { 0o755 };
                append(&mut archive, above, &[], mode, epoch)?;
            }
        }
        if !path.ends_with('/') {
            append(&mut archive, path, bytes, *mode, epoch)?;
        }
    }
    archive.into_inner().context("cannot end an archive")
}

fn append(
    archive: &mut Builder<Vec<u8>>,
    path: &str,
    bytes: &[u8],
    mode: u32,
    epoch: u64,
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(if path.ends_with('/') {
        EntryType::Directory
    } else {
        EntryType::Regular
    });
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(epoch);
    header.set_uid(0);
    header.set_gid(0);
    archive
        .append_data(&mut header, path, bytes)
        .with_context(|| format!("cannot archive {path}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::{collections::BTreeMap, io::Read as _};

    use flate2::read::GzDecoder;
    use tar::Archive;

    use super::*;

    fn image() -> Vec<u8> {
        let release = Release {
            version: "1.2.3".to_owned(),
            epoch: 1_700_000_000,
            time: "2023-11-14T22:13:20Z".to_owned(),
        };
        let program = Entry {
            mode: 0o755,
            ..Entry::file(PROGRAM, b"program".to_vec())
        };
        archive(&layout(&release, &[program]).unwrap(), release.epoch).unwrap()
    }

    /// Each entry's mode and bytes; all are of root and of the release's time.
    fn unpacked(tar: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = Archive::new(tar);
        let entries = archive.entries().unwrap();
        let one = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            let owner = [header.uid().unwrap(), header.gid().unwrap()];
            assert_eq!((owner, header.mtime().unwrap()), ([0, 0], 1_700_000_000));
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            (path, (header.mode().unwrap(), bytes))
        };
        entries.map(one).collect()
    }

    #[test]
    fn the_index_leads_to_the_program() {
        let image = unpacked(&image());
        assert_eq!(image["oci-layout"].1, br#"{"imageLayoutVersion":"1.0.0"}"#);
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let hex = digest.strip_prefix("sha256:").unwrap();
            let bytes = image[&format!("blobs/sha256/{hex}")].1.clone();
            assert_eq!((sha256(&bytes).as_str(), descriptor["size"].as_u64()), {
                (hex, Some(bytes.len() as u64))
            });
            bytes
        };
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();

        let index = read(&image["index.json"].1);
        let manifest = read(&blob(&index["manifests"][0]));
        let config = read(&blob(&manifest["config"]));
        assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/tracker");
        let mut layer = Vec::new();
        let compressed = blob(&manifest["layers"][0]);
        GzDecoder::new(&*compressed)
            .read_to_end(&mut layer)
            .unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&layer));
        let files = unpacked(&layer);
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["usr/", "usr/bin/", PROGRAM]);
        assert_eq!(files[PROGRAM], (0o755, b"program".to_vec()));
        assert_eq!(files["usr/"].0, 0o755);
    }

    #[test]
    fn twice_the_same_bytes() {
        assert!(image() == image());
    }
}
