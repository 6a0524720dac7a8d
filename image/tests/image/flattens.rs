//! Flattening: the tree stays, the layers become one; the whiteout table of the OCI specification
//! (layer.md, "Whiteouts") and dflatten's behaviours, row by row.

use crate::support::*;
use std::path::Path;
use twostage_image::flatten::{self, Flat};
use twostage_image::{Compression, Image, NewImage, Store, Tree, Want};
use twostage_model::Sha256;

/// An image in a file, and what it is flattened to.
struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    image: Image,
}

impl Bench {
    fn of(layers: &[Vec<u8>]) -> Bench {
        Bench::with(layers, &docker_old(layers))
    }

    fn with(_: &[Vec<u8>], archive: &[u8]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("image.tar"), archive).unwrap();
        let store = open(&folder.path().join("image.tar"));
        let image = store.read(&|_| Want::Content).unwrap();
        Bench { folder, store, image }
    }

    fn flat(&self, parent: usize) -> Flat<'_> {
        flatten::flatten(&self.image, parent).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The flat image, written to an archive and read again.
    fn flattened(&self, parent: usize) -> Image {
        let path = self.folder.path().join("flat.tar");
        self.write(parent, Compression::None, &path);
        read(&path)
    }

    fn write(&self, parent: usize, compression: Compression, path: &Path) -> twostage_image::Written {
        let flat = self.flat(parent);
        let config = |diff_id| flat.config(diff_id);
        let name = Some("flat:latest".to_string());
        let new = NewImage { store: &self.store, kept: parent, delta: flat.delta.as_ref(), compression, name, config: &config };
        let written = if path.extension().is_some() { new.write_archive(path) } else { new.write_layout(path) };
        let written = written.unwrap_or_else(|e| panic!("{e}: {:?}", e.causes()));
        // Where only those files are hashed that are compared, the same comes out.
        let image = self.store.read_to_flatten().unwrap_or_else(|e| panic!("{e}: {:?}", e.causes()));
        let lazy = flatten::flatten(&image, parent).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((lazy.bytes_before, &lazy.hidden), (flat.bytes_before, &flat.hidden));
        let again = self.folder.path().join("again.tar");
        let new = NewImage { delta: lazy.delta.as_ref(), ..new };
        assert_eq!(new.write_archive(&again).unwrap().id, written.id);
        if path.extension().is_some() {
            assert!(std::fs::read(path).unwrap() == std::fs::read(&again).unwrap(), "the same bytes");
        }
        written
    }
}

fn open(path: &Path) -> Store {
    Store::open(path, None).unwrap_or_else(|e| panic!("{e}: {:?}", e.causes()))
}

fn read(path: &Path) -> Image {
    open(path).read(&|_| Want::Content).unwrap_or_else(|e| panic!("{e}: {:?}", e.causes()))
}

/// The tree, with the folders that no layer states as an engine would make them.
fn text(image: &Image) -> String {
    Tree::new(&image.layers).to_text().replace("/: dir, stated by no layer", "/: dir 0755 0:0")
}

