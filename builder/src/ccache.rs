//! A compiler cache for native builds: the distribution's ccache, and for each component what it keeps.
//!
//! ```text
//! .twostage/ccache/program-<digest>.tar ─┐
//! .twostage/ccache/<component>.tar ──────┴► /build/ccache in the container ─► kept/ comes back
//! ```
//!
//! Neither is part of a component's key, and neither is a package in the container. A cache that cannot be had, read or
//! kept is no failure of a build. See `docs/decisions/ccache.md`.

use crate::Context;
use crate::base::BaseImage;
use crate::component::run_logged;
use crate::log::Log;
use crate::members;
use crate::source::{Packing, add_file, header, packing};
use crate::tools::Tools;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::Arc;
use twostage_beneath::Folder;
use twostage_engine::Container;
use twostage_model::error::OrFail as _;
use twostage_model::lock::Closure;
use twostage_model::names::INCOMING;
use twostage_model::{Class, Error, Hasher, Result};

/// Bytes of a component's cache, at most. ccache itself keeps to half of it.
const MOST_BYTES: u64 = 2 << 30;
/// Files of it, at most.
const MOST_FILES: usize = 500_000;
/// Bytes of a file's name in it, at most.
const MOST_NAME: usize = 200;
/// Counts up when what the scripts take of ccache changes.
const TAKEN: &str = "1";

/// Adds the program and the component's cache to a build's input, if that is wanted. Where there is no ccache it is built
/// without.
///
/// # Errors
/// The input cannot be written.
pub(crate) async fn give(
    context: &Arc<Context>,
    name: &str,
    base: &BaseImage,
    closure: &Closure,
    input: &mut Packing,
    log: &mut Log,
) -> Result<()> {
    if !context.ccache {
        return Ok(());
    }
    let program = match program(context, name, base, log).await {
        Ok(program) => program,
        Err(cause) => {
            context.events.note(name, format!("is built without ccache: {}", with_causes(&cause)));
            return Ok(());
        }
    };
    unpack_into(input, program, "build/ccache/program", 0o755)?;
    let mut hasher = Hasher::default();
    hasher.field(base.digest.as_bytes());
    for package in &closure.packages {
        hasher.field(package.sha256.as_bytes());
    }
    add_file(input, "build/ccache/closure", 0o644, 0, hasher.finish().to_string().as_bytes())?;
    if let Ok(folder) = folder(context)
        && let Ok(Some(kept)) = opened(&folder, &format!("{name}.tar"))
    {
        unpack_into(input, kept, "build/ccache/kept", 0o644)?;
    }
    Ok(())
}

/// Keeps what a build's container has in its cache, if that is wanted and it has one.
pub(crate) async fn keep(context: &Arc<Context>, name: &str, container: &Container) {
    if !context.ccache {
        return;
    }
    let kept = async {
        if container.find("/build/ccache/kept").await?.is_some() {
            store(context, container, "/build/ccache/kept", format!("{name}.tar")).await?;
        }
        Ok::<(), Error>(())
    };
    if let Err(cause) = kept.await {
        context.events.note(name, format!("its compiler cache is not kept: {}", with_causes(&cause)));
    }
}

