//! The store's promises, without a sandbox.

use super::images::{self, NewLayer, Stored};
use super::prune;
use super::store::{Store, unique};
use crate::dockerfile::config::ImageConfig;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use twostage_image::audit::audit_store;
use twostage_image::{Base, Compression, Known, NewImage, Want, flatten};
use twostage_model::{Error, Result, Sha256};

fn store(root: &Path) -> Store {
    Store::open(root, Arc::new(|path: &Path| fs::remove_dir_all(path).map_err(|cause| Error::system("cannot remove it", cause))))
        .expect("a store")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // (`set_path` would refuse what leads out.)
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).expect("into memory");
    }
    builder.into_inner().expect("into memory")
}

fn import(store: &Store, tar: &[u8], name: &str) -> Result<Sha256> {
    images::import(store, tar, name, |diff_id| {
        let mut config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
        config.rootfs.diff_ids = vec![format!("sha256:{diff_id}")];
        config.to_json()
    })
}

fn find(store: &Store, name: &str) -> Option<Stored> {
    images::find(store, &store.look().expect("a turn"), name).expect("looked for")
}

fn remove(store: &Store, name: &str) {
    prune::remove(store, name).expect("removed");
}

/// Two days from now, when nothing is young.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(2 * 24 * 3600)
}

fn saved(store: &Store, name: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    images::save(store, name).expect("opened").write(&mut archive).expect("into memory");
    archive
}

fn blobs(store: &Store) -> usize {
    fs::read_dir(store.images().join("blobs/sha256")).expect("a folder").count()
}

