//! What is not what it claims to be is refused by name, bounded, without a panic.

use crate::support::*;
use twostage_image::archive::read_archive_within;
use twostage_image::{Base, Kind, Limits, Store, Want, read_archive, wanted};

/// The error's sentence and its causes.
fn refused(bytes: &[u8]) -> String {
    refused_within(bytes, &Limits::default())
}

fn refused_within(bytes: &[u8], limits: &Limits) -> String {
    match read_archive_within(bytes, &|path| if path == "keep" { Want::Content } else { Want::Digest }, limits) {
        Ok(_) => "it was taken".into(),
        Err(error) => format!("{error}: {}", error.causes().join(": ")),
    }
}

#[track_caller]
fn layer_refused(layer: Vec<u8>, expected: &str) {
    let error = refused(&docker_old(&[layer]));
    assert!(error.contains(expected), "{error}");
}

#[test]
fn paths_that_lead_out() {
    layer_refused(Tar::new().raw(b'0', b"../../etc/passwd", b"", b"x").done(), "leads out of the image");
    layer_refused(Tar::new().raw(b'1', b"x", b"a/../../b", b"").done(), "leads out of the image");
    layer_refused(Tar::new().raw(b'0', b"a/.wh...", b"", b"").done(), "names nothing that can be deleted");
    layer_refused(Tar::new().raw(b'0', b"a/.wh.", b"", b"").done(), "names nothing that can be deleted");
    layer_refused(Tar::new().raw(b'0', b"./", b"", b"x").done(), "without a name");
    layer_refused(Tar::new().pax(&[("path", &b"a/".repeat(100_000))]).file("x", "").done(), "longer than 4096 bytes");
    layer_refused(Tar::new().pax(&[("path", b"a\0b")]).file("x", "").done(), "NUL");
    let outside = Tar::new().raw(b'2', b"a/layer.tar", b"../../../etc/passwd", b"").done();
    assert!(refused(&outside).contains("leads out of the archive"));
}

/// Where a layer states its folders, as a flat one does, such a folder would be a deletion.
#[test]
fn nothing_is_in_a_folder_whose_name_stands_for_a_deletion() {
    for path in ["a/.wh.b/c", ".wh.b/c", "a/.wh.b/.wh.c", "a/.wh.b/.wh..wh..opq", "a/.wh..wh.b/c", "a/b/.wh./c/d"] {
        for kind in [b'0', b'2', b'5'] {
            let error = refused(&docker_old(&[Tar::new().raw(kind, path.as_bytes(), b"", b"").done()]));
            assert!(error.contains(&format!("{path}: nothing can be in the folder")), "{path}: {error}");
        }
    }
    let error = refused(&docker_old(&[Tar::new().raw(b'0', b".wh..wh.plnk/.wh.x/y", b"", b"").done()]));
    assert!(error.contains("nothing can be in the folder"), "{error}");
    // The last name is the deletion, whatever the tar says that it is; and what aufs notes at the root is nothing.
    let layer = Tar::new().dir("a/.wh.b").dir(".wh..wh.orph").raw(b'0', b".wh..wh.aufs", b"", b"").done();
    let image = read_archive(&docker_old(&[layer])[..], &wanted).unwrap();
    let entries: Vec<_> = image.layers[0].entries.iter().map(|entry| (entry.path.as_str(), &entry.kind)).collect();
    assert_eq!(entries, [("a/b", &Kind::Whiteout)]);
    assert_eq!(image.layers[0].ignored.notes, 2);
}

#[test]
fn bombs() {
    layer_refused(Tar::new().raw(b'x', b"p", b"", &vec![b' '; 2 << 20]).done(), "too many for a name or attributes");
    layer_refused(Tar::new().raw(b'L', b"l", b"", &vec![b'a'; 2 << 20]).file("x", "").done(), "too many for a name");
    layer_refused(Tar::new().pax(&[("size", b"9000000000000000000")]).file("x", "").done(), "absurd");
    layer_refused(Tar::new().pax(&[("size", b"-1")]).file("x", "").done(), "below zero");

    let zeros = Tar::new().file("zeros", vec![0; 8 << 20]).done();
    let limits = Limits { layer_bytes: 1 << 20, ..Limits::default() };
    for blob in [gzip(&zeros), zstd(&zeros)] {
        assert!(blob.len() < 256 << 10);
        let error = refused_within(&archive(&layout(std::slice::from_ref(&zeros), &[blob], false)), &limits);
        assert!(error.contains("are absurd") || error.contains("holds more than"), "{error}");
    }
    let many = (0..50).fold(Tar::new(), |tar, i| tar.file(&format!("f{i}"), "")).done();
    let limits = Limits { entries: 20, ..Limits::default() };
    assert!(refused_within(&docker_old(&[many]), &limits).contains("more than 20 entries"));
    let limits = Limits { kept_file: 10, ..Limits::default() };
    let kept = docker_old(&[Tar::new().file("keep", [0; 100]).done()]);
    assert!(refused_within(&kept, &limits).contains("keep: 100 bytes are too many to look into"));
    let limits = Limits { json_bytes: 10, ..Limits::default() };
    assert!(refused_within(&kept, &limits).contains("too many for a manifest"));
}

