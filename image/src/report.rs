//! What an audit found, for people and for programs.

use crate::leaks::LookedFor;
use crate::page::Seen;
use crate::path::shown;
use crate::waste::{Unseen, Waste};
use serde::Serialize;
use std::fmt::Write as _;
use twostage_model::Format;
use twostage_model::shown::{count, size};

/// Packages named in the table for people; the rest are summed up.
const TOP: usize = 12;
/// Residue of one layer that is named for people.
const MOST_RESIDUE: usize = 200;
/// Bytes that nobody can see of which people want to know the files.
const WORTH_TELLING: u64 = 1_000_000;

/// What an audit found. Its serialised field names are stable.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The image's id: the digest of its configuration.
    pub image: String,
    /// The names that its archive gives it.
    pub tags: Vec<String>,
    /// How many layers are the base's and were not judged.
    pub base_layers: usize,
    /// Packages installed in the image, and how many of them the base did not have.
    pub packages_installed: usize,
    /// See `packages_installed`.
    pub packages_added: usize,
    /// Each layer above the base, lowest first.
    pub layers: Vec<LayerReport>,
    /// How much that only builders need was looked for, if it is known.
    pub looked_for: Option<LookedFor>,
    /// Residue in history and configuration.
    pub config_residue: Vec<Residue>,
    /// What all layers, the base's too, ship and nobody can see.
    pub waste: Waste,
    /// Every file of that, for the page.
    #[serde(skip)]
    pub(crate) unseen: Vec<Unseen>,
}

/// One layer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LayerReport {
    /// Its number in the image, from 1.
    pub layer: usize,
    /// The digest of its uncompressed tar.
    pub diff_id: String,
    /// Bytes of its uncompressed tar.
    pub bytes: u64,
    /// Whose packages it installs or removes: the formats whose database it changes.
    pub formats: Vec<Format>,
    /// Everything in it but folders.
    pub files: u64,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// Folders in it.
    pub folders: u64,
    /// Files that packages brought, most bytes first.
    pub packages: Vec<PackageShare>,
    /// Files that packages generated, by rule.
    pub generated: Vec<RuleShare>,
    /// Files that are as in the base.
    pub restored: Share,
    /// What nothing accounts for.
    pub residue: Vec<Residue>,
    /// Each file and what accounts for it, for the page.
    #[serde(skip)]
    pub(crate) seen: Vec<Seen>,
}

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Share {
    /// Counts one more.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// What one package brought.
#[derive(Debug, Clone, Serialize)]
pub struct PackageShare {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub arch: String,
    /// What kind of package it is.
    pub format: Format,
    /// Files and bytes.
    #[serde(flatten)]
    pub share: Share,
}

/// What one rule accounts for.
#[derive(Debug, Clone, Serialize)]
pub struct RuleShare {
    /// The rule's name.
    pub rule: &'static str,
    /// What such files are and why they stay.
    pub what: &'static str,
    /// Files (and folders that are in no package's list) and bytes.
    #[serde(flatten)]
    pub share: Share,
}

/// One thing that nothing accounts for.
#[derive(Debug, Clone, Serialize)]
pub struct Residue {
    /// The layer's number, from 1; none for history and configuration.
    pub layer: Option<usize>,
    /// A path with its slash, `history[3]` or `config.env[0]`.
    pub at: String,
    /// `file`, `folder`, `link`, `device`, `whiteout`, `history`, `config`.
    pub kind: &'static str,
    /// Bytes of a file.
    pub bytes: u64,
    /// The rule that names it, or `unaccounted`, `base-file-changed`, `package-file-changed`, `package-gone`,
    /// `build-dependency`, `rpm-database-key`, `duplicate`.
    pub rule: &'static str,
    /// Why it should not be there.
    pub reason: String,
}

impl Report {
    /// All residue: layer by layer in order of path, then history and configuration.
    pub fn residue(&self) -> impl Iterator<Item = &Residue> {
        self.layers.iter().flat_map(|layer| &layer.residue).chain(&self.config_residue)
    }

    /// Whether there is none.
    pub fn is_clean(&self) -> bool {
        self.residue().next().is_none()
    }

    /// A table for people, without colours.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let tags = if self.tags.is_empty() { String::new() } else { format!(" {}", shown(&self.tags.join(" "))) };
        let _ = writeln!(text, "image {}{tags}", &self.image[..12]);
        let _ = writeln!(
            text,
            "base  {}; {} installed, {} of them above the base",
            count(self.base_layers as u64, "layer"),
            count(self.packages_installed as u64, "package"),
            self.packages_added
        );
        for layer in &self.layers {
            layer.write(&mut text, self.base_layers + self.layers.len());
        }
        if !self.config_residue.is_empty() {
            text.push_str("\nhistory and configuration\n");
            self.config_residue.iter().for_each(|residue| residue.write(&mut text, 0));
        }
        self.write_waste(&mut text);
        let residue = self.residue().count() as u64;
        text.push('\n');
        if let Some(LookedFor { packages, by_name, files }) = self.looked_for {
            let found = self.residue().filter(|residue| residue.rule == "build-dependency").count() as u64;
            let found = if found == 0 { "nothing".to_string() } else { count(found, "file") };
            let (packages, files) = (count(packages as u64, "package"), count(files as u64, "file"));
            let unread = match by_name {
                0 => String::new(),
                n => format!("; of {} only the name was looked for: the repository does not have it", count(n as u64, "package")),
            };
            let _ = writeln!(text, "build dependencies: {found} of {packages} with {files} that only builders need{unread}");
        }
        if residue == 0 {
            text.push_str("clean: everything above the base is accounted for\n");
        } else {
            let bytes = self.residue().map(|r| r.bytes).sum();
            let _ = writeln!(text, "residue: {}, {}", count(residue, "entry"), size(bytes));
        }
        text
    }
}

