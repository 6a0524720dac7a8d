//! The main job: sources → packages → snapshot → one RUN → audited image.

use crate::support::{Family, Project, Serving, Used, docker, plain_build, root, tool, uses};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Instant, SystemTime};

fn outcomes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, outcome)| ((*name).to_string(), (*outcome).to_string())).collect()
}

#[test]
fn a_project_becomes_an_image_that_greets_and_holds_no_residue() {
    greets(Family::Deb, "greets");
}

#[test]
fn a_project_of_rpms_becomes_an_image_that_greets_and_holds_no_residue() {
    greets(Family::Rpm, "greets-rpm");
}

fn greets(family: Family, test: &str) {
    uses(Used::Engine);
    family.uses();
    let project = Project::built(family, test);
    let last = project.run(&["runtime"]).ok().last_line().to_string();
    for part in [project.image.as_str(), "  sha256:", "  snapshot @", " above the base"] {
        assert!(last.contains(part), "the last line is {last:?}");
    }
    assert_eq!(docker(&["run", "--rm", &project.image]).ok().out, "Hello, world!\n");
    assert_eq!(docker(&["run", "--rm", &project.image, "id", "-un"]).ok().out, "app\n");

    // A checker that shares no code with our audit agrees.
    let saved = project.join("saved.tar");
    docker(&["save", "--output", &saved.to_string_lossy(), &project.image]).ok();
    let key = project.join("key.asc");
    std::fs::write(&key, Serving::of(project.path()).get("/key.asc")).expect("a file");
    let checker = root().join("tests/tools/check_image.py");
    let check = [checker, saved, "1".into(), "--key".into(), key].map(|path| path.to_string_lossy().into_owned());
    let arguments: Vec<&str> = check.iter().map(String::as_str).collect();
    tool("python3", &arguments).ok();
}

/// Seconds, as the engine's log of events has them.
fn now() -> String {
    format!("{:.6}", SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs_f64())
}

/// The containers that were made for a project since then, by the engine's own log.
fn containers_made(project: &Project, since: &str) -> Vec<String> {
    let label = format!("label=twostage.project={}", project.id());
    let made = ["--filter", "type=container", "--filter", "event=create", "--filter", &label];
    docker(&[&["events", "--since", since, "--until", &now()], &made[..]].concat()).ok().out.lines().map(String::from).collect()
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

    let start = &now();
    let clock = Instant::now();
    assert_eq!(repo(), outcomes(&[("libgreet", "unchanged"), ("greet", "unchanged")]), "nothing changed");
    let runtime = Project::outcomes(&project.run(&["--json", "runtime"]).ok());
    assert_eq!(runtime, outcomes(&[(&project.image, "unchanged")]), "nothing changed");
    eprintln!("a second repo and runtime with nothing changed: {:.2} s", clock.elapsed().as_secs_f64());
    assert_eq!(containers_made(&project, start), Vec::<String>::new(), "nothing changed, and nothing was run to find that out");

    project.edit("greet/greet.c", |text| text.replace("stranger", "visitor"));
    assert_eq!(repo(), outcomes(&[("libgreet", "unchanged"), ("greet", "done")]), "only the program changed");
    assert_ne!(containers_made(&project, start), Vec::<String>::new(), "a build is seen that way");
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
    plain_build(Path::new(dockerfile.trim()), &Serving::of(project.path()).address, &project.image).ok();
    assert_eq!(docker(&["run", "--rm", &project.image]).ok().out, "Hello, world!\n");
    let by_hand = project.diff_ids();
    project.run(&["runtime", "--no-cache"]).ok();
    assert_eq!(project.diff_ids(), by_hand, "by hand or by us, the same layers");
}