/// What the top layer's tar holds, in its order, whiteouts as they are written.
fn members(image: &Image) -> String {
    let top = image.layers.last().unwrap();
    let name = |entry: &twostage_image::Entry| match entry.kind {
        twostage_image::Kind::Whiteout => format!("-{}", entry.path),
        twostage_image::Kind::Hardlink { ref target } => format!("{}={target}", entry.path),
        _ if entry.is_dir() => format!("{}/", entry.path),
        _ => entry.path.clone(),
    };
    top.entries.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// Flattens layers onto the first one: the tree is the same, one layer is above the parent's, and
/// its tar holds `expected`.
#[track_caller]
fn flat(layers: Vec<Vec<u8>>, expected: &str) {
    let bench = Bench::of(&layers);
    let flat = bench.flattened(1);
    assert_eq!(text(&flat), text(&bench.image));
    assert_eq!(flat.layers[0].diff_id, bench.image.layers[0].diff_id, "the parent's layer stays as it is");
    assert_eq!(flat.layers.len(), 1 + usize::from(!expected.is_empty()));
    assert_eq!(if expected.is_empty() { String::new() } else { members(&flat) }, expected);
}

fn base() -> Vec<u8> {
    Tar::new().dir("etc").file("etc/hosts", "hello").dir("usr").dir("usr/lib").file("usr/lib/a", "a").file("usr/lib/b", "b").done()
}

#[test]
fn what_one_layer_adds_and_another_deletes_is_in_no_layer() {
    let build = Tar::new().dir("src").file("src/big", "x".repeat(5000)).file("usr/app", "app").done();
    let clean = Tar::new().file(".wh.src", "").done();
    flat(vec![base(), build.clone(), clean.clone()], "usr/ usr/app");
    let bench = Bench::of(&[base(), build, clean]);
    let hidden = bench.flat(1).hidden;
    assert_eq!((hidden.total().files, hidden.total().bytes), (1, 5000));
    assert_eq!((hidden.largest[0].path.as_str(), hidden.largest[0].layer, hidden.largest[0].why.word()), ("/src/big", 2, "deleted later"));
}

#[test]
fn a_file_of_the_parent_that_is_deleted_stays_deleted() {
    flat(vec![base(), Tar::new().file("x", "x").done(), Tar::new().file("etc/.wh.hosts", "").done()], "etc/ -etc/hosts x");
}

#[test]
fn a_folder_of_the_parent_that_is_deleted_is_one_whiteout() {
    flat(vec![base(), Tar::new().file("usr/.wh.lib", "").file("x", "").done()], "usr/ -usr/lib x");
}

#[test]
fn an_opaque_folder_deletes_what_the_parent_has_in_it_and_keeps_what_is_new() {
    let opaque = Tar::new().dir("usr/lib").file("usr/lib/.wh..wh..opq", "").file("usr/lib/new", "new").done();
    flat(vec![base(), opaque], "usr/ usr/lib/ -usr/lib/a -usr/lib/b usr/lib/new");
}

#[test]
fn a_file_that_is_deleted_and_made_again_is_the_new_one() {
    let again = Tar::new().file("etc/hosts", "again").done();
    flat(vec![base(), Tar::new().file("etc/.wh.hosts", "").done(), again], "etc/ etc/hosts");
}

#[test]
fn a_folder_that_is_deleted_and_made_again_has_only_what_is_new() {
    let again = Tar::new().dir("usr/lib").file("usr/lib/b", "other").done();
    flat(vec![base(), Tar::new().file("usr/.wh.lib", "").done(), again], "usr/ usr/lib/ -usr/lib/a usr/lib/b");
}

#[test]
fn a_whiteout_of_what_is_not_there_is_nothing() {
    flat(vec![base(), Tar::new().file("etc/.wh.none", "").file(".wh.nothing", "").done()], "");
}

#[test]
fn types_that_replace_each_other() {
    flat(vec![base(), Tar::new().file("etc", "a file").done()], "etc");
    flat(vec![base(), Tar::new().dir("etc/hosts").file("etc/hosts/a", "").done()], "etc/ etc/hosts/ etc/hosts/a");
    flat(vec![base(), Tar::new().symlink("usr/lib", "lib64").done()], "usr/ usr/lib");
    flat(vec![base(), Tar::new().device(b'3', "etc/hosts", 1, 3).device(b'6', "pipe", 0, 0).done()], "etc/ etc/hosts pipe");
}

#[test]
fn what_is_written_again_as_it_was_is_not_in_the_layer() {
    flat(vec![base(), Tar::new().file("etc/hosts", "hello").done()], "");
    flat(vec![base(), Tar::new().file("etc/hosts", "other").done(), Tar::new().file("etc/hosts", "hello").done()], "");
}

#[test]
fn a_folder_below_which_something_changes_is_stated_with_its_own_rights() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o1777);
    header.set_size(0);
    header.set_uid(7);
    header.set_gid(8);
    tar.append_data(&mut header, "tmp", &[][..]).unwrap();
    let base = tar.into_inner().unwrap();
    let bench = Bench::of(&[base, Tar::new().file("tmp/x", "x").done()]);
    let flat = bench.flattened(1);
    assert_eq!(members(&flat), "tmp/ tmp/x");
    assert!(text(&flat).contains("/tmp/: dir 1777 7:8\n"), "{}", text(&flat));
}

#[test]
fn hard_links_stay_one_file_across_layers_too() {
    let linked = || Tar::new().file("a", "one").hardlink("b", "a").done();
    flat(vec![base(), linked()], "a b=a");
    // A second name in a later layer.
    flat(vec![base(), Tar::new().file("a", "one").done(), Tar::new().hardlink("c", "a").done()], "a c=a");
    // The first name goes, the second stays.
    flat(vec![base(), linked(), Tar::new().file(".wh.a", "").done()], "b");
    // A second name of a file of the parent: both are in the layer, as one file.
    flat(vec![base(), Tar::new().hardlink("etc/second", "etc/hosts").done()], "etc/ etc/hosts etc/second=etc/hosts");
    // Two names in the parent, of which one gets other content.
    flat(vec![linked(), Tar::new().file("b", "two").done()], "b");
}

