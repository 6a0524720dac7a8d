//! Every form of archive gives the same image.

use crate::support::*;
use std::collections::BTreeMap;
use twostage_image::{Compression, Image, Kind, NewImage, Store, Tree, Want, manifest_of, read_archive};
use twostage_model::{Error, Sha256};

fn layers() -> Vec<Vec<u8>> {
    let long = format!("usr/{}/end", "long/".repeat(40));
    let base = Tar::new().dir("./").dir("etc/").file("etc/hosts", "hello").symlink("bin", "usr/bin").file(&long, "long").done();
    let top = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", b"\x01\x00\xff")])
        .file("usr/bin/ping", "ping")
        .pax(&[("SCHILY.xattr.security.capability", b"\x01\x00\xff")])
        .hardlink("usr/bin/ping6", "usr/bin/ping")
        .file("etc/.wh.hosts", "")
        .raw(b'0', b"etc/\xff\n\\", b"", b"odd")
        .done();
    vec![base, top]
}

fn read(bytes: &[u8]) -> Image {
    read_archive(bytes, &|path| if path == "etc/hosts" { Want::Content } else { Want::Digest })
        .unwrap_or_else(|e| panic!("{e} {:?}", e.causes()))
}

#[test]
fn all_forms_are_the_same_image() {
    let layers = layers();
    let compressed = [gzip(&layers[0]), zstd(&layers[1])];
    let mut two_gzip_members = gzip(&layers[0][..1000]);
    two_gzip_members.extend(gzip(&layers[0][1000..]));
    let forms = [
        ("docker 20.10", docker_old(&layers)),
        ("docker 25", archive(&layout(&layers, &layers, true))),
        ("oci", archive(&layout(&layers, &layers, false))),
        ("oci, gzip and zstd", archive(&layout(&layers, &compressed, false))),
        ("two gzip members", archive(&layout(&layers, &[two_gzip_members, layers[1].clone()], false))),
    ];
    let expected = Tree::new(&read(&forms[0].1).layers).to_text();
    let tags: Vec<Vec<String>> = forms.iter().map(|(_, bytes)| read(bytes).tags).collect();
    assert_eq!(tags[..3], [["test:latest"], ["test:new"], ["test:oci"]]);
    for (name, bytes) in &forms {
        let image = read(bytes);
        assert_eq!(image.id, Sha256::of(config(&layers).as_bytes()), "{name}");
        assert_eq!(image.layers.iter().map(|l| l.size as usize).collect::<Vec<_>>(), [layers[0].len(), layers[1].len()], "{name}");
        assert_eq!(Tree::new(&image.layers).to_text(), expected, "{name}");
        assert_eq!(image.config.cmd, ["sh"]);
        let hosts = image.layers[0].entries.iter().find(|e| e.path == "etc/hosts").unwrap();
        assert_eq!(hosts.content.as_deref(), Some(&b"hello"[..]), "{name}");
        assert_eq!(image.layers[1].entries[0].content, None);
    }
}

