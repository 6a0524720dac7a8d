//! A deb.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twostage_package::{content, deb};

fuzz_target!(|bytes: &[u8]| {
    let _ = deb::read(bytes, "it");
    let _ = deb::md5sums(bytes, "it");
    let _ = content::content_digest(bytes, "+bts20260102030405.0a1b2c3d");
});
