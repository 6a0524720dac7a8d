use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use tar::EntryType as T;

/// A member as a hostile packer writes it: its names unchecked, its content as long as it is.
#[derive(Clone)]
struct Member<'a> {
    path: &'a str,
    kind: T,
    link: &'a str,
    mode: u32,
    content: &'a [u8],
}

fn file<'a>(path: &'a str, content: &'a str) -> Member<'a> {
    Member { path, kind: T::Regular, link: "", mode: 0o644, content: content.as_bytes() }
}

fn other<'a>(path: &'a str, kind: T, link: &'a str) -> Member<'a> {
    Member { path, kind, link, mode: 0o777, content: b"" }
}

fn packed(members: &[Member<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for member in members {
        // Names too long for the header go into records before it, as GNU tar writes them.
        for (kind, text) in [(T::GNULongName, member.path), (T::GNULongLink, member.link)] {
            if text.len() > 100 {
                let mut header = crate::source::header(0);
                header.set_entry_type(kind);
                header.set_size(text.len() as u64);
                header.set_cksum();
                tar.append(&header, text.as_bytes()).expect("into memory");
            }
        }
        let mut header = crate::source::header(1_600_000_000);
        let short = |text: &str| text.as_bytes()[..text.len().min(100)].to_vec();
        let old = header.as_old_mut();
        old.name[..short(member.path).len()].copy_from_slice(&short(member.path));
        old.linkname[..short(member.link).len()].copy_from_slice(&short(member.link));
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_size(member.content.len() as u64);
        if matches!(member.kind, T::Char | T::Block) {
            header.set_device_major(1).expect("ustar");
            header.set_device_minor(3).expect("ustar");
        }
        header.set_cksum();
        tar.append(&header, member.content).expect("into memory");
    }
    tar.into_inner().expect("in memory")
}

/// Unpacks it into `in/tree` of a folder where `in/outside` and `shadow` lie too, and gives what is in the tree then.
fn unpack(tar: &[u8]) -> (tempfile::TempDir, std::result::Result<String, String>) {
    let place = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(place.path().join("in/tree")).expect("folders");
    fs::write(place.path().join("in/outside"), "outside").expect("a file");
    fs::write(place.path().join("packed"), tar).expect("the tarball");
    let packed = File::open(place.path().join("packed")).expect("the tarball");
    let done = tarball(packed, tar.len() as u64, &place.path().join("in/tree"));
    let said = |error: Error| std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ");
    assert_eq!(fs::read_to_string(place.path().join("in/outside")).expect("it is there"), "outside");
    let beside: Vec<_> = fs::read_dir(place.path().join("in")).expect("it is there").flatten().map(|e| e.file_name()).collect();
    assert_eq!(beside.len(), 2, "something beside the tree: {beside:?}");
    let tree = listed(&place.path().join("in/tree"));
    (place, done.map(|()| tree).map_err(said))
}

/// A folder as lines: `a f644 content`, `b d`, `c -> d`. Nothing but these may be there.
fn listed(folder: &Path) -> String {
    let mut lines = Vec::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(here) = left.pop() {
        for entry in fs::read_dir(&here).expect("a folder").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(folder).expect("below it").display().to_string();
            let meta = entry.metadata().expect("it is there");
            let line = if meta.is_dir() {
                left.push(path);
                format!("{name} d")
            } else if meta.is_symlink() {
                format!("{name} -> {}", fs::read_link(&path).expect("a link").display())
            } else {
                assert!(meta.is_file(), "{name} is {:?}", meta.file_type());
                assert_eq!(meta.mode() & 0o7000, 0, "{name}: setuid, setgid or sticky");
                format!("{name} f{:o} {}", meta.permissions().mode() & 0o777, String::from_utf8_lossy(&fs::read(&path).expect("a file")))
            };
            lines.push(line);
        }
    }
    lines.sort();
    lines.join("\n")
}

