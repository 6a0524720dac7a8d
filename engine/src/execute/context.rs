//! The files of a build's context, as COPY and ADD see them: `.dockerignore` left out, links followed only within it.

use super::pattern::{Ignore, Pattern, is_pattern};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use twostage_image::path::{self, join};
use twostage_image::{Entry, Kind};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result, Sha256};

/// Files and folders that one COPY may take, at most.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Links that are followed before a path is called endless; as Linux.
const MAX_LINKS: usize = 40;
/// Bytes of a `.dockerignore`, at most.
const MAX_IGNORE: u64 = 1 << 20;

/// The folder that a build takes files from.
#[derive(Debug)]
pub struct Context {
    folder: PathBuf,
    root: File,
    ignore: Ignore,
}

/// A file or folder that is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it is called where it was found.
    pub name: String,
    /// Where it is, links followed; no slash at either end, the root is empty.
    pub path: String,
    /// It is a folder.
    pub folder: bool,
}

/// What [`Context::list`] finds.
#[derive(Debug)]
pub struct Listed {
    /// Where, below what was asked for; empty for that itself.
    pub below: String,
    /// What, with all that a tar says of it; a file's digest is none.
    pub entry: Entry,
    /// Another name of the file at this place below.
    pub same_as: Option<String>,
}

impl Context {
    /// Opens a context. The rules are those of `DOCKERFILE.dockerignore`, else of `.dockerignore` in it.
    ///
    /// # Errors
    /// It is no folder, or a rule is not understood.
    pub fn open(folder: &Path, dockerfile: &Path) -> Result<Context> {
        let fail = || format!("cannot read the context {}", folder.display());
        let root = File::open(folder).or_fail(Class::Usage, fail)?;
        if !root.metadata().or_fail(Class::System, fail)?.is_dir() {
            return Err(
                Error::new(Class::Usage, format!("{} is no folder", folder.display())).hint("name the folder that COPY takes files from")
            );
        }
        let mut beside = dockerfile.as_os_str().to_os_string();
        beside.push(".dockerignore");
        let mut ignore = Ignore::default();
        for file in [PathBuf::from(beside), folder.join(".dockerignore")] {
            match fs::metadata(&file) {
                Ok(found) if found.len() > MAX_IGNORE => {
                    return Err(Error::new(Class::Project, format!("{} has more than {MAX_IGNORE} bytes", file.display())));
                }
                Ok(_) => {
                    let text = fs::read_to_string(&file).or_fail(Class::Project, || format!("cannot read {}", file.display()))?;
                    ignore = Ignore::parse(&text).map_err(|(line, what)| {
                        Error::new(Class::Project, format!("{} line {line}: {what}", file.display())).hint("mend the pattern in that line")
                    })?;
                    break;
                }
                Err(_) => {}
            }
        }
        Ok(Context { folder: folder.to_path_buf(), root, ignore })
    }

    /// What a path or pattern names, in order. `path` is absolute within the context.
    ///
    /// # Errors
    /// Nothing is there, or a link leads out of the context.
    pub fn find(&self, path: &str) -> Result<Vec<Source>> {
        let wanted = path.trim_matches('/');
        let mut found = Vec::new();
        if is_pattern(wanted) {
            let parts: Vec<&str> = wanted.split('/').collect();
            self.expand("", &parts, &mut found)?;
        } else if let Some(source) = self.resolve(wanted)? {
            found.push(source);
        }
        if found.is_empty() {
            let named = if wanted.is_empty() { "the context".into() } else { path::shown(wanted) };
            if self.ignore.leaves_out(wanted) && fs::symlink_metadata(self.folder.join(to_path(wanted))).is_ok() {
                return Err(Error::new(Class::Project, format!("{named} is in the context, but .dockerignore leaves it out"))
                    .hint("take it in again with a line `!` and its name"));
            }
            return Err(Error::new(Class::Project, format!("there is no {named} in the context {}", self.folder.display()))
                .hint("correct the path, which starts at the context, or name another context"));
        }
        Ok(found)
    }

