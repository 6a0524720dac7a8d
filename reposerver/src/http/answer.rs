//! From a target to the resource that answers it.

use super::body::Body;
use super::hot::{Found, Kept};
use super::pairs;
use super::store::{Stamp, repodata_digest};
use super::target::{Page, Prefix, Target};
use crate::snapshot::{Signed, Snapshot};
use crate::{Channel, PoolPackage, Repository, apt, date, yum};
use bytes::Bytes;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock};
use twostage_model::error::OrFail;
use twostage_model::shown::count;
use twostage_model::{Class, Result, Sha256, SnapshotId};

/// Earlier snapshots of a channel whose index files it still answers for by digest: a client that
/// holds the InRelease of one may be in the middle of its update.
const EARLIER: usize = 8;

/// Something that can be sent.
pub(crate) struct Resource {
    pub(crate) body: Body,
    /// The digest of the body, for the ETag.
    pub(crate) tag: Sha256,
    /// Media type.
    pub(crate) kind: &'static str,
    /// Seconds since 1970.
    pub(crate) modified: Option<i64>,
    /// Whether this URL never answers anything else.
    pub(crate) immutable: bool,
    /// How it is kept in memory; nothing where it depends on more than its channel or snapshot.
    kept: Option<Kept>,
}

const TEXT: &str = "text/plain; charset=utf-8";
const XML: &str = "application/xml";

fn memory(body: impl Into<Bytes>, kind: &'static str) -> Resource {
    let body = body.into();
    Resource { tag: Sha256::of(&body), body: Body::whole(body), kind, modified: None, immutable: false, kept: None }
}

/// Bytes whose digest is known, that can be kept.
fn known(body: Bytes, tag: Sha256, kind: &'static str) -> Resource {
    let kept = Some(Kept::Memory(body.clone()));
    Resource { tag, body: Body::whole(body), kind, modified: None, immutable: false, kept }
}

/// The answer of who is asked whether it is there.
pub(crate) fn health() -> Found {
    Found::new(&memory("ok\n", TEXT), Some(Kept::Memory(Bytes::from_static(b"ok\n"))), None)
}

/// The page of numbers.
pub(crate) fn metrics(text: String) -> (Arc<Found>, Body) {
    let page = memory(text, "text/plain; version=0.0.4; charset=utf-8");
    (Arc::new(Found::new(&page, None, None)), page.body)
}

/// Finds what answers `target`, and what of it can be kept in memory; nothing means 404.
pub(crate) fn find(repository: &Repository, target: &Target) -> Result<Option<(Found, Body)>> {
    // Looked at before what it points to is read: what is kept is never older than its pointer.
    let pointer = match &target.page {
        Page::Below(prefix, _) => repository.pointer(prefix),
        _ => None,
    };
    let whole = |mut resource: Resource, pointer| {
        let kept = resource.kept.take();
        (Found::new(&resource, kept, pointer), resource.body)
    };
    if let Page::Below(prefix @ Prefix::Channel(_), path) = &target.page
        && let Some(other) = pairs::other(&format!("/{}", path.join("/")))
    {
        // Both of one state.
        let Some(site) = Site::of(repository, prefix)? else { return Ok(None) };
        let other = site.find(&other.split('/').skip(1).collect::<Vec<_>>())?.map(|other| Arc::new(whole(other, None).0));
        let asked = site.find(&path.iter().map(String::as_str).collect::<Vec<_>>())?;
        return Ok(asked.map(|asked| {
            let (mut found, body) = whole(asked, pointer);
            found.other = other;
            (found, body)
        }));
    }
    Ok(resource(repository, target)?.map(|resource| whole(resource, pointer)))
}

