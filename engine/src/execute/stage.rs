//! One stage's container, and what its steps do to it.

use super::context::{Context, MAX_ENTRIES, Source as InContext};
use super::fetch::Remote;
use super::files::{self, How, Out};
use super::pattern::{Pattern, is_pattern};
use super::spot::{Spot, owner};
use crate::blocking;
use crate::dockerfile::state::{CopyStep, RunStep, Source};
use crate::dockerfile::values;
use crate::{Attach, Container, Exec, Network, pipe};
use std::sync::Arc;
use twostage_image::path::{self, join};
use twostage_image::{TarWriter, Tarball};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Hasher, Result, Sha256};

/// A stage's container.
pub struct Stage {
    pub container: Container,
}

/// Where a COPY takes files from.
#[derive(Clone, Copy)]
pub enum From<'a> {
    Context(&'a Arc<Context>),
    Container(&'a Container),
    Nothing,
}

/// What a source is, wherever it is.
enum Piece<'a> {
    Context(Arc<Context>, InContext),
    Container(&'a Container, InContext),
}

impl Piece<'_> {
    fn source(&self) -> &InContext {
        match self {
            Piece::Context(_, source) | Piece::Container(_, source) => source,
        }
    }
}

/// What a source of a COPY names, in order.
async fn pieces<'a>(source: &str, from: From<'a>) -> Result<Vec<Piece<'a>>> {
    let found = match from {
        From::Context(context) => {
            return Ok(context.find(source)?.into_iter().map(|found| Piece::Context(Arc::clone(context), found)).collect());
        }
        From::Container(container) => in_container(container, source).await?,
        From::Nothing => Vec::new(),
    };
    let From::Container(container) = from else { return Err(nothing(source)) };
    if found.is_empty() {
        return Err(nothing(source));
    }
    Ok(found.into_iter().map(|found| Piece::Container(container, found)).collect())
}

fn nothing(source: &str) -> Error {
    Error::new(Class::Project, format!("there is no {} there", path::shown(source))).hint("correct the path, or what --from names")
}

async fn in_container(container: &Container, source: &str) -> Result<Vec<InContext>> {
    let wanted = source.trim_matches('/');
    if !is_pattern(wanted) {
        let name = wanted.rsplit('/').next().unwrap_or_default().to_string();
        let spot = Spot::of(container, wanted).await?;
        return Ok(spot.there.map(|folder| InContext { name, path: spot.path, folder }).into_iter().collect());
    }
    // The folder above the first pattern, as the engine copies it out; only its names are looked at.
    let fixed = wanted.split('/').take_while(|part| !is_pattern(part)).collect::<Vec<_>>().join("/");
    let top = Spot::of(container, &fixed).await?;
    if top.there != Some(true) {
        return Ok(Vec::new());
    }
    let patterns = wanted.split('/').skip_while(|part| !is_pattern(part)).map(|part| {
        Pattern::parse(part, false).map_err(|why| Error::new(Class::Project, format!("{part} is not a pattern: {why}")).hint("mend it"))
    });
    let patterns = patterns.collect::<Result<Vec<_>>>()?;
    let tar = container.copy_out(&format!("/{}", top.path)).await?;
    let names = blocking(move || {
        let mut tarball = Tarball::new(tar);
        let mut names = Vec::new();
        let mut root: Option<String> = None;
        while let Some(header) = tarball.next()? {
            let name = path::clean(&header.path)?;
            let root = root.get_or_insert_with(|| name.clone());
            let below = name.strip_prefix(root.as_str()).unwrap_or_default().trim_matches('/');
            let parts: Vec<&str> = below.split('/').collect();
            if parts.len() == patterns.len() && parts.iter().zip(&patterns).all(|(part, pattern)| pattern.matches(part)) {
                names.push(below.to_string());
            }
            if names.len() > MAX_ENTRIES {
                return Err(
                    Error::new(Class::Project, format!("the pattern names more than {MAX_ENTRIES} files")).hint("name their folder")
                );
            }
        }
        names.sort();
        Ok(names)
    })
    .await?;
    let mut found = Vec::new();
    for below in names {
        let spot = Spot::of(container, &join(&top.path, &below)).await?;
        let name = below.rsplit('/').next().unwrap_or_default().to_string();
        found.extend(spot.there.map(|folder| InContext { name, path: spot.path, folder }));
    }
    Ok(found)
}

/// What of a RUN is not in the Dockerfile.
#[derive(Default)]
pub struct Sees<'a> {
    /// What its mounts are.
    pub mounts: &'a [Attach<'a>],
    /// What it reaches, where that is not what its container does.
    pub network: Option<Network>,
}

