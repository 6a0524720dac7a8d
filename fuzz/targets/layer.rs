//! One layer's tar in an archive that is right about everything else: digests, and the checksums of headers.
#![no_main]

#[path = "../mend.rs"]
mod mend;

use libfuzzer_sys::fuzz_target;
use mend::mend;
use twostage_image::archive::read_archive_within;
use twostage_image::{Base, Limits, Tree, audit, flatten, wanted};
use twostage_model::Sha256;

/// A tar with these files; what they hold may be a tar again.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in files {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        tar.extend(header);
        tar.extend(*content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    mend(&mut tar);
    tar
}

fuzz_target!(|bytes: &[u8]| {
    let mut layer = bytes.to_vec();
    layer.resize(layer.len().next_multiple_of(512) + 1024, 0);
    mend(&mut layer);
    let config =
        format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#, Sha256::of(&layer));
    let manifest = br#"[{"Config":"config.json","RepoTags":[],"Layers":["layer.tar"]}]"#;
    let archive = tar(&[("config.json", config.as_bytes()), ("manifest.json", manifest), ("layer.tar", &layer)]);
    let limits = Limits { layer_bytes: 16 << 20, ..Limits::default() };
    if let Ok(image) = read_archive_within(&archive[..], &wanted, &limits) {
        Tree::new(&image.layers).to_text();
        let _ = flatten::flatten(&image, 0);
        if let Ok(report) = audit(&image, Base::None) {
            report.to_text();
        }
    }
});
