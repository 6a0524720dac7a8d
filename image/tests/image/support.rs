//! Tars, layers and archives, made in code.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use twostage_image::audit::audit_store;
use twostage_image::{Base, Known, Remember, Remembered, Report, Store, audit_with, read_archive, wanted};
use twostage_model::{Result, Sha256};

/// A tar in the making.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Tar(tar::Builder::new(Vec::new()))
    }

    fn header(kind: u8, size: usize, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size as u64);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header
    }

    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.file_with(path, content, 0o644, 0)
    }

    pub fn file_with(mut self, path: &str, content: impl AsRef<[u8]>, mode: u32, uid: u64) -> Self {
        let content = content.as_ref();
        let mut header = Self::header(b'0', content.len(), mode);
        header.set_uid(uid);
        self.0.append_data(&mut header, path, content).unwrap();
        self
    }

    pub fn dir(mut self, path: &str) -> Self {
        self.0.append_data(&mut Self::header(b'5', 0, 0o755), path, &[][..]).unwrap();
        self
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.0.append_link(&mut Self::header(b'2', 0, 0o777), path, target).unwrap();
        self
    }

    pub fn hardlink(mut self, path: &str, target: &str) -> Self {
        self.0.append_link(&mut Self::header(b'1', 0, 0o644), path, target).unwrap();
        self
    }

    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    /// A member with exactly this name, which may be one that no tool writes.
    pub fn raw(mut self, kind: u8, path: &[u8], link: &[u8], content: &[u8]) -> Self {
        let mut header = Self::header(kind, content.len(), 0o644);
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub fn device(mut self, kind: u8, path: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind, 0, 0o600);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.0.append_data(&mut header, path, &[][..]).unwrap();
        self
    }

    /// What [`Tar::done`] would give.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.get_ref().clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    pub fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn config(layers: &[Vec<u8>]) -> String {
    config_with(layers, r#""Env":["PATH=/usr/bin"],"Cmd":["sh"]"#)
}

pub fn config_with(layers: &[Vec<u8>], run: &str) -> String {
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"sha256:{}\"", Sha256::of(layer))).collect();
    let history: Vec<String> = (0..layers.len()).map(|i| format!("{{\"created_by\":\"RUN step{i}\"}}")).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{{run}}},"rootfs":{{"type":"layers","diff_ids":[{}]}},"history":[{}]}}"#,
        ids.join(","),
        history.join(",")
    )
}

/// As docker 20.10 saves it; a layer that was there before is a link to it.
pub fn docker_old(layers: &[Vec<u8>]) -> Vec<u8> {
    docker_old_with(layers, &config(layers))
}

pub fn docker_old_with(layers: &[Vec<u8>], config: &str) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let name = format!("{number:064x}/layer.tar");
        tar = tar.dir(&format!("{number:064x}/")).file(&format!("{number:064x}/VERSION"), "1.0");
        tar = match layers[..number].iter().position(|earlier| earlier == layer) {
            Some(earlier) => tar.symlink(&name, &format!("../{earlier:064x}/layer.tar")),
            None => tar.file(&name, layer),
        };
        names.push(format!("{name:?}"));
    }
    let id = Sha256::of(config.as_bytes());
    let manifest = format!(r#"[{{"Config":"{id}.json","RepoTags":["test:latest"],"Layers":[{}]}}]"#, names.join(","));
    tar.file(&format!("{id}.json"), config).file("manifest.json", manifest).file("repositories", "{}").done()
}

