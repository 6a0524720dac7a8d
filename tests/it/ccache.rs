//! Builds that ask a compiler cache.

use crate::on::{EMBEDDED, On};
use crate::support::{Family, Project, Used, long, uses};
use std::collections::BTreeMap;
use std::fs;

/// A component of three C files whose objects are its package.
fn write_objects(project: &Project) {
    for name in ["one", "two", "three"] {
        project.write(&format!("cached/{name}.c"), &format!("const char *{name}(void) {{ return \"{name}\" __FILE__; }}\n"));
    }
    project.edit("cached/debian/rules", |rules| {
        rules.replace(
            "\tcp content",
            "\tfor file in *.c; do gcc -O2 -g -c $$file || exit 1; done; cp *.o debian/tmp/usr/share/cached\n\tcp content",
        )
    });
}

/// Builds it anew, and gives the digests of its packages with what the line of its end says of the cache.
fn built(project: &Project, options: &[&str]) -> (BTreeMap<String, String>, Option<String>) {
    let _ = fs::remove_dir_all(project.join(".twostage/repository/builds/cached"));
    let ran = project.run(&[&["--json", "build", "cached"], options].concat()).ok();
    let events: Vec<serde_json::Value> =
        ran.out.lines().chain(ran.err.lines()).filter_map(|line| serde_json::from_str(line).ok()).collect();
    let word = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap_or_default().to_string();
    let packages = events.iter().filter(|event| event["event"] == "built").map(|event| (word(event, "package"), word(event, "sha256")));
    let text = format!("{}{}", ran.out, ran.err);
    let spared =
        text.split_once(", ccache ").map(|(_, rest)| rest.chars().take_while(|c| c.is_ascii_digit() || " of".contains(*c)).collect());
    (packages.collect(), spared)
}

fn building(on: On, test: &str) {
    let project = Project::quick_on(on, Family::Deb, test, "cached");
    write_objects(&project);
    assert_eq!(built(&project, &["--ccache"]).1.as_deref(), Some("0 of 3"));
    project.edit("cached/two.c", |text| text.replace("return", "/* it is\n changed */ return"));
    let lock = project.read("twostage.lock");
    let (packages, spared) = built(&project, &["--ccache"]);
    assert_eq!((packages.is_empty(), spared.as_deref()), (false, Some("2 of 3")));
    assert_eq!(built(&project, &[]), (packages.clone(), None), "without it the packages are the same");
    assert_eq!(project.read("twostage.lock"), lock, "the lock says nothing of it");

    // A cache that is damaged costs hits.
    let kept = project.join(".twostage/ccache/cached.tar");
    let whole = fs::read(&kept).expect("the cache is kept");
    let mut damaged = whole.clone();
    for block in damaged.chunks_exact_mut(512).filter(|block| &block[257..262] != b"ustar") {
        block.iter_mut().for_each(|byte| *byte ^= 0x55);
    }
    for content in [&damaged[..], &whole[..whole.len() / 2 + 7], b"no tar", b""] {
        fs::write(&kept, content).expect("it can be written");
        assert_eq!(built(&project, &["--ccache"]).0, packages);
    }
    assert_eq!(built(&project, &["--ccache"]).1.as_deref(), Some("3 of 3"), "what is kept is whole again");
}

#[test]
fn a_component_is_built_again_with_the_objects_of_the_build_before() {
    uses(Used::Apt);
    building(EMBEDDED, "ccache-alone");
    if long() {
        uses(Used::Engine);
        building(On::Docker, "ccache");
    }
}
