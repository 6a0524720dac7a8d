//! Source trees: read into one fixed order, hashed, and packed for a builder container.
//!
//! What counts as a tree's content is each file's path, bytes, kind and whether it can be
//! executed. Times and owners do not: they differ from clone to clone.

use crate::checkout::committed;
use crate::{Context, git, unpack};
use std::fs;
use std::io::{BufWriter, Read, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use twostage_beneath::{EntryKind, Folder};
use twostage_model::error::OrFail as _;
use twostage_model::names::INCOMING;
use twostage_model::project::{STATE, Source, VERSION_CONTROL};
use twostage_model::url::{CURL_ARGUMENTS, Place, curl_config, shown, tarball_place};
use twostage_model::{Class, Error, HashWrite, Hasher, Result, Sha256};

/// Bytes of a tarball, at most.
const MAX_TARBALL: u64 = 4 << 30;
/// Bytes of a file that is read here and not only in a container: a control or spec file, at most.
const MAX_TEXT: u64 = 16 << 20;
/// Files, folders and links of a tree, at most.
const MAX_NODES: usize = 2_000_000;
/// Bytes of a path in a tree, at most: Linux' PATH_MAX.
const MAX_PATH: usize = 4096;

/// One file, link or folder of a tree.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) path: String,
    pub(crate) kind: NodeKind,
    mtime: i64,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Folder,
    File { executable: bool },
    Link { target: String },
}

/// Who has made what is in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// The team: it is a part of the project, or the project's own checkout.
    Here,
    /// Somebody else: it was fetched. A commit that is found around it is not its own.
    Elsewhere,
}

/// A source tree on disk. Nothing outside of its folder is read, whatever its links say and whatever changes in it
/// meanwhile.
#[derive(Debug)]
pub struct Tree {
    root: Folder,
    nodes: Vec<Node>,
    made: Made,
}

impl Tree {
    /// Lists a folder. No link is followed, and nothing but folders is opened.
    ///
    /// # Errors
    /// It cannot be read, holds a device, socket, pipe or a name that is not UTF-8, or is too deep or too large.
    pub fn read(root: Folder, made: Made) -> Result<Tree> {
        let mut nodes = Vec::new();
        let mut left = vec![String::new()];
        while let Some(below) = left.pop() {
            list(&root, &below, &mut nodes, &mut left)?;
        }
        nodes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { root, nodes, made })
    }

    /// The text of a file of the tree. A link may lead to it, but not out of the tree.
    ///
    /// # Errors
    /// There is no such file, or it is no text of at most 16 MiB.
    pub fn text(&self, path: &str) -> Result<String> {
        self.root.read_text(path, MAX_TEXT)
    }

    /// What is in it, by path; folders stand before what is in them.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Opens a file of the tree.
    pub(crate) fn open(&self, path: &str) -> Result<fs::File> {
        self.root.file(path)
    }

    /// The one spec file at the top of the tree.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn spec(&self) -> Result<&str> {
        let paths = self.nodes.iter().map(|node| node.path.as_str());
        let specs: Vec<&str> = paths.filter(|path| !path.contains('/') && path.ends_with(".spec")).collect();
        one_spec(&specs)
    }

    /// The digest of its content.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn digest(&self) -> Result<Sha256> {
        let mut hasher = Hasher::default();
        let mut files = Opener::of(&self.root);
        for node in &self.nodes {
            match &node.kind {
                // Version control does not know empty folders, so folders do not count.
                NodeKind::Folder => {}
                NodeKind::File { executable } => {
                    hasher.field(if *executable { b"x" } else { b"f" });
                    hasher.field(node.path.as_bytes());
                    let mut file_hasher = Hasher::default();
                    let mut file = files.open(&node.path)?;
                    std::io::copy(&mut file, &mut file_hasher).or_fail(Class::Project, || self.cannot_read(node))?;
                    hasher.field(file_hasher.finish().as_bytes());
                }
                NodeKind::Link { target } => {
                    hasher.field(b"l");
                    hasher.field(node.path.as_bytes());
                    hasher.field(target.as_bytes());
                }
            }
        }
        Ok(hasher.finish())
    }

    fn cannot_read(&self, node: &Node) -> String {
        format!("cannot read {}", self.root.path().join(&node.path).display())
    }

    /// When the source was last changed, in seconds since 1970: the commit's time if the folder is the team's,
    /// under git and as committed, else the newest time of its files. `scratch` is a folder for what this takes.
    pub fn date(&self, scratch: &Path) -> i64 {
        let committed = match self.made {
            Made::Here => committed(self.root.path(), ".", scratch),
            Made::Elsewhere => None,
        };
        committed
            .unwrap_or_else(|| self.nodes.iter().filter(|n| matches!(n.kind, NodeKind::File { .. })).map(|n| n.mtime).max().unwrap_or(0))
    }

    /// Adds the tree to a tar below `prefix`, with every time set to `date`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn pack<W: std::io::Write>(&self, tar: &mut tar::Builder<W>, prefix: &str, date: i64) -> Result<()> {
        self.pack_as(tar, date, |path| Some(format!("{prefix}/{path}")))
    }

    /// The same with a path of its own for each of them; one without a path is left out.
    pub(crate) fn pack_as<W: std::io::Write>(
        &self,
        tar: &mut tar::Builder<W>,
        date: i64,
        place: impl Fn(&str) -> Option<String>,
    ) -> Result<()> {
        let mut files = Opener::of(&self.root);
        for node in &self.nodes {
            let Some(path) = place(&node.path) else { continue };
            let mut header = header(date);
            let result = match &node.kind {
                NodeKind::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(0o755);
                    header.set_size(0);
                    tar.append_data(&mut header, path, std::io::empty())
                }
                NodeKind::File { executable } => {
                    let file = files.open(&node.path)?;
                    let size = file.metadata().or_fail(Class::Project, || self.cannot_read(node))?.len();
                    header.set_mode(if *executable { 0o755 } else { 0o644 });
                    header.set_size(size);
                    // A file that grows while it is read must not shift the rest of the tar, nor one that shrinks.
                    tar.append_data(&mut header, path, file.chain(std::io::repeat(0)).take(size))
                }
                NodeKind::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    tar.append_link(&mut header, path, target)
                }
            };
            result.or_fail(Class::Project, || format!("cannot pack {}/{}", self.root.path().display(), node.path))?;
        }
        Ok(())
    }
}

