use super::*;
use crate::archive::Kind;
use crate::testing::{Made, MadeFile, Pack, XorShift, deb, gzip, xz};
use crate::write::{Tar, ar, gzip_stored};
use std::io;

fn refusal(bytes: &[u8]) -> String {
    match read(bytes, "x.deb") {
        Ok(deb) => format!("TAKEN {}", deb.id),
        Err(error) => error.to_string(),
    }
}

fn with_control(control: &str) -> Vec<u8> {
    Made { control: control.into(), ..Made::sample() }.pack(Pack::None)
}

fn with_data(tar: &[u8]) -> Vec<u8> {
    deb(&[("control.tar", &Made::sample().control_tar()), ("data.tar", tar)])
}

const BASE: &str = "Package: app\nVersion: 1:2.0-1\nArchitecture: amd64\nDescription: x\n";

#[test]
fn every_compression_is_read() -> Result<()> {
    for pack in Pack::ALL {
        let bytes = Made::sample().pack(pack);
        let read = read(bytes.as_slice(), "x.deb")?;
        assert_eq!((read.sha256, read.size), (Sha256::of(&bytes), bytes.len() as u64), "{pack:?}");
        assert_eq!((read.source.as_str(), read.date), ("app", 1_767_322_985));
        assert_eq!(read.control.to_string(), Made::sample().control);
    }
    Ok(())
}

#[test]
fn members_for_others_and_streams_in_a_row_are_taken() {
    let (control, data) = (Made::sample().control_tar(), Made::sample().data_tar());
    let (first, second) = data.split_at(700);
    for (pack, two) in [Pack::Gzip, Pack::Xz, Pack::Zstd].map(|pack| (pack, [pack.compress(first), pack.compress(second)].concat())) {
        let bytes = deb(&[
            ("_gpgorigin", b"odd"),
            ("control.tar.gz/", &gzip(&control)),
            ("_x", b""),
            (&format!("data.tar{}", pack.ending()), &two),
            ("_gpgbuilder", b"x"),
        ]);
        assert_eq!(refusal(&bytes), "TAKEN app-config 1.0-1 all", "{pack:?}");
    }
}

/// deb(5): what a later version adds behind what is known is ignored.
#[test]
fn what_is_behind_the_known_parts_is_ignored() {
    let (control, data) = (Made::sample().control_tar(), Made::sample().data_tar());
    let behind = deb(&[("control.tar", &control), ("data.tar", &data), ("foo", b"odd"), ("data.tar", &data), ("control.tar", b"")]);
    let members = |version: &[u8]| ar(&[("debian-binary", version), ("control.tar", &control), ("data.tar", &data)], 0).unwrap_or_default();
    let long = [b"2.0\n".as_slice(), &[b'x'; 5000]].concat();
    for bytes in [behind, members(b"2.0\nmore\nlines"), members(b"2.7\n"), members(&long)] {
        assert_eq!(refusal(&bytes), "TAKEN app-config 1.0-1 all");
        assert!(crate::content::content_digest(bytes.as_slice(), "").is_ok());
    }
    for version in [b"2.0".as_slice(), b"2.0\r\n", b"2.\n", b"2.0 \n", b"\n2.0\n", &[b'2'; 100]] {
        assert!(refusal(&members(version)).contains("its format version"), "{version:?}");
    }
}

#[test]
fn data_is_read_as_cpack_and_old_ubuntu_pack_it() {
    let (control, data) = (Made::sample().control_tar(), Made::sample().data_tar());
    let plain = crate::content::content_digest(Made::sample().pack(Pack::None).as_slice(), "").ok();
    for (name, packed) in [("data.tar.bz2", crate::testing::bzip2(&data)), ("data.tar.lzma", crate::testing::lzma(&data))] {
        let bytes = deb(&[("control.tar", &control), (name, &packed)]);
        assert_eq!(refusal(&bytes), "TAKEN app-config 1.0-1 all", "{name}");
        assert_eq!(crate::content::content_digest(bytes.as_slice(), "").ok(), plain, "{name}");
        let cut = deb(&[("control.tar", &control), (name, &packed[..packed.len() / 2])]);
        assert!(refusal(&cut).contains(name), "{}", refusal(&cut));
    }
}

