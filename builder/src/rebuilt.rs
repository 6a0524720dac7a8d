//! The version of a rebuilt package: what the build appends to it, and how it sorts.
//!
//! ```text
//! 1-2+bts20260102030405.0a1b2c3d      deb: changelog version, mark, date of the source (UTC), digits of the build's key
//! 1-2cts20260102030405.0a1b2c3d       deb on Ubuntu and what derives from it
//! 1-2aats20260102030405.0a1b2c3d      deb on what else derives from Debian
//! 1-2.ts20260102030405.0a1b2c3d       rpm: the release
//! ```
//!
//! A rebuilt version is above the version that was rebuilt and above the distribution's own binary rebuilds (`1-2+b9`,
//! Ubuntu's `1-2build1`), and below every version that mends something: Debian's `1-2+deb12u1`, `1-2+nmu1`, `1-2.1`,
//! Ubuntu's `1-2ubuntu0.1`, Kali's `1-2kali1`, an rpm's `1-2.1` (deb-version(7), Debian Policy 5.6.12, Debian Developer's
//! Reference 5.10.2.1 and 5.11.2, Ubuntu's security team on version numbers). Else apt would keep the rebuild when the
//! distribution mends a hole, and scanners would call the hole mended.
//!
//! dpkg sorts letters before other characters. So where a distribution mends by a suffix of letters, the mark is one of
//! letters, too, below all such suffixes; on Ubuntu it is above `build`. Where that is not Debian's own way, but Debian's
//! binary rebuilds are taken over, there is no place above `1-2+b9` and below `1-2kali1`: the first is given up.
//!
//! The build's script in the container puts it together, because what the mark and the date depend on is known there.

use crate::record::Record;
use twostage_model::{Format, Sha256};

/// What the script needs to know, as variables of its environment: the marks of the format, and `VERSION_KEY`. Which of the
/// marks it is, the script finds in the base's `os-release`.
pub(crate) fn environment(format: Format, key: &Sha256) -> Vec<(String, String)> {
    let marks = marks(format).iter().map(|(variable, mark)| ((*variable).to_string(), (*mark).to_string()));
    marks.chain([("VERSION_KEY".to_string(), digits(key))]).collect()
}

/// What the date is preceded by. None of them ends in another one.
fn marks(format: Format) -> &'static [(&'static str, &'static str)] {
    match format {
        // "+b9" < "+bts" < "+deb12u1"; "build1" < "cts" < "ubuntu0.1"; "aats" < "astra1", "kali1".
        Format::Deb => &[("VERSION_MARK", "+bts"), ("VERSION_MARK_UBUNTU", "cts"), ("VERSION_MARK_DERIVED", "aats")],
        Format::Rpm => &[("VERSION_MARK", ".ts")],
    }
}

fn digits(key: &Sha256) -> String {
    key.to_string()[..8].to_string()
}

/// The end of a version that a build with this key has appended; nothing where it has appended none.
pub(crate) fn suffix<'a>(format: Format, version: &'a str, key: &Sha256) -> Option<&'a str> {
    let dated = version.strip_suffix(&digits(key))?.strip_suffix('.')?;
    let date = dated.len().checked_sub(14).filter(|start| dated.is_char_boundary(*start))?;
    let (before, date) = dated.split_at(date);
    let mark = marks(format).iter().map(|(_, mark)| mark).find(|mark| before.ends_with(*mark))?;
    (before.len() > mark.len() && date.bytes().all(|b| b.is_ascii_digit())).then(|| &version[before.len() - mark.len()..])
}

