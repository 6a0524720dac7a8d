//! Debian's order of versions (Debian policy 5.6.12; dpkg's `lib/dpkg/version.c`).
//!
//! ```text
//! [epoch:]upstream[-revision]      1.0~rc1 < 1.0 < 1.0+bts1 < 1.0-1 < 1.0.1 < 1:0.9
//! ```

use std::cmp::Ordering;

/// Compares two versions as `dpkg --compare-versions` does.
///
/// Any text has a place in the order, so this cannot fail; whether a text *is* a version is
/// [`twostage_model::PackageId::new`]'s to say. A missing epoch is 0, a missing revision is lower
/// than or equal to any other, and equal to `0`.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (epoch_a, upstream_a, revision_a) = parts(a);
    let (epoch_b, upstream_b, revision_b) = parts(b);
    compare_part(epoch_a, epoch_b).then_with(|| compare_part(upstream_a, upstream_b)).then_with(|| compare_part(revision_a, revision_b))
}

fn parts(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Non-digits and digits in turn: non-digits by [`weight`], digits as numbers of any length.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    while !(a.is_empty() && b.is_empty()) {
        let (text_a, rest_a) = split_at(a, |c| !c.is_ascii_digit());
        let (text_b, rest_b) = split_at(b, |c| !c.is_ascii_digit());
        let weights = |text: &str| text.bytes().map(weight).chain(std::iter::once(0)).collect::<Vec<_>>();
        // The end weighs 0, as a digit does, so that `~` sorts before it and all else after.
        let order = weights(text_a).cmp(&weights(text_b));
        let (digits_a, next_a) = split_at(rest_a, |c| c.is_ascii_digit());
        let (digits_b, next_b) = split_at(rest_b, |c| c.is_ascii_digit());
        let (number_a, number_b) = (digits_a.trim_start_matches('0'), digits_b.trim_start_matches('0'));
        let order = order.then_with(|| number_a.len().cmp(&number_b.len())).then_with(|| number_a.cmp(number_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (next_a, next_b);
    }
    Ordering::Equal
}

fn weight(byte: u8) -> i32 {
    match byte {
        b'~' => -1,
        b if b.is_ascii_alphabetic() => i32::from(b),
        b => i32::from(b) + 256,
    }
}

/// Splits before the first character that is not `wanted`.
fn split_at(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::XorShift;
    use std::process::Command;

    #[test]
    fn the_order_of_policy() {
        for (a, order, b) in [
            ("1.0", "=", "1.0-0"),
            ("1.0", "=", "0:1.0"),
            ("1.0", "=", "1.00"),
            ("1.0~rc1", "<", "1.0"),
            ("1.0~~", "<", "1.0~~a"),
            ("1.0~~a", "<", "1.0~"),
            ("1.0~", "<", "1.0"),
            ("1.0", "<", "1.0a"),
            ("1.0a", "<", "1.0+"),
            ("1.0+bts20260102030405.0a1b2c3d", ">", "1.0"),
            ("1.0-1+bts20260102030405.0a1b2c3d", "<", "1.0-1.1"),
            ("1.0-1", "<", "1.0-1+b1"),
            ("1.0-1", "<", "1.0.1-1"),
            ("9.99", "<", "1:0.1"),
            ("2.9", "<", "2.10"),
            ("1.2-3-4", ">", "1.2-3"),
            ("99999999999999999999999998", "<", "99999999999999999999999999"),
        ] {
            let expected = match order {
                "<" => Ordering::Less,
                ">" => Ordering::Greater,
                _ => Ordering::Equal,
            };
            assert_eq!(compare(a, b), expected, "{a} {order} {b}");
            assert_eq!(compare(b, a), expected.reverse(), "{b} against {a}");
        }
    }

    #[test]
    fn dpkg_says_the_same_of_generated_pairs() {
        if Command::new("dpkg").arg("--version").output().is_err() {
            crate::testing::skipped("there is no dpkg here");
            return;
        }
        let mut random = XorShift::new(7);
        let mut version = || {
            let mut text = if random.below(4) == 0 { format!("{}:", random.below(3)) } else { String::new() };
            text.push(char::from(b'0' + random.below(3) as u8));
            for _ in 0..random.below(6) {
                text.push(*random.pick(&['0', '1', '9', 'a', 'b', 'Z', '.', '+', '~', '~']));
            }
            if random.below(2) == 0 {
                text.push('-');
                for _ in 0..=random.below(4) {
                    text.push(*random.pick(&['0', '1', 'a', '~', '+', '.']));
                }
            }
            text
        };
        // One shell for all pairs: starting dpkg 900 times from here is slower than the shell's loop.
        let pairs: Vec<(String, String)> = (0..300).map(|_| (version(), version())).collect();
        let script: String = pairs
            .iter()
            .map(|(a, b)| {
                format!("if dpkg --compare-versions '{a}' lt '{b}'; then echo lt; elif dpkg --compare-versions '{a}' eq '{b}'; then echo eq; else echo gt; fi\n")
            })
            .collect();
        let output = Command::new("sh").arg("-c").arg(script).output().expect("sh runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.lines().count(), pairs.len(), "{}", String::from_utf8_lossy(&output.stderr));
        for ((a, b), said) in pairs.iter().zip(said.lines()) {
            let ours = match compare(a, b) {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            assert_eq!(ours, said, "{a} against {b}");
        }
    }
}
