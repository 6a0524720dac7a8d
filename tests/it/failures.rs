//! What goes wrong ends with its reason, a hint, and nothing tagged.

use crate::on::{EMBEDDED, On};
use crate::support::{Family, Helper, Project, Serving, Used, docker, root, run, tool, uses};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Exit statuses by class of error.
const VERDICT: i32 = 1;
const PROJECT: i32 = 3;
const BUILD: i32 = 4;
const REPOSITORY: i32 = 5;
const RUNTIME: i32 = 7;

/// A deb of one file, by dpkg-deb itself.
fn deb(project: &Project, name: &str, version: &str, content: &str) -> String {
    let folder = project.join(&format!("deb-{name}"));
    fs::create_dir_all(folder.join("DEBIAN")).expect("a folder");
    fs::create_dir_all(folder.join("usr/share").join(name)).expect("a folder");
    fs::write(folder.join("usr/share").join(name).join("content"), content).expect("a file");
    let control =
        format!("Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.invalid>\nDescription: a test\n");
    fs::write(folder.join("DEBIAN/control"), control).expect("a file");
    let file = project.join(&format!("{name}.deb")).to_string_lossy().into_owned();
    tool("dpkg-deb", &["--root-owner-group", "--build", &folder.to_string_lossy(), &file]).ok();
    file
}

/// An rpm of one file, by rpmbuild itself. `version` is `version-release`.
fn rpm(project: &Project, name: &str, version: &str, content: &str) -> String {
    let folder = project.join(&format!("rpm-{name}"));
    fs::create_dir_all(&folder).expect("a folder");
    let (version, release) = version.split_once('-').expect("a release");
    let spec = format!(
        "Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: a test\nLicense: MIT\nBuildArch: noarch\n%description\nA test.\n\
         %install\nmkdir -p %{{buildroot}}/usr/share/{name}\necho '{content}' > %{{buildroot}}/usr/share/{name}/content\n%files\n/usr/share/{name}\n"
    );
    fs::write(folder.join("demo.spec"), spec).expect("a spec file");
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args([
        "-bb",
        "--define",
        &format!("_topdir {}", folder.display()),
        "--define",
        &format!("_rpmdir {}", project.path().display()),
    ]);
    run(rpmbuild.args(["--define", "_rpmfilename %%{NAME}.rpm"]).arg(folder.join("demo.spec"))).ok();
    project.join(&format!("{name}.rpm")).to_string_lossy().into_owned()
}

/// A package of one file, made without us.
pub fn package(family: Family, project: &Project, name: &str, version: &str, content: &str) -> String {
    match family {
        Family::Deb => deb(project, name, version, content),
        Family::Rpm => rpm(project, name, &format!("{version}-1"), content),
    }
}

/// What stands behind FROM in a Dockerfile.
fn base_in(dockerfile: &Path) -> String {
    let text = fs::read_to_string(dockerfile).expect("the Dockerfile");
    text.lines().find_map(|line| line.strip_prefix("FROM ")).expect("a base").to_string()
}

#[test]
fn a_server_that_is_stopped_or_not_ours_fails_the_runtime_build() {
    let reasons = [
        ["Connection refused", "twostage: the snapshot's server does not answer: is http_proxy"],
        ["NO_PUBKEY", "is not signed"],
        ["NO_PUBKEY", "is not signed"],
        ["Unable to locate package", "stopped-demo"],
        ["twostage: these are not the 1 packages that were locked for", "stopped-demo"],
    ];
    uses(Used::Engine);
    uses(Used::Apt);
    stopped_or_not_ours(On::Docker, Family::Deb, "stopped", &reasons);
    stopped_or_not_ours(EMBEDDED, Family::Deb, "stopped-alone", &reasons);
}

#[test]
fn a_server_that_is_stopped_or_not_ours_fails_the_runtime_build_of_rpms() {
    let reasons = [
        ["Couldn't connect to server", "Failed to download metadata"],
        ["repomd.xml GPG signature verification error", "Failed to download metadata"],
        ["repomd.xml GPG signature verification error", "Failed to download metadata"],
        ["No match for argument", "stopped-demo"],
        ["twostage: these are not the 1 packages that were locked for", "stopped-demo"],
    ];
    uses(Used::Engine);
    uses(Used::Dnf);
    stopped_or_not_ours(On::Docker, Family::Rpm, "stopped-rpm", &reasons);
    stopped_or_not_ours(EMBEDDED, Family::Rpm, "stopped-rpm-alone", &reasons);
}

