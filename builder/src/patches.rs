//! Patches, file by file: what of one changes the packaging, and what the source.
//!
//! A source package of the format `3.0 (quilt)` keeps patches of the upstream source in `debian/patches`, and dpkg-source
//! applies them. What a patch changes below `debian/` itself cannot be among those: dpkg-source would copy the changed
//! folder and then apply the patch to it once more. So it is applied by itself, first; and before the package manager is
//! asked what the build needs, because a patch may say that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Bytes of a `debian/control`, at most.
const MAX_CONTROL: u64 = 4 << 20;
/// Bytes of an unpacked source tarball that are looked through for it, at most.
const MAX_SOURCE: u64 = 8 << 30;

/// A patch in unified form, cut into its files.
pub(crate) struct Patch {
    /// What it is called in the builder container.
    pub(crate) name: String,
    /// What the project file calls it, for messages.
    pub(crate) shown: String,
    pub(crate) content: Vec<u8>,
    /// What stands before the first file.
    preamble: Vec<u8>,
    changes: Vec<FileChange>,
}

/// What a patch does to one file.
struct FileChange {
    /// Without its first part, as `patch -p1` takes it.
    path: String,
    text: Vec<u8>,
}

impl Patch {
    pub(crate) fn new(name: String, shown: String, content: Vec<u8>) -> Patch {
        let (preamble, changes) = cut(&content);
        Patch { name, shown, content, preamble, changes }
    }

    pub(crate) fn touches(&self, is_it: impl Fn(&str) -> bool) -> bool {
        self.changes.iter().any(|change| is_it(&change.path))
    }

    /// The patch of those files for which this is so, and the patch of the others; nothing for none.
    pub(crate) fn split(&self, is_packaging: impl Fn(&str) -> bool) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        if !self.touches(&is_packaging) {
            return (None, Some(self.content.clone()));
        }
        let part = |wanted: bool| {
            let changes: Vec<&FileChange> = self.changes.iter().filter(|change| is_packaging(&change.path) == wanted).collect();
            let texts = changes.iter().flat_map(|change| &change.text).copied();
            (!changes.is_empty()).then(|| self.preamble.iter().copied().chain(texts).collect::<Vec<u8>>())
        };
        (part(true), part(false))
    }

    /// The lines that a patch adds (`+`) to the files of these paths, or takes away (`-`).
    pub(crate) fn lines<'a>(&'a self, is_it: impl Fn(&str) -> bool + 'a, sign: char) -> impl Iterator<Item = &'a str> {
        let texts =
            self.changes.iter().filter(move |change| is_it(&change.path)).filter_map(|change| std::str::from_utf8(&change.text).ok());
        let is_header = |line: &str| line.starts_with("--- ") || line.starts_with("+++ ");
        texts.flat_map(str::lines).filter(move |line| !is_header(line)).filter_map(move |line| line.strip_prefix(sign))
    }
}

/// A text file after all patches that change it.
///
/// # Errors
/// One does not apply.
pub(crate) fn applied(patches: &[Patch], path: &str, text: String) -> Result<String> {
    let mut text = text;
    for patch in patches {
        for change in patch.changes.iter().filter(|change| change.path == path) {
            let failed = || format!("{} does not apply to {path}", patch.shown);
            let hint = "make the patch against the source as it is now, with one leading folder in its paths, as `git diff` does";
            let change = std::str::from_utf8(&change.text).or_fail(Class::Project, failed)?;
            let start = change.find("--- ").unwrap_or(0);
            let parsed = diffy::Patch::from_str(change.get(start..).unwrap_or_default());
            let parsed = parsed.map_err(|cause| Error::new(Class::Project, failed()).because(cause.to_string()).hint(hint))?;
            text =
                diffy::apply(&text, &parsed).map_err(|cause| Error::new(Class::Project, failed()).because(cause.to_string()).hint(hint))?;
        }
    }
    Ok(text)
}

