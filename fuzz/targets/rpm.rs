//! An rpm.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twostage_package::rpm;

fuzz_target!(|bytes: &[u8]| {
    let _ = rpm::content_digest(bytes, ".ts20260102030405.0a1b2c3d");
    if let Ok(read) = rpm::read(bytes, "it") {
        rpm::files(&read.header);
        rpm::changelog(&read.header);
        for kind in rpm::Kind::ALL {
            rpm::dependencies(&read.header, kind);
        }
    }
});
