//! A source that is a revision of a git repository: fetched, and written without a checkout.
//!
//! `git checkout` does what the repository's attributes and the user's configuration say together: filters, hooks,
//! submodules. So git only fetches the objects here, into a repository of our own that has no hooks, and gives their
//! bytes; the files are written by [`Sink`], as those of a tarball are. What is committed is what is built, whatever
//! this machine's git would make of it (line ends, LFS).

use crate::source::{beside, check_output, put_in_place};
use crate::unpack::Sink;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use twostage_beneath::{EntryKind, Folder};
use twostage_model::error::OrFail as _;
use twostage_model::url::{Place, git_place, shown};
use twostage_model::{Class, Error, Result};

/// Bytes of the list of a revision's files.
const MAX_LIST: u64 = 256 << 20;
/// Bytes of a commit.
const MAX_COMMIT: u64 = 1 << 20;
/// Bytes of all files of a revision.
const MAX_BYTES: u64 = 32 << 30;
/// Files of a repository that lies in the project.
const MAX_FILES: usize = 1_000_000;

/// Which variables tell git where a repository is, and would lead it to another one (`git rev-parse --local-env-vars`).
const LOCAL: [&str; 13] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// What no configuration of the user's may make of a fetch: programs that are run for a repository's sake.
const PLAIN: [&str; 8] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.writeCommitGraph=false",
    "core.attributesFile=/dev/null",
];

/// Fetches a revision, and makes `folder` of its files.
///
/// # Errors
/// It cannot be had, or holds what no source is made of.
pub(crate) fn fetch(project: &Folder, url: &str, revision: &str, folder: &Path) -> Result<()> {
    let what = format!("cannot fetch revision {revision} of {}", shown(url));
    let refused =
        |why: &str| Error::new(Class::Project, what.clone()).because(why.to_string()).hint("write it like \"https://…/greet.git\"");
    let (from, protocols) = match git_place(url).map_err(refused)? {
        Place::Remote => (url.to_string(), "http:https:ssh:git"),
        Place::Local(path) => {
            let repository = local(project, path).or_fail(Class::Project, || what.clone())?;
            (repository.display().to_string(), "file")
        }
    };
    let temporary = beside(folder)?;
    let (clone, tree) = (temporary.path().join("clone"), temporary.path().join("tree"));
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        for name in LOCAL {
            git.env_remove(name);
        }
        git.args(PLAIN.iter().flat_map(|setting| ["-c", setting]));
        git.arg("--git-dir").arg(&clone).args(arguments).env("GIT_ALLOW_PROTOCOL", protocols).env("LC_ALL", "C");
        git
    };
    let run = |arguments: &[&str]| {
        let mut git = git(arguments);
        let output = git.output();
        check_output(&git, &what, output)
    };
    // (Templates are hooks, as a rule.)
    run(&["init", "--quiet", "--bare", "--template="])?;
    // One commit is enough; a server that does not give single commits gives everything.
    run(&["fetch", "--quiet", "--no-tags", "--depth", "1", "--", &from, revision])
        .or_else(|_| run(&["fetch", "--quiet", "--no-tags", "--", &from, "+refs/*:refs/fetched/*"]))?;
    fs::create_dir(&tree).or_fail(Class::System, || format!("cannot make {}", tree.display()))?;
    let broken = |cause: io::Error| {
        Error::new(Class::Project, what.clone()).because(cause).hint("`git fsck` in that repository says what of it is broken")
    };
    let commit = Objects::of(&mut git(&["cat-file", "--batch"]), &[revision.to_string()])
        .and_then(|mut objects| objects.next(MAX_COMMIT)?.whole())
        .map_err(broken)?;
    // The source is as old as its commit, not as what is written here.
    let date = committed(&commit).ok_or_else(|| refused("its commit has no date"))?;
    let files = list(&mut git(&["ls-tree", "-r", "-z", "--full-tree", revision])).map_err(broken)?;
    let mut sink = Sink::new(&tree, MAX_BYTES)?;
    let wanted: Vec<String> = files.iter().filter(|(_, kind, _)| *kind != Kind::Submodule).map(|(_, _, id)| id.clone()).collect();
    let mut objects = Objects::of(&mut git(&["cat-file", "--batch"]), &wanted).map_err(broken)?;
    let within = |cause: Error| Error::new(cause.class(), what.clone()).because(cause);
    for (path, kind, _) in &files {
        if *kind == Kind::Submodule {
            sink.folder(path).map_err(within)?;
            continue;
        }
        let mut blob = objects.next(MAX_BYTES).map_err(broken)?;
        match kind {
            Kind::Link => sink.link(path, &blob.whole().map_err(broken)?).map_err(within)?,
            _ => {
                sink.file(path, *kind == Kind::Program, date, blob.size, &mut blob).map_err(within)?;
                blob.end().map_err(broken)?;
            }
        }
    }
    put_in_place(&tree, folder)
}

