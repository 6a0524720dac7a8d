//! From a target to the resource that answers it.

use super::body::Body;
use super::target::{Page, Prefix, Target};
use crate::snapshot::{Signed, Snapshot};
use crate::{Channel, Repository, apt, date, yum};
use bytes::Bytes;
use std::fmt::Write as _;
use std::sync::Arc;
use twostage_model::error::OrFail;
use twostage_model::shown::count;
use twostage_model::{Class, Result, Sha256};

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
}

const TEXT: &str = "text/plain; charset=utf-8";
const XML: &str = "application/xml";

fn memory(body: impl Into<Bytes>, kind: &'static str) -> Resource {
    let body = body.into();
    Resource { tag: Sha256::of(&body), body: Body::whole(body), kind, modified: None, immutable: false }
}

/// Finds what answers `target`; nothing means 404.
pub(crate) fn find(repository: &Repository, target: &Target) -> Result<Option<Resource>> {
    match &target.page {
        Page::Index => Ok(Some(memory(index_page(repository, &target.base)?, "text/html; charset=utf-8"))),
        Page::Health => Ok(Some(memory("ok\n", TEXT))),
        Page::Key => Ok(repository.public()?.map(|public| memory(public.armored.clone(), "application/pgp-keys"))),
        Page::Sources(prefix) => {
            let Some(site) = Site::of(repository, prefix)? else { return Ok(None) };
            let has_sources = site.snapshot.files.apt.contains_key(apt::SOURCES);
            let text = apt::sources_file(&target.base, &site.name, has_sources, &repository.public_key()?);
            Ok(Some(memory(text, TEXT)))
        }
        Page::Repo(prefix) => {
            let Some(site) = Site::of(repository, prefix)? else { return Ok(None) };
            let keys = site.snapshot.files.yum.iter().flat_map(|yum| yum.keys.iter().map(String::as_str));
            let text = yum::repo_file(&target.base, &site.name, &repository.settings().origin, keys);
            Ok(Some(memory(text, TEXT)))
        }
        Page::Upstream(name) => {
            let Some(fingerprint) = name.strip_suffix(".asc") else { return Ok(None) };
            Ok(repository.upstream_key(fingerprint)?.map(|key| memory(key, "application/pgp-keys")))
        }
        Page::Below(prefix, path) => {
            let Some(site) = Site::of(repository, prefix)? else { return Ok(None) };
            site.find(&path.iter().map(String::as_str).collect::<Vec<_>>())
        }
    }
}

/// A channel or a snapshot, as one consistent state: the channel's file is read once a request.
struct Site<'a> {
    repository: &'a Repository,
    name: String,
    snapshot: Arc<Snapshot>,
    channel: Option<Arc<Channel>>,
}

impl<'a> Site<'a> {
    fn of(repository: &'a Repository, prefix: &Prefix) -> Result<Option<Self>> {
        let (name, id, channel) = match prefix {
            Prefix::Snapshot(id) => (format!("@{id}"), *id, None),
            Prefix::Channel(name) => match repository.channel(name)? {
                Some(channel) => (name.clone(), channel.snapshot, Some(channel)),
                None => return Ok(None),
            },
        };
        let snapshot = repository.served(&id)?;
        Ok(snapshot.map(|snapshot| Site { repository, name, snapshot, channel }))
    }

    fn signed(&self) -> &Signed {
        self.channel.as_ref().map_or(&self.snapshot.signed, |channel| &channel.signed)
    }

