//! What the members of a layer leave behind, where one passes through a link of the layer, or takes another's place.

use crate::support::*;
use twostage_image::diff::Difference;
use twostage_image::flatten::flatten;
use twostage_image::{Base, Compression, Image, NewImage, Store, Tree, Want, audit, read_archive, wanted};

fn image(layers: &[Vec<u8>]) -> Image {
    read_archive(&docker_old(layers)[..], &wanted).unwrap_or_else(|e| panic!("{e} {:?}", e.causes()))
}

fn base() -> Vec<u8> {
    Tar::new().dir("a").file("a/low", "low").dir("real").file("real/old", "o").symlink("lowlink", "real").file("file", "x").done()
}

/// The paths of the image, without what the base alone would have; and what was refused.
fn over_base(layer: Tar) -> String {
    let layers = [base(), layer.done()];
    match read_archive(&docker_old(&layers)[..], &|_| Want::Digest) {
        Ok(image) => {
            let tree = Tree::new(&image.layers);
            let shown = tree.iter().map(|(path, node)| match node.symlink() {
                Some(target) => format!("{path}->{target} "),
                None => format!("{path}{} ", if node.is_dir() { "/" } else { "" }),
            });
            shown.collect::<String>().trim_end().to_string()
        }
        Err(error) => format!("refused: {}", error.causes().join(": ")),
    }
}

const BASE: &str = "a/ a/low file lowlink->real real/ real/old";

#[test]
fn a_member_is_where_the_links_of_its_own_layer_lead() {
    let with = |more: &str| {
        let mut all: Vec<String> = format!("{BASE} {more}").split(' ').map(str::to_string).collect();
        all.sort();
        all.join(" ")
    };
    let tar = || Tar::new().dir("r").symlink("l", "r");
    assert_eq!(over_base(tar().file("l/x", "1")), with("l->r r/ r/x"));
    assert_eq!(over_base(Tar::new().dir("r").symlink("l", "/r").file("l/x", "1")), with("l->/r r/ r/x"));
    assert_eq!(over_base(Tar::new().dir("r").symlink("l", "../../r").file("l/x", "1")), with("l->../../r r/ r/x"));
    assert_eq!(over_base(tar().symlink("m", "l").file("m/x", "1").dir("m/d")), with("l->r m->l r/ r/d/ r/x"));
    assert_eq!(over_base(tar().file("r/x", "1").hardlink("h", "l/x")), with("h l->r r/ r/x"));
    assert_eq!(over_base(Tar::new().symlink("l", "real").file("l/x", "1")), with("l->real real/x"));
    // A link of a layer below leads nowhere: layers are unpacked one by one.
    assert_eq!(over_base(Tar::new().file("lowlink/x", "1")), "a/ a/low file lowlink/ lowlink/x real/ real/old");
    // Deletions, too.
    assert_eq!(over_base(Tar::new().symlink("l", "real").file("l/.wh.old", "")), "a/ a/low file l->real lowlink->real real/");
    assert_eq!(over_base(Tar::new().symlink("l", "a").file("l/.wh..wh..opq", "")), "a/ file l->a lowlink->real real/ real/old");
}

#[test]
fn what_cannot_be_unpacked_is_refused() {
    let refused = |layer: Tar, why: &str| {
        let said = over_base(layer);
        assert!(said.starts_with("refused: ") && said.contains(why), "{said}");
    };
    refused(Tar::new().file("p", "1").file("p/x", "1"), "p is no folder in this layer");
    refused(Tar::new().file("p", "1").symlink("l", "p").file("l/x", "1"), "p is no folder in this layer");
    refused(Tar::new().file(".wh.a", "").file("a/x", "1"), "a is no folder in this layer");
    refused(Tar::new().symlink("p", "q").symlink("q", "p").file("p/x", "1"), "leads through too many others");
    refused(Tar::new().dir("d").hardlink("h", "d"), "a folder has one");
    // A path that grows with every link.
    let long = "n/".repeat(1500);
    let layer = (0..4).fold(Tar::new().symlink("l0", &long), |tar, number| {
        tar.symlink(&format!("l{number}/l"), &long).symlink(&format!("l{}", number + 1), &format!("l{number}/l"))
    });
    refused(layer, "a path that is too long");
}

