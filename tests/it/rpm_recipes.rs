//! Other ways to an rpm: the distribution's own source package, and a team's own Dockerfile.

use crate::on::EMBEDDED;
use crate::rpm_clients::Manager;
use crate::support::{Family, Project, Used, docker, uses};
use std::fs;
use twostage_model::Format;

const SPEC: &str = "Name: words\nVersion: 1.0\nRelease: 3\nSummary: Words\nLicense: MIT\nBuildRequires: gcc, inih-devel >= 50\n\
                    Source0: words-1.0.tar.gz\n%description\nWords.\n%prep\n%autosetup -p1\n%build\ngcc %{optflags} words.c -o words\n\
                    %install\ninstall -D -m 755 words %{buildroot}%{_bindir}/words\ninstall -D -m 644 data %{buildroot}/usr/share/words/data\n\
                    %files\n%{_bindir}/words\n/usr/share/words\n";

/// Takes one build dependency of that away, and adds another.
const SPEC_PATCH: &str = "--- a/words.spec\n+++ b/words.spec\n@@ -4,5 +4,5 @@\n Summary: Words\n License: MIT\n\
                          -BuildRequires: gcc, inih-devel >= 50\n+BuildRequires: gcc, inih\n\
                          \x20Source0: words-1.0.tar.gz\n %description\n";

/// A package of the distribution that needs the one that the project makes.
const HELPER_SPEC: &str = "Name: helper\nVersion: 1.0\nRelease: 1\nSummary: Helper\nLicense: MIT\nBuildArch: noarch\nRequires: words >= 1.0\n\
                           %description\nHelper.\n%files\n";

/// Built with that.
const READER_SPEC: &str = "Name: reader\nVersion: 1.0\nRelease: 1\nSummary: Reader\nLicense: MIT\nBuildArch: noarch\n\
                           BuildRequires: helper\n%description\nReader.\n%install\nrpm -q helper\n\
                           mkdir -p %{buildroot}/usr/share/reader\ncp /usr/share/words/data %{buildroot}/usr/share/reader\n\
                           %files\n/usr/share/reader\n";

/// The stand-in's mirror, with one source package more.
const DOCKERFILE: &str = "FROM {base}\nCOPY words.spec words.c helper.spec /src/\n\
    RUN mkdir -p /src/words-1.0 /root/rpmbuild/SOURCES && cd /src && cp words.c words-1.0 && echo hello > words-1.0/data && \
    tar -czf /root/rpmbuild/SOURCES/words-1.0.tar.gz words-1.0 && rpmbuild -ba --nodeps words.spec && rpmbuild -bb helper.spec && cp -a /usr/share/distribution /d && \
    rm -rf /usr/share/distribution /d/repodata && mv /d /usr/share/distribution && \
    mv /root/rpmbuild/SRPMS/*.src.rpm /root/rpmbuild/RPMS/*/words-1.0*.rpm /root/rpmbuild/RPMS/*/helper*.rpm /usr/share/distribution && \
    createrepo_c --no-database /usr/share/distribution && rm -rf /root/rpmbuild /src\n";

const OWN_SPEC: &str = "Name: own\nVersion: 1.0\nRelease: 1\nSummary: Own\nLicense: MIT\nBuildArch: noarch\n%description\nOwn.\n%install\n\
                        mkdir -p %{buildroot}/usr/share/own\necho own > %{buildroot}/usr/share/own/data\n%files\n/usr/share/own\n";

const OWN_DOCKERFILE: &str = "ARG TWOSTAGE_BASE\nFROM ${TWOSTAGE_BASE}\nCOPY own.spec /\n\
    RUN rpmbuild -bb --define '_rpmdir /packages' --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' /own.spec\n";

