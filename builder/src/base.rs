//! The base image that both stages start from: found, pulled, or made, and pinned by the lock.

use crate::Context;
use crate::bootstrapped::Kept;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use twostage_beneath::{EntryKind, Folder, FolderEntry};
use twostage_engine::{ImageInfo, Pending, file_stream};
use twostage_model::error::OrFail as _;
use twostage_model::lock::LockedBase;
use twostage_model::project::{Base, Mirror, Release};
use twostage_model::url::has_password;
use twostage_model::{Class, Error, Result, Sha256, chain_id};

/// What to do about a layout that is none.
const AGAIN: &str = "write the image into it again: skopeo copy … oci:FOLDER";
/// Bytes of a document of an OCI layout, at most.
const MAX_DOCUMENT: u64 = 4 << 20;

/// A base image that the engine has.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// What FROM and the engine call it.
    pub reference: String,
    /// The chain id of its layers: what the lock pins.
    pub digest: Sha256,
    /// The digest of its top layer.
    pub top: Sha256,
    /// Bytes, unpacked.
    pub size: i64,
    /// The user that its containers run as; empty for root. What installs packages runs as root all the same.
    pub user: String,
}

/// The base, in the engine. When the lock names one it is exactly that; else it is found or made
/// now, and the lock names it from then on. `fresh` takes the distribution's newest instead.
///
/// # Errors
/// It cannot be had, or it is not the one that is locked.
pub fn ensure<'a>(context: &'a Arc<Context>, base: &'a Base, fresh: bool) -> Pending<'a, Result<BaseImage>> {
    Box::pin(ensure_now(context, base, fresh))
}

async fn ensure_now(context: &Arc<Context>, base: &Base, fresh: bool) -> Result<BaseImage> {
    let name = base.to_string();
    let locked = context.lock().bases.get(&name).cloned().filter(|_| !fresh);
    if locked.is_none() && !context.may_lock {
        return Err(
            Error::new(Class::Project, format!("the lock names no base {name}")).hint("run `twostage lock` and commit twostage.lock")
        );
    }
    if let Some(found) = known(context, base, locked.as_ref()).await? {
        return found.base_image(&name);
    }
    let (image, pull) = match base {
        Base::Image(reference) => pulled(context, reference, locked.as_ref(), fresh).await?,
        Base::Bootstrap { release, mirrors, .. } => {
            (imported(context, &name, locked.as_ref(), || bootstrap(context, &name, release, mirrors, fresh)).await?, None)
        }
        Base::Rootfs(path) => {
            let make = || {
                context.events.started("base", &format!("reading {name}"));
                Ok(rootfs(context.files.file(path)?, context.folder.join(path)))
            };
            (imported(context, &name, locked.as_ref(), make).await?, None)
        }
        Base::Archive(path) => {
            let file = tokio::fs::File::from_std(context.files.file(path)?);
            (loaded(context, &name, context.engine.load(file_stream(file)).await?).await?, None)
        }
        Base::Layout(path) => {
            let layout = context.files.folder(path)?;
            let archive = Context::blocking(move || layout_as_archive(&layout)).await?;
            (loaded(context, &name, context.engine.load(file_stream(tokio::fs::File::from_std(archive))).await?).await?, None)
        }
    };
    let found = image.base_image(&name)?;
    let digest = found.digest;
    match locked {
        Some(locked) if locked.digest != digest => {
            return Err(Error::new(
                Class::Project,
                format!("base {name} is not the one that is locked: {} instead of {}", digest.short(), locked.digest.short()),
            )
            .hint("run `twostage update` to move to it"));
        }
        Some(_) => {}
        None => {
            context.lock().bases.insert(name, LockedBase { digest, pull, of_host: matches!(base, Base::Bootstrap { of_host: true, .. }) });
        }
    }
    Ok(found)
}

/// An image of the project that is the base of another one, as it was made last.
///
/// # Errors
/// It was not made yet.
pub async fn made(context: &Arc<Context>, name: &str) -> Result<BaseImage> {
    let info = context.engine.image(name).await?;
    let info = info.ok_or_else(|| {
        Error::new(Class::Runtime, format!("image {name} of the project is not there")).hint(format!("`twostage runtime {name}` makes it"))
    })?;
    Found { reference: name.to_string(), info }.base_image(name)
}

