//! `valid_days`: real apt takes a channel that was signed lately, and no other; a snapshot for ever.

use crate::apt::{Apt, Shop};
use crate::import_from::deb;
use crate::support::{Serving, Used, run, tool, uses};
use std::fs;
use twostage_model::date;
use twostage_reposerver::{Repository, Settings};

#[test]
fn apt_refuses_a_channel_that_nobody_renewed() {
    uses(Used::Apt);
    let shop = Shop::new("valid-until");
    let project = shop.path().join("twostage.toml");
    let text = fs::read_to_string(&project).expect("a project file");
    fs::write(&project, format!("{text}[repository]\nvalid_days = 14\n")).expect("a project file");
    let tree = shop.path().join("tree");
    fs::create_dir_all(tree.join("DEBIAN")).expect("a folder");
    let control = "Package: demo\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.invalid>\nDescription: a test\n";
    fs::write(tree.join("DEBIAN/control"), control).expect("a file");
    let deb = shop.path().join("demo.deb");
    tool("dpkg-deb", &["--root-owner-group", "--build", &tree.to_string_lossy(), &deb.to_string_lossy()]).ok();

    // Published forty days ago. Half of the days are left before it is done again.
    let now = date::now();
    let root = shop.path().join(".twostage/repository");
    let settings = Settings { valid_days: Some(14), ..Settings::new("shop") };
    let repository = Repository::open(&root, settings).expect("a repository");
    let package = repository.ingest_file(&deb).expect("a package");
    let publish = |now: i64| {
        let published = repository.publish("main", now, |members| {
            members.entry("published".into()).or_default().insert(package.sha256);
        });
        published.expect("published")
    };
    let first = publish(now - 40 * 86_400);
    assert!(!publish(now - 37 * 86_400).changed);
    assert!(publish(now - 32 * 86_400).changed, "a publish renews, too");
    let serving = Serving::of(shop.path());
    let release = || String::from_utf8(serving.get("/main/dists/twostage/Release")).expect("text");
    assert!(release().contains(&format!("\nValid-Until: {}\n", date::release(now - 18 * 86_400))), "{}", release());
    let of_snapshot = serving.get(&format!("/@{}/dists/twostage/Release", first.snapshot));
    assert!(!String::from_utf8_lossy(&of_snapshot).contains("Valid-Until"), "a snapshot is good for ever");
    let apt = Apt::new(&serving.address, &["amd64".into()]);
    let refused = apt.run("apt-get", &["update"]);
    assert!(refused.status != 0 && refused.err.contains("is expired"), "{}{}", refused.out, refused.err);
    let sources = apt.path("sources/main.sources");
    let client_file = fs::read_to_string(&sources).expect("a file");
    fs::write(&sources, client_file.replace("/main/", &format!("/@{}/", first.snapshot))).expect("a file");
    apt.run("apt-get", &["update"]).ok();
    fs::write(&sources, &client_file).expect("a file");

    // The timer that should have run.
    let until = date::release(now + 14 * 86_400);
    let renewed = run(&mut shop.command(&["channel", "--renew"])).ok();
    assert!(renewed.out.starts_with("channel main  @") && renewed.out.contains("renewed, good until "), "{}", renewed.out);
    apt.run("apt-get", &["update"]).ok();
    apt.run("apt-get", &["download", "demo"]).ok();
    run(&mut shop.command(&["channel", "main", "--renew"])).ok().ends_with(&format!("unchanged, good until {}", good_until(&renewed.out)));
    assert!(release().contains("\nValid-Until: ") && date_of(&good_until(&renewed.out)) >= date_of(&until));

    // It is no state that pushes another one out.
    let listed = run(&mut shop.command(&["channel", "main"])).ok().out;
    assert_eq!(listed.lines().count(), 2, "one state and until when it is good: {listed}");
    run(&mut shop.command(&["fsck"])).ok();

    // Without the setting it has no end any more.
    fs::write(&project, &text).expect("a project file");
    run(&mut shop.command(&["channel", "--rekey"])).ok();
    assert!(!release().contains("Valid-Until"), "{}", release());
    for (days, why) in [("0", "cannot be good for 0 days"), ("40000", "write a number from 1 to 36500")] {
        fs::write(&project, format!("{text}[repository]\nvalid_days = {days}\n")).expect("a project file");
        run(&mut shop.command(&["channel"])).fails_with(3).says(why);
    }
}

/// A lost package must not end a channel for the clients of all others.
#[test]
fn a_channel_is_renewed_without_a_look_at_its_packages() {
    uses(Used::Apt);
    let (shop, made) = (Shop::new("renewed-lost"), tempfile::tempdir().expect("a folder"));
    let project = shop.path().join("twostage.toml");
    let text = fs::read_to_string(&project).expect("a project file");
    fs::write(&project, format!("{text}[repository]\nvalid_days = 14\n")).expect("a project file");
    let root = shop.path().join(".twostage/repository");
    let repository = Repository::open(&root, Settings { valid_days: Some(14), ..Settings::new("shop") }).expect("a repository");
    let take = |name: &str| repository.ingest_file(&deb(made.path(), name, "1", "all")).expect("a package").sha256;
    let (good, lost) = (take("greet-good"), take("greet-lost"));
    let later = date::now() - 40 * 86_400;
    let published = repository.publish("main", later, |members| members.entry("published".into()).or_default().extend([good, lost]));
    let first = published.expect("published").snapshot;
    fs::remove_file(repository.pool().pool_path(&lost)).expect("it is lost");

    let serving = Serving::of(shop.path());
    let apt = Apt::new(&serving.address, &["amd64".into()]);
    assert!(apt.run("apt-get", &["update"]).err.contains("is expired"));
    let renewed = run(&mut shop.command(&["channel", "--renew"])).ok().out;
    assert!(renewed.starts_with(&format!("channel main  @{}  renewed, good until ", first.short())), "{renewed}");
    apt.run("apt-get", &["update"]).ok();
    apt.run("apt-get", &["download", "greet-good"]).ok();
    assert_ne!(apt.run("apt-get", &["download", "greet-lost"]).status, 0);
    run(&mut shop.command(&["channel", "--renew"])).ok().ends_with(&format!("unchanged, good until {}", good_until(&renewed)));
    let other = deb(made.path(), "greet-other", "1", "all");
    run(&mut shop.command(&["publish", &other.to_string_lossy()])).fails_with(5).says("greet-lost");
    run(&mut shop.command(&["fsck"])).fails_with(1);

    // What it signs is looked at.
    let index = root.join(format!("snapshots/{first}/dists/twostage/main/binary-amd64/Packages.gz"));
    let mut bytes = fs::read(&index).expect("a file");
    bytes[20] ^= 1;
    fs::write(&index, bytes).expect("a file");
    run(&mut shop.command(&["channel", "--renew"])).fails_with(5).says("Packages.gz").says("`twostage channel main --repair`");
}

fn good_until(text: &str) -> String {
    text.trim_end().rsplit_once("good until ").expect("a date").1.to_string()
}

fn date_of(text: &str) -> i64 {
    date::parse_http(text).expect("a date")
}
