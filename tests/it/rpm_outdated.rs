//! `outdated` and `update` where the distribution is one of rpms: its mirror gets newer packages, and
//! an advisory says which of them mend a fault of security.

use crate::rpm_clients::Manager;
use crate::support::{Family, Helper, Project, Used, docker, image_name, run, tool, uses};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn dnf_tells_what_is_newer_and_what_is_for_security() {
    uses(Used::Dnf);
    tells_what_is_newer(Manager::Dnf);
}

#[test]
fn dnf5_tells_what_is_newer_and_what_is_for_security() {
    uses(Used::Dnf);
    tells_what_is_newer(Manager::Dnf5);
}

#[test]
fn zypper_tells_what_is_newer_and_what_is_for_security() {
    uses(Used::Zypper);
    tells_what_is_newer(Manager::Zypper);
}

/// Serves a folder on a port of its own, and says which.
const SERVER: &str = "import http.server, sys\n\
    class Quiet(http.server.SimpleHTTPRequestHandler):\n    def log_message(self, *words): pass\n\
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), lambda *a: Quiet(*a, directory=sys.argv[1]))\n\
    print(server.server_port, flush=True)\nserver.serve_forever()\n";

const OWN: &str = "Name: own\nVersion: 1\nRelease: 1\nSummary: Own\nLicense: MIT\nBuildArch: noarch\nRequires: alpha, omega\n%description\nOwn.\n\
                   %install\nmkdir -p %{buildroot}/usr/share/own\n%files\n/usr/share/own\n";

/// Puts an empty package into a mirror.
fn add(mirror: &Path, name: &str, version: &str) {
    let spec = mirror.with_extension("spec");
    let text = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: Empty\nLicense: MIT\nBuildArch: noarch\n%description\nEmpty.\n%files\n"
    );
    fs::write(&spec, text).expect("a spec file");
    let folder = mirror.to_string_lossy();
    run(Command::new("rpmbuild")
        .args(["-bb", "--define", &format!("_topdir {folder}.build"), "--define", &format!("_rpmdir {folder}")])
        .args(["--define", "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"])
        .arg(&spec))
    .ok();
}

/// An advisory that names version 2 of these packages.
fn advisory(names: &[&str]) -> String {
    let package = |name: &&str| {
        format!(
            "<package name=\"{name}\" epoch=\"0\" version=\"2\" release=\"1\" arch=\"noarch\"><filename>{name}-2-1.noarch.rpm</filename></package>"
        )
    };
    format!(
        "<updates><update from=\"security@standin.example\" status=\"final\" type=\"security\" version=\"1\"><id>SA-2026-1</id><title>Faults</title>\
         <issued date=\"2026-01-01 00:00:00\"/><severity>Important</severity><description>Faults.</description><pkglist><collection><name>All</name>{}\
         </collection></pkglist></update></updates>\n",
        names.iter().map(package).collect::<String>()
    )
}

fn tells_what_is_newer(manager: Manager) {
    uses(Used::Engine);
    let test = format!("outdated-{manager:?}").to_lowercase();
    let project = Project::example(Family::Rpm, &test);
    let mirror = project.join("mirror");
    fs::create_dir(&mirror).expect("a folder");
    let index = || tool("createrepo_c", &["--quiet", "--no-database", &mirror.to_string_lossy()]).ok();
    for name in ["alpha", "omega", "in-base"] {
        add(&mirror, name, "1");
    }
    index();
    let server = Helper::start(Command::new("python3").args(["-c", SERVER]).arg(&mirror));

    // A base that asks this mirror, and has a package of it already.
    let base = image_name(&format!("{test}-base"));
    let [_, builder] = manager.images();
    let context = project.join("context");
    fs::create_dir(&context).expect("a folder");
    fs::copy(mirror.join("in-base-1-1.noarch.rpm"), context.join("in-base.rpm")).expect("a package");
    let dockerfile = format!(
        "FROM {builder}\nCOPY in-base.rpm /\nRUN rpm --install --nodeps /in-base.rpm && rm /in-base.rpm && \
         find /etc -name distribution.repo -exec sed -i 's,^baseurl=.*,baseurl=http://127.0.0.1:{}/,' {{}} +\n",
        server.line
    );
    fs::write(context.join("Dockerfile"), dockerfile).expect("a file");
    docker(&["build", "--network=none", "--tag", &base, &context.to_string_lossy()]).ok();
    fs::create_dir(project.join("own")).expect("a folder");
    project.write("own/own.spec", OWN);
    project.write(
        "twostage.toml",
        &format!(
            "[project]\nname = \"{test}\"\nformat = \"rpm\"\n[base]\nimage = \"{base}\"\n[[component]]\nname = \"own\"\nsource = \"own\"\n\
             [runtime.{}]\npackages = [\"own\"]\n",
            project.image
        ),
    );
    project.run(&["repo"]).ok();
    assert!(project.read("twostage.lock").contains("\"omega 1-1 noarch "), "{}", project.read("twostage.lock"));
    assert_eq!(project.run(&["outdated"]).ok().last_line(), "nothing is newer than the lock");

    for name in ["alpha", "omega", "in-base"] {
        add(&mirror, name, "2");
    }
    index();
    let updateinfo = project.join("updateinfo.xml");
    fs::write(&updateinfo, advisory(&["omega", "in-base"])).expect("a file");
    tool("modifyrepo_c", &[&updateinfo.to_string_lossy(), &mirror.join("repodata").to_string_lossy()]).ok();
    let said = project.run(&["-q", "outdated"]).ok().out;
    let image = &project.image;
    assert_eq!(
        said,
        format!(
            "security  in-base 1-1 -> 2-1  (base)\nsecurity  omega 1-1 -> 2-1  (runtime:{image})\nalpha 1-1 -> 2-1  (runtime:{image})\n\
             3 newer, 2 of them security; `twostage update` moves to them\n"
        )
    );
    project.run(&["update"]).ok();
    let lock = project.read("twostage.lock");
    for locked in ["\"alpha 2-1 noarch ", "\"omega 2-1 noarch "] {
        assert!(lock.contains(locked), "{lock}");
    }
    docker(&["image", "rm", "--force", &base]).ok();
}
