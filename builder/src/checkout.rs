//! When a part of the team's own checkout was committed, learned without running anything of the checkout.
//!
//! Git reads the configuration of the repository that it works on, and that names programs: filters, monitors, pagers,
//! text converters, ssh commands. Whoever unpacks a project with a `.git` in it has such a configuration. So git gets a
//! repository that we have just made, with a configuration of ours, and of theirs it is only given data:
//!
//! ```text
//! ours/config          what we write, and of their settings those that are a yes, a no or a word (core.autocrlf …)
//! ours/HEAD            the commit that theirs stands for
//! ours/index           a copy of theirs, with its time
//! ours/info/exclude    a copy of theirs
//! GIT_OBJECT_DIRECTORY their objects
//! GIT_WORK_TREE        their files
//! ```
//!
//! The user's and the machine's configuration are not read either, but for the same few settings. Submodules are asked
//! in the same way, as git would run itself in them.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Settings that say how files and commits are compared, and name nothing that is run or read.
const HARMLESS: &str = r"^(core\.(autocrlf|eol|filemode|symlinks|ignorecase|checkstat|trustctime|longpaths)|extensions\.objectformat)$";
/// Bytes of an index: one of a million files has 100 MB.
const MAX_INDEX: u64 = 1 << 30;
/// Bytes of a reference, of the packed ones, of what is excluded.
const MAX_TEXT: u64 = 64 << 20;
/// Bytes of what git answers: more than a list of submodules needs.
const MAX_ANSWER: u64 = 64 << 20;
/// How long git may take for an answer.
const PATIENCE: Duration = Duration::from_secs(300);
/// References that one may lead through, and submodules that one may be in.
const MAX_DEPTH: usize = 8;

/// The time of the last commit that touched `what` in `folder`, in seconds since 1970, if git knows it and it is as
/// committed. Our own repository is below `scratch` meanwhile.
pub(crate) fn committed(folder: &Path, what: &str, scratch: &Path) -> Option<i64> {
    let checkout = Checkout::around(folder)?;
    let ours = Ours::of(&checkout, scratch)?;
    if !ours.as_committed(folder, what, scratch, MAX_DEPTH) {
        return None;
    }
    ours.git(folder, &["log", "-1", "--format=%ct", &checkout.head, "--", what])?.trim().parse().ok()
}

/// A checkout: files, and the folder of git's that belongs to them.
struct Checkout {
    /// The top of its files.
    top: PathBuf,
    /// What is its own: HEAD and index.
    own: PathBuf,
    /// What it may share with other checkouts: objects, references, configuration.
    common: PathBuf,
    /// The commit that is checked out.
    head: String,
}

impl Checkout {
    /// The nearest one that a folder is in, on the same file system (as git looks for it).
    fn around(folder: &Path) -> Option<Checkout> {
        let folder = fs::canonicalize(folder).ok()?;
        let device = folder.metadata().ok()?.dev();
        let top = folder.ancestors().take_while(|above| above.metadata().is_ok_and(|meta| meta.dev() == device));
        let top = top.into_iter().find(|above| above.join(".git").symlink_metadata().is_ok())?;
        Checkout::at(top)
    }

    /// The one whose files begin here.
    fn at(top: &Path) -> Option<Checkout> {
        let git = top.join(".git");
        let (own, common) = match git.symlink_metadata().ok()?.file_type() {
            kind if kind.is_dir() => (git.clone(), git),
            kind if kind.is_file() => elsewhere(top, &git)?,
            _ => return None,
        };
        let head = resolve(&own, &common)?;
        Some(Checkout { top: top.to_path_buf(), own, common, head })
    }
}

