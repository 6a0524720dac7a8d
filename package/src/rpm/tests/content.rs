//! What counts as content, and packages that we write.

use super::*;
use crate::rpm::write::{NewRpm, write_rpm};
use crate::testing::gzip;
use crate::write::FileEntry;

const A: &str = ".ts20260102030405.0a1b2c3d";
const B: &str = ".ts20270908070605.ffeeddcc";

/// A package as a rebuild makes it: `change` sees header and files before they are packed.
fn package(suffix: &str, time: u32, pack: (&str, Pack), change: impl FnOnce(&mut Made, &mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let release = format!("1{suffix}");
    let mut made = Made::sample()
        .text(tag::RELEASE, &release)
        .text(tag::SOURCERPM, &format!("app-1.0-{release}.src.rpm"))
        .numbers(tag::BUILDTIME, &[time])
        .numbers(tag::FILEMTIMES, &[time, time, time])
        .text(tag::BUILDHOST, &format!("host{time}"))
        .text(tag::COOKIE, &format!("host{time} {time}"))
        .texts(tag::PROVIDENAME, &[b"app"])
        .texts(tag::PROVIDEVERSION, &[format!("1.0-{release}").as_bytes()])
        .numbers(tag::PROVIDEFLAGS, &[8])
        .texts(tag::CHANGELOGNAME, &[format!("T <t@t> - 1.0-{release}").as_bytes(), b"A B <a@b> - 1.0-1"])
        .texts(tag::CHANGELOGTEXT, &[b"- Rebuilt.", b"- First."])
        .numbers(tag::CHANGELOGTIME, &[time, 5])
        .numbers(tag::FILEMODES, &[0o100_644, 0o100_755, 0o100_644])
        .numbers(tag::FILEFLAGS, &[0, 1, 2])
        .texts(tag::FILEUSERNAME, &[b"root", b"root", b"root"])
        .texts(tag::FILEGROUPNAME, &[b"root", b"root", b"root"])
        .numbers(tag::DIRINDEXES, &[0, 1, 2])
        .texts(tag::BASENAMES, &[b"app", b"x", b"app.1.gz"])
        .without(tag::FILEDIGESTS)
        .texts(tag::DIRNAMES, &[b"/usr/bin/", format!("/usr/lib/app-1.0-{release}/").as_bytes(), b"/usr/share/man/man1/"]);
    if !pack.0.is_empty() {
        made = made.text(tag::PAYLOADCOMPRESSOR, pack.0);
    }
    let mut large = vec![b'x'; (64 << 10) - 5];
    large.extend_from_slice(suffix.as_bytes());
    let mut files = vec![
        ("./usr/bin/app".to_string(), large),
        (format!("./usr/lib/app-1.0-{release}/x"), b"x".to_vec()),
        ("./usr/share/man/man1/app.1.gz".to_string(), gzip(format!(".TH app 1 1.0-{release}").as_bytes())),
    ];
    let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
    change(&mut made, &mut files);
    let size = |name: &String| files.iter().find(|file| file.0 == *name).map_or(0, |file| file.1.len() as u32);
    made = made.numbers(tag::FILESIZES, &names.iter().map(size).collect::<Vec<_>>());
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    made.rpm(&pack.1.compress(&cpio_of(&files)))
}

fn digest(bytes: &[u8], suffix: &str) -> Result<Sha256> {
    content_digest(bytes, suffix)
}

#[test]
fn a_rebuild_of_the_same_content_is_the_same() -> Result<()> {
    let packs = [("gzip", Pack::Gzip), ("", Pack::None), ("xz", Pack::Xz), ("zstd", Pack::Zstd), ("gzip", Pack::None)];
    let first = digest(&package(A, 1, packs[0], |_, _| {}), A)?;
    for (time, pack) in packs.into_iter().enumerate() {
        let other = package(B, 100 + time as u32, pack, |_, _| {});
        assert_eq!(digest(&other, B)?, first, "{pack:?}");
        assert_ne!(digest(&other, A)?, first, "another suffix is content");
    }
    let turned = package(B, 7, packs[1], |_, files| files.reverse());
    assert_eq!(digest(&turned, B)?, first, "the order in the payload does not count");
    Ok(())
}

/// Golden: if this changes, every component is taken for changed once.
#[test]
fn the_digest_never_changes() -> Result<()> {
    let bytes = package(A, 1, ("zstd", Pack::Zstd), |_, _| {});
    assert_eq!(digest(&bytes, A)?.to_string(), "be8f902eb9edb3e0d28f3ac35ed5d746ad11cc51ead340afd2d4834eaf0db177");
    Ok(())
}

#[test]
fn every_other_difference_counts() -> Result<()> {
    type Change = fn(&mut Made, &mut Vec<(String, Vec<u8>)>);
    let first = digest(&package(A, 1, ("", Pack::None), |_, _| {}), A)?;
    let changes: [(&str, Change); 8] = [
        ("one byte of a program", |_, files| files[0].1[7] = b'z'),
        ("a man page", |_, files| files[2].1 = gzip(b".TH app 1 1.0-2")),
        ("a mode", |made, _| *made = made.clone().numbers(tag::FILEMODES, &[0o104_755, 0o100_755, 0o100_644])),
        ("an owner", |made, _| *made = made.clone().texts(tag::FILEUSERNAME, &[b"root", b"app", b"root"])),
        ("a flag", |made, _| *made = made.clone().numbers(tag::FILEFLAGS, &[0, 1 | 16, 2])),
        ("capabilities", |made, _| *made = made.clone().texts(tag::FILECAPS, &[b"", b"cap_net_raw=ep", b""])),
        ("a script", |made, _| *made = made.clone().text(tag::POSTIN, "echo hi")),
        ("a dependency's flags", |made, _| *made = made.clone().numbers(tag::PROVIDEFLAGS, &[12])),
    ];
    for (what, change) in changes {
        assert_ne!(digest(&package(A, 1, ("", Pack::None), change), A)?, first, "{what}");
    }
    let older = package(A, 1, ("", Pack::None), |made, _| *made = made.clone().texts(tag::CHANGELOGTEXT, &[b"- Rebuilt.", b"- 1st."]));
    assert_ne!(digest(&older, A)?, first, "an older entry of the changelog");
    let rebuilt = package(A, 1, ("", Pack::None), |made, _| *made = made.clone().texts(tag::CHANGELOGTEXT, &[b"- Again.", b"- First."]));
    assert_eq!(digest(&rebuilt, A)?, first, "the rebuild's own entry does not count");
    Ok(())
}

#[test]
fn a_stripped_payload_takes_sizes_and_hardlinks_from_the_header() -> Result<()> {
    let made = Made::sample().numbers(tag::FILEDEVICES, &[1, 1]).numbers(tag::FILEINODES, &[7, 7]).numbers(tag::FILESIZES, &[3, 3]);
    let trailer = cpio_of(&[]);
    let stripped = [b"07070X00000000\0\0".as_slice(), b"07070X00000001\0\0one\0", &trailer].concat();
    let plain = cpio_of(&[("./usr/a", b""), ("./usr/b", b"one")]);
    assert_eq!(digest(&made.rpm(&stripped), "")?, digest(&made.rpm(&plain), "")?);
    let apart = made.clone().numbers(tag::FILEINODES, &[7, 8]);
    let both = cpio_of(&[("./usr/a", b"one"), ("./usr/b", b"one")]);
    assert_ne!(digest(&apart.rpm(&both), "")?, digest(&made.rpm(&plain), "")?, "whether they are one file counts");
    Ok(())
}

fn config() -> (NewRpm, Vec<FileEntry>) {
    let control = NewRpm {
        name: "app-config".into(),
        version: "1.0".into(),
        release: "1".into(),
        arch: "noarch".into(),
        summary: "Settings of app".into(),
        license: "MIT".into(),
        description: "Settings of app\nin two lines.".into(),
        requires: vec!["app >= 1:2.0-3".into(), "bash".into()],
        provides: Vec::new(),
    };
    let file = |path: &str, mode, content: &[u8]| FileEntry { path: path.into(), mode, content: content.to_vec() };
    (control, vec![file("/etc/app/b.conf", 0o640, b"b\n"), file("/etc/app/a.conf", 0o644, b""), file("/usr/bin/x", 0o4755, b"#!")])
}

#[test]
fn a_written_package_reads_back() -> Result<()> {
    let (control, given) = config();
    let bytes = write_rpm(&control, &given, 1_767_322_985)?;
    let rpm = read(bytes.as_slice(), "app-config.rpm")?;
    assert_eq!((rpm.id.to_string().as_str(), rpm.date, rpm.is_source), ("app-config 1.0-1 noarch", 1_767_322_985, false));
    assert_eq!(rpm.header.text(tag::BUILDHOST).as_deref(), Some("twostage.invalid"));
    let files: Vec<(String, u32)> =
        files(&rpm.header).iter().map(|file| (String::from_utf8_lossy(&file.path).into_owned(), file.mode)).collect();
    assert_eq!(files, [("/etc/app/a.conf".into(), 0o100_644), ("/etc/app/b.conf".into(), 0o100_640), ("/usr/bin/x".into(), 0o104_755)]);
    let requires = dependencies(&rpm.header, Kind::Requires);
    let app = requires.iter().find(|dependency| dependency.name == "app").expect("app");
    assert_eq!((app.flags & SENSE_COMPARE, app.epoch.as_deref(), app.version.as_str(), app.release.as_str()), (12, Some("1"), "2.0", "3"));
    let mut turned = given.clone();
    turned.reverse();
    assert_eq!(write_rpm(&control, &turned, 1_767_322_985)?, bytes, "the order of files does not count");
    content_digest(bytes.as_slice(), "")?;
    Ok(())
}

#[test]
fn a_package_of_no_files_may_provide_names() -> Result<()> {
    let control = NewRpm { provides: vec!["mta".into()], ..config().0 };
    let rpm = read(write_rpm(&control, &[], 1)?.as_slice(), "app-config.rpm")?;
    let provides = dependencies(&rpm.header, Kind::Provides);
    let names: Vec<(&str, &str)> = provides.iter().map(|provided| (provided.name.as_str(), provided.version.as_str())).collect();
    assert!(names.contains(&("app-config", "1.0")) && names.contains(&("mta", "")), "{names:?}");
    assert!(files(&rpm.header).is_empty());
    Ok(())
}

/// Golden: another release of the `rpm` crate may change the bytes, and that is to be noticed.
#[test]
fn a_written_package_has_the_same_bytes_everywhere() -> Result<()> {
    let (control, files) = config();
    assert_eq!(
        Sha256::of(&write_rpm(&control, &files, 1_767_322_985)?).to_string(),
        "a5240c31faa1cfd4c8d8ac36a20a81815ef8f754f955b9c43d5da6fc47c6022b"
    );
    Ok(())
}

#[test]
fn what_cannot_be_written_is_refused() {
    let (control, files) = config();
    let refused = |change: fn(&mut NewRpm, &mut Vec<FileEntry>), date: i64, wanted: &str| {
        let (mut control, mut files) = (control.clone(), files.clone());
        change(&mut control, &mut files);
        let said = write_rpm(&control, &files, date).map(|_| ()).unwrap_err().to_string();
        assert!(said.contains(wanted), "{wanted}: {said}");
    };
    refused(|control, _| control.name = "a b".into(), 1, "package name");
    refused(|control, _| control.release = "1-1".into(), 1, "version");
    refused(|control, _| control.summary = "a\nb".into(), 1, "summary");
    refused(|control, _| control.requires.push("a b".into()), 1, "requires");
    refused(|control, _| control.requires.push("a >> 1".into()), 1, "requires");
    refused(|control, _| control.provides.push("a b".into()), 1, "package name");
    refused(|_, files| files[0].path = "/etc/../x".into(), 1, "plain path");
    refused(|_, files| files[0].mode = 0o10_000, 1, "mode");
    refused(|_, files| files.push(files[0].clone()), 1, "twice");
    refused(|_, _| {}, -1, "date");
    refused(|_, _| {}, 1 << 32, "date");
}
