//! Packages that are not what they claim.

use super::*;

fn reason(bytes: &[u8]) -> String {
    match read(bytes, "app.rpm") {
        Ok(rpm) => format!("taken as {}", rpm.id),
        Err(error) => error.what().to_string(),
    }
}

#[test]
fn a_hostile_header_is_refused_with_its_reason() {
    let sample = Made::sample;
    let overlap = || {
        let mut packed = sample().text(tag::NAME, "app").pack();
        // The second entry begins where the first does.
        packed[8 + 16 + 8..8 + 16 + 12].copy_from_slice(&0_u32.to_be_bytes());
        packed
    };
    let whole = |made: Made| {
        let covered = (made.values.len() as u32 + 1).wrapping_mul(16).wrapping_neg();
        let trailer: Vec<u8> = [63, BIN, covered, 16].iter().flat_map(|number: &u32| number.to_be_bytes()).collect();
        made.raw(63, BIN, 16, &trailer)
    };
    let many = |name: u32| sample().raw(name, STRINGS, 1 << 30, b"a\0");
    let far = vec![b"/usr/../etc/".as_slice()];
    for (made, wanted) in [
        (sample().without(tag::NAME), "no tag NAME"),
        (sample().without(tag::ARCH), "no tag ARCH"),
        (sample().text(tag::NAME, "../x"), "package name"),
        (sample().text(tag::NAME, "-rf;ls"), "package name"),
        (sample().text(tag::VERSION, "1:2"), "a colon or a dash"),
        (sample().text(tag::RELEASE, "1-2"), "a colon or a dash"),
        (sample().raw(tag::NAME, STRING, 1, b"\xffx\0"), "not UTF-8"),
        (sample().raw(tag::NAME, STRING, 2, b"a\0b\0"), "one string and has 2"),
        (sample().raw(tag::NAME, 4, 1, &[0; 4]), "another type"),
        (sample().raw(tag::PROVIDENAME, BIN, 4, &[0; 4]), "another type"),
        (sample().raw(tag::URL, 12, 1, b"x"), "type is 12"),
        (sample().raw(tag::URL, STRING, 1, b"no end"), "does not end inside"),
        (sample().raw(tag::URL, BIN, 0, b""), "it has 0 values"),
        (sample().raw(tag::URL, 5, u32::MAX, &[0; 8]), "values"),
        (sample().raw(63, STRINGS, 1, b"\0"), "not the end of a region"),
        (sample().raw(63, BIN, 16, &[0; 16]), "does not cover all"),
        (whole(sample().raw(tag::BUILDTIME, 3, 1, &[0; 2])), "tag 1006: its type is 3"),
        (whole(sample().raw(tag::URL, BIN, 1, b"x")), "tag 1020: its type is 7"),
        (whole(sample().texts(tag::URL, &[b"a text of another kind"])), "payload"),
        (sample().text(99, "x"), "tag 99 cannot be one"),
        (sample().text(1 << 31, "x"), "tag 2147483648 cannot be one"),
        (sample().raw(tag::URL, STRING, 1, b"x\0y\0"), "behind its last value there are 2 bytes"),
        (sample().raw(tag::URL, STRING, 1, b"x\0y\0").text(tag::VENDOR, "z"), "tag 1011: its value begins at"),
        (many(tag::PROVIDENAME), "values"),
        (sample().texts(tag::FILEUSERNAME, &[b"root"]), "tag 1039 has 1 values where tag 1117 has 2"),
        (sample().without(tag::FILEMODES), "tag 1030 has 0 values"),
        (sample().texts(tag::FILELINKTOS, &[b"x"]), "tag 1036 has 1 values"),
        (sample().numbers(tag::DIRINDEXES, &[0, 1]), "in no folder"),
        (sample().numbers(tag::DIRINDEXES, &[0, u32::MAX]), "in no folder"),
        (sample().texts(tag::DIRNAMES, &[b"/a/", b"/b/", b"/c/"]), "3 folders for 2 files"),
        (sample().texts(tag::DIRNAMES, &far), "not absolute"),
        (sample().texts(tag::DIRNAMES, &[b"usr/"]), "not absolute"),
        (sample().texts(tag::BASENAMES, &[b"..", b"b"]), "not absolute"),
        (sample().texts(tag::BASENAMES, &[b"x/y", b"b"]), "not absolute"),
        (sample().texts(tag::DIRNAMES, &[&[b"/".as_slice(), &[b'x'; 5000], b"/"].concat()]), "longer than"),
        (sample().without(tag::SOURCERPM), "not a plain name"),
        (sample().texts(tag::OLDFILENAMES, &[b"/a", b"/b"]), "twice"),
        (sample().texts(tag::CHANGELOGNAME, &[b"x"]), "tag 1080 has 0 values"),
        (sample().texts(tag::CHANGELOGNAME, &[&[b'x'; (1 << 20) + 1]]), "tag 1081 has a string of 1048577 bytes, and 1048576 are allowed"),
        (sample().text(tag::PAYLOADDIGEST, "00"), "digest of its payload is not the one"),
        (sample().text(tag::PAYLOADDIGEST, "00").numbers(tag::PAYLOADDIGESTALGO, &[99]), "algorithm 99"),
    ] {
        let said = reason(&made.rpm(b"payload"));
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    for (signature, wanted) in [
        (Made::default().raw(sig::MD5, BIN, 15, &[0; 15]), "tag 1004 has 15 values of type 7"),
        (Made::default().raw(sig::SIZE, 5, 1, &[0; 8]), "tag 1000 has 1 values of type 5"),
        (Made::default().text(274, "x"), "tag 274 has 1 values of type 6"),
    ] {
        let said = reason(&sample().signed(&signature, &payload()));
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let mut lead = sample().rpm(&payload());
    lead[LEAD - 17] = 1;
    assert!(reason(&lead).contains("a signature of type 1"), "{}", reason(&lead));
    let [magic, first] = [sample().rpm(b""), header::MAGIC.to_vec()];
    let at = magic.len() - sample().pack().len();
    assert_eq!(&magic[at - 8..at], first);
    let said = reason(&[&magic[..at], &overlap()].concat());
    assert!(said.contains("inside the one before it"), "{said}");
    assert_eq!(reason(&sample().rpm(&payload())), "taken as app 1.0-1 noarch");
}

#[test]
fn sizes_that_promise_too_much_cost_nothing() {
    let good = Made::sample().rpm(b"");
    for (at, number, wanted) in [
        (LEAD + 8, u32::MAX, "entries"),
        (LEAD + 8, 0xffff, "cut off"),
        (LEAD + 12, u32::MAX, "16 MiB"),
        (LEAD + 12, 15 << 20, "cut off"),
        (LEAD + 16 + 8, 0x1_0000, "entries"),
        (LEAD + 16 + 12, u32::MAX, "64 MiB"),
        (LEAD + 16 + 12, 63 << 20, "cut off"),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        let said = reason(&bytes);
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn paths_that_repeat_a_long_folder_are_bounded() {
    let count = 40_000;
    let names: Vec<&[u8]> = vec![b"".as_slice(); count];
    let folder = [b"/".as_slice(), &[b'x'; 4000], b"/"].concat();
    let mut made = Made::sample().texts(tag::BASENAMES, &names).texts(tag::DIRNAMES, &[&folder]);
    for tag in [tag::FILESIZES, tag::FILEMODES, tag::FILEMTIMES, tag::FILEFLAGS, tag::DIRINDEXES] {
        made = made.numbers(tag, &vec![0; count]);
    }
    made = made.texts(tag::FILEUSERNAME, &names).texts(tag::FILEGROUPNAME, &names).texts(tag::FILEDIGESTS, &names);
    let said = reason(&made.rpm(b""));
    assert!(said.contains("128 MiB"), "{said}");
}

#[test]
fn every_digest_and_size_is_compared() {
    let (made, payload) = (Made::sample(), payload());
    let whole = [&header::MAGIC, made.pack().as_slice(), &payload].concat();
    let blob = &whole[..whole.len() - payload.len()];
    let sha1 = hex(&sha1::Sha1::digest(blob));
    let good = Made::default()
        .numbers(sig::SIZE, &[whole.len() as u32])
        .text(sig::SHA1, &sha1)
        .text(sig::SHA256, &Sha256::of(blob).to_string())
        .raw(sig::MD5, BIN, 16, &Md5::digest(&whole));
    assert!(reason(&made.signed(&good, &payload)).starts_with("taken"));
    for (tag, wanted) in [(sig::SIZE, "bytes where"), (sig::SHA1, "SHA-1"), (sig::SHA256, "SHA-256"), (sig::MD5, "MD5")] {
        let mut bad = good.clone();
        bad.values.iter_mut().filter(|value| value.0 == tag).for_each(|value| value.3[3] ^= 1);
        let said = reason(&made.signed(&bad, &payload));
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    for (digest, number) in
        [(hex(&Md5::digest(&payload)), 1), (hex(&sha2::Sha256::digest(&payload)), 8), (hex(&sha2::Sha512::digest(&payload)), 10)]
    {
        let made = Made::sample().texts(tag::PAYLOADDIGEST, &[digest.as_bytes()]).numbers(tag::PAYLOADDIGESTALGO, &[number]);
        assert!(reason(&made.rpm(&payload)).starts_with("taken"));
        assert!(reason(&made.rpm(&[&payload, b"\0".as_slice()].concat())).contains("digest of its payload"));
    }
}

#[test]
fn a_flipped_byte_of_header_or_payload_is_always_noticed() -> Result<()> {
    let bytes = built(CompressionType::Zstd);
    let start = read(bytes.as_slice(), "odd.rpm")?.prefix as usize;
    for at in (start..bytes.len()).step_by(7) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        assert!(read(bad.as_slice(), "odd.rpm").is_err(), "byte {at}");
    }
    Ok(())
}

/// Flips and cuts; digests are taken out, so that the parts behind them are reached too.
#[test]
fn thousands_of_mutations_neither_panic_nor_hang() {
    let payload = payload();
    let packages = [
        Made::sample().rpm(&payload),
        Made::sample().text(tag::PAYLOADCOMPRESSOR, "xz").rpm(&Pack::Xz.compress(&payload)),
        Made::sample().text(tag::PAYLOADCOMPRESSOR, "zstd").rpm(&Pack::Zstd.compress(&payload)),
        built(CompressionType::Gzip),
        built(CompressionType::None),
    ];
    let mut random = XorShift::new(11);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..4000 {
        let mut bytes = packages[round % packages.len()].clone();
        // Most of what decides is in front.
        let end = if random.below(4) == 0 { bytes.len() } else { bytes.len().min(3000) };
        match random.below(5) {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => {
                let at = random.below(end - 4);
                let number = *random.pick(&[0_u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0x00ff_ffff]);
                bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            _ => (0..=random.below(4)).for_each(|_| {
                let at = random.below(end);
                bytes[at] = random.next() as u8;
            }),
        }
        if let Ok(rpm) = read(bytes.as_slice(), "mutated") {
            taken += 1;
            Kind::ALL.iter().for_each(|kind| drop(dependencies(&rpm.header, *kind)));
            assert!(files(&rpm.header).iter().all(|file| file.path.starts_with(b"/") || rpm.is_source));
            changelog(&rpm.header);
        } else {
            refused += 1;
        }
        drop(content_digest(bytes.as_slice(), "ts"));
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 100 && refused > 1000, "{taken} taken, {refused} refused");
}

#[test]
fn an_input_that_fails_is_no_bad_package() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is gone"))
        }
    }
    for error in [read(Broken, "x").map(|_| ()).unwrap_err(), content_digest(Broken, "").map(|_| ()).unwrap_err()] {
        assert_eq!(error.class(), twostage_model::Class::System);
    }
    let bytes = built(CompressionType::Gzip);
    let half = bytes.len() - 100;
    for error in [
        read(bytes[..half].chain(Broken), "x").map(|_| ()).unwrap_err(),
        content_digest(bytes[..half].chain(Broken), "").map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.class(), twostage_model::Class::System, "{error}");
    }
}