/// Where a `.git` that is a file says that git's folder is, if that is so on both sides: a worktree's folder names it in
/// turn, a submodule's is in that of a checkout above. (Else a file could say that any repository of this machine is
/// the one of these files.)
fn elsewhere(top: &Path, git: &Path) -> Option<(PathBuf, PathBuf)> {
    let text = small(git)?;
    let named = text.strip_prefix(b"gitdir: ")?;
    let named = PathBuf::from(OsString::from_vec(named.trim_ascii_end().to_vec()));
    let own = fs::canonicalize(top.join(named)).ok()?;
    if let Some(back) = small(&own.join("gitdir")) {
        let back = own.join(PathBuf::from(OsString::from_vec(back.trim_ascii_end().to_vec())));
        if fs::canonicalize(back).ok()? != git {
            return None;
        }
        let shared = PathBuf::from(OsString::from_vec(small(&own.join("commondir"))?.trim_ascii_end().to_vec()));
        let common = fs::canonicalize(own.join(shared)).ok()?;
        return own.starts_with(common.join("worktrees")).then_some((own, common));
    }
    let above = top.ancestors().skip(1).any(|above| own.starts_with(above.join(".git/modules")));
    // (A submodule of a worktree is kept with that worktree.)
    let in_worktree = || {
        let outer = top.ancestors().skip(1).find(|above| above.join(".git").is_file())?;
        let (outer, common) = elsewhere(outer, &outer.join(".git"))?;
        Some(own.starts_with(outer.join("modules")) || own.starts_with(common.join("modules")))
    };
    (above || in_worktree().unwrap_or(false)).then(|| (own.clone(), own))
}

/// The commit that HEAD stands for, by the files of gitrepository-layout(5).
fn resolve(own: &Path, common: &Path) -> Option<String> {
    let mut text = String::from_utf8(small(&own.join("HEAD"))?).ok()?;
    for _ in 0..MAX_DEPTH {
        let Some(name) = text.trim().strip_prefix("ref: ").map(str::to_string) else { break };
        let plain = name.starts_with("refs/") && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        if !plain || name.contains('\0') {
            return None;
        }
        let loose = small(&own.join(&name)).or_else(|| small(&common.join(&name)));
        text = match loose {
            Some(loose) => String::from_utf8(loose).ok()?,
            None => {
                let packed = String::from_utf8(small(&common.join("packed-refs"))?).ok()?;
                packed.lines().find_map(|line| line.split_once(' ').filter(|(_, packed)| *packed == name))?.0.to_string()
            }
        };
    }
    let id = text.trim();
    (matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_string())
}

/// The bytes of a small regular file, not of a link to one. (A pipe would make us wait.)
fn small(path: &Path) -> Option<Vec<u8>> {
    read(path, MAX_TEXT)
}

fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits();
    let file = fs::File::options().read(true).custom_flags(flags.cast_signed()).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// A repository of our own that stands for a checkout.
struct Ours {
    folder: tempfile::TempDir,
    top: PathBuf,
    objects: PathBuf,
    head: String,
}

