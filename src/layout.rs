//! The project's images as files: `.twostage/images/` is an OCI layout that skopeo reads, beside the Dockerfiles.
//!
//! The embedded engine's store and this layout have the same blobs: where both are on one disk each is there once.
//! A killed run leaves the old index, or the new one with all its blobs, and blobs of neither: the next one removes those.

use crate::session::write_atomically;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use twostage_engine::Location;
use twostage_image::oci::{Descriptor, Index, LAYOUT, MANIFEST, Manifest};
use twostage_model::error::OrFail as _;
use twostage_model::names::UNFINISHED;
use twostage_model::{Class, Error, Result, Sha256};

/// The layout of a project.
pub struct Layout(PathBuf);

impl Layout {
    /// The one in a project's `.twostage`; there may be none yet.
    pub fn of(state: &Path) -> Layout {
        Layout(state.join("images"))
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    fn blob(&self, digest: &Sha256) -> PathBuf {
        self.0.join("blobs/sha256").join(digest.to_string())
    }

    fn index(&self) -> Result<Vec<Descriptor>> {
        let path = self.0.join("index.json");
        let fail = || format!("cannot read {}", path.display());
        match fs::read(&path) {
            Ok(bytes) => {
                let index: Index = serde_json::from_slice(&bytes)
                    .or_fail(Class::Project, fail)
                    .map_err(|error| error.hint("remove that file; `twostage runtime --engine embedded` writes it again"))?;
                Ok(index.manifests)
            }
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(cause) => Err(cause).or_fail(Class::System, fail),
        }
    }

    /// The digest of the manifest of each image, by its name.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn images(&self) -> Result<BTreeMap<String, Sha256>> {
        let named = self.index()?.into_iter().filter_map(|image| Some((image.name()?.to_string(), image.digest)));
        named.map(|(name, digest)| Ok((name, digest.parse()?))).collect()
    }

    /// Takes in an image of an engine's layout as `name`, and gives up those that are none of `names`.
    ///
    /// # Errors
    /// The engine's files are not there any more, or these cannot be written.
    pub fn take(&self, name: &str, image: &Location, names: &[&str]) -> Result<()> {
        let folder = self.0.join("blobs/sha256");
        fs::create_dir_all(&folder).or_fail(Class::System, || format!("cannot make {}", folder.display()))?;
        let theirs = |digest: &Sha256| image.layout.join("blobs/sha256").join(digest.to_string());
        for digest in image.layers.iter().chain([&image.id, &image.manifest]) {
            same_file(&theirs(digest), &self.blob(digest))?;
        }
        File::open(&folder).and_then(|folder| folder.sync_all()).or_fail(Class::System, || format!("cannot sync {}", folder.display()))?;
        let at = self.blob(&image.manifest);
        let size = fs::metadata(&at).or_fail(Class::System, || format!("cannot read {}", at.display()))?.len();
        let mut index = self.index()?;
        index.retain(|other| other.name().is_some_and(|other| other != name && names.contains(&other)));
        index.push(Descriptor::new(MANIFEST, &image.manifest, size).named(Some(name)));
        self.replace(index)
    }

