//! `twostage import ARCHIVE`: takes in what `export` wrote. Packages are read as if they came from
//! anywhere, and packages and blobs must hash to their names. What nothing in the archive can prove is
//! believed: which build made which packages, what a channel holds, and whose keys sign rpms. So an archive
//! is taken from people one would take packages from.

use crate::cli::{Import, ProjectArgs};
use crate::commands::export::FOLDERS;
use crate::commands::publish;
use crate::output::Output;
use crate::session::Session;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use twostage_beneath::read_text;
use twostage_builder::members;
use twostage_builder::record::{Record, Records};
use twostage_image::Tarball;
use twostage_model::error::OrFail as _;
use twostage_model::names::{INCOMING, check_channel_name, is_suite_name};
use twostage_model::shown::count;
use twostage_model::{Class, Error, Hasher, Result, Sha256};
use twostage_package::control::dsc_files;
use twostage_package::rpm::looks_like_rpm;
use twostage_reposerver::{Extra, Members, shown_suite};

/// A description of a source package is small, a distribution's advisories some ten MiB; anything
/// larger is neither.
const LARGEST_TEXT: u64 = 64 << 20;

/// Bytes of a suite's name, at most.
const LONGEST_SUITE: u64 = 64;

/// What to do about an archive that is not as it was written.
const AGAIN: &str = "it is cut off, changed, or not what `twostage export` wrote: copy it again";

pub fn run(arguments: &Import, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let archive = &arguments.archive;
    let wrong = |why: &str| Error::new(Class::Repository, format!("{} is not taken: {why}", archive.display())).hint(AGAIN);
    let folder = tempfile::Builder::new()
        .prefix(INCOMING)
        .tempdir_in(&session.state)
        .or_fail(Class::System, || format!("cannot write in {}", session.state.display()))?;
    unpack(archive, folder.path(), &wrong)?;

    // Pool: first what is a package by itself, then sources, whose files lie beside them.
    let pool = by_digest(&folder.path().join("pool"), &wrong)?;
    let mut packages = 0;
    for (digest, path) in &pool {
        if is_package(path)? {
            if session.repository.pool().ingest_unpublished(path)?.sha256 != *digest {
                return Err(wrong(&format!("{digest} is not what its name says")));
            }
            packages += 1;
        }
    }
    for entry in fs::read_dir(folder.path().join("keys")).into_iter().flatten().flatten() {
        let text =
            read_text(&entry.path(), LARGEST_TEXT, Class::Repository).map_err(|cause| wrong("a key of it is none").because(cause))?;
        session.repository.signing().add_key(&text)?;
    }
    let mut channels = Vec::new();
    for entry in fs::read_dir(folder.path().join("channels")).into_iter().flatten().flatten() {
        let text = fs::read(entry.path()).or_fail(Class::System, || "cannot read a channel".into())?;
        let members: Members = serde_json::from_slice(&text).map_err(|cause| wrong("a channel of it cannot be read").because(cause))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        check_channel_name(&name).map_err(|cause| wrong("a channel of it has a name that none has").because(cause))?;
        let suite = suite_of(&folder.path().join("suites").join(&name), &session, &wrong)?;
        check_same_suite(&session, archive, &name, suite.as_deref())?;
        channels.push((name, suite, members));
    }
    for digest in channels.iter().flat_map(|(.., members)| members.values().flatten()) {
        let path = pool.get(digest).ok_or_else(|| wrong(&format!("a channel names {digest}, which is not in it")))?;
        if !is_package(path)? {
            import_source(&session, path, &pool).map_err(|cause| wrong("a source package of it").because(cause))?;
        }
    }
    for (digest, path) in by_digest(&folder.path().join("blobs"), &wrong)? {
        let file = File::open(&path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
        if session.repository.pool().put_blob(file)?.sha256 != digest {
            return Err(wrong("a blob changed while it was read"));
        }
    }
    let taken = channels.len();
    import_records(&session, &folder.path().join("builds"))?;
    for (name, suite, exported) in channels {
        session.repository.publish_for(&name, suite.as_deref(), session.now, |members| {
            // What was published to the channel on this machine stays.
            let published = members.remove(publish::GROUP);
            *members = exported;
            members.entry(publish::GROUP.to_string()).or_default().extend(published.into_iter().flatten());
        })?;
    }
    output.result(
        &format!("{}, {} taken in", count(packages, "package"), count(taken, "channel")),
        &serde_json::json!({ "event": "imported", "packages": packages, "channels": taken }),
    );
    Ok(())
}

/// The suite that a channel was for where it was exported; an archive of an earlier version does not say it, and then it
/// is that of the project.
fn suite_of(path: &Path, session: &Session, wrong: &dyn Fn(&str) -> Error) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(session.project.repository.suite.clone());
    }
    let suite = read_text(path, LONGEST_SUITE, Class::Repository).map_err(|cause| wrong("a suite of it cannot be read").because(cause))?;
    if !suite.is_empty() && !is_suite_name(&suite) {
        return Err(wrong(&format!("{suite:?} cannot be a suite's name")));
    }
    Ok(Some(suite).filter(|suite| !suite.is_empty()))
}

/// Refuses a channel that is here for another suite: what has one name and version may have another content there.
fn check_same_suite(session: &Session, archive: &Path, name: &str, suite: Option<&str>) -> Result<()> {
    let Some(here) = session.repository.channels().get(name)?.filter(|here| here.suite.as_deref() != suite) else { return Ok(()) };
    let what = format!(
        "channel {name} is for {} in {}, and for {} here",
        shown_suite(suite),
        archive.display(),
        shown_suite(here.suite.as_deref())
    );
    Err(Error::new(Class::Repository, what).hint("take it into another repository: `twostage import ARCHIVE --repository FOLDER`"))
}