fn resource(repository: &Repository, target: &Target) -> Result<Option<Resource>> {
    match &target.page {
        Page::Index => Ok(Some(memory(index_page(repository, &target.base)?, "text/html; charset=utf-8"))),
        Page::Health | Page::Metrics => Ok(Some(memory("ok\n", TEXT))),
        Page::Key => Ok(repository.signing.public()?.map(|public| memory(public.armored.clone(), "application/pgp-keys"))),
        Page::Sources(prefix) => {
            let Some(site) = Site::of(repository, prefix)? else { return Ok(None) };
            let Some(snapshot) = site.snapshot()? else { return Ok(None) };
            let has_sources = snapshot.files.apt.contains_key(apt::SOURCES);
            let text = apt::sources_file(&target.base, &site.name, has_sources, &repository.signing.public_key()?);
            Ok(Some(memory(text, TEXT)))
        }
        Page::Repo(prefix) => {
            let Some(site) = Site::of(repository, prefix)? else { return Ok(None) };
            let Some(snapshot) = site.snapshot()? else { return Ok(None) };
            let keys = snapshot.files.yum.iter().flat_map(|yum| yum.keys.iter().map(String::as_str));
            let text = yum::repo_file(&target.base, &site.name, &repository.settings().origin, keys);
            Ok(Some(memory(text, TEXT)))
        }
        Page::Upstream(name) => {
            let Some(fingerprint) = name.strip_suffix(".asc") else { return Ok(None) };
            Ok(repository.signing.upstream_key(fingerprint)?.map(|key| memory(key, "application/pgp-keys")))
        }
        Page::Below(prefix, path) => {
            let Some(site) = Site::of(repository, prefix)? else { return Ok(None) };
            site.find(&path.iter().map(String::as_str).collect::<Vec<_>>())
        }
    }
}

/// Channels and snapshots that are read at once, at most: who asks for one that is being read waits for it.
const AT_ONCE: usize = 16;
static READING: [Mutex<()>; AT_ONCE] = [const { Mutex::new(()) }; AT_ONCE];

fn turn(name: &str) -> std::sync::MutexGuard<'static, ()> {
    let place = name.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte))) % AT_ONCE;
    crate::lock(&READING[place])
}

/// A channel or a snapshot, as one consistent state: the channel's file is read once a request.
struct Site<'a> {
    repository: &'a Repository,
    name: String,
    id: SnapshotId,
    channel: Option<Arc<Channel>>,
    snapshot: OnceLock<Option<Arc<Snapshot>>>,
}

impl<'a> Site<'a> {
    fn of(repository: &'a Repository, prefix: &Prefix) -> Result<Option<Self>> {
        let site = |name, id, channel| Site { repository, name, id, channel, snapshot: OnceLock::new() };
        let site = match prefix {
            Prefix::Snapshot(id) => site(format!("@{id}"), *id, None),
            Prefix::Channel(name) => {
                let _turn = turn(name);
                match repository.channels.get(name)? {
                    Some(channel) => site(name.clone(), channel.snapshot, Some(channel)),
                    None => return Ok(None),
                }
            }
        };
        // A snapshot that is not there has nothing; of a channel, much is known without it.
        if site.channel.is_none() && site.snapshot()?.is_none() { Ok(None) } else { Ok(Some(site)) }
    }

    /// Its snapshot, read when it is asked for.
    fn snapshot(&self) -> Result<Option<Arc<Snapshot>>> {
        if let Some(snapshot) = self.snapshot.get() {
            return Ok(snapshot.clone());
        }
        let _turn = turn(&self.id.to_string());
        let snapshot = self.repository.snapshots.served(&self.id)?;
        Ok(self.snapshot.get_or_init(|| snapshot).clone())
    }

    fn signed(&self) -> Result<Option<Signed>> {
        match &self.channel {
            Some(channel) => Ok(Some(channel.signed.clone())),
            None => Ok(self.snapshot()?.map(|snapshot| snapshot.signed.clone())),
        }
    }

    fn find(&self, path: &[&str]) -> Result<Option<Resource>> {
        let Some(signed) = self.signed()? else { return Ok(None) };
        // Signatures are renewed with a new key, under a snapshot's name too.
        let dated = |text: &str, kind| {
            let body = Bytes::from(text.to_string());
            Resource { modified: Some(signed.date), ..known(body.clone(), Sha256::of(&body), kind) }
        };
        let frozen = self.channel.is_none();
        Ok(match path {
            [] => self.front_page(&signed)?.map(|page| memory(page, TEXT)),
            // The list is named by its digest.
            ["SHA256SUMS"] => self.snapshot()?.map(|snapshot| {
                let list = known(snapshot.list.clone(), snapshot.id.0, TEXT);
                Resource { immutable: frozen, modified: Some(signed.date), ..list }
            }),
            ["dists", apt::SUITE, "InRelease"] => Some(dated(&signed.inrelease, TEXT)),
            ["dists", apt::SUITE, "Release"] => Some(dated(&signed.release, TEXT)),
            ["dists", apt::SUITE, "Release.gpg"] => Some(dated(&signed.release_gpg, "application/pgp-signature")),
            ["dists", apt::SUITE, folder @ .., "by-hash", "SHA256", digest] => match digest.parse() {
                Ok(digest) => self.by_hash(&folder.join("/"), &digest)?,
                Err(_) => None,
            },
            ["dists", apt::SUITE, rest @ ..] => {
                let path = rest.join("/");
                let Some(snapshot) = self.snapshot()? else { return Ok(None) };
                match snapshot.files.apt.get(&path) {
                    Some(listed) => {
                        let body = self.repository.snapshots.index(&snapshot, &path, listed)?;
                        let index = known(body, listed.sha256, media_type(&path));
                        Some(Resource { modified: Some(signed.date), immutable: frozen, ..index })
                    }
                    None => None,
                }
            }
            ["repodata", name] => match (*name, &signed.repomd) {
                ("repomd.xml", Some(repomd)) => Some(dated(&repomd.xml, XML)),
                ("repomd.xml.asc", Some(repomd)) => Some(dated(&repomd.asc, "application/pgp-signature")),
                ("repomd.xml.key", Some(_)) => Some(memory(self.repository.signing.public_key()?, "application/pgp-keys")),
                (name, _) => self.repodata(name)?,
            },
            ["pool", shard, digest, fingerprint @ .., name] if fingerprint.len() < 2 => match digest.parse::<Sha256>() {
                Ok(digest) if digest.to_string().starts_with(shard) && shard.len() == 2 => {
                    self.package(digest, fingerprint.first().copied(), name)?
                }
                _ => None,
            },
            _ => None,
        })
    }

