//! An apt repository: `dists/SUITE/InRelease` says which indexes are good, and these, which packages.

use super::place::{Place, unpacked};
use super::{Found, From, Reading, Vouched};
use twostage_model::{Class, Error, Result, Sha256, date};
use twostage_reposerver::foreign::apt::{Release, packages};

/// Bytes of a Release, at most: Debian's have some 200 kB.
const MAX_RELEASE: u64 = 32 << 20;

/// Reads the suites that are asked for.
///
/// # Errors
/// One is not there, nobody vouches for it, it is too old, or its indexes are not what it says.
pub fn look(reading: &Reading<'_>, place: Place) -> Result<Found> {
    let (mut all, mut count, mut vouched) = (Vec::new(), 0, None);
    for suite in &reading.arguments.suite {
        let is_flat = suite.ends_with('/');
        let suite = suite.trim_end_matches('/').trim_start_matches("./").trim_matches('/');
        if suite.split('/').any(|part| part == "..") {
            return Err(Error::new(Class::Usage, format!("{suite} is no suite")).hint("name it as a sources.list does"));
        }
        let folder = match is_flat {
            true => {
                if suite == "." {
                    String::new()
                } else {
                    suite.to_string()
                }
            }
            false => format!("dists/{suite}"),
        };
        let (text, by) = release(reading, &place, &folder)?;
        let release = Release::parse(&text)?;
        check_date(reading, &place, &release, suite)?;
        if !is_flat && ![&release.suite, &release.codename].into_iter().any(|name| name.is_empty() || name == suite) {
            reading.note(format!("the suite {suite} calls itself {}", release.name()));
        }
        let indexes = match is_flat {
            true => vec![release.flat_index()?],
            false => release.indexes(&reading.arguments.component, &reading.arguments.arch)?,
        };
        for index in indexes {
            let bytes = place.index(&folder, &index)?;
            unpacked(&bytes, &index.path, |plain| {
                packages(plain, &mut count, |listed| {
                    if reading.is_wanted(&listed.item.arch) {
                        all.push(listed);
                    }
                    Ok(())
                })
            })?;
        }
        // All of them have to be signed for all that comes to be vouched for.
        vouched = match (vouched, by) {
            (None | Some(Vouched::Signed(_)), by) => Some(by),
            (weaker, _) => weaker,
        };
    }
    Ok(Found { packages: all, from: From::Index { place, vouched: vouched.unwrap_or(Vouched::Nobody), in_urls: false } })
}

/// The text of a suite's Release, and who vouches for it.
fn release(reading: &Reading<'_>, place: &Place, folder: &str) -> Result<(String, Vouched)> {
    let at = |name: &str| if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
    let get = |name: &str| place.get(&at(name), MAX_RELEASE);
    let text = |bytes: Vec<u8>, name: &str| {
        String::from_utf8(bytes).map_err(|cause| Error::new(Class::Repository, format!("{} is no text", at(name))).because(cause))
    };
    let missing = || {
        Error::new(Class::Repository, format!("{} has no {} and no Release beside it", reading.shown, at("InRelease")))
            .hint("correct the suite, or the URL: it is the one that stands before the suite in a sources.list")
    };
    let pinned = reading.arguments.unsigned;
    if let (Some(keys), None) = (&reading.keys, pinned) {
        let now = reading.session.now;
        if let Some(signed) = get("InRelease")? {
            let (text, key) =
                keys.in_clear(&text(signed, "InRelease")?, now).map_err(|cause| reading.not_signed(&at("InRelease"), cause))?;
            return Ok((text, Vouched::Signed(key)));
        }
        let release = get("Release")?.ok_or_else(missing)?;
        let signature = get("Release.gpg")?.ok_or_else(|| {
            reading.not_signed(&at("Release"), Error::new(Class::Repository, "there is neither InRelease nor Release.gpg"))
        })?;
        let key = keys.beside(&release, &signature, now).map_err(|cause| reading.not_signed(&at("Release"), cause))?;
        return Ok((text(release, "Release")?, Vouched::Signed(key)));
    }
    // Without a key Release and InRelease say the same, and Release is what people have the digest of.
    let (bytes, name) = match get("Release")? {
        Some(bytes) => (bytes, "Release"),
        None => (get("InRelease")?.ok_or_else(missing)?, "InRelease"),
    };
    let vouched = reading.unsigned(place, &at(name), &Sha256::of(&bytes))?;
    let text = text(bytes, name)?;
    let text = if name == "InRelease" { twostage_package::control::unwrap_clear_signed(&text)? } else { text };
    Ok((text, vouched))
}

/// Refuses a Release that its owner wants nobody to use any more: what is offered may be an old state of it.
fn check_date(reading: &Reading<'_>, place: &Place, release: &Release, suite: &str) -> Result<()> {
    match release.valid_until {
        Some(end) if end < reading.session.now => {
            let over = format!("the suite {suite} was good until {}", date::release(end));
            if !place.needs_key() || reading.arguments.unsigned.is_some() {
                reading.note(over);
                return Ok(());
            }
            Err(Error::new(Class::Repository, over)
                .hint("ask whoever runs it for a newer one; one that is pinned by --unsigned SHA256 is taken as it is"))
        }
        _ => Ok(()),
    }
}