/// Opens files one after another: those of one folder from that folder.
struct Opener<'a> {
    root: &'a Folder,
    last: Option<(String, Folder)>,
}

impl<'a> Opener<'a> {
    fn of(root: &'a Folder) -> Opener<'a> {
        Opener { root, last: None }
    }

    fn open(&mut self, path: &str) -> Result<fs::File> {
        let Some((folder, name)) = path.rsplit_once('/') else { return self.root.file(path) };
        match &self.last {
            Some((last, opened)) if last == folder => opened.file(name),
            _ => {
                let opened = self.root.folder(folder)?;
                let file = opened.file(name);
                self.last = Some((folder.to_string(), opened));
                file
            }
        }
    }
}

/// A header with nothing of this machine in it.
pub fn header(date: i64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(date).unwrap_or(0));
    header
}

/// A tar for a container that grows in a file without a name: a source may be larger than memory.
pub type Packing = tar::Builder<BufWriter<fs::File>>;

/// An empty one, on the project's disk.
///
/// # Errors
/// Nothing can be written there.
pub fn packing(context: &Context) -> Result<Packing> {
    let file = tempfile::tempfile_in(&context.state).or_fail(Class::System, || format!("cannot write in {}", context.state.display()))?;
    Ok(tar::Builder::new(BufWriter::new(file)))
}

/// The file, when all is in it.
///
/// # Errors
/// It cannot be written.
pub fn packed(packing: Packing) -> Result<fs::File> {
    let written = packing.into_inner().and_then(|out| out.into_inner().map_err(std::io::IntoInnerError::into_error));
    written.or_fail(Class::System, || "cannot pack a builder's input".into())
}

/// An empty tar in memory, for what a container is given.
pub fn archive() -> tar::Builder<Vec<u8>> {
    tar::Builder::new(Vec::new())
}

/// Adds one small file to a tar.
///
/// # Errors
/// Its path does not fit a tar.
pub fn add_file<W: std::io::Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32, date: i64, content: &[u8]) -> Result<()> {
    let mut header = header(date);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).or_fail(Class::System, || format!("cannot pack {path}"))
}

