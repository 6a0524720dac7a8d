//! Packages built in code for the tests of this crate, and seeded randomness.

use crate::archive::Kind;
use crate::write::{Tar, TarEntry, ar};
use std::io::Write;
use std::path::PathBuf;

pub(crate) const CONTROL: &str = "Package: app-config\nSource: app (1.0)\nVersion: 1.0-1\nArchitecture: all\n\
    Maintainer: A B <a@b>\nInstalled-Size: 12\nDepends: libc6 (>= 2.36), a | b:any\nDescription: files of app\n and\n .\n  more\n";

/// Counts a test that cannot be run here. In CI `make test` fails then.
pub(crate) fn skipped(why: &str) {
    println!("skipped: {why}");
    if let Some(path) = std::env::var_os("TWOSTAGE_TEST_COUNTS") {
        let counted = std::fs::File::options().append(true).create(true).open(path).and_then(|mut file| file.write_all(b"skipped\n"));
        assert!(counted.is_ok(), "the counts can be written");
    }
}

/// Marsaglia's xorshift64: the same numbers in every run.
pub(crate) struct XorShift(u64);

impl XorShift {
    pub(crate) fn new(seed: u64) -> Self {
        XorShift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pack {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Pack {
    pub(crate) const ALL: [Pack; 4] = [Pack::None, Pack::Gzip, Pack::Xz, Pack::Zstd];

    pub(crate) fn ending(self) -> &'static str {
        match self {
            Pack::None => "",
            Pack::Gzip => ".gz",
            Pack::Xz => ".xz",
            Pack::Zstd => ".zst",
        }
    }

    pub(crate) fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Pack::None => bytes.to_vec(),
            Pack::Gzip => gzip(bytes),
            Pack::Xz => xz(bytes, 1 << 16),
            Pack::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("encoder");
                encoder.include_checksum(true).expect("checksum");
                encoder.write_all(bytes).expect("zstd");
                encoder.finish().expect("zstd")
            }
        }
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

/// A stream whose block claims to need a dictionary of this many bytes, a power of two or that and a half.
pub(crate) fn xz(bytes: &[u8], dictionary: u32) -> Vec<u8> {
    let mut options = liblzma::stream::LzmaOptions::new_preset(1).expect("xz");
    options.dict_size(1 << 16);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64).expect("xz");
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).expect("xz");
    let mut packed = encoder.finish().expect("xz");
    if bytes.is_empty() {
        return packed;
    }
    // The block's header behind that of the stream: its size by 4, less 4; flags; filter, bytes of its property, that; sum.
    let (start, length) = (12, (usize::from(packed[12]) + 1) * 4);
    assert_eq!(packed[start + 1..start + 4], [0, 0x21, 1]);
    let size = |property: u8| u64::from(2 | property & 1) << (property / 2 + 11);
    packed[start + 4] = (0..40).find(|property| size(*property) == u64::from(dictionary)).expect("a size that xz has");
    let mut sum = flate2::Crc::new();
    sum.update(&packed[start..start + length - 4]);
    packed[start + length - 4..start + length].copy_from_slice(&sum.sum().to_le_bytes());
    packed
}

pub(crate) fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    encoder.write_all(bytes).expect("bzip2");
    encoder.finish().expect("bzip2")
}

pub(crate) fn lzma(bytes: &[u8]) -> Vec<u8> {
    let options = liblzma::stream::LzmaOptions::new_preset(1).expect("lzma");
    let stream = liblzma::stream::Stream::new_lzma_encoder(&options).expect("lzma");
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).expect("lzma");
    encoder.finish().expect("lzma")
}

/// A file of a [`Made`] package.
#[derive(Clone)]
pub(crate) struct MadeFile {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) link: String,
    pub(crate) content: Vec<u8>,
}

/// A package with every kind of entry, to be changed and packed.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) control: String,
    pub(crate) scripts: Vec<(&'static str, String)>,
    pub(crate) data: Vec<MadeFile>,
}

impl Made {
    pub(crate) fn sample() -> Made {
        let file = |path: &str, kind, link: &str, content: &[u8]| MadeFile {
            path: path.into(),
            kind,
            link: link.into(),
            content: content.to_vec(),
        };
        let mut random = XorShift::new(3);
        let noise: Vec<u8> = (0..5000).map(|_| random.next() as u8).collect();
        let long = "n".repeat(150);
        Made {
            control: CONTROL.into(),
            scripts: vec![("postinst", "#!/bin/sh\nexit 0\n".into())],
            data: vec![
                file("./usr/", Kind::Dir, "", b""),
                file("./usr/app", Kind::File, "", &noise),
                file("./usr/again", Kind::Hardlink, "./usr/app", b""),
                file("./usr/link", Kind::Symlink, "/etc/../app", b""),
                file(&format!("./usr/{long}"), Kind::Symlink, &long, b""),
                file("./usr/zeros", Kind::File, "", &[0; 3000]),
            ],
        }
    }

    /// The other order of its data; a hardlink still follows what it leads to.
    pub(crate) fn turn_data(&mut self) {
        self.data.reverse();
        self.data.sort_by_key(|file| file.kind == Kind::Hardlink);
    }

    pub(crate) fn control_tar(&self) -> Vec<u8> {
        let mut tar = Tar::new(1);
        let control = [("control", self.control.clone())];
        for (name, text) in control.iter().chain(&self.scripts) {
            tar.add(&TarEntry { path: &format!("./{name}"), kind: Kind::File, mode: 0o755, link: "", content: text.as_bytes() });
        }
        tar.finish()
    }

    pub(crate) fn data_tar(&self) -> Vec<u8> {
        let mut tar = Tar::new(2);
        for file in &self.data {
            tar.add(&TarEntry { path: &file.path, kind: file.kind, mode: 0o644, link: &file.link, content: &file.content });
        }
        tar.finish()
    }

    pub(crate) fn pack(&self, pack: Pack) -> Vec<u8> {
        deb(&[
            (&format!("control.tar{}", pack.ending()), &pack.compress(&self.control_tar())),
            (&format!("data.tar{}", pack.ending()), &pack.compress(&self.data_tar())),
        ])
    }
}

/// A deb of these members behind `debian-binary`.
pub(crate) fn deb(members: &[(&str, &[u8])]) -> Vec<u8> {
    let all: Vec<(&str, &[u8])> = std::iter::once(("debian-binary", b"2.0\n".as_slice())).chain(members.iter().copied()).collect();
    ar(&all, 1_767_322_985).expect("ar")
}

/// A folder that goes when it is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> std::io::Result<Folder> {
        let path = std::env::temp_dir().join(format!("twostage-package-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file in the temporary folder");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