/// Unpacks regular files of the known folders, nothing else.
fn unpack(archive: &Path, into: &Path, wrong: &dyn Fn(&str) -> Error) -> Result<()> {
    let unreadable = || format!("cannot read {}", archive.display());
    let named = "name the archive that `twostage export` wrote";
    if archive.is_dir() {
        return Err(wrong("it is a folder").hint(named));
    }
    let file = File::open(archive).or_fail(Class::Repository, unreadable).map_err(|error| error.hint(named))?;
    // What is something else altogether is said before what is wrong with it as an archive.
    let mut head = Vec::new();
    (&file).take(16 << 10).read_to_end(&mut head).or_fail(Class::Repository, unreadable)?;
    let first = Tarball::new(&head[..]).next();
    if !matches!(first, Ok(Some(_))) {
        return Err(wrong(if first.is_ok() { "there is nothing in it" } else { "it is no tar" })
            .hint(format!("{named}; packages are taken by `twostage publish`, images by `twostage import-image`")));
    }
    members::for_each(
        (&head[..]).chain(file),
        |cause| Error::new(Class::Repository, unreadable()).because(cause).hint(AGAIN),
        |member| {
            let path = member.path;
            let parts: Vec<&str> = path.split('/').collect();
            let plain = |part: &&str| {
                !part.is_empty() && !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            };
            if member.kind != tar::EntryType::Regular || parts.len() < 2 || !FOLDERS.contains(&parts[0]) || !parts.iter().all(plain) {
                return Err(wrong(&format!("{path:?} does not belong in it")));
            }
            let target = into.join(&path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).or_fail(Class::System, || format!("cannot make {}", parent.display()))?;
            }
            let mut out = File::create_new(&target).map_err(|cause| wrong(&format!("{path:?} cannot be written")).because(cause))?;
            std::io::copy(member.content, &mut out).or_fail(Class::Repository, unreadable)?;
            Ok(())
        },
    )
}

/// Files whose name is their digest, checked. (That of an rpm leaves its signatures out: reading the
/// package tells it.)
fn by_digest(folder: &Path, wrong: &dyn Fn(&str) -> Error) -> Result<BTreeMap<Sha256, PathBuf>> {
    let mut found = BTreeMap::new();
    for shard in fs::read_dir(folder).into_iter().flatten().flatten() {
        for entry in fs::read_dir(shard.path()).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if looks_like_rpm(&magic(&path)?)
                && let Ok(digest) = name.parse()
            {
                found.insert(digest, path);
                continue;
            }
            let mut hasher = Hasher::default();
            let mut file = File::open(&path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
            std::io::copy(&mut file, &mut hasher).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
            let digest = hasher.finish();
            if name.parse::<Sha256>().ok() != Some(digest) {
                return Err(wrong(&format!("{name} is not what its name says")));
            }
            found.insert(digest, path);
        }
    }
    Ok(found)
}

/// Whether a file of the pool is a package by itself.
fn is_package(path: &Path) -> Result<bool> {
    let magic = magic(path)?;
    Ok(magic == *b"!<arch>\n" || looks_like_rpm(&magic))
}

fn magic(path: &Path) -> Result<[u8; 8]> {
    let mut magic = [0; 8];
    let mut file = File::open(path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
    let _ = file.read(&mut magic).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
    Ok(magic)
}

/// A source package by its description, or what repositories list beside packages.
fn import_source(session: &Session, dsc: &Path, pool: &BTreeMap<Sha256, PathBuf>) -> Result<()> {
    let unreadable = || format!("cannot read {}", dsc.display());
    let mut text = String::new();
    File::open(dsc).and_then(|file| file.take(LARGEST_TEXT).read_to_string(&mut text)).or_fail(Class::Repository, unreadable)?;
    if let Some(kind) = Extra::of(text.as_bytes()).filter(|_| !text.contains("\nChecksums-Sha256:")) {
        session.repository.pool().ingest_extra(kind, text.as_bytes())?;
        return Ok(());
    }
    let description = dsc_files(&text)?;
    session.repository.pool().ingest_source_from(text.as_bytes(), &description.source, |name| {
        let listed = description.files.iter().find(|file| file.name == name).and_then(|file| pool.get(&file.sha256));
        let path = listed.ok_or_else(|| Error::new(Class::Repository, format!("{name} is not in the archive")))?;
        Ok(Box::new(File::open(path).or_fail(Class::System, || format!("cannot read {}", path.display()))?))
    })?;
    Ok(())
}

fn import_records(session: &Session, folder: &Path) -> Result<()> {
    for component in fs::read_dir(folder).into_iter().flatten().flatten() {
        let records = Records::of(&session.repository.root().join("builds"), &component.file_name().to_string_lossy());
        let mut current = None;
        for entry in fs::read_dir(component.path()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = fs::read(entry.path()).or_fail(Class::System, || format!("cannot read {}", entry.path().display()))?;
            if name == "current" {
                current = String::from_utf8_lossy(&text).trim().parse::<Sha256>().ok();
            } else if let Some(key) = name.strip_suffix(".json").and_then(|key| key.parse::<Sha256>().ok()) {
                let record: Record =
                    serde_json::from_slice(&text).or_fail(Class::Repository, || format!("the build record {name} cannot be read"))?;
                records.put(&key, &record)?;
            }
        }
        if let Some(key) = current {
            records.make_current(&key)?;
        }
    }
    Ok(())
}