fn list(root: &Folder, below: &str, nodes: &mut Vec<Node>, left: &mut Vec<String>) -> Result<()> {
    let folder = if below.is_empty() { root.clone() } else { root.folder(below)? };
    for entry in folder.entries()? {
        let shown = folder.path().join(&entry.name);
        let Some(name) = entry.name.to_str() else {
            return Err(Error::new(Class::Project, format!("{} has a name that is not UTF-8", shown.display())).hint("rename it"));
        };
        if name == STATE || VERSION_CONTROL.contains(&name) {
            continue;
        }
        let path = if below.is_empty() { name.to_string() } else { format!("{below}/{name}") };
        if path.len() > MAX_PATH || nodes.len() >= MAX_NODES {
            let what = format!("{} is one too many, or too deep", root.path().display());
            return Err(
                Error::new(Class::Project, what).because(format!("a source has at most {MAX_NODES} files, with paths of {MAX_PATH} bytes"))
            );
        }
        let kind = match entry.kind {
            EntryKind::Folder => {
                left.push(path.clone());
                NodeKind::Folder
            }
            EntryKind::File => NodeKind::File { executable: entry.mode & 0o111 != 0 },
            EntryKind::Link => {
                let target = folder.link(name)?.into_string();
                let target =
                    target.map_err(|_| Error::new(Class::Project, format!("{} points to a name that is not UTF-8", shown.display())))?;
                NodeKind::Link { target }
            }
            EntryKind::Other => {
                return Err(Error::new(Class::Project, format!("{} is neither file, folder nor link", shown.display()))
                    .hint("remove it: sources hold no devices, sockets or pipes"));
            }
        };
        nodes.push(Node { path, kind, mtime: entry.mtime });
    }
    Ok(())
}

/// When a file of the project was last changed, by the same rule as a tree.
pub fn file_date(project: &Folder, path: &str, scratch: &Path) -> i64 {
    let mtime = || project.file(path).and_then(|file| file.metadata().or_fail(Class::Project, String::new));
    let mtime = || mtime().map_or(0, |meta| std::os::unix::fs::MetadataExt::mtime(&meta));
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    project.folder(folder).ok().and_then(|folder| committed(folder.path(), name, scratch)).unwrap_or_else(mtime)
}

/// The folder that holds a component's source, fetched first if it is not there, and who has made what is in it.
/// (A distribution's source package has none: it is unpacked by its own tools in the container.)
///
/// # Errors
/// It cannot be fetched, or is not what the project file says it is.
pub fn folder_of(context: &Context, subject: &str, source: &Source) -> Result<Option<(Folder, Made)>> {
    let fetched = || Folder::open(&context.state)?.make_folder("sources");
    match source {
        Source::Folder(folder) => Ok(Some((context.files.folder(folder)?, Made::Here))),
        Source::Distribution { .. } => Ok(None),
        Source::Tarball { url, sha256 } => {
            let (fetched, name) = (fetched()?, sha256.to_string());
            if fetched.kind(&name)?.is_none() {
                context.events.started(subject, "fetching its tarball");
                fetch_tarball(&context.files, url, sha256, &fetched.path().join(&name))?;
            }
            Ok(Some((fetched.folder(&name)?, Made::Elsewhere)))
        }
        Source::Git { url, revision } => {
            let (fetched, name) = (fetched()?, format!("git-{revision}"));
            if fetched.kind(&name)?.is_none() {
                context.events.started(subject, "fetching its revision");
                git::fetch(&context.files, url, revision, &fetched.path().join(&name))?;
            }
            Ok(Some((fetched.folder(&name)?, Made::Elsewhere)))
        }
    }
}

/// The folder of a source, if it has one and that is here; nothing is fetched.
///
/// # Errors
/// It leads out of where it must be, or cannot be opened.
pub(crate) fn folder_here(files: &Folder, state: &Path, source: &Source) -> Result<Option<Folder>> {
    let name = match source {
        Source::Folder(folder) => return files.folder(folder).map(Some),
        Source::Distribution { .. } => return Ok(None),
        Source::Tarball { sha256, .. } => sha256.to_string(),
        Source::Git { revision, .. } => format!("git-{revision}"),
    };
    let path = Path::new("sources").join(name);
    let state = Folder::open(state)?;
    if state.kind(&path)?.is_some() { state.folder(&path).map(Some) } else { Ok(None) }
}

