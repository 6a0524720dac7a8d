//! Ten thousand images that are wrong in some way: layers, archives, layouts. Each is refused by name, or read,
//! flattened and written; nothing is written elsewhere, and the input stays what it was. All of it happens in a
//! process of its own with a bound on its memory.

use crate::support::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use twostage_image::{Compression, Limits, NewImage, Store, Tree, audit, flatten, read_archive, wanted};
use twostage_model::{Class, Error, Result, Sha256};

const MUTANTS: usize = 10_000;
/// Address space of the process, in bytes: its threads' stacks and its code are part of it.
const ADDRESS_SPACE: u64 = 384 << 20;
/// What marks the process that does the work.
const CHILD: &str = "TWOSTAGE_IMAGE_MUTANTS";

#[test]
fn ten_thousand_wrong_images_are_refused_or_read_within_a_bound_of_memory() {
    if std::env::var_os(CHILD).is_some() {
        return look_at_all();
    }
    let name = "mutants::ten_thousand_wrong_images_are_refused_or_read_within_a_bound_of_memory";
    let output = Command::new("prlimit")
        .arg(format!("--as={ADDRESS_SPACE}"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{}: {said}", output.status);
}

fn look_at_all() {
    let mut numbers = Numbers(0x5851_f42d_4c95_7f2d);
    // What is written is synced, which in memory costs nothing.
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..MUTANTS {
        let (kind, input) = make(&mut numbers);
        let work = folder.path().join("work");
        std::fs::create_dir(&work).unwrap();
        let counts = kinds.entry(kind).or_default();
        let place = work.join("image");
        let before = input.put(&place);
        // Some of them in each form, as that takes its time.
        let looked = look(&input, &place, &work, number % 16 == 0);
        // Refused or not: it stays as it was, and nothing else is left, here or elsewhere.
        assert_eq!(digest(&place), before, "{number} ({kind}): the original was changed");
        let mut left = vec!["image"];
        match &looked {
            Ok(written) => {
                counts.0 += 1;
                left.extend(*written);
                left.sort_unstable();
            }
            Err(error) => {
                counts.1 += 1;
                *reasons.entry(reason(error, &place, &format!("{number} ({kind})"))).or_default() += 1;
            }
        }
        assert_eq!(listed(&work), left, "{number} ({kind})");
        assert_eq!(listed(folder.path()), ["work"], "{number} ({kind}) wrote outside its folder");
        std::fs::remove_dir_all(&work).unwrap();
    }
    println!("(read, refused) by kind: {kinds:?}; {} different reasons", reasons.len());
    let (read, refused) = kinds.values().fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
    assert!(read > MUTANTS / 50 && refused > MUTANTS / 2 && reasons.len() > 50, "{read} read, {refused} refused, {reasons:#?}");
}

/// What an error says, without digests and numbers, after it was seen that it says all that it should: that the image is
/// what is wrong and not this machine; which image it is, or which layer of it; and why.
fn reason(error: &Error, place: &Path, which: &str) -> String {
    let causes = error.causes();
    let why = std::iter::once(error.what().to_string()).chain(causes.clone()).collect::<Vec<_>>().join(": ");
    assert_eq!(error.class(), Class::Runtime, "{which}: {why}");
    let place = place.display().to_string();
    assert!(error.what().contains(&place) || error.what().contains("layer"), "{which} does not say where: {why}");
    assert!(!causes.is_empty() && causes.iter().all(|cause| !cause.trim().is_empty()), "{which} does not say why: {why}");
    let why = why.replace(&place, "");
    let is_digest = |word: &str| word.len() >= 32 || word.contains(|c: char| c.is_ascii_digit());
    let words = why.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty() && !is_digest(word));
    words.take(14).collect::<Vec<_>>().join(" ")
}

/// An archive, or the files of a layout.
enum Input {
    Archive(Vec<u8>),
    Layout(Vec<(String, Vec<u8>)>),
}

impl Input {
    /// Writes it to its place. Gives the digest of what is there.
    fn put(&self, place: &Path) -> Sha256 {
        match self {
            Input::Archive(bytes) => std::fs::write(place, bytes).unwrap(),
            Input::Layout(files) => crate::support::place(place, files),
        }
        digest(place)
    }
}

/// Reads it as a stream and from its place, audits it, flattens it and writes that, in each form if it is to be
/// `thorough`. Gives the names of what was written. What was read is written, and what was written is read: neither
/// may be refused.
fn look(input: &Input, place: &Path, work: &Path, thorough: bool) -> Result<&'static [&'static str]> {
    if let Input::Archive(bytes) = input
        && let Ok(image) = read_archive(&bytes[..], &wanted)
        && let Ok(report) = audit(&image, twostage_image::Base::Layers(1))
    {
        report.to_text();
    }
    // (Less than a machine of today can run, so that a bomb is seen early.)
    let limits = Limits { layer_bytes: 8 << 20, ..Limits::default() };
    let store = Store::open_within(place, None, limits)?;
    let image = store.read(&wanted)?;
    let tree = Tree::new(&image.layers).to_text();
    let flat = flatten::flatten(&image, 1.min(image.layers.len()))?;
    let config = |diff_id| flat.config(diff_id);
    let write = |name: &str, compression: Compression| -> Result<()> {
        let (kept, delta) = (flat.parent, flat.delta.as_ref());
        let new = NewImage { store: &store, kept, delta, compression, name: None, config: &config };
        let out = work.join(name);
        if name.ends_with(".tar") {
            new.write_archive(&out)?
        } else {
            new.write_layout(&out)?
        };
        let again = Store::open(&out, None).and_then(|store| store.read(&wanted)).unwrap_or_else(|e| panic!("{e}: {:?}", e.causes()));
        let stated = |text: &str| text.replace("/: dir, stated by no layer", "/: dir 0755 0:0");
        assert_eq!(stated(&Tree::new(&again.layers).to_text()), stated(&tree));
        Ok(())
    };
    write("flat.tar", Compression::None)?;
    if !thorough {
        return Ok(&["flat.tar"]);
    }
    write("gzip.tar", Compression::Gzip)?;
    write("layout", Compression::Zstd)?;
    Ok(&["flat.tar", "gzip.tar", "layout"])
}

