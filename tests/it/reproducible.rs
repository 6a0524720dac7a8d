//! Built at other times, on other ports: the same layer.

use crate::on::{EMBEDDED, On};
use crate::support::{Family, Project, Serving, Used, docker, image_name, long, root, run, tool, uses};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BUILD: i32 = 4;

/// What leaves caches, databases and links behind when it is installed.
const RICH: &str = "\"greet\", \"fontconfig\", \"dbus\", \"shared-mime-info\", \"ca-certificates\", \"python3-minimal\"";
const GTK: &str = ", \"libgtk-3-0\", \"adwaita-icon-theme\"";

/// An image that goes with its value.
struct Image(String);

impl Image {
    fn build(tag: &str, dockerfile: &str, files: &[&Path]) -> Image {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            fs::copy(file, folder.path().join(file.file_name().expect("a name"))).expect("a file");
        }
        fs::write(folder.path().join("Dockerfile"), dockerfile).expect("a Dockerfile");
        docker(&["build", "--network=host", "--tag", tag, &folder.path().to_string_lossy()]).ok();
        Image(tag.to_string())
    }

    fn run(&self, command: &[&str]) -> String {
        docker(&[&["run", "--rm", "--network=none", &self.0], command].concat()).ok().out
    }

    fn saved(&self, project: &Project) -> String {
        let path = project.join(&format!("{}.tar", self.0)).to_string_lossy().into_owned();
        docker(&["save", "--output", &path, &self.0]).ok();
        path
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = docker(&["image", "rm", "--force", &self.0]);
    }
}

/// What stands behind FROM when the project's image is made.
fn base_of(project: &Project) -> String {
    let dockerfile = project.run(&["runtime", "--dockerfile"]).ok().out;
    let text = fs::read_to_string(dockerfile.trim()).expect("the Dockerfile");
    text.lines().find_map(|line| line.strip_prefix("FROM ")).expect("a base").to_string()
}

#[test]
fn other_days_and_ports_give_the_same_layer_and_both_auditors_find_nothing_in_it() {
    let project = Project::built_hello("days");
    let fake = Image::build(
        &image_name("days-base"),
        &format!(
            "FROM {}\nRUN apt-get update && apt-get install --yes --no-install-recommends libfaketime && \
             rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* && echo 'Acquire::Check-Valid-Until \"false\";' > /etc/apt/apt.conf.d/day\n",
            project.base()
        ),
        &[],
    );
    let image = other_days(Family::Deb, &project, &fake, &format!("{RICH}{}", if long() { GTK } else { "" }));
    let seen = image.run(&["sh", "-c", "greet; fc-match sans > /dev/null && echo fonts; python3 -c 'print(6 * 7)'"]);
    assert_eq!(seen, "Hello, world!\nfonts\n42\n", "it works, too");
}

#[test]
fn other_days_and_ports_give_the_same_layer_of_rpms_and_both_auditors_find_nothing_in_it() {
    let project = Project::built(Family::Rpm, "days-rpm");
    let library = libfaketime(project.path());
    let dockerfile = format!("FROM {}\nCOPY libfaketime.so.1 /usr/lib/\n", base_of(&project));
    let fake = Image::build(&image_name("days-rpm-base"), &dockerfile, &[&library]);
    let image = other_days(Family::Rpm, &project, &fake, "\"greet\", \"jq\"");
    let seen = image.run(&["sh", "-c", "greet; jq -n '6 * 7'"]);
    assert_eq!(seen, "Hello, world!\n42\n", "it works, too");

    // Not one piece of our public key is in its database, though every package's signature is.
    let serving = Serving::of(project.path());
    let database = |name: &str, script: &str| {
        let file = project.join(name);
        let mount = format!("--volume={}:/out", project.path().display());
        let script = format!("set -e; {script} cat $(rpm --eval %_dbpath)/rpmdb.sqlite* > /out/{name}");
        docker(&["run", "--rm", "--network=none", "--user=0", &mount, &image.0, "sh", "-c", &script]).ok();
        fs::read(file).expect("a database")
    };
    fs::write(project.join("public.asc"), serving.get("/key.asc")).expect("the key");
    run(Command::new("gpg")
        .args(["--batch", "--yes", "--dearmor", "--output"])
        .args([project.join("public.pgp"), project.join("public.asc")]))
    .ok();
    let pieces = pieces_of_key(&fs::read(project.join("public.pgp")).expect("the key"), &project.read("public.asc"));
    let found = |database: &[u8]| database.windows(PIECE).filter(|piece| pieces.contains(*piece)).count();
    let plain = database("plain", "rpm -V greet libgreet inih jq oniguruma;");
    assert!(plain.starts_with(b"SQLite format 3\0") && plain.windows(5).any(|word| word == b"greet"), "it is the database");
    assert_eq!(found(&plain), 0, "pieces of our key are in rpm's database");
    // The search does find what it is to find.
    let with_key = database("with-key", "rpm --import /out/public.asc;");
    assert!(found(&with_key) > 100, "an imported key is found");
}