#[test]
fn a_layout_folder_is_read_and_its_links_are_not_followed() {
    let layers = layers();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
    let files = layout(&layers, &layers, false);
    files.iter().for_each(|(name, bytes)| std::fs::write(dir.path().join(name), bytes).unwrap());
    let image = Store::open(dir.path(), None).unwrap().read(&|_| Want::Digest).unwrap();
    assert_eq!(image.config.diff_ids, layers.iter().map(|l| Sha256::of(l)).collect::<Vec<_>>());

    let blob = dir.path().join(&files[0].0);
    std::fs::rename(&blob, dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", &blob).unwrap();
    let error = Store::open(dir.path(), None).unwrap_err().causes().join(": ");
    assert!(error.contains("is missing"), "{error}");
}

#[test]
fn a_layout_whose_parts_are_links_is_neither_read_nor_written_to() {
    let layers = layers();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    std::fs::write(&path, docker_old(&layers)).unwrap();
    let store = Store::open(&path, None).unwrap();
    let config = |_| Ok(store.config_json.clone());
    let new = NewImage { store: &store, kept: store.layers(), delta: None, compression: Compression::None, name: None, config: &config };
    let said = |error: Error| format!("{error}: {}; {}", error.causes().join(": "), error.hint_or_class());
    let listed = |folder: &std::path::Path| {
        let names = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    for part in ["blobs", "blobs/sha256", "index.json", "oci-layout", "manifest.json"] {
        let folder = dir.path().join(part.replace('/', "-"));
        let elsewhere = dir.path().join("elsewhere");
        new.write_layout(&folder).unwrap();
        if part == "manifest.json" {
            let blobs: Vec<String> = layers.iter().map(|layer| format!("\"blobs/sha256/{}\"", Sha256::of(layer))).collect();
            let manifest = format!(r#"[{{"Config":"blobs/sha256/{}","Layers":[{}]}}]"#, store.id(), blobs.join(","));
            place(&folder, &[(part.into(), manifest.into_bytes())]);
        }
        std::fs::rename(folder.join(part), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.join(part)).unwrap();
        let before = (listed(&elsewhere), listed(&elsewhere.join("sha256")), listed(&folder));
        let expected = format!("{} is a symbolic link", folder.join(part).display());
        for error in [Store::open(&folder, None).unwrap_err(), Store::open_all(&folder, &|_| false).unwrap_err()] {
            let error = said(error);
            assert!(error.contains(&expected) && error.contains("cp -rL"), "{part}: {error}");
        }
        let error = said(new.write_layout(&folder).unwrap_err());
        assert!(error.contains(&expected) && error.contains("cannot write the layout"), "{part}: {error}");
        assert_eq!((listed(&elsewhere), listed(&elsewhere.join("sha256")), listed(&folder)), before, "{part}");
        // What the user names may be a link.
        std::fs::remove_file(folder.join(part)).unwrap();
        std::fs::rename(&elsewhere, folder.join(part)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        Store::open(&link, None).unwrap();
        new.write_layout(&link).unwrap();
        std::fs::remove_file(&link).unwrap();
    }
    // A hanging link is one, too: it could come to lead somewhere.
    let folder = dir.path().join("hanging");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(dir.path().join("made"), folder.join("blobs")).unwrap();
    assert!(said(new.write_layout(&folder).unwrap_err()).contains("is a symbolic link"));
    assert!(!dir.path().join("made").exists());
}

#[test]
fn no_folder_on_the_way_to_a_file_of_a_layout_is_a_link() {
    let layers = layers();
    let dir = tempfile::tempdir().unwrap();
    let (folder, elsewhere) = (dir.path().join("layout"), dir.path().join("elsewhere"));
    place(&elsewhere, &[("layer.tar".into(), layers[0].clone())]);
    let config = config(&layers[..1]);
    let manifest = br#"[{"Config":"config.json","RepoTags":[],"Layers":["inner/layer.tar"]}]"#;
    place(&folder, &[("config.json".into(), config.into_bytes()), ("manifest.json".into(), manifest.to_vec())]);
    std::os::unix::fs::symlink(&elsewhere, folder.join("inner")).unwrap();
    let error = Store::open(&folder, None).unwrap_err().causes().join(": ");
    assert!(error.contains("inner/layer.tar is missing"), "{error}");
    std::fs::remove_file(folder.join("inner")).unwrap();
    std::fs::rename(&elsewhere, folder.join("inner")).unwrap();
    Store::open(&folder, None).unwrap().read(&|_| Want::Digest).unwrap();
}

#[test]
fn all_images_of_a_place_are_opened_each_once_with_all_its_names() {
    let (one, two) = (layers(), [Tar::new().file("other", "").done()]);
    let (one_files, two_files) = (layout(&one, &one, false), layout(&two, &two, false));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layout");
    place(&path, &one_files);
    place(&path, &two_files);
    place(&path, &[named(&[("b:1", &one_files), ("a:1", &two_files), ("a:2", &one_files)])]);
    let tags = |path: &std::path::Path| -> Vec<(Sha256, Vec<String>)> {
        let all = Store::open_all(path, &|_| false).unwrap_or_else(|e| panic!("{e} {:?}", e.causes()));
        all.into_iter().map(|store| (store.id(), store.tags)).collect()
    };
    let ids = [Sha256::of(config(&one).as_bytes()), Sha256::of(config(&two).as_bytes())];
    assert_eq!(tags(&path), [(ids[0], vec!["b:1".into(), "a:2".into()]), (ids[1], vec!["a:1".into()])]);

    // The same of an archive that says it twice.
    let manifest = |name: &str| {
        let layers: Vec<String> = one_files[..2].iter().map(|(name, _)| format!("{name:?}")).collect();
        format!(r#"{{"Config":"{}","RepoTags":["{name}"],"Layers":[{}]}}"#, one_files[2].0, layers.join(","))
    };
    let manifests = format!("[{},{},{}]", manifest("a:1"), manifest("b:1"), manifest("a:1"));
    let mut files = one_files[..3].to_vec();
    files.push(("manifest.json".into(), manifests.into_bytes()));
    let path = dir.path().join("image.tar");
    std::fs::write(&path, archive(&files)).unwrap();
    assert_eq!(tags(&path), [(ids[0], vec!["a:1".into(), "b:1".into()])]);
}

#[test]
fn an_image_with_many_names_is_read_once() {
    let layers = layers();
    let files = layout(&layers, &layers, false);
    let names: Vec<String> = (0..20_000).map(|number| format!("name:{number}")).collect();
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), &files);
    place(dir.path(), &[named(&names.iter().map(|name| (name.as_str(), files.as_slice())).collect::<Vec<_>>())]);
    let all = Store::open_all(dir.path(), &|_| false).unwrap();
    assert_eq!(all.into_iter().map(|store| store.tags).collect::<Vec<_>>(), [names]);
}

#[test]
fn a_layer_used_twice_is_read_once() {
    let empty = Tar::new().done();
    let layers = [layers()[0].clone(), empty.clone(), empty];
    assert_eq!(read(&docker_old(&layers)).layers.len(), 3);
}

#[test]
fn entries_keep_what_the_tar_says() {
    let image = read(&docker_old(&layers()));
    let top: BTreeMap<&str, &twostage_image::Entry> = image.layers[1].entries.iter().map(|e| (e.path.as_str(), e)).collect();
    assert_eq!(top["usr/bin/ping"].xattrs["security.capability"], [1, 0, 255]);
    assert_eq!(top["usr/bin/ping6"].kind, Kind::Hardlink { target: "usr/bin/ping".into() });
    assert_eq!(top["etc/hosts"].kind, Kind::Whiteout);
    let odd = image.layers[1].entries.iter().find(|e| e.content.is_none() && e.path.contains('\n')).unwrap();
    assert_eq!(twostage_image::path::to_bytes(&odd.path), b"etc/\xff\n\\");
    assert_eq!(image.layers[0].entries.iter().filter(|e| e.path.ends_with("/long/end")).count(), 1);
}

#[test]
fn the_last_of_several_entries_with_one_path_counts_and_is_noted() {
    let layer = Tar::new().file("a", "1").dir("d").dir("d").file("a", "22").file(".wh.a", "").done();
    let image = read(&docker_old(&[layer]));
    let twice: Vec<&str> = image.layers[0].ignored.duplicates.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(twice, ["a"]);
    assert_eq!(Tree::new(&image.layers).to_text(), "/a: file 0644 0:0 2 785f3ec7eb32\n/d/: dir 0755 0:0\n");
}

#[test]
fn long_names_and_sparse_files_of_real_tar() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(120)).join("y".repeat(120));
    std::fs::create_dir_all(&long).unwrap();
    let path = long.join("sparse");
    let file = std::fs::File::create(&path).unwrap();
    use std::os::unix::fs::FileExt;
    for part in 0..30_u64 {
        file.write_all_at(b"data", part * 100_000).unwrap();
    }
    file.set_len(5_000_000).unwrap();
    let expected = Sha256::of(&std::fs::read(&path).unwrap());
    for format in
        [&["--format=gnu"][..], &["--format=pax"], &["--format=pax", "--sparse-version=0.1"], &["--format=pax", "--sparse-version=0.0"]]
    {
        let out =
            std::process::Command::new("tar").arg("-S").args(format).arg("-C").arg(dir.path()).args(["-cf", "-", "."]).output().unwrap();
        assert!(out.status.success());
        assert!(out.stdout.len() < 1_000_000, "it is sparse");
        let image = read(&docker_old(&[out.stdout]));
        let entry = image.layers[0].entries.iter().find(|e| e.path.ends_with("/sparse")).unwrap();
        assert_eq!(entry.kind, Kind::File { size: 5_000_000, sha256: expected.into() }, "{format:?}");
        assert!(entry.path.starts_with("xxx") && entry.path.len() == 248, "{}", entry.path);
    }
}

#[test]
fn of_an_index_the_manifest_for_this_machine_is_meant_and_a_manifest_is_itself() {
    let layer = [Tar::new().file("a", "1").done()];
    let files = layout(&layer, &layer, false);
    // (layer, configuration, manifest, index for two machines, the two of the layout)
    let digest = |at: usize| Sha256::of(&files[at].1);
    assert_eq!(manifest_of(&files[3].1, "it").unwrap(), Some(digest(2)));
    assert_eq!(manifest_of(&files[2].1, "it").unwrap(), None);
    for wrong in [r#"{"manifests":[]}"#, "{}", "[", r#"{"manifests":[{"digest":"sha256:0"}]}"#] {
        assert!(manifest_of(wrong.as_bytes(), "it").is_err(), "{wrong}");
    }
}