/// The error of an archive or a layout that is read from its place.
fn refused_in_place(path: &std::path::Path, limits: &Limits) -> String {
    match Store::open_within(path, None, limits.clone()).and_then(|store| store.read(&|_| Want::Digest)) {
        Ok(_) => "it was taken".into(),
        Err(error) => format!("{error}: {}", error.causes().join(": ")),
    }
}

#[test]
fn a_layer_that_stands_in_an_image_often_is_counted_each_time() {
    let attribute = vec![b'v'; 60_000];
    let attributes = Tar::new().pax(&[("SCHILY.xattr.user.x", &attribute)]).file("a", "").done();
    let link = Tar::new().pax(&[("linkpath", &[b'l'; 4000])]).symlink("a", "x").done();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    for (layer, names) in [(attributes, 500_000), (link, 50_000)] {
        let limits = Limits { name_bytes: names, ..Limits::default() };
        for (times, expected) in [(2, "it was taken"), (20, "the names in the image take more than")] {
            let archive = docker_old(&vec![layer.clone(); times]);
            let error = refused_within(&archive, &limits);
            assert!(error.contains(expected), "{times}: {error}");
            std::fs::write(&path, &archive).unwrap();
            let error = refused_in_place(&path, &limits);
            assert!(error.contains(expected), "{times}: {error}");
        }
    }
}

