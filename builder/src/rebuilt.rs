//! The version of a rebuilt package: what the build appends to it, and how it sorts.
//!
//! ```text
//! 1-2+bts20260102030405.0a1b2c3d      deb: changelog version, mark, date of the source (UTC), digits of the build's key
//! 1-2ts20260102030405.0a1b2c3d        deb on Ubuntu and what derives from it
//! 1-2.ts20260102030405.0a1b2c3d       rpm: the release
//! ```
//!
//! A rebuilt version is above the version that was rebuilt and above the distribution's own binary rebuilds (`1-2+b9`,
//! Ubuntu's `1-2build1`), and below every version that mends something: Debian's `1-2+deb12u1`, `1-2+nmu1`, `1-2.1`,
//! Ubuntu's `1-2ubuntu0.1`, an rpm's `1-2.1` (deb-version(7), Debian Policy 5.6.12, Debian Developer's Reference 5.10.2.1 and
//! 5.11.2, Ubuntu's security team on version numbers). Else apt would keep the rebuild when the distribution mends a
//! hole, and scanners would call the hole mended.
//!
//! The build's script in the container puts it together, because what the mark and the date depend on is known there.

use crate::record::Record;
use twostage_model::{Format, Sha256};

/// What the script needs to know, as variables of its environment: `VERSION_MARK`, `VERSION_MARK_UBUNTU`, `VERSION_KEY`.
pub(crate) fn environment(format: Format, key: &Sha256) -> [(String, String); 3] {
    let (mark, ubuntu) = marks(format);
    [
        ("VERSION_MARK".to_string(), mark.to_string()),
        ("VERSION_MARK_UBUNTU".to_string(), ubuntu.to_string()),
        ("VERSION_KEY".to_string(), digits(key)),
    ]
}

/// What the date is preceded by, usually and on Ubuntu.
fn marks(format: Format) -> (&'static str, &'static str) {
    match format {
        // "+b9" < "+bts" < "+deb12u1"; on Ubuntu "build1" < "ts" < "ubuntu0.1".
        Format::Deb => ("+bts", "ts"),
        Format::Rpm => (".ts", ".ts"),
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
    let (mark, ubuntu) = marks(format);
    // (The longer one first: one ends in the other.)
    let mark = [mark, ubuntu].into_iter().find(|mark| before.ends_with(mark))?;
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
        let said = |format| environment(format, &key).map(|(name, value)| format!("{name}={value}")).join(" ");
        assert_eq!(said(Format::Deb), "VERSION_MARK=+bts VERSION_MARK_UBUNTU=ts VERSION_KEY=32381523");
        assert_eq!(said(Format::Rpm), "VERSION_MARK=.ts VERSION_MARK_UBUNTU=.ts VERSION_KEY=32381523");
    }

    #[test]
    fn a_newer_source_is_a_newer_version() {
        let key = Sha256::of(b"inputs");
        for format in [Format::Deb, Format::Rpm] {
            for mark in [marks(format).0, marks(format).1] {
                let version = |date| rebuilt("1.0-1", mark, date, &key);
                for (a, b) in [("1.0-1".to_string(), version(1)), (version(1), version(2)), (version(2), "1.0-1.1".to_string())] {
                    assert_eq!(compare(format, &a, &b), Ordering::Less, "{format:?}: {a} < {b}");
                }
            }
        }
    }

    /// `(mark, version that is rebuilt, versions below the rebuild, versions above it)`
    const NEIGHBOURS: [(&str, &str, &[&str], &[&str]); 12] = [
        ("+bts", "1-2", &["1-2", "1-2+b9", "1-2~bpo12+1"], &["1-2+deb12u1", "1-2+nmu1", "1-2.1", "1-3", "1.0.1-1"]),
        ("+bts", "1-2+deb12u1", &["1-2", "1-2+deb12u1", "1-2+deb12u1+b1"], &["1-2+deb12u2", "1-2+deb13u1", "1-2.1"]),
        ("+bts", "1-2~deb12u1", &["1-2~deb12u1"], &["1-2~deb12u2", "1-2"]),
        ("+bts", "2:1.5.6+dfsg-3", &["2:1.5.6+dfsg-3+b2"], &["2:1.5.6+dfsg-3+deb12u1", "2:1.5.6+dfsg-3.1"]),
        ("+bts", "20230311", &["20230311", "20230311+b1"], &["20230311+deb12u1", "20230311+nmu1", "20230312"]),
        ("+bts", "1.0", &["1.0", "1.0+b1"], &["1.0+deb12u1", "1.0+nmu1", "1.0.1", "1.1"]),
        ("ts", "1-2", &["1-2", "1-2build1", "1-2build9"], &["1-2ubuntu0.1", "1-2ubuntu1", "1-2ubuntu0.1~esm1", "1-2.1"]),
        ("ts", "1-2ubuntu1", &["1-2ubuntu1", "1-2ubuntu1build2"], &["1-2ubuntu1.1", "1-2ubuntu2", "1-3"]),
        ("ts", "1.0", &["1.0", "1.0build1"], &["1.0ubuntu0.1", "1.0.1", "1.1"]),
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
        assert!(pairs >= 40, "{pairs} pairs");
    }

    #[test]
    fn the_suffix_is_found_only_where_the_build_has_appended_it() {
        let key = Sha256::of(b"inputs");
        let own = rebuilt("1.0-1", "+bts", 1_767_323_045, &key);
        assert_eq!(suffix(Format::Deb, &own, &key), Some("+bts20260102030405.32381523"));
        assert_eq!(suffix(Format::Deb, &rebuilt("1.0-1", "ts", 0, &key), &key), Some("ts19700101000000.32381523"));
        assert_eq!(suffix(Format::Rpm, &rebuilt("1.0-1", ".ts", 0, &key), &key), Some(".ts19700101000000.32381523"));
        assert_eq!(suffix(Format::Deb, &own, &Sha256::of(b"others")), None, "another build's");
        for hostile in
            ["", "32381523", ".32381523", "+bts20260102030405.32381523", "1+bts2026010203040x.32381523", "1.0-1+btsé026010203040.32381523"]
        {
            assert_eq!(suffix(Format::Deb, hostile, &key), None, "{hostile}");
        }
    }

    #[test]
    fn taking_the_last_patch_away_is_a_newer_version() {
        let record = |patched| Record { packages: Vec::new(), sources: Vec::new(), content: Default::default(), patched };
        assert_eq!(date(Some(100), None, None), 100);
        assert_eq!(date(Some(100), Some(500), Some(&record(0))), 500);
        assert_eq!(date(Some(100), None, Some(&record(500))), 501, "the patch is gone");
        assert_eq!(date(Some(900), None, Some(&record(500))), 900, "the tree is newer");
        assert_eq!(date(None, Some(400), Some(&record(500))), 501, "the newer of two patches is gone");
        assert_eq!(date(None, None, None), 0, "the changelog says it");
    }
}