#[test]
fn attributes_owners_large_ids_long_and_odd_names_are_kept() {
    let long = format!("{}/end", "long/".repeat(40));
    let odd = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", b"\x01\x00\xff")])
        .file("ping", "ping")
        .pax(&[("uid", b"4000000"), ("gid", b"5000000"), ("mtime", b"-7")])
        .file_with("owned", "x", 0o4755, 0)
        .file(&long, "long")
        .file("\u{fc}ml\u{e4}ut", "u")
        .raw(b'0', b"odd\xff\n\\", b"", b"odd")
        .symlink("link", &"t/".repeat(80))
        .done();
    let bench = Bench::of(&[base(), odd]);
    let flat = bench.flattened(1);
    assert_eq!(text(&flat), text(&bench.image));
    let of = |image: &Image| {
        let mut all: Vec<_> = image.layers[1].entries.iter().filter(|e| !e.is_dir()).cloned().collect();
        all.iter_mut().for_each(|entry| entry.number = 0);
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    };
    assert_eq!(of(&flat), of(&bench.image));
    assert!(of(&flat).iter().any(|entry| (entry.uid, entry.gid, entry.mtime, entry.mode) == (4_000_000, 5_000_000, -7, 0o4755)));
}

#[test]
fn the_same_image_becomes_the_same_bytes_packed_or_not() {
    let layers = [base(), Tar::new().file("x", "x".repeat(3000)).done(), Tar::new().file(".wh.x", "").file("y", "y").done()];
    let bench = Bench::of(&layers);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let paths = ["one.tar", "two.tar"].map(|name| bench.folder.path().join(name));
        let written = paths.clone().map(|path| bench.write(1, compression, &path));
        assert_eq!(written[0].manifest, written[1].manifest);
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap(), "{compression:?}");
        assert_eq!(read(&paths[0]).config.diff_ids, bench.flattened(1).config.diff_ids, "{compression:?}");
        assert_eq!(open(&paths[0]).blob(1).unwrap().2, compression);
    }
}

#[test]
fn a_flat_image_of_a_flat_image_is_itself() {
    let bench = Bench::of(&[base(), Tar::new().file("x", "x").done(), Tar::new().file("y", "y").done()]);
    let path = bench.folder.path().join("once.tar");
    bench.write(1, Compression::None, &path);
    let again = Bench::with(&[], &std::fs::read(&path).unwrap());
    assert_eq!(again.flattened(1).config.diff_ids, read(&path).config.diff_ids);
}

#[test]
fn a_top_that_only_sets_metadata_needs_no_layer() {
    let bench = Bench::of(&[base()]);
    let flat = bench.flattened(1);
    assert_eq!(flat.config.diff_ids, bench.image.config.diff_ids);
    assert_eq!(flat.config.cmd, ["sh"]);
    let empty = Bench::of(&[base(), Tar::new().done()]);
    assert_eq!(empty.flattened(1).layers.len(), 1);
}

#[test]
fn all_layers_become_one_without_a_parent() {
    let bench = Bench::of(&[base(), Tar::new().file("etc/.wh.hosts", "").file("x", "x").done()]);
    let flat = bench.flattened(0);
    assert_eq!(flat.layers.len(), 1);
    assert_eq!(text(&flat), text(&bench.image));
    assert_eq!(members(&flat), "etc/ usr/ usr/lib/ usr/lib/a usr/lib/b x");
}

#[test]
fn configuration_and_history_stay_honest() {
    let layers = [base(), Tar::new().file("x", "x").done(), Tar::new().file("y", "y").done()];
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"sha256:{}\"", Sha256::of(layer))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z","unknown":{{"kept":true}},
            "config":{{"User":"app","Healthcheck":{{"Test":["CMD","x"]}},"Volumes":{{"/data":{{}}}}}},
            "rootfs":{{"type":"layers","diff_ids":[{}]}},
            "history":[{{"created_by":"ADD file:x in /"}},{{"created_by":"CMD [\"bash\"]","empty_layer":true}},
                       {{"created_by":"RUN make x"}},{{"created_by":"ENV A=b","empty_layer":true}},{{"created_by":"RUN make y"}}]}}"#,
        ids.join(",")
    );
    let bench = Bench::with(&[], &docker_old_with(&layers, &config));
    assert_eq!(flatten::told(&bench.image.config).map(|parent| parent.layers), Some(1), "after the parent's CMD");
    let flat = bench.flattened(1);
    let json: serde_json::Value = serde_json::from_slice(&flat.config_json).unwrap();
    assert_eq!(json["unknown"]["kept"], true);
    assert_eq!(json["config"]["Healthcheck"]["Test"][1], "x");
    assert_eq!(json["created"], "2026-01-01T00:00:00Z");
    let steps: Vec<(String, bool)> = flat.config.history.iter().map(|step| (step.created_by.clone(), step.empty_layer)).collect();
    let expected = [
        ("ADD file:x in /", false),
        ("CMD [\"bash\"]", true),
        ("RUN make x", true),
        ("ENV A=b", true),
        ("RUN make y", true),
        ("twostage flatten", false),
    ];
    assert_eq!(steps, expected.map(|(step, empty)| (step.to_string(), empty)));
    assert_eq!(flat.config.history[5].comment, format!("2 layers of sha256:{} in one", bench.image.id));
}