/// `reasons`: what is said of each case below.
fn stopped_or_not_ours(on: On, family: Family, test: &str, reasons: &[[&str; 2]; 5]) {
    let project = Project::quick_on(on, family, test, "stopped-demo");
    project.run(&["repo"]).ok();
    let dockerfile = project.run(&["runtime", "--dockerfile"]).ok().out;
    let dockerfile = Path::new(dockerfile.trim());
    let tag = format!("{}-plain", project.image);

    // One snapshot, signed by two keys: the same repository in two projects.
    let other = Project::quick_on(on, family, &format!("{test}-other"), "stopped-demo");
    fs::remove_dir_all(other.join(".twostage/repository/key")).expect("the key goes");
    other.run(&["channel", "--rekey"]).ok();
    tool("cp", &["-a", &project.join("stopped-demo").to_string_lossy(), &other.path().to_string_lossy()]).ok();
    project.run(&["export", &project.join("export.tar").to_string_lossy()]).ok();
    other.run(&["import", &project.join("export.tar").to_string_lossy()]).ok();
    assert_eq!(project.snapshot(), other.snapshot(), "a snapshot is named by its packages");
    let [one, two] = [&project, &other].map(|project| project.read(".twostage/repository/key/signing.asc"));
    assert_ne!(one, two, "each signs with a key of its own");
    // A third has the same names and versions, but lacks the package that is asked for; a fourth
    // has other bytes under the same name and version.
    // (The closure of the base's own rpms is in both, so that only what is meant is missing.)
    let without = |test: &str| if family == Family::Rpm { Project::built(family, test) } else { Project::example(family, test) };
    let (lacking, altered) = (without(&format!("{test}-lacking")), without(&format!("{test}-altered")));
    let version = fs::read_to_string(dockerfile).expect("the Dockerfile");
    let version = version.split("stopped-demo=").nth(1).and_then(|rest| rest.split([';', ' ']).next()).expect("its version").to_string();
    lacking.run(&["publish", &package(family, &lacking, "another", "1", "x")]).ok();
    let same_version = match family {
        Family::Deb => deb(&altered, "stopped-demo", &version, "other content"),
        Family::Rpm => rpm(&altered, "stopped-demo", &version, "other content"),
    };
    altered.run(&["publish", &same_version]).ok();

    let ours = Serving::of(project.path());
    let theirs = Serving::of(other.path());
    let without = Serving::of(lacking.path());
    let different = Serving::of(altered.path());
    let script = root().join("tests/tools/faulty_server.py");
    let faulty = |keys: &Serving, rest: &Serving, snapshot: &str| {
        Helper::start(Command::new("python3").arg(&script).args([&keys.address, &rest.address, &project.snapshot(), snapshot]))
    };
    let same = project.snapshot();
    let key_of_another = faulty(&theirs, &ours, &same);
    let signed_by_another = faulty(&ours, &theirs, &same);
    let missing = faulty(&without, &without, &lacking.snapshot());
    let swapped = faulty(&different, &different, &altered.snapshot());
    let at = |helper: &Helper| format!("127.0.0.1:{}", helper.line);

    let cases = [
        // (A port below 1024 is given to nobody who does not ask for it.)
        ("a stopped server", "127.0.0.1:1".to_string()),
        ("the key of another", at(&key_of_another)),
        ("signed by another", at(&signed_by_another)),
        ("a missing package", at(&missing)),
        ("other bytes of the same name", at(&swapped)),
    ];
    for ((what, address), reasons) in cases.iter().zip(reasons) {
        let mut done = on.plain_build(dockerfile, address, &tag);
        assert_ne!(done.status, 0, "{what}: it fails");
        for reason in reasons {
            done = done.says(reason);
        }
        assert_eq!(on.id_of(&tag), None, "{what}: nothing is tagged");
    }

    // An image that has the name from a good build keeps it.
    on.plain_build(dockerfile, &ours.address, &tag).ok();
    let good = on.id_of(&tag).expect("the good image");
    for (what, address) in &cases {
        assert_ne!(on.plain_build(dockerfile, address, &tag).status, 0, "{what}: it fails");
        assert_eq!(on.id_of(&tag).as_deref(), Some(good.as_str()), "{what}: the earlier image keeps the name");
    }
    on.remove(&tag);
}