/// The path of the one spec file at the top of a folder.
///
/// # Errors
/// There is none, or more than one.
pub(crate) fn spec_of(folder: &Folder) -> Result<String> {
    let entries = folder.entries()?;
    let names = entries.iter().filter_map(|entry| entry.name.to_str());
    let specs: Vec<&str> = names.filter(|name| name.ends_with(".spec")).collect();
    one_spec(&specs).map(str::to_string)
}

fn one_spec<'a>(specs: &[&'a str]) -> Result<&'a str> {
    match specs {
        [spec] => Ok(spec),
        [] => Err(Error::new(Class::Project, "there is no *.spec at its top").hint("put the spec file there")),
        _ => Err(Error::new(Class::Project, "there is more than one *.spec at its top")
            .hint("make each of them a component of its own, with a folder of its own")),
    }
}

/// A temporary folder beside `folder`, to be renamed to it when complete. Only its owner may enter the folder that both
/// are in.
pub(crate) fn beside(folder: &Path) -> Result<tempfile::TempDir> {
    use std::os::unix::fs::DirBuilderExt as _;
    let parent = folder.parent().unwrap_or(Path::new("."));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.or_fail(Class::System, || format!("cannot make {}", parent.display()))?;
    tempfile::Builder::new().prefix(INCOMING).tempdir_in(parent).or_fail(Class::System, || format!("cannot write in {}", parent.display()))
}

/// Fetches a URL into a file; gives the digest of what came, or none if it is too large.
fn curl(url: &str, file: &Path, what: &str) -> Result<Option<Sha256>> {
    let told = curl_config(url, "http,https", MAX_TARBALL);
    let mut command = Command::new("curl");
    command.args(CURL_ARGUMENTS).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut found = None;
    let output = command.spawn().and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // Where it has ended already it says why.
            let _ = stdin.write_all(told.as_bytes());
        }
        if let Some(out) = child.stdout.take() {
            found = keep(out, file)?;
        }
        child.wait_with_output()
    });
    match found {
        None if output.is_ok() => Ok(None),
        _ => check_output(&command, what, output).map(|()| found),
    }
}

/// Writes a tarball into a file, and no more than it may have: not every program knows the length that it refuses.
fn keep(from: impl Read, file: &Path) -> std::io::Result<Option<Sha256>> {
    let mut file = HashWrite::new(fs::File::create_new(file)?);
    let bytes = std::io::copy(&mut from.take(MAX_TARBALL + 1), &mut file)?;
    Ok(Some(file.finish().1).filter(|_| bytes <= MAX_TARBALL))
}

