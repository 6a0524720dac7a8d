//! An image's archive as it streams by, audited.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twostage_image::archive::read_archive_within;
use twostage_image::{Base, Limits, Tree, audit, wanted};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { layer_bytes: 16 << 20, ..Limits::default() };
    if let Ok(image) = read_archive_within(bytes, &wanted, &limits) {
        Tree::new(&image.layers).to_text();
        if let Ok(report) = audit(&image, Base::None) {
            report.to_text();
        }
    }
});
