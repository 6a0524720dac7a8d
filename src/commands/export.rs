//! `twostage export ARCHIVE`: what another machine needs to rebuild the images, without a mirror. With `--plain` instead, a
//! channel as plain files (`plain.rs`).

mod plain;

use crate::cli::{Export, ProjectArgs};
use crate::commands::pin;
use crate::output::Output;
use crate::replaced;
use crate::session::Session;
use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use twostage_image::persist;
use twostage_model::error::OrFail as _;
use twostage_model::shown::{count, size};
use twostage_model::{Class, Result};

/// The folders of an export. Our own secret key does not travel, nor does what is derived from the rest: a
/// channel is the list of its members and its suite, and is signed anew where it arrives. But an rpm travels with our
/// signature and the public key: rpm's database keeps the signature of what is installed, so with
/// another one the same image would have other bytes.
pub const FOLDERS: [&str; 6] = ["pool", "blobs", "builds", "keys", "channels", "suites"];

pub fn run(arguments: &Export, project: &ProjectArgs, output: &Output) -> Result<()> {
    let Some(archive) = &arguments.archive else { return plain::run(arguments, project, output) };
    let session = Session::open(project, output)?;
    replaced::check(archive, replaced::Kind::Export)?;
    let failed = || format!("cannot write {}", archive.display());
    let mut tar = tar::Builder::new(session.unfinished(archive)?);
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    let mut files = 0;
    let key = session.repository.signing().key(session.now)?;
    let signed = Signed { session: &session, folder: session.repository.root().join("signed").join(key.fingerprint()) };
    for folder in ["pool", "blobs", "builds", "keys"] {
        files += append(&mut tar, &session.repository.root().join(folder), folder, &signed)?;
    }
    let public = format!("keys/{}.asc", key.fingerprint());
    if signed.folder.exists() && !session.repository.root().join(&public).exists() {
        append_text(&mut tar, &public, session.repository.signing().public_key()?.as_bytes())?;
        files += 1;
    }
    for name in session.repository.channels().names()? {
        if let Some(channel) = session.repository.channels().get(&name)? {
            session.repository.verify_channel(&channel)?;
            let members = serde_json::to_vec_pretty(&channel.members).or_fail(Class::System, failed)?;
            append_text(&mut tar, &format!("channels/{name}"), &members)?;
            append_text(&mut tar, &format!("suites/{name}"), channel.suite.as_deref().unwrap_or_default().as_bytes())?;
            files += 2;
        }
    }
    let file = tar.into_inner().or_fail(Class::System, failed)?;
    let bytes = file.as_file().metadata().or_fail(Class::System, failed)?.len();
    persist(file, archive)?;
    pin::exported(&session, archive, output)?;
    output.result(
        &format!("{}  {}, {}; take it in with `twostage import`", archive.display(), count(files, "file"), size(bytes)),
        &serde_json::json!({ "event": "exported", "archive": archive, "files": files, "bytes": bytes }),
    );
    Ok(())
}

type Archive = tar::Builder<tempfile::NamedTempFile>;

/// Rpms with our signature (see `reposerver/src/rpms.rs`).
struct Signed<'a> {
    session: &'a Session,
    /// `signed/<fingerprint>`
    folder: PathBuf,
}

impl Signed<'_> {
    /// Whether a file of this folder is nothing that anybody relies on. One that is damaged ends the export: it would be
    /// refused where it is taken in.
    fn is_left_out(&self, folder: &str, name: &str) -> Result<bool> {
        let (repository, digest) = (&self.session.repository, name.parse());
        match digest {
            Ok(digest) if folder.starts_with("pool/") => Ok(!repository.is_good(&digest)?),
            Ok(digest) if folder.starts_with("blobs/") => repository.pool().verify_blob(&digest).map(|()| false),
            _ => Ok(false),
        }
    }

    /// What is served instead of the first bytes of this file of the pool, and how many these are.
    fn prefix(&self, digest: &str) -> Result<Option<(Vec<u8>, u64)>> {
        let Some(text) = digest.get(..2).and_then(|shard| fs::read(self.folder.join(shard).join(digest)).ok()) else { return Ok(None) };
        let Some(end) = text.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let package = self.session.repository.pool().package(&digest.parse()?)?;
        Ok(package.rpm.as_ref().map(|rpm| (text[end + 1..].to_vec(), rpm.prefix)))
    }
}

fn append_text(tar: &mut Archive, name: &str, text: &[u8]) -> Result<()> {
    append_stream(tar, name, text.len() as u64, text)
}

fn append_stream(tar: &mut Archive, name: &str, size: u64, content: impl Read) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    tar.append_data(&mut header, name, content).or_fail(Class::System, || format!("cannot pack {name}"))
}

fn append(tar: &mut Archive, folder: &Path, name: &str, signed: &Signed<'_>) -> Result<usize> {
    let failed = || format!("cannot read {}", folder.display());
    let Ok(entries) = fs::read_dir(folder) else { return Ok(0) };
    let mut entries: Vec<_> = entries.collect::<std::io::Result<_>>().or_fail(Class::System, failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut files = 0;
    for entry in entries {
        let below = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().or_fail(Class::System, failed)?.is_dir() {
            files += append(tar, &entry.path(), &below, signed)?;
        } else if signed.is_left_out(name, &entry.file_name().to_string_lossy())? {
            continue;
        } else {
            match signed.prefix(&entry.file_name().to_string_lossy())? {
                Some((prefix, skip)) if name.starts_with("pool/") => {
                    let mut file = File::open(entry.path()).or_fail(Class::System, failed)?;
                    let rest = file.metadata().or_fail(Class::System, failed)?.len().saturating_sub(skip);
                    file.seek(SeekFrom::Start(skip)).or_fail(Class::System, failed)?;
                    append_stream(tar, &below, prefix.len() as u64 + rest, (&prefix[..]).chain(file.take(rest)))?;
                }
                _ => tar.append_path_with_name(entry.path(), &below).or_fail(Class::System, failed)?,
            }
            files += 1;
        }
    }
    Ok(files)
}
