//! Every kind of source and recipe, and what the distribution has newer.

use crate::on::EMBEDDED;
use crate::support::{Family, Project, Serving, Used, docker, long, tool, uses};
use std::fs;

/// Puts a component before the images of the project file.
fn add_component(project: &Project, table: &str) {
    project.edit("twostage.toml", |text| text.replacen("[runtime.", &format!("[[component]]\n{table}\n[runtime."), 1));
}

/// The image's table instead of that of `examples/hello`.
fn image_of(project: &Project, table: &str) {
    project.edit("twostage.toml", |text| {
        let (components, _) = text.split_once("[runtime.").expect("an image");
        format!("{components}[runtime.{}]\n{table}\n", project.image)
    });
}

/// The files of the channel's snapshot.
fn published(project: &Project) -> Vec<String> {
    let list = fs::read_to_string(project.join(&format!(".twostage/repository/snapshots/{}/SHA256SUMS", project.snapshot())));
    list.expect("the snapshot's list").lines().filter_map(|line| Some(line.split_once("  ")?.1.to_string())).collect()
}

/// `name` of every package that is installed in the project's image.
fn installed(project: &Project) -> Vec<String> {
    let out = docker(&["run", "--rm", &project.image, "dpkg-query", "--show", "--showformat", "${Package}\\n"]).ok().out;
    out.lines().map(String::from).collect()
}

#[test]
fn a_component_that_is_built_against_the_distributions_package_where_another_makes_it_is_told() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_on(EMBEDDED, Family::Deb, "missing-need");
    write_small(&project, "letters", "", "figlet", "");
    let build = "override_dh_auto_build:\n\ttest -e /usr/share/ours/changelog\n\t! test -e /usr/share/figlet\n";
    write_small(&project, "writer", ", libgreet-dev, figlet", "writer", build);
    add_component(&project, "name = \"letters\"\nsource = \"letters\"\nreplaces = [\"figlet\"]\n");
    add_component(&project, "name = \"writer\"\nsource = \"writer\"\nneeds = [\"libgreet\"]\n");
    let line = project.read("twostage.toml").lines().position(|line| line == "name = \"writer\"").expect("it is there") + 3;
    project
        .run(&["repo"])
        .fails_with(3)
        .says(&format!(":{line}: component `writer` is built against the distribution's figlet, and component `letters` makes that"))
        .says("hint: write needs = [\"libgreet\", \"letters\"] in component `writer`");
    assert!(!project.join(".twostage/logs/writer.log").exists(), "it was not built");
    project.run(&["lock"]).fails_with(3).says("component `letters` makes that");

    project.edit("twostage.toml", |text| {
        text.replace("\nneeds = [\"libgreet\"]\n\n[runtime", "\nneeds = [\"libgreet\", \"letters\"]\n\n[runtime")
    });
    let built = project.run(&["repo"]).ok();
    // Its log tells when each line came, and the line of its end where the time went.
    let log = project.read(".twostage/logs/writer.log");
    assert!(log.lines().all(|line| line.starts_with("T+0")) && log.contains(" twostage: phase build\n"), "{log}");
    let done = built.err.lines().find(|line| line.starts_with("writer: done, 1 package ")).expect("it was built");
    assert!(done.contains(": dependencies ") && done.contains(" s, build ") && done.ends_with(" s)"), "{done}");
    let lock = project.read("twostage.lock");
    let closure = lock.split("[[closure]]").find(|closure| closure.contains("\"build:writer\"")).expect("a closure");
    assert!(closure.contains("\"own figlet\"") && !closure.contains("  \"figlet "), "{closure}");

    // Where it would be a circle, the distribution's is what the first one is built with.
    project.edit("twostage.toml", |text| {
        let text = text.replace("needs = [\"libgreet\", \"letters\"]", "needs = [\"libgreet\"]");
        text.replace("replaces = [\"figlet\"]", "replaces = [\"figlet\"]\nneeds = [\"writer\"]")
    });
    project.write("writer/debian/rules", "#!/usr/bin/make -f\n%:\n\tdh $@\n");
    project.run(&["repo"]).ok();
}

