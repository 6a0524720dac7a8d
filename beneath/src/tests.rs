use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

/// A project's folder with what its author would like us to read beside it.
struct Trap {
    whole: tempfile::TempDir,
}

impl Trap {
    fn new() -> Trap {
        let whole = tempfile::tempdir().expect("a folder");
        for folder in ["project/conf", "project/.twostage/key", "project/src", "outside"] {
            fs::create_dir_all(whole.path().join(folder)).expect("a folder");
        }
        for (file, text) in [
            ("project/conf/greet", "hello"),
            ("project/src/main.c", "int main;"),
            ("project/.twostage/key/secret", "the key"),
            ("outside/secret", "the host's"),
        ] {
            fs::write(whole.path().join(file), text).expect("a file");
        }
        Trap { whole }
    }

    fn link(&self, name: &str, target: &str) -> &Trap {
        symlink(target, self.at(name)).expect("a link");
        self
    }

    fn at(&self, name: &str) -> PathBuf {
        self.whole.path().join("project").join(name)
    }

    fn open(&self) -> Folder {
        Folder::open(&self.at("")).and_then(|folder| folder.closing(".twostage")).expect("the project's folder")
    }

    fn refusal(&self, name: &str) -> String {
        match self.open().read(name, 1000) {
            Ok(bytes) => panic!("{name} was read: {}", String::from_utf8_lossy(&bytes)),
            Err(error) => {
                assert!(error.hint_text().is_some() || !error.causes().is_empty(), "{name}: {error} says neither why nor what to do");
                error.to_string().replace(&self.at("").display().to_string(), "PROJECT/")
            }
        }
    }
}

#[test]
fn files_and_links_that_stay_inside_are_read() {
    let trap = Trap::new();
    trap.link("one", "conf/greet")
        .link("conf/two", "../one")
        .link("dir", "conf")
        .link("up", "conf/../conf/./greet")
        .link("chain", "dir/two");
    for name in ["conf/greet", "one", "conf/two", "dir/greet", "up", "chain", "./conf//greet", "dir/../dir/greet", "conf/../one"] {
        assert_eq!(trap.open().read_text(name, 1000).expect(name), "hello", "{name}");
    }
}

#[test]
fn links_that_lead_out_are_refused_with_their_name_and_target() {
    let trap = Trap::new();
    let outside = trap.whole.path().join("outside").display().to_string();
    trap.link("absolute", "/etc/passwd")
        .link("up", "../outside/secret")
        .link("folder", "../outside")
        .link("conf/deep", "../../outside/secret")
        .link("first", "second")
        .link("second", "conf/third")
        .link("conf/third", "../../outside/secret")
        .link("inside-by-its-whole-name", &trap.at("conf/greet").display().to_string())
        .link("back", "../project/conf/greet")
        .link("magic", "/proc/self/root/etc/passwd")
        .link("outside", &outside);
    let out = |link: &str, target: &str| format!("`{link}` is a link to `{target}`, which leads out of PROJECT/");
    assert_eq!(trap.refusal("absolute"), out("absolute", "/etc/passwd"));
    assert_eq!(trap.refusal("up"), out("up", "../outside/secret"));
    assert_eq!(trap.refusal("conf/deep"), out("conf/deep", "../../outside/secret"));
    let through =
        |path: &str, link: &str, target: &str| format!("`{path}` goes through `{link}`, a link to `{target}`, which leads out of PROJECT/");
    assert_eq!(trap.refusal("folder/secret"), through("folder/secret", "folder", "../outside"));
    assert_eq!(trap.refusal("first"), through("first", "conf/third", "../../outside/secret"));
    for name in ["inside-by-its-whole-name", "back", "magic", "outside/secret"] {
        assert!(trap.refusal(name).contains("leads out of"), "{name}");
    }
}

