//! Source trees: read into one fixed order, hashed, and packed for a builder container.
//!
//! What counts as a tree's content is each file's path, bytes, kind and whether it can be
//! executed. Times and owners do not: they differ from clone to clone.

use crate::Context;
use std::fs;
use std::io::{BufWriter, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use twostage_model::error::OrFail as _;
use twostage_model::project::Source;
use twostage_model::url::{CURL_ARGUMENTS, curl_config, shown};
use twostage_model::{Class, Error, HashWrite, Hasher, Result, Sha256};

/// Folders that version control and twostage itself keep in a tree.
const NOT_SOURCE: [&str; 5] = [".git", ".hg", ".svn", ".bzr", ".twostage"];

/// Bytes of a tarball, at most.
const MAX_TARBALL: u64 = 4 << 30;
/// Bytes of a file that is read here and not only in a container: a control or spec file, at most.
const MAX_TEXT: u64 = 16 << 20;

/// One file, link or folder of a tree.
#[derive(Debug)]
struct Node {
    path: String,
    kind: NodeKind,
    mtime: i64,
}

#[derive(Debug)]
enum NodeKind {
    Folder,
    File { executable: bool },
    Link { target: String },
}

/// Who has made what is in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// The team: it is a part of the project, or the project's own checkout.
    Here,
    /// Somebody else: it was fetched. What git finds in there could be a configuration that names programs to run, so
    /// git is not run in there.
    Elsewhere,
}

/// A source tree on disk.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    nodes: Vec<Node>,
    made: Made,
}