#[test]
fn a_later_member_takes_an_earlier_ones_place_and_names_of_a_file_stay_names() {
    let layer = Tar::new()
        .file("p", "one")
        .hardlink("q", "p")
        .hardlink("s", "q")
        .file("p", "two")
        .dir("d")
        .file("d/x", "1")
        .file("d", "now a file");
    let image = image(&[base(), layer.done()]);
    let tree = Tree::new(&image.layers);
    let text = tree.to_text();
    let of = |path: &str| text.lines().find(|line| line.starts_with(&format!("/{path}: "))).unwrap_or_default().to_string();
    assert!(of("p").ends_with(&twostage_model::Sha256::of(b"two").short()), "{text}");
    assert!(of("q").ends_with(&twostage_model::Sha256::of(b"one").short()), "{text}");
    assert!(of("s").ends_with("= /q"), "{text}");
    assert!(of("d").starts_with("/d: file") && of("d/x").is_empty(), "{text}");
    let twice: Vec<(&str, u64)> = image.layers[1].ignored.duplicates.iter().map(|one| (one.path.as_str(), one.bytes)).collect();
    assert_eq!(twice, [("d/x", 1), ("p", 0)], "the bytes of the first p live on as q");
}

#[test]
fn a_device_that_an_overlay_deletes_with_is_a_deletion() {
    let layer = Tar::new().device(b'3', "file", 0, 0).device(b'3', "null", 1, 3);
    assert_eq!(over_base(layer), "a/ a/low lowlink->real null real/ real/old");
}

#[test]
fn a_deletion_in_a_folder_makes_that_folder_and_a_folder_over_a_file_hides_nothing() {
    assert_eq!(
        over_base(Tar::new().file("m/n/.wh.x", "")),
        format!("{BASE} m/ m/n/").replace("lowlink->real real/ real/old m/ m/n/", "lowlink->real m/ m/n/ real/ real/old")
    );
    assert_eq!(over_base(Tar::new().file(".wh.a", "").dir("a").file("a/new", "")), "a/ a/new file lowlink->real real/ real/old");
    assert_eq!(over_base(Tar::new().dir("a").file("a/new", "").file(".wh.a", "")), "a/ a/new file lowlink->real real/ real/old");
}

#[test]
fn leftovers_of_aufs_and_bytes_behind_the_end_are_read_as_docker_reads_them() {
    let aufs = Tar::new()
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/12.34", "linked")
        .hardlink("z", ".wh..wh.plnk/12.34")
        .file(".wh..wh.aufs", "")
        .dir(".wh..wh.orph");
    assert_eq!(over_base(aufs), ".wh..wh.plnk/ .wh..wh.plnk/12.34 a/ a/low file lowlink->real real/ real/old z");
    let mut behind = Tar::new().file("x", "1").done();
    behind.extend(Tar::new().file("y", "hidden").done());
    let image = image(&[base(), behind]);
    assert!(Tree::new(&image.layers).get("x").is_some() && Tree::new(&image.layers).get("y").is_none());
    let report = audit(&image, Base::Layers(1)).unwrap();
    assert!(report.residue().any(|one| one.rule == "trailing" && one.bytes > 0), "{}", report.to_text());
    let mut zeros = Tar::new().file("x", "1").done();
    zeros.resize(20 * 512, 0);
    assert!(!audit(&self::image(&[base(), zeros]), Base::Layers(1)).unwrap().residue().any(|one| one.rule == "trailing"));
}

#[test]
fn what_global_records_say_is_nothing_as_in_go() {
    let records = twostage_image::pax_record(b"path", b"elsewhere");
    assert!(over_base(Tar::new().raw(b'g', b"global", b"", &records).file("x", "1")).ends_with("real/old x"));
}

