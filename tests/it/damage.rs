//! What is damaged, full, or gone is said; what the error names mends it.

use crate::failures::package;
use crate::support::{Done, Family, Project, Serving, run, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const REPOSITORY: i32 = 5;
const SYSTEM: i32 = 8;

/// A project that has published a deb in version 1.0, and the file of that.
fn published(test: &str) -> (Project, String) {
    let project = Project::example(Family::Deb, test);
    let file = package(Family::Deb, &project, "greet-demo", "1.0", "one");
    project.run(&["publish", &file]).ok();
    (project, file)
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("a file");
}

/// The only file below a folder whose name ends so.
fn only(folder: &Path, ending: &str) -> PathBuf {
    let found = tool("find", &[&folder.to_string_lossy(), "-type", "f", "-name", &format!("*{ending}")]).ok().out;
    let [one] = found.lines().collect::<Vec<_>>()[..] else { panic!("not one file: {found}") };
    one.into()
}

#[test]
fn what_is_damaged_is_never_called_unchanged_or_moved() {
    let (project, file) = published("damaged");
    let repository = project.join(".twostage/repository");
    let first = project.snapshot();
    project.run(&["publish", &file]).ok().ends_with("unchanged");

    // A byte of the pool: noticed by whoever publishes anything, mended by the good file.
    let pool = only(&repository.join("pool"), "");
    flip(&pool);
    let other = package(Family::Deb, &project, "other-demo", "1.0", "other");
    let done = project.run(&["publish", &other]).fails_with(REPOSITORY).says("greet-demo 1.0");
    done.says("hint: bring the good file again: `twostage publish greet-demo_1.0_all.deb`");
    assert_eq!(project.snapshot(), first);
    let server = Serving::of(project.path());
    let packages = String::from_utf8(server.get("/main/dists/twostage/main/binary-amd64/Packages")).expect("text");
    let place = packages.lines().find_map(|line| line.strip_prefix("Filename: ")).expect("a package");
    assert!(status(&server, &format!("/main/{place}")).contains(" 500 "), "what is damaged is not sent as what never changes");
    project.run(&["publish", &file]).ok().says("greet-demo 1.0").says("whole again").ends_with("mended");
    assert!(status(&server, &format!("/main/{place}")).contains(" 200 "));
    project.run(&["publish", &file]).ok().ends_with("unchanged");

    // An earlier snapshot without its indexes: they are made anew before the channel moves there.
    project.run(&["publish", &other]).ok().ends_with("published");
    fs::remove_dir_all(repository.join(format!("snapshots/{first}/dists"))).expect("a folder");
    let moved = project.run(&["channel", "main", "--to", &first[..10]]).ok();
    moved.says("was made anew from the pool").ends_with("moved");
    assert!(!server.get("/main/dists/twostage/main/binary-amd64/Packages.gz").is_empty());

    // Where they cannot be, the channel stays.
    let second = package(Family::Deb, &project, "third-demo", "1.0", "third");
    project.run(&["publish", &second]).ok();
    let third = project.snapshot();
    fs::remove_dir_all(repository.join(format!("snapshots/{first}"))).expect("a folder");
    flip(&pool);
    project.run(&["channel", "main", "--to", &first]).fails_with(REPOSITORY).says("greet-demo 1.0").says("hint: bring the good file again");
    assert_eq!(project.snapshot(), third);
    project.run(&["channel"]).fails_with(REPOSITORY).says("hint: `twostage channel");
    project.run(&["export", &project.join("out.tar").to_string_lossy()]).fails_with(REPOSITORY).says("greet-demo 1.0");
    let repaired = project.run(&["channel", "main", "--repair"]).fails_with(REPOSITORY);
    repaired.says("greet-demo 1.0").says("hint: bring the good file again");
    project.run(&["publish", &file]).ok();
    let repaired = project.run(&["channel", "main", "--repair"]).ok();
    repaired.says("was made anew from the pool").ends_with("mended in 1 place");
    project.run(&["channel"]).ok();
    project.run(&["channel", "main", "--repair"]).ok().ends_with("whole");
}

/// The first line of an answer.
fn status(server: &Serving, target: &str) -> String {
    let url = format!("http://{}{target}", server.address);
    tool("curl", &["--silent", "--noproxy", "*", "--output", "/dev/null", "--write-out", "HTTP %{http_code} .", &url]).ok().out
}

#[test]
fn a_broken_channel_stands_in_no_other_channels_way_and_is_made_anew() {
    let (project, file) = published("broken");
    project.run(&["publish", "--channel", "testing", &file]).ok();
    let other = package(Family::Deb, &project, "other-demo", "1.0", "other");
    project.run(&["publish", "--channel", "testing", &other]).ok();
    let path = project.join(".twostage/repository/channels/testing.json");
    let whole = fs::read(&path).expect("a channel");
    let server = Serving::of(project.path());
    for broken in [&b"{\"snapshot\":"[..], b"", &whole[..whole.len() - 1]] {
        fs::write(&path, broken).expect("a file");
        assert!(String::from_utf8_lossy(&server.get("/")).contains("<h2>main</h2>"));
        assert!(!server.get("/main/dists/twostage/InRelease").is_empty());
        assert!(status(&server, "/testing/dists/twostage/InRelease").contains(" 500 "));
        project.run(&["publish", &other]).ok();
        project.run(&["channel", "main"]).ok();
        let listed = project.run(&["channel"]).fails_with(REPOSITORY);
        assert!(listed.out.starts_with("main  @") && listed.out.contains("testing  cannot be read"), "{}", listed.out);
        let refused = project.run(&["publish", "--channel", "testing", &file]).fails_with(REPOSITORY);
        refused.says("channel testing").says("hint: `twostage channel testing --repair`");
        let repaired = project.run(&["channel", "testing", "--repair"]).ok();
        repaired.says("channel testing was made anew from its history");
        assert_eq!(fs::read(&path).expect("a channel"), whole, "as it was, to the byte");
        assert!(status(&server, "/testing/dists/twostage/InRelease").contains(" 200 "));
    }
    fs::remove_file(&path).expect("a file");
    project.run(&["publish", "--channel", "testing", &file]).fails_with(REPOSITORY).says("--repair");
    project.run(&["channel", "--repair"]).ok();
    assert_eq!(fs::read(&path).expect("a channel"), whole);
}

#[test]
fn a_lost_key_is_not_made_again_unasked_and_serving_needs_none() {
    let (project, file) = published("lost-key");
    let key = project.join(".twostage/repository/key");
    fs::rename(&key, project.join("kept")).expect("a key");
    let server = Serving::of(project.path());
    let public = server.get("/key.asc");
    assert!(public.starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"));
    assert!(!server.get("/main.sources").is_empty());
    assert!(!key.exists(), "nobody made one");
    let gone = project.run(&["publish", &file]).fails_with(REPOSITORY).says("is signed with the key").says("signing.asc is not there");
    gone.says("hint: restore that key to").says("`twostage channel --rekey`");
    assert!(!key.exists());
    // Another one does not fit either.
    fs::create_dir(&key).expect("a folder");
    let other = tempfile::tempdir().expect("a folder");
    let gpg =
        |words: &[&str]| run(Command::new("gpg").env("GNUPGHOME", other.path()).args(["--batch", "--passphrase", ""]).args(words)).ok();
    gpg(&["--quick-generate-key", "another", "rsa2048", "sign", "never"]);
    fs::write(key.join("signing.asc"), gpg(&["--armor", "--export-secret-keys"]).out).expect("a file");
    tool("chmod", &["600", &key.join("signing.asc").to_string_lossy()]).ok();
    project.run(&["publish", &file]).fails_with(REPOSITORY).says("is signed with the key").says("is the key");
    assert_eq!(server.get("/key.asc"), public);
    project.run(&["channel", "--rekey"]).ok().ends_with("key.asc of the server");
    assert_ne!(server.get("/key.asc"), public);
    project.run(&["publish", &file]).ok().ends_with("unchanged");
    project.run(&["channel", "main", "--repair"]).ok();
    let _ = run(Command::new("gpgconf").env("GNUPGHOME", other.path()).args(["--kill", "all"]));
}

#[test]
fn a_channel_is_made_from_a_snapshot() {
    let (project, _) = published("made-channel");
    let snapshot = project.snapshot();
    project.run(&["channel", "stable", "--to", &snapshot[..8]]).ok().ends_with("made");
    project.run(&["channel", "stable", "--to", &format!("@{snapshot}")]).ok().ends_with("unchanged");
    let server = Serving::of(project.path());
    assert!(!server.get("/stable/dists/twostage/InRelease").is_empty());
    project.run(&["channel", "stable", "--to", "00000000"]).fails_with(REPOSITORY).says("has no snapshot 00000000");
    project.run(&["channel", "Stable", "--to", &snapshot]).fails_with(3).says("cannot be a channel's name");
}

/// A command by a shell, with the program as `$0` and the project as `$1`.
fn sh(project: &Project, script: &str, more: &[&str]) -> Done {
    let program = env!("CARGO_BIN_EXE_twostage");
    let mut command = Command::new("sh");
    command.env("NO_COLOR", "1").arg("-c").arg(script).arg(program).arg(project.path()).args(more);
    run(&mut command)
}

#[test]
fn a_result_that_nobody_can_get_is_no_success() {
    let (project, file) = published("full");
    for script in
        ["\"$0\" -p \"$1\" channel", "\"$0\" -p \"$1\" --json channel", "\"$0\" --help", "\"$0\" --version", "\"$0\" completions bash"]
    {
        let done = sh(&project, &format!("{script} > /dev/full"), &[]).fails_with(SYSTEM);
        done.says("cannot write to standard output").says("hint: the disk is full");
        // Whoever reads no more has what it wanted.
        sh(&project, &format!("{{ {script}; echo $? >&2; }} | true"), &[]).says("0");
    }
    let done = sh(&project, "\"$0\" -p \"$1\" publish \"$2\" > /dev/full", &[&file]).fails_with(SYSTEM);
    done.says("what was to be done is done");
    // Its problem with standard output is not the worse one.
    sh(&project, "\"$0\" -p \"$1\" --json channel nowhere > /dev/full", &[]).fails_with(REPOSITORY);
}

#[test]
fn what_the_machine_lacks_is_said_with_what_mends_it() {
    let (project, file) = published("lacks");
    let more = package(Family::Deb, &project, "more-demo", "1.0", "more");
    // A file system with no room but for what is there.
    let script = "set -eu
        twostage=$0 project=$1 file=$2 more=$3
        at=$(mktemp -d)
        mount -t tmpfs -o size=16m tmpfs $at
        cp -a $project/. $at/
        cat /dev/zero > $at/full 2> /dev/null || :
        cd $at
        status=0
        echo there >&2
        $twostage publish $file || status=$?
        echo status $status >&2
        [ $status = 0 ]
        echo new >&2
        $twostage publish $more || status=$?
        echo status $status >&2
        rm full
        exit $status";
    let private = |script: &str, more: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_twostage")]).arg(project.path()).args(more).env("NO_COLOR", "1");
        run(&mut command)
    };
    let done = private(script, &[&file, &more]).fails_with(SYSTEM);
    let (there, new) = done.err.split_once("new\n").expect("both");
    assert!(there.contains("status 0"), "what is there needs no room: {there}");
    assert!(new.contains("hint: the disk is full") && new.contains("status 8"), "{new}");

    let read_only = "mount --bind $1/.twostage $1/.twostage && mount -o remount,ro,bind $1/.twostage && exec $0 -p $1 publish $2";
    private(read_only, &[&more]).fails_with(SYSTEM).says("hint: the file system is read-only");
    sh(&project, "ulimit -n 8; exec \"$0\" -p \"$1\" publish \"$2\"", &[&more])
        .fails_with(SYSTEM)
        .says("hint: this process may not open more files");

    // Nobody may start a thread more than there are. (Root is not counted.)
    let user = 65_000 + std::process::id() % 400;
    let elsewhere = tempfile::Builder::new().prefix("threads").tempdir().expect("a folder");
    let at = elsewhere.path().to_string_lossy().into_owned();
    let script = format!(
        "cp $0 $3/twostage && cp -a $1/. $3/project && cp $2 $3/more.deb && chmod 755 $3 && chown -R {user} $3 && cd $3 &&
         exec setpriv --reuid {user} --clear-groups --inh-caps=-all prlimit --nproc=1 $3/twostage -p $3/project $4 $5 $6"
    );
    for command in [["publish", "more.deb", "--quiet"], ["channel", "main", "--repair"], ["serve", "--listen", "127.0.0.1:0"]] {
        let done = sh(&project, &script, &[&[&more, &*at], &command[..]].concat());
        let done = done.fails_with(SYSTEM).says("may start no more threads").says("hint: a limit of processes and threads is reached");
        assert!(!done.err.contains("panicked") && !done.err.contains("RUST_BACKTRACE"), "{}", done.err);
    }
    project.run(&["channel", "main", "--repair"]).ok().ends_with("whole");
}