#[test]
fn paths_that_lead_out_are_refused() {
    let trap = Trap::new();
    trap.link("conf/here", ".");
    for name in ["../outside/secret", "conf/../../outside/secret", "..", "conf/here/../../../outside/secret", "./.."] {
        assert_eq!(trap.refusal(name), format!("`{name}` leads out of PROJECT/"));
    }
    for name in ["/etc/passwd", "/", "//etc/passwd", ""] {
        assert_eq!(trap.refusal(name), format!("`{name}` is not a path below PROJECT/"), "{name}");
    }
    let missing = trap.refusal("conf/none");
    assert_eq!(missing, "there is no PROJECT/conf/none");
    assert!(trap.open().kind("conf/none").expect("it may be looked at").is_none());
    assert!(trap.open().kind("conf\0greet").is_err(), "the kernel has no such name");
    assert!(trap.open().kind("x".repeat(300)).is_err(), "nor one of this length");
}

#[test]
fn only_regular_files_are_opened_and_nothing_waits() {
    let trap = Trap::new();
    assert!(Command::new("mkfifo").arg(trap.at("pipe")).status().expect("mkfifo").success());
    let _socket = UnixListener::bind(trap.at("socket")).expect("a socket");
    trap.link("to-pipe", "pipe");
    assert_eq!(trap.refusal("pipe"), "PROJECT/pipe is a pipe, not a file");
    assert_eq!(trap.refusal("to-pipe"), "PROJECT/to-pipe is a pipe, not a file");
    assert_eq!(trap.refusal("socket"), "PROJECT/socket is a socket, not a file");
    assert_eq!(trap.refusal("conf"), "PROJECT/conf is a folder, not a file");
    assert_eq!(trap.refusal("conf/greet/x"), "PROJECT/conf/greet is a file, not a folder");
    let folder = trap.open().folder("conf/greet").expect_err("a file");
    assert!(folder.to_string().ends_with("conf/greet is a file, not a folder"), "{folder}");
    if rustix::process::geteuid().is_root() {
        assert!(Command::new("mknod").arg(trap.at("zero")).args(["c", "1", "5"]).status().expect("mknod").success());
        assert_eq!(trap.refusal("zero"), "PROJECT/zero is a device, not a file");
    }
}

#[test]
fn loops_of_links_are_called_so() {
    let trap = Trap::new();
    trap.link("self", "self").link("a", "b").link("b", "a").link("grows", "grows/x");
    for name in ["self", "a", "grows"] {
        assert_eq!(trap.refusal(name), format!("PROJECT/{name} leads through more than 40 links: they are a loop"));
    }
}

#[test]
fn what_is_closed_is_not_read_by_any_way() {
    let trap = Trap::new();
    trap.link("key", ".twostage/key/secret").link("state", ".twostage").link("src/up", "../.twostage/key/secret");
    fs::hard_link(trap.at(".twostage/key/secret"), trap.at("other-name")).expect("a second name");
    let refused = trap.refusal(".twostage/key/secret");
    assert_eq!(refused, "PROJECT/.twostage/key/secret leads to .twostage, which is not for the project's files");
    let refused = trap.refusal("key");
    let by = "PROJECT/key leads to .twostage by the link key -> .twostage/key/secret, which is not for the project's files";
    assert_eq!(refused, by);
    for name in ["state/key/secret", "conf/../.twostage/key/secret", ".twostage", "src/up"] {
        assert!(trap.refusal(name).contains("leads to .twostage"), "{name}");
    }
    // A folder in it knows that, too; and a file is closed by any of its names.
    let whole = trap.open().folder(".").expect("the same folder");
    assert!(whole.read("key", 1000).is_err());
    assert!(trap.open().closing(".twostage/key/secret").and_then(|again| again.closing(".twostage")).is_ok(), "twice is fine");
    let folder = Folder::open(&trap.at("")).and_then(|folder| folder.closing_path(&trap.at("conf")));
    assert!(folder.expect("closed").read("conf/greet", 1000).is_err());
    assert!(Folder::open(&trap.at("")).is_ok_and(|folder| folder.closing_path(&trap.at("none")).is_ok()));
    let folder = Folder::open(&trap.at("")).and_then(|folder| folder.closing(".twostage/key/secret")).expect("a file is closed");
    assert!(folder.read("other-name", 1000).is_err());
    // What is not there is no error.
    assert!(Folder::open(&trap.at("")).and_then(|folder| folder.closing("none/at/all")).is_ok());
}