impl Tree {
    /// Lists a folder. Nothing is followed out of it.
    ///
    /// # Errors
    /// It cannot be read, or holds a device, socket, pipe or a name that is not UTF-8.
    pub fn read(root: &Path, made: Made) -> Result<Tree> {
        let mut nodes = Vec::new();
        list(root, "", &mut nodes)?;
        nodes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { root: root.to_path_buf(), nodes, made })
    }

    /// The text of a file of the tree. A link may lead to it, but not out of the tree.
    ///
    /// # Errors
    /// There is no such file, or it is no text of at most 16 MiB.
    pub fn text(&self, path: &str) -> std::io::Result<String> {
        let root = fs::canonicalize(&self.root)?;
        let path = fs::canonicalize(root.join(path))?;
        if !path.starts_with(&root) || !path.is_file() {
            return Err(std::io::Error::other("it is no file of the source"));
        }
        let mut text = String::new();
        fs::File::open(&path)?.take(MAX_TEXT + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_TEXT {
            return Err(std::io::Error::other(format!("it has more than {MAX_TEXT} bytes")));
        }
        Ok(text)
    }

    /// The one spec file at the top of the tree.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn spec(&self) -> std::io::Result<&str> {
        let mut specs = self.nodes.iter().map(|node| node.path.as_str()).filter(|path| !path.contains('/') && path.ends_with(".spec"));
        match (specs.next(), specs.next()) {
            (Some(spec), None) => Ok(spec),
            (None, _) => Err(std::io::Error::new(std::io::ErrorKind::NotFound, "there is no *.spec at its top")),
            (Some(_), Some(_)) => Err(std::io::Error::other("there is more than one *.spec at its top")),
        }
    }

    /// The digest of its content.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn digest(&self) -> Result<Sha256> {
        let mut hasher = Hasher::default();
        for node in &self.nodes {
            match &node.kind {
                // Version control does not know empty folders, so folders do not count.
                NodeKind::Folder => {}
                NodeKind::File { executable } => {
                    hasher.field(if *executable { b"x" } else { b"f" });
                    hasher.field(node.path.as_bytes());
                    let mut file_hasher = Hasher::default();
                    let path = self.root.join(&node.path);
                    let mut file = fs::File::open(&path).or_fail(Class::Project, || format!("cannot read {}", path.display()))?;
                    std::io::copy(&mut file, &mut file_hasher).or_fail(Class::Project, || format!("cannot read {}", path.display()))?;
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

    /// When the source was last changed, in seconds since 1970: the commit's time if the folder is the team's,
    /// under git and as committed, else the newest time of its files.
    pub fn date(&self) -> i64 {
        let committed = match self.made {
            Made::Here => committed(&self.root, "."),
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
        for node in &self.nodes {
            let path = format!("{prefix}/{}", node.path);
            let mut header = header(date);
            let result = match &node.kind {
                NodeKind::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(0o755);
                    header.set_size(0);
                    tar.append_data(&mut header, path, std::io::empty())
                }
                NodeKind::File { executable } => {
                    let source = self.root.join(&node.path);
                    let file = fs::File::open(&source).or_fail(Class::Project, || format!("cannot read {}", source.display()))?;
                    let size = file.metadata().or_fail(Class::Project, || format!("cannot read {}", source.display()))?.len();
                    header.set_mode(if *executable { 0o755 } else { 0o644 });
                    header.set_size(size);
                    // A file that grows while it is read must not shift the rest of the tar.
                    tar.append_data(&mut header, path, file.take(size))
                }
                NodeKind::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    tar.append_link(&mut header, path, target)
                }
            };
            result.or_fail(Class::Project, || format!("cannot pack {}/{}", self.root.display(), node.path))?;
        }
        Ok(())
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

fn list(root: &Path, below: &str, nodes: &mut Vec<Node>) -> Result<()> {
    let folder = root.join(below);
    let unreadable = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(&folder).or_fail(Class::Project, unreadable)? {
        let entry = entry.or_fail(Class::Project, unreadable)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(Error::new(Class::Project, format!("{} has a name that is not UTF-8", entry.path().display())).hint("rename it"));
        };
        if NOT_SOURCE.contains(&name) {
            continue;
        }
        let path = if below.is_empty() { name.to_string() } else { format!("{below}/{name}") };
        let meta = entry.path().symlink_metadata().or_fail(Class::Project, unreadable)?;
        let kind = if meta.is_dir() {
            list(root, &path, nodes)?;
            NodeKind::Folder
        } else if meta.is_file() {
            NodeKind::File { executable: meta.permissions().mode() & 0o111 != 0 }
        } else if meta.is_symlink() {
            let target = fs::read_link(entry.path()).or_fail(Class::Project, unreadable)?;
            let target = target
                .to_str()
                .ok_or_else(|| Error::new(Class::Project, format!("{} points to a name that is not UTF-8", entry.path().display())))?;
            NodeKind::Link { target: target.to_string() }
        } else {
            return Err(Error::new(Class::Project, format!("{} is neither file, folder nor link", entry.path().display()))
                .hint("remove it: sources hold no devices, sockets or pipes"));
        };
        nodes.push(Node { path, kind, mtime: std::os::unix::fs::MetadataExt::mtime(&meta) });
    }
    Ok(())
}

/// When a file was last changed, by the same rule as a tree.
pub fn file_date(path: &Path) -> i64 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mtime = || path.metadata().map_or(0, |meta| std::os::unix::fs::MetadataExt::mtime(&meta));
    path.parent().and_then(|folder| committed(folder, &name)).unwrap_or_else(mtime)
}

/// The time of the last commit that touched `what` in `folder`, if git knows it and it is as
/// committed.
fn committed(folder: &Path, what: &str) -> Option<i64> {
    let git = |arguments: &[&str]| {
        // Of what is committed nothing is run: not where a folder below the checkout looks like a bare repository either.
        let safe = ["-c", "core.fsmonitor=false", "-c", "safe.bareRepository=explicit"];
        let output =
            Command::new("git").args(safe).arg("-C").arg(folder).args(arguments).args(["--", what]).env("LC_ALL", "C").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    git(&["status", "--porcelain"]).filter(String::is_empty)?;
    git(&["log", "-1", "--format=%ct"])?.parse().ok()
}

/// The folder that holds a component's source, fetched first if it is not there, and who has made what is in it.
/// (A distribution's source package has none: it is unpacked by its own tools in the container.)
///
/// # Errors
/// It cannot be fetched, or is not what the project file says it is.
pub fn folder_of(context: &Context, subject: &str, source: &Source) -> Result<Option<(PathBuf, Made)>> {
    let fetched = context.state.join("sources");
    match source {
        Source::Folder(folder) => Ok(Some((context.folder.join(folder), Made::Here))),
        Source::Distribution { .. } => Ok(None),
        Source::Tarball { url, sha256 } => {
            let folder = fetched.join(sha256.to_string());
            if !folder.exists() {
                context.events.started(subject, "fetching its tarball");
                fetch_tarball(url, sha256, &folder)?;
            }
            Ok(Some((folder, Made::Elsewhere)))
        }
        Source::Git { url, revision } => {
            let folder = fetched.join(format!("git-{revision}"));
            if !folder.exists() {
                context.events.started(subject, "fetching its revision");
                fetch_git(url, revision, &folder)?;
            }
            Ok(Some((folder, Made::Elsewhere)))
        }
    }
}

/// A temporary folder beside `folder`, to be renamed to it when complete.
fn beside(folder: &Path) -> Result<tempfile::TempDir> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).or_fail(Class::System, || format!("cannot make {}", parent.display()))?;
    tempfile::Builder::new()
        .prefix("incoming-")
        .tempdir_in(parent)
        .or_fail(Class::System, || format!("cannot write in {}", parent.display()))
}