fn taken(members: &[Member<'_>]) -> String {
    unpack(&packed(members)).1.expect("taken")
}

fn refused(members: &[Member<'_>]) -> String {
    unpack(&packed(members)).1.expect_err("refused")
}

#[test]
fn files_folders_and_links_are_unpacked_with_the_modes_that_a_source_has() {
    let program = Member { mode: 0o4711, ..file("demo/debian/rules", "make") };
    let tree = taken(&[
        other("./demo/", T::Directory, ""),
        file("demo//a.c", "int a;"),
        program,
        other("demo/link", T::Symlink, "../../etc/passwd"),
        other("demo/b.c", T::Link, "./demo/a.c"),
        other("demo/also", T::Link, "demo/link"),
        Member { mode: 0o6000, ..file("demo/none", "") },
    ]);
    let expected = [
        "demo d",
        "demo/a.c f644 int a;",
        "demo/also -> ../../etc/passwd",
        "demo/b.c f644 int a;",
        "demo/debian d",
        "demo/debian/rules f755 make",
        "demo/link -> ../../etc/passwd",
        "demo/none f644 ",
    ];
    assert_eq!(tree, expected.join("\n"));
}

#[test]
fn what_is_no_file_folder_or_link_is_refused_and_never_made() {
    for (kind, what) in
        [(T::Char, "a device"), (T::Block, "a device"), (T::Fifo, "a pipe"), (T::new(b's'), "the tar type `s`"), (T::new(b'V'), "type")]
    {
        let said = refused(&[file("a", "1"), other("x", kind, "")]);
        assert!(said.starts_with("x: it is ") && said.contains(what), "{said}");
    }
}

#[test]
fn no_name_leads_out_of_the_folder() {
    for (path, why) in [
        ("/etc/x", "its path is absolute"),
        ("//x", "its path is absolute"),
        ("../outside", "its path climbs"),
        ("a/../../outside", "its path climbs"),
        ("a/..", "its path climbs"),
        ("..", "its path climbs"),
        ("a\nb", "a line break"),
        (".", "it is the folder itself"),
        ("", "it is the folder itself"),
        (&format!("{}x", "d/".repeat(300)), "too deep"),
        (&"n".repeat(256), "too long"),
        (&format!("{}x", "dddddddd/".repeat(500)), "too long"),
    ] {
        let said = refused(&[file(path, "1")]);
        assert!(said.contains(why), "{path:?}: {said}");
    }
}

#[test]
fn no_link_is_followed_whatever_stands_before_it() {
    for (link, target) in [("a", "../outside"), ("a", ".."), ("a", "/"), ("a", "."), ("a", "a")] {
        let link = other(link, T::Symlink, target);
        for path in ["a/x", "a/in/outside", "a/b/c"] {
            let said = refused(&[link.clone(), file(path, "1")]);
            assert!(said.contains("`a` on its way is no folder"), "{target} {path}: {said}");
        }
        assert!(refused(&[link.clone(), other("a", T::Directory, "")]).contains("no folder"));
        assert!(refused(&[link.clone(), other("b", T::Link, "a/outside")]).contains("it is a hard link"));
        assert!(refused(&[file("x", "1"), link.clone(), other("a/y", T::Link, "x")]).contains("no folder"));
        // In its place comes another file; where it leads nothing is written.
        assert_eq!(taken(&[link, file("a", "1")]), "a f644 1");
    }
    // A folder that becomes a link would take what is in it along.
    let said = refused(&[file("a/x", "1"), other("a", T::Symlink, ".."), file("a/outside", "1")]);
    assert_eq!(said, "a: a folder has its name");
    assert!(refused(&[file("a", "1"), file("a/b", "1")]).contains("no folder"));
}

#[test]
fn a_hard_link_names_a_file_of_the_tarball_that_was_before_it() {
    for target in ["/etc/shadow", "../outside", "b", "a/../../outside", "", ".", "/", "d"] {
        let said = refused(&[other("d", T::Directory, ""), other("a", T::Link, target)]);
        assert!(said.starts_with("a: ") || said.contains("its path"), "{target}: {said}");
    }
    // Of two names one gets another content, and the other one does not.
    assert_eq!(taken(&[file("a", "1"), other("b", T::Link, "a"), file("b", "2")]), "a f644 1\nb f644 2");
    assert_eq!(taken(&[file("a", "1"), other("./a", T::Link, "a")]), "a f644 1");
}

#[test]
fn of_two_members_of_one_name_the_later_one_counts() {
    assert_eq!(
        taken(&[file("a", "first"), file("./a", "2"), other("d/", T::Directory, ""), other("d", T::Directory, "")]),
        "a f644 2\nd d"
    );
}

#[test]
fn records_before_a_member_change_its_name_and_no_check() {
    let with = |records: &[(&str, &[u8])], member: Member<'_>| {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_pax_extensions(records.iter().copied()).expect("records");
        let mut bytes = tar.into_inner().expect("in memory");
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(packed(&[member]));
        unpack(&bytes).1
    };
    assert!(with(&[("path", b"../outside")], file("a", "1")).is_err_and(|said| said.contains("climbs")));
    assert!(with(&[("path", b"/etc/x")], file("a", "1")).is_err_and(|said| said.contains("absolute")));
    assert!(with(&[("path", b"a\0b")], file("a", "1")).is_err());
    assert!(with(&[("path", b"\xff")], file("a", "1")).is_err_and(|said| said.contains("not UTF-8")));
    assert!(with(&[("linkpath", b"../outside")], other("a", T::Link, "b")).is_err());
    assert!(
        with(&[("GNU.sparse.name", b"../outside"), ("GNU.sparse.size", b"1")], file("a", "1")).is_err_and(|said| said.contains("climbs"))
    );
    assert!(with(&[("size", b"99999999999999")], file("a", "1")).is_err());
    // Attributes are no part of a source.
    assert_eq!(with(&[("SCHILY.xattr.security.capability", b"x")], file("a", "1")).as_deref(), Ok("a f644 1"));
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    let target = "t".repeat(300);
    assert_eq!(taken(&[file(&long, "1"), other("l", T::Symlink, &target)]).lines().count(), 3);
    assert!(refused(&[other("l", T::Symlink, &"t".repeat(5000))]).contains("a link to what is no path"));
}

#[test]
fn a_bomb_is_refused_by_its_size() {
    // Holes: a terabyte in a kilobyte.
    let mut tar = tar::Builder::new(Vec::new());
    let records: [(&str, &[u8]); 3] = [("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1099511627776"), ("GNU.sparse.name", b"big")];
    tar.append_pax_extensions(records).expect("records");
    let mut bytes = tar.into_inner().expect("in memory");
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(packed(&[file("a", "1")]));
    let said = unpack(&bytes).1.expect_err("a bomb");
    assert!(said.contains("with it there are more than 2"), "{said}");
    // Zeros: four gigabytes in a kilobyte or so of zstd.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("zstd");
    let head = packed(&[Member { content: &[], ..file("zeros", "") }]);
    let mut header = tar::Header::from_byte_slice(&head[..512]).clone();
    header.set_size(4 << 30);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).expect("zstd");
    let zeros = vec![0; 1 << 20];
    for _ in 0..400 {
        encoder.write_all(&zeros).expect("zstd");
    }
    let said = unpack(&encoder.finish().expect("zstd")).1.expect_err("a bomb");
    assert!(said.contains("with it there are more than"), "{said}");
}

