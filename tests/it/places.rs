//! The same project in other folders, on other file systems and days, by other people: one image. Nothing but sources, lock,
//! key and what the lock names goes along; every package is built again. One place in each run of the tests; with
//! `make test-all` five, of both examples and of an image of the distribution's GTK, which other tools then load.

use crate::engines::Other;
use crate::on::{EMBEDDED, On};
use crate::support::{Done, Family, Project, Used, docker, image_name, long, run, tool, twostage, uses};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where, when and by whom a project is built.
struct Place {
    /// The file system that it is made on; none for this folder's.
    file_system: &'static str,
    folder: &'static str,
    /// How far the clock is ahead, here and in the containers of a base that `with_other_days` made.
    days: u32,
    host: &'static str,
    zone: &'static str,
    locale: &'static str,
    umask: &'static str,
    /// The user's line of /etc/subuid, which may be empty; without one it is root.
    range: Option<&'static str>,
}

const PLACES: [Place; 5] = [
    Place { file_system: "", folder: "a", days: 0, host: "first", zone: "UTC", locale: "C", umask: "022", range: None },
    Place {
        file_system: "tmpfs",
        folder: "another folder/ünï",
        days: 1,
        host: "second.example",
        zone: "Asia/Kathmandu",
        locale: "tr_TR.UTF-8",
        umask: "077",
        range: Some("twostage-test:3100000:65536"),
    },
    Place {
        file_system: "ext4",
        folder: "c",
        days: 33,
        host: "third",
        zone: "America/St_Johns",
        locale: "de_DE.UTF-8",
        umask: "002",
        range: None,
    },
    Place {
        file_system: "xfs",
        folder: "d",
        days: 400,
        host: "fourth",
        zone: "Pacific/Chatham",
        locale: "ja_JP.eucJP",
        umask: "027",
        range: Some("twostage-test:900000:70000"),
    },
    Place {
        file_system: "btrfs",
        folder: "e/f/g",
        days: 4000,
        host: "localhost",
        zone: "Etc/GMT+12",
        locale: "C.UTF-8",
        umask: "000",
        range: None,
    },
];

/// Everything that makes the place is of this process' namespaces, and gone with it.
const SCRIPT: &str = r#"set -e
hostname "$HOST"
case "$FILE_SYSTEM" in
    "") ;;
    tmpfs) mount -t tmpfs none "$AT" ;;
    *) truncate --size=6G "$AT/disk"; "mkfs.$FILE_SYSTEM" -q "$AT/disk"; mount -o loop "$AT/disk" "$AT" ;;
esac
mkdir -p "$AT/machine" "$AT/home" "$AT/store" "$AT/$FOLDER"
cp "$TWOSTAGE" "$AT/twostage"
# (LD_PRELOAD knows no path with spaces.)
[ -z "$FAKETIME" ] || { cp "$FAKETIME" "$AT/faketime.so"; FAKETIME=$AT/faketime.so; }
{ echo "+${DAYS}d"; cat /etc/resolv.conf; } > "$AT/machine/resolv"
mount --bind "$AT/machine/resolv" /etc/resolv.conf
if [ -n "$BY_USER" ]; then
    { cat /etc/passwd; echo "twostage-test:x:65432:65432::/nowhere:/bin/sh"; } > "$AT/machine/passwd"
    echo "$RANGE" > "$AT/machine/range"
    mount --bind "$AT/machine/passwd" /etc/passwd
    for file in subuid subgid; do mount --bind "$AT/machine/range" "/etc/$file"; done
fi
umask "$UMASK"
project="$AT/$FOLDER/project"
if [ -d "$PROJECT/.git" ]; then
    git clone -q "$PROJECT" "$project"
    mkdir "$project/.twostage"
    cp -r "$PROJECT/.twostage/repository" "$project/.twostage"
    cp "$PROJECT/"*.tar "$project"
else
    cp -a "$PROJECT" "$project"
    find "$project/.twostage" -mindepth 1 -maxdepth 1 ! -name repository -exec rm -r {} +