fn run(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output();
    check(command, what, output)
}

/// Fetches a URL into a file; gives the digest of what came, or none if it is too large.
fn curl(url: &str, file: &Path, what: &str) -> Result<Option<Sha256>> {
    let told = curl_config(url, "http,https,file", MAX_TARBALL);
    let mut command = Command::new("curl");
    command.args(CURL_ARGUMENTS).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut found = None;
    let output = command.spawn().and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // Where it has ended already it says why.
            let _ = stdin.write_all(told.as_bytes());
        }
        if let Some(out) = child.stdout.take() {
            // Not every curl knows the length that it refuses: it is written here, and no more than that.
            let mut file = HashWrite::new(fs::File::create(file)?);
            let bytes = std::io::copy(&mut out.take(MAX_TARBALL + 1), &mut file)?;
            found = Some(file.finish().1).filter(|_| bytes <= MAX_TARBALL);
        }
        child.wait_with_output()
    });
    match found {
        None if output.is_ok() => Ok(None),
        _ => check(&command, what, output).map(|()| found),
    }
}

fn check(command: &Command, what: &str, output: std::io::Result<Output>) -> Result<()> {
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
    Err(Error::new(Class::Project, what.to_string()).because(last.into_iter().rev().collect::<Vec<_>>().join("; ")))
}

fn fetch_tarball(url: &str, expected: &Sha256, folder: &Path) -> Result<()> {
    let temporary = beside(folder)?;
    let download = temporary.path().join("download");
    let what = format!("cannot fetch {}", shown(url));
    let _span = tracing::debug_span!("fetch", url = shown(url)).entered();
    let Some(found) = curl(url, &download, &what)? else {
        return Err(Error::new(Class::Project, what).because(format!("it has more than {MAX_TARBALL} bytes")));
    };
    if found != *expected {
        return Err(Error::new(Class::Project, format!("{} is not what the project file says: its sha256 is {found}", shown(url)))
            .hint("if the new content is right, write this digest into the project file"));
    }
    let unpacked = temporary.path().join("tree");
    fs::create_dir(&unpacked).or_fail(Class::System, || format!("cannot make {}", unpacked.display()))?;
    // GNU tar knows every compression, refuses `..` and, as one of its defaults, absolute names.
    run(Command::new("tar").arg("-xf").arg(&download).args(["--no-same-owner", "--no-same-permissions", "-C"]).arg(&unpacked), &what)?;
    // A tarball with one top folder is that folder.
    let mut top = fs::read_dir(&unpacked).or_fail(Class::System, || what.clone())?.flatten();
    let tree = match (top.next(), top.next()) {
        // (A link is no folder here: it could lead out of the tarball.)
        (Some(only), None) if only.file_type().is_ok_and(|kind| kind.is_dir()) => only.path(),
        _ => unpacked,
    };
    put_in_place(&tree, folder)
}

fn fetch_git(url: &str, revision: &str, folder: &Path) -> Result<()> {
    let temporary = beside(folder)?;
    let (clone, tree) = (temporary.path().join("clone"), temporary.path().join("tree"));
    let what = format!("cannot fetch revision {revision} of {}", shown(url));
    let git = |arguments: &[&str]| run(Command::new("git").arg("-C").arg(&clone).args(arguments), &what);
    run(Command::new("git").args(["init", "--quiet", "--bare"]).arg(&clone), &what)?;
    // One commit is enough; a server that does not give single commits gives everything.
    git(&["fetch", "--quiet", "--depth", "1", "--", url, revision])
        .or_else(|_| git(&["fetch", "--quiet", "--", url, "+refs/*:refs/fetched/*"]))?;
    fs::create_dir(&tree).or_fail(Class::System, || format!("cannot make {}", tree.display()))?;
    git(&["--work-tree", &tree.to_string_lossy(), "checkout", "--quiet", "--force", revision, "--", "."])?;
    // The source is as old as its commit, not as its checkout.
    let date = Command::new("git").arg("-C").arg(&clone).args(["log", "-1", "--format=%ct", revision]).output();
    let date = date.or_fail(Class::Project, || what.clone())?.stdout;
    let date: u64 = String::from_utf8_lossy(&date).trim().parse().or_fail(Class::Project, || what.clone())?;
    set_times(&tree, std::time::UNIX_EPOCH + std::time::Duration::from_secs(date))?;
    put_in_place(&tree, folder)
}

