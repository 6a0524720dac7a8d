//! Databases made by hand, whole and damaged. Those that rpm writes are in the tests of `image`.

use super::*;

/// A header as rpm's database keeps it: texts, and numbers of 32 bits.
fn header(tags: &[(u32, &[&str], &[u32])]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, texts, numbers) in tags {
        if texts.is_empty() {
            data.resize(data.len().next_multiple_of(4), 0);
        }
        let kind = if !texts.is_empty() && matches!(*tag, tag::BASENAMES | tag::DIRNAMES | 1035..=1040) {
            8
        } else if !texts.is_empty() {
            6
        } else {
            4_u32
        };
        for number in [*tag, kind, data.len() as u32, (texts.len() + numbers.len()) as u32] {
            index.extend(number.to_be_bytes());
        }
        texts.iter().for_each(|text| data.extend([text.as_bytes(), b"\0"].concat()));
        numbers.iter().for_each(|number| data.extend(number.to_be_bytes()));
    }
    let counts = [(index.len() / 16) as u32, data.len() as u32];
    [counts.map(u32::to_be_bytes).concat(), index, data].concat()
}

const DIGEST: &str = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4";

/// Owns a program, a link to it, a setting and a log.
fn hello(version: &str) -> Vec<u8> {
    header(&[
        (tag::NAME, &["hello"], &[]),
        (tag::VERSION, &[version], &[]),
        (tag::RELEASE, &["1"], &[]),
        (tag::INSTALLTIME, &[], &[1_700_000_000]),
        (tag::ARCH, &["noarch"], &[]),
        (tag::FILESIZES, &[], &[3, 5, 5, 0]),
        (FILESTATES, &[], &[0, 0, 0, 0]),
        (tag::FILEMODES, &[], &[0o100_755, 0o120_777, 0o100_644, 0o100_644]),
        (tag::FILEMTIMES, &[], &[1, 1, 1, 1]),
        (tag::FILEDIGESTS, &[DIGEST, "", DIGEST, ""], &[]),
        (tag::FILELINKTOS, &["", "hello", "", ""], &[]),
        (tag::FILEFLAGS, &[], &[0, 0, 17, 64]),
        (tag::FILEUSERNAME, &["root"; 4], &[]),
        (tag::FILEGROUPNAME, &["root"; 4], &[]),
        (tag::SOURCERPM, &["hello-1-1.src.rpm"], &[]),
        (tag::FILEVERIFYFLAGS, &[], &[u32::MAX; 4]),
        (tag::DIRINDEXES, &[], &[0, 0, 1, 2]),
        (tag::BASENAMES, &["hello", "hi", "hello.conf", "hello.log"], &[]),
        (tag::DIRNAMES, &["/usr/bin/", "/etc/", "/var/log/"], &[]),
        (tag::FILEDIGESTALGO, &[], &[8]),
    ])
}

fn key(text: &str) -> Vec<u8> {
    let armor = format!("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{text}\n");
    header(&[
        (tag::NAME, &["gpg-pubkey"], &[]),
        (tag::VERSION, &["0123abcd"], &[]),
        (tag::RELEASE, &["5f000000"], &[]),
        (tag::SUMMARY, &["A Team <team@example.com> public key"], &[]),
        (tag::DESCRIPTION, &[&armor], &[]),
    ])
}

fn varint(number: usize) -> Vec<u8> {
    [(number >> 14 | 0x80) as u8, (number >> 7 | 0x80) as u8, (number & 0x7f) as u8].to_vec()
}

const PAGE: usize = 512;