/// An archive of several images; each has a configuration of some 10,000 bytes.
fn several(count: usize) -> Vec<u8> {
    let run = |number: usize| format!(r#""Cmd":["{number}{}"]"#, "x".repeat(10_000));
    let layer = [Tar::new().file("a", "1").done()];
    let mut files = vec![("layer.tar".to_string(), layer[0].clone())];
    files.extend((0..count).map(|number| (format!("{number}.json"), config_with(&layer, &run(number)).into_bytes())));
    let image = |number| format!(r#"{{"Config":"{number}.json","RepoTags":["image:{number}"],"Layers":["layer.tar"]}}"#);
    let manifest = (0..count).map(image).collect::<Vec<_>>().join(",");
    files.push(("manifest.json".into(), format!("[{manifest}]").into_bytes()));
    archive(&files)
}

#[test]
fn all_images_of_a_place_are_bounded_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let open = |count: usize, limits: Limits| {
        std::fs::write(&path, several(count)).unwrap();
        match Store::open_all_within(&path, &|_| false, &limits) {
            Ok(all) => format!("there are {}", all.len()),
            Err(error) => format!("{error}: {}", error.causes().join(": ")),
        }
    };
    let images = |images| Limits { images, ..Limits::default() };
    assert_eq!(open(12, images(12)), "there are 12");
    let error = open(12, images(11));
    assert!(error.contains("holds more than 11 images"), "{error}");
    // Each configuration alone is small enough.
    let json = || Limits { json_bytes: 12_000, ..Limits::default() };
    assert_eq!(open(8, json()), "there are 8");
    let error = open(12, json());
    assert!(error.contains("with it the manifests and configurations have"), "{error}");
    // What a link leads to counts too: each image has the long name of its layer.
    let names = Limits { name_bytes: 300, ..Limits::default() };
    assert_eq!(open(2, names.clone()), "there are 2");
    assert!(open(30, names).contains("the names in the image take more than 300 bytes"));
}

#[test]
fn a_sparse_file_cannot_claim_more_than_a_layer() {
    let map = format!("1\n0\n0\n{}", "\0".repeat(512 - 6));
    let layer = |real: &[u8]| {
        let records: [(&str, &[u8]); 3] = [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", real)];
        Tar::new().pax(&records).file("sparse", &map).done()
    };
    layer_refused(layer(b"999999999999999"), "are absurd");
    layer_refused(layer(b"x"), "real size is no number");
    assert_eq!(refused(&docker_old(&[layer(b"1000000")])), "it was taken");
    let overlapping = format!("2\n0\n10\n5\n10\n{}", "\0".repeat(512 - 12));
    let records: [(&str, &[u8]); 2] = [("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"100")];
    layer_refused(Tar::new().pax(&records).file("s", overlapping).done(), "sparse map does not fit");
}

#[test]
fn what_is_missing_or_wrong() {
    let layers = [Tar::new().file("a", "1").done(), Tar::new().file("b", "1").done()];
    let files = layout(&layers, &layers, false);
    for (number, expected) in [(0, "is missing"), (2, "is missing"), (3, "is missing"), (4, "is missing"), (6, "neither a manifest.json")] {
        let mut without = files.clone();
        without.remove(number);
        assert!(refused(&archive(&without)).contains(expected), "{number}");
    }
    let mut lying = files.clone();
    lying[0].1 = Tar::new().file("a", "2").done();
    assert!(refused(&archive(&lying)).contains("not to its name"));

    let swapped = config(&[layers[1].clone(), layers[0].clone()]);
    assert!(refused(&docker_old_with(&layers, &swapped)).contains("but the configuration says"));
    assert!(refused(&docker_old_with(&layers, &config(&layers[..1]))).contains("has 2 layers, but its configuration names 1"));
    assert!(refused(&docker_old_with(&layers, "{\"rootfs\":7}")).contains("is not what such a file"));
    layer_refused(Tar::new().raw(b'V', b"volume", b"", b"").done(), "the tar type 'V'");
    let mut middle = Tar::new().file("a", "1").bytes();
    middle.truncate(1536);
    middle.extend(Tar::new().file("b", "1").done());
    layer_refused(middle, "a block of zeros in its middle");
    assert!(refused(b"").contains("neither a manifest.json nor an index.json"));
    assert!(refused(&[b'x'; 2000]).contains("checksum"));
}

#[test]
fn a_truncated_archive_is_never_an_image() {
    let layers = [Tar::new().file("a", vec![7; 5000]).done()];
    for whole in [docker_old(&layers), archive(&layout(&layers, &[gzip(&layers[0])], true))] {
        let mut taken = 0;
        for length in (0..whole.len()).step_by(97) {
            taken += usize::from(read_archive(&whole[..length], &|_| Want::Content).is_ok());
        }
        // Only what comes after manifest.json may be missing: `repositories`, and the end's zeros.
        assert!(taken <= 40, "{taken}");
    }
}

/// Here the digests are right, so that what is behind them is reached.
#[test]
fn mutated_layers_and_databases_never_panic() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let layer = |numbers: &mut Numbers| {
        let mut text = |text: &str| {
            let mut text = text.as_bytes().to_vec();
            for _ in 0..numbers.next(3) {
                let at = numbers.next(text.len());
                text[at] = [b'\n', b'/', b':', b' ', 0, 0xff, b'.', b'9'][numbers.next(8)];
            }
            text
        };
        let status = "Package: dpkg\nStatus: install ok installed\nVersion: 1\nConffiles:\n /etc/x 01234567890123456789012345678901\n\n\
             Package: systemd\nStatus: install ok installed\n";
        let tar = Tar::new()
            .file("var/lib/dpkg/status", text(status))
            .file("var/lib/dpkg/info/dpkg.list", text("/.\n/etc/x\n/lib/y\n/usr/lib/tmpfiles.d/x.conf\n"))
            .file("var/lib/dpkg/alternatives/awk", text("auto\n/usr/bin/awk\nawk.1\n/m\n\n/usr/bin/mawk\n5\n/m2\n\n"))
            .file("var/lib/dpkg/diversions", text("/etc/x\n/etc/y\n:\n"))
            .file("usr/lib/tmpfiles.d/x.conf", text("d /var/x 0755 - - -\n"))
            .file("etc/passwd", text("root:x:0:0::/root:/bin/sh\napp:x:1:1::/home/app:\n"))
            .symlink("lib", ["usr/lib", "lib", "..", "/"][numbers.next(4)])
            .hardlink("a", ["a", "b", "lib/x"][numbers.next(3)])
            .file("c/.wh..wh..opq", "");
        let mut bytes = tar.done();
        for _ in 0..numbers.next(4) {
            let at = numbers.next(bytes.len());
            bytes[at] = numbers.next(256) as u8;
        }
        mend(&mut bytes);
        bytes
    };
    let mut audited = 0;
    for _ in 0..2000 {
        let layers = [layer(&mut numbers), layer(&mut numbers)];
        if let Ok(image) = read_archive(&docker_old(&layers)[..], &wanted) {
            twostage_image::Tree::new(&image.layers).to_text();
            if let Ok(report) = crate::support::audited(&docker_old(&layers), Base::Layers(1), &twostage_image::Known::default()) {
                audited += 1;
                report.to_text();
            }
        }
    }
    assert!(audited > 100, "{audited}");
}