/// An archive as `docker save` writes it, with one layer under this name.
fn archive(layer: &[u8], layer_name: &str, diff_id: &Sha256, tag: &str) -> Vec<u8> {
    let config =
        format!(r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#);
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": [layer_name] }]).to_string();
    let mut files: Vec<(&str, &[u8])> = vec![("config.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())];
    if !layer.is_empty() {
        files.push((layer_name, layer));
    }
    tar_of(&files)
}

#[test]
fn an_image_is_found_by_every_way_to_write_its_name_and_by_its_id() {
    let folder = folder();
    let store = store(folder.path());
    let id = import(&store, &tar_of(&[("a", b"b")]), "docker.io/library/hello").expect("imported");
    for name in ["hello", "hello:latest", "docker.io/hello", "index.docker.io/library/hello:latest"] {
        assert_eq!(find(&store, name).map(|image| image.id), Some(id), "{name}");
    }
    for name in [format!("sha256:{id}"), format!("sha256:{}", id.short()), id.short(), id.to_string()] {
        assert_eq!(find(&store, &name).map(|image| image.names), Some(vec!["hello:latest".to_string()]), "{name}");
    }
    for name in ["hello:1", "library/hello/x", "team/hello", "sha256:0123456789ab", "0123456789ab"] {
        assert!(find(&store, name).is_none(), "{name}");
    }
    assert!(images::find(&store, &store.look().expect("a turn"), "../x").is_err());
    let again = import(&store, &tar_of(&[("a", b"b")]), "again:1").expect("imported");
    assert_eq!(id, again, "the same input makes the same image");
    assert_eq!(find(&store, "again:1").expect("there").names, ["again:1", "hello:latest"]);
}

#[test]
fn a_packed_tar_is_the_layer_that_is_in_it_and_what_is_no_tar_is_none() {
    let folder = folder();
    let store = store(folder.path());
    let tar = tar_of(&[("a", b"b")]);
    let plain = import(&store, &tar, "plain").expect("imported");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &tar).expect("into memory");
    assert_eq!(import(&store, &packed.finish().expect("into memory"), "packed").expect("imported"), plain);
    assert_eq!(fs::read(store.blob(&Sha256::of(&tar))).expect("a blob"), tar, "byte for byte");
    for wrong in [&b"no tar at all, but as long as it takes"[..], &tar[..512], &tar_of(&[("../a", b"b")])] {
        assert!(import(&store, wrong, "wrong").is_err());
    }
    assert!(find(&store, "wrong").is_none());
    assert_eq!(fs::read_dir(folder.path().join("incoming")).expect("a folder").count(), 0, "nothing is left of it");
}

#[test]
fn names_move_and_what_nothing_names_goes_with_its_blobs() {
    let folder = folder();
    let store = store(folder.path());
    let first = import(&store, &tar_of(&[("a", b"1")]), "app:1").expect("imported");
    let second = import(&store, &tar_of(&[("a", b"2")]), "app:1").expect("imported");
    assert_eq!(find(&store, "app:1").expect("there").id, second);
    assert!(find(&store, &format!("sha256:{first}")).expect("it stays, by its id").names.is_empty());
    images::tag(&store, &store.change().expect("a turn"), &format!("sha256:{first}"), "old").expect("tagged");
    assert_eq!(find(&store, "old").expect("there").id, first);
    assert!(images::tag(&store, &store.change().expect("a turn"), "nothing", "x").is_err());
    assert_eq!(blobs(&store), 6);

    images::tag(&store, &store.change().expect("a turn"), "old", "older").expect("tagged");
    remove(&store, "old");
    assert_eq!(find(&store, "older").expect("it has a name yet").names, ["older:latest"]);
    remove(&store, &format!("sha256:{first}"));
    assert!(find(&store, "older").is_none());
    assert_eq!(blobs(&store), 3, "nobody needs its blobs");
    remove(&store, "nothing");
    remove(&store, "app:1");
    assert_eq!((blobs(&store), images::all(&store, &store.look().expect("a turn")).expect("read").len()), (0, 0));
}

#[test]
fn what_a_container_uses_stays() {
    let folder = folder();
    let store = store(folder.path());
    let tar = tar_of(&[("a", b"1")]);
    import(&store, &tar, "app:1").expect("imported");
    let diff_id = Sha256::of(&tar);
    for unpacked in [diff_id, Sha256::of(b"other")] {
        fs::create_dir(store.layer(&unpacked)).expect("a folder");
    }
    let turn = store.change().expect("a turn");
    images::remove(&store, &turn, "app:1").expect("removed");
    let trash = images::collect(&store, &turn, &[vec![diff_id]], &BTreeSet::new(), later()).expect("collected");
    assert!(store.layer(&diff_id).exists() && store.blob(&diff_id).exists() && !store.layer(&Sha256::of(b"other")).exists());
    drop(turn);
    store.empty(trash).expect("emptied");
    assert_eq!(fs::read_dir(folder.path().join("trash")).expect("a folder").count(), 0);
}

#[test]
fn an_archive_is_the_same_image_elsewhere_and_several_share_layers() {
    let (here, there) = (folder(), folder());
    let (store_here, store_there) = (store(here.path()), store(there.path()));
    let id = import(&store_here, &tar_of(&[("a", b"b")]), "team/app:2").expect("imported");
    let archive = saved(&store_here, "team/app:2");
    assert_eq!(archive, saved(&store_here, "docker.io/team/app:2"));
    assert_eq!(images::load(&store_there, &archive[..]).expect("loaded"), ["team/app:2"]);
    assert_eq!(find(&store_there, "team/app:2").expect("there").id, id);
    let unnamed = saved(&store_here, &format!("sha256:{id}"));
    remove(&store_there, "team/app:2");
    assert_eq!(images::load(&store_there, &unnamed[..]).expect("loaded"), [format!("sha256:{id}")]);
    // A layout, too.
    let mut members = tar::Archive::new(&archive[..]);
    let mut layout = tar::Builder::new(Vec::new());
    for entry in members.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let (mut header, path) = (entry.header().clone(), entry.path().expect("a path").into_owned());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("bytes");
        if path != Path::new("manifest.json") {
            layout.append_data(&mut header, path, &bytes[..]).expect("into memory");
        }
    }
    remove(&store_there, &format!("sha256:{id}"));
    assert_eq!(images::load(&store_there, &layout.into_inner().expect("into memory")[..]).expect("loaded"), ["team/app:2"]);
}

#[test]
fn a_layer_that_is_here_need_not_be_in_the_archive() {
    let folder = folder();
    let store = store(folder.path());
    let layer = tar_of(&[("a", b"b")]);
    let short = archive(&[], "0/layer.tar", &Sha256::of(&layer), "app:1");
    let missing = images::load(&store, &short[..]).expect_err("nobody has it");
    assert!(missing.causes().concat().contains("0/layer.tar is missing"), "{missing}: {:?}", missing.causes());
    import(&store, &layer, "base").expect("imported");
    assert_eq!(images::load(&store, &short[..]).expect("loaded"), ["app:1"]);
}

#[test]
fn an_archive_that_lies_is_refused_and_leaves_nothing() {
    let folder = folder();
    let store = store(folder.path());
    let layer = tar_of(&[("a", b"b")]);
    let digest = Sha256::of(&layer);
    let out = tar_of(&[("../../etc/passwd", b"x")]);
    let hidden = tar_of(&[("x/.wh...", b"")]);
    let good = archive(&layer, "0/layer.tar", &digest, "app:1");
    let wrong: [(&str, Vec<u8>); 8] = [
        ("another digest", archive(&layer, "0/layer.tar", &Sha256::of(b"x"), "app:1")),
        ("a path that leads out", archive(&out, "0/layer.tar", &Sha256::of(&out), "app:1")),
        ("a whiteout of what is above", archive(&hidden, "0/layer.tar", &Sha256::of(&hidden), "app:1")),
        ("a layer outside", archive(&layer, "../../0/layer.tar", &digest, "app:1")),
        ("cut off", good[..good.len() - 2048].to_vec()),
        ("no archive", b"nothing".to_vec()),
        ("no image", tar_of(&[("a", b"b")])),
        ("no layer", archive(b"not a tar", "0/layer.tar", &Sha256::of(b"not a tar"), "app:1")),
    ];
    for (why, archive) in wrong {
        assert!(images::load(&store, &archive[..]).is_err(), "{why}");
    }
    assert_eq!((blobs(&store), fs::read_dir(folder.path().join("incoming")).expect("a folder").count()), (0, 0));
    assert!(images::load(&store, &good[..]).is_ok());
    // A name that leads elsewhere is none.
    let named = images::load(&store, &archive(&layer, "0/layer.tar", &digest, "../../x")[..]).expect("loaded");
    assert!(named.iter().all(|name| name.starts_with("sha256:")), "{named:?}");
}

#[test]
fn what_another_program_writes_into_the_layout_becomes_an_image() {
    let (here, there) = (folder(), folder());
    let (store_here, store_there) = (store(here.path()), store(there.path()));
    let kept = import(&store_here, &tar_of(&[("x", b"y")]), "kept").expect("imported");
    let id = import(&store_there, &tar_of(&[("a", b"b")]), "app:1").expect("imported");
    let archive = there.path().join("archive.tar");
    fs::write(&archive, saved(&store_there, "app:1")).expect("written");
    let image = twostage_image::Store::open(&archive, None).expect("an image");
    // As skopeo does: packed layers, and a name as it is given.
    let (config, name) = (image.config_json.clone(), Some("docker.io/library/app:1".to_string()));
    let flat = twostage_image::NewImage {
        store: &image,
        kept: 1,
        delta: None,
        compression: twostage_image::Compression::Gzip,
        name,
        config: &|_| Ok(config.clone()),
    };
    flat.write_layout(&store_here.images()).expect("written");
    images::adopt(&store_here).expect("adopted");
    assert_eq!(find(&store_here, "app:1").map(|image| (image.id, image.names)), Some((id, vec!["app:1".to_string()])));
    assert_eq!(find(&store_here, "kept").map(|image| image.id), Some(kept));
    let index = fs::read_to_string(store_here.images().join("index.json")).expect("read");
    assert!(!index.contains("docker.io"), "{index}");
}

#[test]
fn what_the_dead_left_is_swept_and_what_the_living_have_stays() {
    let folder = folder();
    let store = store(folder.path());
    let alive = store.workplace().expect("a place");
    fs::write(alive.path("file"), b"x").expect("written");
    for dead in ["incoming", "containers", "trash"] {
        fs::create_dir_all(folder.path().join(dead).join(unique()).join("tree")).expect("a folder");
    }
    fs::write(store.images().join(".twostage-incoming-x"), b"half").expect("written");
    let count = |name: &str| fs::read_dir(folder.path().join(name)).expect("a folder").count();

    let store = self::store(folder.path());
    let trash = store.sweep(&store.change().expect("a turn")).expect("swept");
    assert_eq!((count("incoming"), count("containers"), count("trash")), (1, 0, 3));
    store.empty(trash).expect("emptied");
    assert_eq!((count("trash"), fs::read(alive.path("file")).ok().as_deref()), (0, Some(&b"x"[..])));
    assert!(!store.images().join(".twostage-incoming-x").exists());
    drop(alive);
    assert_eq!((count("incoming"), count("trash")), (0, 0));
}

#[test]
fn many_at_once_lose_nothing() {
    let folder = folder();
    let names: Vec<String> = (0..8).map(|number| format!("app:{number}")).collect();
    std::thread::scope(|scope| {
        for (number, name) in names.iter().enumerate() {
            let root = folder.path();
            scope.spawn(move || {
                // Each as a process of its own would.
                let store = store(root);
                let tar = tar_of(&[("same", b"x"), ("number", &[u8::try_from(number % 3).expect("small")])]);
                for _ in 0..5 {
                    import(&store, &tar, name).expect("imported");
                    assert!(images::load(&store, &saved(&store, name)[..]).is_ok());
                    remove(&store, name);
                    import(&store, &tar, name).expect("imported");
                }
            });
        }
    });
    let store = store(folder.path());
    let mut found: Vec<String> =
        images::all(&store, &store.look().expect("a turn")).expect("read").into_iter().flat_map(|i| i.names).collect();
    found.sort();
    assert_eq!(found, names);
    assert_eq!(blobs(&store), 9);
    for name in &names {
        assert!(images::load(&store, &saved(&store, name)[..]).is_ok(), "its blobs are whole");
    }
}

#[test]
fn an_image_that_is_open_is_read_whole_though_it_is_removed() {
    let folder = folder();
    let store = store(folder.path());
    let tar = tar_of(&[("a", b"b"), ("c", b"d")]);
    let id = import(&store, &tar, "short:1").expect("imported");
    let opened = images::open(&store, "short:1").expect("opened");
    remove(&store, "short:1");
    assert_eq!(blobs(&store), 0, "the store has nothing of it any more");
    assert_eq!(opened.id(), id);
    let image = opened.read(&|_| Want::Digest).expect("it is whole");
    assert_eq!(image.layers.len(), 1);
    drop(opened);
    assert_eq!(fs::read_dir(folder.path().join("incoming")).expect("a folder").count(), 0, "nothing is left of it");
    assert!(images::open(&store, "short:1").is_err());
}

#[test]
fn what_is_in_a_base_is_kept_for_its_audits_and_goes_with_it() {
    let folder = folder();
    let store = store(folder.path());
    let id = import(&store, &tar_of(&[("a", b"b"), ("c", b"d")]), "base:1").expect("imported");
    let (kept, hers) = (super::contents::folder(&store), || fs::read_dir(folder.path().join("contents")).expect("a folder").count());
    let audit = || {
        let opened = images::open(&store, "base:1").expect("opened");
        let (image, report) = audit_store(&opened, Base::Layers(1), &Known::default()).expect("audited");
        (image.id, image.tags, report.to_text())
    };
    let first = audit();
    assert_eq!((first.0, first.1.as_slice(), hers()), (id, &["base:1".to_string()][..], 1));
    // Whatever becomes of the file, the audit is the same, and the file is whole again.
    let path = fs::read_dir(&kept).expect("a folder").next().expect("a file").expect("a file").path();
    let whole = fs::read(&path).expect("read");
    for damaged in [Some(&b""[..]), Some(&whole[..whole.len() / 2]), None] {
        match damaged {
            Some(bytes) => fs::write(&path, bytes).expect("written"),
            None => fs::remove_file(&path).expect("removed"),
        }
        assert_eq!(audit(), first);
        assert_eq!(fs::read(&path).expect("it is there again"), whole);
    }
    // A base that is cut off is not taken for whole because it is known.
    let blob = store.blob(&path.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a digest"));
    let tar = fs::read(&blob).expect("read");
    fs::write(&blob, &tar[..512]).expect("written");
    let opened = images::open(&store, "base:1").expect("opened");
    assert!(audit_store(&opened, Base::Layers(1), &Known::default()).is_err());
    fs::write(&blob, &tar).expect("written");
    remove(&store, "base:1");
    assert_eq!(hers(), 0, "nobody needs it");
}

#[test]
fn a_flat_image_takes_the_layers_that_are_here_and_those_of_elsewhere() {
    let folders = [folder(), folder()];
    let [here, there] = folders.each_ref().map(|folder| store(folder.path()));
    let low = tar_of(&[("a", b"low"), ("b", b"low")]);
    let middle = tar_of(&[(".wh.a", b""), ("c", b"middle")]);
    let high = tar_of(&[("c", b"high")]);
    let place = here.workplace().expect("a place");
    let layers: Vec<NewLayer> = [&low, &middle, &high]
        .map(|tar| {
            let (diff_id, file) = (Sha256::of(tar), place.path(&Sha256::of(tar).to_string()));
            fs::write(&file, tar).expect("a file");
            NewLayer { diff_id, file: Some(file) }
        })
        .into();
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
    let config =
        serde_json::json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let whole = config.to_string().into_bytes();
    images::put(&here, &here.change().expect("a turn"), &whole, &layers, &["whole:1".to_string()]).expect("put");
    let opened = images::open(&here, "whole:1").expect("opened");
    let image = opened.read(&|_| Want::Digest).expect("read");
    let flat = flatten::flatten(&image, 1).expect("flattened");
    let config = |diff_id| flat.config(diff_id);
    let new = NewImage {
        store: &opened,
        kept: 1,
        delta: flat.delta.as_ref(),
        compression: Compression::None,
        name: Some("flat:1".into()),
        config: &config,
    };
    for (store, before) in [(&here, 5), (&there, 0)] {
        let written = images::write(store, &new).expect("written");
        let found = find(store, "flat:1").expect("it is there");
        assert_eq!((found.id, Some(found.diff_ids[1])), (written.id, written.layer.map(|(diff_id, _)| diff_id)));
        assert_eq!(found.diff_ids[0], Sha256::of(&low));
        let new_blobs = if before == 0 { 4 } else { 3 };
        assert_eq!(blobs(store), before + new_blobs, "a layer, a configuration, a manifest, and the lowest layer where it is not yet");
        let again = images::open(store, "flat:1").expect("opened");
        let tree = again.read(&|_| Want::Digest).expect("every digest is right");
        assert_eq!(tree.layers.len(), 2);
    }
}

#[test]
fn what_a_build_made_goes_when_nobody_asked_for_it_for_so_long() {
    use crate::keeping::PruneOptions;
    let root = folder();
    let store = store(root.path());
    for name in ["twostage-builder:old", "twostage-builder:new", "twostage-builder:asked", "twostage-base:both", "mine:1"] {
        import(&store, &tar_of(&[("name", name.as_bytes())]), name).expect("imported");
    }
    let both = find(&store, "twostage-base:both").expect("it is there").id;
    images::tag(&store, &store.change().expect("a turn"), &both.to_string(), "mine:2").expect("tagged");
    let day = Duration::from_secs(24 * 3600);
    for blob in fs::read_dir(store.images().join("blobs/sha256")).expect("a folder") {
        let file = fs::File::open(blob.expect("a blob").path()).expect("it opens");
        file.set_modified(SystemTime::now() - 40 * day).expect("a time");
    }
    let found = find(&store, "twostage-builder:new").expect("it is there");
    let manifest = images::location(&store, &store.look().expect("a turn"), "twostage-builder:new").expect("a place").manifest;
    fs::File::open(store.blob(&manifest)).and_then(|file| file.set_modified(SystemTime::now() - 29 * day)).expect("a time");
    find(&store, "twostage-builder:asked").expect("it is there");

    let options = PruneOptions { now: SystemTime::now(), older: 30 * day, all: false };
    let plan = prune::plan(&store, &store.look().expect("a turn"), options).expect("judged");
    let told: Vec<String> = plan.images.iter().map(|decision| format!("{} {} {}", decision.goes, decision.image, decision.why)).collect();
    assert_eq!(
        told,
        [
            "true twostage-builder:old no build asked for it for 40 days",
            "false mine:1 no build made mine:1 for itself",
            "false mine:2 twostage-base:both no build made mine:2 for itself",
            "false twostage-builder:asked a build asked for it 0 days ago",
            "false twostage-builder:new a build asked for it 29 days ago",
        ]
    );
    assert!(plan.bytes > 0 && plan.images[0].bytes == plan.bytes && !found.diff_ids.is_empty());
    let freed = prune::prune(&store, options).expect("pruned");
    assert_eq!((freed.names, freed.images.len()), (vec!["twostage-builder:old".to_string()], 1));
    assert!(find(&store, "twostage-builder:old").is_none() && find(&store, "twostage-builder:new").is_some());
}