#[test]
fn a_flat_image_has_the_tree_of_the_links_and_diff_sees_one_that_has_not() {
    let layer =
        Tar::new().dir("r").symlink("l", "r").file("l/x", "through").file("l/y", "1").hardlink("l/z", "r/y").file("r/y", "two").done();
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from.tar"), folder.path().join("to.tar"));
    std::fs::write(&from, docker_old(&[base(), layer])).unwrap();
    let store = Store::open(&from, None).unwrap();
    let image = store.read(&wanted).unwrap();
    for parent in [0, 1] {
        let flat = flatten(&image, parent).unwrap();
        let config = |diff_id| flat.config(diff_id);
        let mut new = NewImage {
            store: &store,
            kept: parent,
            delta: flat.delta.as_ref(),
            compression: Compression::Gzip,
            name: None,
            config: &config,
        };
        new.name = Some("flat:1".into());
        new.write_archive(&to).unwrap();
        let flat = Store::open(&to, None).unwrap().read(&wanted).unwrap();
        assert_eq!(
            Tree::new(&flat.layers).to_text().replace(", stated by no layer", " 0755 0:0"),
            Tree::new(&image.layers).to_text().replace(", stated by no layer", " 0755 0:0")
        );
        assert!(Difference::of(&image, &flat).unwrap().is_empty());
    }
    // The image that an earlier reading made of it: a folder `l` with the file in it.
    let other = read_archive(&docker_old(&[base(), Tar::new().dir("r").dir("l").file("l/x", "through").done()])[..], &wanted).unwrap();
    let paths: Vec<String> = Difference::of(&image, &other).unwrap().files.into_iter().map(|file| file.path).collect();
    assert_eq!(paths, ["/l", "/l/x", "/r/x", "/r/y", "/r/z"]);
}

/// Of every member, in whatever row.
#[test]
fn the_table_of_an_audit_adds_up_to_the_members_of_the_tar() {
    let status = "Package: hello\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n";
    let layer = || {
        Tar::new()
            .dir("./")
            .dir("usr/bin")
            .file("usr/bin/hello", "hello")
            .dir("usr/share/hello")
            .file("usr/share/hello/.wh..wh..opq", "")
            .file("var/lib/dpkg/status", status)
            .file("var/lib/dpkg/info/hello.list", "/.\n/usr/bin\n/usr/bin/hello\n/usr/share/hello\n")
            .file("a/low", "low")
            .dir("real")
            .dir("real")
            .file("real/.wh.old", "")
            .file("twice", "four")
            .file("twice", "fives")
            .file(".wh..wh.aufs", "")
            .dir("unknown")
            .symlink("unknown/link", "x")
            .hardlink("unknown/hard", "usr/bin/hello")
            .device(b'6', "unknown/pipe", 0, 0)
    };
    let bytes = layer().done();
    let mut members = (0, 0, 0);
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let entry = entry.unwrap();
        if entry.header().entry_type().is_dir() {
            members.1 += 1
        } else {
            members.0 += 1
        }
        members.2 += entry.size();
    }
    let image = image(&[base(), layer().done()]);
    let report = audit(&image, Base::Layers(1)).unwrap();
    let row = &report.layers[0];
    assert_eq!((row.files, row.folders, row.file_bytes), members, "{}", report.to_text());
    // In JSON the rows can be added up by anybody.
    let json = serde_json::to_value(&report).unwrap();
    let layer = &json["layers"][0];
    let number = |row: &serde_json::Value, key: &str| row[key].as_u64().unwrap_or(0);
    let mut rows: Vec<serde_json::Value> = Vec::new();
    for list in ["packages", "generated"] {
        rows.extend(layer[list].as_array().unwrap().iter().cloned());
    }
    rows.extend([layer["restored"].clone(), layer["marks"].clone(), layer["ignored"].clone()]);
    for one in layer["residue"].as_array().unwrap() {
        let folder = one["kind"] == "folder";
        rows.push(serde_json::json!({ "files": u64::from(!folder), "folders": u64::from(folder), "bytes": one["bytes"] }));
    }
    for (total, key) in [("files", "files"), ("folders", "folders"), ("file_bytes", "bytes")] {
        assert_eq!(number(layer, total), rows.iter().map(|row| number(row, key)).sum::<u64>(), "{total}");
    }
    // And in the text: the numbers of its rows are those of its head.
    let text = report.to_text();
    assert!(text.contains(&format!("{} files with {} B, {} folders", members.0, members.2, members.1)), "{text}");
    // The page's map has all bytes.
    let page = report.to_html(&image).unwrap();
    assert!(page.contains(&format!("\"base\":false,\"step\":\"RUN step1\",\"bytes\":{}", members.2)), "{page}");
}
