//! `twostage import-image FILE [NAME]`: takes images into what is kept here without a daemon.

use super::load::as_it_is;
use crate::cli::ImportImage;
use crate::images::{Sink, whole_name};
use crate::output::Output;
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempPath;
use twostage_builder::Context;
use twostage_engine::{Engine, Reference, file_stream};
use twostage_image::{Store, Tarball};
use twostage_model::error::OrFail as _;
use twostage_model::event::Outcome;
use twostage_model::shown::size;
use twostage_model::{Class, Error, Result};

/// What was taken in. Its serialised field names are stable.
#[derive(Serialize)]
struct Done {
    event: &'static str,
    /// None if the image has none.
    image: Option<String>,
    id: String,
    size: u64,
}

/// What to do about what is no archive of images.
const NO_ARCHIVE: &str = "give it what `docker save` or `skopeo copy … oci-archive:` wrote; for the tar of a root file system, name the image: \
                          twostage import-image FILE NAME";
/// Bytes that an archive may unpack to.
const MAX_ARCHIVE: u64 = 64 << 30;

pub async fn run(arguments: &ImportImage, output: &Output) -> Result<()> {
    let engine = arguments.store.connect().await?;
    let (start, events) = (Instant::now(), output.sink());
    let shown = arguments.file.display().to_string();
    events.started(&shown, "taking it in");
    let taken = take_in(&engine, &arguments.file, arguments.name.as_deref()).await.map_err(|error| {
        let hint = error.hint_or_class().to_string();
        Error::new(error.class(), format!("cannot take in {shown}")).because(error).hint(hint)
    })?;
    events.finished(&shown, Outcome::Done, "", start);
    for (name, id) in taken {
        let bytes = engine.image(&id).await?.map_or(0, |info| u64::try_from(info.size).unwrap_or(0));
        let text = format!("{}  {}  {}", name.as_deref().unwrap_or("(no name)"), id.get(..19).unwrap_or(&id), size(bytes));
        output.result(&text, &Done { event: "imported-image", image: name, id, size: bytes });
    }
    engine.settle().await;
    Ok(())
}

/// Gives name and id of each.
async fn take_in(engine: &Engine, path: &Path, name: Option<&str>) -> Result<Vec<(Option<String>, String)>> {
    let (path, _spool) = plain(path).await?;
    let at = path.clone();
    if let Some(name) = name
        && Context::blocking(move || Ok(at.is_file() && !Store::is_archive(&at))).await?
    {
        let file = tokio::fs::File::open(&path).await.or_fail(Class::System, || format!("cannot read {}", path.display()))?;
        let id = engine.import(file_stream(file), name, &[]).await?;
        return Ok(vec![(Some(name.to_string()), id)]);
    }
    let images = Context::blocking(move || Store::open_all(&path, &|_| false)).await.map_err(|error| error.hint(NO_ARCHIVE))?;
    if let Some(name) = name.filter(|_| images.len() != 1) {
        return Err(Error::new(Class::Usage, format!("there are {} images in it, and {name} can be the name of one", images.len()))
            .hint("take them in under the names that they have in it, without NAME, and give them others with `twostage tag`"));
    }
    let mut taken = Vec::new();
    for image in images {
        let id = format!("sha256:{}", image.id());
        let names: Vec<String> = match name {
            Some(name) => vec![whole_name(name)],
            // (In a layout a name may be whatever somebody writes there.)
            None => image.tags.iter().filter(|tag| Reference::parse(tag).is_ok()).map(|tag| whole_name(tag)).collect(),
        };
        let sink = Sink::Engine { engine: engine.clone(), name: names.first().cloned(), with_kept: true };
        sink.write(move |write| as_it_is(&image, write)).await?;
        for name in names.iter().skip(1) {
            engine.tag(&id, name).await?;
        }
        taken.push((names.first().cloned(), id));
    }
    Ok(taken)
}

/// The folder, or the archive as a file that is not packed: it may be packed, or standard input.
async fn plain(path: &Path) -> Result<(PathBuf, Option<TempPath>)> {
    // Where a command has its standard input (proc(5)).
    let path = if path == Path::new("-") { PathBuf::from("/proc/self/fd/0") } else { path.to_path_buf() };
    Context::blocking(move || {
        if path.is_dir() {
            return Ok((path, None));
        }
        let fail = || format!("cannot read {}", path.display());
        let file = File::open(&path).or_fail(Class::System, fail)?;
        let kind = file.metadata().or_fail(Class::System, fail)?.file_type();
        if !kind.is_file() && !kind.is_fifo() && !kind.is_socket() {
            return Err(Error::new(Class::Usage, format!("{} is a device, and no archive", path.display()))
                .hint("give it a file, a folder, or - with an archive on its standard input"));
        }
        let mut file = BufReader::with_capacity(256 << 10, file);
        let head = file.fill_buf().or_fail(Class::System, fail)?;
        if path.is_file() && !path.starts_with("/proc") && !twostage_image::is_packed(head) {
            return Ok((path, None));
        }
        let keep = || "cannot keep the archive in a temporary file".to_string();
        let mut spool = tempfile::Builder::new().prefix("twostage-image-").tempfile().or_fail(Class::System, keep)?;
        twostage_package::unpacked(file, MAX_ARCHIVE, |plain| copy_tar(plain, &mut spool)).or_fail(Class::System, fail)?.map_err(
            |cause| {
                let hint = cause.hint_text().unwrap_or(NO_ARCHIVE).to_string();
                Error::new(cause.class(), format!("what {} gives is no archive of images", path.display())).because(cause).hint(hint)
            },
        )?;
        spool.as_file_mut().flush().or_fail(Class::System, keep)?;
        let spool = spool.into_temp_path();
        Ok((spool.to_path_buf(), Some(spool)))
    })
    .await
}

/// Copies a tar up to its end. What comes behind that nobody looks at, and it may never end.
fn copy_tar(from: &mut dyn Read, to: &mut dyn Write) -> Result<()> {
    let mut tar = Tarball::new(BufReader::with_capacity(128 << 10, Copying { from, to }));
    let mut empty = true;
    while tar.next()?.is_some() {
        empty = false;
    }
    match empty {
        true => Err(Error::new(Class::Runtime, "there is no file in it").hint(NO_ARCHIVE)),
        false => Ok(()),
    }
}

/// Writes all that is read of it to another place.
struct Copying<'a> {
    from: &'a mut dyn Read,
    to: &'a mut dyn Write,
}

impl Read for Copying<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.to.write_all(&buffer[..read])?;
        Ok(read)
    }
}
