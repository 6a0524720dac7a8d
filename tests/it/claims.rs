//! A component's package does not pass for somebody else's.

use crate::on::EMBEDDED;
use crate::support::{Family, Project, Used, uses};

const PROJECT: i32 = 3;

/// A component that is called as a package of the base or of the distribution is, whose name was never asked for.
fn a_taken_name_is_refused(family: Family, test: &str, taken: &str) {
    let project = Project::quick_on(EMBEDDED, family, test, "honest");
    project.run(&["repo"]).ok();
    let before = project.snapshot();
    project.add_quick(taken);
    project.edit("twostage.lock", |lock| lock.replace(&format!("\"{taken}\", "), ""));
    let refused = project.run(&["repo"]).fails_with(PROJECT);
    refused
        .says(&format!("component `{taken}` leaves {taken} 1.0"))
        .says("a package that the base or its distribution has")
        .says(&format!("add `replaces = [\"{taken}\"]` to the component"));
    assert_eq!(project.snapshot(), before, "nothing was published");

    // Said aloud it is taken, and told.
    let source = format!("source = \"{taken}\"");
    project.edit("twostage.toml", |text| text.replacen(&source, &format!("{source}\nreplaces = [\"{taken}\"]"), 1));
    project.run(&["repo"]).ok();
    assert_ne!(project.snapshot(), before);
    let listed = project.run(&["channel"]).ok().out;
    assert!(listed.contains(&format!("in place of the distribution's: {taken}\n")), "{listed}");
    // The answer is in the lock, so no mirror is asked again.
    let lock = project.read("twostage.lock");
    assert!(lock.contains(&format!("taken = [\"{taken}\"]")), "{lock}");
    project.run(&["repo", "--locked"]).ok();
}

#[test]
fn a_component_that_leaves_a_package_of_the_base_is_refused() {
    uses(Used::Engine);
    uses(Used::Apt);
    a_taken_name_is_refused(Family::Deb, "claims-deb", "libsystemd0");
}

#[test]
fn a_component_that_leaves_an_rpm_of_the_distribution_is_refused() {
    uses(Used::Engine);
    uses(Used::Dnf);
    a_taken_name_is_refused(Family::Rpm, "claims-rpm", "jq");
}

#[test]
fn a_component_that_leaves_what_provides_a_package_of_the_base_is_refused() {
    uses(Used::Engine);
    let project = Project::quick_on(EMBEDDED, Family::Deb, "claims-provides", "evil");
    project.edit("evil/debian/control", |text| text.replace("Architecture: all", "Architecture: all\nProvides: libsystemd0 (= 999)"));
    let refused = project.run(&["repo"]).fails_with(PROJECT);
    refused.says("component `evil` leaves evil 1.0").says("which takes the place of libsystemd0");
}

#[test]
fn two_components_that_leave_one_package_are_refused() {
    uses(Used::Engine);
    let project = Project::quick_on(EMBEDDED, Family::Deb, "claims-two", "first");
    project.add_quick("second");
    project.edit("second/debian/control", |text| text.replace("Package: second", "Package: first"));
    let refused = project.run(&["repo"]).fails_with(PROJECT);
    refused.says("component `second` leaves first, which component `first` makes, too").says("replaces = [\"first\"]");
    project.edit("twostage.toml", |text| text.replacen("source = \"second\"", "source = \"second\"\nreplaces = [\"first\"]", 1));
    project.run(&["repo"]).ok();
}
