//! The files of a build's context, as COPY and ADD see them: `.dockerignore` left out, links followed only within it. An
//! absolute link starts at the context, as it would at the root of an image.

use super::origin::{Data, Files, Same, What};
use super::pattern::{Ignore, Pattern, Select, is_pattern};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use twostage_image::Entry;
use twostage_image::path::{self, join};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Files and folders that one COPY may take, at most.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Links that are followed before a path is called endless; as Linux.
const MAX_LINKS: usize = 40;
/// Bytes of a `.dockerignore`, at most.
const MAX_IGNORE: u64 = 1 << 20;

/// What a build takes files from: a folder, or a tar.
#[derive(Debug)]
pub struct Context {
    files: Files,
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
    /// A context without files.
    pub fn empty() -> Context {
        Context { files: Files::nothing(), ignore: Ignore::default() }
    }

    /// Opens a folder. The rules are those of `DOCKERFILE.dockerignore`, if the Dockerfile is a file, else of `.dockerignore`
    /// in it.
    ///
    /// # Errors
    /// It is no folder, or a rule is not understood.
    pub fn open(folder: &Path, dockerfile: Option<&Path>) -> Result<Context> {
        let files = Files::folder(folder)?;
        let beside = dockerfile.map(|dockerfile| {
            let mut beside = dockerfile.as_os_str().to_os_string();
            beside.push(".dockerignore");
            PathBuf::from(beside)
        });
        let mut ignore = Ignore::default();
        for file in beside.into_iter().chain([folder.join(".dockerignore")]) {
            match fs::metadata(&file) {
                Ok(found) if !found.is_file() => {
                    return Err(Error::new(Class::Project, format!("{} is no file", file.display()))
                        .hint("write the patterns into a file of that name, or remove it"));
                }
                Ok(found) if found.len() > MAX_IGNORE => return Err(long(&file.display())),
                Ok(_) => {
                    let text = twostage_beneath::read_bytes(&file, MAX_IGNORE, Class::Project)?;
                    let text = String::from_utf8_lossy(&text);
                    ignore = rules(&text, &file.display())?;
                    break;
                }
                Err(_) => {}
            }
        }
        Ok(Context { files, ignore })
    }

