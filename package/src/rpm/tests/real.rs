//! Real rpm is the judge: packages of rpmbuild, read by `rpm -qp` and by us.

use super::*;
use crate::testing::Folder;
use std::path::{Path, PathBuf};
use std::process::Command;

const SPEC: &str = include_str!("odd.spec");

fn there(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        crate::testing::skipped(&format!("there is no {tool} here"));
    }
    there
}

/// Builds binary and source package with one kind of payload.
fn rpmbuild(folder: &Folder, payload: &str, suffix: &str) -> Vec<PathBuf> {
    let spec = folder.write(&format!("{payload}{suffix}.spec"), SPEC.replace("@SUFFIX@", suffix).as_bytes());
    let sources = spec.parent().expect("a folder");
    let top = sources.join(format!("{payload}{suffix}"));
    let mut command = Command::new("rpmbuild");
    command.arg("-ba");
    for (name, value) in [("_topdir", top.as_path()), ("_sourcedir", sources)] {
        command.args(["--define", &format!("{name} {}", value.display())]);
    }
    command.args(["--define", &format!("_binary_payload {payload}"), "--define", &format!("_source_payload {payload}")]);
    let output = command.arg(&spec).output().expect("rpmbuild runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rpm = |folder: &str, end: &str| top.join(folder).join(format!("odd-1.2~rc1-4{suffix}.{end}.rpm"));
    vec![rpm("RPMS/noarch", "noarch"), rpm("SRPMS", "src")]
}

fn query(path: &Path, format: &str) -> String {
    let output = Command::new("rpm").args(["-qp", "--nosignature", "--qf", format]).arg(path).output().expect("rpm runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn file(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a package")
}

#[test]
fn rpm_says_the_same_of_what_rpmbuild_makes() -> Result<()> {
    if !there("rpmbuild") || !there("rpm") {
        return Ok(());
    }
    let folder = Folder::new("rpmbuild").expect("a folder");
    folder.write("data.txt", b"data\n");
    for payload in ["w9.gzdio", "w6.xzdio", "w3.zstdio", "w.ufdio", "w9.bzdio"] {
        for path in rpmbuild(&folder, payload, ".ts20260102030405.0a1b2c3d") {
            let (bytes, what) = (file(&path), path.display());
            let rpm = read(bytes.as_slice(), "odd.rpm")?;
            let header = &rpm.header;
            let arch = if rpm.is_source { "src" } else { "noarch" };
            assert_eq!(rpm.id.to_string(), format!("odd 3:1.2~rc1-4.ts20260102030405.0a1b2c3d {arch}"));
            let ours = format!("{} {} {} {}", rpm.header_sha256, hex(&rpm.md5), rpm.archive_size, rpm.date);
            assert_eq!(query(&path, "%{SHA256HEADER} %{SIGMD5} %{ARCHIVESIZE} %{BUILDTIME}"), ours, "{what}");

            let ours: String = files(header)
                .iter()
                .map(|file| {
                    let (path, link) = (String::from_utf8_lossy(&file.path), String::from_utf8_lossy(&file.link));
                    let File { mode, size, mtime, digest, flags, user, group, .. } = file;
                    format!("{path} {mode} {size} {mtime} {digest} {flags} {user} {group} {link}\n")
                })
                .collect();
            let format = "[%{FILENAMES} %{FILEMODES} %{FILESIZES} %{FILEMTIMES} %{FILEDIGESTS} %{FILEFLAGS} %{FILEUSERNAME} \
                %{FILEGROUPNAME} %{FILELINKTOS}\n]";
            assert_eq!(query(&path, format), ours, "{what}");

            for (kind, name) in
                Kind::ALL.iter().zip(["PROVIDE", "REQUIRE", "CONFLICT", "OBSOLETE", "RECOMMEND", "SUGGEST", "SUPPLEMENT", "ENHANCE"])
            {
                let ours: String = dependencies(header, *kind)
                    .iter()
                    .map(|Dependency { name, flags, epoch, version, release }| {
                        let epoch = epoch.as_ref().map(|epoch| format!("{epoch}:")).unwrap_or_default();
                        let release = if release.is_empty() { String::new() } else { format!("-{release}") };
                        format!("{name} {flags} {epoch}{version}{release}\n")
                    })
                    .collect();
                let theirs = query(&path, &format!("[%{{{name}NAME}} %{{{name}FLAGS}} %{{{name}VERSION}}\n]"));
                let theirs = if theirs.starts_with("(none)") { String::new() } else { theirs };
                assert_eq!(theirs, ours, "{name} of {what}");
            }
            let ours: String =
                changelog(header).iter().map(|change| format!("{} {} {}\n", change.date, change.author, change.text)).collect();
            assert_eq!(query(&path, "[%{CHANGELOGTIME} %{CHANGELOGNAME} %{CHANGELOGTEXT}\n]"), ours);
            if !rpm.is_source {
                assert_eq!(files(header).iter().find(|file| !file.caps.is_empty()).map(|file| file.caps.as_str()), Some("cap_net_raw=ep"));
            }
        }
    }
    Ok(())
}

#[test]
fn two_builds_by_rpmbuild_have_one_content() -> Result<()> {
    if !there("rpmbuild") {
        return Ok(());
    }
    let folder = Folder::new("rebuild").expect("a folder");
    folder.write("data.txt", b"data\n");
    let mut digests = std::collections::BTreeSet::new();
    for (payload, suffix) in
        [("w9.gzdio", ".ts20260102030405.0a1b2c3d"), ("w6.xzdio", ".ts20270908070605.ffeeddcc"), ("w.ufdio", ".ts20280908070605.00000000")]
    {
        let paths = rpmbuild(&folder, payload, suffix);
        digests.insert(content_digest(file(&paths[0]).as_slice(), suffix)?);
        content_digest(file(&paths[1]).as_slice(), suffix)?;
    }
    assert_eq!(digests.len(), 1);
    Ok(())
}

#[test]
fn rpm_takes_what_we_write() -> Result<()> {
    if !there("rpm") {
        return Ok(());
    }
    let control = write::NewRpm {
        name: "app-config".into(),
        version: "1.0".into(),
        release: "1".into(),
        arch: "noarch".into(),
        summary: "Settings".into(),
        license: "MIT".into(),
        description: "Settings.".into(),
        requires: vec!["app >= 1:2.0-3".into()],
        provides: Vec::new(),
    };
    let files = [crate::write::FileEntry { path: "/etc/app.conf".into(), mode: 0o640, content: b"x\n".to_vec() }];
    let bytes = write::write_rpm(&control, &files, 1_767_322_985)?;
    let folder = Folder::new("write-rpm").expect("a folder");
    let path = folder.write("app-config.rpm", &bytes);
    let said = query(&path, "%{NEVRA} [%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}] %{BUILDTIME} %{BUILDHOST}");
    assert_eq!(said, "app-config-1.0-1.noarch /etc/app.conf -rw-r----- root 1767322985 twostage.invalid");
    let checked = Command::new("rpm").args(["-K", "--nosignature"]).arg(&path).output().expect("rpm runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    Ok(())
}

/// Looks at packages from elsewhere: `TWOSTAGE_RPMS=folder cargo test -- --ignored --nocapture`.
#[test]
#[ignore = "needs a folder of packages"]
fn a_folder_of_packages_is_read() {
    let folder = std::env::var("TWOSTAGE_RPMS").expect("TWOSTAGE_RPMS names a folder");
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let bytes = file(&path);
        match (read(bytes.as_slice(), "it"), content_digest(bytes.as_slice(), "")) {
            (Ok(rpm), Ok(digest)) => println!("{} {:?} {} files, {digest}", rpm.id, rpm.signer, files(&rpm.header).len()),
            (read, digest) => println!("{}: {:?} {:?}", path.display(), read.map(|_| ()), digest),
        }
    }
}
