//! The store beside other programs that write its layout, and with parts of it broken.

use super::images;
use super::index::Index;
use super::prune;
use super::store::Store;
use crate::dockerfile::config::ImageConfig;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use twostage_model::{Error, Sha256};

fn store(root: &Path) -> Store {
    Store::open(root, Arc::new(|path: &Path| fs::remove_dir_all(path).map_err(|cause| Error::system("cannot remove it", cause))))
        .expect("a store")
}

fn import(store: &Store, content: &str, name: &str) -> Sha256 {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", content.as_bytes()).expect("into memory");
    let tar = tar.into_inner().expect("into memory");
    images::import(store, &tar[..], name, |diff_id| {
        let mut config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
        config.rootfs.diff_ids = vec![format!("sha256:{diff_id}")];
        config.to_json()
    })
    .expect("imported")
}

fn names(store: &Store) -> Vec<String> {
    let all = images::all(store, &store.look().expect("a turn")).expect("read");
    let mut names: Vec<String> = all.into_iter().flat_map(|image| image.names).collect();
    names.sort();
    names
}

fn index(store: &Store) -> PathBuf {
    store.images().join("index.json")
}

/// What another program makes of the index that it read earlier.
fn written_by_another(store: &Store, read: &[u8], change: impl FnOnce(&mut Vec<Value>)) {
    let mut document: Value = serde_json::from_slice(read).expect("an index");
    change(document["manifests"].as_array_mut().expect("a list"));
    fs::write(index(store), document.to_string()).expect("written");
}

fn problems(store: &Store) -> Vec<String> {
    images::problems(store, &store.look().expect("a turn")).expect("read")
}

/// Each with a word of what is said of it.
fn bad_entries() -> Vec<(Value, &'static str)> {
    let missing = format!("sha256:{}", "7".repeat(64));
    let named = |digest: &str| json!({ "mediaType": "x", "digest": digest, "size": 5, "annotations": { "org.opencontainers.image.ref.name": "bad:1" } });
    vec![
        (named(&missing), "bad:1"),
        (named("sha256:short"), "sha256:short"),
        (named(&format!("sha512:{}", "7".repeat(128))), "sha512"),
        (named("../../etc/passwd"), "etc/passwd"),
        (json!({ "mediaType": "x" }), "mediaType"),
        (json!(5), "5"),
        (json!(null), "null"),
        (json!({ "digest": [1], "size": -1 }), "-1"),
    ]
}

#[test]
fn a_bad_entry_is_named_stays_and_stops_nobody() {
    for (entry, word) in bad_entries() {
        let folder = tempfile::tempdir().expect("a folder");
        let there = store(folder.path());
        import(&there, "good", "good:1");
        written_by_another(&there, &fs::read(index(&there)).expect("read"), |entries| entries.insert(0, entry.clone()));
        let there = store(folder.path());
        images::adopt(&there).expect("adopted");
        assert_eq!(names(&there), ["good:1"], "{entry}");
        import(&there, "more", "more:1");
        prune::remove(&there, "more:1").expect("removed");
        let turn = there.change().expect("a turn");
        let soon = SystemTime::now() + Duration::from_secs(2 * 24 * 3600);
        let trash = images::collect(&there, &turn, &[], &BTreeSet::new(), soon).expect("collected");
        drop(turn);
        there.empty(trash).expect("emptied");
        assert_eq!(names(&there), ["good:1"], "{entry}");
        let said = problems(&there);
        assert!(said.len() == 1 && said[0].contains(word), "{entry}: {said:?}");
        let left: Value = serde_json::from_slice(&fs::read(index(&there)).expect("read")).expect("an index");
        assert!(left["manifests"].as_array().expect("a list").contains(&entry), "{entry} is left as it is: {left}");
    }
}

#[test]
fn an_image_that_cannot_be_read_is_removed_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = store(folder.path());
    import(&there, "good", "good:1");
    let (bad, _) = bad_entries().swap_remove(0);
    written_by_another(&there, &fs::read(index(&there)).expect("read"), |entries| entries.push(bad));
    let error = images::find(&there, &there.look().expect("a turn"), "bad:1").expect_err("it is not whole");
    assert!(error.hint_or_class().contains("twostage rm bad:1"), "{error}");
    let freed = prune::remove(&there, "bad:1").expect("removed");
    assert_eq!(freed.names, ["bad:1"]);
    assert!(problems(&there).is_empty());
    assert_eq!(names(&there), ["good:1"]);
}

#[test]
fn an_index_that_is_broken_is_what_was_known_of_it() {
    for broken in ["", "{", "[]", "{\"manifests\":{}}", "\u{0}\u{0}"] {
        let folder = tempfile::tempdir().expect("a folder");
        let there = store(folder.path());
        import(&there, "good", "good:1");
        fs::write(index(&there), broken).expect("written");
        assert_eq!(names(&there), ["good:1"], "{broken:?}");
        assert!(problems(&there)[0].contains("index.json is broken"), "{broken:?}");
        images::adopt(&there).expect("adopted");
        assert!(problems(&there).is_empty(), "it is written again");
        import(&there, "more", "more:1");
        assert_eq!(names(&there), ["good:1", "more:1"], "{broken:?}");
    }
}