fn blob(bytes: &[u8]) -> (String, String) {
    let digest = Sha256::of(bytes);
    (format!("blobs/sha256/{digest}"), format!(r#"{{"digest":"sha256:{digest}","size":{}}}"#, bytes.len()))
}

/// The files of an OCI layout whose layers' blobs are `blobs`; docker's own manifest too if asked.
pub fn layout(layers: &[Vec<u8>], blobs: &[Vec<u8>], docker: bool) -> Vec<(String, Vec<u8>)> {
    let config = config(layers);
    let mut files = Vec::new();
    let (config_name, config_descriptor) = blob(config.as_bytes());
    let described: Vec<(String, String)> = blobs.iter().map(|bytes| blob(bytes)).collect();
    files.extend(described.iter().zip(blobs).map(|((name, _), bytes)| (name.clone(), bytes.clone())));
    let list: Vec<&str> = described.iter().map(|(_, descriptor)| descriptor.as_str()).collect();
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config_descriptor},"layers":[{}]}}"#, list.join(","));
    let (manifest_name, manifest_descriptor) = blob(manifest.as_bytes());
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let ours = manifest_descriptor.replace('}', &format!(r#","platform":{{"os":"linux","architecture":"{arch}"}}}}"#));
    let other = ours.replace(arch, "s390x");
    let nested = format!(r#"{{"manifests":[{other},{ours}]}}"#);
    let (nested_name, nested_descriptor) = blob(nested.as_bytes());
    let tagged = nested_descriptor.replace('}', r#","annotations":{"org.opencontainers.image.ref.name":"test:oci"}}"#);
    files.push((config_name.clone(), config.into_bytes()));
    files.push((manifest_name, manifest.into_bytes()));
    files.push((nested_name, nested.into_bytes()));
    files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    files.push(("index.json".into(), format!(r#"{{"manifests":[{tagged}]}}"#).into_bytes()));
    if docker {
        let names: Vec<String> = described.iter().map(|(name, _)| format!("{name:?}")).collect();
        let manifest = format!(r#"[{{"Config":"{config_name}","RepoTags":["test:new"],"Layers":[{}]}}]"#, names.join(","));
        files.push(("manifest.json".into(), manifest.into_bytes()));
    }
    files
}

/// A name and bytes.
pub type Named = (String, Vec<u8>);

/// `index.json` of a layout: the image that the layout of each of these files is, under a name.
pub fn named(images: &[(&str, &[Named])]) -> Named {
    let descriptor = |(name, files): &(&str, &[Named])| {
        // (The index for several machines is the last of the blobs.)
        let nested = files.iter().rfind(|(name, _)| name.starts_with("blobs/")).unwrap();
        blob(&nested.1).1.replace('}', &format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}"#))
    };
    let all: Vec<String> = images.iter().map(descriptor).collect();
    ("index.json".into(), format!(r#"{{"manifests":[{}]}}"#, all.join(",")).into_bytes())
}

/// Writes files into a folder.
pub fn place(folder: &std::path::Path, files: &[Named]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

pub fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut seen = std::collections::BTreeSet::new();
    let unique = files.iter().filter(|(name, _)| seen.insert(name.clone()));
    unique.fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes)).done()
}

/// xorshift: the same numbers each time.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }

    pub fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.next(all.len())]
    }
}

/// The checksum of every header that has one is made right, so that mutations reach what is behind it.
pub fn mend(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// What was kept of layers, and how often it was asked for and there.
#[derive(Default)]
pub struct Memory {
    pub kept: Mutex<BTreeMap<Sha256, Vec<u8>>>,
    pub found: Mutex<u32>,
}

impl Remember for Memory {
    fn get(&self, diff_id: &Sha256) -> Option<Vec<u8>> {
        let found = self.kept.lock().unwrap().get(diff_id).cloned();
        *self.found.lock().unwrap() += u32::from(found.is_some());
        found
    }

    fn put(&self, diff_id: &Sha256, bytes: &[u8]) {
        self.kept.lock().unwrap().insert(*diff_id, bytes.to_vec());
    }
}

/// The audit of an archive that streams by. One that is in a file, and one whose base is remembered, must say the same.
pub fn audited(archive: &[u8], base: Base, known: &Known) -> Result<Report> {
    let streamed = read_archive(archive, &wanted).and_then(|image| audit_with(&image, base, known).map(|report| (image, report)));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(archive).unwrap();
    let memory = Arc::new(Memory::default());
    for way in ["a file", "a file, its base kept", "a file, its base remembered"] {
        let store = Store::open(file.path(), None);
        let store = store.map(|store| if way == "a file" { store } else { store.remembering(Remembered(memory.clone())) });
        match (&streamed, store.and_then(|store| audit_store(&store, base, known))) {
            (Ok((image, report)), Ok((other, stored))) => {
                let [one, two] = [report, &stored].map(|report| serde_json::to_string_pretty(report).unwrap());
                assert_eq!(one, two, "{way}");
                assert_eq!(report.to_html(image).unwrap(), stored.to_html(&other).unwrap(), "{way}");
            }
            (Err(_), Err(_)) => {}
            (one, two) => panic!("{way}: {:?}, but {:?}", one.as_ref().map(drop), two.map(drop)),
        }
    }
    streamed.map(|(_, report)| report)
}
