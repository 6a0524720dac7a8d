//! The spellings of a date that apt, HTTP and versions want, without a calendar library.
//! All dates are seconds since 1970, UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// The last second of the year 9999, the last that both spellings can write.
const LAST: i64 = 253_402_300_799;

/// Seconds since 1970 by this machine's clock.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_secs()).ok()).unwrap_or(0)
}

/// `Sat, 03 Jan 2026 04:05:06 UTC`, as Debian's Release files write it (RFC 2822 with a zone's name).
pub fn release(seconds: i64) -> String {
    format!("{} UTC", fixed(seconds))
}

/// `Sat, 03 Jan 2026 04:05:06 GMT` (RFC 9110 section 5.6.7, IMF-fixdate).
pub fn http(seconds: i64) -> String {
    format!("{} GMT", fixed(seconds))
}

/// `20260103040506`: sorts as the date does, as text and as a Debian version.
pub fn compact(seconds: i64) -> String {
    let seconds = seconds.clamp(0, LAST);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// `2026-01-03T04:05:06Z` (RFC 3339), as images say when they were made.
pub fn rfc3339(seconds: i64) -> String {
    let compact = compact(seconds);
    let part = |from: usize, to: usize| compact.get(from..to).unwrap_or_default();
    format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14))
}

fn fixed(seconds: i64) -> String {
    let seconds = seconds.clamp(0, LAST);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let weekday = DAYS[usize::try_from(days % 7).unwrap_or(0)];
    let name = MONTHS[usize::try_from(month - 1).unwrap_or(0)];
    format!("{weekday}, {day:02} {name} {year:04} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month, day of a day since 1970 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// Reads an IMF-fixdate; the two obsolete spellings are not taken (a client that gets the whole
/// file instead of a 304 loses nothing but time).
pub fn parse_http(text: &str) -> Option<i64> {
    let rest = text.trim().split_once(", ")?.1;
    let mut words = rest.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|m| *m == month)?).ok()? + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let zone = words.next()?;
    if !matches!(zone, "GMT" | "UTC") || words.next().is_some() || !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    // Hinnant's `days_from_civil`.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_date_1_writes_them() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00"),
            (1_767_413_106, "Sat, 03 Jan 2026 04:05:06"),
            (LAST, "Fri, 31 Dec 9999 23:59:59"),
        ] {
            assert_eq!(http(seconds), format!("{text} GMT"));
            assert_eq!(compact(1_767_413_106), "20260103040506");
            assert_eq!(release(seconds), format!("{text} UTC"));
            assert_eq!(parse_http(&http(seconds)), Some(seconds));
        }
        for wrong in ["", "yesterday", "Sat, 03 Foo 2026 04:05:06 GMT", "Sat, 03 Jan 2026 04:05 GMT", "Sat, 03 Jan 2026 99:05:06 GMT"] {
            assert_eq!(parse_http(wrong), None, "{wrong}");
        }
    }
}
