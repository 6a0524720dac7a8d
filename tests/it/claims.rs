//! A component's package does not pass for somebody else's.

use crate::on::EMBEDDED;
use crate::support::{Done, Family, Project, Used, root, run, skipped, uses};
use std::fs;
use std::path::Path;
use std::process::Command;

const PROJECT: i32 = 3;

/// A component that is called as a package of the base or of the distribution is, whose name was never asked for.
fn a_taken_name_is_refused(family: Family, test: &str, taken: &str) {
    let project = Project::quick_on(EMBEDDED, family, test, "honest");
    project.run(&["repo"]).ok();
    let before = project.snapshot();
    project.add_unasked(taken);
    let refused = project.run(&["repo"]).fails_with(PROJECT);
    refused
        .says(&format!("component `{taken}` leaves {taken} 1.0"))
        .says("a package that the base or its distribution has")
        .says(&format!("add `replaces = [\"{taken}\"]` to the component"));
    assert_eq!(project.snapshot(), before, "nothing was published");

    // Said aloud it is taken, and told.
    say_that_it_replaces(&project, taken);
    project.run(&["repo"]).ok();
    assert_ne!(project.snapshot(), before);
    tells_that_it_replaces(&project, taken);
    // The answer is in the lock, so no mirror is asked again.
    let lock = project.read("twostage.lock");
    assert!(lock.contains(&format!("taken = [\"{taken}\"]")), "{lock}");
    project.run(&["repo", "--locked"]).ok();
}

/// Runs it with an own cache; without a network, if that is meant.
fn run_with(project: &Project, arguments: &[&str], cache: &Path, network: bool) -> Done {
    let command = project.command(arguments);
    let mut there = Command::new(if network { "env" } else { "unshare" });
    if !network {
        there.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    }
    there.arg(command.get_program()).args(command.get_args());
    there.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(there.env("XDG_CACHE_HOME", cache))
}

/// The component says that its package is meant to take that place.
fn say_that_it_replaces(project: &Project, taken: &str) {
    let source = format!("source = \"{taken}\"");
    project.edit("twostage.toml", |text| text.replacen(&source, &format!("{source}\nreplaces = [\"{taken}\"]"), 1));
}

fn tells_that_it_replaces(project: &Project, taken: &str) {
    let listed = project.run(&["channel"]).ok().out;
    assert!(listed.contains(&format!("in place of the distribution's: {taken}\n")), "{listed}");
}

/// A lock comes with its project: that it calls a name of the base free is no answer. The base is at hand wherever it is
/// built on, so neither a network nor a cache is needed for that.
#[test]
fn a_lock_that_calls_a_package_of_the_base_free_is_not_believed() {
    uses(Used::Engine);
    let taken = "libsystemd0";
    let project = Project::quick_on(EMBEDDED, Family::Deb, "claims-lock", "honest");
    project.run(&["repo"]).ok();
    let before = project.snapshot();
    project.add_quick(taken);
    let lock = project.read("twostage.lock");
    for arguments in [&["repo", "--locked"][..], &["repo"]] {
        let cache = tempfile::tempdir().expect("a folder");
        for time in ["cold", "warm"] {
            let refused = run_with(&project, arguments, cache.path(), false).fails_with(PROJECT);
            refused.says(&format!("component `{taken}` leaves {taken} 1.0")).says("a package that the base or its distribution has");
            assert_eq!(project.snapshot(), before, "nothing was published ({time})");
        }
    }
    assert_ne!(project.read("twostage.lock"), lock, "where it may change, the lock says what the base has");
    assert!(project.read("twostage.lock").contains(&format!("taken = [\"{taken}\"]")));

    // Said aloud it is taken, and told, whatever the lock says.
    project.write("twostage.lock", &lock);
    say_that_it_replaces(&project, taken);
    let cache = tempfile::tempdir().expect("a folder");
    run_with(&project, &["repo", "--locked"], cache.path(), false).ok();
    tells_that_it_replaces(&project, taken);
}

/// The same of what only the distribution has: its index counts where it was fetched before, on this machine. Elsewhere
/// nobody can be asked, and the lock is believed.
#[test]
fn a_lock_that_calls_a_package_of_the_distribution_free_is_not_believed_where_its_index_is_known() {
    uses(Used::Engine);
    uses(Used::Dnf);
    let taken = "jq";
    let project = Project::quick_on(EMBEDDED, Family::Rpm, "claims-lock-rpm", "honest");
    let [cold, warm] = ["cold", "warm"].map(|_| tempfile::tempdir().expect("a folder"));
    // Who locks the names asks for the index.
    project.edit("twostage.lock", |lock| lock.split("\n[[names]]\n").next().unwrap_or_default().to_string() + "\n");
    run_with(&project, &["repo"], warm.path(), true).ok();
    let before = project.snapshot();
    project.add_quick(taken);
    let lock = project.read("twostage.lock");
    for arguments in [&["repo", "--locked"][..], &["repo"]] {
        let refused = run_with(&project, arguments, warm.path(), false).fails_with(PROJECT);
        refused.says(&format!("component `{taken}` leaves {taken} 1.0")).says("a package that the base or its distribution has");
        assert_eq!(project.snapshot(), before, "nothing was published");
    }
    assert!(project.read("twostage.lock").contains(&format!("taken = [\"{taken}\"]")));

    project.write("twostage.lock", &lock);
    run_with(&project, &["repo", "--locked"], cold.path(), false).ok();
    assert_ne!(project.snapshot(), before, "the lock is believed of what nobody knows better");

    say_that_it_replaces(&project, taken);
    run_with(&project, &["repo", "--locked"], warm.path(), false).ok();
    tells_that_it_replaces(&project, taken);
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
    // What they left last time is no obstacle, once one of them is renamed.
    project.edit("twostage.toml", |text| text.replace("\nreplaces = [\"first\"]", ""));
    project.run(&["repo"]).fails_with(PROJECT);
    project.edit("second/debian/control", |text| text.replace("Package: first", "Package: second"));
    project.run(&["repo"]).ok();
}

/// A list of apt's that cannot be read is no list of fewer names.
#[test]
fn an_index_that_cannot_be_read_ends_the_script() {
    if !Path::new("/usr/lib/apt/apt-helper").exists() {
        return skipped("there is no apt-helper");
    }
    uses(Used::Apt);
    let script = fs::read_to_string(root().join("builder/scripts/deb/prelude.sh")).expect("the script");
    let start = script.find("\nindex() {").expect("the function");
    let end = start + script[start..].find("\n}\n").expect("its end") + 3;
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("lists")).expect("a folder");
    fs::write(folder.path().join("index"), "").expect("a file");
    fs::write(folder.path().join("lists/deb.example_main_Packages"), "Package: bb\n\nPackage: aa\n").expect("a file");
    fs::write(folder.path().join("lists/repository.twostage.invalid_Packages"), "Package: ours\n").expect("a file");
    let index = || run(Command::new("sh").args(["-euc", &format!("T=$1\n{}\nindex", &script[start..end]), "sh"]).arg(folder.path()));
    assert_eq!(index().ok().out, "twostage: index aa bb                      \ntwostage: end of index 2\n");
    fs::write(folder.path().join("lists/deb.example_other_Packages.xz"), "no xz").expect("a file");
    let done = index();
    assert!(done.status != 0 && !done.out.contains("end of index"), "{}", done.out);
}
