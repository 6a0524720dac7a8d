//! A yum repository, as createrepo_c makes it: `repodata/repomd.xml` says which list of packages is good.

use super::place::{Place, unpacked};
use super::{Found, From, Reading, Vouched};
use twostage_model::{Class, Error, Result, Sha256};
use twostage_reposerver::foreign::yum::{Repomd, packages};

/// Where it begins.
pub const REPOMD: &str = "repodata/repomd.xml";
/// Bytes of it, at most: real ones have some 5 kB.
pub const MAX_REPOMD: u64 = 4 << 20;

/// Reads it.
///
/// # Errors
/// Nobody vouches for it, or its list is not what it says.
pub fn look(reading: &Reading<'_>, place: Place, repomd: &[u8]) -> Result<Found> {
    if !reading.arguments.component.is_empty() {
        return Err(Error::new(Class::Usage, format!("{} is a yum repository, and has no components", reading.shown))
            .hint("leave out --component; of an apt repository say the suite, too"));
    }
    let vouched = vouched(reading, &place, repomd)?;
    let text = std::str::from_utf8(repomd).map_err(|cause| Error::new(Class::Repository, format!("{REPOMD} is no text")).because(cause))?;
    let repomd = Repomd::parse(text)?;
    let primary = place.index("", &repomd.primary)?;
    let mut all = Vec::new();
    unpacked(&primary, &repomd.primary.path, |plain| {
        packages(plain, |listed| {
            if reading.is_wanted(&listed.item.arch) {
                all.push(listed);
            }
            Ok(())
        })
    })?;
    for (kind, file) in &repomd.extras {
        reading.note(format!("{} ({kind:?}) is not imported: `twostage publish` takes it, unpacked", file.path));
    }
    Ok(Found { packages: all, from: From::Index { place, vouched, in_urls: true } })
}

fn vouched(reading: &Reading<'_>, place: &Place, repomd: &[u8]) -> Result<Vouched> {
    let (Some(keys), None) = (&reading.keys, reading.arguments.unsigned) else {
        return reading.unsigned(place, REPOMD, &Sha256::of(repomd));
    };
    let signature = match place.get("repodata/repomd.xml.asc", MAX_REPOMD)? {
        Some(signature) => signature,
        // Of a folder of this machine the key may be that of the packages alone.
        None if !place.needs_key() => return Ok(Vouched::Nobody),
        None => {
            let cause = Error::new(Class::Repository, "there is no repodata/repomd.xml.asc");
            let digest = Sha256::of(repomd);
            return Err(reading.not_signed(REPOMD, cause).hint(format!(
                "where only the packages are signed, say --unsigned {digest} besides, if that is the repomd.xml that is meant: --keyring is then \
                 the key of the packages"
            )));
        }
    };
    let key = keys.beside(repomd, &signature, reading.session.now).map_err(|cause| reading.not_signed(REPOMD, cause))?;
    Ok(Vouched::Signed(key))
}

impl Reading<'_> {
    /// Whether packages of an architecture are asked for. Those for all are.
    pub fn is_wanted(&self, arch: &str) -> bool {
        self.arguments.arch.is_empty() || ["all", "noarch"].contains(&arch) || self.arguments.arch.iter().any(|name| name == arch)
    }

    /// Whether an index that no key is asked of may be believed.
    ///
    /// # Errors
    /// It has another digest than a person said, or needs a key.
    pub fn unsigned(&self, place: &Place, name: &str, digest: &Sha256) -> Result<Vouched> {
        match &self.arguments.unsigned {
            Some(pinned) if pinned == digest => Ok(Vouched::Pinned),
            Some(pinned) => Err(Error::new(Class::Repository, format!("{name} of {} is not the one that --unsigned names", self.shown))
                .because(format!("it has the digest {digest}, and --unsigned says {pinned}"))
                .hint("if it has changed and that is meant, say the new digest")),
            None if !place.needs_key() => Ok(Vouched::Nobody),
            None => Err(Error::new(Class::Usage, format!("who vouches for {}?", self.shown)).hint(format!(
                "say --keyring FILE, with the public key that signs it; or, where nobody signs it, --unsigned {digest}, if that is the {name} that \
                 is meant"
            ))),
        }
    }

    /// The error for an index that is not signed by the key that was named.
    pub fn not_signed(&self, name: &str, cause: Error) -> Error {
        Error::new(Class::Repository, format!("nobody who is trusted signed {name} of {}", self.shown))
            .because(cause)
            .hint("name the key of its owner with --keyring, from a place that you trust")
    }
}
