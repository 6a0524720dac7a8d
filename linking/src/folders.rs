//! Folders in which libraries are, and `ld.so.conf`.

use std::collections::BTreeSet;

/// The linker's own folders, below the root and below `/usr`: Debian's are named by the machine, others' by its bits.
pub(crate) const LIBRARY_FOLDERS: &[&str] = &[
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "lib/i386-linux-gnu",
    "lib/arm-linux-gnueabihf",
    "lib/riscv64-linux-gnu",
    "lib/powerpc64le-linux-gnu",
    "lib/s390x-linux-gnu",
    "lib64",
    "lib",
];

/// Files that `ld.so.conf` may include.
const MAX_FILES: usize = 1000;
/// Folders that they may name.
const MAX_FOLDERS: usize = 1000;

/// The folder of a path.
pub(crate) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path from a folder, without `.` and `..`; it does not leave the root. None for an empty one.
pub(crate) fn within(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { folder.split('/').filter(|part| !part.is_empty()).collect() };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The folders that `/etc/ld.so.conf` names, with those of the files that it includes, in their order (`ldconfig(8)`).
/// `read` gives the text of a file, `names` the names in a folder. Paths have no slash at either end.
pub fn configured(read: &dyn Fn(&str) -> Option<String>, names: &dyn Fn(&str) -> Vec<String>) -> Vec<String> {
    let (mut folders, mut seen) = (Vec::new(), BTreeSet::new());
    let mut todo = vec!["etc/ld.so.conf".to_string()];
    while let Some(file) = todo.pop() {
        if seen.len() >= MAX_FILES || !seen.insert(file.clone()) {
            continue;
        }
        let Some(text) = read(&file) else { continue };
        let mut included = Vec::new();
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            match line.strip_prefix("include").filter(|rest| rest.starts_with(char::is_whitespace)) {
                Some(patterns) => {
                    for pattern in patterns.split_whitespace().filter_map(|pattern| within(folder(&file), pattern)) {
                        included.extend(matching(&pattern, names));
                    }
                }
                // "hwcap 0 nosegneg" is no folder.
                None if line.starts_with("hwcap") => {}
                None => {
                    let named = line.split([' ', '\t', ':', ',']).filter(|word| word.starts_with('/'));
                    folders.extend(named.filter_map(|path| within("", path)).take(MAX_FOLDERS.saturating_sub(folders.len())));
                }
            }
        }
        todo.extend(included.into_iter().rev());
    }
    folders
}

/// The files that a pattern of `include` names, in order: stars stand in the last name only.
fn matching(pattern: &str, names: &dyn Fn(&str) -> Vec<String>) -> Vec<String> {
    let (at, last) = (folder(pattern), pattern.rsplit('/').next().unwrap_or_default());
    let Some((before, after)) = last.split_once('*') else { return vec![pattern.to_string()] };
    let mut found: Vec<String> = names(at);
    found.retain(|name| {
        name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after) && !name.starts_with('.')
    });
    found.sort();
    found.into_iter().map(|name| format!("{at}/{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn folders_are_those_of_all_files_in_order() {
        let files = BTreeMap::from([
            ("etc/ld.so.conf", "# first\ninclude /etc/ld.so.conf.d/*.conf\n/opt/last/lib # a word\n"),
            ("etc/ld.so.conf.d/b.conf", "/usr/b:/usr/c\nhwcap 1 nosegneg\n"),
            ("etc/ld.so.conf.d/a.conf", "/usr/a/../a2/\ninclude sub.conf\n"),
            ("etc/ld.so.conf.d/sub.conf", "/usr/sub\ninclude a.conf\n"),
            ("etc/ld.so.conf.d/not", "/usr/not\n"),
        ]);
        let read = |path: &str| files.get(path).map(ToString::to_string);
        let names = |at: &str| files.keys().filter(|path| folder(path) == at).map(|path| path.rsplit('/').next().unwrap().into()).collect();
        assert_eq!(configured(&read, &names), ["opt/last/lib", "usr/a2", "usr/sub", "usr/b", "usr/c"]);
    }

    #[test]
    fn paths_stay_in_the_root() {
        for (path, is) in [("/a/../../b", Some("b")), ("/..", None), ("x/./y", Some("etc/x/y")), ("../../../z", Some("z"))] {
            assert_eq!(within("etc", path).as_deref(), is, "{path}");
        }
    }
}