    /// The earlier snapshots of a channel that it still answers for: see [`EARLIER`].
    fn earlier(&self) -> impl Iterator<Item = SnapshotId> {
        self.channel.iter().flat_map(|channel| &channel.history).take(EARLIER).map(|earlier| earlier.snapshot)
    }

    fn repodata(&self, name: &str) -> Result<Option<Resource>> {
        if repodata_digest(name).is_none() {
            return Ok(None);
        }
        let resource = |(body, tag)| Resource { immutable: true, ..known(body, tag, media_type(name)) };
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        if let Some(found) = self.repository.snapshots.repodata(&snapshot, name)? {
            return Ok(Some(resource(found)));
        }
        // An earlier one may be gone; that is no reason to fail a client of the present one.
        Ok(self.earlier().find_map(|id| self.repository.snapshots.repodata_of(&id, name).ok().flatten()).map(resource))
    }

    fn by_hash(&self, folder: &str, digest: &Sha256) -> Result<Option<Resource>> {
        let resource = |path: &str, body| Resource { immutable: true, ..known(body, *digest, media_type(path)) };
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        let is_it = |path: &str, found: Sha256| found == *digest && path.rsplit_once('/').is_some_and(|(parent, _)| parent == folder);
        if let Some((path, listed)) = snapshot.files.apt.iter().find(|(path, listed)| is_it(path, listed.sha256)) {
            return Ok(Some(resource(path, self.repository.snapshots.index(&snapshot, path, listed)?)));
        }
        let earlier = self.earlier().find_map(|id| self.repository.snapshots.index_by_hash(&id, folder, digest).ok().flatten());
        Ok(earlier.map(|(path, body)| resource(&path, body)))
    }

    /// A package by its digest, whatever it is called; a source's files by the digest of its
    /// `.dsc` and their names, because apt wants a source's files in one folder. An rpm by its
    /// identity, and the fingerprint of our key if that signed it: its bytes differ with that.
    ///
    /// It is there for whoever has metadata that names it, also of long ago and of another channel. What only
    /// lies in the pool, because it was refused, or a build put it there, is nobody's yet.
    fn package(&self, digest: Sha256, fingerprint: Option<&str>, name: &str) -> Result<Option<Resource>> {
        let present = self.snapshot()?.is_some_and(|snapshot| snapshot.members.contains(&digest));
        let named = present || self.repository.names.was_published(&digest)?;
        if named {
            self.repository.withdrawals.check_not_withdrawn(&digest)?;
        }
        // What some channel had long ago may be gone for good; what this one has may not.
        if !named || !(present || self.repository.pool.pool_path(&digest).exists()) {
            return Ok(None);
        }
        let package = self.repository.pool.package_or_described(&digest)?;
        if package.kind.is_rpm() {
            let Some(served) = self.repository.signing.served_rpm(&package, fingerprint)? else { return Ok(None) };
            let immutable = fingerprint.is_some() || served.skip == 0;
            let file = self.file(&package, &digest, served.prefix, served.skip, Some(served.size), name)?;
            // What depends on our present key is not kept.
            let kept = file.kept.filter(|_| immutable);
            return Ok(Some(Resource { tag: served.sha256, immutable, kept, body: file.body, ..file }));
        }
        if fingerprint.is_some() {
            return Ok(None);
        }
        let found = package.files.iter().find(|file| file.name == name).map_or(digest, |file| file.sha256);
        if found != digest {
            self.repository.withdrawals.check_not_withdrawn(&found)?;
        }
        self.file(&package, &found, Bytes::new(), 0, None, name).map(Some)
    }

