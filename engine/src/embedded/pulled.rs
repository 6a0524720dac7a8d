//! Images that a registry gave, by the digest that it gave them: `name@sha256:…`.
//!
//! Packed layers become plain ones here, so the digest that a registry knows an image by is that of nothing in the
//! store. It is kept as one more name, whose tag is `sha256-…`, and shown as what it stands for.

use super::images::{self, copy_layers, new_layers, put};
use super::store::Store;
use crate::reference::Reference;
use std::collections::BTreeMap;
use std::path::Path;
use twostage_model::{Class, Error, Result, Sha256};

/// The tag of such a name, before the digest.
const PIN: &str = "sha256-";

/// The name under which an image is found by the digest that its registry knows.
pub(super) fn pinned_name(reference: &str, digest: &Sha256) -> Result<String> {
    let parsed = Reference::parse(reference)?;
    images::new_name(&format!("{}:{PIN}{digest}", parsed.repository))
}

/// `name@sha256:…`, if the name is such a one.
pub(super) fn by_digest(name: &str) -> Option<String> {
    let (repository, digest) = name.rsplit_once(':').and_then(|(name, tag)| Some((name, tag.strip_prefix(PIN)?)))?;
    digest.parse::<Sha256>().ok().map(|digest| format!("{repository}@sha256:{digest}"))
}

/// Takes in the one image of a layout, under these names.
pub(super) fn take_in(store: &Store, layout: &Path, names: &[String]) -> Result<()> {
    let found = twostage_image::Store::open_all(layout, &|diff_id| store.blob(diff_id).exists())?;
    let [image] = found.as_slice() else {
        return Err(Error::new(Class::Engine, format!("there are {} images in it, and one is wanted", found.len())));
    };
    let place = store.workplace()?;
    let mut copied = BTreeMap::new();
    copy_layers(store, &place, image, &image.config.diff_ids, &mut copied)?;
    put(store, &store.change()?, &image.config_json, &new_layers(&image.config.diff_ids, &mut copied), names).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_of_a_registry_is_a_name_and_shown_as_the_digest() {
        let digest = Sha256::of(b"manifest");
        let name = pinned_name("docker.io/library/debian:bookworm", &digest).unwrap();
        assert_eq!(name, format!("debian:sha256-{digest}"));
        assert_eq!(pinned_name(&format!("debian@sha256:{digest}"), &digest).unwrap(), name);
        assert_eq!(by_digest(&name), Some(format!("debian@sha256:{digest}")));
        assert_eq!(by_digest("debian:bookworm"), None);
        assert_eq!(by_digest("localhost:5000/sha256-x"), None);
    }
}
