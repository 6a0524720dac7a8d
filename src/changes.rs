//! Packages and how they change, as tables for people.

use serde::Serialize;
use twostage_model::shown::{count, size};
use twostage_model::{Error, SnapshotId};
use twostage_reposerver::{Change, Listing, Published, Version};

/// What a command did to a channel, or would do. Its serialised field names are stable.
#[derive(Serialize)]
pub struct Told<'a> {
    pub event: &'static str,
    pub channel: &'a str,
    /// Where the channel is, or would be; none where that would first have to be made.
    pub snapshot: Option<SnapshotId>,
    pub previous: Option<SnapshotId>,
    pub changed: bool,
    pub dry_run: bool,
    pub changes: &'a [Change],
    pub mended: Vec<String>,
}

impl<'a> Told<'a> {
    /// What a command published; with nothing published it is what the command would do.
    pub fn of(event: &'static str, channel: &'a str, published: Option<&Published>, dry_run: bool, changes: &'a [Change]) -> Told<'a> {
        Told {
            event,
            channel,
            snapshot: published.map(|published| published.snapshot),
            previous: published.and_then(|published| published.previous),
            changed: published.is_some_and(|published| published.changed),
            dry_run,
            changes,
            mended: published.map(|published| published.mended.clone()).unwrap_or_default(),
        }
    }
}

/// Rows as columns, the last one as wide as it is.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A line for each package that changes, and one that counts them; `no difference` where there is none.
pub fn changes_text(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no difference".to_string();
    }
    let mut counts = [0; 3];
    let mut rows = Vec::new();
    for change in changes {
        let (kind, sign) = match (change.from.is_empty(), change.to.is_empty()) {
            (true, _) => (0, "+"),
            (_, true) => (1, "-"),
            _ => (2, "~"),
        };
        counts[kind] += 1;
        let files = |version: &Version| version.files.map_or_else(|| "?".to_string(), |files| count(files, "file"));
        let counted = change.from.iter().chain(&change.to).any(|version| version.files.is_some());
        let files = if counted { both(change, files) } else { String::new() };
        rows.push(vec![
            format!("{sign} {}", change.name),
            both(change, |version| if version.version.is_empty() { "?".into() } else { version.version.clone() }),
            change.arch.clone(),
            both(change, |version| size(version.size)),
            files,
        ]);
    }
    let words = counts.iter().zip(["added", "removed", "changed"]).filter(|(count, _)| **count > 0);
    let counted: Vec<String> = words.map(|(count, word)| format!("{count} {word}")).collect();
    format!("{}\n{}", table(&rows), counted.join(", "))
}

/// What is said of the versions before and after, once where it is the same.
fn both(change: &Change, say: impl Fn(&Version) -> String) -> String {
    let all = |versions: &[Version]| versions.iter().map(&say).collect::<Vec<_>>().join(", ");
    match (all(&change.from), all(&change.to)) {
        (from, to) if change.from.is_empty() || from == to => to,
        (from, _) if change.to.is_empty() => from,
        (from, to) => format!("{from} -> {to}"),
    }
}

/// What of a listing could not be looked at, a sentence each.
pub fn problems(listing: &Listing) -> Vec<String> {
    listing.problems.iter().map(in_full).collect()
}

/// An error with its causes, in one line.
pub fn in_full(error: &Error) -> String {
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use twostage_model::Sha256;

    #[test]
    fn changes_are_read_like_a_diff() {
        let version = |version: &str, size, files| Version { version: version.into(), size, files, sha256: Sha256::of(version.as_bytes()) };
        let change = |name: &str, from: Vec<Version>, to: Vec<Version>| Change { name: name.into(), arch: "all".into(), from, to };
        let changes = [
            change("greet", vec![version("1.0", 1200, Some(3))], vec![version("2.0", 1200, Some(4)), version("3.0", 1200, None)]),
            change("new", vec![], vec![version("1", 10, Some(1))]),
            change("old", vec![version("1", 10, None)], vec![]),
        ];
        let text = "~ greet  1.0 -> 2.0, 3.0  all  1.2 kB -> 1.2 kB, 1.2 kB  3 files -> 4 files, ?\n\
                    + new    1                all  10 B                      1 file\n\
                    - old    1                all  10 B\n\
                    1 added, 1 removed, 1 changed";
        assert_eq!(changes_text(&changes), text);
        assert_eq!(changes_text(&[]), "no difference");
    }
}