#[test]
fn the_parent_is_named_by_its_layers_or_the_error_says_what_is_shared() {
    let bench = Bench::of(&[base(), Tar::new().file("x", "x").done()]);
    let ids = &bench.image.config.diff_ids;
    assert_eq!(flatten::onto(ids, &ids[..1], "base").unwrap().layers, 1);
    let other = [ids[0], Sha256::of(b"other")];
    let error = flatten::onto(ids, &other, "other").unwrap_err();
    assert_eq!(error.to_string(), "other is not the parent of this image: the image shares only 1 of its 2 layers");
    let error = flatten::onto(ids, &other[1..], "other").unwrap_err();
    assert_eq!(error.to_string(), "other is not the parent of this image: the image shares no layer with it");
    assert!(flatten::told(&bench.image.config).is_none(), "its history says nothing of a parent");
}

#[test]
fn a_layout_takes_one_more_image_and_replaces_one_of_the_same_name() {
    let bench = Bench::of(&[base(), Tar::new().file("x", "x").done()]);
    let layout = bench.folder.path().join("layout");
    let first = bench.write(1, Compression::Gzip, &layout);
    let second = bench.write(1, Compression::Gzip, &layout);
    assert_eq!(first.manifest, second.manifest);
    let opened = Store::open(&layout, Some("flat:latest")).unwrap();
    assert_eq!(opened.id(), first.id);
    assert_eq!(text(&opened.read(&|_| Want::Digest).unwrap()), text(&bench.image));
    let error = Store::open(&layout, Some("none")).unwrap_err();
    assert!(error.causes().join(" ").contains("no image in it is called none") && error.hint_text().unwrap().contains("flat:latest"));
    // What is no layout is left alone.
    let occupied = bench.folder.path().join("occupied");
    std::fs::create_dir(&occupied).unwrap();
    std::fs::write(occupied.join("mine"), "").unwrap();
    let flat = bench.flat(1);
    let config = |diff_id| flat.config(diff_id);
    let new =
        NewImage { store: &bench.store, kept: 1, delta: flat.delta.as_ref(), compression: Compression::None, name: None, config: &config };
    assert!(new.write_layout(&occupied).unwrap_err().to_string().contains("neither empty nor an OCI layout"));
    assert_eq!(std::fs::read_dir(&occupied).unwrap().count(), 1);
}

#[test]
fn what_an_engine_is_given_announces_its_length_rightly() {
    let odd = Tar::new().file(&"n".repeat(150), "x").hardlink("second", &"n".repeat(150)).file("z", vec![7; 1000]).done();
    let bench = Bench::of(&[base(), odd, Tar::new().file("etc/.wh.hosts", "").done()]);
    let flat = bench.flat(1);
    let config = |diff_id| flat.config(diff_id);
    let name = Some("flat:latest".to_string());
    let new = NewImage { store: &bench.store, kept: 1, delta: flat.delta.as_ref(), compression: Compression::None, name, config: &config };
    let path = bench.folder.path().join("load.tar");
    let written = new.load(std::fs::File::create(&path).unwrap(), true).unwrap();
    let loaded = read(&path);
    assert_eq!(loaded.id, written.id);
    assert_eq!(text(&loaded), text(&bench.image));
    assert_eq!(loaded.tags, ["flat:latest"]);
}

#[test]
fn an_image_that_changes_while_it_is_read_is_not_written() {
    let bench = Bench::of(&[base(), Tar::new().file("x", "x".repeat(2000)).done()]);
    let path = bench.folder.path().join("image.tar");
    let other = docker_old(&[base(), Tar::new().file("w", "x".repeat(2000)).done()]);
    std::fs::write(&path, other).unwrap();
    let flat = bench.flat(1);
    let config = |diff_id| flat.config(diff_id);
    let new =
        NewImage { store: &bench.store, kept: 1, delta: flat.delta.as_ref(), compression: Compression::None, name: None, config: &config };
    let target = bench.folder.path().join("never.tar");
    let error = new.write_archive(&target).unwrap_err();
    assert!(error.to_string().contains("no longer what it was"), "{error}");
    assert!(!target.exists());
    assert!(!std::fs::read_dir(bench.folder.path()).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with(".twostage")));
}
