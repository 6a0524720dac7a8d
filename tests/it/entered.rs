//! Containers of builds, entered: where one failed, and before it begins.

use crate::on::{EMBEDDED, On};
use crate::support::{Family, Project, Used, uses};

const BUILD: i32 = 4;

/// Commands that fail in the middle of a build, behind one that leaves something.
fn break_build(project: &Project, family: Family) {
    match family {
        Family::Deb => project.edit("entered/debian/rules", |rules| {
            let broken = "binary-indep:\n\techo half > half\n\techo \"$$TEAM $$DEB_BUILD_OPTIONS\" > said\n\tfalse\n";
            rules.replacen("\nbinary-indep:\n", &format!("\n{broken}"), 1)
        }),
        Family::Rpm => project.edit("entered/entered.spec", |spec| {
            spec.replace("%install\n", "%install\ncd %{_builddir}; echo half > half; echo \"$TEAM $RPM_BUILD_NCPUS\" > said; false\n")
        }),
    }
}

fn entering(on: On, family: Family, test: &str) {
    let project = Project::quick_on(on, family, test, "entered");
    project.edit("twostage.toml", |text| text.replace("source = \"entered\"\n", "source = \"entered\"\nenv = { TEAM = \"one team\" }\n"));
    let file = if family == Family::Deb { "entered/debian/rules" } else { "entered/entered.spec" };
    let whole = project.read(file);
    let shell = |words: &[&str]| project.run(&[&["shell", "entered"], words].concat());

    if (on, family) == (On::Docker, Family::Deb) {
        shell_is_asked_once(&project);
    }
    // Before a build there is all that it begins with, and its variables.
    let begins = shell(&["sh", "-c", "echo $TEAM; pwd; ls /build; exit 3"]).fails_with(3);
    assert!(begins.out.starts_with("one team\n/build/"), "{}", begins.out);
    begins.says("this is all that its build begins with");

    break_build(&project, family);
    project.run(&["build", "entered"]).fails_with(BUILD).says("with --keep-failed, `twostage shell entered` enters the container");
    shell(&["true"]).ok().says("this is all that its build begins with");
    project.run(&["build", "--keep-failed", "entered"]).fails_with(BUILD).says("hint: `twostage shell entered` enters the container");
    for _ in 0..2 {
        let stopped = shell(&["sh", "-c", "cat half; rm half"]).ok();
        assert_eq!(stopped.out, "half\n", "nothing that was changed there is kept");
        stopped.says("this is where its build failed");
    }
    let said = shell(&["cat", "said"]).ok().out;
    assert!(said.starts_with("one team "), "{said}");
    shell(&["test", "!", "-e", "half"]).fails_with(1);
    project.run(&["shell", "--anew", "entered", "test", "!", "-e", "half"]).ok().says("this is all that its build begins with");
    shell(&["cat", "half"]).ok().says("this is where its build failed");

    // A build that succeeds takes it away. It is in no channel before `repo`, which builds nothing then.
    project.run(&["build", "--keep-failed", "entered"]).fails_with(BUILD);
    project.write(file, &whole);
    let before = project.snapshot();
    let built = project.run(&["build", "entered"]).ok().out;
    assert!(built.contains("entered  entered 1.0"), "{built}");
    assert_eq!(project.snapshot(), before);
    shell(&["true"]).ok().says("this is all that its build begins with");
    assert_eq!(Project::outcomes(&project.run(&["--json", "repo"]).ok())["entered"], "unchanged");
    project.run(&["shell", "entred"]).fails_with(2).says("names no component entred").says("entered");
}

/// What a container needs that is prepared is locked, as by a build.
fn shell_is_asked_once(project: &Project) {
    uses(Used::Apt);
    let closure = |lock: &str| lock.split("\n[[closure]]\n").any(|closure| closure.starts_with("of = \"build:entered\""));
    project.edit("twostage.lock", |lock| {
        let parts = lock.split("\n[[closure]]\n").filter(|part| !part.starts_with("of = \"build:entered\""));
        parts.collect::<Vec<_>>().join("\n[[closure]]\n")
    });
    assert!(!closure(&project.read("twostage.lock")));
    project.run(&["shell", "entered", "true"]).ok().says("entered: asking apt for what it needs");
    assert!(closure(&project.read("twostage.lock")), "the answer is in the lock");
}

#[test]
fn a_build_is_entered_where_it_failed_and_before_it_begins() {
    uses(Used::Engine);
    entering(On::Docker, Family::Deb, "entered");
    entering(EMBEDDED, Family::Deb, "entered-alone");
}

#[test]
fn a_build_of_rpms_is_entered_where_it_failed_and_before_it_begins() {
    uses(Used::Engine);
    entering(EMBEDDED, Family::Rpm, "entered-rpm");
}