    /// `head`, and a file of the pool from its byte `skip` on.
    fn file(&self, package: &PoolPackage, digest: &Sha256, head: Bytes, skip: u64, size: Option<u64>, name: &str) -> Result<Resource> {
        let file = self.repository.pool.open_verified(package, digest)?;
        let meta = file.metadata().or_fail(Class::System, || format!("cannot read the package {digest}"))?;
        let digests = if *digest == package.sha256 { vec![*digest] } else { vec![package.sha256, *digest] };
        let path = self.repository.pool.pool_path(digest);
        let kept = Kept::File { head: head.clone(), path, stamp: Stamp::of(&meta), skip, digests };
        let modified = Some(package.date).filter(|date| *date > 0);
        let body = Body::joined(head, Arc::new(file), skip, size.unwrap_or(meta.len()));
        Ok(Resource { body, tag: *digest, kind: media_type(name), modified, immutable: true, kept: Some(kept) })
    }

    fn front_page(&self, signed: &Signed) -> Result<Option<String>> {
        let Some(snapshot) = self.snapshot()? else { return Ok(None) };
        Ok(Some(format!(
            "{0}: snapshot {1}\n{2}, see SHA256SUMS; date {3}\nclient file: /{0}.sources{4}\n{5}",
            self.name,
            snapshot.id,
            count(snapshot.list.iter().filter(|b| **b == b'\n').count(), "package"),
            date::release(signed.date),
            if signed.repomd.is_some() { format!(", /{}.repo", self.name) } else { String::new() },
            self.repository.withdrawn_lines(&snapshot.id),
        )))
    }
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "rpm" => "application/x-rpm",
        "deb" | "udeb" | "ddeb" => "application/vnd.debian.binary-package",
        "gz" => "application/gzip",
        "zst" => "application/zstd",
        "xz" => "application/x-xz",
        "bz2" => "application/x-bzip2",
        "asc" => "application/pgp-signature",
        _ => TEXT,
    }
}

/// The page for people. `base` and the names are limited to characters that mean nothing in HTML.
fn index_page(repository: &Repository, base: &str) -> Result<String> {
    let origin = &repository.settings().origin;
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{origin} packages</title></head><body>\n\
         <h1>Packages of {origin}</h1>\n"
    );
    let mut first = None;
    for name in repository.channels.names()? {
        let channel = match repository.channels.get(&name) {
            Ok(Some(channel)) => channel,
            Ok(None) => continue,
            // The others are as good as they were.
            Err(_) => {
                let _ = writeln!(page, "<h2>{name}</h2>\n<p>cannot be read; the server's log says why</p>");
                continue;
            }
        };
        let _ = writeln!(
            page,
            "<h2>{name}</h2>\n<p>{}, {}</p>",
            count(channel.members.values().flatten().count(), "package"),
            date::release(channel.date)
        );
        let _ = writeln!(page, "<ul><li>now <a href=\"/@{0}/SHA256SUMS\"><code>@{0}</code></a></li>", channel.snapshot);
        for earlier in channel.history.iter().take(EARLIER) {
            let (id, dated) = (earlier.snapshot, date::release(earlier.date));
            let _ = writeln!(page, "<li>{dated} <a href=\"/@{id}/SHA256SUMS\"><code>@{id}</code></a></li>");
        }
        page.push_str("</ul>\n");
        first.get_or_insert(name);
    }
    match first {
        Some(name) => {
            let _ = write!(
                page,
                "<h2>Use it</h2>\n<pre>curl -fsS {base}/{name}.sources -o /etc/apt/sources.list.d/{name}.sources\napt-get update</pre>\n\
                 <p>The file names this server and carries the <a href=\"/key.asc\">key</a>; for dnf and zypper there is \
                 <code>{base}/{name}.repo</code>. \
                 <code>/@&lt;snapshot&gt;.sources</code> is one for a snapshot that never changes.</p>\n"
            );
        }
        None => page.push_str("<p>No channel yet. <code>twostage repo</code> or <code>twostage publish FILES</code> makes one.</p>\n"),
    }
    page.push_str("</body></html>\n");
    Ok(page)
}