    fn expand(&self, folder: &str, parts: &[&str], found: &mut Vec<Source>) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else {
            found.extend(self.resolve(folder)?);
            return Ok(());
        };
        let pattern = Pattern::parse(part, false).map_err(|why| {
            Error::new(Class::Project, format!("{part} is not a pattern: {why}")).hint("write the name, or mend the pattern")
        })?;
        let Some(real) = self.resolve(folder)?.filter(|source| source.folder) else { return Ok(()) };
        for name in self.names(&real.path)? {
            if pattern.matches(&name) {
                self.expand(&join(folder, &name), rest, found)?;
                if found.len() > MAX_ENTRIES {
                    return Err(
                        Error::new(Class::Project, format!("the pattern names more than {MAX_ENTRIES} files")).hint("name their folder")
                    );
                }
            }
        }
        Ok(())
    }

    /// Names in a folder that are not left out, or may hold what is not, in order.
    fn names(&self, folder: &str) -> Result<Vec<String>> {
        let at = self.folder.join(to_path(folder));
        let fail = || format!("cannot list {}", at.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&at).or_fail(Class::System, fail)? {
            let name = path::from_bytes(entry.or_fail(Class::System, fail)?.file_name().as_bytes());
            if !self.ignore.leaves_out(&join(folder, &name)) || self.ignore.takes_in_again() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Follows every link of a path, within the context.
    fn resolve(&self, wanted: &str) -> Result<Option<Source>> {
        let name = wanted.rsplit('/').next().unwrap_or_default().to_string();
        let mut todo: Vec<String> = wanted.split('/').rev().map(str::to_string).collect();
        let mut real = String::new();
        let mut links = 0;
        let out = |link: &str, target: &str| {
            Error::new(Class::Project, format!("the link {} in the context leads out of it, to {target}", path::shown(link)))
                .hint("copy what it names into the context, or copy the folder that the link is in: then it stays a link")
        };
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    let Some(cut) = real.rfind('/').or((!real.is_empty()).then_some(0)) else { return Err(out(wanted, "..")) };
                    real.truncate(cut);
                    continue;
                }
                _ => {}
            }
            let here = join(&real, &part);
            let at = self.folder.join(to_path(&here));
            let Ok(found) = fs::symlink_metadata(&at) else { return Ok(None) };
            if !found.is_symlink() {
                real = here;
                continue;
            }
            links += 1;
            let target = fs::read_link(&at).or_fail(Class::System, || format!("cannot read the link {}", at.display()))?;
            let target = path::from_bytes(target.as_os_str().as_bytes());
            if links > MAX_LINKS || target.starts_with('/') {
                return Err(out(&here, &path::shown(&target)));
            }
            todo.extend(target.split('/').rev().map(str::to_string));
        }
        let Ok(found) = fs::symlink_metadata(self.folder.join(to_path(&real))) else { return Ok(None) };
        let left_out = !real.is_empty() && self.ignore.leaves_out(&real) && !(found.is_dir() && self.ignore.takes_in_again());
        Ok((!left_out).then_some(Source { name, path: real, folder: found.is_dir() }))
    }

    /// A file, or a folder and all below it, in order; links stay links.
    ///
    /// # Errors
    /// It cannot be read, or holds something that no image can.
    pub fn list(&self, source: &Source) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        let mut links = BTreeMap::new();
        self.walk(source, String::new(), &mut links, &mut listed)?;
        Ok(listed)
    }

    fn walk(&self, source: &Source, below: String, links: &mut BTreeMap<(u64, u64), String>, listed: &mut Vec<Listed>) -> Result<bool> {
        let real = join(&source.path, &below);
        let at = self.folder.join(to_path(&real));
        let fail = || format!("cannot read {}", at.display());
        let found = fs::symlink_metadata(&at).or_fail(Class::System, fail)?;
        let kind = found.file_type();
        let left_out = !real.is_empty() && self.ignore.leaves_out(&real);
        if left_out && !(kind.is_dir() && self.ignore.takes_in_again()) {
            return Ok(false);
        }
        if listed.len() >= MAX_ENTRIES {
            return Err(Error::new(Class::Project, format!("there are more than {MAX_ENTRIES} files in {}", self.folder.display()))
                .hint("leave some out with .dockerignore"));
        }
        let what = match () {
            () if kind.is_dir() => Kind::Dir,
            () if kind.is_file() => Kind::File { size: found.len(), sha256: Sha256::of(b"") },
            () if kind.is_fifo() => Kind::Fifo,
            () if kind.is_symlink() => {
                let target = fs::read_link(&at).or_fail(Class::System, fail)?;
                Kind::Symlink { target: path::from_bytes(target.as_os_str().as_bytes()) }
            }
            // (The client of Docker leaves sockets out, too.)
            () if kind.is_socket() => return Ok(false),
            () => {
                return Err(Error::new(Class::Project, format!("{} is a device, which is not copied", at.display()))
                    .hint("leave it out with .dockerignore, or make it in a RUN with mknod"));
            }
        };
        let same_as = match kind.is_file() && found.nlink() > 1 {
            true => {
                let first = links.entry((found.dev(), found.ino())).or_insert_with(|| below.clone());
                (*first != below).then(|| first.clone())
            }
            false => None,
        };
        let entry = Entry { mode: found.mode() & 0o7777, mtime: found.mtime(), xattrs: attributes(&at, &kind)?, ..Entry::bare(what) };
        let mine = listed.len();
        listed.push(Listed { below: below.clone(), entry, same_as });
        let mut any = !left_out;
        if kind.is_dir() {
            for name in self.names(&real)? {
                any |= self.walk(source, join(&below, &name), links, listed)?;
            }
        }
        // A folder that is left out is there for what is taken in again, or not at all.
        if !any {
            listed.truncate(mine);
        }
        Ok(any)
    }

    /// Opens a file of the context; no link on the way is followed, whatever became of it since it was listed.
    ///
    /// # Errors
    /// It is not there any more, or cannot be read.
    pub fn file(&self, path: &str) -> Result<File> {
        let fail = || format!("cannot read {} of the context", path::shown(path));
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // (A pipe that took a file's place would block.)
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        rustix::fs::openat2(&self.root, to_path(path), flags, Mode::empty(), how).map(File::from).or_fail(Class::System, fail)
    }
}