#[test]
fn what_was_written_beside_a_program_that_read_the_index_before_is_not_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = store(folder.path());
    import(&there, "old", "app:1");
    import(&there, "away", "away:1");
    let read = fs::read(index(&there)).expect("read");
    // Meanwhile a build names an image, moves a name, and takes one away.
    let new = import(&there, "new", "app:1");
    import(&there, "other", "other:1");
    prune::remove(&there, "away:1").expect("removed");
    // Then the other program writes what it knew, and its own.
    let theirs = import(&store(tempfile::tempdir().expect("a folder").path()), "x", "x:1");
    written_by_another(&there, &read, |entries| {
        let foreign = json!({ "mediaType": "x", "digest": format!("sha256:{theirs}"), "size": 1,
            "annotations": { "org.opencontainers.image.ref.name": "theirs:1" }, "platform": { "os": "linux", "architecture": "amd64" } });
        entries.push(foreign);
    });
    let found = |name: &str| images::find(&there, &there.look().expect("a turn"), name);
    assert_eq!(found("app:1").expect("found").map(|image| image.id), Some(new), "the name stays where it was moved to");
    assert_eq!(names(&there), ["app:1", "other:1"], "what was removed does not come back, and what was made stays");
    let whole = Index::read(&there, &there.look().expect("a turn")).expect("read");
    assert!(whole.images.iter().any(|image| image.name() == Some("theirs:1")), "theirs is there, though it is not whole yet");
    import(&there, "again", "again:1");
    let text = fs::read_to_string(index(&there)).expect("read");
    assert!(text.contains("theirs:1") && text.contains("\"platform\"") && text.contains("other:1"), "{text}");
    assert!(!text.contains("away:1"), "{text}");
}

#[test]
fn an_image_that_another_program_brings_again_is_there_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = store(folder.path());
    import(&there, "a", "a:1");
    let with = fs::read(index(&there)).expect("read");
    prune::remove(&there, "a:1").expect("removed");
    assert!(names(&there).is_empty());
    // The same blobs and the same entry: nothing else is new, so that it is meant.
    import(&there, "a", "b:1");
    let entry = serde_json::from_slice::<Value>(&with).expect("an index")["manifests"][0].clone();
    let read = fs::read(index(&there)).expect("read");
    written_by_another(&there, &read, |entries| entries.push(entry));
    assert_eq!(names(&there), ["a:1", "b:1"]);
}

#[test]
fn blobs_that_nobody_names_yet_are_left_until_they_are_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = store(folder.path());
    import(&there, "a", "a:1");
    let foreign = there.blob(&Sha256::of(b"on its way"));
    fs::write(&foreign, b"on its way").expect("written");
    let collect = |now: SystemTime| {
        let turn = there.change().expect("a turn");
        let trash = images::collect(&there, &turn, &[], &BTreeSet::new(), now).expect("collected");
        drop(turn);
        there.empty(trash).expect("emptied");
    };
    collect(SystemTime::now() + Duration::from_secs(23 * 3600));
    let freed = prune::remove(&there, "a:1").expect("removed");
    assert!(freed.bytes > 0 && freed.waiting > 0, "{freed:?}");
    assert!(foreign.exists(), "another program may be about to name it");
    assert_eq!(fs::read_dir(there.images().join("blobs/sha256")).expect("a folder").count(), 1, "our own goes at once");
    collect(SystemTime::now() + Duration::from_secs(25 * 3600));
    assert!(!foreign.exists());
}

/// A program as skopeo: it reads the index, writes blobs, and then the index as a whole, in place.
#[test]
fn many_programs_beside_us_lose_nothing_of_ours_nor_we_of_theirs() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = store(folder.path());
    let theirs = std::thread::scope(|scope| {
        let root = folder.path();
        let ours = scope.spawn(move || {
            let there = store(root);
            for number in 0..40 {
                import(&there, &format!("ours {number}"), &format!("ours:{number}"));
            }
        });
        let mut number = 0;
        while !ours.is_finished() && number < 40 {
            // One after another, as each waits for its own copy.
            let Ok(read) = fs::read(index(&there)) else { continue };
            let Ok(mut document) = serde_json::from_slice::<Value>(&read) else { continue };
            let manifest = format!("{{\"config\":{{}},\"number\":{number}}}");
            let digest = Sha256::of(manifest.as_bytes());
            fs::write(there.blob(&digest), &manifest).expect("a blob");
            std::thread::sleep(Duration::from_millis(15));
            document["manifests"].as_array_mut().expect("a list").push(json!({ "mediaType": "m", "digest": format!("sha256:{digest}"),
                "size": manifest.len(), "annotations": { "org.opencontainers.image.ref.name": format!("theirs:{number}") } }));
            fs::write(index(&there), document.to_string()).expect("written");
            number += 1;
        }
        number
    });
    assert!(theirs > 0);
    let whole = Index::read(&there, &there.look().expect("a turn")).expect("read");
    let named: BTreeSet<&str> = whole.images.iter().filter_map(|image| image.name()).collect();
    for number in 0..40 {
        assert!(named.contains(format!("ours:{number}").as_str()), "ours:{number} is lost");
    }
    for number in 0..theirs {
        assert!(named.contains(format!("theirs:{number}").as_str()), "theirs:{number} is lost");
    }
}