/// Cuts a patch at the headers of its files. Within a hunk, whose header says how many lines it has, nothing is a header.
fn cut(content: &[u8]) -> (Vec<u8>, Vec<FileChange>) {
    let (mut preamble, mut changes) = (Vec::new(), Vec::<FileChange>::new());
    let lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    // Lines of the hunk that are still to come, of the old file and of the new one; whether the last header has its paths.
    let (mut left, mut has_paths) = ((0_u64, 0_u64), true);
    for (at, line) in lines.iter().enumerate() {
        let is_in_hunk = left != (0, 0);
        if is_in_hunk {
            match line.first() {
                Some(b'-') => left.0 = left.0.saturating_sub(1),
                Some(b'+') => left.1 = left.1.saturating_sub(1),
                Some(b'\\') => {}
                _ => left = (left.0.saturating_sub(1), left.1.saturating_sub(1)),
            }
        } else if line.starts_with(b"diff ") || line.starts_with(b"Index: ") {
            changes.push(FileChange { path: named(line), text: Vec::new() });
            has_paths = false;
        } else if line.starts_with(b"--- ") && lines.get(at + 1).is_some_and(|next| next.starts_with(b"+++ ")) {
            if has_paths {
                changes.push(FileChange { path: String::new(), text: Vec::new() });
            }
            let paths = [lines.get(at + 1).copied().unwrap_or_default(), line].map(header_path);
            if let (Some(change), Some(path)) = (changes.last_mut(), paths.into_iter().flatten().next()) {
                change.path = path;
            }
            has_paths = true;
        } else if let Some(counts) = line.starts_with(b"@@ -").then(|| hunk(line)).flatten() {
            left = counts;
        }
        match changes.last_mut() {
            Some(change) => change.text.extend_from_slice(line),
            None => preamble.extend_from_slice(line),
        }
    }
    (preamble, changes)
}

/// The path in a line such as `+++ b/src/main.c<TAB>2026-01-01`; nothing for `/dev/null`.
fn header_path(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line.get(4..)?).into_owned();
    let path = text.split('\t').next()?.trim_end();
    (path != "/dev/null").then(|| without_first(path))
}

/// The path in `diff --git a/x b/x` or `Index: b/x`, for a change that has no other header.
fn named(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line).into_owned();
    text.split_whitespace().next_back().map(without_first).unwrap_or_default()
}

fn without_first(path: &str) -> String {
    path.split_once('/').map_or(path, |(_, rest)| rest).to_string()
}

/// The numbers of lines in `@@ -1,2 +1,3 @@`, 1 where none is said.
fn hunk(line: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(line).ok()?;
    let mut ranges = text.split(' ').skip(1).take(2).map(|range| range.split_once(',').map_or(Some(1), |(_, count)| count.parse().ok()));
    Some((ranges.next()??, ranges.next()??))
}

/// The `debian/control` of a Debian source package, by the files that its `.dsc` lists.
///
/// # Errors
/// None of them has it, or it cannot be read.
pub(crate) fn source_package_control(files: &BTreeMap<String, PathBuf>) -> Result<String> {
    let none = || Error::new(Class::Project, "the source package has no debian/control".to_string());
    let ending = |part: &str| files.iter().find(|(name, _)| name.contains(part));
    let open =
        |path: &PathBuf| File::open(path).or_fail(Class::Repository, || format!("cannot read {}", path.display())).map(BufReader::new);
    if let Some((name, path)) = ending(".diff.") {
        let mut text = Vec::new();
        let read = twostage_package::unpacked(open(path)?, MAX_SOURCE, |plain| plain.take(MAX_SOURCE).read_to_end(&mut text));
        read.and_then(|read| read).or_fail(Class::Repository, || format!("cannot unpack {name}"))?;
        let patch = Patch::new(name.clone(), name.clone(), text);
        return if patch.touches(is_control) { applied(&[patch], CONTROL, String::new()) } else { Err(none()) };
    }
    let (name, path) = ending(".debian.tar.").or_else(|| ending(".tar.")).ok_or_else(none)?;
    let failed = || format!("cannot unpack {name}");
    let found = twostage_package::unpacked_or_lzma(open(path)?, MAX_SOURCE, |plain| find_control(plain));
    let found = found.and_then(|found| found).or_fail(Class::Repository, failed)?;
    String::from_utf8(found.ok_or_else(none)?).or_fail(Class::Project, || format!("debian/control in {name} is no text"))
}

/// Where Debian's packaging says what a build needs.
pub(crate) const CONTROL: &str = "debian/control";

fn is_control(path: &str) -> bool {
    path == CONTROL
}

