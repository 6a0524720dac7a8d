//! The index files of a snapshot, made from what the catalog has of its packages.

use crate::apt::{self, Listed};
use crate::assemble::{self, Base, Blocks, Made, Outline, Packing};
use crate::catalog::{Entry, Rendered};
use crate::rpms::Served;
use crate::sign::Key;
use crate::snapshot::{Files, HeldIndexes, IndexBody, Signed, Snapshot, Snapshots};
use crate::{Kind, PoolPackage, disk, lock, pool, workers, yum};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId};
use twostage_package::rpm::Header;

/// A snapshot whose index files the next one is made from.
pub(crate) struct BaseSnapshot<'a> {
    snapshot: &'a Snapshot,
    blocks: Blocks,
}

/// Rpms whose texts are in memory at once.
const RENDERED_AT_ONCE: usize = 512;

impl Snapshots {
    /// [`Snapshots::render_once`], and again where a text of the catalog is damaged: the catalog is made anew then.
    pub(crate) fn render(&self, list: String, entries: &[Arc<Entry>], date: i64, base: Option<&Snapshot>) -> Result<Snapshot> {
        let list = Bytes::from(list);
        match self.render_once(&list, entries, date, base) {
            Err(error) if !error.is_unread() && self.pool.catalog.is_damaged() => {
                self.pool.catalog.discard(self.root.scratch()?)?;
                self.root.mend("the catalog was damaged, and is made anew from the packages".into());
                let digests: Vec<Sha256> = entries.iter().map(|entry| entry.sha256).collect();
                let mut entries = self.pool.entries_again(digests.iter())?;
                pool::sort(&mut entries);
                self.render_once(&list, &entries, date, base)
            }
            other => other,
        }
    }

    fn render_once(&self, list: &Bytes, entries: &[Arc<Entry>], date: i64, base: Option<&Snapshot>) -> Result<Snapshot> {
        let key = self.signing.key(date)?;
        let texts = self.yum_texts(entries, &key)?;
        let earlier = base.and_then(|snapshot| Some(BaseSnapshot { snapshot, blocks: self.blocks_of(&snapshot.id)? }));
        let mut held = HeldIndexes::default();
        let apt = self.render_apt(entries, earlier.as_ref(), &mut held)?;
        let yum = self.render_yum(entries, &texts, &key, earlier.as_ref(), &mut held)?;
        let files = Files { apt, yum };
        let signed = Signed::new(&key, &self.settings.origin, date, None, &files)?;
        let members = entries.iter().map(|entry| entry.sha256).collect();
        Ok(Snapshot { id: SnapshotId(Sha256::of(list)), list: list.clone(), members, files, signed, held: Some(held) })
    }

    /// Makes indexes, each by its name in `blocks`, on all processors.
    fn assemble_all(&self, outlines: &[(String, Outline, Vec<Packing>)], earlier: Option<&BaseSnapshot<'_>>) -> Result<Vec<Made>> {
        let packs = self.pool.catalog.packs_made(self.root.scratch()?)?;
        workers::for_each(outlines, |(name, outline, packings)| {
            let base = earlier.and_then(|earlier| {
                let read = |at: usize| self.earlier_body(earlier, name, *packings.get(at)?);
                Some(Base { blocks: earlier.blocks.get(name)?, read: Box::new(read) })
            });
            assemble::assemble(outline, &packs, packings, base.as_ref())
        })
    }

    /// The file of an index in an earlier snapshot, and what is said of it.
    fn earlier_file(&self, earlier: &BaseSnapshot<'_>, name: &str, packing: Packing) -> Option<(PathBuf, Listed)> {
        let folder = self.snapshot_folder(&earlier.snapshot.id);
        if let Some(listed) = earlier.snapshot.files.apt.get(&format!("{name}{}", packing.ending())) {
            return Some((folder.join("dists").join(apt::SUITE).join(format!("{name}{}", packing.ending())), *listed));
        }
        let file = earlier.snapshot.files.yum.iter().flat_map(|yum| &yum.files).find(|file| yum_name(&file.kind, packing) == name)?;
        Some((folder.join("repodata").join(&file.name), Listed { sha256: file.sha256, size: file.size }))
    }

