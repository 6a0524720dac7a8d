//! What others' images leave behind: the audit names it, and nothing that packages really need.

use crate::support::{Done, Project, Used, docker, run, step, twostage, uses};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// An image made the usual way from the project's base.
fn build_naive(project: &Project, instructions: &str) {
    let dockerfile = format!("FROM {}\n{instructions}\n", project.base());
    let mut build = Command::new("docker");
    build.args(["build", "--network=host", "--tag", &project.image, "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut build = build.spawn().expect("docker runs");
    build.stdin.take().expect("a pipe").write_all(dockerfile.as_bytes()).expect("docker reads it");
    assert!(build.wait().expect("docker ends").success());
}

/// What `twostage audit` says of it, without a project.
fn audit_naive(project: &Project, packages: &str) -> Vec<serde_json::Value> {
    build_naive(project, &format!("RUN apt-get update && apt-get install -y --no-install-recommends {packages}"));
    let nowhere = project.join("nowhere").display().to_string();
    let done = run(twostage().args(["--project", &nowhere, "--json", "audit", "--base-layers", "1", &project.image])).fails_with(1);
    docker(&["image", "rm", &project.image]).ok();
    let report = report(&done);
    report["layers"].as_array().expect("layers").iter().flat_map(|layer| layer["residue"].as_array().cloned().unwrap_or_default()).collect()
}

#[test]
fn the_residue_of_a_naive_run_is_named_and_nothing_else_is() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello("naive");
    let sets = [
        "hello libglib2.0-0 dbus fontconfig shared-mime-info python3-minimal ca-certificates",
        "libgtk-3-0 librsvg2-common adwaita-icon-theme dconf-gsettings-backend",
    ];
    for packages in sets.into_iter().step_by(step(2)) {
        let residue = audit_naive(&project, packages);
        let found: BTreeSet<&str> = residue.iter().filter_map(|residue| residue["rule"].as_str()).collect();
        for expected in ["package-lists", "package-payload", "apt-cache", "log", "ldconfig-cache", "machine-id", "package-database-backup"]
        {
            assert!(found.contains(expected), "{expected} is not among {found:?}");
        }
        let unclear = |rule: &str| matches!(rule, "unaccounted" | "base-file-changed" | "package-file-changed" | "whiteout");
        let surprises: Vec<_> = residue.iter().filter(|residue| residue["rule"].as_str().is_some_and(unclear)).collect();
        assert!(surprises.is_empty(), "{surprises:#?}");
    }
}

fn report(done: &Done) -> serde_json::Value {
    serde_json::from_str(done.out.lines().next().unwrap_or_default()).expect("a report in JSON")
}

/// The compiler installed, used and purged, in three RUNs: the lowest layer ships all of it. The project
/// knows what only its builders need, so the audit says it by name.
#[test]
fn a_compiler_that_was_purged_is_named_in_the_layer_that_ships_it() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello("purged");
    build_naive(
        &project,
        "RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev\n\
         RUN echo 'int main(void) { return 0; }' > /a.c && gcc -o /usr/local/bin/app /a.c && cp /usr/bin/x86_64-linux-gnu-cpp-12 /opt/tool\n\
         RUN apt-get purge -y --autoremove gcc libc6-dev && rm -rf /var/lib/apt/lists/* /opt/tool /a.c",
    );
    let audited = report(&project.run(&["--json", "audit", "--base-layers", "1", &project.image]).fails_with(1));
    let page = project.join("page.html");
    let text = project.run(&["audit", "--base-layers", "1", "--html", &page.to_string_lossy(), &project.image]).fails_with(1);
    assert!(text.out.contains("shipped, but nobody can see it"), "{}", text.out);
    let page = fs::read_to_string(&page).expect("a page");
    assert!(page.contains("apt-get install -y --no-install-recommends gcc") && page.contains("\"hidden\""), "steps and classes are in it");
    let leaked: Vec<(u64, &str, &str)> = audited["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .flat_map(|layer| layer["residue"].as_array().expect("residue"))
        .filter(|residue| residue["rule"] == "build-dependency")
        .map(|residue| {
            (
                residue["layer"].as_u64().expect("a number"),
                residue["at"].as_str().expect("a path"),
                residue["reason"].as_str().expect("why"),
            )
        })
        .collect();
    let compiler = leaked.iter().find(|(_, at, _)| at.ends_with("/cc1")).expect("the compiler proper");
    assert!(compiler.0 == 2 && compiler.2.contains("of cpp-12 12.") && compiler.2.contains("only a builder needs"), "{compiler:?}");
    let copied = leaked.iter().find(|(_, at, _)| *at == "/opt/tool").expect("the copy that is deleted again");
    assert!(copied.0 == 3 && copied.2.starts_with("has the content of /usr/bin/x86_64-linux-gnu-cpp-12 of cpp-12 12."), "{copied:?}");
    assert!(leaked.len() > 500, "{} files of the compiler", leaked.len());
    assert!(text.out.contains(&format!("build dependencies: {} files of ", leaked.len())), "{}", text.out);
    eprintln!("{} files that only builders need, {} bytes that nobody can see", leaked.len(), audited["waste"]["by"]);

    // The project's own image has nothing of it.
    project.run(&["runtime"]).ok();
    let page = project.join("clean.html");
    let clean = project.run(&["audit", &project.image, "--html", &page.to_string_lossy()]).ok().out;
    assert!(fs::read_to_string(&page).expect("a page").contains("clean: everything above the base is accounted for"));
    let line = clean.lines().find(|line| line.starts_with("build dependencies: nothing of ")).expect("what was looked for");
    assert!(line.ends_with(" that only builders need"), "{line}");
    eprintln!("{line}");
}