/// As dpkg understands them: one place, however it is spelled.
#[test]
fn a_path_is_one_place_however_it_is_spelled() {
    let content = |path: &str| {
        let mut tar = Tar::new(0);
        tar.raw(b'5', b"./usr/", b"", 0o755, 0, b"");
        tar.raw(b'0', path.as_bytes(), b"", 0o644, 0, b"odd");
        let bytes = with_data(&tar.finish());
        assert_eq!(refusal(&bytes), "TAKEN app-config 1.0-1 all", "{path}");
        crate::content::content_digest(bytes.as_slice(), "").ok()
    };
    let plain = content("./usr/x");
    assert!(plain.is_some());
    for path in ["usr/x", "/usr/x", "//usr/x", ".//usr/x", "./usr//x", "././usr/x", "./usr/./x", "./././/usr/.//x"] {
        assert_eq!(content(path), plain, "{path}");
    }
}

#[test]
fn what_dpkg_cannot_unpack_after_the_rest_is_refused() {
    let entries = |all: &[(u8, &str, &str)]| {
        let mut tar = Tar::new(0);
        for (kind, path, link) in all {
            let content = if *kind == b'0' && !path.ends_with('/') { b"odd".as_slice() } else { b"" };
            tar.raw(*kind, path.as_bytes(), link.as_bytes(), 0o755, 0, content);
        }
        refusal(&with_data(&tar.finish()))
    };
    let (part, path) = ("p".repeat(247), format!("./{}", "d/".repeat(2045)));
    for (all, expected) in [
        (vec![(b'0', "./a", ""), (b'0', "./a/b", "")], "is in \"a\", which is no folder"),
        (vec![(b'2', "./a", "usr"), (b'0', "./a/b", "")], "is in \"a\", which is no folder"),
        (vec![(b'0', "./a", ""), (b'5', "./a/", "")], "one of them is a folder"),
        (vec![(b'0', "./a/", ""), (b'0', "./a", "")], "one of them is a folder"),
        (vec![(b'0', "./a/b", ""), (b'0', "./a//b", "")], "spelled in two ways"),
        (vec![(b'0', "./a/b", ""), (b'1', "./c", "./a//b")], "is spelled otherwise where it is"),
        (vec![(b'5', "./a/", ""), (b'1', "./c", "./a")], "which is a folder"),
        (vec![(b'2', "./a/", "b")], "ends as a folder does"),
        (vec![(b'0', "./a/..", "")], "climbs out"),
    ] {
        let said = entries(&all);
        assert!(said.contains(expected), "{all:?}: {said}");
    }
    for all in [
        vec![(b'5', "./a", ""), (b'0', ".//a/b", ""), (b'1', "./c", "/a/b"), (b'5', "./a/", "")],
        vec![(b'0', "./a/", ""), (b'0', "./a/b", ""), (b'0', "./a/b", "")],
    ] {
        assert_eq!(entries(&all), "TAKEN app-config 1.0-1 all", "{all:?}");
    }
    let long = |name: &str| {
        let mut tar = Tar::new(0);
        tar.raw(b'L', b"././@LongLink", b"", 0o644, 0, name.as_bytes());
        tar.raw(b'5', b"./x", b"", 0o755, 0, b"");
        refusal(&with_data(&tar.finish()))
    };
    assert!(long(&part).contains("a part of 247 bytes"), "{}", long(&part));
    assert!(long(&path).contains("too long a path"), "{}", long(&path));
    assert_eq!(long(&part[1..]), "TAKEN app-config 1.0-1 all");
}

#[test]
fn a_package_that_dpkg_unpacks_not_everywhere_or_with_a_warning_is_noted() -> Result<()> {
    let mut tar = Tar::new(0);
    for path in [b"./opt/app/a".as_slice(), b"./opt/app/b", b"./c"] {
        tar.raw(b'0', path, b"", 0o644, 0, b"odd");
    }
    let note = "it has no entry for the folder of \"/opt/app/a\" and 1 others before that";
    let notes = |bytes: &[u8]| read(bytes, "x.deb").map(|deb| deb.notes);
    assert!(matches!(notes(&with_data(&tar.finish()))?.as_slice(), [one] if one.starts_with(note)));
    let old = "its field Depends has \"b (< 2)\": dpkg warns of the operators < and >, write <= or <<";
    let control = format!("{BASE}Depends: a (<< 1), b (< 2)\nMaintainer: a\n");
    assert_eq!(notes(&with_control(&control))?, [old]);
    assert_eq!(notes(&with_control(BASE))?, ["its control has no Maintainer, and dpkg warns of that"]);
    assert_eq!(notes(&Made::sample().pack(Pack::None))?, [""; 0]);
    Ok(())
}

