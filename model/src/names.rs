//! Names that two stages must agree on.

use crate::{Class, Error, Result};

/// The host that a runtime RUN names. It cannot exist (RFC 2606, section 2), so a build that does
/// not go through our server fails instead of asking a stranger.
pub const FIXED_HOST: &str = "repository.twostage.invalid";

/// The label that names the snapshot an image was installed from.
pub const SNAPSHOT_LABEL: &str = "twostage.snapshot";

/// The label that names the top layer of an image's base, so that an audit knows where the base
/// ends.
pub const BASE_LABEL: &str = "twostage.base";

/// The label that names the packages of an image which take the place of the base's or the distribution's, separated by
/// blanks.
pub const REPLACES_LABEL: &str = "twostage.replaces";

/// What the name of a file or folder begins with that is being written where other files are, until it is whole. Runs
/// after a killed one remove it by this name.
pub const UNFINISHED: &str = ".twostage-incoming-";

/// The same in a folder that is twostage's alone.
pub const INCOMING: &str = "incoming-";

/// What the name of a folder begins with that holds what a container gave.
pub const COLLECTED: &str = "collected-";

/// Words that the server has for itself, or may come to have.
const RESERVED: [&str; 10] = ["api", "blobs", "favicon", "healthz", "key", "keys", "metrics", "pool", "snapshots", "static"];

/// The rule for a channel's name: `[a-z0-9][a-z0-9-]{0,63}`, and none of the server's own words.
///
/// # Errors
/// The name breaks it.
pub fn check_channel_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > 64 || name.starts_with('-') || !name.bytes().all(plain) {
        return Err(Error::new(Class::Project, format!("{name:?} cannot be a channel's name"))
            .hint("use lower-case letters, digits and hyphens, at most 64, for instance main or testing"));
    }
    if RESERVED.contains(&name) {
        return Err(
            Error::new(Class::Project, format!("{name:?} cannot be a channel's name: the server uses it")).hint("take another word")
        );
    }
    Ok(())
}

/// Whether a word can be the name of a suite, such as `bookworm` or `el9`.
pub fn is_suite_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(plain)
}

/// Whether a word can be a name of an image: `debian:12`, `host:5000/team/base@sha256:…`, an id. Engines know more
/// rules, and say so; what this leaves is one word of a URL and of a FROM line, and no option.
pub fn is_reference(word: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-:/@".contains(c);
    word.len() <= 1024
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.chars().all(fine)
        && !word.split('/').any(|part| part == "..")
}

/// Whether Linux has a signal of that name, in capitals and without `SIG`: `TERM`, `RTMIN+3` (as docker knows them,
/// moby/sys/signal).
pub fn is_signal(name: &str) -> bool {
    const NAMES: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP \
                         TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX";
    let real_time = |base: &str, most: u8| {
        let written = name.strip_prefix(base);
        written
            .is_some_and(|written| written.parse::<u8>().is_ok_and(|number| (1..=most).contains(&number) && number.to_string() == written))
    };
    NAMES.split_whitespace().any(|known| known == name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

/// Whether a text fits a pattern of `*` and `?`. A star that fits never has to be taken back, so it is linear in each.
pub fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p + 1, t));
                p += 1;
            }
            (Some(c), _) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            (_, Some((after, from))) => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_never_named_like_a_page_of_the_server_or_a_path() {
        for good in ["main", "testing", "1-2", "x"] {
            assert!(check_channel_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", "Main", "a/b", "..", "@a", "healthz", "pool", "key", "a.sources", &"x".repeat(65)] {
            assert!(check_channel_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_of_an_image_is_one_word_of_a_from_line() {
        for good in ["debian", "debian:12", "host:5000/team/base:1.0_x", "debian@sha256:00ff", "sha256:00ff", "twostage-base:0011"] {
            assert!(is_reference(good), "{good}");
        }
        for bad in
            ["", "-x", "--platform=x", "a b", "a\nRUN x", "a\u{85}", "$x", "a/../b", "/a", "ä", "a`b", "a;b", "a\\", &"x".repeat(2000)]
        {
            assert!(!is_reference(bad), "{bad:?}");
        }
    }

    #[test]
    fn stars_and_question_marks_stand_for_any_characters() {
        for (pattern, text) in
            [("greet", "greet"), ("*", ""), ("lib*", "libgreet1"), ("*gre*t*", "a-greet-b"), ("gr??t", "greet"), ("**", "x")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("greet", "greet2"), ("", "x"), ("lib?", "lib"), ("*b", "ab-c"), ("a*b*c", "acb")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
        let long = "a".repeat(20_000);
        assert!(!fits(&"*a".repeat(5_000), &long.replace('a', "b")));
        assert!(!fits(&format!("{}c", "a*".repeat(2_000)), &long));
    }
}