/// Pages 1 (tables), 2 (root of Packages, inner), and for each row a leaf with its overflow pages.
fn sqlite(rows: &[Vec<u8>]) -> Vec<u8> {
    let leaf = |start: usize, cell: &[u8]| {
        let mut page = vec![0; PAGE];
        page[start..start + 8].copy_from_slice(&[0x0d, 0, 0, 0, 1, 0, 0, 0]);
        let at = PAGE - cell.len();
        page[start + 8..start + 10].copy_from_slice(&(at as u16).to_be_bytes());
        page[at..].copy_from_slice(cell);
        page
    };
    let record = |columns: &[(usize, &[u8])]| {
        let types: Vec<u8> = columns.iter().flat_map(|(kind, _)| varint(*kind)).collect();
        let values: Vec<u8> = columns.iter().flat_map(|(_, value)| value.to_vec()).collect();
        [varint(types.len() + 3), types, values].concat()
    };
    let text = |text: &'static str| (13 + 2 * text.len(), text.as_bytes());
    let row = record(&[text("table"), text("Packages"), text("Packages"), (1, &[2]), text("CREATE TABLE ...")]);
    let mut first = leaf(100, &[varint(row.len()), varint(1), row].concat());
    first[..16].copy_from_slice(b"SQLite format 3\0");
    first[16..18].copy_from_slice(&(PAGE as u16).to_be_bytes());
    first[59] = 1;
    let mut pages = vec![first, vec![0; PAGE]];
    let mut leaves = Vec::new();
    for (number, blob) in rows.iter().enumerate() {
        let payload = record(&[(0, &[]), (12 + 2 * blob.len(), blob)]);
        let head = [varint(payload.len()), varint(number + 1)].concat();
        let least = (PAGE - 12) * 32 / 255 - 23;
        let here = least + (payload.len() - least) % (PAGE - 4);
        let here = if here <= PAGE - 35 { here } else { least };
        assert!(payload.len() > PAGE - 35, "rows of this test are long");
        let next = pages.len() as u32 + 2;
        leaves.push(next - 1);
        pages.push(leaf(0, &[&head, &payload[..here], &next.to_be_bytes()].concat()));
        let chunks: Vec<&[u8]> = payload[here..].chunks(PAGE - 4).collect();
        for (index, chunk) in chunks.iter().enumerate() {
            let next = if index + 1 < chunks.len() { pages.len() as u32 + 2 } else { 0 };
            let mut page = [&next.to_be_bytes(), *chunk].concat();
            page.resize(PAGE, 0);
            pages.push(page);
        }
    }
    let (last, others) = leaves.split_last().unwrap();
    let root = &mut pages[1];
    root[..5].copy_from_slice(&[5, 0, 0, 0, others.len() as u8]);
    root[8..12].copy_from_slice(&last.to_be_bytes());
    for (index, page) in others.iter().enumerate() {
        let at = PAGE - 8 * (index + 1);
        root[12 + 2 * index..14 + 2 * index].copy_from_slice(&(at as u16).to_be_bytes());
        root[at..at + 7].copy_from_slice(&[&page.to_be_bytes()[..], &varint(index + 1)].concat());
    }
    pages.concat()
}

fn ndb(blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"RpmP\0\0\0\0\x01\0\0\0\x01\0\0\0\x09\0\0\0".to_vec();
    bytes.resize(4096, 0);
    (2..256).for_each(|slot| bytes[slot * 16..slot * 16 + 4].copy_from_slice(b"Slot"));
    for (index, blob) in blobs.iter().enumerate() {
        let number = index as u32 + 1;
        let first = bytes.len() as u32 / 16;
        let mut block = [*b"BlbS", number.to_le_bytes(), [0; 4], (blob.len() as u32).to_le_bytes()].concat();
        block.extend(blob);
        block.resize((block.len() + 12).next_multiple_of(16) - 12, 0);
        let sum = ndb::adler32(&block);
        block.extend([&sum.to_le_bytes()[..], &(blob.len() as u32).to_le_bytes(), b"BlbE"].concat());
        let slot = [number, first, block.len() as u32 / 16].map(u32::to_le_bytes).concat();
        bytes[(index + 2) * 16 + 4..(index + 3) * 16].copy_from_slice(&slot);
        bytes.extend(block);
    }
    bytes
}

#[test]
fn packages_and_keys_are_read_from_sqlite_and_from_ndb() {
    let blobs = [hello("1"), key(&"A".repeat(500)), hello("2")];
    for (bytes, kind) in [(sqlite(&blobs), "sqlite"), (ndb(&blobs), "ndb")] {
        let database = Database::parse(&bytes, "db").unwrap_or_else(|error| panic!("{kind}: {error}"));
        let names: Vec<String> = database.packages.iter().map(|package| package.id.to_string()).collect();
        assert_eq!(names, ["hello 1-1 noarch", "hello 2-1 noarch"], "{kind}");
        let hello = &database.packages[0];
        assert_eq!((hello.install_time, hello.files.len()), (1_700_000_000, 4));
        assert_eq!(hello.files[2].path, b"etc/hello.conf");
        let expected: Vec<_> = hello.files.iter().map(|file| hello.expected(file)).collect();
        let digest = Expected::Content(DIGEST.parse().unwrap());
        assert_eq!(expected, [Some(digest), Some(Expected::Link(b"hello".to_vec())), None, None], "{kind}");
        assert!(hello.files[3].is_ghost());
        assert_eq!(database.keys[0].name, "gpg-pubkey-0123abcd-5f000000");
        assert_eq!(database.keys[0].owner, "\"A Team <team@example.com> public key\"");
        assert_eq!(database.erased_keys(None), 0, "{kind}");
    }
}