/// The locked base under the name that an earlier run gave it. (A pulled image keeps its own name.)
async fn known(context: &Arc<Context>, base: &Base, locked: Option<&LockedBase>) -> Result<Option<Found>> {
    let Some(locked) = locked.filter(|_| !matches!(base, Base::Image(_))) else { return Ok(None) };
    let reference = tag(&locked.digest);
    let info = context.engine.image(&reference).await?.filter(|info| chain_id(&info.diff_ids) == Some(locked.digest));
    Ok(info.map(|info| Found { reference, info }))
}

/// What the engine calls a base that no registry gave.
fn tag(digest: &Sha256) -> String {
    format!("twostage-base:{}", digest.short())
}

struct Found {
    reference: String,
    info: ImageInfo,
}

impl Found {
    fn base_image(self, name: &str) -> Result<BaseImage> {
        let digest = chain_id(&self.info.diff_ids).ok_or_else(|| Error::new(Class::Engine, format!("{name}: the image has no layer")))?;
        // It comes to stand in a Dockerfile.
        let user = self.info.user;
        if user.len() > 100 || !user.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c)) {
            return Err(Error::new(Class::Project, format!("{name}: the image's user {user:?} is not a name or a number"))
                .hint("take another base"));
        }
        let top = self.info.diff_ids.last().copied().unwrap_or(digest);
        Ok(BaseImage { reference: self.reference, digest, top, size: self.info.size, user })
    }
}

async fn pulled(context: &Arc<Context>, reference: &str, locked: Option<&LockedBase>, fresh: bool) -> Result<(Found, Option<String>)> {
    let mut found = None;
    let wanted = locked.and_then(|locked| locked.pull.as_deref());
    for candidate in wanted.into_iter().chain([reference]) {
        if let Some(info) = context.engine.image(candidate).await?
            && !fresh
            && locked.is_none_or(|locked| chain_id(&info.diff_ids) == Some(locked.digest))
        {
            found = Some((candidate.to_string(), info));
            break;
        }
    }
    if found.is_none() {
        let candidate = wanted.unwrap_or(reference);
        let before = context.engine.image(candidate).await?;
        context.events.started("base", &format!("pulling {candidate}"));
        match (context.engine.pull(candidate, &context.events, "base").await, before, locked) {
            (Ok(()), ..) => {}
            (Err(cause), Some(found), Some(locked)) => {
                let found = chain_id(&found.diff_ids).map_or("an image without layers".into(), |digest| digest.short());
                let what = format!("the engine's {candidate} is not the base that is locked: {found} instead of {}", locked.digest.short());
                let hint = "see that the engine reaches the registry, or run `twostage update` to move to what it has";
                return Err(Error::new(Class::Project, what).because(cause).hint(hint));
            }
            // An image that exists only here cannot be pulled; what is here is then the newest.
            (Err(cause), Some(_), None) if fresh => {
                let why = std::iter::once(cause.to_string()).chain(cause.causes()).collect::<Vec<_>>().join(": ");
                context.events.note("base", format!("the engine's own {candidate} is kept, for there is no newer one to be had: {why}"));
            }
            (Err(cause), ..) => return Err(cause),
        }
        let info = context.engine.image(candidate).await?;
        found = info.map(|info| (candidate.to_string(), info));
    }
    let (candidate, info) =
        found.ok_or_else(|| Error::new(Class::Engine, format!("the engine pulled {reference} but does not have it")))?;
    let by_digest = info.repo_digests.first().cloned();
    let reference = by_digest.clone().unwrap_or(candidate);
    Ok((Found { reference, info }, by_digest))
}