#[test]
fn every_compression_that_sources_come_in_is_read() {
    let tar = packed(&[file("demo/a.c", "int a;")]);
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("demo.tar");
    fs::write(&path, &tar).expect("the tar");
    for program in ["gzip", "bzip2", "xz", "zstd", "lzma"] {
        let (command, format): (&str, &[&str]) = if program == "lzma" { ("xz", &["--format=lzma"]) } else { (program, &[]) };
        let packed = Command::new(command).args(format).arg("-c").arg(&path).output();
        let packed = packed.unwrap_or_else(|_| panic!("{command} does not run: apt-get install xz-utils bzip2 zstd")).stdout;
        assert!(packed.len() > 10 && packed != tar, "{program}");
        assert_eq!(unpack(&packed).1.as_deref(), Ok("demo d\ndemo/a.c f644 int a;"), "{program}");
    }
    assert_eq!(unpack(&tar).1.as_deref(), Ok("demo d\ndemo/a.c f644 int a;"));
    for bad in [&b""[..], b"PK\x03\x04 a zip", b"LZIP\x01", b"<html>not found</html>", &tar[..515], &[0; 10240]] {
        let said = unpack(bad).1.expect_err("no tarball");
        assert!(said.contains("it is no whole tarball") || said.contains("it holds nothing") || said.contains("cut off"), "{said}");
    }
}

/// What real programs write: GNU tar's three formats, with long names, holes, hard links and times.
#[test]
fn what_gnu_tar_writes_is_unpacked_as_gnu_tar_does() {
    let place = tempfile::tempdir().expect("a folder");
    let path = |name: &str| place.path().join(name);
    let long = format!("demo/{}", "long-name-".repeat(15));
    fs::create_dir_all(path("demo/sub")).expect("folders");
    fs::create_dir_all(path("theirs")).expect("a folder");
    fs::write(path(&long), "long").expect("a file");
    fs::write(path("demo/sub/-x"), "dash").expect("a file");
    fs::write(path("demo/ä b"), "blank").expect("a file");
    fs::hard_link(path(&long), path("demo/second")).expect("a link");
    std::os::unix::fs::symlink("sub/-x", path("demo/link")).expect("a link");
    fs::File::create(path("demo/holes")).and_then(|file| file.set_len(3 << 20)).expect("a file");
    fs::set_permissions(path("demo/sub/-x"), fs::Permissions::from_mode(0o775)).expect("chmod");
    let run = |arguments: &[&str]| {
        let done = Command::new("tar").arg("-C").arg(place.path()).args(arguments).output().expect("tar runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    for format in ["gnu", "pax", "oldgnu"] {
        let tar = run(&["-S", &format!("--format={format}"), "-cf", "-", "demo"]);
        fs::write(path("packed.tar"), &tar).expect("the tar");
        let (ours, listed_ours) = unpack(&tar);
        fs::remove_dir_all(path("theirs")).and_then(|()| fs::create_dir(path("theirs"))).expect("a folder");
        let done =
            Command::new("tar").arg("-xf").arg(path("packed.tar")).args(["--no-same-permissions", "-C"]).arg(path("theirs")).status();
        assert!(done.is_ok_and(|status| status.success()));
        // (They leave the group its right to write, which no source has.)
        let theirs = listed(&path("theirs")).replace("f775", "f755").replace("f664", "f644");
        assert_eq!(listed_ours.expect("taken"), theirs, "{format}");
        let time = |folder: &Path| folder.join("demo/sub/-x").metadata().expect("it is there").mtime();
        assert_eq!(time(&ours.path().join("in/tree")), time(&path("theirs")), "{format}");
    }
}
