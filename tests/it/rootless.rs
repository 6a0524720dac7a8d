//! The whole command without a daemon and without being root: an ordinary user, in a mount namespace of its own, where
//! /etc/passwd, /etc/subuid and /etc/subgid are private copies. The machine's own files are never written.

use crate::on::{EMBEDDED, On};
use crate::support::{Done, Family, Project, Used, run, tool, twostage, uses};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const USER: u32 = 65_432;

/// A user's copy of a project, and a store of its own.
struct User {
    folder: tempfile::TempDir,
    on: On,
}

impl User {
    /// `range`: lines of /etc/subuid and /etc/subgid.
    fn with(project: &Project, name: &'static str, range: &str) -> User {
        // (Other users may not come into the folder of this repository.)
        let folder = tempfile::Builder::new().prefix("twostage-rootless").tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        tool("cp", &["-a", &project.path().to_string_lossy(), &at("project")]).ok();
        tool("cp", &[&twostage().get_program().to_string_lossy(), &at("twostage")]).ok();
        fs::create_dir(at("store")).expect("a folder");
        fs::create_dir(at("home")).expect("a folder");
        fs::write(at("range"), range).expect("a file");
        let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        fs::write(at("passwd"), format!("{users}twostage-test:x:{USER}:{USER}::/nowhere:/bin/sh\n")).expect("a file");
        tool("chown", &["-R", &format!("{USER}:{USER}"), &at("")]).ok();
        let user = User { on: On::Embedded(name), folder };
        std::os::unix::fs::symlink(user.at("store"), user.on.store()).expect("a link");
        user
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Done {
        let script = "set -e; mount --bind $0/passwd /etc/passwd; for file in subuid subgid; do mount --bind $0/range /etc/$file; done; \
            at=$0; cd /; exec setpriv --reuid $USER_ID --regid $USER_ID --clear-groups env HOME=$at/home \
            TWOSTAGE_ENGINE=embedded TWOSTAGE_STORE=$at/store NO_COLOR=1 $at/twostage --project $at/project \"$@\"";
        let script = script.replace("$USER_ID", &USER.to_string());
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).arg(self.folder.path()).args(arguments).env_remove("XDG_DATA_HOME");
        run(&mut command)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.on.store());
    }
}

/// The files that are never written to, as they are.
fn of_the_machine() -> Vec<Option<Vec<u8>>> {
    ["/etc/passwd", "/etc/subuid", "/etc/subgid"].map(|path| fs::read(path).ok()).into()
}

fn built(test: &str) -> Project {
    uses(Used::Engine);
    uses(Used::Apt);
    assert!(Path::new("/etc/subuid").exists() && Path::new("/etc/subgid").exists(), "there is something to mount over");
    Project::built_on(EMBEDDED, Family::Deb, test)
}

#[test]
fn a_user_with_a_range_makes_the_image_that_root_makes() {
    let before = of_the_machine();
    let project = built("rootless-range");
    project.run(&["runtime"]).ok();
    let user = User::with(&project, "rootless-range", "twostage-test:3100000:65536\n");
    let said = user.run(&["repo"]).ok();
    assert!(!said.err.contains("has no range of ids"), "{}", said.err);
    user.run(&["runtime"]).ok();
    assert_eq!(user.on.diff_ids(&project.image), project.diff_ids());
    assert_eq!(user.on.id_of(&project.image), project.on.id_of(&project.image));
    assert_eq!(of_the_machine(), before);
}

#[test]
fn a_user_without_a_range_makes_an_image_and_is_told_once_what_that_costs() {
    let before = of_the_machine();
    let project = built("rootless-one");
    let user = User::with(&project, "rootless-one", "");
    user.run(&["repo"]).ok();
    let said = user.run(&["runtime"]).ok();
    assert_eq!(said.err.matches("has no range of ids").count(), 1, "{}", said.err);
    assert_eq!(user.on.diff_ids(&project.image).len(), 2, "the base and what the RUN installed");
    assert_eq!(of_the_machine(), before);
}