    /// Opens a tar, whose rules are where [`Context::open`] looks for those of a folder. `dockerfile` is a path in it.
    ///
    /// # Errors
    /// It is no tar, something in it cannot be in a folder, or a rule is not understood.
    pub fn packed(tar: Vec<u8>, dockerfile: &str) -> Result<Context> {
        let files = Files::packed(tar)?;
        let dockerfile = dockerfile.trim_matches('/');
        let mut context = Context { files, ignore: Ignore::default() };
        for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".into()] {
            if let Some(text) = context.bytes(&name, MAX_IGNORE)? {
                context.ignore = rules(&String::from_utf8_lossy(&text), &path::shown(&name))?;
                break;
            }
        }
        Ok(context)
    }

    /// Whether there is something that is no file, such as a link.
    ///
    /// # Errors
    /// It cannot be looked for.
    pub fn has_other(&self, path: &str) -> Result<bool> {
        Ok(matches!(self.files.what(path.trim_matches('/'))?, Some(What::Folder | What::Link(_))))
    }

    /// What is in a file, whatever the rules say of it; none if there is no such file.
    ///
    /// # Errors
    /// It has more than `most` bytes, or cannot be read.
    pub fn bytes(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let path = path.trim_matches('/');
        if !matches!(self.files.what(path)?, Some(What::Other)) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = self.file(path)?.take(most + 1).read_to_end(&mut bytes);
        if read.or_fail(Class::Project, || format!("cannot read {}", path::shown(path)))? as u64 > most {
            return Err(Error::new(Class::Project, format!("{} has more than {most} bytes", path::shown(path))));
        }
        Ok(Some(bytes))
    }

    /// What a path or pattern names, in order. `path` is absolute within the context. A pattern may name nothing, as in
    /// BuildKit; the folder that it begins with has to be there.
    ///
    /// # Errors
    /// Nothing is there, a link leads out of the context, or links lead to each other.
    pub fn find(&self, path: &str) -> Result<Vec<Source>> {
        let wanted = path.trim_matches('/');
        if !is_pattern(wanted) {
            return Ok(vec![self.resolve(wanted)??]);
        }
        let (fixed, parts): (Vec<&str>, Vec<&str>) = {
            let first = wanted.split('/').take_while(|part| !is_pattern(part)).count();
            (wanted.split('/').take(first).collect(), wanted.split('/').skip(first).collect())
        };
        let start = self.resolve(&fixed.join("/"))??;
        if !start.folder {
            return Err(self.missing(wanted));
        }
        let mut found = Vec::new();
        self.expand(&start.path, &parts, &mut found)?;
        Ok(found)
    }

    /// An error about what is not there.
    fn missing(&self, wanted: &str) -> Error {
        let named = if wanted.is_empty() { "the context".into() } else { path::shown(wanted) };
        if self.files.is_empty() {
            return Error::new(Class::Project, format!("there is no {named}: this build has no context"))
                .hint("name the folder that it is in, and the Dockerfile with -f, which may be `-` for standard input");
        }
        Error::new(Class::Project, format!("there is no {named} in {}", self.files))
            .hint("correct the path, which starts at the context, or name another context")
    }

    /// What is like the parts of a pattern, below a folder whose links are followed. Of what is found there, only the last
    /// name may be a link, as in BuildKit.
    fn expand(&self, folder: &str, parts: &[&str], found: &mut Vec<Source>) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else { return Ok(()) };
        let pattern = Pattern::parse(part, false).map_err(|why| {
            Error::new(Class::Project, format!("{part} is not a pattern: {why}")).hint("write the name, or mend the pattern")
        })?;
        for name in self.names(folder)? {
            if !pattern.matches(&name) {
                continue;
            }
            let path = join(folder, &name);
            if !rest.is_empty() {
                if self.files.what(&path)? == Some(What::Folder) {
                    self.expand(&path, rest, found)?;
                }
                continue;
            }
            match self.resolve(&path)? {
                Ok(source) => found.push(source),
                // (Names of what is left out are listed where something may be taken in again.)
                Err(_) if self.ignore.leaves_out(&path) => {}
                Err(missing) => return Err(missing),
            }
            if found.len() > MAX_ENTRIES {
                return Err(
                    Error::new(Class::Project, format!("the pattern names more than {MAX_ENTRIES} files")).hint("name their folder")
                );
            }
        }
        Ok(())
    }

    /// Names in a folder that are not left out, or may hold what is not, in order.
    fn names(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = self.files.names(folder)?;
        names.retain(|name| !self.ignore.leaves_out(&join(folder, name)) || self.ignore.takes_in_again());
        names.sort();
        Ok(names)
    }

    /// Follows every link of a path, within the context; the inner error is that nothing is there.
    fn resolve(&self, wanted: &str) -> Result<Result<Source>> {
        let name = wanted.rsplit('/').next().unwrap_or_default().to_string();
        let mut todo: Vec<String> = wanted.split('/').rev().map(str::to_string).collect();
        let mut real = String::new();
        let mut links = 0;
        // The last link, and what it says.
        let mut link: Option<(String, String)> = None;
        let missing = |link: &Option<(String, String)>, at: &str| match link {
            None => self.missing(wanted),
            Some((link, target)) => {
                let (wanted, link, target) = (path::shown(wanted), path::shown(link), path::shown(target));
                Error::new(Class::Project, format!("there is no {wanted} in {}: the link {link} leads to {target}", self.files))
                    .because(format!("links are followed within the context, and there is no {} in it", path::shown(at)))
                    .hint("copy what it names into the context, or copy the folder that the link is in: then it stays a link")
            }
        };
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    let Some(cut) = real.rfind('/').or((!real.is_empty()).then_some(0)) else {
                        let (link, target) = link.unwrap_or_else(|| (wanted.to_string(), "..".into()));
                        let what = format!("the link {} in the context leads out of it, to {}", path::shown(&link), path::shown(&target));
                        return Err(Error::new(Class::Project, what)
                            .hint("copy what it names into the context, or copy the folder that the link is in: then it stays a link"));
                    };
                    real.truncate(cut);
                    continue;
                }
                _ => {}
            }
            let here = join(&real, &part);
            let target = match self.files.what(&here)? {
                None => return Ok(Err(missing(&link, &here))),
                Some(What::Link(target)) => target,
                Some(_) => {
                    real = here;
                    continue;
                }
            };
            links += 1;
            if links > MAX_LINKS {
                let what =
                    format!("the links of {} in {} never end: {} leads to {}", path::shown(wanted), self.files, here, path::shown(&target));
                return Err(Error::new(Class::Project, what).hint("let one of them lead to a file or folder"));
            }
            if target.starts_with('/') {
                real.clear();
            }
            todo.extend(target.split('/').rev().map(str::to_string));
            link = Some((here, target));
        }
        let Some(found) = self.files.what(&real)? else { return Ok(Err(missing(&link, &real))) };
        let folder = matches!(found, What::Folder);
        if !real.is_empty() && self.ignore.leaves_out(&real) && !(folder && self.ignore.takes_in_again()) {
            let what = format!("{} is in the context, but .dockerignore leaves it out", path::shown(&real));
            return Ok(Err(Error::new(Class::Project, what).hint("take it in again with a line `!` and its name")));
        }
        Ok(Ok(Source { name, path: real, folder }))
    }

    /// A file, or a folder and what of it is selected, in order; links stay links.
    ///
    /// # Errors
    /// It cannot be read, or holds something that no image can.
    pub fn list(&self, source: &Source, select: &Select) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        let mut links = BTreeMap::new();
        self.walk((source, select), String::new(), &mut links, &mut listed)?;
        Ok(listed)
    }

    fn walk(
        &self,
        wanted: (&Source, &Select),
        below: String,
        links: &mut BTreeMap<Same, String>,
        listed: &mut Vec<Listed>,
    ) -> Result<bool> {
        let (source, select) = wanted;
        let real = join(&source.path, &below);
        let folder = matches!(self.files.what(&real)?, Some(What::Folder));
        let ignored = !real.is_empty() && self.ignore.leaves_out(&real);
        let left_out = ignored || !below.is_empty() && !select.takes(&below);
        let looks_into = folder && (!ignored || self.ignore.takes_in_again()) && (below.is_empty() || select.looks_into(&below));
        if left_out && !looks_into {
            return Ok(false);
        }
        if listed.len() >= MAX_ENTRIES {
            return Err(Error::new(Class::Project, format!("there are more than {MAX_ENTRIES} files in {}", self.files))
                .hint("leave some out with .dockerignore"));
        }
        // (The client of Docker leaves sockets out, too.)
        let Some((entry, same)) = self.files.entry(&real)? else { return Ok(false) };
        let same_as = same.and_then(|same| {
            let first = links.entry(same).or_insert_with(|| below.clone());
            (*first != below).then(|| first.clone())
        });
        let mine = listed.len();
        listed.push(Listed { below: below.clone(), entry, same_as });
        let mut any = !left_out;
        if folder {
            for name in self.names(&real)? {
                any |= self.walk(wanted, join(&below, &name), links, listed)?;
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
    pub fn file(&self, path: &str) -> Result<Data> {
        self.files.open(path)
    }
}

fn long(file: &dyn std::fmt::Display) -> Error {
    Error::new(Class::Project, format!("{file} has more than {MAX_IGNORE} bytes")).hint("leave out folders, not each file in them")
}

fn rules(text: &str, file: &dyn std::fmt::Display) -> Result<Ignore> {
    Ignore::parse(text)
        .map_err(|(line, what)| Error::new(Class::Project, format!("{file} line {line}: {what}")).hint("mend the pattern in that line"))
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use twostage_image::Kind;

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
        let context = Context::open(folder.path(), Some(&at("Dockerfile"))).expect("a context");
        (folder, context)
    }

    #[test]
    fn links_are_followed_within_the_context_and_not_out_of_it() {
        let (folder, context) = context("");
        let found = context.find("/within/one.txt").expect("it is there");
        assert_eq!(found, [Source { name: "one.txt".into(), path: "a/b/one.txt".into(), folder: false }]);
        let said = |path: &str| {
            let error = context.find(path).expect_err(path);
            format!("{error} {}", error.causes().join(" "))
        };
        assert!(said("/a/up/passwd").contains("the link a/up in the context leads out of it, to ../../etc"), "{}", said("/a/up/passwd"));
        for absolute in ["/absolute/passwd", "/absolute", "/abs*"] {
            assert!(said(absolute).contains("the link absolute leads to /etc links are followed within the context"), "{}", said(absolute));
        }
        symlink("pong", folder.path().join("ping")).expect("a link");
        symlink("ping", folder.path().join("pong")).expect("a link");
        for endless in ["/loop", "/loop/x", "/loop*", "/ping", "/pong/x", "/p*g"] {
            assert!(said(endless).contains("never end"), "{endless}: {}", said(endless));
        }
        // Absolute ones start at the context, also in the middle of a path, and of a pattern.
        symlink("/a/b/one.txt", folder.path().join("inside")).expect("a link");
        symlink("/a", folder.path().join("a/again")).expect("a link");
        for inside in ["/inside", "/insid?", "/a/again/b/one.txt", "/a/again/b/*.txt", "/a/again/../a/b/one.txt"] {
            let found = context.find(inside).expect(inside);
            assert_eq!(found.iter().map(|source| source.path.as_str()).collect::<Vec<_>>(), ["a/b/one.txt"], "{inside}");
        }
        assert_eq!(context.find("/a/ag*/b/one.txt").expect("a pattern"), [], "but not below one that a pattern names");
        // Below a folder that is copied they stay links, and the file is not opened through one.
        let all = context.find("/").expect("the root");
        let listed = context.list(&all[0], &Select::default()).expect("a list");
        assert!(listed.iter().any(|listed| listed.below == "absolute" && matches!(listed.entry.kind, Kind::Symlink { .. })));
        assert!(context.file("within/one.txt").is_err() && context.file("../x").is_err() && context.file("a/b/one.txt").is_ok());
    }

    #[test]
    fn what_is_selected_has_the_folders_that_it_is_in() {
        let (_folder, context) = context("*.md");
        let all = context.find("/").expect("the root");
        let names = |only: &str, without: &[&str]| {
            let without: Vec<String> = without.iter().map(|text| (*text).to_string()).collect();
            let listed = context.list(&all[0], &Select::new(only, &without).expect("patterns")).expect("a list");
            listed.into_iter().map(|listed| listed.below).collect::<Vec<_>>()
        };
        assert_eq!(names("a/b/one.txt", &[]), ["", "a", "a/b", "a/b/one.txt"]);
        assert_eq!(names("*/*.txt", &[]), ["", "a", "a/two.txt"]);
        assert_eq!(names("three.md", &[]), [""], ".dockerignore counts, too");
        assert_eq!(names("out", &["out/drop"]), ["", "out", "out/keep"]);
        assert_eq!(names("", &["*", "!a/two.txt"]), ["", "a", "a/two.txt"]);
    }

    #[test]
    fn what_is_left_out_is_not_there_and_what_is_taken_in_again_is() {
        let (_folder, context) = context("out\n!out/keep\n*.md\n");
        let all = context.find("/").expect("the root");
        let listed = context.list(&all[0], &Select::default()).expect("a list");
        let names: Vec<&str> = listed.iter().map(|listed| listed.below.as_str()).collect();
        assert_eq!(
            names,
            ["", ".dockerignore", "a", "a/b", "a/b/one.txt", "a/two.txt", "a/up", "absolute", "loop", "out", "out/keep", "within"]
        );
        assert!(context.find("/three.md").expect_err("left out").what().contains(".dockerignore"));
        assert_eq!(context.find("/a/*.txt").expect("found").len(), 1);
        assert_eq!(context.find("/nothing*").expect("a pattern may name nothing"), []);
        assert_eq!(context.find("/*.md").expect("what is left out is not there"), []);
        for missing in ["/nothing", "/nothing/*", "/a/two.txt/*"] {
            assert!(context.find(missing).is_err(), "{missing}");
        }
    }
}