#[test]
fn a_folder_below_is_a_border_of_its_own() {
    let trap = Trap::new();
    trap.link("src/out", "../conf/greet").link("src/in", "main.c");
    assert_eq!(trap.open().read_text("src/out", 1000).expect("inside of the project"), "hello");
    let source = trap.open().folder("src").expect("a folder");
    assert_eq!(source.read_text("in", 1000).expect("inside of the source"), "int main;");
    assert!(source.read("out", 1000).is_err_and(|error| error.what().contains("leads out of")));
    assert_eq!(source.path(), trap.at("src"));
}

#[test]
fn texts_are_bounded_and_utf_8() {
    let trap = Trap::new();
    fs::write(trap.at("large"), "12345").expect("a file");
    fs::write(trap.at("bytes"), [0xff, 0xfe]).expect("a file");
    assert_eq!(trap.open().read_text("large", 5).expect("as large as may be"), "12345");
    let error = trap.open().read("large", 4).expect_err("larger");
    assert!(error.what().ends_with("large has more than 4 bytes"), "{error}");
    assert!(trap.open().read_text("bytes", 5).is_err_and(|error| error.what().ends_with("bytes is not UTF-8")));
}

#[test]
fn a_folder_is_listed_in_order_without_following() {
    let trap = Trap::new();
    trap.link("src/a-link", "/etc/passwd");
    fs::create_dir(trap.at("src/debian")).expect("a folder");
    fs::set_permissions(trap.at("src/main.c"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let source = trap.open().folder("src").expect("a folder");
    let listed: Vec<(String, EntryKind)> =
        source.entries().expect("a list").into_iter().map(|entry| (entry.name.to_string_lossy().into_owned(), entry.kind)).collect();
    let expected = [("a-link", EntryKind::Link), ("debian", EntryKind::Folder), ("main.c", EntryKind::File)];
    assert_eq!(listed, expected.map(|(name, kind)| (name.to_string(), kind)));
    let main = source.entries().expect("again").pop().expect("the last");
    assert_eq!((main.mode, main.size, main.links), (0o755, 9, 1));
    assert_eq!(source.link("a-link").expect("a link"), "/etc/passwd");
    for name in ["main.c", "debian/x", "..", "/etc/mtab", "none"] {
        assert!(source.link(name).is_err(), "{name}");
    }
}

#[test]
fn folders_are_made_inside_only() {
    let trap = Trap::new();
    trap.link("out", "../outside").link("into", "conf").link("nowhere", "not-there");
    let project = trap.open();
    assert_eq!(project.make_folder("a/b/c").expect("made").path(), trap.at("a/b/c"));
    assert_eq!(project.make_folder("a/b/c").expect("there").path(), trap.at("a/b/c"));
    assert_eq!(project.make_folder("into/new").expect("made").path(), trap.at("conf/new"));
    for name in ["out/x", "out", "../x", "/tmp/x", "nowhere/x", "conf/greet/x", ".twostage/x", "a/../../x", ""] {
        assert!(project.make_folder(name).is_err(), "{name}");
    }
    let outside: Vec<_> =
        fs::read_dir(trap.whole.path().join("outside")).expect("a list").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(outside, ["secret"], "nothing was made outside");
}

#[test]
fn a_name_with_control_characters_is_written_out_in_messages() {
    let trap = Trap::new();
    trap.link("x\u{1b}[2J", "/etc/\u{1b}[31mpasswd");
    let refused = trap.refusal("x\u{1b}[2J");
    assert!(!refused.contains('\u{1b}') && refused.contains("\\u{1b}[2J"), "{refused:?}");
}

/// A link is put in the file's place again and again while it is opened: what is read is the file or nothing.
#[test]
fn whoever_exchanges_the_file_for_a_link_gets_nothing() {
    let trap = Trap::new();
    let (file, link, spare) = (trap.at("conf/greet"), trap.at("conf/link"), trap.at("conf/spare"));
    let folder = trap.open();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = symlink("../../outside/secret", &link).and_then(|()| fs::rename(&link, &file));
                let _ = fs::write(&spare, "hello").and_then(|()| fs::rename(&spare, &file));
            }
        });
        for _ in 0..2000 {
            if let Ok(text) = folder.read_text("conf/greet", 1000) {
                assert_ne!(text, "the host's");
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

const MARK: Mark = Mark { name: "ours", text: "This is ours.\n", known: &["lock", "tmp", "key"], lock: "lock", proof: "key/secret" };

#[test]
fn a_folder_is_claimed_only_if_it_is_empty_marked_or_was_made_by_us() {
    let whole = tempfile::tempdir().expect("a folder");
    let make = |name: &str, entries: &[&str]| {
        let folder = whole.path().join(name);
        for entry in entries {
            fs::create_dir_all(folder.join(entry).parent().expect("a folder")).expect("a folder");
            if !entry.ends_with('/') {
                fs::write(folder.join(entry), if *entry == "lock" { "" } else { "x" }).expect("a file");
            }
        }
        fs::create_dir_all(&folder).expect("a folder");
        folder
    };
    for (name, entries) in
        [("empty", &[][..]), ("marked", &["ours", "else"]), ("older", &["lock", "tmp/x"]), ("given-a-key", &["key/secret"])]
    {
        let folder = make(name, entries);
        MARK.claim(&folder).expect(name);
        MARK.claim(&folder).expect(name);
        assert!(folder.join("ours").is_file(), "{name}");
    }
    assert_eq!(fs::read_to_string(whole.path().join("empty/ours")).expect("the mark"), "This is ours.\n");
    for (name, entries, named) in [
        ("theirs", &["thesis.txt"][..], "thesis.txt"),
        ("mixed", &["lock", "tmp/x", "thesis.txt"], "thesis.txt"),
        ("only-tmp", &["tmp/thesis.txt"], "tmp"),
        ("a-folder-of-that-name", &["ours/x"], "ours"),
        ("key-without-secret", &["key/x"], "key"),
    ] {
        let folder = make(name, entries);
        let error = MARK.claim(&folder).expect_err(name).to_string();
        assert!(error.contains(&format!("holds `{named}`, which is not twostage's")), "{name}: {error}");
        assert!(!folder.join("ours").is_file(), "{name} was marked");
    }
    let folder = make("another-lock", &["tmp/x"]);
    fs::write(folder.join("lock"), "1234\n").expect("a file");
    assert!(MARK.claim(&folder).is_err(), "ours is empty");
    let folder = make("links", &[]);
    symlink("/etc/passwd", folder.join("lock")).expect("a link");
    assert!(MARK.claim(&folder).is_err(), "a link proves nothing");
    symlink(make("other", &["lock"]).join("lock"), folder.join("ours")).expect("a link");
    assert!(MARK.claim(&folder).is_err(), "nor does a mark that is one");
}

#[test]
fn leftovers_are_removed_by_our_names_only_and_never_through_a_link() {
    let trap = Trap::new();
    let outside = trap.whole.path().join("outside");
    for folder in ["writer-abcDE1/deep/er", "writer-keep", "writer-toolong1", "else-abcdef"] {
        fs::create_dir_all(trap.at(folder)).expect("a folder");
    }
    symlink(&outside, trap.at("writer-abcDE1/deep/out")).expect("a link");
    symlink(outside.join("secret"), trap.at("writer-abcDE1/secret")).expect("a link");
    fs::write(trap.at("writer-file00"), "half").expect("a file");
    fs::write(trap.at("writer-alive0"), "held").expect("a file");
    symlink(&outside, trap.at("writer-link00")).expect("a link");
    assert!(Command::new("mkfifo").arg(trap.at("writer-pipe00")).status().expect("mkfifo").success());
    let removed = trap.open().remove_scratch("writer-", |_, entry| entry.name != "writer-alive0").expect("removed");
    assert_eq!(removed, 2);
    let left: Vec<String> = trap.open().entries().expect("a list").into_iter().map(|e| e.name.to_string_lossy().into_owned()).collect();
    let left: Vec<&str> = left.iter().map(String::as_str).filter(|name| name.contains('-')).collect();
    assert_eq!(left, ["else-abcdef", "writer-alive0", "writer-keep", "writer-link00", "writer-pipe00", "writer-toolong1"]);
    assert_eq!(fs::read_to_string(outside.join("secret")).expect("it is there"), "the host's");
    for name in ["", ".", "..", "conf/greet"] {
        assert!(trap.open().remove(OsStr::new(name)).is_err(), "{name}");
    }
    assert!(trap.open().remove(OsStr::new("none")).is_ok());
}

#[test]
fn a_folder_with_a_link_anywhere_is_not_one_of_ours() {
    let trap = Trap::new();
    let check = |enter: &dyn Fn(&Path) -> bool| trap.open().only_files_and_folders(enter).map_err(|error| error.to_string());
    assert_eq!(check(&|_| true), Ok(()));
    trap.link(".twostage/key/link", "secret");
    let refused = check(&|_| true).expect_err("a link");
    assert!(refused.ends_with("/.twostage/key/link is a symbolic link, which twostage does not make there"), "{refused}");
    assert_eq!(check(&|path| path != Path::new(".twostage/key")), Ok(()), "what is not entered is not looked at");
    fs::remove_file(trap.at(".twostage/key/link")).expect("removed");
    assert!(Command::new("mkfifo").arg(trap.at("conf/pipe")).status().expect("mkfifo").success());
    assert!(check(&|_| true).is_err_and(|error| error.contains("conf/pipe is a pipe")));
    fs::remove_file(trap.at("conf/pipe")).expect("removed");
    fs::create_dir_all(trap.at(&"d/".repeat(60))).expect("folders");
    assert!(check(&|_| true).is_err_and(|error| error.contains("in too many others")));
}

#[test]
fn a_private_folder_is_a_real_one_that_only_its_owner_looks_into() {
    let trap = Trap::new();
    trap.link("state", "../outside").link("dangling", "none");
    fs::write(trap.at("file"), "x").expect("a file");
    fs::set_permissions(trap.at("src"), fs::Permissions::from_mode(0o755)).expect("chmod");
    for name in ["new", "new", "src"] {
        assert_eq!(trap.open().private_folder(name).expect(name).path(), trap.at(name));
        assert_eq!(fs::metadata(trap.at(name)).expect("it is there").permissions().mode() & 0o7777, 0o700, "{name}");
    }
    let before = fs::metadata(trap.whole.path().join("outside")).expect("it is there").permissions();
    for name in ["state", "dangling", "file"] {
        let refused = trap.open().private_folder(name).expect_err(name).to_string();
        assert!(refused.ends_with("is not a folder, but a link or a file"), "{refused}");
    }
    assert_eq!(fs::metadata(trap.whole.path().join("outside")).expect("it is there").permissions(), before);
}

#[test]
fn a_new_file_takes_nobodys_name_and_leaves_nothing_else() {
    let trap = Trap::new();
    trap.link("conf/link", "../../outside/new");
    let conf = trap.open().folder("conf").expect("a folder");
    assert!(conf.put_new(OsStr::new("key"), b"secret", 0o600).expect("written"));
    assert_eq!(fs::metadata(trap.at("conf/key")).expect("it is there").permissions().mode() & 0o7777, 0o600);
    for name in ["key", "link", "greet"] {
        assert!(!conf.put_new(OsStr::new(name), b"other", 0o600).expect("it is there already"), "{name}");
    }
    assert_eq!(fs::read_to_string(trap.at("conf/key")).expect("a file"), "secret");
    assert_eq!(conf.entries().expect("a list").len(), 3);
    assert!(!trap.whole.path().join("outside/new").exists());
}