fi
# Another machine has what the lock names and the key; and what was built here may not be other there, by its name.
[ -n "$KEEP" ] || (cd "$project/.twostage/repository" && rm -r builds channels history snapshots)
chmod 755 "$AT"
as=
[ -z "$BY_USER" ] || { chown -R 65432:65432 "$AT"; as="setpriv --reuid 65432 --regid 65432 --clear-groups"; }
cd "$AT/$FOLDER"
ours() { # ours WORD... -- on the clock of the place
    $as env HOME="$AT/home" TZ="$ZONE" LC_ALL="$LOCALE" LD_PRELOAD="$FAKETIME" FAKETIME="+${DAYS}d" NO_FAKE_STAT=1 \
        TWOSTAGE_ENGINE=embedded TWOSTAGE_STORE="$AT/store" NO_COLOR=1 "$AT/twostage" --project "$project" "$@"
}
ours repo --locked >&2
ours runtime
[ -z "$FAKETIME" ] || ours run "$IMAGE" date +%s >&2
cp -r "$project/.twostage/images" "$IMAGES"
"#;

impl Place {
    /// Builds the project here, and puts its images into a folder. Says what the clock of a container said, too, where the
    /// base has one of its own.
    fn build(&self, project: &Project, images: &Path) -> Done {
        self.command(project, images, "")
    }

    /// The same of the packages that were built already.
    fn install(&self, project: &Project, images: &Path) -> Done {
        self.command(project, images, "builds")
    }

    fn command(&self, project: &Project, images: &Path, keep: &str) -> Done {
        let at = tempfile::Builder::new().prefix("twostage-place").tempdir().expect("a folder");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "sh", "-c", SCRIPT]).env_remove("XDG_DATA_HOME");
        command.env("AT", at.path()).env("PROJECT", project.path()).env("IMAGES", images).env("TWOSTAGE", twostage().get_program());
        let days = self.days.to_string();
        let library = project.join(LIBRARY);
        let library = if library.exists() { library.to_string_lossy().into_owned() } else { String::new() };
        let said = [
            ("KEEP", keep),
            ("IMAGE", project.image.as_str()),
            ("FILE_SYSTEM", self.file_system),
            ("FOLDER", self.folder),
            ("DAYS", &days),
            ("HOST", self.host),
            ("ZONE", self.zone),
            ("LOCALE", self.locale),
            ("UMASK", self.umask),
            ("BY_USER", if self.range.is_some() { "yes" } else { "" }),
            ("RANGE", self.range.unwrap_or_default()),
            ("FAKETIME", &library),
        ];
        run(command.envs(said))
    }
}

/// The files that are never written to, as they are, and the mounts of places, of which this process never has one.
fn of_the_machine() -> String {
    let files = ["/etc/passwd", "/etc/subuid", "/etc/subgid", "/etc/resolv.conf", "/etc/hostname"];
    let files = files.map(|path| fs::read_to_string(path).unwrap_or_default()).concat();
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc");
    let places: String = mounts.lines().filter(|line| line.contains("twostage-place")).collect();
    files + &places
}

/// Builds it in these places, and gives the last line of all: image, digest, snapshot and size.
fn one_image(project: &Project, places: &[&Place]) -> String {
    let before = of_the_machine();
    let images = tempfile::tempdir().expect("a folder");
    let mut lines: Vec<String> = Vec::new();
    let mut layouts: Vec<String> = Vec::new();
    for place in places {
        let into = images.path().join(place.host);
        let done = place.build(project, &into).ok();
        let built = done.err.matches(": publishing its packages").count();
        assert_eq!(built, project.read("twostage.toml").matches("[[component]]").count(), "all is built again: {}", done.err);
        assert!(!done.err.contains("has no range of ids"), "{}", done.err);
        if project.join(LIBRARY).exists() {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
            let day = done.err.lines().last().and_then(|line| line.parse::<u64>().ok()).expect("what a container's clock said");
            assert_eq!((day + 600 - now) / 86_400, u64::from(place.days), "in {}", place.host);
        }
        lines.push(done.last_line().to_string());
        layouts.push(fs::read_to_string(into.join("index.json")).expect("a layout"));
    }
    assert_eq!(lines, vec![lines[0].clone(); places.len()], "one digest everywhere");
    assert_eq!(layouts, vec![layouts[0].clone(); places.len()], "one layout, too");
    assert_eq!(of_the_machine(), before);
    lines.swap_remove(0)
}