/// A repository that lies in the project, and has nothing in it that leads out.
fn local(project: &Folder, path: &str) -> Result<PathBuf> {
    let repository = project.folder(in_project(project, path)?)?;
    let objects = match repository.kind(".git")? {
        Some(EntryKind::Folder) => repository.folder(".git")?,
        Some(_) => {
            return Err(Error::new(Class::Project, format!("{path} is a repository whose objects are elsewhere"))
                .hint("copy it with `git clone --bare --no-hardlinks`, or name it by its URL"));
        }
        None => repository.clone(),
    };
    for name in ["objects/info/alternates", "objects/info/http-alternates", "commondir"] {
        if objects.kind(name)?.is_some() {
            return Err(Error::new(Class::Project, format!("{path} takes objects from another repository: it has {name}"))
                .hint("copy it with `git clone --bare --no-hardlinks`, or name it by its URL"));
        }
    }
    let (mut left, mut seen) = (vec![objects], 0);
    while let Some(folder) = left.pop() {
        for entry in folder.entries()? {
            seen += 1;
            if seen > MAX_FILES {
                return Err(Error::new(Class::Project, format!("{path} has more than {MAX_FILES} files")).hint("run `git gc` in it"));
            }
            match entry.kind {
                EntryKind::File => {}
                EntryKind::Folder => left.push(folder.folder(&entry.name)?),
                EntryKind::Link | EntryKind::Other => {
                    let name = folder.path().join(&entry.name);
                    return Err(Error::new(Class::Project, format!("{} is neither file nor folder", name.display()))
                        .hint("copy the repository with `git clone --bare`"));
                }
            }
        }
    }
    std::path::absolute(repository.path()).or_fail(Class::System, || format!("cannot find {path}"))
}

/// A path of this machine that a URL names, as one below the project's folder.
///
/// # Errors
/// It is not below it: what lies elsewhere is not the project's.
pub(crate) fn in_project(project: &Folder, path: &str) -> Result<PathBuf> {
    let outside = || {
        Error::new(Class::Project, format!("{} is not below the project's folder", path.escape_debug()))
            .hint("move it there, or name it by an http or https URL")
    };
    let named = Path::new(path);
    if named.is_relative() {
        return Ok(named.to_path_buf());
    }
    let known = [std::path::absolute(project.path()).ok(), fs::canonicalize(project.path()).ok()];
    let below = known.iter().flatten().find_map(|project| named.strip_prefix(project).ok());
    below.map(Path::to_path_buf).ok_or_else(outside)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Program,
    Link,
    Submodule,
}

/// The files of a revision: `MODE TYPE ID<TAB>PATH`, each ended by a NUL.
fn list(git: &mut Command) -> io::Result<Vec<(Vec<u8>, Kind, String)>> {
    let mut child = git.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut text = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(MAX_LIST + 1).read_to_end(&mut text)?;
    }
    if !child.wait()?.success() || text.len() as u64 > MAX_LIST {
        return Err(io::Error::other("git does not list its files"));
    }
    let mut files = Vec::new();
    for record in text.split(|byte| *byte == 0).filter(|record| !record.is_empty()) {
        let bad = || io::Error::other("git lists what is no file");
        let tab = record.iter().position(|byte| *byte == b'\t').ok_or_else(bad)?;
        let words: Vec<&str> = std::str::from_utf8(&record[..tab]).map_err(|_| bad())?.split(' ').collect();
        let (kind, id) = match words.as_slice() {
            ["100755", "blob", id] => (Kind::Program, id),
            ["120000", "blob", id] => (Kind::Link, id),
            ["160000", "commit", id] => (Kind::Submodule, id),
            [mode, "blob", id] if mode.starts_with("100") => (Kind::File, id),
            _ => return Err(bad()),
        };
        files.push((record[tab + 1..].to_vec(), kind, (*id).to_string()));
    }
    Ok(files)
}

/// The time of a commit: `committer NAME <ADDRESS> SECONDS ZONE` in its header.
fn committed(commit: &[u8]) -> Option<i64> {
    let header = commit.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let line = header.filter_map(|line| line.strip_prefix(b"committer ")).next()?;
    std::str::from_utf8(line.rsplit(|byte| *byte == b'>').next()?).ok()?.split_whitespace().next()?.parse().ok()
}

/// Objects as `git cat-file --batch` gives them: `ID TYPE SIZE`, a line break, the bytes, a line break.
struct Objects {
    out: BufReader<std::process::ChildStdout>,
    child: std::process::Child,
}

/// One of them, its bytes not read yet.
struct Object<'a> {
    out: io::Take<&'a mut BufReader<std::process::ChildStdout>>,
    size: u64,
}

impl Objects {
    fn of(git: &mut Command, ids: &[String]) -> io::Result<Objects> {
        let mut names = tempfile::tempfile()?;
        ids.iter().try_for_each(|id| writeln!(names, "{id}"))?;
        names.rewind()?;
        let mut child = git.stdin(names).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let out = child.stdout.take().ok_or_else(|| io::Error::other("git gives nothing"))?;
        Ok(Objects { out: BufReader::with_capacity(128 << 10, out), child })
    }

    fn next(&mut self, most: u64) -> io::Result<Object<'_>> {
        let mut line = String::new();
        (&mut self.out).take(256).read_line(&mut line)?;
        let size = match line.trim_end().split(' ').collect::<Vec<_>>().as_slice() {
            [_, "blob" | "commit", size] => size.parse().ok().filter(|size| *size <= most),
            _ => None,
        };
        let size: u64 = size.ok_or_else(|| io::Error::other(format!("git does not give an object: {}", line.trim_end().escape_debug())))?;
        Ok(Object { out: (&mut self.out).take(size + 1), size })
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Object<'_> {
    /// All of it, which is small.
    fn whole(mut self) -> io::Result<Vec<u8>> {
        if self.size > MAX_COMMIT {
            return Err(io::Error::other("it is larger than any link or commit"));
        }
        let mut bytes = Vec::new();
        self.out.read_to_end(&mut bytes)?;
        match bytes.pop() {
            Some(b'\n') if bytes.len() as u64 == self.size => Ok(bytes),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }

    /// Reads the line break behind its bytes, all of which were read.
    fn end(mut self) -> io::Result<()> {
        let mut end = Vec::new();
        self.out.read_to_end(&mut end)?;
        if end == b"\n" { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
    }
}

impl Read for Object<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.out.read(buffer)
    }
}

#[cfg(test)]
mod tests;
