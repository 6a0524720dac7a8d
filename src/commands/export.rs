//! `twostage export ARCHIVE`: what another machine needs to rebuild the images, without a mirror.

use crate::cli::Export;
use crate::output::{Output, bytes};
use crate::session::{Session, UNFINISHED};
use std::fs::File;
use std::path::Path;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Result};

/// The folders of an export. Our own key does not travel, nor does what is derived from the rest: a channel
/// is the list of its members, and is signed anew where it arrives.
pub const FOLDERS: [&str; 5] = ["pool", "blobs", "builds", "keys", "channels"];

pub fn run(arguments: &Export, project: &Path, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let archive = &arguments.archive;
    let failed = || format!("cannot write {}", archive.display());
    let folder = archive.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder).or_fail(Class::System, failed)?;
    let mut tar = tar::Builder::new(file);
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    let mut count = 0;
    for folder in ["pool", "blobs", "builds", "keys"] {
        count += append(&mut tar, &session.repository.root().join(folder), folder)?;
    }
    for name in session.repository.channels()? {
        if let Some(channel) = session.repository.channel(&name)? {
            let members = serde_json::to_vec_pretty(&channel.members).or_fail(Class::System, failed)?;
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(members.len() as u64);
            tar.append_data(&mut header, format!("channels/{name}"), &members[..]).or_fail(Class::System, failed)?;
            count += 1;
        }
    }
    let file = tar.into_inner().or_fail(Class::System, failed)?;
    file.as_file().sync_all().or_fail(Class::System, failed)?;
    let size = file.as_file().metadata().or_fail(Class::System, failed)?.len();
    file.persist(archive).or_fail(Class::System, failed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).or_fail(Class::System, failed)?;
    output.result(
        &format!("{}  {count} files, {}; take it in with `twostage import`", archive.display(), bytes(size)),
        &serde_json::json!({ "event": "exported", "archive": archive, "files": count, "bytes": size }),
    );
    Ok(())
}

fn append(tar: &mut tar::Builder<tempfile::NamedTempFile>, folder: &Path, name: &str) -> Result<usize> {
    let failed = || format!("cannot read {}", folder.display());
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(0) };
    let mut entries: Vec<_> = entries.collect::<std::io::Result<_>>().or_fail(Class::System, failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut count = 0;
    for entry in entries {
        let below = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().or_fail(Class::System, failed)?.is_dir() {
            count += append(tar, &entry.path(), &below)?;
        } else {
            tar.append_path_with_name(entry.path(), &below).or_fail(Class::System, failed)?;
            count += 1;
        }
    }
    Ok(count)
}