#[test]
fn a_source_rpm_is_patched_and_built_and_a_dockerfile_leaves_rpms_and_the_distributions_may_need_one() {
    uses(Used::Engine);
    uses(Used::Dnf);
    let project = Project::built(Family::Rpm, "rpm-recipes");
    let lock = project.read("twostage.lock");
    let digests: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("digest = \"")).map(|digest| &digest[..12]).collect();
    let [base, builder] = digests[..] else { panic!("two bases: {digests:?}") };
    let mirror = "twostage-test-rpm-recipes-mirror";
    let context = project.join("mirror");
    fs::create_dir(&context).expect("a folder");
    fs::write(context.join("words.spec"), SPEC).expect("a file");
    fs::write(context.join("helper.spec"), HELPER_SPEC).expect("a file");
    fs::write(context.join("words.c"), "int main(void) { return 0; }\n").expect("a file");
    fs::write(context.join("Dockerfile"), DOCKERFILE.replace("{base}", &format!("twostage-base:{builder}"))).expect("a file");
    docker(&["build", "--tag", mirror, &context.to_string_lossy()]).ok();

    fs::create_dir(project.join("own")).expect("a folder");
    project.write("own/own.spec", OWN_SPEC);
    project.write("own/Dockerfile", OWN_DOCKERFILE);
    fs::create_dir(project.join("reader")).expect("a folder");
    project.write("reader/reader.spec", READER_SPEC);
    project.write("spec.patch", SPEC_PATCH);
    project.write("polite.patch", "--- a/data\n+++ b/data\n@@ -1 +1 @@\n-hello\n+good day\n");
    project.write(
        "twostage.toml",
        &format!(
            "[project]\nname = \"recipes\"\nformat = \"rpm\"\n[base]\nimage = \"{mirror}\"\n\
             [[component]]\nname = \"words\"\nsource = {{ distribution = \"words\" }}\npatches = [\"polite.patch\", \"spec.patch\"]\n\
             replaces = [\"words\"]\n\
             [[component]]\nname = \"reader\"\nsource = \"reader\"\nneeds = [\"words\"]\n\
             [[component]]\nname = \"own\"\nsource = \"own\"\ndockerfile = \"Dockerfile\"\npackages = \"/packages\"\n\
             [runtime.{}]\nbase = {{ image = \"twostage-base:{base}\" }}\npackages = [\"words\", \"own\", \"reader\"]\n",
            project.image
        ),
    );
    project.run(&["repo"]).ok();
    let locked = project.read("twostage.lock");
    assert!(locked.contains("words-1.0-3.src.rpm "), "{locked}");
    assert_eq!(closure(&project, "build:words"), ["inih x86_64 distribution"], "as the patched spec file asks");
    assert_eq!(closure(&project, "build:reader"), ["helper noarch distribution"], "and the words that it needs are ours");
    let channel = fs::read_to_string(project.join(&format!(".twostage/repository/snapshots/{}/SHA256SUMS", project.snapshot())));
    let names: Vec<String> = channel.expect("the list").lines().filter_map(|line| Some(line.split_once("  ")?.1.to_string())).collect();
    for part in [".src.rpm", "words-debuginfo-1.0-3.ts", "words-debugsource-1.0-3.ts", "own-1.0-1.noarch.rpm"] {
        assert!(names.iter().any(|name| name.contains(part)), "{part} is published: {names:?}");
    }
    project.run(&["runtime"]).ok();
    let said = docker(&[
        "run",
        "--rm",
        &project.image,
        "sh",
        "-c",
        "words && cat /usr/share/words/data /usr/share/own/data /usr/share/reader/data; rpm -qa",
    ])
    .ok()
    .out;
    assert!(said.starts_with("good day\nown\ngood day\n"), "{said}");
    for never in ["debuginfo", "debugsource", "devel"] {
        assert!(!said.contains(never), "{never} is not installed: {said}");
    }
    docker(&["image", "rm", "--force", mirror]).ok();
}

/// `examples/hello-rpm` on a base that has this package manager: builds, lock, image and audit.
fn whole_project_with(manager: Manager, test: &str) -> Project {
    uses(Used::Engine);
    let project = Project::example(Family::Rpm, test);
    for (made, name) in manager.bases().iter().zip(["base.tar", "builder.tar"]) {
        fs::remove_file(project.join(name)).expect("the other manager's");
        fs::hard_link(made, project.join(name)).expect("a link");
    }
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    assert_eq!(docker(&["run", "--rm", "--network=none", &project.image]).ok().out, "Hello, world!\n");
    let first = project.diff_ids();
    project.run(&["runtime", "--no-cache"]).ok();
    assert_eq!(project.diff_ids(), first, "the database, too, is the same again");
    project
}