    /// Gives up an image that is no longer what the project has by that name.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn forget(&self, name: &str) -> Result<()> {
        let mut index = self.index()?;
        let before = index.len();
        index.retain(|other| other.name() != Some(name));
        if index.len() == before { Ok(()) } else { self.replace(index) }
    }

    fn replace(&self, mut manifests: Vec<Descriptor>) -> Result<()> {
        manifests.sort_by(|a, b| a.name().cmp(&b.name()));
        let mut needed = BTreeSet::new();
        for image in &manifests {
            let digest: Sha256 = image.digest.parse()?;
            let path = self.blob(&digest);
            let fail = || format!("cannot read {}", path.display());
            let manifest: Manifest =
                serde_json::from_slice(&fs::read(&path).or_fail(Class::System, fail)?).or_fail(Class::Project, fail)?;
            needed.insert(digest.to_string());
            needed
                .extend(manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest.trim_start_matches("sha256:").to_string()));
        }
        let json = serde_json::to_vec(&Index::of(manifests)).or_fail(Class::System, || "cannot write JSON".into())?;
        let mark = self.0.join("oci-layout");
        if !mark.exists() {
            write_atomically(&mark, LAYOUT)?;
        }
        write_atomically(&self.0.join("index.json"), &json)?;
        // Only then: what was there is whole as long as somebody may read it.
        for entry in fs::read_dir(self.0.join("blobs/sha256")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !needed.contains(&name) {
                fs::remove_file(entry.path()).or_fail(Class::System, || format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

/// Another name of a file, or where that cannot be a copy.
fn same_file(from: &Path, to: &Path) -> Result<()> {
    let fail = || format!("cannot keep {}", to.display());
    let size = |path: &Path| fs::metadata(path).map(|file| file.len());
    let length = size(from).map_err(|cause| {
        Error::new(Class::Engine, format!("the engine has no file {} any more", from.display()))
            .because(cause)
            .hint("somebody removed the image meanwhile; run the command again")
    })?;
    if size(to).is_ok_and(|there| there == length) {
        return Ok(());
    }
    match fs::remove_file(to) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause).or_fail(Class::System, fail),
        _ => {}
    }
    // Another disk, one without links, or one that allows no more of them.
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let folder = to.parent().unwrap_or(Path::new("."));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut copy = tempfile::Builder::new().prefix(UNFINISHED).permissions(mode).tempfile_in(folder).or_fail(Class::System, fail)?;
    let mut source = File::open(from).or_fail(Class::System, fail)?;
    std::io::copy(&mut source, &mut copy).or_fail(Class::System, fail)?;
    copy.as_file().sync_all().or_fail(Class::System, fail)?;
    copy.persist(to).map(drop).or_fail(Class::System, fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(folder: &Path, contents: &[&str]) -> Location {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |text: &str| {
            let digest = Sha256::of(text.as_bytes());
            fs::write(blobs.join(digest.to_string()), text).unwrap();
            digest
        };
        let layers: Vec<Sha256> = contents.iter().map(|text| put(text)).collect();
        let id = put(&format!("config of {contents:?}"));
        let blob = |digest: &Sha256| Descriptor::new("text/plain", digest, 1);
        let manifest = Manifest::of(blob(&id), layers.iter().map(blob).collect());
        let manifest = put(&serde_json::to_string(&manifest).unwrap());
        Location { layout: folder.to_path_buf(), manifest, id, layers }
    }

    #[test]
    fn an_image_takes_the_place_of_the_earlier_one_and_its_blobs_go() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::of(&place.path().join("state"));
        let store = place.path().join("store");
        let blobs = || fs::read_dir(layout.folder().join("blobs/sha256")).unwrap().count();
        layout.take("a", &engine(&store, &["base", "first"]), &["a", "b"]).unwrap();
        layout.take("b", &engine(&store, &["base", "other"]), &["a", "b"]).unwrap();
        assert_eq!(blobs(), 3 + 2 * 2);
        let second = engine(&store, &["base", "second"]);
        layout.take("a", &second, &["a", "b"]).unwrap();
        layout.take("a", &second, &["a", "b"]).unwrap();
        assert_eq!(blobs(), 3 + 2 * 2, "what only the first had is gone");
        assert_eq!(layout.images().unwrap()["a"], second.manifest);
        layout.take("a", &second, &["a"]).unwrap();
        assert_eq!((blobs(), layout.images().unwrap().len()), (4, 1), "an image that the project has no more goes");
        layout.forget("a").unwrap();
        assert_eq!((blobs(), layout.images().unwrap().len()), (0, 0));
        assert!(store.join("blobs/sha256").join(second.id.to_string()).exists(), "the engine's own stay");
    }
}