/// The names in a folder, in order.
fn listed(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Of a file, or of all that is below a folder, with its names; links as what they are.
fn digest(place: &Path) -> Sha256 {
    let mut all = Vec::new();
    let mut left = vec![place.to_path_buf()];
    while let Some(path) = left.pop() {
        let found = std::fs::symlink_metadata(&path).unwrap();
        all.extend(format!("{} {:?}\n", path.display(), found.file_type()).bytes());
        if found.is_dir() {
            let mut entries: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            left.extend(entries);
        } else {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    Sha256::of(&all)
}

const STATUS: &str = "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n";

/// A layer as real ones are.
fn layer(numbers: &mut Numbers) -> Tar {
    let mut tar =
        Tar::new().dir("usr").dir("usr/bin").file("var/lib/dpkg/status", STATUS).file("var/lib/dpkg/info/dpkg.list", "/.\n/usr/bin/a\n");
    for _ in 0..numbers.next(6) {
        let (path, other) =
            (numbers.of(&["a", "usr/bin/a", "usr/lib/b", "etc/c", "usr/bin/d/e"]), numbers.of(&["a", "usr/bin/a", "etc/c"]));
        tar = match numbers.next(7) {
            0 => tar.file_with(path, vec![b'x'; numbers.next(5000)], 0o4755, 7),
            1 => tar.symlink(path, numbers.of(&["usr", "..", "/etc", "a", "../../../../etc"])),
            2 => tar.hardlink(path, other),
            3 => tar.dir(path),
            4 => tar.file(&format!("{path}/.wh..wh..opq"), ""),
            5 => tar.pax(&[("SCHILY.xattr.user.x", b"y"), ("mtime", b"17.5")]).file(path, "with attributes"),
            _ => tar.file(&path.rsplit_once('/').map_or(format!(".wh.{path}"), |(folder, name)| format!("{folder}/.wh.{name}")), ""),
        };
    }
    tar
}

/// A layer that is wrong in one way that its tar can be.
fn wrong_layer(numbers: &mut Numbers) -> (&'static str, Vec<u8>) {
    let tar = layer(numbers);
    let depth = 1 + numbers.next(100_000);
    match numbers.next(10) {
        0 => ("path that leads out", tar.raw(b'0', numbers.of(&[b"../x".as_slice(), b"/../x", b"a/../../x", b"./../x"]), b"", b"x").done()),
        1 => ("link that leads out", tar.symlink("out", "/").raw(b'0', b"out/x", b"", b"x").raw(b'1', b"h", b"../x", b"").done()),
        2 => {
            let path: &[u8] = numbers.of(&[b".wh...".as_slice(), b"../.wh.x", b"a/.wh.", b".wh..", b".wh..wh..opq/x", b".wh./"]);
            ("whiteout of what cannot be deleted", tar.raw(b'0', path, b"", b"").done())
        }
        3 => ("path twice", tar.file("twice", "1").dir("twice").symlink("twice", "x").file("twice", "2").done()),
        4 => ("deep path", tar.pax(&[("path", &b"d/".repeat(depth))]).file("x", "deep").done()),
        5 => {
            let size = numbers.of(&["9000000000000000000", "18446744073709551615", "-1", "1e9", "99999999"]);
            ("absurd size", tar.pax(&[("size", size.as_bytes())]).file("x", "small").done())
        }
        6 => (
            "device as it may be, and one that may not",
            tar.device(b'3', "dev/x", 1, 3).raw(numbers.of(&[b"V", b"M", b"S", b"9"])[0], b"y", b"", b"").done(),
        ),
        7 => ("long name", tar.raw(b'L', b"././@LongLink", b"", &vec![b'n'; numbers.next(3 << 20)]).file("x", "").done()),
        8 => ("sparse map that does not fit", {
            let size = numbers.of(&["100", "1000000000000", "x", "-5"]);
            let map = format!("{}\n{}\n{}\n", numbers.next(4), numbers.next(1000), numbers.next(1000));
            let map = format!("{map}{}", "\0".repeat(512 - map.len()));
            tar.pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", size.as_bytes())])
                .file("s", map)
                .done()
        }),
        _ => ("bytes of a layer", {
            let mut bytes = tar.done();
            scramble(numbers, &mut bytes);
            mend(&mut bytes);
            bytes
        }),
    }
}

fn scramble(numbers: &mut Numbers, bytes: &mut Vec<u8>) {
    for _ in 0..=numbers.next(6) {
        let at = numbers.next(bytes.len());
        match numbers.next(5) {
            0 => bytes[at] = numbers.next(256) as u8,
            1 => bytes[at] ^= 1 << numbers.next(8),
            2 => bytes.truncate(at.max(600)),
            3 => {
                let end = (at + numbers.next(2000)).min(bytes.len());
                bytes.drain(at..end);
                bytes.push(0);
            }
            _ => {
                let end = (at + 12).min(bytes.len());
                bytes[at..end].fill(numbers.of(&[&0, &0xff, &b'7', &b'/']).to_owned());
            }
        }
    }
}

fn pack(numbers: &mut Numbers, tar: &[u8]) -> Vec<u8> {
    match numbers.next(3) {
        0 => gzip(tar),
        1 => zstd(tar),
        _ => tar.to_vec(),
    }
}

fn make(numbers: &mut Numbers) -> (&'static str, Input) {
    let good = layer(numbers).done();
    match numbers.next(10) {
        // Layers whose digests are right.
        0..4 => {
            let (kind, wrong) = wrong_layer(numbers);
            let layers = if numbers.next(2) == 0 { [good, wrong] } else { [wrong, good] };
            let blobs = layers.clone().map(|layer| pack(numbers, &layer));
            let input = match numbers.next(3) {
                0 => Input::Archive(docker_old(&layers)),
                1 => Input::Archive(archive(&layout(&layers, &blobs, numbers.next(2) == 0))),
                _ => Input::Layout(layout(&layers, &blobs, false)),
            };
            (kind, input)
        }
        4 => {
            // 12 MiB of nothing, where 8 are allowed; packed twice it is a few hundred bytes.
            let bomb = Tar::new().file("zeros", vec![0; 12 << 20]).done();
            let blob = if numbers.next(2) == 0 { gzip(&bomb) } else { zstd(&bomb) };
            ("bomb", Input::Layout(layout(&[bomb], &[blob], false)))
        }
        5 => {
            let layers = [good, layer(numbers).done()];
            let mut files = layout(&layers, &layers.clone().map(|layer| pack(numbers, &layer)), numbers.next(2) == 0);
            files.remove(numbers.next(files.len()));
            ("missing file", if numbers.next(2) == 0 { Input::Archive(archive(&files)) } else { Input::Layout(files) })
        }
        6 => {
            let layers = [good, layer(numbers).done()];
            let mut files = layout(&layers, &layers.clone().map(|layer| pack(numbers, &layer)), false);
            let at = numbers.next(files.len());
            scramble(numbers, &mut files[at].1);
            ("blob that is not its digest", if numbers.next(2) == 0 { Input::Archive(archive(&files)) } else { Input::Layout(files) })
        }
        7 => {
            // The configuration says something else than there is; or numbers that cannot be.
            let layers = [good, layer(numbers).done()];
            let config = config(&layers);
            let config = match numbers.next(5) {
                0 => config.replace("sha256:", "sha512:"),
                1 => config.replace("\"rootfs\"", "\"roots\""),
                2 => config.replace("history\":[", "history\":[7,"),
                3 => config.replace("amd64", &"[".repeat(1 + numbers.next(10_000))),
                _ => config.replacen('1', "2", 1 + numbers.next(3)),
            };
            ("configuration", Input::Archive(docker_old_with(&layers, &config)))
        }
        _ => {
            let layers = [good, layer(numbers).done()];
            let mut bytes = if numbers.next(2) == 0 { docker_old(&layers) } else { archive(&layout(&layers, &layers, true)) };
            scramble(numbers, &mut bytes);
            if numbers.next(2) == 0 {
                mend(&mut bytes);
            }
            ("bytes of an archive", Input::Archive(bytes))
        }
    }
}