/// An error of a program: that it cannot be run, or what it said last.
pub(crate) fn check_output(command: &Command, what: &str, output: std::io::Result<Output>) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = output.map_err(|cause| {
        let missing = cause.kind() == std::io::ErrorKind::NotFound;
        let error = Error::new(Class::Project, format!("{what}: cannot run {program}")).because(cause);
        if missing { error.hint(format!("install it: apt-get install {program}")) } else { error }
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    Err(Error::new(Class::Project, what.to_string())
        .because(last.into_iter().rev().collect::<Vec<_>>().join("; "))
        .hint(format!("{program} says above why: is what the project file names right, and does this machine reach it?")))
}

fn fetch_tarball(project: &Folder, url: &str, expected: &Sha256, folder: &Path) -> Result<()> {
    let what = format!("cannot fetch {}", shown(url));
    let within = |cause: Error| Error::new(cause.class(), what.clone()).because(cause);
    let place = tarball_place(url).map_err(|why| within(Error::new(Class::Project, format!("it {why}"))))?;
    let temporary = beside(folder)?;
    let download = temporary.path().join("download");
    let _span = tracing::debug_span!("fetch", url = shown(url)).entered();
    let found = match place {
        Place::Remote => curl(url, &download, &what)?,
        // What lies elsewhere on this machine is nobody's source.
        Place::Local(path) => {
            let path = git::in_project(project, path).map_err(within)?;
            keep(project.file(path).map_err(within)?, &download).or_fail(Class::System, || what.clone())?
        }
    };
    let Some(found) = found else {
        return Err(Error::new(Class::Project, what).because(format!("it has more than {MAX_TARBALL} bytes")).hint("name a smaller one"));
    };
    if found != *expected {
        return Err(Error::new(Class::Project, format!("{} is not what the project file says: its sha256 is {found}", shown(url)))
            .hint("if the new content is right, write this digest into the project file"));
    }
    let unpacked = temporary.path().join("tree");
    fs::create_dir(&unpacked).or_fail(Class::System, || format!("cannot make {}", unpacked.display()))?;
    let file = fs::File::open(&download).or_fail(Class::System, || what.clone())?;
    let size = file.metadata().or_fail(Class::System, || what.clone())?.len();
    unpack::tarball(file, size, &unpacked).map_err(|cause| {
        let hint =
            cause.hint_text().unwrap_or("get the tarball again from who made it, or name another `url` and its `sha256`").to_string();
        within(cause).hint(hint)
    })?;
    // A tarball with one top folder is that folder.
    let mut top = fs::read_dir(&unpacked).or_fail(Class::System, || what.clone())?.flatten();
    let tree = match (top.next(), top.next()) {
        // (A link is no folder here: it could lead out of the tarball.)
        (Some(only), None) if only.file_type().is_ok_and(|kind| kind.is_dir()) => only.path(),
        _ => unpacked,
    };
    put_in_place(&tree, folder)
}

/// Gives a fetched tree the name under which it is trusted from then on: everything in it is on the
/// disk before.
pub(crate) fn put_in_place(tree: &Path, folder: &Path) -> Result<()> {
    let failed = || format!("cannot make {}", folder.display());
    // One sync of the file system: a tree has more files than are worth a sync each.
    fs::File::open(tree).and_then(|tree| rustix::fs::syncfs(&tree).map_err(Into::into)).or_fail(Class::System, failed)?;
    match fs::rename(tree, folder) {
        // Another component of the same source was faster.
        Err(_) if folder.is_dir() => return Ok(()),
        renamed => renamed.or_fail(Class::System, failed)?,
    }
    let parent = folder.parent().unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|parent| parent.sync_all()).or_fail(Class::System, failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    fn read(folder: &Path, made: Made) -> Result<Tree> {
        Tree::read(Folder::open(folder)?, made)
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("make folder");
            fs::write(path, content).expect("write");
        }
        folder
    }

    #[test]
    fn the_digest_is_of_content_not_of_times_or_version_control() {
        let one = tree(&[("a.c", "int a;"), ("debian/rules", "x")]);
        let two = tree(&[("debian/rules", "x"), ("a.c", "int a;"), (".git/HEAD", "ref")]);
        let digest = |folder: &tempfile::TempDir| read(folder.path(), Made::Here).and_then(|t| t.digest()).expect("digest");
        assert_eq!(digest(&one), digest(&two));
        fs::set_permissions(two.path().join("debian/rules"), fs::Permissions::from_mode(0o755)).expect("chmod");
        assert_ne!(digest(&one), digest(&two), "a file that became executable is a change");
    }

    #[test]
    fn packing_twice_gives_the_same_bytes() {
        let source = tree(&[("b", "2"), ("a", "1"), ("dir/c", "3")]);
        let pack = || {
            let mut tar = tar::Builder::new(Vec::new());
            read(source.path(), Made::Here).and_then(|t| t.pack(&mut tar, "src", 1_700_000_000)).expect("pack");
            tar.into_inner().expect("finish")
        };
        assert_eq!(pack(), pack());
        let names: Vec<String> = tar::Archive::new(&pack()[..])
            .entries()
            .expect("a tar")
            .map(|e| e.expect("entry").path().expect("path").display().to_string())
            .collect();
        assert_eq!(names, ["src/a", "src/b", "src/dir", "src/dir/c"]);
    }

    #[test]
    fn a_pipe_in_the_source_is_refused_by_name() {
        let source = tree(&[("a", "1")]);
        assert!(Command::new("mkfifo").arg(source.path().join("pipe")).status().is_ok_and(|s| s.success()));
        let refused = read(source.path(), Made::Here).map(|_| ()).map_err(|e| e.to_string());
        assert!(refused.is_err_and(|e| e.ends_with("pipe is neither file, folder nor link")));
    }

    #[test]
    fn what_was_fetched_runs_nothing_whatever_git_would_find_in_it() {
        let ran = tempfile::tempdir().expect("a temporary folder");
        let marker = ran.path().join("ran");
        let config = format!("[core]\n\trepositoryformatversion = 0\n\tfsmonitor = \"touch {}\"\n", marker.display());
        let refs = [("HEAD", "ref: refs/heads/main\n"), ("objects/info/keep", ""), ("refs/heads/keep", "")];
        for (below, bare) in [(".git/", false), ("", true)] {
            let config = if bare { config.replace("[core]", "[core]\n\tbare = false\n\tworktree = .") } else { config.clone() };
            let config_path = format!("{below}config");
            let paths: Vec<String> = refs.iter().map(|(path, _)| format!("{below}{path}")).collect();
            let mut files: Vec<(&str, &str)> = paths.iter().map(String::as_str).zip(refs.iter().map(|(_, text)| *text)).collect();
            files.extend([(config_path.as_str(), config.as_str()), ("a.c", "int a;"), ("debian/control", "Source: a")]);
            let hostile = tree(&files);
            // The trap works: git as it is would run it.
            let _ = Command::new("git").arg("-C").arg(hostile.path()).args(["status", "--porcelain"]).output();
            assert!(fs::remove_file(&marker).is_ok(), "git ran nothing (bare: {bare})");
            read(hostile.path(), Made::Elsewhere).expect("read").date(ran.path());
            assert!(!marker.exists(), "bare: {bare}");
            // And in the team's own checkout, whatever somebody committed to it.
            read(hostile.path(), Made::Here).expect("read").date(ran.path());
            assert!(!marker.exists(), "bare: {bare}");
        }
    }

    #[test]
    fn only_files_of_the_source_are_read_here() {
        let source = tree(&[("packaging/control", "Source: a"), ("b.spec", "Name: b")]);
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, source.path().join(name)).expect("a link");
        link("packaging", "debian");
        link("/dev/zero", "zero");
        link("/etc/passwd", "passwd");
        link("../..", "up");
        let tree = read(source.path(), Made::Elsewhere).expect("read");
        assert_eq!(tree.text("debian/control").expect("a link inside"), "Source: a");
        assert_eq!(tree.spec().expect("one"), "b.spec");
        for path in ["zero", "passwd", "up/etc/passwd", "../etc/passwd", "packaging", "none"] {
            assert!(tree.text(path).is_err(), "{path}");
        }
        fs::write(source.path().join("large"), vec![b'x'; MAX_TEXT as usize + 1]).expect("a file");
        assert!(tree.text("large").is_err_and(|why| why.to_string().contains("more than")));
    }

    #[test]
    fn what_is_read_stays_in_the_folder_whatever_changes_after_it_was_listed() {
        let changed = |change: &dyn Fn(&Path)| {
            let source = tree(&[("a/x", "inside"), ("b", "inside")]);
            let listed = read(source.path(), Made::Elsewhere).expect("read");
            change(source.path());
            let mut tar = tar::Builder::new(Vec::new());
            (listed.digest().map_err(|e| e.to_string()), listed.pack(&mut tar, "src", 0).map_err(|e| e.to_string()))
        };
        let link = |target: &str, at: &Path| {
            if at.is_dir() { fs::remove_dir_all(at) } else { fs::remove_file(at) }.expect("it goes");
            std::os::unix::fs::symlink(target, at).expect("a link");
        };
        let (digest, packed) = changed(&|folder| link("/etc/passwd", &folder.join("b")));
        assert!(digest.is_err_and(|e| e.contains("leads out")) && packed.is_err());
        let (digest, packed) = changed(&|folder| link("/etc", &folder.join("a")));
        assert!(digest.is_err_and(|e| e.contains("leads out")) && packed.is_err());
        let (digest, packed) = changed(&|folder| {
            fs::remove_file(folder.join("b")).expect("it goes");
            assert!(Command::new("mkfifo").arg(folder.join("b")).status().is_ok_and(|s| s.success()));
        });
        assert!(digest.is_err_and(|e| e.contains("a pipe")) && packed.is_err());
        assert!(changed(&|_| ()).0.is_ok());
    }

    #[test]
    fn a_tarball_of_this_machine_has_to_lie_in_the_project() {
        let made = tree(&[("project/in/a.c", "int a;"), ("outside/a.c", "int a;")]);
        let path = |name: &str| made.path().join(name).display().to_string();
        for folder in ["project", "outside"] {
            let done = Command::new("tar").args(["-C", &path("outside"), "-czf", &path(&format!("{folder}/demo.tar.gz")), "a.c"]).status();
            assert!(done.is_ok_and(|status| status.success()));
        }
        std::os::unix::fs::symlink("../outside/demo.tar.gz", path("project/link.tar.gz")).expect("a link");
        std::os::unix::fs::symlink("demo.tar.gz", path("project/inside.tar.gz")).expect("a link");
        let fetch = |url: &str| {
            let sha256 = fs::read(path("project/demo.tar.gz")).map(|bytes| Sha256::of(&bytes)).expect("the tarball");
            let folder = made.path().join("sources").join(Sha256::of(url.as_bytes()).to_string());
            let said = |e: Error| std::iter::once(e.to_string()).chain(e.causes()).collect::<Vec<_>>().join(": ");
            fetch_tarball(&Folder::open(&made.path().join("project")).expect("a folder"), url, &sha256, &folder).map_err(said)
        };
        assert_eq!(fetch(&format!("file://{}", path("project/demo.tar.gz"))), Ok(()));
        assert_eq!(fetch(&format!("file://{}", path("project/inside.tar.gz"))), Ok(()));
        for url in [
            format!("file://{}", path("outside/demo.tar.gz")),
            format!("file://{}", path("project/../outside/demo.tar.gz")),
            format!("file://{}", path("project/link.tar.gz")),
            "file:///etc/shadow".into(),
            format!("file://{}x/demo.tar.gz", path("project")),
        ] {
            let said = fetch(&url).expect_err("outside");
            assert!(said.contains("not below the project's folder") || said.contains("leads out"), "{url}: {said}");
        }
        assert!(fetch(&format!("file://{}", path("project"))).is_err());
        assert_eq!(fs::read_dir(path("sources")).expect("the folder").count(), 2, "nothing of a refused one is left");
    }

    /// Both have seen that it is not there, and fetch it.
    #[test]
    fn two_components_of_one_source_may_fetch_it_at_the_same_time() {
        let made = tree(&[("demo-1/a.c", "int a;"), ("sources/keep", "")]);
        let path = |name: &str| made.path().join(name).display().to_string();
        let command = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().expect("it runs");
            assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).trim().to_string()
        };
        command("tar", &["-C", &path(""), "-czf", &path("demo.tar.gz"), "demo-1"]);
        let sha256 = Sha256::of(&fs::read(path("demo.tar.gz")).expect("the tarball"));
        let project = Folder::open(made.path()).expect("a folder");
        let tarball = PathBuf::from(path("sources/tarball"));
        for _ in 0..2 {
            fetch_tarball(&project, &format!("file://{}", path("demo.tar.gz")), &sha256, &tarball).expect("fetched");
        }
        let run_git = |arguments: &[&str]| {
            command("git", &[&["-C", &path("demo-1"), "-c", "user.name=t", "-c", "user.email=t@example.invalid"], arguments].concat())
        };
        run_git(&["init", "--quiet"]);
        run_git(&["add", "."]);
        run_git(&["commit", "--quiet", "--message", "one"]);
        let revision = run_git(&["rev-parse", "HEAD"]);
        let cloned = PathBuf::from(path("sources/git"));
        for _ in 0..2 {
            git::fetch(&project, &path("demo-1"), &revision, &cloned).expect("fetched");
        }
        for folder in [tarball, cloned] {
            assert_eq!(fs::read_to_string(folder.join("a.c")).expect("the source"), "int a;");
        }
        let left = fs::read_dir(made.path().join("sources")).expect("the folder").count();
        assert_eq!(left, 3, "nothing temporary is left");
    }
}