#[test]
fn what_an_image_provides_settles_a_dependency_without_the_distributions_choice() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_on(EMBEDDED, Family::Deb, "provides");
    image_of(&project, "packages = [\"bsd-mailx\"]\nforbid = [\"exim4-*\"]");
    project.run(&["repo"]).fails_with(3).says("would have exim4-").says("bsd-mailx needs");
    image_of(&project, "packages = [\"bsd-mailx\"]\nforbid = [\"exim4-*\"]\nprovides = [\"mail-transport-agent\", \"imap-client\"]");
    project.run(&["runtime"]).fails_with(7).says("does not know provided ");
    project.run(&["repo"]).ok();
    let lock = project.read("twostage.lock");
    let closure = lock.split("[[closure]]").find(|closure| closure.contains("\"runtime:")).expect("a closure");
    assert!(closure.contains("  \"bsd-mailx ") && !closure.contains("exim4") && closure.contains("own = []"), "{closure}");
    project.run(&["runtime"]).ok().says("audited clean");
    let config = format!("{}-config", project.image);
    let query = ["dpkg-query", "--show", "--showformat", "${Package} ${Status} ${Provides}\\n", &config, "bsd-mailx"];
    let installed = EMBEDDED.run(&project.image, &query);
    let line = format!("{config} install ok installed mail-transport-agent, imap-client\n");
    assert!(installed.contains(&line) && installed.contains("bsd-mailx install ok installed"), "{installed}");
    project.run(&["repo", "--locked"]).ok();

    // An image above it has it, too, and files of its own.
    project.edit("twostage.toml", |text| {
        format!("{text}\n[runtime.{0}-above]\nbase = {{ image = \"{0}\" }}\npackages = [\"greet\", \"bsd-mailx\"]\nfiles = {{ \"/etc/above\" = \"twostage.toml\" }}\n", project.image)
    });
    project.run(&["repo"]).ok();
    assert!(!project.read("twostage.lock").contains("exim4"));
    project.run(&["runtime"]).ok();
}

const GREETING: &str = r#"Another greeting; the one test that knows the old one goes with it.
--- a/src/hello.c
+++ b/src/hello.c
@@ -57,7 +57,7 @@
 #endif
 
   /* Having initialized gettext, get the default message. */