/// The date of a source whose tree is of `tree` and whose newest patch is of `patch`, in seconds since 1970; 0 where neither
/// is there, or knows its date. After a build whose patch was newer, it is later than that patch: taking the last patch
/// away is a newer version, too.
pub(crate) fn date(tree: Option<i64>, patch: Option<i64>, before: Option<&Record>) -> i64 {
    let date = tree.into_iter().chain(patch).fold(0, i64::max);
    match before.map_or(0, |record| record.patched) {
        earlier if earlier > patch.unwrap_or(0) => date.max(earlier + 1),
        _ => date,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::compare;
    use std::cmp::Ordering;
    use twostage_model::date;

    /// As the scripts put it together.
    fn rebuilt(version: &str, mark: &str, source_date: i64, key: &Sha256) -> String {
        format!("{version}{mark}{}.{}", date::compact(source_date), digits(key))
    }

    /// Golden: name-version-arch means one content only while this stays as it is.
    #[test]
    fn the_suffix_of_a_rebuilt_version_never_changes() {
        let key = Sha256::of(b"inputs");
        let said = |format| environment(format, &key).iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        assert_eq!(said(Format::Deb), "VERSION_MARK=+bts VERSION_MARK_UBUNTU=cts VERSION_MARK_DERIVED=aats VERSION_KEY=32381523");
        assert_eq!(said(Format::Rpm), "VERSION_MARK=.ts VERSION_KEY=32381523");
    }

    #[test]
    fn a_newer_source_is_a_newer_version() {
        let key = Sha256::of(b"inputs");
        for format in [Format::Deb, Format::Rpm] {
            for (_, mark) in marks(format) {
                let version = |date| rebuilt("1.0-1", mark, date, &key);
                for (a, b) in [("1.0-1".to_string(), version(1)), (version(1), version(2)), (version(2), "1.0-1.1".to_string())] {
                    assert_eq!(compare(format, &a, &b), Ordering::Less, "{format:?}: {a} < {b}");
                }
            }
        }
    }

    /// `(mark, version that is rebuilt, versions below the rebuild, versions above it)`
    const NEIGHBOURS: [(&str, &str, &[&str], &[&str]); 22] = [
        ("+bts", "1-2", &["1-2", "1-2+b9", "1-2~bpo12+1"], &["1-2+deb12u1", "1-2+nmu1", "1-2.1", "1-3", "1.0.1-1"]),
        ("+bts", "1-2+deb12u1", &["1-2", "1-2+deb12u1", "1-2+deb12u1+b1"], &["1-2+deb12u2", "1-2+deb13u1", "1-2.1"]),
        ("+bts", "1-2~deb12u1", &["1-2~deb12u1"], &["1-2~deb12u2", "1-2"]),
        ("+bts", "2:1.5.6+dfsg-3", &["2:1.5.6+dfsg-3+b2"], &["2:1.5.6+dfsg-3+deb12u1", "2:1.5.6+dfsg-3.1"]),
        ("+bts", "20230311", &["20230311", "20230311+b1"], &["20230311+deb12u1", "20230311+nmu1", "20230312"]),
        ("+bts", "1.0", &["1.0", "1.0+b1"], &["1.0+deb12u1", "1.0+nmu1", "1.0.1", "1.1"]),
        // Raspbian, Raspberry Pi OS, Devuan and PureOS mend behind a plus.
        ("+bts", "1-2", &["1-2+b9"], &["1-2+rpi1", "1-2+rpt1", "1-2+devuan1", "1-2+pureos1", "1-2+kali1"]),
        ("+bts", "1-2+rpi1", &["1-2", "1-2+rpi1", "1-2+rpi1+b2"], &["1-2+rpi2", "1-2+rpi1+deb12u1", "1-2+rpt1", "1-2.1", "1-3"]),
        ("+bts", "1-2+rpi1+deb12u3", &["1-2+rpi1+deb12u3"], &["1-2+rpi1+deb12u4", "1-2+rpi2"]),
        ("cts", "1-2", &["1-2", "1-2build1", "1-2build9"], &["1-2ubuntu0.1", "1-2ubuntu1", "1-2ubuntu0.1~esm1", "1-2.1"]),
        ("cts", "1-2ubuntu1", &["1-2ubuntu1", "1-2ubuntu1build2"], &["1-2ubuntu1.1", "1-2ubuntu2", "1-3"]),
        ("cts", "1.0", &["1.0", "1.0build1"], &["1.0ubuntu0.1", "1.0.1", "1.1"]),
        // What derives from Ubuntu.
        ("cts", "1-2ubuntu1", &["1-2ubuntu1build2"], &["1-2ubuntu1pop1", "1-2ubuntu1linuxmint1", "1-2ubuntu1+11.0trisquel1"]),
        ("cts", "1-2", &["1-2build1"], &["1-2elementary1", "1-2neon", "1-2mint1", "1-2zorin1", "1-2ubuntu1pop0~16"]),
        // What else derives from Debian, and has Debian's versions and its own.
        ("aats", "1-2", &["1-2", "1-2~kali1", "1-2~bpo12+1"], &["1-2kali1", "1-2parrot1", "1-2deepin1", "1-2astra1", "1-2pve1"]),
        ("aats", "1-2", &["1-1+b9"], &["1-2+kali1", "1-2+deb12u1", "1-2+nmu1", "1-2.1", "1-2antix1", "1-2siduction1"]),
        ("aats", "1-2kali1", &["1-2", "1-2kali1"], &["1-2kali2", "1-2kali1.1", "1-2kali1kali2", "1-2+kali1", "1-3"]),
        ("aats", "0.1-0kali7", &["0.1-0kali7"], &["0.1-0kali8", "0.1-0kali10", "0.1-1"]),
        ("aats", "1.0", &["1.0"], &["1.0kali1", "1.0+kali1", "1.0.1", "1.1"]),
        (".ts", "1-2", &["1-2"], &["1-2.1", "1-3", "1.0.1-1"]),
        (".ts", "1-2.fc39", &["1-2.fc39"], &["1-2.fc39.1", "1-3.fc39", "1-2.fc40"]),
        (".ts", "1-2.el9_4", &["1-2.el9_4", "1-2.el9_3"], &["1-2.el9_4.1", "1-2.el9_5", "1-3.el9"]),
    ];

    /// dpkg's and rpm's own comparison: whether `a` is below `b`.
    fn real_below(format: Format, a: &str, b: &str) -> bool {
        let mut command = match format {
            Format::Deb => std::process::Command::new("dpkg"),
            Format::Rpm => std::process::Command::new("rpm"),
        };
        match format {
            Format::Deb => command.args(["--compare-versions", a, "lt", b]),
            Format::Rpm => command.args(["--eval", &format!("%{{lua: print(rpm.vercmp(\"{a}\", \"{b}\"))}}")]),
        };
        let output = command.output().expect("dpkg and rpm run: apt-get install dpkg rpm");
        match format {
            Format::Deb => output.status.success(),
            Format::Rpm => String::from_utf8_lossy(&output.stdout).trim() == "-1",
        }
    }

    #[test]
    fn a_rebuilt_version_has_its_place_by_the_words_of_dpkg_and_rpm() {
        let key = Sha256::of(b"inputs");
        let mut pairs = 0;
        for (mark, version, below, above) in NEIGHBOURS {
            let format = if mark == ".ts" { Format::Rpm } else { Format::Deb };
            let ours = rebuilt(version, mark, 1_767_323_045, &key);
            assert_eq!(suffix(format, &ours, &key).map(str::len), Some(ours.len() - version.len()), "{ours}");
            let neighbours = below.iter().map(|other| (*other, ours.as_str())).chain(above.iter().map(|other| (ours.as_str(), *other)));
            for (a, b) in neighbours {
                assert!(real_below(format, a, b), "{format:?}: {a} < {b}");
                assert_eq!(compare(format, a, b), Ordering::Less, "{format:?}: {a} < {b}");
                pairs += 1;
            }
        }
        assert!(pairs >= 110, "{pairs} pairs");
    }

    #[test]
    fn the_suffix_is_found_only_where_the_build_has_appended_it() {
        let key = Sha256::of(b"inputs");
        let own = rebuilt("1.0-1", "+bts", 1_767_323_045, &key);
        assert_eq!(suffix(Format::Deb, &own, &key), Some("+bts20260102030405.32381523"));
        assert_eq!(suffix(Format::Deb, &rebuilt("1.0-1", "cts", 0, &key), &key), Some("cts19700101000000.32381523"));
        assert_eq!(suffix(Format::Deb, &rebuilt("1.0-1a", "aats", 0, &key), &key), Some("aats19700101000000.32381523"));
        assert_eq!(suffix(Format::Rpm, &rebuilt("1.0-1", ".ts", 0, &key), &key), Some(".ts19700101000000.32381523"));
        assert_eq!(suffix(Format::Deb, &own, &Sha256::of(b"others")), None, "another build's");
        for hostile in
            ["", "32381523", ".32381523", "+bts20260102030405.32381523", "1+bts2026010203040x.32381523", "1.0-1+btsé026010203040.32381523"]
        {
            assert_eq!(suffix(Format::Deb, hostile, &key), None, "{hostile}");
        }
    }

    /// The words of `building.sh`, by what a base's os-release says.
    #[test]
    fn the_mark_is_that_of_the_base() {
        let mark = include_str!("../scripts/deb/building.sh");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("os-release");
        let script = format!("set -eu\n{}\nversion_mark\n", mark.replace("/etc/os-release", &file.to_string_lossy()));
        for (os_release, expected) in [
            ("ID=debian\nVERSION_CODENAME=bookworm\n", "+bts"),
            ("ID=raspbian\nID_LIKE=debian\n", "+bts"),
            ("ID=devuan\nID_LIKE=debian\n", "+bts"),
            ("ID=pureos\nID_LIKE=debian\n", "+bts"),
            ("ID=ubuntu\nID_LIKE=debian\n", "cts"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "cts"),
            ("ID=kali\nID_LIKE=debian\n", "aats"),
            ("ID=parrot\nID_LIKE=debian\n", "aats"),
            ("ID=deepin\n", "aats"),
            ("NAME=x\n", "aats"),
        ] {
            std::fs::write(&file, os_release).expect("written");
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &script]);
            for (variable, mark) in marks(Format::Deb) {
                command.env(variable, mark);
            }
            let output = command.output().expect("sh runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{expected}\n"), "{os_release}: {output:?}");
        }
    }

    #[test]
    fn taking_the_last_patch_away_is_a_newer_version() {
        let record =
            |patched| Record { packages: Vec::new(), sources: Vec::new(), content: Default::default(), patched, places: Vec::new() };
        assert_eq!(date(Some(100), None, None), 100);
        assert_eq!(date(Some(100), Some(500), Some(&record(0))), 500);
        assert_eq!(date(Some(100), None, Some(&record(500))), 501, "the patch is gone");
        assert_eq!(date(Some(900), None, Some(&record(500))), 900, "the tree is newer");
        assert_eq!(date(None, Some(400), Some(&record(500))), 501, "the newer of two patches is gone");
        assert_eq!(date(None, None, None), 0, "the changelog says it");
    }
}