impl Stage {
    /// Runs a command; gives its exit status.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn run(&self, run: &RunStep, sees: Sees<'_>, now: i64, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<i64> {
        // A base may name a folder that it does not have.
        self.folder(&run.workdir, "", now).await?;
        let env: Vec<(String, String)> = run.proxies.iter().chain(&run.env).cloned().collect();
        let script = run.script.as_ref().map(|script| (script.path.as_str(), script.text.as_str()));
        let Sees { mounts, network } = sees;
        let exec = Exec { cmd: &run.argv, env: &env, user: &run.user, workdir: &run.workdir, script, mounts, network, ..Exec::default() };
        self.container.exec(exec, on_line).await
    }

    /// Makes a folder and those above it, unless they are there.
    ///
    /// # Errors
    /// Something else is there, or USER is nobody.
    pub async fn folder(&self, path: &str, user: &str, now: i64) -> Result<()> {
        let missing = Spot::of(&self.container, path).await?.as_folder()?;
        if missing.is_empty() {
            return Ok(());
        }
        let how = How { owner: Some(owner(&self.container, user).await?), chmod: None, now, mtime: None };
        self.put(false, move |out| files::folders(out, &missing, how)).await
    }

    /// Copies what a COPY or ADD names.
    ///
    /// # Errors
    /// Something is not there, or cannot be where it is to be.
    pub async fn copy(&self, copy: &CopyStep, from: From<'_>, remote: &Remote, now: i64) -> Result<()> {
        let given = match &copy.chown {
            Some(chown) => Some(owner(&self.container, chown).await?),
            None => None,
        };
        let how = How { owner: given, chmod: copy.chmod, now, mtime: None };
        for source in &copy.sources {
            let several = copy.sources.len() + copy.documents.len() > 1;
            match source {
                Source::Path(source) => {
                    let pieces = pieces(source, from).await?;
                    let several = several || pieces.len() > 1;
                    for piece in pieces {
                        self.piece(copy, piece, several, how).await?;
                    }
                }
                Source::Url(url) => {
                    let name = values::url_name(url);
                    if name.is_none() && Spot::of(&self.container, &copy.destination).await?.there == Some(true) {
                        let what = format!("{} names no file, and {} is a folder", twostage_model::url::shown(url), copy.destination);
                        return Err(Error::new(Class::Project, what).hint("name the file that it becomes"));
                    }
                    let (path, missing) = self.target(&copy.destination, name.as_deref().unwrap_or_default(), several).await?;
                    let fetched = remote.get(url, copy.checksum.as_ref()).await?;
                    self.put(false, move |out| {
                        files::folders(out, &missing, parents(how))?;
                        files::fetched(out, &path, &fetched, how)
                    })
                    .await?;
                }
            }
        }
        for (name, text) in &copy.documents {
            let (path, missing) = self.target(&copy.destination, name, copy.sources.len() + copy.documents.len() > 1).await?;
            let text = text.clone();
            self.put(false, move |out| {
                files::folders(out, &missing, parents(how))?;
                files::document(out, &path, &text, how)
            })
            .await?;
        }
        Ok(())
    }

    async fn piece(&self, copy: &CopyStep, piece: Piece<'_>, several: bool, how: How) -> Result<()> {
        if let (Piece::Context(context, source), true) = (&piece, copy.unpack && !piece.source().folder) {
            let (context, source) = (Arc::clone(context), source.clone());
            let packed = blocking(move || {
                let mut file = context.file(&source.path)?;
                Ok(files::is_archive(&mut file)?.then_some(file))
            });
            if let Some(tar) = packed.await? {
                let spot = Spot::of(&self.container, &copy.destination).await?;
                let (missing, target) = (spot.as_folder()?, spot.path);
                return self
                    .put(true, move |out| {
                        files::folders(out, &missing, parents(how))?;
                        files::from_archive(out, tar, &target, how)
                    })
                    .await;
            }
        }
        let source = piece.source().clone();
        let mut made = None;
        let (target, missing) = if source.folder {
            let spot = Spot::of(&self.container, &copy.destination).await?;
            made = spot.there.is_none().then(|| parents(how));
            (spot.path.clone(), spot.as_folder()?)
        } else {
            self.target(&copy.destination, &source.name, several).await?
        };
        match piece {
            Piece::Context(context, source) => {
                self.put(false, move |out| {
                    files::folders(out, &missing, parents(how))?;
                    files::from_context(out, &context, &source, &target, how, made)
                })
                .await
            }
            Piece::Container(container, source) => {
                let tar = container.copy_out(&format!("/{}", source.path)).await?;
                self.put(false, move |out| {
                    files::folders(out, &missing, parents(how))?;
                    files::from_container(out, tar, source.folder, &target, how, made)
                })
                .await
            }
        }
    }

    /// Puts a part of the context into an empty container; gives its path there.
    ///
    /// # Errors
    /// There is nothing of that name in the context.
    pub async fn put_context(&self, context: &Arc<Context>, source: &str) -> Result<String> {
        let how = How { owner: None, chmod: None, now: 0, mtime: None };
        let source = context.find(source)?.into_iter().next().ok_or_else(|| nothing(source))?;
        // (Not at the root, where an engine may show files of its own.)
        let target = join("context", &source.path);
        let mut above: Vec<String> = target.match_indices('/').map(|(at, _)| target[..at].to_string()).collect();
        if source.folder {
            above.push(target.clone());
        }
        let (context, to) = (Arc::clone(context), target.clone());
        let put = self.put(false, move |out| {
            files::folders(out, &above, parents(how))?;
            files::from_context(out, &context, &source, &to, how, None)
        });
        put.await?;
        Ok(format!("/{target}"))
    }

    /// Where a file goes, and the folders that are missing there.
    async fn target(&self, destination: &str, name: &str, several: bool) -> Result<(String, Vec<String>)> {
        let spot = Spot::of(&self.container, destination).await?;
        let folder = destination.ends_with('/') || spot.there == Some(true);
        if folder {
            let missing = spot.as_folder()?;
            return Ok((format!("{}/{name}", spot.path).trim_matches('/').to_string(), missing));
        }
        if several {
            return Err(Error::new(Class::Project, format!("several files cannot become {destination}")).hint("end it with a slash"));
        }
        Ok((spot.path, spot.missing))
    }

    /// Hands a tar to the engine while it is made.
    async fn put(&self, replace: bool, make: impl FnOnce(&mut Out) -> Result<()> + Send + 'static) -> Result<()> {
        let (writer, stream) = pipe();
        let making = blocking(move || {
            let mut out = TarWriter::new(writer);
            make(&mut out)?;
            out.finish().and_then(crate::PipeWriter::finish).or_fail(Class::Engine, || "cannot hand files to the engine".into())
        });
        match tokio::join!(making, self.container.put(stream, replace)) {
            (Ok(()), put) => put,
            // When the engine stops reading, it says why; when the tar ends early, we do.
            (Err(error), Err(refusal)) if error.class() == Class::Engine => Err(refusal),
            (Err(error), _) => Err(error),
        }
    }
}