/// The attributes that images carry.
fn attributes(at: &Path, kind: &fs::FileType) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut attributes = BTreeMap::new();
    if kind.is_symlink() {
        return Ok(attributes);
    }
    let fail = || format!("cannot read the attributes of {}", at.display());
    let mut names = vec![0_u8; 64 << 10];
    let length = match rustix::fs::llistxattr(at, &mut names[..]) {
        Ok(length) => length,
        // A file system without any.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(cause) => return Err(Error::new(Class::System, fail()).because(cause)),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let text = path::from_bytes(name);
        if text != "security.capability" && !text.starts_with("user.") {
            continue;
        }
        let mut value = vec![0_u8; 64 << 10];
        let length = rustix::fs::lgetxattr(at, name, &mut value[..]).or_fail(Class::System, fail)?;
        value.truncate(length);
        attributes.insert(text, value);
    }
    Ok(attributes)
}

fn to_path(path: &str) -> PathBuf {
    if path.is_empty() { PathBuf::from(".") } else { PathBuf::from(std::ffi::OsStr::from_bytes(&path::to_bytes(path))) }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn context(ignore: &str) -> (tempfile::TempDir, Context) {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["a/b", "out"] {
            fs::create_dir_all(at(name)).expect("a folder");
        }
        for name in ["a/b/one.txt", "a/two.txt", "out/keep", "out/drop", "three.md"] {
            fs::write(at(name), name).expect("a file");
        }
        symlink("a/b", at("within")).expect("a link");
        symlink("/etc", at("absolute")).expect("a link");
        symlink("../../etc", at("a/up")).expect("a link");
        symlink("loop", at("loop")).expect("a link");
        fs::write(at(".dockerignore"), ignore).expect("a file");
        let context = Context::open(folder.path(), &at("Dockerfile")).expect("a context");
        (folder, context)
    }

    #[test]
    fn links_are_followed_within_the_context_and_not_out_of_it() {
        let (_folder, context) = context("");
        let found = context.find("/within/one.txt").expect("it is there");
        assert_eq!(found, [Source { name: "one.txt".into(), path: "a/b/one.txt".into(), folder: false }]);
        for out in ["/absolute/passwd", "/a/up/passwd", "/absolute", "/loop", "/*/passwd"] {
            let error = context.find(out).expect_err(out);
            assert!(error.what().contains("leads out of it"), "{out}: {error}");
        }
        // Below a folder that is copied they stay links, and the file is not opened through one.
        let all = context.find("/").expect("the root");
        let listed = context.list(&all[0]).expect("a list");
        assert!(listed.iter().any(|listed| listed.below == "absolute" && matches!(listed.entry.kind, Kind::Symlink { .. })));
        assert!(context.file("within/one.txt").is_err() && context.file("../x").is_err() && context.file("a/b/one.txt").is_ok());
    }

    #[test]
    fn what_is_left_out_is_not_there_and_what_is_taken_in_again_is() {
        let (_folder, context) = context("out\n!out/keep\n*.md\n");
        let all = context.find("/").expect("the root");
        let listed = context.list(&all[0]).expect("a list");
        let names: Vec<&str> = listed.iter().map(|listed| listed.below.as_str()).collect();
        assert_eq!(
            names,
            ["", ".dockerignore", "a", "a/b", "a/b/one.txt", "a/two.txt", "a/up", "absolute", "loop", "out", "out/keep", "within"]
        );
        assert!(context.find("/three.md").expect_err("left out").what().contains(".dockerignore"));
        assert_eq!(context.find("/a/*.txt").expect("found").len(), 1);
        assert!(context.find("/nothing*").is_err());
    }
}
