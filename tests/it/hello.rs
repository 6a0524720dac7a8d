//! The main job: sources → packages → snapshot → one RUN → audited image.

use crate::on::{EMBEDDED, On};
use crate::support::{Family, Project, Serving, Used, docker, root, tool, uses, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

fn outcomes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, outcome)| ((*name).to_string(), (*outcome).to_string())).collect()
}

#[test]
fn a_project_becomes_an_image_that_greets_and_holds_no_residue() {
    greets(On::Docker, Family::Deb, "greets");
}

#[test]
fn a_project_of_rpms_becomes_an_image_that_greets_and_holds_no_residue() {
    greets(On::Docker, Family::Rpm, "greets-rpm");
}

#[test]
fn without_a_daemon_a_project_becomes_an_image_that_greets_and_holds_no_residue() {
    greets(EMBEDDED, Family::Deb, "greets-alone");
}

#[test]
fn without_a_daemon_a_project_of_rpms_becomes_an_image_that_greets_and_holds_no_residue() {
    greets(EMBEDDED, Family::Rpm, "greets-rpm-alone");
}

fn greets(on: On, family: Family, test: &str) {
    uses(Used::Engine);
    family.uses();
    let project = Project::built_on(on, family, test);
    let last = project.run(&["runtime"]).ok().last_line().to_string();
    for part in [project.image.as_str(), "  sha256:", "  snapshot @", " above the base"] {
        assert!(last.contains(part), "the last line is {last:?}");
    }
    assert_eq!(on.run(&project.image, &[]), "Hello, world!\n");
    assert_eq!(on.run(&project.image, &["id", "-un"]), "app\n");

    // A checker that shares no code with our audit agrees.
    let saved = project.join("saved.tar");
    on.save(&project.image, &saved);
    let key = project.join("key.asc");
    fs::write(&key, Serving::of(project.path()).get("/key.asc")).expect("a file");
    let checker = root().join("tests/tools/check_image.py");
    let check = [checker, saved, "1".into(), "--key".into(), key].map(|path| path.to_string_lossy().into_owned());
    // (The stand-in for an rpm distribution has its mirror in itself.)
    let made = (family == Family::Deb).then_some("--made-base");
    let arguments: Vec<&str> = check.iter().map(String::as_str).chain(made).collect();
    tool("python3", &arguments).ok();
}

/// Tells of the containers that are made for a project, as the engine does. (What it told before, it knows of the last 256
/// events of all that use it only.)
struct Made<'a> {
    project: &'a Project,
    events: Child,
    told: PathBuf,
}

impl Made<'_> {
    fn of(project: &Project) -> Made<'_> {
        let told = project.join("events");
        let label = format!("label=twostage.project={}", project.id());
        let words =
            ["events", "--filter=type=container", "--filter=event=create", "--format={{.ID}} {{.Actor.Attributes.mark}}", "--filter"];
        let out = fs::File::create(&told).expect("a file");
        let events = Command::new("docker").args(words).arg(&label).stdout(out).spawn().expect("docker");
        let made = Made { project, events, told };
        wait_until("the engine tells of containers", || made.is_told(&made.mark()));
        made
    }

    /// A container that is made by the test itself.
    fn mark(&self) -> String {
        let label = format!("twostage.project={}", self.project.id());
        let id = docker(&["create", "--label", &label, "--label", "mark=ours", &self.project.base(), "true"]).ok().last_line().to_string();
        docker(&["rm", &id]).ok();
        id
    }

    fn is_told(&self, id: &str) -> bool {
        fs::read_to_string(&self.told).expect("the events").contains(id)
    }

    /// How many there were until now.
    fn count(&self) -> usize {
        let last = self.mark();
        wait_until("the engine has told of all before", || self.is_told(&last));
        fs::read_to_string(&self.told).expect("the events").lines().filter(|line| !line.ends_with(" ours")).count()
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        let _ = self.events.kill();
        let _ = self.events.wait();
    }
}

#[test]
fn only_what_changed_is_built_again() {
    rebuilds(Family::Deb, "changes", "libgreet/greet.c");
}