#[test]
fn a_package_for_the_installer_is_told() -> Result<()> {
    let is_udeb = |more: &str| read(with_control(&format!("{BASE}{more}")).as_slice(), "x.udeb").map(|deb| deb.is_udeb);
    assert!(is_udeb("Package-Type: udeb\n")?);
    for other in ["", "Package-Type: deb\n", "Package-Type: UDEB\n"] {
        assert!(!is_udeb(other)?, "{other}");
    }
    Ok(())
}

#[test]
fn a_stanza_that_apt_cannot_hold_is_refused_with_the_limit() {
    let line = format!(" {}\n", "x".repeat(98));
    let with = |bytes: usize| {
        let body = line.repeat((bytes - BASE.len()) / 100);
        let rest = bytes - BASE.len() - body.len();
        format!("{BASE}{body}{}", if rest > 2 { format!(" {}\n", "y".repeat(rest - 2)) } else { "X:1\n"[4 - rest..].to_string() })
    };
    let largest = with(MAX_STANZA - MAX_STANZA % 100);
    assert!(refusal(&with_control(&largest)).starts_with("TAKEN"));
    for bytes in [MAX_STANZA + 100, 1_100_000, 1_600_000] {
        let said = refusal(&with_control(&with(bytes)));
        assert!(said.contains("apt reads paragraphs below 1 MiB") && said.contains("1044480 bytes"), "{said}");
    }
    // dpkg's own database lists conffiles in the stanza.
    let mut tar = Tar::new(0);
    let text = with(1_000_000);
    tar.raw(b'0', b"./control", b"", 0o644, 0, text.as_bytes());
    tar.raw(b'0', b"./conffiles", b"", 0o644, 0, "/etc/app/x\n".repeat(2000).as_bytes());
    let said = refusal(&deb(&[("control.tar", &tar.finish()), ("data.tar", &Tar::new(0).finish())]));
    assert!(said.contains("with the list of its conffiles"), "{said}");
}