fn with_causes(error: &Error) -> String {
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

/// The ccache of the base's distribution, with its libraries: downloaded once for each base.
async fn program(context: &Arc<Context>, name: &str, base: &BaseImage, log: &mut Log) -> Result<File> {
    // Two components must not both download it.
    static FETCHING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one_at_a_time = FETCHING.lock().await;
    let mut hasher = Hasher::default();
    for field in [TAKEN.as_bytes(), base.digest.as_bytes(), context.engine.architecture().as_bytes()] {
        hasher.field(field);
    }
    let file = format!("program-{}.tar", hasher.finish().short());
    let folder = folder(context)?;
    if let Some(program) = opened(&folder, &file)? {
        return Ok(program);
    }
    context.events.started(name, "downloading ccache");
    let tools = Tools::of(context.project.format);
    let container = run_logged(context, name, &base.reference, &tools.command(tools.ccache, []), &[], packing(context)?, log).await?;
    let stored = match container.exit_code {
        0 => store(context, &container, "/var/cache/twostage/ccache", file.clone()).await,
        _ => Err(Error::new(Class::Build, format!("{} gives none for this base", tools.manager)).because(log.last())),
    };
    container.remove().await?;
    stored?;
    opened(&folder, &file)?.ok_or_else(|| Error::new(Class::System, "it is gone again"))
}

fn folder(context: &Context) -> Result<Folder> {
    Folder::open(&context.state)?.make_folder("ccache")
}

fn opened(folder: &Folder, name: &str) -> Result<Option<File>> {
    match folder.kind(name)? {
        Some(twostage_beneath::EntryKind::File) => folder.file(name).map(Some),
        _ => Ok(None),
    }
}

/// Keeps the files of a container's folder as a tar of that name.
async fn store(context: &Arc<Context>, container: &Container, path: &str, name: String) -> Result<()> {
    let stream = container.copy_out(path).await?;
    let context = context.clone();
    Context::blocking(move || {
        let place = folder(&context)?.path().join(name);
        let failed = || format!("cannot write {}", place.display());
        // (In the state leftovers are swept.)
        let file = tempfile::Builder::new().prefix(INCOMING).tempfile_in(&context.state).or_fail(Class::System, failed)?;
        let mut tar = tar::Builder::new(BufWriter::new(file));
        copy(&mut tar, stream, "", 0o644, MOST_BYTES)?;
        let written = tar.into_inner().and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
        written.and_then(|file| file.persist(&place).map_err(|error| error.error)).or_fail(Class::System, failed)?;
        Ok(())
    })
    .await
}

/// Adds what was kept to an input, up to where it is damaged.
fn unpack_into(input: &mut Packing, kept: File, prefix: &str, mode: u32) -> Result<()> {
    let most = kept.metadata().map_or(0, |found| found.len()).min(MOST_BYTES);
    match copy(input, BufReader::new(kept), &format!("{prefix}/"), mode, most) {
        Err(error) if error.class() == Class::System => Err(error),
        _ => Ok(()),
    }
}

/// Copies the plain files of a tar, without the first folder of their paths where `prefix` says no other. What is no plain
/// file, or has another name than ccache gives, is left out.
///
/// # Errors
/// Class `Build`: the tar is damaged or has more than the limits allow. Class `System`: `into` cannot be written.
fn copy<W: Write>(into: &mut tar::Builder<W>, from: impl Read, prefix: &str, mode: u32, most: u64) -> Result<()> {
    let (mut files, mut bytes) = (0, 0u64);
    let wrong = |cause: io::Error| Error::new(Class::Build, "the cache is damaged").because(cause);
    members::for_each(from, wrong, |member| {
        let path = if prefix.is_empty() { member.path.split_once('/').map_or("", |(_, path)| path) } else { &member.path };
        if !member.kind.is_file() || !is_plain(path) {
            return Ok(());
        }
        files += 1;
        bytes = bytes.saturating_add(member.size);
        if files > MOST_FILES || bytes > most {
            return Err(Error::new(Class::Build, format!("it has more than {MOST_FILES} files or {most} bytes")));
        }
        let mut header = header(0);
        header.set_mode(mode);
        header.set_size(member.size);
        let path = format!("{prefix}{path}");
        let content = Padded(member.content).take(member.size);
        into.append_data(&mut header, &path, content).or_fail(Class::System, || format!("cannot pack {path}"))
    })
}

/// Whether it is a path as ccache and libraries have them.
fn is_plain(path: &str) -> bool {
    let plain =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    path.len() <= MOST_NAME && path.split('/').all(plain)
}

/// What cannot be read is zeros, so that a damaged file does not shift what stands behind it. (ccache has checksums.)
struct Padded<R>(R);

impl<R: Read> Read for Padded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Ok(read) if read > 0 => Ok(read),
            _ => {
                buffer.fill(0);
                Ok(buffer.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::EntryType as T;

    fn tar_of(entries: &[(&str, T, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = header(7);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4777);
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content.as_bytes()).expect("append");
        }
        tar.into_inner().expect("finish")
    }

    fn copied(from: &[u8], prefix: &str, most: u64) -> (Result<()>, Vec<String>) {
        let mut into = tar::Builder::new(Vec::new());
        let result = copy(&mut into, from, prefix, 0o644, most);
        let tar = into.into_inner().expect("finish");
        let mut archive = tar::Archive::new(&tar[..]);
        let shown = archive.entries().expect("a tar").map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            let (path, mode) = (entry.path().expect("a path").display().to_string(), entry.header().mode().expect("a mode"));
            format!("{path} {mode:o} {}", String::from_utf8_lossy(&content).replace('\0', "0"))
        });
        (result, shown.collect())
    }

    #[test]
    fn only_plain_files_with_plain_names_are_kept() {
        let left = tar_of(&[
            ("kept/", T::Directory, ""),
            ("kept/0/aR", T::Regular, "object"),
            ("kept/../../etc/passwd", T::Regular, "x"),
            ("kept//etc/passwd", T::Regular, "x"),
            ("kept/.hidden", T::Regular, "x"),
            ("kept/a b", T::Regular, "x"),
            ("kept/link", T::Symlink, ""),
            ("kept/pipe", T::Fifo, ""),
            ("alone", T::Regular, "x"),
        ]);
        let (result, shown) = copied(&left, "", MOST_BYTES);
        assert!(result.is_ok() && shown == ["0/aR 644 object"], "{shown:?}");
    }

    #[test]
    fn a_cache_is_bounded_and_a_damaged_one_shifts_nothing() {
        let kept = tar_of(&[("0/aR", T::Regular, "first"), ("0/bR", T::Regular, "second")]);
        let (result, shown) = copied(&kept, "k/", 6);
        assert_eq!((result.expect_err("too large").class(), &shown[..]), (Class::Build, &["k/0/aR 644 first".to_string()][..]));
        // Cut off in the middle of the second file.
        let (result, shown) = copied(&kept[..3 * 512 + 3], "k/", MOST_BYTES);
        assert!(result.is_err() && shown == ["k/0/aR 644 first", "k/0/bR 644 sec000"], "{shown:?}");
        assert!(copied(b"no tar at all", "k/", MOST_BYTES).1.is_empty());
    }
}
