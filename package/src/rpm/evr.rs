//! rpm's order of versions (`rpmio/rpmvercmp.c` and `rpmverCmp` in `rpmio/rpmver.c`, rpm 4.18).
//!
//! ```text
//! [epoch:]version[-release]      1.0~rc1 < 1.0 < 1.0^git1 < 1.0.1 < 1:0.9
//! ```

use std::cmp::Ordering;

/// Compares two versions as rpm does. A missing epoch is 0; a missing release is before any.
///
/// Any text has a place in the order, so this cannot fail. A dependency without a release means
/// every release: there, leave it out on both sides.
pub fn compare_evr(a: &str, b: &str) -> Ordering {
    let ((epoch_a, version_a, release_a), (epoch_b, version_b, release_b)) = (parts(a), parts(b));
    let releases = || match (release_a, release_b) {
        (Some(a), Some(b)) => compare_segments(a, b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    };
    compare_segments(epoch_a, epoch_b).then_with(|| compare_segments(version_a, version_b)).then_with(releases)
}

/// As rpm's `parseEVR`: an epoch is digits before a colon, a release is behind the last dash.
fn parts(evr: &str) -> (&str, &str, Option<&str>) {
    let (epoch, rest) = match evr.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => (if epoch.is_empty() { "0" } else { epoch }, rest),
        _ => ("0", evr),
    };
    match rest.rsplit_once('-') {
        Some((version, release)) => (epoch, version, Some(release)),
        None => (epoch, rest, None),
    }
}

/// rpmvercmp: runs of digits and of letters in turn; all else only separates them.
fn compare_segments(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let separates = |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'~' | b'^');
        (a, b) = (behind(a, separates), behind(b, separates));
        // A tilde sorts before everything, even before the end.
        match (a.first() == Some(&b'~'), b.first() == Some(&b'~')) {
            (true, true) => {
                (a, b) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default());
                continue;
            }
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        // A caret sorts behind the end, and before everything else.
        match (a.first() == Some(&b'^'), b.first() == Some(&b'^')) {
            (true, true) => {
                (a, b) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default());
                continue;
            }
            (true, false) => return if b.is_empty() { Ordering::Greater } else { Ordering::Less },
            (false, true) => return if a.is_empty() { Ordering::Less } else { Ordering::Greater },
            (false, false) => {}
        }
        let (Some(first_a), Some(first_b)) = (a.first(), b.first()) else { break };
        let digits = first_a.is_ascii_digit();
        if digits != first_b.is_ascii_digit() {
            // A number is newer than letters.
            return if digits { Ordering::Greater } else { Ordering::Less };
        }
        let wanted = |byte: &u8| if digits { byte.is_ascii_digit() } else { byte.is_ascii_alphabetic() };
        let (rest_a, rest_b) = (behind(a, wanted), behind(b, wanted));
        let (segment_a, segment_b) = (before(a, rest_a), before(b, rest_b));
        let order = if digits {
            let (number_a, number_b) = (behind(segment_a, |byte| *byte == b'0'), behind(segment_b, |byte| *byte == b'0'));
            number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b))
        } else {
            segment_a.cmp(segment_b)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.len().min(1).cmp(&b.len().min(1))
}

fn behind(text: &[u8], skipped: impl Fn(&u8) -> bool) -> &[u8] {
    let end = text.iter().position(|byte| !skipped(byte)).unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

fn before<'a>(text: &'a [u8], rest: &[u8]) -> &'a [u8] {
    text.get(..text.len() - rest.len()).unwrap_or_default()
}
