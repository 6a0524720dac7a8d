//! One layer in a layout that is right about everything else, read, audited, flattened and written. The first byte says how
//! the layer is packed.
#![no_main]

#[path = "../mend.rs"]
mod mend;

use libfuzzer_sys::fuzz_target;
use mend::mend;
use std::io::Read as _;
use std::path::Path;
use twostage_image::{Base, Compression, Image, Limits, NewImage, Store, Tree, audit, flatten, wanted};
use twostage_model::{Result, Sha256};

const LAYER_BYTES: u64 = 16 << 20;

/// The layer's blob, and the digest of its tar.
fn layer(how: u8, bytes: &[u8]) -> (Vec<u8>, Sha256) {
    if how % 4 == 3 {
        // Packed already, in whatever way; what cannot be unpacked has no digest that is right.
        let mut tar = Vec::new();
        let _ = flate2::bufread::MultiGzDecoder::new(bytes).take(LAYER_BYTES).read_to_end(&mut tar);
        if tar.is_empty()
            && let Ok(decoder) = zstd::Decoder::new(bytes)
        {
            let _ = decoder.take(LAYER_BYTES).read_to_end(&mut tar);
        }
        return (bytes.to_vec(), Sha256::of(&tar));
    }
    let mut tar = bytes.to_vec();
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    mend(&mut tar);
    let digest = Sha256::of(&tar);
    let blob = match how % 4 {
        0 => tar,
        1 => {
            let mut gzip = Vec::new();
            flate2::read::GzEncoder::new(&tar[..], flate2::Compression::fast()).read_to_end(&mut gzip).expect("gzip");
            gzip
        }
        _ => zstd::encode_all(&tar[..], 1).expect("zstd"),
    };
    (blob, digest)
}

/// Writes a blob, and gives its descriptor.
fn blob(folder: &Path, bytes: &[u8]) -> String {
    let digest = Sha256::of(bytes);
    std::fs::write(folder.join("blobs/sha256").join(digest.to_string()), bytes).expect("a blob");
    format!(r#"{{"digest":"sha256:{digest}","size":{}}}"#, bytes.len())
}

fn look(how: u8, bytes: &[u8]) -> Result<()> {
    // (In memory, where there is such a place.)
    let shared = Path::new("/dev/shm");
    let place = if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(place).expect("a folder");
    let layout = folder.path().join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).expect("the folders");
    let (packed, diff_id) = layer(how, bytes);
    let config = format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#);
    let (config, packed) = (blob(&layout, config.as_bytes()), blob(&layout, &packed));
    let manifest = blob(&layout, format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{packed}]}}"#).as_bytes());
    std::fs::write(layout.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#)).expect("the index");

    let store = Store::open_within(&layout, None, Limits { layer_bytes: LAYER_BYTES, ..Limits::default() })?;
    let image = store.read(&wanted)?;
    if let Ok(report) = audit(&image, Base::None) {
        report.to_text();
    }
    let flat = flatten::flatten(&image, 0)?;
    let config = |diff_id| flat.config(diff_id);
    let (delta, compression) = (flat.delta.as_ref(), [Compression::None, Compression::Gzip, Compression::Zstd][usize::from(how / 4 % 3)]);
    let out = folder.path().join("flat");
    NewImage { store: &store, kept: 0, delta, compression, name: None, config: &config }.write_layout(&out)?;
    // What we wrote, we read: the same tree.
    let again = Store::open(&out, None).and_then(|store| store.read(&wanted)).expect("what was written");
    let text = |image: &Image| Tree::new(&image.layers).to_text().replace("/: dir, stated by no layer", "/: dir 0755 0:0");
    assert_eq!(text(&again), text(&image), "another tree was written");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 2, "something else was written");
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((how, bytes)) = bytes.split_first() {
        let _ = look(*how, bytes);
    }
});