#[test]
fn a_package_that_nobody_has_or_that_is_virtual_is_named() {
    uses(Used::Engine);
    uses(Used::Apt);
    let virtuals: [(&str, &[&str]); 2] = [
        // Many packages provide the one; only one the other, and the base has it already.
        ("mail-transport-agent", &["mail-transport-agent is a virtual package", "postfix", "exim4-daemon-light", "hint:"]),
        ("perlapi-5.36.0", &["perlapi-5.36.0 is a virtual package; apt would install perl-base for it", "hint: name perl-base"]),
    ];
    let nobody = "Unable to locate package no-such-package";
    missing_or_virtual(On::Docker, Family::Deb, "missing", nobody, &virtuals);
    missing_or_virtual(EMBEDDED, Family::Deb, "missing-alone", nobody, &virtuals);
}

#[test]
fn an_rpm_that_nobody_has_or_that_is_virtual_is_named() {
    uses(Used::Engine);
    uses(Used::Dnf);
    let virtuals: [(&str, &[&str]); 3] = [
        // One of the project's own packages provides it; two of them; one of the base.
        ("missing", &["missing is a virtual package; these of the project provide it: missing-demo", "hint: name the one"]),
        ("greeting", &["greeting is a virtual package; these provide it: missing-demo, missing-other", "hint: name the one"]),
        ("glibc", &["glibc is a virtual package; these provide it: distribution-base", "hint: name the one"]),
    ];
    missing_or_virtual(EMBEDDED, Family::Rpm, "missing-rpm", "No match for argument: no-such-package", &virtuals);
}

