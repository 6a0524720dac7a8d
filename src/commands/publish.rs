//! `twostage publish FILES…`: packages that someone else built, into the channel. All that is named, or none.

use crate::cli::{ProjectArgs, Publish};
use crate::commands::channel::word;
use crate::offered::{Offered, ending};
use crate::output::Output;
use crate::session::Session;
use std::path::Path;
use std::sync::Arc;
use twostage_beneath::read_text;
use twostage_builder::parallel::in_parallel;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};
use twostage_reposerver::{Extra, PoolPackage, Repository};

/// Bytes of a file of keys, at most.
const MAX_KEYS: u64 = 4 << 20;
/// Bytes of a file such as `updateinfo.xml`, at most: a distribution's has some ten million.
const MAX_EXTRA: u64 = 256 << 20;

/// The group of a channel's members that `publish` adds to and `repo` leaves alone.
pub const GROUP: &str = "published";

pub fn run(arguments: &Publish, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let repository = &session.repository;
    let channel = arguments.channel.as_ref().unwrap_or(&session.project.repository.channel);
    let _ahead = repository.read_ahead(channel);
    let Offered { keys, files, .. } = Offered::find(&arguments.files)?;
    // Keys first: rpms that came signed are published only when it is known by whom.
    for path in &keys {
        let text = read_text(path, MAX_KEYS, Class::Repository)?;
        for fingerprint in repository.signing().add_key(&text).or_fail(Class::Repository, || format!("{} is not taken", path.display()))? {
            output.sink().note("publish", format!("the key {fingerprint} is known from now on"));
        }
    }
    // All are checked before the first is published: a wrong one publishes none.
    let packages = in_parallel(&files, |file| {
        let taken = take(repository, &file.path).and_then(|package| {
            file.check(package.file_digest())?;
            repository.signing().check_signature(&package, session.now).map(|()| package)
        });
        taken.map_err(|cause| Error::new(Class::Repository, format!("{} is not published", file.path.display())).because(cause))
    })?;
    for package in &packages {
        package.notes.iter().for_each(|note| output.sink().note("publish", format!("{}: {note}", package.file_name())));
    }
    let shown: Vec<String> = packages.iter().map(|package| package.id.to_string()).collect();
    let mut left = Vec::new();
    let published = repository.publish_more(channel, session.now, |members| {
        let named = packages.iter().map(|package| package.sha256).collect();
        let group = members.entry(GROUP.to_string()).or_default();
        group.extend(&named);
        left = repository.leave_versions(group, &named);
    })?;
    for digest in &left {
        let name = repository.pool().package(digest).map_or_else(|_| digest.to_string(), |package| package.file_name());
        output.sink().note("publish", format!("{name} left channel {channel}: `keep` says how many versions stay"));
    }
    let text =
        format!("{}\nchannel {channel}  @{}  {}", shown.join("\n"), published.snapshot.short(), word(&published, "published", output));
    let value = serde_json::json!({
        "event": "published", "channel": channel, "snapshot": published.snapshot, "changed": published.changed, "packages": shown,
        "mended": published.mended,
    });
    output.result(&text, &value);
    Ok(())
}

fn take(repository: &Repository, path: &Path) -> Result<Arc<PoolPackage>> {
    match ending(path) {
        "dsc" => repository.pool().ingest_source(path),
        "xml" | "yaml" => {
            let content = read_text(path, MAX_EXTRA, Class::Repository)?.into_bytes();
            let kind = Extra::of(&content).ok_or_else(|| {
                Error::new(Class::Repository, "it is neither groups (comps.xml), advisories (updateinfo.xml) nor modules (modules.yaml)")
                    .hint("name the file that was meant")
            })?;
            repository.pool().ingest_extra(kind, &content)
        }
        _ => repository.ingest_file(path),
    }
}