-  greeting_msg = _("Hello, world!");
+  greeting_msg = _("Patched and built again.");
 
   /* Even exiting has subtleties.  On exit, if any writes failed, change
      the exit status.  The /dev/full device on GNU/Linux can be used for
"#;

/// What the same patch does to the packaging: one build dependency more, one only for documentation, and a file.
const PACKAGING: &str = r#"--- a/debian/control
+++ b/debian/control
@@ -3,7 +3,7 @@
 Priority: optional
 Maintainer: Santiago Vila <sanvila@debian.org>
 Standards-Version: 4.6.2
-Build-Depends: debhelper-compat (= 13), help2man, texinfo
+Build-Depends: debhelper-compat (= 13), help2man, texinfo <!nodoc>, figlet
 Homepage: https://www.gnu.org/software/hello/
 Vcs-Git: https://salsa.debian.org/sanvila/hello.git
 Vcs-Browser: https://salsa.debian.org/sanvila/hello
--- a/debian/rules
+++ b/debian/rules
@@ -5,5 +5,11 @@
 override_dh_auto_clean:
 	[ ! -f Makefile ] || $(MAKE) distclean
 
+override_dh_auto_install:
+	dh_auto_install -- MAKEINFO=:
+	mkdir -p debian/hello/usr/share/hello
+	figlet hi > debian/hello/usr/share/hello/banner
+	echo "$$FROM $$NAMES $$name $(DEB_BUILD_OPTIONS)" >> debian/hello/usr/share/hello/banner
+
 override_dh_installdocs:
 	dh_installdocs NEWS
"#;

#[test]
fn the_distributions_own_source_is_patched_built_published_with_sources_and_installed() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello("distribution");
    fs::create_dir(project.join("patches")).expect("a folder");
    project.write("patches/greeting.patch", &format!("{GREETING}{PACKAGING}"));
    tool("touch", &["--date", "2026-02-03 04:05:06 UTC", &project.join("patches/greeting.patch").to_string_lossy()]).ok();
    let table = "name = \"hello\"\nsource = { distribution = \"hello\" }\npatches = [\"patches/greeting.patch\"]\noptions = [\"nocheck\"]\n\
                 profiles = [\"nodoc\"]\nenv = { FROM = \"from $HOME & co\", NAMES = \"two words\", name = \"a; b\" }\nparallel = 3\n";
    add_component(&project, table);
    image_of(&project, "packages = [\"hello\"]\ncheck = [\"hello\"]");
    let built = project.run(&["repo"]).ok();
    let log = project.read(".twostage/logs/hello.log");
    assert!(log.contains("applying 000-greeting.patch") || log.contains("applying patch twostage-000-greeting.patch"), "{log}");
    let lock = project.read("twostage.lock");
    assert!(lock.contains("[[source]]\nof = \"hello\"\n"), "the source is locked: {}", built.err);
    // The closure is that of the patched debian/control, without what its profile leaves out.
    assert!(lock.contains("\n  \"figlet ") && !lock.contains("\n  \"texinfo "), "{lock}");

    // The date of the version is the patch's, as nothing else here has one.
    let files = published(&project);
    for start in ["hello_2.10-3+bts20260203040506.", "hello-dbgsym_2.10-3+bts20260203040506."] {
        assert!(files.iter().any(|file| file.starts_with(start) && file.ends_with("_amd64.deb")), "{start}: {files:?}");
    }
    assert!(files.iter().any(|file| file.starts_with("hello_2.10-3+bts20260203040506.") && file.ends_with(".dsc")), "{files:?}");

    project.run(&["runtime"]).ok();
    assert_eq!(docker(&["run", "--rm", &project.image, "hello"]).ok().out, "Patched and built again.\n");
    let banner = docker(&["run", "--rm", &project.image, "cat", "/usr/share/hello/banner"]).ok().out;
    assert!(banner.ends_with("\nfrom $HOME & co two words a; b nocheck nodoc parallel=3\n"), "{banner}");
    let installed = installed(&project);
    assert!(installed.iter().any(|name| name == "hello") && !installed.iter().any(|name| name.ends_with("-dbgsym")), "{installed:?}");

    // Whoever gets the program gets its source: by real apt, with the patch in it.
    let serving = Serving::of(project.path());
    let script = format!(
        "set -e; /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file http://{}/main.sources /tmp/main.sources; \
         rm -r /etc/apt/sources.list; sed 's/^Types: deb$/Types: deb deb-src/' /tmp/main.sources > /etc/apt/sources.list.d/main.sources; \
         apt-get update; cd /out; apt-get -o APT::Sandbox::User=root source --download-only hello",
        serving.address
    );
    let out = project.join("out");
    fs::create_dir(&out).expect("a folder");
    let volume = format!("{}:/out", out.display());
    docker(&["run", "--rm", "--network=host", "--volume", &volume, &project.base(), "sh", "-c", &script]).ok();
    let names: Vec<String> =
        fs::read_dir(&out).expect("a folder").flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let debian = names.iter().find(|name| name.ends_with(".debian.tar.xz")).unwrap_or_else(|| panic!("{names:?}"));
    let debian = out.join(debian).to_string_lossy().into_owned();
    let patch = tool("tar", &["--extract", "--to-stdout", "--file", &debian, "debian/patches/twostage-000-greeting.patch"]).ok().out;
    assert_eq!(patch, GREETING);

    let again = Project::outcomes(&project.run(&["--json", "repo", "--locked"]).ok());
    assert_eq!(again["hello"], "unchanged");

    // Without the patch it is newer all the same, the source that is published is the distribution's, and each package
    // names it, as Debian's own binary rebuilds do: scanners look there for the version that a hole was mended in.
    let patched = deb_of(&project, "hello_2.10-3+bts");
    project
        .edit("twostage.toml", |text| text.replace("patches = [\"patches/greeting.patch\"]\n", "").replace("profiles = [\"nodoc\"]\n", ""));
    project.run(&["repo"]).ok();
    let plain = deb_of(&project, "hello_2.10-3+bts");
    let field = |deb: &str, field: &str| tool("dpkg-deb", &["--field", deb, field]).ok().out.trim().to_string();
    tool("dpkg", &["--compare-versions", &field(&plain, "Version"), "gt", &field(&patched, "Version")]).ok();
    assert_eq!((field(&patched, "Source"), field(&plain, "Source")), (String::new(), "hello (2.10-3)".to_string()));
    let files = published(&project);
    let sources: Vec<&String> = files.iter().filter(|file| file.ends_with(".dsc") && file.starts_with("hello_")).collect();
    assert_eq!(sources, ["hello_2.10-3.dsc"], "{files:?}");

    if long() {
        // In another repository no patch was there before: the only date is that of the changelog.
        fs::remove_dir_all(project.join(".twostage/repository")).expect("the repository goes");
        project.run(&["repo"]).ok();
        let deb = deb_of(&project, "hello_2.10-3+bts");
        let contents = tool("dpkg-deb", &["--contents", &deb]).ok().out;
        assert!(contents.contains("./usr/bin/hello\n") && !contents.contains(" 1970-"), "{contents}");
        assert!(field(&deb, "Version").starts_with("2.10-3+bts20221226"), "{}", field(&deb, "Version"));
    }
}

/// The one package that is published under a name that starts so, as a file.
fn deb_of(project: &Project, start: &str) -> String {
    let list = project.read(&format!(".twostage/repository/snapshots/{}/SHA256SUMS", project.snapshot()));
    let line = list.lines().find(|line| line.contains(&format!("  {start}")) && line.ends_with(".deb")).expect("it is published");
    project.join(&format!(".twostage/repository/pool/{}/{}", &line[..2], &line[..64])).to_string_lossy().into_owned()
}

#[test]
fn a_tarball_and_a_git_revision_are_built_at_the_same_time() {
    uses(Used::Engine);
    let project = Project::quick("sources", "from-tarball");
    project.add_quick("from-git");

    let tarball = project.join("from-tarball-1.0.tar.gz").to_string_lossy().into_owned();
    tool("tar", &["--create", "--gzip", "--file", &tarball, "--directory", &project.path().to_string_lossy(), "from-tarball"]).ok();
    fs::remove_dir_all(project.join("from-tarball")).expect("the folder goes");
    let digest = tool("sha256sum", &[&tarball]).ok().out[..64].to_string();
    let wrong = "0".repeat(64);
    let of_tarball = |digest: &str| format!("source = {{ url = \"file://{tarball}\", sha256 = \"{digest}\" }}");
    project.edit("twostage.toml", |text| text.replace("source = \"from-tarball\"", &of_tarball(&wrong)));

    let repository = project.join("from-git").to_string_lossy().into_owned();
    let git = |arguments: &[&str]| {
        let who = ["-C", &repository, "-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"];
        tool("git", &[&who[..], arguments].concat()).ok().out.trim().to_string()
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "First"]);
    let revision = git(&["rev-parse", "HEAD"]);
    // What came later does not count: the revision does.
    project.write("from-git/content", "second\n");
    git(&["commit", "--quiet", "--all", "--message", "Second"]);
    let bare = project.join("elsewhere.git").to_string_lossy().into_owned();
    tool("git", &["clone", "--quiet", "--bare", &repository, &bare]).ok();
    fs::remove_dir_all(&repository).expect("the folder goes");
    project.edit("twostage.toml", |text| {
        text.replace("source = \"from-git\"", &format!("source = {{ git = \"{bare}\", revision = \"{revision}\" }}"))
    });

    let refused = project.run(&["repo"]).fails_with(3);
    refused
        .says("is not what the project file says")
        .says(&format!("its sha256 is {digest}"))
        .says("write this digest into the project file");

    project.edit("twostage.toml", |text| text.replace(&wrong, &digest));
    project.run(&["repo", "--jobs", "1"]).ok();
    assert!(project.read(".twostage/logs/from-git.log").contains("dpkg-deb"));
    let files = published(&project);
    for name in ["from-tarball", "from-git"] {
        for end in ["_all.deb", ".dsc"] {
            let start = format!("{name}_1.0+bts");
            assert!(files.iter().any(|file| file.starts_with(&start) && file.ends_with(end)), "{start}…{end}: {files:?}");
        }
    }
    image_of(&project, "packages = [\"from-tarball\", \"from-git\"]");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let contents = ["run", "--rm", &project.image, "cat", "/usr/share/from-tarball/content", "/usr/share/from-git/content"];
    assert_eq!(docker(&contents).ok().out, "first\nfirst\n");

    // Neither needs the other: both are being built before one of them is finished.
    project.edit("twostage.toml", |text| text.replace("source = {", "options = [\"again\"]\nsource = {"));
    let events = project.run(&["--json", "repo", "--jobs", "2"]).ok().out;
    let events: Vec<serde_json::Value> = events.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let place = |kind: &str, subject: &str| {
        let found =
            events.iter().position(|e| e["event"] == kind && e["subject"] == subject && (kind != "started" || e["step"] == "building"));
        found.unwrap_or_else(|| panic!("no {kind} of {subject} in {events:?}"))
    };
    let last_start = place("started", "from-git").max(place("started", "from-tarball"));
    let first_end = place("finished", "from-git").min(place("finished", "from-tarball"));
    assert!(last_start < first_end, "one after the other: {events:?}");
}

/// As `docs/decisions/fixed-host.md` says.
const BY_HAND: &str = r#"ARG TWOSTAGE_BASE
FROM ${TWOSTAGE_BASE}
ARG TWOSTAGE_SNAPSHOT
RUN set -eu; \
    P=Acquire::http::Proxy::repository.twostage.invalid=$ftp_proxy; \
    URL=http://repository.twostage.invalid/@$TWOSTAGE_SNAPSHOT.sources; \
    /usr/lib/apt/apt-helper -o $P -o APT::Sandbox::User=root download-file $URL /etc/apt/sources.list.d/twostage.sources; \
    rm /etc/apt/sources.list; \
    apt-get -o $P update; \
    apt-get -o $P install -y --no-install-recommends libgreet-dev
COPY control /deb/DEBIAN/control
RUN set -eu; mkdir -p /packages /deb/usr/share/by-hand; \
    cp /usr/include/greet.h /deb/usr/share/by-hand/; \
    dpkg-deb --root-owner-group --build /deb /packages
"#;

/// A component with one package, built with debhelper and what it needs besides.
fn write_small(project: &Project, name: &str, needs: &str, package: &str, build: &str) {
    fs::create_dir_all(project.join(&format!("{name}/debian"))).expect("a folder");
    let changelog = "(0.2.9) unstable; urgency=medium\n\n  * Made.\n\n -- T <t@example.invalid>  Mon, 05 Jan 2026 10:00:00 +0000\n";
    project.write(&format!("{name}/debian/changelog"), &format!("{name} {changelog}"));
    let control = format!(
        "Source: {name}\nMaintainer: T <t@example.invalid>\nStandards-Version: 4.6.2\nBuild-Depends: debhelper-compat (= 13){needs}\n\n\
         Package: {package}\nArchitecture: any\nDepends: ${{misc:Depends}}\nDescription: made by the project\n Nothing.\n"
    );
    project.write(&format!("{name}/debian/control"), &control);
    project.write(&format!("{name}/debian/{package}.install"), "debian/changelog usr/share/ours\n");
    project.write(&format!("{name}/debian/rules"), &format!("#!/usr/bin/make -f\n%:\n\tdh $@\n{build}"));
    tool("chmod", &["755", &project.join(&format!("{name}/debian/rules")).to_string_lossy()]).ok();
}

/// A library of the distribution's, made by the project under its name.
fn write_libyaml(project: &Project) {
    // It has the distribution's name, and lost nearly every function.
    let folder = "debian/libyaml-0-2/usr/lib/$(DEB_HOST_MULTIARCH)";
    let library = format!(
        "include /usr/share/dpkg/architecture.mk\noverride_dh_auto_install:\n\tmkdir -p {folder}\n\
         \t$(CC) -shared -fPIC -Wl,-soname,libyaml-0.so.2 -o {folder}/libyaml-0.so.2 yaml.c\n"
    );
    write_small(project, "libyaml", "", "libyaml-0-2", &library);
    project.write("libyaml/yaml.c", "int yaml_parser_initialize(void) { return 0; }\n");
    let build = "override_dh_auto_build:\n\tpython3 -c 'import yaml'\n\ttest -e /usr/share/ours/changelog\n";
    write_small(project, "reader", ", python3-yaml", "reader", build);
    fs::remove_file(project.join("reader/debian/reader.install")).expect("it was written");
}

/// The founding case: one part of a stack is rebuilt, and what the distribution has above it is used as it is.
#[test]
fn a_package_of_the_distribution_that_needs_one_of_ours_is_there_when_another_component_is_built() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello("middle");
    write_libyaml(&project);
    add_component(&project, "name = \"libyaml\"\nsource = \"libyaml\"\nreplaces = [\"libyaml-0-2\"]\n");
    add_component(&project, "name = \"reader\"\nsource = \"reader\"\nneeds = [\"libyaml\"]\n");
    project.run(&["repo"]).ok();
    let lock = project.read("twostage.lock");
    let closure = lock.split("[[closure]]").find(|closure| closure.contains("\"build:reader\"")).expect("a closure");
    assert!(closure.contains("\"python3-yaml ") && !closure.contains("\"libyaml-0-2 "), "{closure}");
    let why = project.run(&["why", "python3-yaml"]).ok().out;
    assert!(why.contains("build:reader") && why.contains("python3-yaml was asked for"), "{why}");
    let why = project.run(&["why", "libyaml-0-2"]).ok().out;
    assert!(why.contains("python3-yaml needs libyaml-0-2"), "{why}");
    // What an image forbids is refused with the chain that leads there.
    image_of(&project, "packages = [\"greet\"]\nforbid = [\"systemd\", \"libyaml-*\"]");
    project
        .run(&["repo"])
        .fails_with(3)
        .says("would have libyaml-0-2, which `forbid = [\"libyaml-*\"]` keeps out")
        .says("greet needs libyaml-0-2");
    image_of(&project, "packages = [\"greet\"]\nforbid = [\"systemd\"]");
    project.run(&["repo"]).ok();
    // An image whose program cannot start gets no name, unless the project says that this may be.
    project
        .run(&["runtime"])
        .fails_with(1)
        .says("a program or library lacks what it needs; nothing is tagged")
        .says("/usr/bin/greet (greet): nothing that it loads has 6 symbols that it needs: yaml_document_delete, ")
        .says("hint: name the package that has it in `packages`, or rebuild what needs it; unlinked = [\"/usr/bin/greet\"]");
    image_of(&project, "packages = [\"greet\"]\nunlinked = [\"/usr/bin/gr*t\"]");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let audit = project.run(&["audit", &project.image]).ok().out;
    assert!(audit.contains("nothing is missing; 1 piece of what may be missing is"), "{audit}");
    image_of(&project, "packages = [\"greet\"]");
    project.run(&["runtime"]).fails_with(1);
    // A change of the library makes no other builder image.
    project.edit("libyaml/debian/changelog", |text| text.replace("Made.", "Made again."));
    let again = project.run(&["repo"]).ok();
    assert!(!again.err.contains("reader: making a builder image"), "{}", again.err);
    assert_eq!(Project::outcomes(&project.run(&["--json", "repo"]).ok())["reader"], "unchanged");
}

#[test]
fn packages_whose_programs_lack_a_library_or_symbols_are_not_published() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_on(EMBEDDED, Family::Deb, "unlinked");
    let before = published(&project);
    let build = "include /usr/share/dpkg/architecture.mk\nL = debian/lost/usr/lib/$(DEB_HOST_MULTIARCH)\n\
        override_dh_auto_install:\n\tmkdir -p debian/lost/usr/bin $L\n\
        \t$(CC) -shared -fPIC -Wl,-soname,liblost.so.1 -o $L/liblost.so.1 lost.c\n\
        \t$(CC) -o debian/lost/usr/bin/lost main.c $L/liblost.so.1 -Wl,--allow-shlib-undefined\n\
        \ttrue made\n";
    write_small(&project, "lost", "", "lost", build);
    project.write("lost/main.c", "int lost(void); int main(void) { return lost(); }\n");
    project.write("lost/lost.c", "int nowhere(void); int lost(void) { return nowhere(); }\n");
    add_component(&project, "name = \"lost\"\nsource = \"lost\"\n");
    project
        .run(&["repo"])
        .fails_with(4)
        .says("lost: lost_0.2.9")
        .says("/liblost.so.1 needs the symbol nowhere, which none of its libraries has")
        .says("hint: link it with the library that has them");
    assert_eq!(published(&project), before);

    // A library that is there when it is linked, and that no package brings.
    project.write("lost/lost.c", "int lost(void) { return 0; }\n");
    project.edit("lost/debian/rules", |text| {
        // (debhelper would find it, where nobody tells it not to look.)
        let text = text.replace("-soname,liblost.so.1", "-soname,libgone.so.1").replace("true made", "rm $L/liblost.so.1");
        format!("{text}override_dh_shlibdeps:\n")
    });
    project
        .run(&["repo"])
        .fails_with(4)
        .says("/usr/bin/lost needs libgone.so.1, which neither the component's packages, ")
        .says("hint: let one of the component's packages bring libgone.so.1");
    assert_eq!(published(&project), before);

    project.edit("twostage.toml", |text| text.replace("source = \"lost\"\n", "source = \"lost\"\nunlinked = [\"/usr/bin/lo*\"]\n"));
    project.run(&["repo"]).ok();
    assert!(published(&project).iter().any(|file| file.starts_with("lost_0.2.9")));
}

#[test]
fn symbols_that_a_rebuilt_library_of_the_distribution_lost_are_told() {
    // It builds two of the distribution's sources: the comparison itself has tests that are quick.
    if !long() {
        return;
    }
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_on(EMBEDDED, Family::Deb, "lost-symbols");
    // A library with the functions that the distribution's has, but for those of one name.
    let build = |package: &str, library: &str| {
        let folder = format!("debian/{package}/usr/lib/$(DEB_HOST_MULTIARCH)");
        format!(
            "include /usr/share/dpkg/architecture.mk\noverride_dh_auto_install:\n\tmkdir -p {folder}\n\
             \tnm -D --defined-only /usr/lib/$(DEB_HOST_MULTIARCH)/{library} | sed -n 's/.* [TW] //p' | grep -vxf dropped >names\n\
             \tsed 's/.*/int &(void) {{ return 0; }}/' names >made.c\n\
             \t$(CC) -shared -fPIC -fno-builtin -Wl,-soname,{library} -o {folder}/{library} made.c\n"
        )
    };
    // One is in the lock, because a build dependency of the project needs it; the other one is in the base.
    for (name, needs, package, library) in
        [("libyaml", ", libyaml-dev", "libyaml-0-2", "libyaml-0.so.2"), ("lz4", "", "liblz4-1", "liblz4.so.1")]
    {
        write_small(&project, name, needs, package, &build(package, library));
        project.write(&format!("{name}/dropped"), "none\n");
        add_component(&project, &format!("name = \"{name}\"\nsource = \"{name}\"\nreplaces = [\"{package}\"]\n"));
    }
    let same = project.run(&["--json", "build", "libyaml", "lz4"]).ok();
    assert!(!same.out.contains("symbols-lost"), "{}", same.out);
    assert!(Project::outcomes(&same)["libyaml"] == "done" && Project::outcomes(&same)["lz4"] == "done", "{}", same.out);

    project.write("libyaml/dropped", "yaml_get_version\nyaml_parser_parse\n");
    project.write("lz4/dropped", "LZ4_compress_default\n");
    let told = project.run(&["build", "libyaml", "lz4"]).ok();
    let note = told.err.lines().find(|line| line.contains("libyaml: note: libyaml-0-2_0.2.9")).expect("it is told").to_string();
    assert!(note.contains("/libyaml-0.so.2 lacks 2 symbols that it has in libyaml-0-2 0.2.5-1 amd64: "), "{note}");
    assert!(note.ends_with(": yaml_get_version, yaml_parser_parse"), "{note}");
    told.says("/liblz4.so.1 lacks a symbol that it has in the base: LZ4_compress_default\n");

    project.write("lz4/dropped", "LZ4_compress_default\nLZ4_decompress_safe\n");
    let told = project.run(&["--json", "build", "libyaml", "lz4"]).ok();
    let events: Vec<serde_json::Value> = told.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lost: Vec<_> = events.iter().filter(|event| event["event"] == "symbols-lost").collect();
    let [lost] = lost.as_slice() else { panic!("what is unchanged is not looked into again: {lost:?}") };
    assert_eq!((&lost["subject"], &lost["original"], &lost["count"]), (&"lz4".into(), &"the base".into(), &2.into()));
    assert_eq!(lost["symbols"], serde_json::json!(["LZ4_compress_default", "LZ4_decompress_safe"]));
}