impl Report {
    fn write_waste(&self, text: &mut String) {
        let total = self.waste.total();
        if total.files == 0 {
            return;
        }
        let _ = writeln!(text, "\nshipped, but nobody can see it: {} with {}", count(total.files, "file"), size(total.bytes));
        // Every install replaces dpkg's status file; that is no news.
        if total.bytes < WORTH_TELLING {
            return;
        }
        let rows: Vec<_> = self.waste.by.iter().map(|(why, share)| (why.word().to_string(), *share)).collect();
        table(text, "why", &rows);
        let row =
            |file: &Unseen| (format!("layer {} {} ({})", file.layer, file.path, file.why.word()), Share { files: 1, bytes: file.bytes });
        table(text, "the largest", &self.waste.largest.iter().map(row).collect::<Vec<_>>());
    }
}

impl LayerReport {
    fn write(&self, text: &mut String, of: usize) {
        let _ = writeln!(
            text,
            "\nlayer {} of {of}  {}  {} as a tar: {} with {}, {}",
            self.layer,
            &self.diff_id[..12],
            size(self.bytes),
            count(self.files, "file"),
            size(self.file_bytes),
            count(self.folders, "folder")
        );
        let mut rows: Vec<(String, Share)> = Vec::new();
        let (top, rest) = self.packages.split_at(self.packages.len().min(TOP));
        rows.extend(top.iter().map(|p| (format!("{} {}", p.name, p.version), p.share)));
        if !rest.is_empty() {
            let sum = |of: fn(&Share) -> u64| rest.iter().map(|p| of(&p.share)).sum();
            rows.push((format!("{} more", rest.len()), Share { files: sum(|s| s.files), bytes: sum(|s| s.bytes) }));
        }
        table(text, "from packages", &rows);
        let rows: Vec<_> = self.generated.iter().map(|r| (r.rule.to_string(), r.share)).collect();
        table(text, "generated by packages, by rule", &rows);
        if self.restored.files > 0 {
            table(text, "as in the base", &[("restored".into(), self.restored)]);
        }
        if !self.residue.is_empty() {
            let _ = writeln!(text, "  residue: {}", count(self.residue.len() as u64, "entry"));
            let (shown, rest) = self.residue.split_at(self.residue.len().min(MOST_RESIDUE));
            let width = shown.iter().map(|r| size(r.bytes).len()).max().unwrap_or(0);
            shown.iter().for_each(|residue| residue.write(text, width));
            if !rest.is_empty() {
                let bytes = rest.iter().map(|residue| residue.bytes).sum();
                let _ = writeln!(text, "    … and {} more, {} (--json names all)", rest.len(), size(bytes));
            }
        }
    }
}

impl Residue {
    fn write(&self, text: &mut String, width: usize) {
        let bytes = match self.kind {
            "file" => size(self.bytes),
            _ => String::new(),
        };
        let slash = if self.kind == "folder" { "/" } else { "" };
        let gap = if width > 0 { "  " } else { "" };
        let _ = writeln!(text, "    {bytes:>width$}{gap}{}{slash}: {}", shown(&self.at), self.reason);
    }
}

fn table(text: &mut String, title: &str, rows: &[(String, Share)]) {
    if rows.is_empty() {
        return;
    }
    let first = rows.iter().map(|(name, _)| shown(name).chars().count()).max().unwrap_or(0);
    let _ = writeln!(text, "  {title}");
    for (name, share) in rows {
        let name = shown(name);
        let pad = " ".repeat(first - name.chars().count());
        let _ = writeln!(text, "    {name}{pad}  {:>6}  {:>9}", share.files, size(share.bytes));
    }
}