#[test]
fn what_is_wrong_with_the_ar_is_said() {
    let (control, data) = (Made::sample().control_tar(), Made::sample().data_tar());
    let good = Made::sample().pack(Pack::Gzip);
    let flip = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    for (bytes, expected) in [
        (b"".to_vec(), "the ar magic is missing"),
        (b"!<arch>\n".to_vec(), "an empty ar"),
        (flip(0, b"?"), "the ar magic is missing"),
        (flip(8, b"x"), "its first member is \"xebian-binary\""),
        (flip(24, b"-1"), "the date in its ar header"),
        (flip(56, b"+4"), "the size in its ar header is \"+4\""),
        (flip(66, b"x"), "does not end as one"),
        (flip(68, b"3.0\n"), "its format version is \"3.0\" and not 2.x"),
        (flip(68, b"2.a\n"), "its format version"),
        (ar(&[("debian-binary", b"2.0\n")], 0).unwrap_or_default(), "it ends without control.tar"),
        (deb(&[("control.tar", &control)]), "it ends without data.tar"),
        (deb(&[("data.tar", &data), ("control.tar", &control)]), "the member \"data.tar\" is where control.tar belongs"),
        (deb(&[("control.tar", &control), ("x", b""), ("data.tar", &data)]), "the member \"x\" is where data.tar belongs"),
        (
            deb(&[("control.tar.bz2", &control), ("data.tar", &data)]),
            "control.tar.bz2 is compressed with .bz2, which dpkg reads in data.tar only",
        ),
        (deb(&[("control.tar.lzma", &control), ("data.tar", &data)]), "compressed with .lzma"),
        (deb(&[("control.tar", &control), ("data.tar.lz", &data)]), "is where data.tar belongs"),
        ([good.as_slice(), b"rubbish"].concat(), "rubbish is behind its last member"),
        ([good.as_slice(), &[0; 100]].concat(), "does not end as one"),
    ] {
        let said = refusal(&bytes);
        assert!(said.starts_with("x.deb is refused: ") && said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn a_cut_or_lengthened_stream_is_refused() {
    let control = Made::sample().control_tar();
    for pack in Pack::ALL {
        let stream = pack.compress(&Made::sample().data_tar());
        let name = format!("data.tar{}", pack.ending());
        for cut in [0, 1, stream.len() / 2, stream.len() - 1] {
            // For a tar without compression a missing zero at its end is no loss.
            if pack != Pack::None || cut < stream.len() / 2 {
                let said = refusal(&deb(&[("control.tar", &control), (&name, &stream[..cut])]));
                assert!(said.contains("data.tar"), "{pack:?} cut at {cut}: {said}");
            }
        }
        let longer = [stream.as_slice(), b"rubbish behind it"].concat();
        let said = refusal(&deb(&[("control.tar", &control), (&name, &longer)]));
        assert!(said.starts_with("x.deb is refused: data.tar"), "{pack:?}: {said}");
    }
    let said = refusal(&deb(&[("control.tar", &control), ("data.tar.xz", &gzip(&control))]));
    assert!(said.contains("data.tar.xz"), "{said}");
}

#[test]
fn what_is_wrong_with_the_data_is_said() {
    let one = |kind: u8, path: &[u8], link: &[u8], content: &[u8]| {
        let mut tar = Tar::new(0);
        tar.raw(kind, path, link, 0o644, 0, content);
        with_data(&tar.finish())
    };
    let long = |kind: u8, name: &[u8]| {
        let mut tar = Tar::new(0);
        tar.raw(kind, b"././@LongLink", b"", 0o644, 0, name);
        tar.raw(b'0', b"./x", b"", 0o644, 0, b"");
        with_data(&tar.finish())
    };
    // One field of the header made another, and the checksum right again.
    let field = |at: usize, value: &[u8]| {
        let mut tar = Tar::new(0);
        tar.raw(b'0', b"./x", b"", 0o644, 0, b"");
        let mut tar = tar.finish();
        let header = tar.iter().rposition(|byte| *byte != 0).map_or(0, |last| last / 512 * 512);
        tar[header + at..header + at + value.len()].copy_from_slice(value);
        tar[header + 148..header + 156].fill(b' ');
        let sum: u32 = tar[header..header + 512].iter().map(|byte| u32::from(*byte)).sum();
        tar[header + 148..header + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        with_data(&tar)
    };
    assert_eq!(refusal(&field(124, b"00000000000\0")), "TAKEN app-config 1.0-1 all");
    assert_eq!(refusal(&field(108, &[0x80, 0, 0, 0, 0, 0, 0, 1])), "TAKEN app-config 1.0-1 all", "an owner in base 256");
    let mut sum = Tar::new(0).finish();
    sum[0] ^= 1;
    for (bytes, expected) in [
        (one(b'0', b"./a/../../b", b"", b""), "climbs out with .."),
        (one(b'0', b"..", b"", b""), "climbs out with .."),
        (one(b'0', b"./a\nb", b"", b""), "a NUL or a line break"),
        (one(b'0', b"", b"", b""), "is an empty path"),
        (one(b'2', b".", b"x", b""), "is the root but not a folder"),
        (one(b'1', b"./a", b"/etc/shadow", b""), "is a hardlink to \"etc/shadow\", which is not before it"),
        (one(b'1', b"./a", b"../a", b""), "climbs out with .."),
        (one(b'1', b"./a", b"./b", b""), "\"a\": is a hardlink to \"b\", which is not before it"),
        (field(124, &[b' '; 12]), "the size in a tar header is not a number"),
        (field(100, &[0x80, 0, 0, 0, 0, 0, 1, 0o244]), "the mode in a tar header is not a number"),
        (field(136, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), "the time in a tar header is not a number"),
        (one(b'2', b"./a", b"", b""), "a symlink to nothing"),
        (one(b'2', b"./a", b"b", b"content"), "has a content but is not a file"),
        (one(b'3', b"./dev/null", b"", b""), "is a device"),
        (one(b'4', b"./dev/sda", b"", b""), "is a device"),
        (one(b'6', b"./pipe", b"", b""), "is a fifo"),
        (one(b'x', b"./pax", b"", b"10 path=x\n"), "has a pax header"),
        (one(b'7', b"./x", b"", b""), "is of the tar type"),
        (long(b'L', b"../../x\0"), "climbs out with .."),
        (long(b'L', b"a\0b\0"), "a NUL or a line break"),
        (long(b'L', &[b'a'; 5000]), "a path of 5000 bytes"),
        (with_data(&sum), "the checksum of a tar header is wrong"),
        (with_data(&[Tar::new(0).finish(), Tar::new(0).finish()].concat()), "more bytes behind the end of the tar"),
        (with_data(&Tar::new(0).finish()[..512]), "the tar is cut off"),
        (with_data(b""), "the tar is cut off"),
    ] {
        let said = refusal(&bytes);
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn what_is_wrong_with_the_control_tar_is_said() {
    let tar = |names: &[&str]| {
        let mut tar = Tar::new(0);
        for name in names {
            tar.raw(b'0', name.as_bytes(), b"", 0o644, 0, BASE.as_bytes());
        }
        deb(&[("control.tar", &tar.finish()), ("data.tar", &Tar::new(0).finish())])
    };
    assert_eq!(refusal(&tar(&["control"])), "TAKEN app 1:2.0-1 amd64");
    for (names, expected) in [
        (vec!["./md5sums"], "there is no control file"),
        (vec!["./control", "control"], "is there twice"),
        (vec!["./control", "./x/control"], "\"x/control\": is not a plain file"),
        (vec![".//control"], "is spelled in a way that apt does not find"),
        (vec!["/control"], "is spelled in a way that apt does not find"),
    ] {
        let said = refusal(&tar(&names));
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let mut link = Tar::new(0);
    link.raw(b'2', b"./control", b"/etc/passwd", 0o644, 0, b"");
    let said = refusal(&deb(&[("control.tar", &link.finish()), ("data.tar", &Tar::new(0).finish())]));
    assert!(said.contains("\"control\": is not a plain file"), "{said}");
    let mut large = Tar::new(0);
    large.raw(b'0', b"./control", b"", 0o644, 0, &vec![b'x'; 5 << 20]);
    let said = refusal(&deb(&[("control.tar", &large.finish()), ("data.tar", &Tar::new(0).finish())]));
    assert!(said.contains("bytes are too many"), "{said}");
}

#[test]
fn what_is_wrong_with_the_fields_is_said() {
    assert_eq!(refusal(&with_control(BASE)), "TAKEN app 1:2.0-1 amd64");
    for (more, expected) in [
        ("Filename: pool/x\n", "only an index or dpkg may write"),
        ("size: 1\n", "the field size, which only an index"),
        ("SHA256: 00\n", "the field SHA256"),
        ("MD5sum: 00\n", "the field MD5sum"),
        ("Status: install ok installed\n", "the field Status"),
        ("Version: 1\n", "the field Version is there twice"),
        ("Depends: a (>= 1\n", "its field Depends cannot be parsed"),
        ("Pre-Depends: ${shlibs:Depends}\n", "its field Pre-Depends cannot be parsed"),
        ("Depends:\nX: y\n", "its field Depends cannot be parsed"),
        ("Provides: a | b\n", "alternatives are not allowed"),
        ("Provides: a (>= 1)\n", "another operator than ="),
        ("Depends:\n a,\n b\n", "its first line is empty"),
        ("Section:\n", "its last field, Section, is empty"),
        ("X-Odd: ", "its last line has no line break"),
        ("Essential: maybe\n", "its field Essential is \"maybe\""),
        ("Important: odd\n", "its field Important is \"odd\""),
        ("Multi-Arch: yes\n", "its field Multi-Arch is \"yes\""),
        ("Installed-Size: 1k\n", "Installed-Size is \"1k\""),
        ("Installed-Size: -1\n", "Installed-Size is \"-1\""),
        ("Source: ../x\n", "its field Source"),
        ("Source: x1 (2\n", "its field Source"),
        ("Source: x1 (a b)\n", "its field Source"),
        ("\nPackage: other\n", "there may be only one"),
    ] {
        let said = refusal(&with_control(&format!("{BASE}{more}")));
        assert!(said.contains(expected), "{more}: {said}");
    }
    for (from, to, expected) in [
        ("Package: app\n", "", "has no field Package"),
        ("Version: 1:2.0-1\n", "", "has no field Version"),
        ("Architecture: amd64\n", "", "has no field Architecture"),
        ("Description: x\n", "", "has no field Description"),
        ("Description: x", "Description:\nX: y", "field Description is empty"),
        ("Package: app", "Package: App", "package name"),
        ("1:2.0-1", "x", "version"),
        ("amd64", "linux-any", "not one of a binary package"),
        ("amd64", "source", "not one of a binary package"),
        ("amd64", "all\nMulti-Arch: same", "which dpkg refuses"),
    ] {
        let said = refusal(&with_control(&BASE.replace(from, to)));
        assert!(said.contains(expected), "{to}: {said}");
    }
    let mut latin = Tar::new(0);
    latin.raw(b'0', b"./control", b"", 0o644, 0, &[BASE.as_bytes(), b"Maintainer: Andr\xe9 <a@b>\n"].concat());
    let said = refusal(&deb(&[("control.tar", &latin.finish()), ("data.tar", &Tar::new(0).finish())]));
    assert!(said.contains("not UTF-8 (byte 0xe9 at offset"), "{said}");
}

#[test]
fn bombs_and_greedy_windows_are_refused() {
    let control = Made::sample().control_tar();
    let mut tar = Tar::new(0);
    tar.raw(b'0', b"./x", b"", 0o644, 0, b"");
    // 33 MiB of zeros behind the end of a control tar.
    let mut large = Made::sample().control_tar();
    large.resize(33 << 20, 0);
    let said = refusal(&deb(&[("control.tar.zst", &Pack::Zstd.compress(&large)), ("data.tar", &tar.finish())]));
    assert!(said.contains("control.tar.zst: unpacks to more than 32 MiB"), "{said}");
    // 300 MiB of zeros in some kilobytes are a package; more than a GiB are not.
    let tar = Tar::new(0).finish();
    let zeros = |bytes: u64| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("encoder");
        io::Write::write_all(&mut encoder, &tar).expect("zstd");
        io::copy(&mut io::repeat(0).take(bytes), &mut encoder).expect("zstd");
        refusal(&deb(&[("control.tar", &control), ("data.tar.zst", &encoder.finish().expect("zstd"))]))
    };
    assert_eq!(zeros(300 << 20), "TAKEN app-config 1.0-1 all");
    let said = zeros(1200 << 20);
    assert!(said.contains("times its size"), "{said}");
    let said = refusal(&deb(&[("control.tar", &control), ("data.tar.xz", &xz(&tar, 256 << 20))]));
    assert!(said.contains("data.tar.xz: ") && said.contains("memory"), "{said}");
}

#[test]
fn an_input_that_fails_is_the_systems_fault() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the line is dead"))
        }
    }
    let good = Made::sample().pack(Pack::Xz);
    for cut in [0, 70, good.len() / 2, good.len()] {
        let error = read(good[..cut].chain(Failing), "x\n.deb").expect_err("it fails");
        assert_eq!((error.class(), error.to_string().as_str()), (Class::System, "x.deb cannot be read"));
        assert_eq!(error.causes(), ["the line is dead"]);
    }
}

/// Thousands of damaged packages: no panic, and every refusal says something.
#[test]
fn damaged_packages_do_no_harm() {
    let mut random = XorShift::new(20_260_102);
    let mut originals: Vec<Vec<u8>> = Pack::ALL.iter().map(|pack| Made::sample().pack(*pack)).collect();
    let mut small = Made::sample();
    small.data.truncate(2);
    originals.extend(Pack::ALL.iter().map(|pack| small.pack(*pack)));
    let (mut taken, mut refused) = (0, 0);
    for round in 0..4000 {
        let mut bytes = random.pick(&originals).clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                2 => bytes.truncate(at.max(1)),
                3 => drop(bytes.splice(at..at, (0..random.below(20)).map(|i| i as u8).collect::<Vec<_>>())),
                4 => drop(bytes.drain(at..(at + random.below(600)).min(bytes.len()).max(at))),
                // A lie about a size in an ar header.
                _ => {
                    let headers: Vec<usize> = bytes.windows(2).enumerate().filter(|(_, w)| w == b"`\n").map(|(i, _)| i).collect();
                    if let Some(end) = headers.get(random.below(headers.len())).copied().filter(|end| *end >= 10) {
                        let lie = format!("{:<10}", random.next() % [100, 10_000, 9_999_999_999][random.below(3)]);
                        bytes[end - 10..end].copy_from_slice(lie.as_bytes());
                    }
                }
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        match read(bytes.as_slice(), "x.deb") {
            Ok(_) => taken += 1,
            Err(error) => {
                refused += 1;
                assert!(error.to_string().len() > "x.deb is refused: ".len(), "round {round}");
                assert_eq!(error.class(), Class::Repository);
            }
        }
        // The digest reads contents as well; a panic there counts too.
        if round % 4 == 0 {
            let _ = crate::content::content_digest(bytes.as_slice(), "+bts1");
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(refused > 2000);
}

/// Damage behind the outer checksums: what a hostile author, not a bad disk, would send.
#[test]
fn damage_inside_the_compression_does_no_harm() {
    let mut random = XorShift::new(77);
    let (control, data) = (Made::sample().control_tar(), Made::sample().data_tar());
    for round in 0..3000 {
        let (mut control, mut data) = (control.clone(), data.clone());
        let tar = if random.below(2) == 0 { &mut control } else { &mut data };
        for _ in 0..=random.below(3) {
            let at = random.below(tar.len().min(6000));
            match random.below(4) {
                0 => tar[at] ^= 1 << random.below(8),
                1 => tar[at] = random.next() as u8,
                2 => tar.truncate(at),
                _ => drop(tar.splice(at..at, [0; 3])),
            }
            tar.resize(tar.len().max(1), 0);
        }
        // Half of them with tar checksums that fit the damage.
        if random.below(2) == 0 {
            for header in tar.chunks_exact_mut(512) {
                let sum: u32 = header.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let bytes = deb(&[("control.tar.gz", &gzip_stored(&control)), ("data.tar.gz", &gzip_stored(&data))]);
        if let Err(error) = read(bytes.as_slice(), "x.deb") {
            assert!(error.to_string().len() > "x.deb is refused: ".len(), "round {round}");
        }
    }
}

#[test]
fn a_file_entry_of_every_kind_is_shown() -> Result<()> {
    struct Names(Vec<String>);
    impl Visit for Names {
        fn control(&mut self, _: &Entry, _: &mut dyn Read) -> Check<()> {
            Ok(())
        }
        fn data(&mut self, entry: &Entry, content: &mut dyn Read) -> Check<()> {
            let size = io::copy(content, &mut io::sink()).map_err(|e| e.to_string())?;
            assert_eq!(size, entry.size);
            let link = String::from_utf8_lossy(&entry.link).into_owned();
            self.0.push(format!("{}: {:?} {size} {link}", String::from_utf8_lossy(&entry.path), entry.kind));
            Ok(())
        }
    }
    let mut made = Made::sample();
    let deep = format!("./{}/end", "d".repeat(99));
    made.data.push(MadeFile { path: deep, kind: Kind::File, link: String::new(), content: b"x".to_vec() });
    let mut names = Names(Vec::new());
    archive::walk(made.pack(Pack::Zstd).as_slice(), &mut names).map_err(|stop| stopped(stop, "x"))?;
    let n = "n".repeat(150);
    assert_eq!(
        names.0,
        [
            ": Dir 0 ".to_string(),
            "usr: Dir 0 ".into(),
            "usr/app: File 5000 ".into(),
            "usr/again: Hardlink 0 usr/app".into(),
            "usr/link: Symlink 0 /etc/../app".into(),
            format!("usr/{n}: Symlink 0 {n}"),
            "usr/zeros: File 3000 ".into(),
            format!("{}/end: File 1 ", "d".repeat(99)),
        ]
    );
    Ok(())
}