#[test]
fn a_teams_own_dockerfile_builds_against_our_packages() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello("by-hand");
    fs::create_dir(project.join("by-hand")).expect("a folder");
    project.write("by-hand/Dockerfile", BY_HAND);
    let control = |version: &str| {
        format!("Package: by-hand\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.invalid>\nDescription: made by hand\n")
    };
    project.write("by-hand/control", &control("1"));
    let table = "name = \"by-hand\"\nsource = \"by-hand\"\ndockerfile = \"Dockerfile\"\npackages = \"/packages\"\nneeds = [\"libgreet\"]\n";
    add_component(&project, table);
    image_of(&project, "packages = [\"by-hand\"]");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let header = docker(&["run", "--rm", &project.image, "cat", "/usr/share/by-hand/greet.h"]).ok().out;
    assert_eq!(header, project.read("libgreet/greet.h"), "the header came out of our own libgreet-dev");
    let unchanged = Project::outcomes(&project.run(&["--json", "repo"]).ok());
    assert!(unchanged.len() == 3 && unchanged.values().all(|outcome| outcome == "unchanged"), "{unchanged:?}");

    // Another library gives another package: one that does not say so in its version is refused.
    project.edit("libgreet/greet.h", |text| format!("{text}/* more */\n"));
    project
        .run(&["repo"])
        .fails_with(5)
        .says("error: by-hand version 1 (all) was published before with other content")
        .says("hint: give the changed package a new version");
    project.write("by-hand/control", &control("2"));
    let outcomes = Project::outcomes(&project.run(&["--json", "repo"]).ok());
    assert_eq!(outcomes["by-hand"], "done");
    project.run(&["runtime"]).ok();
    let header = docker(&["run", "--rm", &project.image, "cat", "/usr/share/by-hand/greet.h"]).ok().out;
    assert!(header.ends_with("/* more */\n"), "{header}");

    project.edit("by-hand/Dockerfile", |text| text.replace("libgreet-dev\n", "libgreet-dev no-such-package\n"));
    project
        .run(&["repo"])
        .fails_with(4)
        .says("Unable to locate package no-such-package")
        .says("the whole log is in .twostage/logs/by-hand.log");
    let _ = docker(&["image", "rm", "--force", "twostage-component:hello-by-hand"]);
}