impl Ours {
    fn of(checkout: &Checkout, scratch: &Path) -> Option<Ours> {
        let scratch = std::path::absolute(scratch).ok()?;
        let folder = tempfile::Builder::new().prefix(twostage_model::names::INCOMING).tempdir_in(scratch).ok()?;
        let at = |name: &str| folder.path().join(name);
        for name in ["refs", "info", "objects"] {
            fs::create_dir(at(name)).ok()?;
        }
        fs::write(at("HEAD"), format!("{}\n", checkout.head)).ok()?;
        fs::write(at("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = false\n").ok()?;
        // Nothing but an index that is newer than a file can tell that the file is as it says.
        let index = checkout.own.join("index");
        let time = index.symlink_metadata().ok()?.modified().ok()?;
        fs::write(at("index"), read(&index, MAX_INDEX)?).ok()?;
        for entry in fs::read_dir(&checkout.own).ok()?.flatten() {
            // (One index of several takes most of its entries from a file beside it.)
            if entry.file_name().to_string_lossy().starts_with("sharedindex.") {
                fs::write(folder.path().join(entry.file_name()), read(&entry.path(), MAX_INDEX)?).ok()?;
            }
        }
        fs::File::options().write(true).open(at("index")).and_then(|index| index.set_modified(time)).ok()?;
        for name in ["info/exclude", "shallow"] {
            if let Some(text) = small(&checkout.common.join(name)) {
                fs::write(at(name), text).ok()?;
            }
        }
        let objects = checkout.common.join("objects");
        if !objects.symlink_metadata().ok()?.is_dir() {
            return None;
        }
        let ours = Ours { top: checkout.top.clone(), objects, head: checkout.head.clone(), folder };
        ours.settings(checkout)?;
        Some(ours)
    }

    /// Writes the harmless settings of the machine, the user and the checkout into our configuration, and the user's own
    /// list of what is excluded.
    fn settings(&self, checkout: &Checkout) -> Option<()> {
        let mut text = String::from("[core]\n\trepositoryformatversion = 1\n\tbare = false\n\tfsmonitor = false\n");
        let mut take = |settings: &str| {
            for record in settings.split('\0').filter(|record| !record.is_empty()) {
                // (One without a value is a yes.)
                let (key, value) = record.split_once('\n').unwrap_or((record, "true"));
                let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if let Some((section, name)) = key.split_once('.').filter(|_| plain) {
                    text.push_str(&format!("[{section}]\n\t{name} = {value}\n"));
                }
            }
        };
        for scope in ["--system", "--global"] {
            take(&self.ask_users(&[scope, "--includes", "-z", "--get-regexp", HARMLESS]).unwrap_or_default());
        }
        let file = checkout.common.join("config");
        // (No file that it includes is read: `--no-includes`.)
        if read(&file, MAX_TEXT).is_some() {
            let file = file.display().to_string();
            take(&self.ask_users(&["--no-includes", "-z", "--file", &file, "--get-regexp", HARMLESS]).unwrap_or_default());
        }
        let excludes =
            ["--global", "--system"].iter().find_map(|scope| self.ask_users(&[scope, "--includes", "--path", "core.excludesFile"]));
        if let Some(excludes) =
            excludes.map(|path| path.trim_end().to_string()).filter(|path| !path.is_empty() && !path.contains(['"', '\\', '\n']))
        {
            text.push_str(&format!("[core]\n\texcludesFile = \"{excludes}\"\n"));
        }
        fs::write(self.folder.path().join("config"), text).ok()
    }

    /// What `git config` says of a file. It reads that file, and runs nothing.
    fn ask_users(&self, arguments: &[&str]) -> Option<String> {
        let mut git = self.command();
        git.env_remove("GIT_CONFIG_GLOBAL").env_remove("GIT_CONFIG_NOSYSTEM").current_dir(self.folder.path());
        answer(git.arg("config").args(arguments))
    }

    /// Git, told where everything is, with nothing else of this process' environment.
    fn command(&self) -> Command {
        let mut git = Command::new("git");
        git.env_clear();
        for name in ["PATH", "HOME", "XDG_CONFIG_HOME", "LD_LIBRARY_PATH"] {
            git.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        git.env("LC_ALL", "C")
            .env("GIT_DIR", self.folder.path())
            .env("GIT_WORK_TREE", &self.top)
            .env("GIT_OBJECT_DIRECTORY", &self.objects)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.folder.path().join("none"))
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_ALLOW_PROTOCOL", "")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_LITERAL_PATHSPECS", "1");
        git
    }

    fn git(&self, folder: &Path, arguments: &[&str]) -> Option<String> {
        answer(self.command().current_dir(folder).arg("--no-pager").args(arguments))
    }

    /// Whether nothing of `what` was changed, added or removed since the commit, in submodules neither.
    fn as_committed(&self, folder: &Path, what: &str, scratch: &Path, depth: usize) -> bool {
        // (Of submodules git would ask itself, in them: with their configuration.)
        let status = ["status", "--porcelain", "-z", "--untracked-files=normal", "--ignore-submodules=all", "--", what];
        if self.git(folder, &status).is_none_or(|changes| !changes.is_empty()) {
            return false;
        }
        let Some(staged) = self.git(folder, &["ls-files", "--stage", "-z", "--full-name", "--", what]) else { return false };
        let submodules = staged.split('\0').filter_map(|line| line.strip_prefix("160000 ")?.split_once('\t'));
        for (id, path) in submodules {
            let id = id.split(' ').next().unwrap_or_default();
            let top = self.top.join(path);
            // One that is not checked out is as committed.
            if top.join(".git").symlink_metadata().is_err() {
                continue;
            }
            let (Some(inner), true) = (Checkout::at(&top), depth > 0) else { return false };
            let same = inner.head == id && Ours::of(&inner, scratch).is_some_and(|ours| ours.as_committed(&top, ".", scratch, depth - 1));
            if !same {
                return false;
            }
        }
        // (Nor does it compare those that the index names with those of the commit.)
        let changed = ["diff-index", "--cached", "--name-only", "-z", "--no-ext-diff", "--no-textconv", &self.head, "--", what];
        self.git(folder, &changed).is_some_and(|changed| changed.is_empty())
    }
}

/// What a program prints, if it succeeds in time.
fn answer(command: &mut Command) -> Option<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let out = child.stdout.take()?;
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        out.take(MAX_ANSWER).read_to_end(&mut text).map(|_| text)
    });
    let start = Instant::now();
    while !reading.is_finished() {
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let text = reading.join().ok()?.ok()?;
    let status = child.wait().ok()?;
    status.success().then(|| String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests;