/// A base that is one tar: kept as a blob, so that it can be had again without its mirror.
async fn imported<F>(context: &Arc<Context>, name: &str, locked: Option<&LockedBase>, make: impl FnOnce() -> Result<F>) -> Result<Found>
where
    F: FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
{
    let digest = match locked.filter(|locked| context.packages.blob(&locked.digest).is_some()) {
        Some(locked) => locked.digest,
        None => {
            if let Some(locked) = locked {
                context.events.note(
                    "base",
                    format!(
                        "{name}: the locked base {} is neither in the engine nor in the repository; making it again",
                        locked.digest.short()
                    ),
                );
            }
            let write = make()?;
            let packages = context.packages.clone();
            let state = context.state.clone();
            Context::blocking(move || {
                let mut file = tempfile::tempfile_in(&state).or_fail(Class::System, || format!("cannot write in {}", state.display()))?;
                write(&mut file)?;
                std::io::Seek::rewind(&mut file).or_fail(Class::System, || "cannot read the base again".into())?;
                packages.put_blob(&mut file).map(|(digest, _)| digest)
            })
            .await?
        }
    };
    if let Some(locked) = locked.filter(|locked| locked.digest != digest) {
        return Err(Error::new(
            Class::Project,
            format!("base {name} has changed since it was locked: {} instead of {}", digest.short(), locked.digest.short()),
        )
        .hint("copy the repository from a machine that has the locked base, or move on with `twostage update`"));
    }
    let reference = tag(&digest);
    // Another project has made the same base.
    if let Some(info) = context.engine.image(&reference).await?.filter(|info| chain_id(&info.diff_ids) == Some(digest)) {
        return Ok(Found { reference, info });
    }
    let blob =
        context.packages.blob(&digest).ok_or_else(|| Error::new(Class::Repository, format!("base {name} is not in the repository")))?;
    let file = tokio::fs::File::open(&blob).await.or_fail(Class::System, || format!("cannot read {}", blob.display()))?;
    context.events.started("base", "importing it");
    context.engine.import(file_stream(file), &reference, &["CMD [\"/bin/sh\"]".to_string()]).await?;
    let info = context
        .engine
        .image(&reference)
        .await?
        .filter(|info| chain_id(&info.diff_ids) == Some(digest))
        .ok_or_else(|| Error::new(Class::Engine, format!("the engine did not import base {name} as it is")))?;
    Ok(Found { reference, info })
}

async fn loaded(context: &Arc<Context>, name: &str, loaded: Vec<String>) -> Result<Found> {
    for reference in &loaded {
        if let Some(info) = context.engine.image(reference).await? {
            let reference = match chain_id(&info.diff_ids) {
                Some(digest) => {
                    let tag = tag(&digest);
                    context.engine.tag(&info.id, &tag).await?;
                    tag
                }
                None => reference.clone(),
            };
            return Ok(Found { reference, info });
        }
    }
    Err(Error::new(Class::Project, format!("base {name} holds no image")).hint("save one image into it: `docker save`, `skopeo copy`"))
}

fn scratch_prefix(project: &Path) -> String {
    format!("twostage-{}-", Sha256::of(project.as_os_str().as_encoded_bytes()).short())
}

/// A folder for one bootstrap. Not below the project: its disk may forbid device nodes, and others to
/// enter.
fn scratch(project: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(&scratch_prefix(project))
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .or_fail(Class::System, || format!("cannot write in {}", std::env::temp_dir().display()))
}

/// Removes what a killed bootstrap of this project left: folders of this user by the names that we give. What cannot be
/// removed (as a rule because something in it belongs to others) stays, and is in nobody's way.
pub fn sweep(project: &Path) {
    let user = rustix::process::geteuid().as_raw();
    let ours = |_: &Folder, entry: &FolderEntry| entry.kind == EntryKind::Folder && entry.owner == user;
    if let Ok(scratch) = Folder::open(&std::env::temp_dir()) {
        let _ = scratch.remove_scratch(&scratch_prefix(project), ours);
    }
}

/// mmdebstrap in a process group of its own, because after a failure it hangs up on its whole group,
/// which else is ours and that of the `make` above us. A group of its own gets no Ctrl-C either,
/// so it ends when our end of its standard input does, however we ended. What it mounts ends with it: where it may mount,
/// it has a mount namespace of its own (else this host's /proc and /dev stay in the folder of one that was killed).
const IN_ITS_OWN_GROUP: &str = r#"exec 3<&0; ( { cat <&3; kill -KILL 0; } > /dev/null 2>&1 & )
apart=; unshare --mount --propagation private -- true 2> /dev/null && apart="unshare --mount --propagation private --"
exec $apart mmdebstrap "$@" 3<&- < /dev/null"#;