/// The lock's lines of a closure, without what differs from mirror to mirror.
fn closure(project: &Project, of: &str) -> Vec<String> {
    let lock = project.read("twostage.lock");
    let closure = lock.split("\n[[closure]]\n").find(|closure| closure.starts_with(&format!("of = \"{of}\"")));
    let lines = closure.expect("its closure").lines().filter(|line| line.starts_with("  \""));
    let words = lines.map(|line| line.trim_matches([' ', '"', ',']).split(' ').map(String::from).collect::<Vec<_>>());
    words.map(|words| format!("{} {} {}", words[0], words[2], words[5])).collect()
}

#[test]
fn zypper_finds_what_builds_and_images_need() {
    uses(Used::Zypper);
    let project = whole_project_with(Manager::Zypper, "zypper-run");
    assert_eq!(closure(&project, "build:greet"), ["inih x86_64 distribution", "inih-devel x86_64 distribution"]);
    assert_eq!(closure(&project, &format!("runtime:{}", project.image)), ["inih x86_64 distribution"]);
    // What is locked is fetched again by its name, where the pool does not have it any more.
    fs::remove_dir_all(project.join(".twostage")).expect("the repository");
    let lock = project.read("twostage.lock");
    project.run(&["repo"]).ok();
    assert_eq!(project.read("twostage.lock"), lock);
}

#[test]
fn dnf5_finds_what_builds_and_images_need() {
    uses(Used::Dnf);
    let project = whole_project_with(Manager::Dnf5, "dnf5-run");
    assert_eq!(closure(&project, "build:greet"), ["inih x86_64 distribution", "inih-devel x86_64 distribution"]);
    assert_eq!(closure(&project, &format!("runtime:{}", project.image)), ["inih x86_64 distribution"]);
}

/// What the audit refuses must not be what every RUN leaves.
#[test]
fn the_run_takes_back_each_history_that_the_audit_refuses() {
    let handled = twostage_runtime_templates::volatile(Format::Rpm);
    let refused = twostage_image::rules::RESIDUE.iter().find(|rule| rule.name == "dnf-history").expect("the rule").paths;
    let left: Vec<&&str> = refused
        .iter()
        .filter(|path| {
            let path = format!("/{}", path.trim_end_matches("/**"));
            !handled.iter().any(|known| path == *known || path.strip_prefix(known).is_some_and(|rest| rest.starts_with('/')))
        })
        .collect();
    assert!(left.is_empty(), "the audit refuses what no RUN takes back: {left:?}");
}

#[test]
fn an_rpm_that_the_distribution_and_a_component_make_is_the_components_for_whoever_says_so() {
    uses(Used::Engine);
    uses(Used::Dnf);
    let project = Project::built_on(EMBEDDED, Family::Rpm, "rpm-missing-need");
    project.add_quick("inih-devel");
    project
        .run(&["repo"])
        .fails_with(3)
        .says("component `greet` is built against the distribution's inih-devel, and component `inih-devel` makes that")
        .says("hint: write needs = [\"libgreet\", \"inih-devel\"] in component `greet`");
    project.edit("twostage.toml", |text| text.replace("needs = [\"libgreet\"]", "needs = [\"libgreet\", \"inih-devel\"]"));
    // It is built against ours now, which has no header.
    project.run(&["repo"]).fails_with(4);
    let lock = project.read("twostage.lock");
    let closure = lock.split("[[closure]]").find(|closure| closure.contains("\"build:greet\"")).expect("a closure");
    assert!(closure.contains("\"own inih-devel\"") && !closure.contains("  \"inih-devel "), "{closure}");
}

#[test]
fn what_an_image_of_rpms_provides_settles_a_requirement() {
    uses(Used::Engine);
    uses(Used::Dnf);
    let project = Project::quick_on(EMBEDDED, Family::Rpm, "rpm-provides", "sender");
    project
        .edit("sender/sender.spec", |spec| spec.replace("License: MIT\n", "License: MIT\nRequires: (sendmail-of-none or smtp-of-none)\n"));
    project.run(&["repo"]).fails_with(3).says("smtp-of-none");
    project.edit("twostage.toml", |text| format!("{text}provides = [\"smtp-of-none\"]\n"));
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok().says("audited clean");
    let config = format!("{}-config", project.image);
    let provides = EMBEDDED.run(&project.image, &["rpm", "-q", "--provides", &config]);
    assert!(provides.lines().any(|line| line == "smtp-of-none"), "{provides}");
    assert_eq!(EMBEDDED.run(&project.image, &["rpm", "-V", "sender", &config]), "");
}