/// Gives a fetched tree the name under which it is trusted from then on: everything in it is on the
/// disk before.
fn put_in_place(tree: &Path, folder: &Path) -> Result<()> {
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

/// Gives every regular file of a tree one time.
fn set_times(folder: &Path, time: std::time::SystemTime) -> Result<()> {
    let failed = || format!("cannot set times in {}", folder.display());
    for entry in fs::read_dir(folder).or_fail(Class::System, failed)? {
        let entry = entry.or_fail(Class::System, failed)?;
        let kind = entry.file_type().or_fail(Class::System, failed)?;
        if kind.is_dir() {
            set_times(&entry.path(), time)?;
        } else if kind.is_file() {
            fs::File::open(entry.path()).and_then(|file| file.set_modified(time)).or_fail(Class::System, failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let digest = |folder: &tempfile::TempDir| Tree::read(folder.path(), Made::Here).and_then(|t| t.digest()).expect("digest");
        assert_eq!(digest(&one), digest(&two));
        fs::set_permissions(two.path().join("debian/rules"), fs::Permissions::from_mode(0o755)).expect("chmod");
        assert_ne!(digest(&one), digest(&two), "a file that became executable is a change");
    }

    #[test]
    fn packing_twice_gives_the_same_bytes() {
        let source = tree(&[("b", "2"), ("a", "1"), ("dir/c", "3")]);
        let pack = || {
            let mut tar = tar::Builder::new(Vec::new());
            Tree::read(source.path(), Made::Here).and_then(|t| t.pack(&mut tar, "src", 1_700_000_000)).expect("pack");
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
        let refused = Tree::read(source.path(), Made::Here).map(|_| ()).map_err(|e| e.to_string());
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
            Tree::read(hostile.path(), Made::Elsewhere).expect("read").date();
            assert!(!marker.exists(), "bare: {bare}");
            // And in the team's own checkout, whatever somebody committed to it.
            Tree::read(hostile.path(), Made::Here).expect("read").date();
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
        let tree = Tree::read(source.path(), Made::Elsewhere).expect("read");
        assert_eq!(tree.text("debian/control").expect("a link inside"), "Source: a");
        assert_eq!(tree.spec().expect("one"), "b.spec");
        for path in ["zero", "passwd", "up/etc/passwd", "../etc/passwd", "packaging", "none"] {
            assert!(tree.text(path).is_err(), "{path}");
        }
        fs::write(source.path().join("large"), vec![b'x'; MAX_TEXT as usize + 1]).expect("a file");
        assert!(tree.text("large").is_err_and(|why| why.to_string().contains("more than")));
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
        let tarball = PathBuf::from(path("sources/tarball"));
        for _ in 0..2 {
            fetch_tarball(&format!("file://{}", path("demo.tar.gz")), &sha256, &tarball).expect("fetched");
        }
        let git = |arguments: &[&str]| {
            command("git", &[&["-C", &path("demo-1"), "-c", "user.name=t", "-c", "user.email=t@example.invalid"], arguments].concat())
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", "one"]);
        let revision = git(&["rev-parse", "HEAD"]);
        let cloned = PathBuf::from(path("sources/git"));
        for _ in 0..2 {
            fetch_git(&path("demo-1"), &revision, &cloned).expect("fetched");
        }
        for folder in [tarball, cloned] {
            assert_eq!(fs::read_to_string(folder.join("a.c")).expect("the source"), "int a;");
        }
        let left = fs::read_dir(made.path().join("sources")).expect("the folder").count();
        assert_eq!(left, 3, "nothing temporary is left");
    }
}