/// mmdebstrap's own hooks for a release that has `usr-is-merged`. Without it apt takes `usrmerge`, which is first in
/// `usrmerge | usr-is-merged` and brings all of perl: 47 MB of Debian 12's smallest root. debootstrap makes it so too.
const MERGED_USR: &str = "/usr/share/mmdebstrap/hooks/maybe-merged-usr";

/// The packages of the base are installed without documentation and translations, but for the copyright, as Debian's own
/// `slim` images have them.
const SLIM: [&str; 7] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/groff/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
];

/// Where mmdebstrap keeps the options that it was given. What is installed later comes whole: it has the translations
/// that its users read.
const KEPT_OPTIONS: &str = "etc/dpkg/dpkg.cfg.d/99mmdebstrap";

/// Counts up when what we make of a bootstrap changes.
const RECIPE: &str = "2";

/// Bytes of a root file system's tar, at most: more than any engine imports.
const MAX_ROOTFS: u64 = 64 << 30;

/// Runs mmdebstrap, and leaves out of its tar what belongs to this host; or takes what another project made today.
fn bootstrap(
    context: &Context,
    name: &str,
    release: &Release,
    mirrors: &[Mirror],
    fresh: bool,
) -> Result<impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static + use<>> {
    let sources = match mirrors {
        [] => host_sources(&context.folder, release)?,
        _ => mirrors.iter().flat_map(Mirror::lines).cloned().collect(),
    };
    let suite = release.codename.clone();
    // The same day's mirror gives the same base.
    let day = (context.now - context.now.rem_euclid(86_400)).to_string();
    let merged_usr = Path::new(MERGED_USR).is_dir().then(|| format!("--hook-dir={MERGED_USR}"));
    let kept = context.cache.as_deref().map(|cache| {
        let decides = [RECIPE, context.engine.architecture(), suite.as_str(), day.as_str(), merged_usr.as_deref().unwrap_or_default()];
        Kept::at(cache, &decides.into_iter().chain(SLIM).chain(sources.iter().map(String::as_str)).collect::<Vec<_>>())
    });
    let found = kept.as_ref().filter(|_| !fresh).and_then(Kept::find);
    let what = if found.is_some() { format!("taking {name}, which was made today") } else { format!("making {name}") };
    context.events.started("base", &what);
    let scratch = scratch(&context.folder)?;
    let run = move |out: &mut dyn Write| {
        let what = || format!("cannot bootstrap {suite}");
        let mut child = Command::new("sh")
            .args(["-c", IN_ITS_OWN_GROUP, "mmdebstrap", "--quiet", "--variant=minbase", "--format=tar"])
            .args(SLIM.map(|option| format!("--dpkgopt={option}")))
            .args(merged_usr)
            .args(["--", &suite, "-"])
            .args(&sources)
            .process_group(0)
            .env("SOURCE_DATE_EPOCH", day)
            .env("LC_ALL", "C")
            .env("TMPDIR", scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .or_fail(Class::System, || format!("{}: cannot run a shell", what()))?;
        let _until_we_end = child.stdin.take();
        let reading = child.stderr.take().map(|mut stderr| {
            std::thread::Builder::new().spawn(move || {
                let mut text = Vec::new();
                let _ = stderr.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        let errors = match reading.transpose() {
            Ok(errors) => errors,
            Err(cause) => {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(Error::system(what(), cause));
            }
        };
        let filtered = match child.stdout.take() {
            Some(stdout) => without_host(stdout, out),
            None => Ok(()),
        };
        let status = child.wait().or_fail(Class::System, what)?;
        if status.code() == Some(127) {
            return Err(Error::new(Class::System, format!("{}: there is no mmdebstrap", what()))
                .hint("install it: apt-get install mmdebstrap; or name a ready base with `image`, `archive` or `rootfs`"));
        }
        if !status.success() {
            let said = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(4).collect();
            return Err(Error::new(Class::System, format!("{}: mmdebstrap failed", what()))
                .because(last.into_iter().rev().collect::<Vec<_>>().join("\n"))
                .hint("can this machine reach the distribution's mirror? `mirrors` in [base] names others"));
        }
        filtered
    };
    Ok(move |out: &mut dyn Write| match (found, kept) {
        (Some(mut found), _) => std::io::copy(&mut found, out).map(|_| ()).or_fail(Class::System, || "cannot copy the base".into()),
        (None, Some(kept)) => kept.make(out, run),
        (None, None) => run(out),
    })
}

/// Copies a root file system's tar without the host's name, resolver and device nodes, without the options that it was
/// made with, and without caches and copies of earlier states that the package tools keep for themselves.
fn without_host(input: impl Read, out: &mut dyn Write) -> Result<()> {
    let what = || "cannot read the bootstrapped base".to_string();
    let mut archive = tar::Archive::new(input);
    let mut tar = tar::Builder::new(out);
    for entry in archive.entries().or_fail(Class::System, what)? {
        let mut entry = entry.or_fail(Class::System, what)?;
        let path = entry.path_bytes().into_owned();
        let text = String::from_utf8_lossy(&path);
        let plain = text.trim_start_matches("./").trim_end_matches('/');
        let of_host = matches!(plain, "etc/hostname" | "etc/resolv.conf" | "var/cache/ldconfig/aux-cache" | KEPT_OPTIONS)
            || plain.starts_with("dev/");
        // An image that has such a copy ships it again, whole, with each layer that installs something.
        let earlier_state =
            ["var/lib/dpkg/", "var/cache/debconf/"].iter().any(|folder| plain.starts_with(folder)) && plain.ends_with("-old");
        if of_host || earlier_state {
            continue;
        }
        let mut header = entry.header().clone();
        let link = entry.link_name_bytes().map(|link| link.into_owned());
        let extensions: Vec<(String, Vec<u8>)> = match entry.pax_extensions().or_fail(Class::System, what)? {
            Some(all) => all
                .filter_map(std::result::Result::ok)
                .filter_map(|e| Some((e.key().ok()?.to_string(), e.value_bytes().to_vec())))
                .filter(|(key, _)| key.starts_with("SCHILY.xattr."))
                .collect(),
            None => Vec::new(),
        };
        tar.append_pax_extensions(extensions.iter().map(|(key, value)| (key.as_str(), value.as_slice()))).or_fail(Class::System, what)?;
        let path = Path::new(std::ffi::OsStr::new(text.as_ref()));
        match link {
            Some(link) => tar.append_link(&mut header, path, Path::new(&*String::from_utf8_lossy(&link))).or_fail(Class::System, what)?,
            None => tar.append_data(&mut header, path, &mut entry).or_fail(Class::System, what)?,
        }
    }
    // Up to its last padding: who writes into a closed pipe fails.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).or_fail(Class::System, what)?;
    tar.finish().or_fail(Class::System, || "cannot write the base".into())
}

/// The release that this machine runs.
///
/// # Errors
/// It is none that can be bootstrapped.
pub fn host_release() -> Result<Release> {
    // Where the file is absent the machine is an unknown one.
    Release::of_machine(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
}

/// The apt sources of this host, for this or another release of the same distribution: taken from
/// apt itself, so that both ways of writing them and all of its own settings count.
fn host_sources(project: &Path, release: &Release) -> Result<Vec<String>> {
    let what = || format!("cannot find a mirror of {} in this host's apt configuration", release.distribution);
    let hint = format!(
        "write `mirrors = [\"deb http://… {} main\"]` into [base], or bootstrap = \"host\" for this machine's own release",
        release.codename
    );
    let failed = |why: String| Error::new(Class::Project, what()).because(why).hint(&hint);
    let host = host_release().map_err(|cause| failed(cause.to_string()))?;
    if host.distribution != release.distribution {
        return Err(failed(format!("this machine is {host}")));
    }
    // apt tells its sources only once it has their lists; these are fetched into a folder of our
    // own if the host has none, so that nothing of the host is changed and nobody has to be root.
    let mut targets = index_targets(None).map_err(|cause| Error::new(Class::System, what()).because(cause).hint(&hint))?;
    if targets.is_empty() {
        let lists = scratch(project)?;
        targets = index_targets(Some(lists.path())).map_err(|cause| Error::new(Class::System, what()).because(cause).hint(&hint))?;
    }
    let sources = translate_sources(&targets, &host.codename, &release.codename);
    if sources.is_empty() {
        return Err(failed(format!("apt names no source of {}", host.codename)));
    }
    if sources.iter().any(|source| source.split_whitespace().any(has_password)) {
        return Err(failed("its URL has a password in it, which would be in every image".into()));
    }
    Ok(sources)
}

/// `URI release component` of every binary index that the host's apt knows; with `lists`, after
/// fetching them into that folder.
fn index_targets(lists: Option<&Path>) -> std::io::Result<String> {
    let mut options: Vec<String> = Vec::new();
    if let Some(lists) = lists {
        std::fs::create_dir(lists.join("partial"))?;
        let private = [("Dir::State::lists", "."), ("Dir::Cache", "cache"), ("Dir::Cache::pkgcache", ""), ("Dir::Cache::srcpkgcache", "")];
        options.extend(private.iter().map(|(option, folder)| match *folder {
            "" => format!("-o{option}="),
            folder => format!("-o{option}={}", lists.join(folder).display()),
        }));
        options.push("-oAPT::Sandbox::User=".into());
        Command::new("apt-get").args(&options).arg("update").env("LC_ALL", "C").output()?;
    }
    let format = ["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Identifier: Packages"];
    let output = Command::new("apt-get").args(&options).args(format).env("LC_ALL", "C").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `URI release component` lines of the host's codename → one-line sources of `suite`, each once.
fn translate_sources(targets: &str, codename: &str, suite: &str) -> Vec<String> {
    let mut sources: Vec<String> = Vec::new();
    for line in targets.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [uri, release, component] = words.as_slice() else { continue };
        let Some(pocket) = release.strip_prefix(codename).filter(|p| matches!(*p, "" | "-updates" | "-security" | "/updates")) else {
            continue;
        };
        let source = format!("deb {uri} {suite}{pocket} {component}");
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
}

/// A rootfs tar, uncompressed if need be.
fn rootfs(mut file: File, path: PathBuf) -> impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static {
    move |out: &mut dyn Write| {
        let what = || format!("cannot read {}", path.display());
        let mut magic = [0; 4];
        let count = file.read(&mut magic).or_fail(Class::Project, what)?;
        std::io::Seek::rewind(&mut file).or_fail(Class::Project, what)?;
        let reader: Box<dyn Read> = match &magic[..count] {
            [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(file)),
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(file).or_fail(Class::Project, what)?),
            [0xfd, b'7', b'z', b'X'] => {
                return Err(Error::new(Class::Project, format!("{}: xz is not read here", path.display())).hint("unpack it first: xz -d"));
            }
            _ => Box::new(file),
        };
        if std::io::copy(&mut reader.take(MAX_ROOTFS + 1), out).or_fail(Class::Project, what)? > MAX_ROOTFS {
            return Err(Error::new(Class::Project, what())
                .because(format!("it unpacks to more than {MAX_ROOTFS} bytes"))
                .hint("name a smaller one"));
        }
        Ok(())
    }
}

/// An OCI layout as an archive that every engine loads: the same blobs, with docker's own
/// `manifest.json` beside them. No file of it is reached by a link that leads out of it.
fn layout_as_archive(folder: &Folder) -> Result<File> {
    let shown = folder.path().display();
    let what = || format!("{shown} is not an OCI layout");
    let read = |path: &str| -> Result<serde_json::Value> {
        serde_json::from_slice(&folder.read(path, MAX_DOCUMENT)?).or_fail(Class::Project, what)
    };
    let blob = |digest: &serde_json::Value| -> Result<String> {
        let digest: Sha256 = digest.as_str().unwrap_or_default().parse().or_fail(Class::Project, what)?;
        Ok(format!("blobs/sha256/{digest}"))
    };
    let mut document = read("index.json")?;
    let mut blobs = Vec::new();
    let (config, layers) = loop {
        if let Some(next) = document["manifests"].as_array() {
            let chosen = next.first().ok_or_else(|| Error::new(Class::Project, format!("{shown}: it holds no image")).hint(AGAIN))?;
            let name = blob(&chosen["digest"])?;
            document = read(&name)?;
            blobs.push(name);
            if blobs.len() > 8 {
                return Err(Error::new(Class::Project, format!("{shown}: its indexes are nested too deep")).hint(AGAIN));
            }
            continue;
        }
        let config = blob(&document["config"]["digest"])?;
        let layers: Vec<String> =
            document["layers"].as_array().into_iter().flatten().map(|layer| blob(&layer["digest"])).collect::<Result<_>>()?;
        break (config, layers);
    };
    let manifest = serde_json::json!([{ "Config": config, "RepoTags": null, "Layers": layers }]).to_string();
    let file = tempfile::tempfile().or_fail(Class::System, || "cannot write a temporary file".into())?;
    let mut tar = tar::Builder::new(file);
    let names = std::iter::once(&config).chain(&layers).chain(&blobs).map(String::as_str).collect::<std::collections::BTreeSet<_>>();
    for name in names.into_iter().chain(["index.json", "oci-layout"]) {
        tar.append_file(name, &mut folder.file(name)?).or_fail(Class::Project, what)?;
    }
    crate::source::add_file(&mut tar, "manifest.json", 0o644, 0, manifest.as_bytes())?;
    let mut file = tar.into_inner().or_fail(Class::System, || "cannot write a temporary file".into())?;
    std::io::Seek::rewind(&mut file).or_fail(Class::System, || "cannot read a temporary file".into())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a machine where apt has never fetched its lists, its sources are found all the same.
    #[test]
    fn apts_sources_are_found_without_its_lists() {
        let lists = tempfile::tempdir().expect("a folder");
        let fetched = index_targets(Some(lists.path())).expect("apt runs");
        let main = |targets: &str| targets.lines().filter(|line| line.ends_with(" main")).count();
        assert!(main(&fetched) > 0, "{fetched:?}");
    }

    #[test]
    fn the_hosts_mirror_serves_other_suites_too() {
        let targets = "http://mirror.example/debian/ bookworm main\nhttp://mirror.example/debian/ bookworm main\n\
                       http://mirror.example/debian-security/ bookworm-security main\nhttp://else.example/ nodistro main\n";
        assert_eq!(
            translate_sources(targets, "bookworm", "trixie"),
            ["deb http://mirror.example/debian/ trixie main", "deb http://mirror.example/debian-security/ trixie-security main"]
        );
    }

    /// Ubuntu's are several components, and pockets that nobody asks a base for.
    #[test]
    fn the_sources_of_an_ubuntu_are_its_own_pockets() {
        let targets = "http://archive.example/ubuntu/ noble main\nhttp://archive.example/ubuntu/ noble universe\n\
                       http://archive.example/ubuntu/ noble-updates main\nhttp://archive.example/ubuntu/ noble-backports main\n\
                       http://security.example/ubuntu/ noble-security main\nhttp://ppa.example/team/ppa/ubuntu/ jammy main\n";
        assert_eq!(
            translate_sources(targets, "noble", "noble"),
            [
                "deb http://archive.example/ubuntu/ noble main",
                "deb http://archive.example/ubuntu/ noble universe",
                "deb http://archive.example/ubuntu/ noble-updates main",
                "deb http://security.example/ubuntu/ noble-security main",
            ]
        );
    }

    #[test]
    fn a_bootstrapped_tar_loses_what_belongs_to_the_host_and_copies_of_earlier_states() {
        let mut tar = tar::Builder::new(Vec::new());
        for name in [
            "./etc/hostname",
            "./etc/passwd",
            "./etc/resolv.conf",
            "./var/cache/ldconfig/aux-cache",
            "./etc/dpkg/dpkg.cfg.d/99mmdebstrap",
            "./var/lib/dpkg/status-old",
            "./var/lib/dpkg/status",
            "./var/cache/debconf/config.dat-old",
        ] {
            crate::source::add_file(&mut tar, name, 0o644, 7, b"x").expect("add");
        }
        let mut header = crate::source::header(7);
        header.set_entry_type(tar::EntryType::Char);
        header.set_size(0);
        tar.append_data(&mut header, "./dev/null", std::io::empty()).expect("add");
        // tar fills up its last record; who still writes that must find a reader.
        let bytes = [tar.into_inner().expect("finish"), vec![0; 8192]].concat();
        let (mut out, mut rest) = (Vec::new(), &bytes[..]);
        without_host(&mut rest, &mut out).expect("filter");
        assert_eq!(rest.len(), 0, "bytes left unread");
        let mut archive = tar::Archive::new(&out[..]);
        let names: Vec<String> =
            archive.entries().expect("a tar").map(|e| e.expect("entry").path().expect("path").display().to_string()).collect();
        assert_eq!(names, ["etc/passwd", "var/lib/dpkg/status"]);
    }
}
