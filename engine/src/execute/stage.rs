//! One stage's container, and what its steps do to it.

use super::context::{Context, MAX_ENTRIES, Source as InContext};
use super::fetch::Remote;
use super::files::{self, Copied, How, Out, Renamed};
use super::pattern::{Pattern, Select, is_pattern};
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

/// What of a source is copied.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    pub sources: &'w [Source],
    /// `--exclude`.
    pub exclude: &'w [String],
    /// What the only source, a URL, has to be.
    pub checksum: Option<&'w Sha256>,
}

impl<'w> Wanted<'w> {
    pub fn of(copy: &'w CopyStep) -> Wanted<'w> {
        Wanted { sources: &copy.sources, exclude: &copy.exclude, checksum: copy.checksum.as_ref() }
    }
}

/// What a source is, wherever it is.
struct Piece<'a> {
    from: From<'a>,
    source: InContext,
    select: Arc<Select>,
    /// Where the source is in what is selected from, as in [`Copied`].
    within: String,
}

impl Piece<'_> {
    /// Whether what is in it is copied, not itself.
    fn is_folder(&self) -> bool {
        self.source.folder || !self.within.is_empty()
    }

    fn copied(&self, target: String, how: How, made: Option<How>) -> Copied {
        Copied { target, how, made, select: Arc::clone(&self.select), within: self.within.clone() }
    }
}

/// What a source of a COPY names, in order; a pattern may name nothing.
async fn pieces<'a>(source: &Source, exclude: &[String], from: From<'a>) -> Result<Vec<Piece<'a>>> {
    let select = |only: &str| {
        let select = Select::new(only, exclude).map_err(|why| Error::new(Class::Project, why).hint("mend the pattern"));
        select.map(Arc::new)
    };
    match source {
        Source::Path(path) => {
            let select = select("")?;
            let found = sources(path, from).await?.into_iter();
            Ok(found.map(|source| Piece { from, source, select: Arc::clone(&select), within: String::new() }).collect())
        }
        Source::Parents { root, only } => {
            if !is_pattern(root) && !is_pattern(only) {
                sources(&values::join(root, only), from).await?;
            }
            let select = select(only)?;
            let mut pieces = Vec::new();
            for source in sources(root, from).await? {
                if !source.folder {
                    let what = format!("{} is no folder", path::shown(&source.path));
                    return Err(Error::new(Class::Project, what).hint("what stands before /./ is the folder that paths are kept from"));
                }
                let first = only.split('/').next().filter(|first| !first.is_empty() && !is_pattern(first));
                match (from, first) {
                    // Not all of a container has to be read for a part of it.
                    (From::Container(container), Some(first)) => {
                        let path = join(&source.path, first);
                        if let Some(found) = container.find(&format!("/{path}")).await? {
                            let source = InContext { name: first.to_string(), path, folder: found.folder };
                            pieces.push(Piece { from, source, select: Arc::clone(&select), within: first.to_string() });
                        }
                    }
                    _ => pieces.push(Piece { from, source, select: Arc::clone(&select), within: String::new() }),
                }
            }
            Ok(pieces)
        }
        Source::Url(_) => Ok(Vec::new()),
    }
}

/// What a path or pattern names.
async fn sources(source: &str, from: From<'_>) -> Result<Vec<InContext>> {
    match from {
        From::Context(context) => context.find(source),
        From::Container(container) => in_container(container, source).await,
        // A root, and nothing in it.
        From::Nothing if source.trim_matches('/').is_empty() => {
            Ok(vec![InContext { name: String::new(), path: String::new(), folder: true }])
        }
        From::Nothing if is_pattern(source) => Ok(Vec::new()),
        From::Nothing => Err(nothing(source)),
    }
}

fn nothing(source: &str) -> Error {
    Error::new(Class::Project, format!("there is no {} there", path::shown(source))).hint("correct the path, or what --from names")
}

async fn in_container(container: &Container, source: &str) -> Result<Vec<InContext>> {
    let wanted = source.trim_matches('/');
    if !is_pattern(wanted) {
        return Ok(vec![at(container, wanted).await?]);
    }
    // The folder above the first pattern, as the engine copies it out; only its names are looked at.
    let fixed = wanted.split('/').take_while(|part| !is_pattern(part)).collect::<Vec<_>>().join("/");
    let top = Spot::of(container, &fixed).await?;
    if top.there != Some(true) {
        return Err(nothing(source));
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
        found.push(at(container, &join(&top.path, &below)).await?);
    }
    Ok(found)
}

/// What is at a path of a container, its links followed.
async fn at(container: &Container, path: &str) -> Result<InContext> {
    let name = path.rsplit('/').next().unwrap_or_default().to_string();
    let spot = Spot::of(container, path).await?;
    spot.there.map(|folder| InContext { name, path: spot.path, folder }).ok_or_else(|| nothing(path))
}

