//! `Packages` against apt-ftparchive, on the distribution's own packages.

use crate::apt::{Apt, Shop};
use crate::support::{Serving, Used, root, run, skipped, tool, uses};
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

const PACKAGES: usize = 330;

/// Real packages, most of them packed with xz as Debian does, some with gzip, zstd and nothing, in
/// one call of `publish`. The judge names the fields: `tests/tools/compare_packages.py`.
#[test]
fn packages_says_of_real_packages_what_apt_ftparchive_says() {
    uses(Used::Apt);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("real-packages");
    let tools = root().join("tests/tools");
    let [real, compare] = ["real_packages.py", "compare_packages.py"].map(|name| tools.join(name).display().to_string());
    let chosen = tool("python3", &[&real, &folder.to_string_lossy(), &PACKAGES.to_string()]);
    if chosen.status == 77 {
        return skipped(&format!("the distribution's mirror cannot be reached: {}", chosen.err));
    }
    let chosen = chosen.ok();

    let shop = Shop::new("oracle");
    let debs = folder.join("debs");
    let mut files: Vec<PathBuf> = fs::read_dir(&debs).expect("the packages").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let started = Instant::now();
    run(shop.command(&["publish"]).args(&files)).ok();
    let first = started.elapsed();
    let started = Instant::now();
    run(shop.command(&["publish"]).args(&files)).ok();
    let again = started.elapsed();

    let serving = Serving::of(shop.path());
    let index = "/main/dists/twostage/main/binary-amd64/Packages";
    let plain = serving.get(index);
    let ours = shop.path().join("Packages");
    fs::write(&ours, &plain).expect("a file");
    let judged = tool("python3", &[&compare, &ours.to_string_lossy(), &debs.to_string_lossy()]).ok();
    let judged: serde_json::Value = serde_json::from_str(&judged.out).expect("JSON");
    assert_eq!(judged["stanzas"], PACKAGES);

    // Real apt reads them, from each of the packed forms, to the same text.
    for form in ["zst", "gz"] {
        let packed = shop.path().join(form);
        fs::write(&packed, serving.get(&format!("{index}.{form}"))).expect("a file");
        let digest = tool("sha256sum", &[&packed.to_string_lossy()]).ok().out;
        let apt = Apt::new(&serving.address, &["amd64".into()]);
        apt.run("apt-get", &["-o", &format!("Acquire::CompressionTypes::Order::={form}"), "update"]).ok();
        let by_hash = format!("/by-hash/SHA256/{}", &digest[..64]);
        assert!(serving.fetched().iter().any(|target| target.ends_with(&by_hash)), "apt has not asked for {form}");
        let lists = fs::read_dir(apt.path("lists")).expect("a folder").map(|entry| entry.expect("an entry").path());
        let list = lists.into_iter().find(|path| path.to_string_lossy().ends_with("_Packages")).expect("a list");
        assert_eq!(fs::read(list).expect("a list"), plain, "{form}");
        let known = apt.run("apt-cache", &["dumpavail"]).ok().out;
        assert_eq!(known.lines().filter(|line| line.starts_with("Package: ")).count(), PACKAGES, "what apt knows, from {form}");
    }
    eprintln!(
        "{}\n{} stanzas, {} fields of {} names are apt-ftparchive's; published in {:.1} s, again in {:.1} s",
        chosen.out.trim(),
        judged["stanzas"],
        judged["fields"],
        judged["names"].as_object().map_or(0, serde_json::Map::len),
        first.as_secs_f64(),
        again.as_secs_f64()
    );
}