/// The digest of what sources of a COPY or mount hold: of files their names, rights and contents, not their times, as in
/// Docker's cache. The time of what is fetched counts, as there, unless its digest is known; then it is not fetched.
///
/// # Errors
/// Something is not there, or cannot be read.
pub async fn content(sources: &[Source], from: From<'_>, remote: &Remote, checksum: Option<&Sha256>) -> Result<Sha256> {
    let how = How { owner: None, chmod: None, now: 0, mtime: Some(0) };
    let mut digests = Vec::new();
    for source in sources {
        let source = match source {
            Source::Path(path) => path,
            Source::Url(url) => {
                let name = values::url_name(url).unwrap_or_default();
                digests.push(match checksum {
                    Some(digest) => format!("url {digest} {name}"),
                    None => {
                        let fetched = remote.get(url, None).await?;
                        format!("url {} {} {name}", fetched.sha256, fetched.modified.unwrap_or(0))
                    }
                });
                continue;
            }
        };
        for piece in pieces(source, from).await? {
            let InContext { name, folder, path } = piece.source().clone();
            let digest = match piece {
                Piece::Context(context, source) => hashed(move |out| files::from_context(out, &context, &source, "x", how, None)).await?,
                Piece::Container(container, source) => {
                    let tar = container.copy_out(&format!("/{path}")).await?;
                    hashed(move |out| files::from_container(out, tar, source.folder, "x", how, None)).await?
                }
            };
            digests.push(format!("{folder} {digest} {name}"));
        }
    }
    Ok(Sha256::of(digests.join("\n").as_bytes()))
}

/// The digest of a tar that is made.
async fn hashed(make: impl FnOnce(&mut TarWriter<Hasher>) -> Result<()> + Send + 'static) -> Result<Sha256> {
    blocking(move || {
        let mut out = TarWriter::new(Hasher::default());
        make(&mut out)?;
        Ok(out.finish().or_fail(Class::System, || "cannot hash files".into())?.finish())
    })
    .await
}

/// A path of a container that must be there, links followed.
///
/// # Errors
/// It is not there.
pub async fn place(container: &Container, path: &str) -> Result<String> {
    let spot = Spot::of(container, path).await?;
    spot.there.map(|_| format!("/{}", spot.path)).ok_or_else(|| nothing(path))
}

/// The folders above what is copied get its owner and not its mode.
fn parents(how: How) -> How {
    How { owner: how.owner.or(Some((0, 0))), chmod: None, ..how }
}