#[test]
fn an_ordinary_user_elsewhere_builds_the_image_that_root_builds_here() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_on(EMBEDDED, Family::Deb, "places");
    let line = one_image(&project, &[&PLACES[1]]);
    assert_eq!(project.run(&["runtime"]).ok().last_line(), line, "of the packages that Docker built for root");
}

#[test]
fn a_user_without_a_range_makes_an_image_and_is_told_once_what_that_costs() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_on(EMBEDDED, Family::Deb, "places-one");
    let images = tempfile::tempdir().expect("a folder");
    let place = Place { range: Some(""), ..PLACES[0] };
    // Something has to be fetched, too.
    let lock = project.read("twostage.lock");
    let (_, image) = lock.split_once("of = \"runtime:").expect("the image's closure");
    let locked = image.lines().find(|line| line.starts_with("  \"libyaml-0-2 ")).expect("its package");
    let digest = locked.split([' ', '"']).find(|word| word.len() == 64).expect("its digest");
    fs::remove_file(project.join(&format!(".twostage/repository/pool/{}/{digest}", &digest[..2]))).expect("the package");
    let done = place.install(&project, &images.path().join("images")).ok();
    assert!(done.err.contains("fetching 1 locked package"), "{}", done.err);
    assert_eq!(done.err.matches("has no range of ids").count(), 2, "by each of the two commands: {}", done.err);
    let manifests = fs::read_to_string(images.path().join("images/index.json")).expect("a layout");
    assert!(manifests.contains(&project.image), "{manifests}");
}

const LIBRARY: &str = "libfaketime.so.1";

/// Gives the project bases in which every program sees the day that is named in the machine's /etc/resolv.conf: whatever
/// is no name server there, only libfaketime reads. (It is told to leave the times of files alone.)
fn with_other_days(project: &Project, bases: &[(&str, &str, &str)]) {
    let folder = project.join("context");
    fs::create_dir(&folder).expect("a folder");
    let script =
        "apt-get -oAPT::Sandbox::User=root download libfaketime && dpkg-deb -x *.deb . && mv usr/lib/*/faketime/libfaketime.so.1 .";
    run(Command::new("sh").args(["-c", script]).current_dir(&folder)).ok();
    fs::copy(folder.join(LIBRARY), project.join(LIBRARY)).expect("the library");
    for (base, from, replaces) in bases {
        let tag = image_name(base);
        let dockerfile = format!(
            "FROM {from}\nCOPY {LIBRARY} /usr/lib/\nENV NO_FAKE_STAT=1\n\
             RUN ln -s resolv.conf /etc/faketimerc && echo /usr/lib/{LIBRARY} > /etc/ld.so.preload\n"
        );
        fs::write(folder.join("Dockerfile"), dockerfile).expect("a Dockerfile");
        for tar in ["base.tar", "builder.tar"].map(|tar| project.join(tar)).iter().filter(|tar| tar.exists()) {
            let _ = fs::hard_link(tar, folder.join(tar.file_name().expect("a name")));
        }
        run(project.command(&["compile", "--no-cache", "--tag", &tag]).arg(&folder)).ok();
        let archive = format!("{base}.tar");
        project.on.save(&tag, &project.join(&archive));
        project.edit("twostage.toml", |text| text.replacen(replaces, &format!("archive = \"{archive}\""), 1));
    }
    fs::remove_file(project.join("twostage.lock")).expect("the lock");
    // What was built before would be kept, as its content is the same.
    fs::remove_dir_all(project.join(".twostage/repository/builds")).expect("the builds");
    commit(project);
    today(project, &["repo"]).ok();
    commit(project);
}