/// Of a tarball of `debian/`, or of a whole source below one folder.
fn find_control(tarball: &mut dyn Read) -> std::io::Result<Option<Vec<u8>>> {
    for entry in tar::Archive::new(tarball).entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_string();
        if is_control(&path) || is_control(&without_first(&path)) {
            let mut content = Vec::new();
            (&mut entry).take(MAX_CONTROL).read_to_end(&mut content)?;
            return Ok(Some(content));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "Without X.\n\
        --- a/debian/control\n+++ b/debian/control\n@@ -1,3 +1,3 @@\n Source: x\n-Build-Depends: libx11-dev\n+Build-Depends: libc6-dev\n \n\
        diff --git a/src/main.c b/src/main.c\nindex 1..2 100644\n--- a/src/main.c\n+++ b/src/main.c\n@@ -1 +1,2 @@\n int x;\n+--- a/debian/rules\n\
        diff --git a/debian/tool b/debian/tool\nnew file mode 100755\n--- /dev/null\n+++ b/debian/tool\n@@ -0,0 +1 @@\n+#!/bin/sh\n";

    fn patch(content: &str) -> Patch {
        Patch::new("000-x.patch".into(), "x.patch".into(), content.as_bytes().to_vec())
    }

    #[test]
    fn a_patch_is_split_by_the_files_that_it_changes() {
        let mixed = patch(MIXED);
        let paths: Vec<&str> = mixed.changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["debian/control", "src/main.c", "debian/tool"]);
        let (packaging, source) = mixed.split(|path| path.starts_with("debian/"));
        let [packaging, source] = [packaging, source].map(|part| String::from_utf8(part.unwrap_or_default()).unwrap_or_default());
        assert!(packaging.starts_with("Without X.\n--- a/debian/control") && packaging.contains("new file mode 100755"), "{packaging}");
        assert!(!packaging.contains("main.c") && !source.contains("b/debian/"), "{source}");
        assert!(source.contains("+--- a/debian/rules\n"), "a line of a hunk is no header: {source}");
    }

    #[test]
    fn a_patch_of_one_kind_stays_as_it_is() {
        for (text, is_packaging) in [(MIXED, true), ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", false)] {
            let (packaging, source) = patch(text).split(|_| is_packaging);
            let (all, none) = if is_packaging { (packaging, source) } else { (source, packaging) };
            assert_eq!((all.as_deref(), none), (Some(text.as_bytes()), None));
        }
        let (packaging, source) = patch("no patch at all\n").split(|_| true);
        assert_eq!((packaging, source.as_deref()), (None, Some(&b"no patch at all\n"[..])));
    }

    #[test]
    fn a_control_file_is_read_as_the_patches_leave_it() {
        let control = "Source: x\nBuild-Depends: libx11-dev\n\n".to_string();
        let text = applied(&[patch(MIXED)], CONTROL, control.clone()).unwrap_or_default();
        assert_eq!(text, "Source: x\nBuild-Depends: libc6-dev\n\n");
        let error = applied(&[patch(MIXED), patch(MIXED)], CONTROL, control).expect_err("the second does not apply").to_string();
        assert!(error.contains("x.patch does not apply to debian/control"), "{error}");
        let spec = patch("--- a/x.spec\n+++ b/x.spec\n@@ -1,2 +1,2 @@\n-BuildRequires: gtk3\n+BuildRequires: cairo\n Name: x\n");
        let of = |sign| spec.lines(|path| path.ends_with(".spec"), sign).collect::<Vec<_>>();
        assert_eq!((of('-'), of('+')), (vec!["BuildRequires: gtk3"], vec!["BuildRequires: cairo"]));
    }

    #[test]
    fn no_patch_whatever_it_says_makes_the_reader_panic() {
        let mut dice = 7_u64;
        for _ in 0..2000 {
            let mut bytes = MIXED.as_bytes().to_vec();
            for _ in 0..4 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(dice >> 33).unwrap_or(0) % bytes.len();
                bytes[at] = b"-+@ \n,0d9\\"[usize::try_from(dice >> 20).unwrap_or(0) % 10];
            }
            let mutant = Patch::new("x".into(), "x".into(), bytes.clone());
            let all: usize = mutant.preamble.len() + mutant.changes.iter().map(|change| change.text.len()).sum::<usize>();
            assert_eq!(all, bytes.len(), "nothing is lost");
            let _ = applied(&[mutant], CONTROL, "Source: x\nBuild-Depends: libx11-dev\n\n".into());
        }
    }
}