    fn earlier_body(&self, earlier: &BaseSnapshot<'_>, name: &str, packing: Packing) -> Option<Bytes> {
        let (path, listed) = self.earlier_file(earlier, name, packing)?;
        let is_whole = self.root.is_whole(&path, listed.sha256, listed.size).unwrap_or(false);
        is_whole.then(|| fs::read(path).ok().map(Bytes::from)).flatten()
    }

    fn render_apt(
        &self,
        entries: &[Arc<Entry>],
        earlier: Option<&BaseSnapshot<'_>>,
        held: &mut HeldIndexes,
    ) -> Result<BTreeMap<String, Listed>> {
        let outlines = apt::outlines(entries, &self.settings.architectures);
        let outlines: Vec<_> = outlines.into_iter().map(|(path, outline)| (path, outline, apt::PACKINGS.to_vec())).collect();
        let made = self.assemble_all(&outlines, earlier)?;
        let mut files = BTreeMap::new();
        for ((path, outline, packings), made) in outlines.into_iter().zip(made) {
            match made {
                Made::New { plain, packed, blocks } => {
                    files.insert(path.clone(), Listed { sha256: plain.0, size: plain.1 });
                    for (packing, (body, sha256)) in packings.iter().zip(packed) {
                        let path = format!("{path}{}", packing.ending());
                        files.insert(path.clone(), Listed { sha256, size: body.len() as u64 });
                        held.apt.insert(path, IndexBody::Bytes(body));
                    }
                    held.blocks.insert(path, blocks);
                }
                Made::Same => {
                    let Some(earlier) = earlier else { continue };
                    for ending in std::iter::once("").chain(packings.iter().map(|packing| packing.ending())) {
                        let path = format!("{path}{ending}");
                        files.extend(earlier.snapshot.files.apt.get(&path).map(|listed| (path, *listed)));
                    }
                    for packing in &packings {
                        let file = self.earlier_file(earlier, &path, *packing);
                        held.apt.extend(file.map(|(file, _)| (format!("{path}{}", packing.ending()), IndexBody::Same(file))));
                    }
                    assemble::keep_same(&mut held.blocks, &path, &earlier.blocks);
                }
            }
            drop(outline);
        }
        Ok(files)
    }

    /// yum's files for rpms with these texts, and for what goes with them; nothing when there is none of either.
    pub(crate) fn render_yum(
        &self,
        entries: &[Arc<Entry>],
        texts: &[Arc<Rendered>],
        key: &Key,
        earlier: Option<&BaseSnapshot<'_>>,
        held: &mut HeldIndexes,
    ) -> Result<Option<yum::Listing>> {
        let extras: Vec<&Arc<Entry>> = entries.iter().filter(|entry| matches!(entry.kind, Kind::Extra(_))).collect();
        if texts.is_empty() && extras.is_empty() {
            return Ok(None);
        }
        let compression = self.settings.yum_compression;
        let packing = yum::packing(compression);
        let outlines: Vec<_> =
            yum::outlines(texts).into_iter().map(|(kind, outline)| (yum_name(kind, packing), outline, vec![packing])).collect();
        let mut files = Vec::new();
        for ((name, ..), made) in outlines.iter().zip(self.assemble_all(&outlines, earlier)?) {
            let kind = name.split('.').next().unwrap_or_default();
            match made {
                Made::New { plain, packed, blocks } => {
                    for (body, sha256) in packed {
                        let file = yum::listed(kind, name, plain, &body, sha256);
                        held.yum.insert(file.name.clone(), IndexBody::Bytes(body));
                        files.push(file);
                    }
                    held.blocks.insert(name.clone(), blocks);
                }
                Made::Same => {
                    let Some(earlier) = earlier else { continue };
                    let listing = earlier.snapshot.files.yum.iter().flat_map(|yum| &yum.files);
                    for file in listing.filter(|file| file.kind == kind) {
                        let path = self.repodata_path(&earlier.snapshot.id, &file.name);
                        held.yum.insert(file.name.clone(), IndexBody::Same(path));
                        files.push(file.clone());
                    }
                    assemble::keep_same(&mut held.blocks, name, &earlier.blocks);
                }
            }
        }
        let mut seen = BTreeMap::new();
        for entry in extras {
            let Kind::Extra(extra) = entry.kind else { continue };
            let mut content = Vec::new();
            let mut file = self.pool.open_verified(&*self.pool.package_or_described(&entry.sha256)?, &entry.sha256)?;
            file.read_to_end(&mut content).or_fail(Class::Repository, || format!("cannot read {}", entry.shown()))?;
            if seen.insert(extra, content).is_some() {
                return Err(Error::new(Class::Repository, format!("a snapshot can have one {}, and here are two", extra.names().1))
                    .hint("take the earlier one out of the channel, or merge them"));
            }
        }
        for (extra, content) in seen {
            let (file, body) = yum::passed_on(extra, content, compression)?;
            held.yum.insert(file.name.clone(), IndexBody::Bytes(body));
            files.push(file);
        }
        let mut keys: BTreeSet<String> = texts.iter().flat_map(|rendered| rendered.signers.iter().cloned()).collect();
        keys.remove(key.fingerprint());
        Ok(Some(yum::Listing { fingerprint: key.fingerprint().to_string(), keys, compression, files }))
    }