/// `nobody`: what is said of a package that nobody has. `virtuals`: what of names that others provide.
fn missing_or_virtual(on: On, family: Family, test: &str, nobody: &str, virtuals: &[(&str, &[&str])]) {
    let project = Project::quick_on(on, family, test, "missing-demo");
    if family == Family::Rpm {
        project.add_quick("missing-other");
        for name in ["missing-demo", "missing-other"] {
            let provides = if name == "missing-demo" { "Provides: missing, greeting" } else { "Provides: greeting" };
            project.edit(&format!("{name}/{name}.spec"), |text| text.replacen("Version:", &format!("{provides}\nVersion:"), 1));
        }
    }
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let good = on.id_of(&project.image);
    let before = project.snapshot();
    let packages = |names: &str| {
        project.edit("twostage.toml", |text| {
            let (rest, _) = text.rsplit_once("\npackages = ").expect("an image");
            format!("{rest}\npackages = [{names}]\n")
        });
    };

    // Named in the project file, but `repo` has not run since.
    packages(r#""missing-demo", "no-such-package""#);
    project.run(&["runtime"]).fails_with(RUNTIME).says("no-such-package").says("hint: run `twostage repo` first");
    // And `repo` finds that nobody has it.
    project.run(&["repo"]).fails_with(PROJECT).says(nobody).says("hint:");
    project.run(&["repo", "--locked"]).fails_with(PROJECT).says("the lock does not hold for runtime:").says("run `twostage lock`");
    for (name, reasons) in virtuals {
        packages(&format!(r#""missing-demo", "{name}""#));
        reasons.iter().fold(project.run(&["repo"]).fails_with(PROJECT), |done, reason| done.says(reason));
    }

    assert_eq!(project.snapshot(), before, "the channel has not moved");
    assert_eq!(on.id_of(&project.image), good, "the earlier image keeps its name");
}

#[test]
fn a_base_that_has_a_newer_version_of_a_named_package_is_refused() {
    uses(Used::Engine);
    uses(Used::Apt);
    newer_in_the_base(On::Docker, Family::Deb, "newer", "newer-demo 9.9", "dpkg -i");
    newer_in_the_base(EMBEDDED, Family::Deb, "newer-alone", "newer-demo 9.9", "dpkg -i");
}

#[test]
fn a_base_that_has_a_newer_version_of_a_named_rpm_is_refused() {
    uses(Used::Engine);
    uses(Used::Dnf);
    newer_in_the_base(EMBEDDED, Family::Rpm, "newer-rpm", "newer-demo 9.9-1", "rpm -i");
}

fn newer_in_the_base(on: On, family: Family, test: &str, installed: &str, install: &str) {
    let project = Project::quick_on(on, family, test, "newer-demo");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let good = on.id_of(&project.image);
    let base = base_in(&project.join(&format!(".twostage/images/{}/Dockerfile", project.image)));
    let folder = project.join("newer");
    fs::create_dir(&folder).expect("a folder");
    fs::rename(package(family, &project, "newer-demo", "9.9", "from elsewhere"), folder.join("package")).expect("the package");
    fs::write(folder.join("Dockerfile"), format!("FROM {base}\nCOPY package /\nRUN {install} /package && rm /package\n")).expect("a file");
    let newer = format!("{}-base", project.image);
    on.build(&folder, &newer).ok();
    project.edit("twostage.toml", |text| {
        let others: Vec<&str> = text.lines().filter(|line| !line.starts_with("base = ")).collect();
        format!("{}\nbase = {{ image = \"{newer}\" }}\n", others.join("\n"))
    });
    project.run(&["repo"]).fails_with(PROJECT).says(installed).says("is newer").says("hint:");
    project.run(&["runtime"]).fails_with(RUNTIME).says("hint: run `twostage repo` first");
    assert_eq!(on.id_of(&project.image), good, "the earlier image keeps its name");
    on.remove(&newer);
}

#[test]
fn our_own_package_wins_over_a_newer_one_of_the_distribution() {
    uses(Used::Engine);
    uses(Used::Apt);
    // Debian's is 2.10.
    let query = ["dpkg-query", "--show", "hello"];
    let reasons = ["wins-demo : Depends: hello (>= 2.0), and the project's own hello is 1.0+bts", "hint: no other hello is taken"];
    own_wins(On::Docker, Family::Deb, "wins", "hello", &query, "hello\t1.0+bts", &reasons);
}

#[test]
fn our_own_rpm_wins_over_a_newer_one_of_the_distribution() {
    uses(Used::Engine);
    uses(Used::Dnf);
    // The stand-in's is 1.6.
    let reasons = ["wins-demo requires jq >= 1.5, and the project's own jq is 1.0-1.ts", "hint: no other jq is taken"];
    own_wins(EMBEDDED, Family::Rpm, "wins-rpm", "jq", &["rpm", "-q", "jq"], "jq-1.0-1.ts", &reasons);
}

/// `ours` is called as a package of the distribution is.
fn own_wins(on: On, family: Family, test: &str, ours: &str, query: &[&str], shown: &str, reasons: &[&str]) {
    let project = Project::quick_on(on, family, test, ours);
    let source = format!("source = \"{ours}\"");
    project.edit("twostage.toml", |text| text.replacen(&source, &format!("{source}\nreplaces = [\"{ours}\"]"), 1));
    // The package manager itself is to choose. (The lock calls the name free, which says nothing.)
    project.edit("twostage.lock", |lock| {
        let (others, image) = lock.split_once("\n[[closure]]\nof = \"runtime:").expect("the image's closure");
        let (_, names) = image.split_once("\n[[names]]\n").expect("names");
        format!("{others}\n[[names]]\n{names}")
    });
    assert!(project.read("twostage.lock").contains(&format!("free = [\"{ours}\"")));
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let installed = on.run(&project.image, query);
    assert!(installed.starts_with(shown), "{installed}");
    assert_eq!(on.run(&project.image, &["cat", &format!("/usr/share/{ours}/content")]), "first\n");
    let good = on.id_of(&project.image);
    assert_eq!(on.label(&project.image, "twostage.replaces"), ours, "the image says so");

    // Asked for by another component that our version does not satisfy, it is refused, not replaced.
    project.add_quick("wins-demo");
    match family {
        Family::Deb => {
            let depends = format!("Architecture: all\nDepends: {ours} (>= 2.0)");
            project.edit("wins-demo/debian/control", |text| text.replace("Architecture: all", &depends));
        }
        Family::Rpm => {
            project.edit("wins-demo/wins-demo.spec", |text| text.replacen("Version:", &format!("Requires: {ours} >= 1.5\nVersion:"), 1))
        }
    }
    project.edit("twostage.toml", |text| text.replace(&format!("packages = [\"{ours}\"]"), "packages = [\"wins-demo\"]"));
    reasons.iter().fold(project.run(&["repo"]).fails_with(PROJECT), |done, reason| done.says(reason));
    project.run(&["runtime"]).fails_with(RUNTIME).says("hint: run `twostage repo` first");
    assert_eq!(on.id_of(&project.image), good, "the earlier image keeps its name");
}

/// The metadata is ours, and signed by us, and the bytes are what the lock says; only the packages'
/// own signatures are not there.
#[test]
fn an_rpm_without_a_signature_fails_the_runtime_build() {
    uses(Used::Engine);
    uses(Used::Dnf);
    let project = Project::quick_on(On::Docker, Family::Rpm, "unsigned", "unsigned-demo");
    project.run(&["repo"]).ok();
    let dockerfile = project.run(&["runtime", "--dockerfile"]).ok().out;
    let dockerfile = Path::new(dockerfile.trim());
    let ours = Serving::of(project.path());
    let good = format!("{}-plain", project.image);
    On::Docker.plain_build(dockerfile, &ours.address, &good).ok();
    let id = On::Docker.id_of(&good);
    let rpms: Vec<String> = ours.fetched().into_iter().filter(|target| target.ends_with(".rpm")).collect();
    assert_eq!(rpms.len(), 1, "{rpms:?}");

    // (A socket's path has at most 107 bytes, and gpg's agent has one.)
    let home = tempfile::tempdir().expect("a folder");
    let gpg = |arguments: &[&str]| run(Command::new("gpg").env("GNUPGHOME", home.path()).args(["--batch", "--yes"]).args(arguments)).ok();
    gpg(&["--import", &project.join(".twostage/repository/key/signing.asc").to_string_lossy()]);
    let build = |signed: bool| {
        let folder = project.join(if signed { "signed" } else { "unsigned" });
        fs::create_dir(&folder).expect("a folder");
        let file = folder.join("unsigned-demo.rpm").to_string_lossy().into_owned();
        fs::write(&file, ours.get(&rpms[0])).expect("a package");
        if !signed {
            tool("rpmsign", &["--delsign", &file]).ok();
        }
        tool("createrepo_c", &["--no-database", &folder.to_string_lossy()]).ok();
        gpg(&["--armor", "--detach-sign", &folder.join("repodata/repomd.xml").to_string_lossy()]);
        let script = root().join("tests/tools/faulty_server.py");
        let server = Helper::start(Command::new("python3").arg(script).args([&ours.address, &folder.to_string_lossy().into_owned()]));
        On::Docker.plain_build(dockerfile, &format!("127.0.0.1:{}", server.line), &good)
    };
    let done = build(false);
    assert_ne!(done.status, 0, "it fails");
    done.says("unsigned-demo.rpm is not signed").says("GPG check FAILED");
    assert_eq!(On::Docker.id_of(&good), id, "the earlier image keeps its name");
    // It is the signature that decides: the same folder with it is taken.
    build(true).ok();
    let _ = run(Command::new("gpgconf").env("GNUPGHOME", home.path()).args(["--kill", "all"]));
    docker(&["image", "rm", "--force", &good]).ok();
}

#[test]
fn an_image_with_residue_or_a_failing_check_is_removed() {
    uses(Used::Engine);
    uses(Used::Apt);
    residue_or_failing_check(On::Docker, Family::Deb, "residue");
    residue_or_failing_check(EMBEDDED, Family::Deb, "residue-alone");
}

#[test]
fn an_image_of_rpms_with_residue_or_a_failing_check_is_removed() {
    uses(Used::Engine);
    uses(Used::Dnf);
    residue_or_failing_check(EMBEDDED, Family::Rpm, "residue-rpm");
}

fn residue_or_failing_check(on: On, family: Family, test: &str) {
    let project = Project::quick_on(on, family, test, "residue-demo");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let good = on.id_of(&project.image).expect("the good image");
    let images = || on.ids_with("twostage.snapshot", &project.snapshot());
    let toml = project.read("twostage.toml");

    project.write("twostage.toml", &format!("{toml}check = [\"sh\", \"-c\", \"echo I am not well; exit 3\"]\n"));
    let done = project.run(&["runtime", "--no-cache"]).fails_with(VERDICT);
    done.says("its check `sh -c echo I am not well; exit 3` failed (exit status 3)").says("I am not well").says("hint:");
    assert_eq!(on.id_of(&project.image).as_deref(), Some(good.as_str()), "the earlier image keeps its name");
    assert_eq!(images(), [good.as_str()], "the rejected image is gone");
    project.write("twostage.toml", &format!("{toml}check = [\"no-such-program\"]\n"));
    project.run(&["runtime"]).fails_with(VERDICT).says("no-such-program").says("hint:");
    assert_eq!(images(), [good.as_str()], "the rejected image is gone");
    project.write("twostage.toml", &toml);

    let script = "mkdir -p /var/lib/foo\necho x > /var/lib/foo/stray\necho ls > /root/.bash_history\n";
    match family {
        Family::Deb => project.write("residue-demo/debian/postinst", &format!("#!/bin/sh\nset -e\n{script}")),
        Family::Rpm => project.edit("residue-demo/residue-demo.spec", |text| text.replace("%files", &format!("%post\n{script}\n%files"))),
    }
    project.run(&["repo"]).ok();
    let done = project.run(&["runtime"]).fails_with(VERDICT);
    done.says("nothing is tagged").says("/var/lib/foo/stray").says("/root/.bash_history").says("hint:");
    assert_eq!(on.id_of(&project.image).as_deref(), Some(good.as_str()), "the earlier image keeps its name");
    assert_eq!(images(), [""; 0], "the rejected image is gone");

    // The same for a name that no image has yet.
    let never = format!("{}-never", project.image);
    project.edit("twostage.toml", |text| text.replace(&format!("[runtime.{}]", project.image), &format!("[runtime.{never}]")));
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).fails_with(VERDICT).says("/var/lib/foo/stray");
    assert_eq!(on.id_of(&never), None, "nothing is tagged");
    assert_eq!(images(), [""; 0], "the rejected image is gone");
}

#[test]
fn what_a_hostile_builder_leaves_is_refused_by_name() {
    uses(Used::Engine);
    hostile_builder(On::Docker, Family::Deb, "hostile", "_1_all.deb");
    hostile_builder(EMBEDDED, Family::Deb, "hostile-alone", "_1_all.deb");
}

#[test]
fn what_a_hostile_builder_of_rpms_leaves_is_refused_by_name() {
    uses(Used::Engine);
    hostile_builder(On::Docker, Family::Rpm, "hostile-rpm", "-1-1.noarch.rpm");
}

/// `ending`: how the names of packages end.
fn hostile_builder(on: On, family: Family, test: &str, ending: &str) {
    let project = Project::quick_on(on, family, test, "hostile-demo");
    let named = |text: &str| text.replace("_1_all.deb", ending).replace(".deb", &ending[ending.len() - 4..]);
    project.run(&["repo"]).ok();
    let before = project.snapshot();
    let passwd = fs::read("/etc/passwd").expect("this machine's");

    // An engine that sends what no honest one would.
    let script = root().join("tests/tools/hostile_engine.py");
    let lies = [
        ("escape", r#"the builder left "../../etc/passwd" in its package folder: its path leaves the folder"#),
        ("absolute", r#"the builder left "/etc/passwd" in its package folder: its path leaves the folder"#),
        ("link", r#"the builder left "out/shadow_1_all.deb" in its package folder: it is a link"#),
        ("device", r#"the builder left "out/null_1_all.deb" in its package folder: it is a device"#),
        ("cut", "hostile-demo: what it left is not taken"),
        ("record", "a record before a member has 1099511627776 bytes, and at most 1048576 are read"),
    ];
    // (Nothing that could lie stands between us and our own engine.)
    for (kind, reason) in lies.into_iter().filter(|_| on == On::Docker) {
        let socket = project.join(&format!("{kind}.sock")).to_string_lossy().into_owned();
        let _engine = Helper::start(Command::new("python3").arg(&script).args([&socket, kind, ending]));
        project.write("hostile-demo/content", kind);
        let host = format!("unix://{socket}");
        project.run(&["repo", "--engine-host", &host]).fails_with(BUILD).says(&named(reason)).says("hint:");
        fs::remove_file(&socket).expect("its socket");
    }

    // A team's own builder image, on the real engine.
    let base = project.run(&["runtime", "--dockerfile"]).ok().out;
    let base = base_in(Path::new(base.trim()));
    project.edit("twostage.toml", |text| {
        let team = "[[component]]\nname = \"team\"\nsource = \"team\"\ndockerfile = \"Dockerfile\"\npackages = \"/packages\"\n\n[runtime.";
        text.replacen("[runtime.", team, 1)
    });
    fs::create_dir(project.join("team")).expect("a folder");
    let cases = [
        (
            "mkdir /packages; ln -s /etc/shadow /packages/shadow_1_all.deb",
            r#""packages/shadow_1_all.deb" in its package folder: it is a link"#,
        ),
        ("mkdir /packages; mknod /packages/null_1_all.deb c 1 3", r#""packages/null_1_all.deb" in its package folder: it is a device"#),
        (
            "mkdir /packages; mkfifo /packages/pipe_1_all.deb",
            r#""packages/pipe_1_all.deb" in its package folder: it is not a regular file"#,
        ),
        ("mkdir -p /packages/deep_1_all.deb", r#""packages/deep_1_all.deb/" in its package folder: it is a folder"#),
        ("mkdir /packages; touch '/packages/a b;c.deb'", r#""packages/a b;c.deb" in its package folder: it is not a name of a package"#),
        (
            "mkdir /packages; touch \"$(printf '/packages/a\\nb.deb')\"",
            r#""packages/a\nb.deb" in its package folder: it is not a name of a package"#,
        ),
        ("mkdir /packages; touch /packages/.hidden.deb", r#""packages/.hidden.deb" in its package folder: it is not a name of a package"#),
        ("ln -s /etc /packages", r#"in its package folder: it is a link"#),
        ("true", "what it left in /packages is not taken"),
        ("mkdir /packages", "team: the build left no package"),
        ("mkdir /packages; cp /etc/passwd /packages/passwd_1_all.deb", "passwd_1_all.deb"),
    ];
    // What is not a package's affair is refused by the same code for both.
    for (script, reason) in cases.iter().step_by(if family == Family::Deb { 1 } else { 5 }) {
        // (Nobody can make one there.)
        if on == EMBEDDED && script.contains("mknod") {
            continue;
        }
        project.write("team/Dockerfile", &named(&format!("FROM {base}\nRUN {script}\n")));
        project.run(&["repo"]).fails_with(BUILD).says(&named(reason)).says("hint:");
    }
    assert_eq!(fs::read("/etc/passwd").expect("this machine's"), passwd);
    assert_eq!(project.snapshot(), before, "the channel has not moved");
    let left: Vec<_> = fs::read_dir(project.join(".twostage")).expect("the state").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("collected-")), "{left:?}");
    on.remove(&format!("twostage-component:{}-team", if family == Family::Deb { "hello" } else { "hello-rpm" }));
}

#[test]
fn a_package_of_the_same_name_and_version_with_other_content_is_not_published() {
    for family in [Family::Deb, Family::Rpm] {
        let project = Project::example(family, "twice");
        let file = package(family, &project, "twice-demo", "1.0", "first");
        project.run(&["publish", &file]).ok();
        let before = project.snapshot();
        let other = package(family, &project, "twice-demo", "1.0", "second");
        let more = package(family, &project, "twice-more", "1.0", "more");
        project
            .run(&["publish", &more, &other])
            .fails_with(REPOSITORY)
            .says("twice-demo")
            .says("was published before with other content")
            .says("hint: give the changed package a new version");
        assert_eq!(project.snapshot(), before, "nothing is half-published");
    }
}

/// mmdebstrap hangs up on its whole process group when it cannot write: that must not be ours.
#[test]
fn a_bootstrap_that_fails_is_an_error_and_ends_nobody_else() {
    uses(Used::Engine);
    let project = Project::hello("base-fails");
    fs::create_dir(project.join("bin")).expect("a folder");
    // (Not HUP: whoever runs the tests may ignore that one, and then all below do.)
    project.write("bin/mmdebstrap", "#!/bin/sh\necho 'E: the disk is full' >&2\nkill -KILL 0\n");
    tool("chmod", &["755", &project.join("bin/mmdebstrap").to_string_lossy()]).ok();
    let path = format!("{}:{}", project.join("bin").display(), std::env::var("PATH").expect("a path"));
    // (Another test may have made the same base today.)
    let done = run(project.command(&["repo"]).env("PATH", path).env("XDG_CACHE_HOME", project.join("cache")).process_group(0));
    done.fails_with(8).says("mmdebstrap failed").says("the disk is full");
}