#[test]
fn a_key_that_was_erased_is_seen_while_its_bytes_are_there() {
    let mut page = key(&"B".repeat(200));
    page.resize(PAGE * 2, 0);
    let bytes = [sqlite(&[hello("1")]), page].concat();
    let database = Database::parse(&bytes, "db").unwrap();
    assert_eq!((database.keys.len(), database.erased_keys(None)), (0, 1));
    assert_eq!(database.erased_keys(Some(&database)), 0, "the base has it too");
    let before = Database::parse(&sqlite(&[hello("1"), key(&"B".repeat(500))]), "db").unwrap();
    assert_eq!(database.erased_keys(Some(&before)), 0, "it was a key of the base's");
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let mut berkeley = vec![0; 4096];
    berkeley[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
    let error = Database::parse(&berkeley, "var/lib/rpm/Packages").unwrap_err();
    assert!(error.what().contains("Berkeley DB") && error.hint_text().is_some_and(|hint| hint.contains("RHEL 9")), "{error}");
    let good = sqlite(&[hello("1"), hello("2")]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, reason) in [
        (Vec::new(), "it is empty"),
        (b"hello".to_vec(), "no rpm database of a kind that is known"),
        (good[..good.len() - 1].to_vec(), "no whole number of pages"),
        (with(16, 3), "its pages have"),
        (with(PAGE + 11, 2), "twice"),
        (with(PAGE + 11, 0), "page 0"),
        (with(PAGE + 11, 200), "leads to page 200 and has"),
        (with(PAGE, 0x0a), "which is not a table's"),
        (with(PAGE * 2 - 5, 2), "twice"),
        (sqlite(&[hello("1"), hello("a-b")]), "row 2"),
    ] {
        let error = Database::parse(&bytes, "db").unwrap_err().to_string();
        assert!(error.starts_with("db: ") && error.contains(reason), "{error}, not {reason}");
    }
}

struct Map(Vec<(&'static str, Vec<u8>)>);

impl Files for Map {
    fn read(&self, path: &str) -> Option<&[u8]> {
        self.0.iter().find(|(name, _)| *name == path).map(|(_, bytes)| bytes.as_slice())
    }
    fn names(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

#[test]
fn a_log_with_changes_and_a_second_database_are_errors() {
    let good = sqlite(&[hello("1")]);
    let with = |path, bytes| Map(vec![("var/lib/rpm/rpmdb.sqlite", good.clone()), (path, bytes)]);
    let read = |files: &Map| Database::read(files).map(|found| found.map(|database| database.packages.len()));
    assert_eq!(read(&Map(Vec::new())).unwrap(), None);
    assert_eq!(read(&with("var/lib/rpm/rpmdb.sqlite-wal", Vec::new())).unwrap(), Some(1));
    let error = read(&with("var/lib/rpm/rpmdb.sqlite-wal", b"7\x7f\x06\x82".repeat(9))).unwrap_err();
    assert_eq!(error.what(), "var/lib/rpm/rpmdb.sqlite-wal: 36 bytes of changes are not in the rpm database yet");
    let error = read(&with("usr/lib/sysimage/rpm/rpmdb.sqlite", good.clone())).unwrap_err();
    assert!(error.what().contains("a second rpm database"), "{error}");
}

#[test]
fn damaged_databases_are_refused_or_read_and_nothing_worse() {
    let blobs = [hello("1"), key(&"C".repeat(500)), hello("2")];
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut refused, mut read) = (0, 0);
    for good in [sqlite(&blobs), ndb(&blobs)] {
        for round in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..=round % 4 {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            bytes.truncate(if round % 10 == 0 { random(bytes.len()) } else { bytes.len() });
            match Database::parse(&bytes, "db") {
                Ok(database) => {
                    read += 1;
                    assert!(database.packages.len() <= 3 && database.packages.iter().all(|package| package.files.len() <= 4));
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().len() < 600, "{error}");
                }
            }
        }
    }
    assert!(refused > 1000 && read > 300, "{refused} {read}");
}
