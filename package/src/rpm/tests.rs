//! Packages by the `rpm` crate, by hand and by rpmbuild.

use super::*;
use crate::testing::{Pack, XorShift};
use ::rpm::{BuildConfig, CompressionType, Dependency as Needs, FileOptions, PackageBuilder};

mod content;
mod hostile;
mod payload;
mod real;

const STRING: u32 = 6;
const BIN: u32 = 7;
const STRINGS: u32 = 8;
const I18N: u32 = 9;

/// A header to be written by hand.
#[derive(Clone, Default)]
pub(super) struct Made {
    pub(super) values: Vec<(u32, u32, u32, Vec<u8>)>,
}

impl Made {
    pub(super) fn raw(mut self, tag: u32, kind: u32, count: u32, bytes: &[u8]) -> Made {
        self.values.retain(|value| value.0 != tag);
        self.values.push((tag, kind, count, bytes.to_vec()));
        self
    }

    pub(super) fn text(self, tag: u32, text: &str) -> Made {
        self.raw(tag, STRING, 1, format!("{text}\0").as_bytes())
    }

    pub(super) fn texts(self, tag: u32, texts: &[&[u8]]) -> Made {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| [*text, b"\0"].concat()).collect();
        self.raw(tag, STRINGS, texts.len() as u32, &bytes)
    }

    pub(super) fn numbers(self, tag: u32, numbers: &[u32]) -> Made {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        self.raw(tag, 4, numbers.len() as u32, &bytes)
    }

    pub(super) fn without(mut self, tag: u32) -> Made {
        self.values.retain(|value| value.0 != tag);
        self
    }

    /// Files `/usr/a` and `/usr/b` in a package that can be read; their bytes are in [`payload`].
    pub(super) fn sample() -> Made {
        Made::default()
            .text(tag::NAME, "app")
            .text(tag::VERSION, "1.0")
            .text(tag::RELEASE, "1")
            .text(tag::ARCH, "noarch")
            .text(tag::SOURCERPM, "app-1.0-1.src.rpm")
            .numbers(tag::FILESIZES, &[3, 4])
            .raw(tag::FILEMODES, 3, 2, &[0o100_644_u16.to_be_bytes(), 0o100_755_u16.to_be_bytes()].concat())
            .numbers(tag::FILEMTIMES, &[1, 2])
            .numbers(tag::FILEFLAGS, &[0, 1])
            .texts(tag::FILEUSERNAME, &[b"root", b"root"])
            .texts(tag::FILEGROUPNAME, &[b"root", b"root"])
            .numbers(tag::DIRINDEXES, &[0, 0])
            .texts(tag::BASENAMES, &[b"a", b"b"])
            .texts(tag::DIRNAMES, &[b"/usr/"])
            .texts(tag::FILEDIGESTS, &[hex(&Md5::digest("one")).as_bytes(), hex(&Md5::digest("four")).as_bytes()])
    }

    /// The header's bytes without magic.
    pub(super) fn pack(&self) -> Vec<u8> {
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (tag, kind, count, bytes) in &self.values {
            let align = match kind {
                3 => 2,
                4 => 4,
                5 => 8,
                _ => 1,
            };
            data.resize(usize::next_multiple_of(data.len(), align), 0);
            [*tag, *kind, data.len() as u32, *count].iter().for_each(|number| index.extend(number.to_be_bytes()));
            data.extend(bytes);
        }
        [&(self.values.len() as u32).to_be_bytes(), (data.len() as u32).to_be_bytes().as_slice(), &index, &data].concat()
    }

    /// A package of this header with an empty signature header.
    pub(super) fn rpm(&self, payload: &[u8]) -> Vec<u8> {
        self.signed(&Made::default(), payload)
    }

    pub(super) fn signed(&self, signature: &Made, payload: &[u8]) -> Vec<u8> {
        let mut bytes = [&LEAD_MAGIC, [3, 0, 0, 0].as_slice()].concat();
        bytes.resize(LEAD - 18, 0);
        bytes.extend(SIGNATURE_HEADER);
        bytes.resize(LEAD, 0);
        bytes.extend(header::MAGIC);
        bytes.extend(signature.pack());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(header::MAGIC);
        bytes.extend(self.pack());
        bytes.extend(payload);
        bytes
    }
}