#[test]
fn only_what_changed_of_rpms_is_built_again() {
    rebuilds(Family::Rpm, "changes-rpm", "libgreet/greet-politely.patch");
}

/// `politeness` is the file with the words of the greeting.
fn rebuilds(family: Family, test: &str, politeness: &str) {
    uses(Used::Engine);
    family.uses();
    let project = Project::built(family, test);
    let repo = || Project::outcomes(&project.run(&["--json", "repo"]).ok());
    project.run(&["runtime"]).ok();
    let first = project.diff_ids();

    let made = Made::of(&project);
    let clock = Instant::now();
    assert_eq!(repo(), outcomes(&[("libgreet", "unchanged"), ("greet", "unchanged")]), "nothing changed");
    let runtime = Project::outcomes(&project.run(&["--json", "runtime"]).ok());
    assert_eq!(runtime, outcomes(&[(&project.image, "unchanged")]), "nothing changed");
    eprintln!("a second repo and runtime with nothing changed: {:.2} s", clock.elapsed().as_secs_f64());
    assert_eq!(made.count(), 0, "nothing changed, and nothing was run to find that out");

    project.edit("greet/greet.c", |text| text.replace("stranger", "visitor"));
    assert_eq!(repo(), outcomes(&[("libgreet", "unchanged"), ("greet", "done")]), "only the program changed");
    assert_ne!(made.count(), 0, "a build is seen that way");
    project.run(&["runtime"]).ok();
    assert_ne!(project.diff_ids(), first, "the image has the new program");

    let original = project.read("libgreet/greet.c");
    project.edit("libgreet/greet.c", |text| text.replace("The greeting is one line", "The salutation is a line"));
    assert_eq!(repo(), outcomes(&[("libgreet", "same"), ("greet", "unchanged")]), "a comment of the library changed");

    project.write("libgreet/greet.c", &original);
    project.edit(politeness, |text| text.replace("Hello, %s!", "Good day, %s!"));
    // A deb names the version of the library that it was linked to, an rpm only the library.
    let dependant = if family == Family::Deb { "done" } else { "same" };
    assert_eq!(repo(), outcomes(&[("libgreet", "done"), ("greet", dependant)]), "the library changed: both are built");
    project.run(&["runtime"]).ok();
    assert_eq!(docker(&["run", "--rm", &project.image]).ok().out, "Good day, world!\n");

    project.edit(politeness, |text| text.replace("Good day, %s!", "Hello, %s!"));
    project.edit("greet/greet.c", |text| text.replace("visitor", "stranger"));
    assert_eq!(repo(), outcomes(&[("libgreet", "unchanged"), ("greet", "unchanged")]), "what was built before is known");
    project.run(&["runtime"]).ok();
    assert_eq!(project.diff_ids(), first, "the first sources give the first image");
}

#[test]
fn a_build_that_fails_shows_its_last_lines_and_where_the_rest_is() {
    uses(Used::Engine);
    let project = Project::built_hello("fails");
    project.edit("greet/greet.c", |text| text.replace("#include <greet.h>", "#include <greet.h>\n#error not today"));
    project
        .run(&["repo"])
        .fails_with(4)
        .says("greet: the build failed")
        .says("#error not today")
        .says("the whole log is in .twostage/logs/greet.log");
    assert!(project.read(".twostage/logs/greet.log").contains("dpkg-buildpackage"));
}

#[test]
fn plain_docker_build_takes_the_generated_dockerfile_beside_a_served_repository() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello("plain");
    let dockerfile = project.run(&["runtime", "--dockerfile"]).ok().out;
    On::Docker.plain_build(Path::new(dockerfile.trim()), &Serving::of(project.path()).address, &project.image).ok();
    assert_eq!(docker(&["run", "--rm", &project.image]).ok().out, "Hello, world!\n");
    let by_hand = project.diff_ids();
    project.run(&["runtime", "--no-cache"]).ok();
    assert_eq!(project.diff_ids(), by_hand, "by hand or by us, the same layers");
}
