//! Payloads that are not what their header lists; each is also refused when its content is compared.

use super::*;
use std::io::Write as _;

/// A package of this kind, and why it is refused.
fn refused(made: &Made, payload: &[u8]) -> String {
    let why = match read(made.rpm(payload).as_slice(), "app.rpm") {
        Ok(rpm) => format!("app.rpm is taken as {}", rpm.id),
        Err(error) => error.what().to_string(),
    };
    why.strip_prefix("app.rpm is refused: its payload: ").unwrap_or(&why).to_string()
}

#[test]
fn a_payload_that_is_not_the_headers_is_refused() {
    let made = Made::sample();
    let (a, b) = (("./usr/a", b"one".as_slice()), ("./usr/b", b"four".as_slice()));
    for (payload, wanted) in [
        (cpio_of(&[a, b, ("./etc/shadow", b"x")]), r#""./etc/shadow" is not among the files of its header"#),
        (cpio_of(&[a, b, ("../usr/a", b"x")]), r#""../usr/a" is not among the files of its header"#),
        (cpio_of(&[a, b, ("./usr/../usr/a", b"x")]), r#""./usr/../usr/a" is not among the files of its header"#),
        (cpio_of(&[a, ("/usr/a", b"one"), b]), r#""/usr/a" is there twice"#),
        (cpio_of(&[a]), r#""/usr/b" is not in it"#),
        (cpio_of(&[a, ("./usr/b", b"five")]), r#""./usr/b" has other bytes than by its digest in the header"#),
        (cpio_of(&[a, ("./usr/b", b"fours")]), r#""./usr/b" has 5 bytes where the header says 4"#),
        (cpio_of(&[a, b])[..246].to_vec(), r#""./usr/b" is cut off"#),
        (cpio_of(&[a, b])[..260].to_vec(), "it ends before its trailer"),
        ([cpio_of(&[a, b]), b"x".to_vec()].concat(), "more bytes follow its trailer"),
        (b"070707".repeat(30), r#""070707" is where a file begins, and not the magic of cpio"#),
        (b"07070X000000ff\0\0".to_vec(), "file 255 is not among the files of its header"),
        (b"07070X0000zzzz\0\0".to_vec(), r#""0000zzzz" is where a number belongs"#),
        (b"070701".iter().copied().chain([b'f'; 104]).collect(), "a name in it has 4294967295 bytes"),
        (b"rubbish".repeat(30), r#""rubbis" is where a file begins, and not the magic of cpio"#),
        (Vec::new(), "it ends before its trailer"),
    ] {
        assert_eq!(refused(&made, &payload), wanted);
        if !wanted.contains("digest") {
            assert!(content_digest(made.rpm(&payload).as_slice(), "").is_err(), "{wanted}");
        }
    }
    for files in [vec![a, b], vec![b, a]] {
        assert!(read(made.rpm(&cpio_of(&files)).as_slice(), "app.rpm").is_ok(), "files may be in any order");
    }
}

#[test]
fn types_targets_and_ghosts_are_the_headers() {
    let link = Made::sample().numbers(tag::FILEMODES, &[0o100_644, 0o120_777]).texts(tag::FILELINKTOS, &[b"", b"a"]);
    let mut payload = cpio_of(&[("./usr/a", b"one"), ("./usr/b", b"a")]);
    assert_eq!(refused(&link, &payload), r#""./usr/b" is of type 100000 where the header says 120000"#);
    let second = payload.windows(6).rposition(|magic| magic == b"070701").map(|trailer| &payload[..trailer]);
    let second = second.and_then(|files| files.windows(6).rposition(|magic| magic == b"070701")).expect("a second file");
    payload[second + 14..second + 22].copy_from_slice(b"0000a1ff");
    assert!(read(link.rpm(&payload).as_slice(), "app.rpm").is_ok());
    assert_eq!(
        refused(&link.clone().texts(tag::FILELINKTOS, &[b"", b"c"]), &payload),
        r#""./usr/b" leads to "a" and not where the header says"#
    );

    let ghost = Made::sample().numbers(tag::FILEFLAGS, &[0, FILE_GHOST]);
    assert!(read(ghost.rpm(&cpio_of(&[("./usr/a", b"one")])).as_slice(), "app.rpm").is_ok(), "a ghost is not in the payload");

    let pair = Made::sample().numbers(tag::FILEDEVICES, &[1, 1]).numbers(tag::FILEINODES, &[7, 7]).numbers(tag::FILESIZES, &[4, 4]);
    assert!(
        read(pair.rpm(&cpio_of(&[("./usr/a", b""), ("./usr/b", b"four")])).as_slice(), "app.rpm").is_ok(),
        "the last hardlink brings the bytes"
    );
    assert_eq!(refused(&pair, &cpio_of(&[("./usr/a", b"four"), ("./usr/b", b"four")])), r#""./usr/a" has 4 bytes where the header says 0"#);
}

/// What is in no digest of the header could be exchanged under the eyes of a client that knows the header.
#[test]
fn the_header_has_a_digest_of_every_byte() {
    let without = Made::sample().without(tag::FILEDIGESTS);
    assert_eq!(refused(&without, &payload()), r#""./usr/a" has no digest in the header, nor has the payload"#);
    let whole = hex(&sha2::Sha256::digest(payload()));
    assert!(read(without.texts(tag::PAYLOADDIGEST, &[whole.as_bytes()]).rpm(&payload()).as_slice(), "app.rpm").is_ok());
    let unknown = Made::sample().numbers(tag::FILEDIGESTALGO, &[99]);
    assert_eq!(refused(&unknown, &payload()), r#""./usr/a" has a digest by algorithm 99, which is not known"#);
    let twice = Made::sample().texts(tag::BASENAMES, &[b"a", b"a"]);
    assert_eq!(refused(&twice, &payload()), r#"the header has "/usr/a" twice"#);
}

/// Each way to pack: whole it is taken; cut off, damaged or with more behind it, it is refused.
#[test]
fn a_packed_payload_ends_where_its_compression_ends() {
    let plain = payload();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).expect("bzip2");
    for (name, packed) in [
        ("gzip", Pack::Gzip.compress(&plain)),
        ("xz", Pack::Xz.compress(&plain)),
        ("zstd", Pack::Zstd.compress(&plain)),
        ("bzip2", bzip2.finish().expect("bzip2")),
        ("lzma", crate::testing::lzma(&plain)),
    ] {
        let made = Made::sample().text(tag::PAYLOADCOMPRESSOR, name);
        read(made.rpm(&packed).as_slice(), name).expect("it is whole");
        let mut flipped = packed.clone();
        flipped[packed.len() / 2] ^= 4;
        // What is said to be gzip and is not packed at all is fine with rpm, and so with us.
        let other = if name == "gzip" { Pack::Xz.compress(&plain) } else { plain.clone() };
        let longer = [&packed, b"x".as_slice()].concat();
        for wrong in [&packed[..packed.len() - 6], &packed[..packed.len() / 2], &flipped, &other, b"", &longer] {
            let why = refused(&made, wrong);
            assert!(why.len() > 10 && !why.starts_with("app.rpm"), "{name}, {} bytes: {why}", wrong.len());
        }
    }
    assert_eq!(refused(&Made::sample().text(tag::PAYLOADCOMPRESSOR, "rar"), &plain), r#"it is packed by "rar", which is not known"#);
}