    /// The texts for yum of the rpms among `entries`, in their order, as they are served: those without a signature are
    /// signed on the way.
    pub(crate) fn yum_texts(&self, entries: &[Arc<Entry>], key: &Key) -> Result<Vec<Arc<Rendered>>> {
        let rpms: Vec<&Arc<Entry>> = entries.iter().filter(|entry| entry.kind.is_rpm()).collect();
        if rpms.is_empty() {
            return Ok(Vec::new());
        }
        let mut texts = self.pool.catalog.rendered(&rpms, key.fingerprint())?;
        let ours = |rendered: &Arc<Rendered>| rendered.signers.iter().all(|signer| signer == key.fingerprint());
        // Keys of others take milliseconds to read, and are asked only of what is theirs, or new.
        if texts.iter().all(|text| text.as_ref().is_some_and(ours)) {
            return Ok(texts.into_iter().flatten().collect());
        }
        let known = self.signing.known_keys(Some(key))?;
        let fingerprints: HashSet<&str> = known.iter().map(|upstream| upstream.fingerprint.as_str()).collect();
        let missing: Vec<usize> = (0..rpms.len())
            .filter(|at| {
                let is_known = |rendered: &Arc<Rendered>| rendered.signers.iter().all(|signer| fingerprints.contains(signer.as_str()));
                !texts[*at].as_ref().is_some_and(is_known)
            })
            .collect();
        let scratch = self.root.scratch()?;
        for some in missing.chunks(RENDERED_AT_ONCE) {
            let made = std::sync::Mutex::new(BTreeSet::new());
            let rendered = workers::for_each(some, |at| {
                let package = self.pool.package_or_described(&rpms[*at].sha256)?;
                let served = match self.signing.served_upstream(&package, &known)? {
                    Some(served) => served,
                    None => {
                        let mut new = BTreeSet::new();
                        let served = self.signing.served_signed(&package, key, &mut new)?;
                        lock(&made).append(&mut new);
                        served
                    }
                };
                let (_, header) = self.signing.head(&package)?;
                let texts = yum::render(&package, &Header::parse(&header)?, &served)?;
                Ok::<(Arc<PoolPackage>, Served, [Vec<u8>; 3]), Error>((package, served, texts))
            })?;
            disk::sync_files(self.root.path(), &lock(&made))?;
            let new: Vec<_> = rendered.iter().map(|(package, served, texts)| (package.as_ref(), served, texts)).collect();
            for (at, added) in some.iter().zip(self.pool.catalog.add_rendered(scratch, &new)?) {
                texts[*at] = Some(added);
            }
        }
        Ok(texts.into_iter().flatten().collect())
    }

    /// The blocks of a snapshot's index files; nothing where they are not known.
    fn blocks_of(&self, id: &SnapshotId) -> Option<Blocks> {
        assemble::read_blocks(&fs::read(self.snapshot_folder(id).join("blocks")).ok()?)
    }
}

/// The name of one of yum's files, less its digest: what [`Blocks`] call it.
fn yum_name(kind: &str, packing: Packing) -> String {
    format!("{kind}.xml{}", packing.ending())
}