/// What of a RUN is not in the Dockerfile.
#[derive(Default)]
pub struct Sees<'a> {
    /// What its mounts are.
    pub mounts: &'a [Attach<'a>],
    /// Variables that secrets are in.
    pub secrets: &'a [(String, String)],
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
        let Sees { mounts, secrets, network } = sees;
        let env: Vec<(String, String)> = run.proxies.iter().chain(&run.env).chain(secrets).cloned().collect();
        let script = run.script.as_ref().map(|script| (script.path.as_str(), script.text.as_str()));
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
        self.put(false, move |out| files::folders(out, &missing, &how)).await
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
        let how = How { owner: given, chmod: copy.chmod.clone().map(Arc::new), now, mtime: None };
        for source in &copy.sources {
            let several = copy.sources.len() + copy.documents.len() > 1;
            match source {
                Source::Path(_) | Source::Parents { .. } => {
                    let pieces = pieces(source, &copy.exclude, from).await?;
                    let several = several || pieces.len() > 1;
                    for piece in pieces {
                        self.piece(copy, piece, several, &how).await?;
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
                    let how = how.clone();
                    self.put(false, move |out| {
                        files::folders(out, &missing, &parents(&how))?;
                        files::fetched(out, &path, &fetched, &how)
                    })
                    .await?;
                }
            }
        }
        for (name, text) in &copy.documents {
            let (path, missing) = self.target(&copy.destination, name, copy.sources.len() + copy.documents.len() > 1).await?;
            let (text, how) = (text.clone(), how.clone());
            self.put(false, move |out| {
                files::folders(out, &missing, &parents(&how))?;
                files::document(out, &path, &text, &how)
            })
            .await?;
        }
        Ok(())
    }

    async fn piece(&self, copy: &CopyStep, piece: Piece<'_>, several: bool, how: &How) -> Result<()> {
        if let (From::Context(context), true) = (piece.from, copy.unpack && !piece.is_folder()) {
            let (context, path) = (Arc::clone(context), piece.source.path.clone());
            let packed = blocking(move || {
                let mut file = context.file(&path)?;
                Ok(files::is_archive(&mut file)?.then_some(file))
            });
            if let Some(tar) = packed.await? {
                let spot = Spot::of(&self.container, &copy.destination).await?;
                let (missing, target, how) = (spot.as_folder()?, spot.path, how.clone());
                return self
                    .put(true, move |out| {
                        files::folders(out, &missing, &parents(&how))?;
                        files::from_archive(out, tar, &target, &how)
                    })
                    .await;
            }
        }
        let mut made = None;
        let (target, missing) = if piece.is_folder() {
            let spot = Spot::of(&self.container, &copy.destination).await?;
            made = spot.there.is_none().then(|| parents(how));
            (spot.path.clone(), spot.as_folder()?)
        } else {
            self.target(&copy.destination, &piece.source.name, several).await?
        };
        let (copied, above) = (piece.copied(target, how.clone(), made), parents(how));
        match piece.from {
            From::Context(context) => {
                let (context, source) = (Arc::clone(context), piece.source);
                self.put(false, move |out| {
                    files::folders(out, &missing, &above)?;
                    files::from_context(out, &context, &source, &copied)
                })
                .await
            }
            From::Container(container) => {
                let renamed = renamed(container, &piece.source, &copied).await?;
                let tar = container.copy_out(&format!("/{}", piece.source.path)).await?;
                self.put(false, move |out| {
                    files::folders(out, &missing, &above)?;
                    files::from_container(out, tar, piece.source.folder, &copied, &renamed)
                })
                .await
            }
            From::Nothing => self.put(false, move |out| files::folders(out, &missing, &above)).await,
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
        let context = Arc::clone(context);
        let copied = Copied { target: target.clone(), how, made: None, select: Arc::default(), within: String::new() };
        let put = self.put(false, move |out| {
            files::folders(out, &above, &parents(&copied.how))?;
            files::from_context(out, &context, &source, &copied)
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

/// What has to be known of a container's files before some of them are selected.
async fn renamed(container: &Container, source: &InContext, copied: &Copied) -> Result<Renamed> {
    if copied.select.is_everything() || !source.folder {
        return Ok(Renamed::new());
    }
    let tar = container.copy_out(&format!("/{}", source.path)).await?;
    let copied = copied.clone();
    blocking(move || files::renamed(tar, &copied)).await
}

/// The digest of what sources of a COPY or mount hold: of files their names, rights and contents, not their times, as in
/// Docker's cache. The time of what is fetched counts, as there, unless its digest is known; then it is not fetched.
///
/// # Errors
/// Something is not there, or cannot be read.
pub async fn content(wanted: Wanted<'_>, from: From<'_>, remote: &Remote) -> Result<Sha256> {
    let how = How { owner: None, chmod: None, now: 0, mtime: Some(0) };
    let mut digests = Vec::new();
    for source in wanted.sources {
        if let Source::Url(url) = source {
            let name = values::url_name(url).unwrap_or_default();
            digests.push(match wanted.checksum {
                Some(digest) => format!("url {digest} {name}"),
                None => {
                    let fetched = remote.get(url, None).await?;
                    format!("url {} {} {name}", fetched.sha256, fetched.modified.unwrap_or(0))
                }
            });
        }
        for piece in pieces(source, wanted.exclude, from).await? {
            let InContext { name, folder, path } = piece.source.clone();
            let copied = piece.copied("x".into(), how.clone(), None);
            let digest = match piece.from {
                From::Context(context) => {
                    let (context, source) = (Arc::clone(context), piece.source);
                    hashed(move |out| files::from_context(out, &context, &source, &copied)).await?
                }
                From::Container(container) => {
                    let renamed = renamed(container, &piece.source, &copied).await?;
                    let tar = container.copy_out(&format!("/{path}")).await?;
                    hashed(move |out| files::from_container(out, tar, folder, &copied, &renamed)).await?
                }
                From::Nothing => continue,
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
fn parents(how: &How) -> How {
    How { owner: how.owner.or(Some((0, 0))), chmod: None, ..how.clone() }
}