#[test]
fn outdated_and_update_compare_the_lock_with_the_mirror() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello("outdated");
    let fresh = project.read("twostage.lock");
    let outdated = project.run(&["-v", "outdated"]).ok();
    assert_eq!(outdated.out, "nothing is newer than the lock\n");
    // Each of the three closures was found anew, and of packages that are here only the lists came.
    let got: Vec<&str> = outdated.err.lines().filter(|line| line.contains(" | Get:")).collect();
    assert!(got.len() > 3, "{}", outdated.err);
    let packages: Vec<_> = got.iter().filter(|line| !line.contains(" InRelease [") && !line.contains(" Packages [")).collect();
    assert!(packages.is_empty(), "downloaded again: {packages:#?}");
    assert_eq!(project.read("twostage.lock"), fresh, "outdated writes nothing");

    // A lock that is behind: as if an older version had been locked.
    let older = "  \"libyaml-0-2 0.2.4-9 amd64 ";
    let newest = fresh.lines().find(|line| line.starts_with("  \"libyaml-0-2 ")).expect("it is in the lock").to_string();
    let version = newest.split(' ').nth(3).expect("a version").to_string();
    project.write("twostage.lock", &fresh.replace(&format!("  \"libyaml-0-2 {version} amd64 "), older));
    let shown: serde_json::Value = serde_json::from_str(project.run(&["--json", "outdated"]).ok().last_line()).expect("JSON");
    let image = &project.image;
    let origin = newest.rsplit_once(' ').expect("an origin").1.trim_end_matches([',', '"']);
    let of = ["build:greet".to_string(), format!("runtime:{image}")];
    let change = serde_json::json!({
        "package": "libyaml-0-2", "locked": "0.2.4-9", "newest": version, "origin": origin, "of": of, "security": false,
    });
    assert_eq!(shown, serde_json::json!({ "event": "outdated", "changes": [change] }));

    let base_of = |lock: &str| lock.lines().find(|line| line.starts_with("digest = ")).map(String::from);
    let updated = project.run(&["update"]).ok().says(&format!("libyaml-0-2 0.2.4-9 -> {version}"));
    assert!(updated.last_line().ends_with("packages of the distribution locked"), "{}", updated.out);
    let lock = project.read("twostage.lock");
    assert!(!lock.contains("0.2.4-9") && lock.contains(&newest), "the lock is at the newest");
    // The same day's mirror gives the same base; at midnight it is another, which is said.
    assert_eq!(
        base_of(&lock) != base_of(&fresh),
        updated.err.contains("base: note: bootstrap debian:bookworm moved to"),
        "{}",
        updated.err
    );
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    assert_eq!(docker(&["run", "--rm", image]).ok().out, "Hello, world!\n");
}