    fn find(&self, path: &[&str]) -> Result<Option<Resource>> {
        let signed = self.signed();
        // Signatures are renewed with a new key, under a snapshot's name too.
        let dated = |text: &str, kind| Resource { modified: Some(signed.date), ..memory(text.to_string(), kind) };
        let frozen = self.channel.is_none();
        Ok(match path {
            [] => Some(memory(self.front_page(), TEXT)),
            ["SHA256SUMS"] => Some(Resource { immutable: frozen, modified: Some(signed.date), ..memory(self.snapshot.list.clone(), TEXT) }),
            ["dists", apt::SUITE, "InRelease"] => Some(dated(&signed.inrelease, TEXT)),
            ["dists", apt::SUITE, "Release"] => Some(dated(&signed.release, TEXT)),
            ["dists", apt::SUITE, "Release.gpg"] => Some(dated(&signed.release_gpg, "application/pgp-signature")),
            ["dists", apt::SUITE, folder @ .., "by-hash", "SHA256", digest] => match digest.parse() {
                Ok(digest) => self.by_hash(&folder.join("/"), &digest)?,
                Err(_) => None,
            },
            ["dists", apt::SUITE, rest @ ..] => {
                let path = rest.join("/");
                match self.snapshot.files.apt.get(&path) {
                    Some(listed) => Some(Resource {
                        body: Body::whole(self.repository.index(&self.snapshot, &path, listed)?),
                        tag: listed.sha256,
                        kind: media_type(&path),
                        modified: Some(signed.date),
                        immutable: frozen,
                    }),
                    None => None,
                }
            }
            ["repodata", name] => match (*name, &signed.repomd) {
                ("repomd.xml", Some(repomd)) => Some(dated(&repomd.xml, XML)),
                ("repomd.xml.asc", Some(repomd)) => Some(dated(&repomd.asc, "application/pgp-signature")),
                ("repomd.xml.key", Some(_)) => Some(memory(self.repository.public_key()?, "application/pgp-keys")),
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

    /// The present snapshot, then earlier ones: see [`EARLIER`].
    fn snapshots(&self) -> impl Iterator<Item = Arc<Snapshot>> {
        let earlier = self.channel.iter().flat_map(|channel| &channel.history).take(EARLIER).map(|earlier| earlier.snapshot);
        // An earlier one may be gone; that is no reason to fail a client of the present one.
        let earlier = earlier.filter_map(|id| self.repository.served(&id).ok().flatten());
        std::iter::once(Arc::clone(&self.snapshot)).chain(earlier)
    }

    fn repodata(&self, name: &str) -> Result<Option<Resource>> {
        for snapshot in self.snapshots() {
            if let Some((body, tag)) = self.repository.repodata(&snapshot, name)? {
                return Ok(Some(Resource { body: Body::whole(body), tag, kind: media_type(name), modified: None, immutable: true }));
            }
        }
        Ok(None)
    }

    fn by_hash(&self, folder: &str, digest: &Sha256) -> Result<Option<Resource>> {
        for snapshot in self.snapshots() {
            let is_it = |path: &str, found: Sha256| found == *digest && path.rsplit_once('/').is_some_and(|(parent, _)| parent == folder);
            if let Some((path, listed)) = snapshot.files.apt.iter().find(|(path, listed)| is_it(path, listed.sha256)) {
                return Ok(Some(Resource {
                    body: Body::whole(self.repository.index(&snapshot, path, listed)?),
                    tag: *digest,
                    kind: media_type(path),
                    modified: None,
                    immutable: true,
                }));
            }
        }
        Ok(None)
    }

    /// A package by its digest, whatever it is called; a source's files by the digest of its
    /// `.dsc` and their names, because apt wants a source's files in one folder. An rpm by its
    /// identity, and the fingerprint of our key if that signed it: its bytes differ with that.
    ///
    /// It is there for whoever has metadata that names it, also of long ago and of another channel. What only
    /// lies in the pool, because it was refused, or a build put it there, is nobody's yet.
    fn package(&self, digest: Sha256, fingerprint: Option<&str>, name: &str) -> Result<Option<Resource>> {
        let named = self.snapshot.members.contains(&digest) || self.repository.was_published(&digest)?;
        if named {
            self.repository.check_not_withdrawn(&digest)?;
        }
        // What some channel had long ago may be gone for good; what this one has may not.
        if !named || !(self.snapshot.members.contains(&digest) || self.repository.pool_path(&digest).exists()) {
            return Ok(None);
        }
        let package = self.repository.package_or_described(&digest)?;
        let modified = Some(package.date).filter(|date| *date > 0);
        if package.kind.is_rpm() {
            let Some(served) = self.repository.served_rpm(&package, fingerprint)? else { return Ok(None) };
            let immutable = fingerprint.is_some() || served.skip == 0;
            let body = Body::joined(served.prefix, self.repository.open_verified(&package, &digest)?, served.skip, served.size);
            return Ok(Some(Resource { body, tag: served.sha256, kind: media_type(name), modified, immutable }));
        }
        if fingerprint.is_some() {
            return Ok(None);
        }
        let found = package.files.iter().find(|file| file.name == name).map_or(digest, |file| file.sha256);
        self.repository.check_not_withdrawn(&found)?;
        let file = self.repository.open_verified(&package, &found)?;
        let length = file.metadata().or_fail(Class::System, || format!("cannot read the package {found}"))?.len();
        Ok(Some(Resource { body: Body::file(file, length), tag: found, kind: media_type(name), modified, immutable: true }))
    }

    fn front_page(&self) -> String {
        format!(
            "{0}: snapshot {1}\n{2}, see SHA256SUMS; date {3}\nclient file: /{0}.sources{4}\n{5}",
            self.name,
            self.snapshot.id,
            count(self.snapshot.list.iter().filter(|b| **b == b'\n').count(), "package"),
            date::release(self.signed().date),
            if self.signed().repomd.is_some() { format!(", /{}.repo", self.name) } else { String::new() },
            self.repository.withdrawn_lines(&self.snapshot.id),
        )
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
    for name in repository.channels()? {
        let channel = match repository.channel(&name) {
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
