//! Numbers as people read them: one form everywhere.

/// Bytes, in powers of ten as registries and disks count, with three digits: `312 B`, `4.2 kB`, `337 kB`, `1.2 GB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 { format!("{value:.0} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A number of things, by the word for one of them: `1 entry`, `2 entries`, `0 files`.
pub fn count(number: impl TryInto<u64>, word: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    match (number, word.strip_suffix('y')) {
        (1, _) => format!("1 {word}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_read_as_people_write_them() {
        let shown: Vec<String> = [0, 999, 1000, 4200, 1_234_567, 99_960_000, 170_401_280, 999_499_999, 999_999_999].map(size).to_vec();
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "4.2 kB", "1.2 MB", "100 MB", "170 MB", "999 MB", "1.0 GB"]);
        assert_eq!(size(u64::MAX), "18446744 TB");
        assert_eq!([count(1, "entry"), count(2, "entry"), count(0, "file")], ["1 entry", "2 entries", "0 files"]);
    }
}
