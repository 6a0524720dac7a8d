//! rpm's database.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twostage_package::rpmdb::Database;

fuzz_target!(|bytes: &[u8]| {
    for name in ["rpmdb.sqlite", "Packages.db", "Packages"] {
        let _ = Database::parse(bytes, &format!("usr/lib/sysimage/rpm/{name}"));
    }
});
