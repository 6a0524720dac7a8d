//! The everyday life of packages, by the commands that people use.

use crate::failures::package;
use crate::support::{Done, Family, Project};
use std::collections::BTreeSet;
use std::fs;
use twostage_reposerver::{Repository, Scope, Settings};

const USAGE: i32 = 2;
const REPOSITORY: i32 = 5;

/// A project with greet-demo 1.0 in main, and 2.0 and other-demo in testing.
fn two_channels(test: &str) -> Project {
    let project = Project::example(Family::Deb, test);
    let old = package(Family::Deb, &project, "greet-demo", "1.0", "old");
    project.run(&["publish", &old]).ok();
    project.run(&["publish", "--channel", "testing", &old]).ok();
    let new = package(Family::Deb, &project, "greet-demo", "2.0", "new");
    let other = package(Family::Deb, &project, "other-demo", "1.0", "other");
    project.run(&["publish", "--channel", "testing", &new, &other]).ok();
    project
}

fn json(done: &Done) -> serde_json::Value {
    serde_json::from_str(done.last_line()).expect("JSON")
}

/// The lines without what is another in each run: sizes, and digests.
fn lines(done: &Done) -> Vec<String> {
    let plain = |word: &&str| !word.starts_with('@') && !["B", "kB"].contains(word) && !word.parse::<f64>().is_ok_and(|_| word.len() > 3);
    done.out.lines().map(|line| line.split_whitespace().filter(plain).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_session_with_packages() {
    let project = two_channels("packages");
    let run = |words: &[&str]| project.run(words);
    let listed = run(&["list"]).ok();
    assert!(listed.out.starts_with("NAME        VERSION  ARCH  SIZE"), "{}", listed.out);
    let rows: Vec<Vec<&str>> = listed.out.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let without_size: Vec<String> = rows.iter().map(|row| [&row[..3], &row[5..]].concat().join(" ")).collect();
    assert_eq!(without_size, ["greet-demo 1.0 all 2 main, testing", "greet-demo 2.0 all 1 testing", "other-demo 1.0 all 1 testing"]);
    let named = json(&run(&["--json", "list", "gr*=2*", "--channel", "testing"]).ok());
    assert_eq!(named["packages"].as_array().map(Vec::len), Some(1));
    assert_eq!(named["packages"][0]["channels"], serde_json::json!({ "testing": ["published"] }));
    run(&["list", "gret-demo"]).ok().says("nothing is called gret-demo: write `greet-demo`").ends_with("no packages");
    run(&["list", "--channel", "tsting"]).fails_with(REPOSITORY).says("hint: write `testing`");

    let found = run(&["search", "GREET"]).ok();
    assert!(found.out.starts_with("greet-demo  2.0 and 1 more  testing  "), "{}", found.out);
    run(&["search", "nowhere"]).ok().ends_with("nothing has these words; --all looks at all of the pool");
    let shown = run(&["show", "greet-demo=2.0"]).ok();
    for part in ["greet-demo 2.0 all\n  size ", "1 file\n", "  channels   testing, as published\n", "  Package: greet-demo\n"] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    run(&["show", "greet-demo=3"]).fails_with(REPOSITORY).says("hint: it has greet-demo 1.0 all, greet-demo 2.0 all");

    // What would come is said first; then it is.
    let before = project.snapshot();
    let differs = run(&["diff", "main", "testing"]).ok();
    assert_eq!(lines(&differs).last().map(String::as_str), Some("2 added"), "{}", differs.out);
    run(&["promote", "testing", "main", "greet-demo", "--dry-run"]).ok().ends_with("nothing was changed");
    assert_eq!(project.snapshot(), before);
    let promoted = run(&["promote", "testing", "main", "greet-demo"]).ok().ends_with("published");
    assert!(promoted.out.starts_with("+ greet-demo  2.0  all"), "{}", promoted.out);
    run(&["promote", "testing", "main", "gret-demo"]).fails_with(REPOSITORY).says("channel testing has no package gret-demo");
    run(&["promote", "testing", "main"]).ok().ends_with("published");
    assert_eq!(run(&["diff", "main", "testing"]).ok().out, "no difference\n");
    let since = json(&run(&["--json", "diff", &format!("@{}", &before[..8]), "main"]).ok());
    assert_eq!((since["a"]["packages"].as_u64(), since["b"]["packages"].as_u64()), (Some(1), Some(3)));
    assert_eq!(since["changes"][0]["to"][0]["version"], "2.0");
    assert_eq!(since["changes"][0]["to"][0]["files"], 1);
    run(&["promote", "testing", "stabel", "--component", "greet"]).fails_with(REPOSITORY).says("has no group component:greet");

    let whole = project.snapshot();
    run(&["remove", "greet-demo=2.0", "--dry-run"]).ok().ends_with("nothing was changed");
    let removed = run(&["remove", "greet-demo=2.0"]).ok().ends_with("published");
    assert!(removed.out.starts_with("- greet-demo  2.0  all"), "{}", removed.out);
    run(&["remove", "greet-demo=2.0"])
        .fails_with(REPOSITORY)
        .says("channel main has no package greet-demo=2.0")
        .says("it has greet-demo 1.0");
    let back = run(&["rollback"]).ok().ends_with("rolled back");
    assert!(back.out.starts_with("+ greet-demo  2.0  all"), "{}", back.out);
    assert_eq!(project.snapshot(), whole);
    run(&["rollback", "main", "2", "--dry-run"]).ok().ends_with("nothing was changed");
    run(&["rollback", &format!("@{}", &before[..10])]).ok().ends_with("rolled back");
    assert_eq!(project.snapshot(), before);
    let too_far = run(&["rollback", "testing", "2"]).fails_with(REPOSITORY);
    too_far.says("channel testing cannot be taken back 2 states").says("it remembers 1 earlier state");
    for (words, said) in [
        (&["rollback", "main", "x"][..], "neither a number of states nor a snapshot"),
        (&["rollback", "0"], "0 states back"),
        (&["promote", "main", "main"], "main is both channels"),
        (&["remove", "=1"], "names no package"),
    ] {
        run(words).fails_with(USAGE).says(said);
    }
}

#[test]
fn what_is_lost_is_named_and_can_be_removed() {
    let project = two_channels("packages-lost");
    let repository = Repository::open(&project.join(".twostage/repository"), Settings::new("hello")).expect("a repository");
    let listing = repository.listing(Scope::Channel("main")).expect("a list");
    fs::remove_file(repository.pool().pool_path(&listing.items[0].sha256)).expect("a file");
    let other = package(Family::Deb, &project, "new-demo", "1.0", "new");
    let blocked = project.run(&["publish", &other]).fails_with(REPOSITORY).says("greet-demo 1.0");
    blocked.says("`twostage remove` takes it out of a channel");
    let listed = project.run(&["list"]).ok();
    assert!(listed.out.lines().any(|line| line.starts_with("greet-demo  1.0") && line.contains(" lost ")), "{}", listed.out);
    let shown = project.run(&["show", "greet-demo=1.0"]).ok();
    assert!(shown.out.contains("  damaged    the file of greet-demo 1.0 all in the pool is damaged"), "{}", shown.out);
    project.run(&["remove", "greet-demo"]).ok().ends_with("published");
    project.run(&["publish", &other]).ok().ends_with("published");
}

#[test]
fn a_package_of_which_nothing_is_left_goes_by_its_digest() {
    let project = two_channels("packages-nothing");
    let root = project.join(".twostage/repository");
    let repository = Repository::open(&root, Settings::new("hello")).expect("a repository");
    let digest = repository.listing(Scope::Channel("main")).expect("a list").items[0].sha256;
    let replaces = repository.publish("main", twostage_model::date::now(), |members| {
        members.insert("replaces".into(), BTreeSet::from([digest]));
    });
    replaces.expect("published");
    fs::remove_file(repository.pool().pool_path(&digest)).expect("a file");
    fs::remove_dir_all(root.join("catalog")).expect("a folder");
    for list in fs::read_dir(root.join("snapshots")).expect("snapshots").flatten() {
        fs::remove_file(list.path().join("SHA256SUMS")).expect("a list");
    }
    let listed = project.run(&["list"]).ok().says("note: cannot read");
    assert!(listed.out.lines().any(|line| line.starts_with(&digest.short()) && line.contains(" lost ")), "{}", listed.out);
    let channels = project.run(&["channel", "main"]).fails_with(REPOSITORY);
    assert!(channels.out.contains(&format!("in place of the distribution's: {}", digest.short())), "{}{}", channels.out, channels.err);
    let other = package(Family::Deb, &project, "new-demo", "1.0", "new");
    project.run(&["publish", &other]).fails_with(REPOSITORY).says(&format!("`twostage remove {digest}`"));
    project.run(&["remove", &digest.to_string()]).ok().ends_with("published");
    project.run(&["publish", &other]).ok().ends_with("published");
}

#[test]
fn what_a_package_says_cannot_move_the_cursor() {
    let project = Project::example(Family::Deb, "packages-cursor");
    let file = package(Family::Deb, &project, "greet-demo", "1.0", "one");
    let control = project.join("deb-greet-demo/DEBIAN/control");
    let text = fs::read_to_string(&control).expect("a control file");
    fs::write(&control, text.replace("a test", "a \u{1b}[31mtest\u{9b}\n more \u{1b}]0;title\u{7}")).expect("a file");
    crate::support::tool("dpkg-deb", &["--root-owner-group", "--build", &project.join("deb-greet-demo").to_string_lossy(), &file]).ok();
    project.run(&["publish", &file]).ok();
    for words in [&["search", "greet"][..], &["show", "greet-demo"]] {
        let said = project.run(words).ok().out;
        assert!(said.contains("a [31mtest") && !said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    }
}

#[test]
fn what_repo_would_put_back_is_said() {
    let project = two_channels("packages-back");
    let repository = Repository::open(&project.join(".twostage/repository"), Settings::new("hello")).expect("a repository");
    let digest = repository.listing(Scope::Channel("main")).expect("a list").items[0].sha256;
    let now = twostage_model::date::now();
    let publish = repository.publish("main", now, |members| {
        members.clear();
        members.insert("component:greet".into(), BTreeSet::from([digest]));
        members.insert("component:gone".into(), BTreeSet::from([digest]));
    });
    publish.expect("published");
    let again = "the next `twostage repo` publishes greet-demo again: component greet makes it";
    let dry = project.run(&["remove", "greet-demo", "-n"]).ok().says(again);
    assert!(!dry.err.contains("component gone"), "repo drops that itself: {}", dry.err);
    project.run(&["remove", "greet-demo"]).ok().says(again);
    project.run(&["rollback"]).ok().says("the next `twostage repo` makes these groups of main anew: component:greet");
}

/// A word is a channel, a snapshot or an image; which one, is not guessed.
#[test]
fn what_is_compared_is_not_guessed() {
    let project = two_channels("packages-diff");
    let run = |words: &[&str]| {
        let mut command = project.command(words);
        command.current_dir(project.path());
        crate::support::run(&mut command)
    };
    run(&["diff", "main", "app:1"]).fails_with(USAGE).says("main is a channel here, and app:1 is none").says("docker-daemon:NAME");
    run(&["diff", "@00000000", "main"]).fails_with(REPOSITORY).says("has no snapshot @00000000");
    run(&["diff", &format!("@{}", project.snapshot()), "tsting"]).fails_with(REPOSITORY).says("hint: write `testing`");
    fs::write(project.join("main"), "an archive").expect("a file");
    run(&["diff", "main", "testing"]).fails_with(USAGE).says("main is a channel here, and an image, too").says("./PATH");
    fs::remove_file(project.join("main")).expect("a file");
    run(&["diff", "main", "testing"]).ok();
    run(&["diff", "docker-archive:", "x"]).fails_with(USAGE).says("names no image");
    // Images are compared where there is no project, or no channel of that name.
    run(&["diff", "./one.tar", "./two.tar"]).says("one.tar");
}