/// How many bytes a piece of the key has that would tell it.
const PIECE: usize = 16;

/// Every piece of the public key's packet, as it is and as the lines of its armor have it.
fn pieces_of_key(binary: &[u8], armored: &str) -> HashSet<Vec<u8>> {
    // RFC 9580, 4.2.1: the packet's type, and a length of two bytes for a body of up to 8383.
    assert_eq!(binary[0], 0xC6, "a public key packet");
    let length = (usize::from(binary[1]) - 192) * 256 + usize::from(binary[2]) + 192;
    let packet = &binary[3..3 + length];
    let body = armored.split_once("\n\n").expect("armor").1;
    let lines: String = body.lines().take_while(|line| !line.starts_with(['=', '-'])).collect();
    // (After the first bytes, which every key of the kind has: version, time, algorithm, lengths.)
    let text = &lines.as_bytes()[16..(3 + length) / 3 * 4];
    packet[8..].windows(PIECE).chain(text.windows(PIECE)).map(<[u8]>::to_vec).collect()
}

/// The library, out of Debian's package: the stand-in has no apt.
fn libfaketime(folder: &Path) -> PathBuf {
    let folder = folder.join("libfaketime");
    fs::create_dir(&folder).expect("a folder");
    run(Command::new("apt-get").args(["-oAPT::Sandbox::User=root", "download", "libfaketime"]).current_dir(&folder)).ok();
    run(Command::new("sh").args(["-c", "dpkg-deb -x *.deb ."]).current_dir(&folder)).ok();
    folder.join("usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
}

/// Every program in these bases sees another day: libfaketime answers whoever asks for the time.
/// What the kernel itself writes, the times of files, stays real (so it is told not to touch what
/// `stat` says); those differ between two builds anyway, by seconds. It is past days that are left
/// out: apt refuses metadata from the future.
fn other_days(family: Family, project: &Project, fake: &Image, packages: &str) -> Image {
    uses(Used::Engine);
    family.uses();
    let text = project.read("twostage.toml").replace("packages = [\"greet\"]", &format!("packages = [{packages}]"));
    let others: Vec<&str> = text.lines().filter(|line| !line.starts_with("base = ")).collect();
    let text = others.join("\n") + "\n";
    let serving = Serving::of(project.path());
    let mut built: Vec<(Image, Vec<String>, i64)> = Vec::new();
    for days in [40, 400] {
        let base = Image::build(
            &format!("{}{days}", fake.0),
            &format!(
                "FROM {}\nENV NO_FAKE_STAT=1\nRUN echo '+{days}d' > /etc/faketimerc; \
                 find /usr/lib -name libfaketime.so.1 > /etc/ld.so.preload\n",
                fake.0
            ),
            &[],
        );
        project.write("twostage.toml", &text.replace("packages = ", &format!("base = {{ image = \"{}\" }}\npackages = ", base.0)));
        project.run(&["repo"]).ok();
        let image = Image(format!("{}{days}", project.image));
        if built.is_empty() {
            project.run(&["runtime", "--no-cache"]).ok();
            docker(&["tag", &project.image, &image.0]).ok();
        } else {
            // The second by docker alone, so that it is known at which address its server was.
            let dockerfile = project.run(&["runtime", "--dockerfile"]).ok().out;
            On::Docker.plain_build(Path::new(dockerfile.trim()), &serving.address, &image.0).ok();
            project.run(&["audit", &image.0]).ok();
        }
        let layers = docker(&["inspect", "--format", "{{json .RootFS.Layers}}", &image.0]).ok().out;
        let layers = serde_json::from_str(&layers).expect("docker writes JSON");
        let day = image.run(&["date", "+%s"]).trim().parse::<i64>().expect("seconds") / 86_400;
        built.push((image, layers, day));
        drop(base);
    }
    let (two, second, late) = built.pop().expect("two images");
    let (one, first, early) = built.pop().expect("two images");
    assert_eq!(late - early, 360, "the two were built on other days");
    assert!(first.len() == 4 && second.len() == 4 && first[2] != second[2], "three layers of two bases, one on top: {first:?} {second:?}");
    let saved = [one.saved(project), two.saved(project)];
    let differ = root().join("tests/tools/diff_layers.py").to_string_lossy().into_owned();
    tool("python3", &[&differ, &saved[0], &saved[1]]).ok();
    assert_eq!(first[3], second[3]);

    // The checker that shares no code with our audit looks for the very server that the image was made from.
    let key = project.join("public.asc").to_string_lossy().into_owned();
    fs::write(&key, serving.get("/key.asc")).expect("the key");
    let checker = root().join("tests/tools/check_image.py").to_string_lossy().into_owned();
    let check =
        |saved: &str, base_layers: &str| tool("python3", &[&checker, saved, base_layers, "--key", &key, "--forbid", &serving.address]);
    assert_eq!(check(&saved[1], "3").ok().last_line(), "checked 1 layer(s) above the base: 0 finding(s)");
    let dirty = dirty(&two, &serving.address, &key);
    let found = check(&dirty.saved(project), "4").fails_with(1).out;
    let address = format!("b'{}'", serving.address);
    for finding in [
        "2 layers above the base instead of one".to_string(),
        format!("/opt/notes: contains {address}"),
        format!("config or history: contains {address}"),
        "/opt/key.pgp: contains bytes of the key".into(),
        "/opt/public.asc: a key or signature".into(),
        "/opt/stray.deb: a package file".into(),
        "/opt/stray.rpm: a package file".into(),
        "/var/log/stray: a log".into(),
        "/run/stray: a temporary, run-time or root's own file".into(),
        "/usr/bin/.wh.greet: a whiteout".into(),
    ] {
        assert!(found.lines().any(|line| line == finding), "the checker does not say {finding:?} of an image that has it:\n{found}");
    }
    assert!(found.lines().any(|line| line.starts_with("/opt/public.asc: contains b'")), "the armor's lines are found:\n{found}");
    two
}

/// The image, with what no image should have on top of it.
fn dirty(image: &Image, address: &str, key: &str) -> Image {
    let binary = Path::new(key).with_file_name("key.pgp");
    run(Command::new("gpg").args(["--batch", "--yes", "--dearmor", "--output"]).arg(&binary).arg(key)).ok();
    let dockerfile = format!(
        "FROM {}\nUSER 0\nCOPY key.pgp public.asc /opt/\nRUN echo http://{address}/ > /opt/notes; touch /opt/stray.deb /opt/stray.rpm; \
         mkdir -p /var/log /run; touch /var/log/stray /run/stray; rm /usr/bin/greet\n",
        image.0
    );
    Image::build(&format!("{}-dirty", image.0), &dockerfile, &[&binary, Path::new(key)])
}

/// What a build writes that depends on where and when it runs, each into a file of its own.
const MOODY: [(&str, &str); 5] =
    [("day", "date +%d.%H"), ("folder", "pwd"), ("host", "cat /proc/sys/kernel/hostname"), ("locale", "echo $LC_ALL"), ("umask", "umask")];

fn a_component_twice(family: Family) {
    uses(Used::Apt);
    let project = Project::quick_on(EMBEDDED, family, &format!("twice-{family:?}").to_lowercase(), "moody");
    let (file, place) = match family {
        Family::Deb => ("moody/debian/rules", "debian/tmp"),
        Family::Rpm => ("moody/moody.spec", "%{buildroot}"),
    };
    let whole = project.read(file);
    let build = |words: &[&str]| project.run(&[&["build", "moody"], words].concat());
    let writing = |what: &[(&str, &str)]| {
        let lines = what.iter().map(|(name, command)| match family {
            Family::Deb => {
                format!("\t{} > {place}/usr/share/moody/{name}\n\tchmod 644 {place}/usr/share/moody/{name}\n", command.replace('$', "$$"))
            }
            Family::Rpm => format!("{command} > {place}/usr/share/moody/{name}\nchmod 644 {place}/usr/share/moody/{name}\n"),
        });
        let lines: String = lines.collect();
        match family {
            Family::Deb => whole.replacen("\tdpkg-gencontrol\n", &format!("{lines}\tdpkg-gencontrol\n"), 1),
            Family::Rpm => whole.replacen("\n%files\n", &format!("\n{lines}\n%files\n"), 1),
        }
    };
    // (Folders get the build's umask; debhelper's dh_fixperms sets their modes, and these small rules have to do it themselves.)
    let fixed = |text: &str| text.replace("\tdpkg-gencontrol\n", "\tchmod -R u=rwX,go=rX debian/tmp\n\tdpkg-gencontrol\n");

    if family == Family::Deb && long() {
        let refused = build(&["--check-reproducible"]).fails_with(BUILD);
        refused
            .says("moody is not the same when it is built again: moody_1.0+bts")
            .says(".deb: its files are the same, and")
            .says("modes or times differ");
    }
    // One thing after the other, and the first file that differs is named. (rpmbuild has one folder, and a umask of its own.)
    project.write(file, &fixed(&writing(&MOODY)));
    let refused = build(&["--check-reproducible"]).fails_with(BUILD);
    refused.says(": /usr/share/moody/day differs").says("diffoscope ");
    let kept = |turn: &str| {
        let folder = project.join(".twostage/different/moody").join(turn);
        let package = fs::read_dir(folder).expect("what differed is kept").next().expect("a package").expect("a file").path();
        let into = project.join(&format!("unpacked-{turn}"));
        fs::create_dir(&into).expect("a folder");
        let (package, into) = (package.to_string_lossy().into_owned(), into.to_string_lossy().into_owned());
        match family {
            Family::Deb => tool("dpkg-deb", &["--extract", &package, &into]).ok(),
            Family::Rpm => tool("bsdtar", &["-xf", &package, "-C", &into]).ok(),
        };
        MOODY.map(|(name, _)| fs::read_to_string(format!("{into}/usr/share/moody/{name}")).expect("a file"))
    };
    let (first, again) = (kept("first"), kept("again"));
    for ((name, _), (a, b)) in MOODY.iter().zip(first.iter().zip(&again)) {
        let same = family == Family::Rpm && ["folder", "umask"].contains(name);
        assert_eq!(a == b, same, "{name}: {a} {b}");
    }

    // What was refused is not in the repository. What is the same twice is taken, and passes once more.
    project.write(file, &fixed(&whole));
    let done = build(&["--check-reproducible"]).ok();
    done.says("built twice and the same");
    assert!(!project.join(".twostage/different/moody").exists());
    if long() {
        build(&["--check-reproducible"]).ok().says("the same when it is built again");
    }
    assert_eq!(Project::outcomes(&build(&["--json"]).ok())["moody"], "unchanged");
}

#[test]
fn a_deb_that_is_not_the_same_twice_is_refused_and_its_first_file_is_named() {
    a_component_twice(Family::Deb);
}

#[test]
fn an_rpm_that_is_not_the_same_twice_is_refused_and_its_first_file_is_named() {
    if long() {
        a_component_twice(Family::Rpm);
    }
}