/// A cpio archive of these files.
pub(super) fn cpio_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for (at, (name, content)) in files.iter().chain(&[("TRAILER!!!", b"".as_slice())]).enumerate() {
        let fields = [at, 0o100_644, 0, 0, 1, 7, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        bytes.extend(b"070701");
        fields.iter().for_each(|field| bytes.extend(format!("{field:08x}").bytes()));
        bytes.extend(format!("{name}\0").bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// What [`Made::sample`] lists.
pub(super) fn payload() -> Vec<u8> {
    cpio_of(&[("./usr/a", b"one"), ("./usr/b", b"four")])
}

/// A package of the `rpm` crate.
pub(super) fn built(compression: CompressionType) -> Vec<u8> {
    let mut builder = PackageBuilder::new("odd-app", "1.2~rc1", "MIT", "x86_64", "An odd app");
    builder.using_config(BuildConfig::v4().compression(compression).source_date(1_767_322_985_u32)).epoch(3).release("4.fc40");
    builder.description("It is\nodd.").requires(Needs::greater_eq("libfoo", "2:1.0-3")).requires(Needs::any("(a if b)"));
    builder.provides(Needs::eq("virtual", "7")).recommends(Needs::any("rec")).obsoletes(Needs::less("older", "1-2"));
    builder.add_changelog_entry("A B <a@b> - 1.1-1", "- First.", 1_700_000_000_u32);
    let file = |path: &str, mode: u16| FileOptions::new(path).permissions(mode);
    builder.with_file_contents("conf\n", file("/etc/odd.conf", 0o640).group("adm").config()).expect("a file");
    builder.with_file_contents(vec![7; 70_000], file("/usr/bin/odd", 0o755).caps("cap_net_raw=ep").expect("caps")).expect("a file");
    builder.with_symlink(FileOptions::symlink("/usr/bin/link", "odd")).expect("a link");
    builder.with_ghost(FileOptions::ghost("/var/log/odd.log")).expect("a ghost");
    let mut bytes = Vec::new();
    builder.build().expect("it builds").write(&mut bytes).expect("it is written");
    bytes
}

#[test]
fn a_package_is_read_and_every_number_of_it_holds() -> Result<()> {
    for compression in [CompressionType::None, CompressionType::Gzip, CompressionType::Zstd] {
        let bytes = built(compression);
        let rpm = read(bytes.as_slice(), "odd.rpm")?;
        assert_eq!(rpm.id.to_string(), "odd-app 3:1.2~rc1-4.fc40 x86_64");
        assert_eq!((rpm.is_source, rpm.date, rpm.source.as_str(), rpm.signer.as_deref()), (false, 1_767_322_985, "(none)", None));
        assert_eq!(rpm.size, bytes.len() as u64);
        let (prefix, size) = (rpm.prefix as usize, rpm.header_size as usize);
        assert_eq!(&bytes[prefix..prefix + 8], header::MAGIC);
        assert_eq!(rpm.sha256, Sha256::of(&bytes[prefix..]));
        assert_eq!(rpm.header_sha256, Sha256::of(&bytes[prefix..prefix + size]));
        assert_eq!(rpm.md5, <[u8; 16]>::from(Md5::digest(&bytes[prefix..])));
        // Another reader's eyes.
        let theirs = ::rpm::PackageMetadata::parse(&mut bytes.as_slice()).expect("the rpm crate reads its own");
        assert_eq!(theirs.get_summary().ok(), rpm.header.text(tag::SUMMARY).as_deref());
        assert_eq!(theirs.get_package_segment_offsets().payload, (prefix + size) as u64);
    }
    Ok(())
}

#[test]
fn files_dependencies_and_changes_are_as_they_were_given() -> Result<()> {
    let rpm = read(built(CompressionType::Gzip).as_slice(), "odd.rpm")?;
    let files = files(&rpm.header);
    let said: Vec<String> = files
        .iter()
        .map(|file| {
            let (path, link) = (String::from_utf8_lossy(&file.path), String::from_utf8_lossy(&file.link));
            format!("{path} {:o} {} {} {} {} {link} {}", file.mode, file.size, file.flags, file.user, file.group, file.caps)
        })
        .collect();
    assert_eq!(said[0], "/etc/odd.conf 100640 5 1 root adm  ");
    assert_eq!(said[1], "/usr/bin/link 120777 3 0 root root odd ");
    assert_eq!(said[2], "/usr/bin/odd 100755 70000 0 root root  cap_net_raw=ep");
    assert_eq!(files[3].flags & FILE_GHOST, FILE_GHOST);
    assert_eq!((files[0].mtime, digest_algorithm(&rpm.header)), (1_767_322_985, DigestAlgorithm::Sha256));
    assert_eq!(files[0].digest, Sha256::of(b"conf\n").to_string());

    let requires = dependencies(&rpm.header, Kind::Requires);
    let foo = requires.iter().find(|dependency| dependency.name == "libfoo").expect("libfoo");
    assert_eq!((foo.flags & SENSE_COMPARE, foo.epoch.as_deref()), (12, Some("2")));
    assert_eq!((foo.version.as_str(), foo.release.as_str()), ("1.0", "3"));
    assert!(requires.iter().any(|dependency| dependency.name == "(a if b)" && dependency.version.is_empty()));
    assert_eq!(dependencies(&rpm.header, Kind::Recommends).iter().filter(|dependency| dependency.name == "rec").count(), 1);
    assert_eq!(dependencies(&rpm.header, Kind::Obsoletes)[0].flags, 2);
    assert!(dependencies(&rpm.header, Kind::Enhances).is_empty());
    let changes = changelog(&rpm.header);
    assert_eq!(changes, [Change { author: "A B <a@b> - 1.1-1".into(), date: 1_700_000_000, text: "- First.".into() }]);
    Ok(())
}

#[test]
fn a_source_package_has_the_architecture_src_and_plain_names() -> Result<()> {
    let source = Made::sample().without(tag::SOURCERPM).texts(tag::DIRNAMES, &[b""]);
    let rpm = read(source.rpm(&cpio_of(&[("a", b"one"), ("b", b"four")])).as_slice(), "app.src.rpm")?;
    assert_eq!((rpm.id.arch.as_str(), rpm.is_source, rpm.source.as_str()), ("src", true, ""));
    assert_eq!(files(&rpm.header)[1].path, b"b");
    Ok(())
}

#[test]
fn a_header_of_rpms_database_may_repeat_a_tag_and_the_last_one_counts() -> Result<()> {
    let mut made = Made::sample();
    made.values.push((tag::NAME, STRING, 1, b"other\0".to_vec()));
    let header = Header::parse(&made.pack())?;
    assert_eq!(header.text(tag::NAME).as_deref(), Some("other"));
    assert_eq!(header.tags().filter(|tag| *tag == tag::NAME).count(), 1);
    let error = read(made.rpm(b"").as_slice(), "app.rpm").map(|_| ()).unwrap_err();
    assert!(error.what().contains("tag 1000 twice"), "{error}");
    Ok(())
}

#[test]
fn text_that_is_not_utf8_is_taken_as_createrepo_c_takes_it() -> Result<()> {
    let made = Made::sample()
        .raw(tag::SUMMARY, I18N, 2, b"Gr\xfc\xdfe \x93quoted\x94\x07\0second\0")
        .texts(tag::BASENAMES, &[b"a\xff", b"b"])
        .text(tag::DESCRIPTION, "ü\u{7}");
    let header = Header::parse(&made.pack())?;
    assert_eq!(header.text(tag::SUMMARY).as_deref(), Some("Grüße quoted"));
    assert_eq!(header.texts(tag::SUMMARY).len(), 2);
    assert_eq!(header.text(tag::DESCRIPTION).as_deref(), Some("ü\u{7}"));
    assert_eq!(files(&header)[0].path, b"/usr/a\xff");
    assert_eq!((header.number(tag::SUMMARY), header.text(tag::FILESIZES)), (None, None), "another type gives nothing");
    Ok(())
}

#[test]
fn numbers_of_every_width_are_read() -> Result<()> {
    let made = Made::sample().raw(tag::LONGFILESIZES, 5, 2, &[[0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 9]].concat());
    let made = made.without(tag::FILESIZES).raw(tag::FILEMODES, 3, 2, &[0x81, 0xa4, 0x81, 0xed]);
    let header = Header::parse(&made.pack())?;
    assert_eq!(files(&header).iter().map(|file| (file.size, file.mode)).collect::<Vec<_>>(), [(1 << 32, 0o100_644), (9, 0o100_755)]);
    Ok(())
}

#[test]
fn the_issuer_of_a_signature_is_found() -> Result<()> {
    let subpackets = |area: &[u8]| [&(area.len() as u16).to_be_bytes(), area].concat();
    let v4 = |hashed: &[u8], unhashed: &[u8]| [&[4, 0, 1, 8], subpackets(hashed).as_slice(), &subpackets(unhashed), &[0; 40]].concat();
    let fingerprint = [&[22, 33, 4], [0xab; 20].as_slice()].concat();
    let key_id = [&[9, 16], [0xcd; 8].as_slice()].concat();
    let old = |body: &[u8]| [&[0x89], (body.len() as u16).to_be_bytes().as_slice(), body].concat();
    let new = |body: &[u8]| [&[0xc2, body.len() as u8], body].concat();
    let v3 = [&[3, 5, 0], [0; 4].as_slice(), &[0xef; 8], &[1, 8], &[0; 40]].concat();
    for (tag, packet, issuer) in [
        (268, old(&v4(&fingerprint, &key_id)), "ab".repeat(20)),
        (267, new(&v4(&[], &key_id)), "cd".repeat(8)),
        (1005, old(&v3), "ef".repeat(8)),
        (1002, b"\x89\xff\xffnot one".to_vec(), "unknown".to_string()),
        (1006, old(&v3), "ef".repeat(8)),
    ] {
        let signature = Made::default().raw(tag, BIN, packet.len() as u32, &packet);
        let rpm = read(Made::sample().signed(&signature, &payload()).as_slice(), "app.rpm")?;
        assert_eq!(rpm.signer, Some(issuer), "tag {tag}");
    }
    Ok(())
}

#[test]
fn versions_are_in_rpms_order() {
    // From rpm's own tests/rpmvercmp.at, and epochs.
    for line in include_str!("tests/evr.txt").lines().filter(|line| !line.starts_with('#')) {
        let [a, order, b] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let expected = match order {
            "<" => std::cmp::Ordering::Less,
            ">" => std::cmp::Ordering::Greater,
            _ => std::cmp::Ordering::Equal,
        };
        assert_eq!(compare_evr(a, b), expected, "{line}");
        assert_eq!(compare_evr(b, a), expected.reverse(), "{line}, turned");
    }
}