/// An image that was built without a daemon, in every other engine: the same there, and it runs.
fn loads_everywhere(project: &Project, command: &[&str], says: &str) {
    let id = project.on.id_of(&project.image).expect("the image");
    let ran = |words: &[&str]| {
        let done = run(Command::new(words[0])
            .args(&words[1..])
            .args(["run", "--rm", "--network=none", "--env=FAKETIME=+0d", &project.image])
            .args(command))
        .ok();
        assert!(done.out.contains(says), "{words:?}: {}", done.out);
    };
    let alone = project.run(&[&["run", "--env=FAKETIME=+0d", &project.image], command].concat()).ok();
    assert!(alone.out.contains(says), "{}", alone.out);
    project.run(&["load", "--into", "docker"]).ok();
    assert_eq!(On::Docker.id_of(&project.image).as_ref(), Some(&id));
    ran(&["docker"]);
    docker(&["image", "rm", "--force", &project.image]).ok();
    let layout = format!("oci:{}:{}", project.join(".twostage/images").display(), project.image);
    tool("skopeo", &["copy", "--quiet", &layout, &format!("docker-daemon:{}:latest", project.image)]).ok();
    ran(&["docker"]);
    docker(&["image", "rm", "--force", &project.image]).ok();
    let podman = Other::podman();
    project.run(&["load", "--into", "podman", "--engine-host", &podman.service.line]).ok();
    ran(&["podman", "--remote", "--url", &podman.service.line]);
}

/// The command, on the day that it is: in a base of `with_other_days` libfaketime must be told so.
fn today(project: &Project, words: &[&str]) -> Done {
    let script = "set -e; { echo +0d; cat /etc/resolv.conf; } > \"$0\"; mount --bind \"$0\" /etc/resolv.conf; exec \"$@\"";
    let ours = project.command(words);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(project.join("resolv.tar")).arg(ours.get_program()).args(ours.get_args());
    for (name, value) in ours.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    run(&mut command)
}

/// The project as committed, so that nothing depends on when its files were written.
fn commit(project: &Project) {
    project.write(".gitignore", "*.tar\ncontext\nlibfaketime.so.1\n.twostage\n");
    let name = ["-c", "user.name=Team", "-c", "user.email=team@hello.example", "-c", "init.defaultBranch=main"];
    let git = |words: &[&str]| tool("git", &[&["-C", &project.path().to_string_lossy()], &name[..], words].concat()).ok();
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "As it is built everywhere"]);
}

fn in_all_places(project: &Project, command: &[&str], says: &str) {
    let line = one_image(project, &PLACES.each_ref());
    eprintln!("five places: {line}");
    assert_eq!(today(project, &["runtime"]).ok().last_line(), line);
    loads_everywhere(project, command, says);
}

#[test]
fn in_five_places_on_five_days_it_is_one_image() {
    if !long() {
        return;
    }
    for program in ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"] {
        let there = Command::new(program).arg("-V").output().is_ok();
        assert!(there, "there is no {program}: apt-get install e2fsprogs xfsprogs btrfs-progs");
    }
    uses(Used::Engine);
    let project = Project::built_on(EMBEDDED, Family::Deb, "places-deb");
    project.run(&["runtime"]).ok();
    with_other_days(&project, &[("places-base", &project.base(), "bootstrap = \"host\"")]);
    in_all_places(&project, &["greet"], "Hello, world!");

    let gtk = "\"libglib2.0-0\", \"libcairo2\", \"libpango-1.0-0\", \"libgdk-pixbuf-2.0-0\", \"libatk1.0-0\", \"libharfbuzz0b\", \
               \"libgtk-3-0\", \"libgtk-3-bin\", \"adwaita-icon-theme\"";
    project.write(
        "twostage.toml",
        &format!("[project]\nname = \"gtk\"\n\n[base]\narchive = \"places-base.tar\"\n\n[runtime.{}]\npackages = [{gtk}]\n", project.image),
    );
    fs::remove_dir_all(project.join(".twostage/images")).expect("the other image");
    today(&project, &["repo"]).ok();
    commit(&project);
    in_all_places(&project, &["gtk-launch", "--version"], "3.24");

    let project = Project::built_on(EMBEDDED, Family::Rpm, "places-rpm");
    with_other_days(
        &project,
        &[
            ("places-builder", "scratch\nADD builder.tar /", "rootfs = \"builder.tar\""),
            ("places-runtime", "scratch\nADD base.tar /", "rootfs = \"base.tar\""),
        ],
    );
    in_all_places(&project, &["greet"], "Hello, world!");
}
