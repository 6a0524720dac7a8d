//! What an audit found, for people and for programs.

use crate::leaks::LookedFor;
use crate::page::Seen;
use crate::path::shown;
use crate::waste::{Unseen, Waste};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use twostage_linking::{Lack, LinkFault};
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
    /// Packages that take the place of the base's or the distribution's, as the image's label says.
    pub replaces: Vec<String>,
    /// Each layer above the base, lowest first.
    pub layers: Vec<LayerReport>,
    /// How much that only builders need was looked for, if it is known.
    pub looked_for: Option<LookedFor>,
    /// Residue in history and configuration.
    pub config_residue: Vec<Residue>,
    /// Whether programs and libraries find what they need.
    pub linking: LinkingReport,
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
    /// Every member of its tar but folders: the sum of what follows, as are the next two.
    pub files: u64,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// Folders in it.
    pub folders: u64,
    /// What packages brought, most bytes first.
    pub packages: Vec<PackageShare>,
    /// What packages generated, by rule.
    pub generated: Vec<RuleShare>,
    /// What is as in the base.
    pub restored: Share,
    /// Marks of folders that hide the layers below, and deletions that an image may have.
    pub marks: Share,
    /// Members that are nothing where the tar is unpacked: folders that are stated again, notes of aufs.
    pub ignored: Share,
    /// What nothing accounts for.
    pub residue: Vec<Residue>,
    /// What is accounted for, and worth a word.
    pub notes: Vec<Note>,
    /// Each file and what accounts for it, for the page.
    #[serde(skip)]
    pub(crate) seen: Vec<Seen>,
}

/// Something that people should know of a path that is accounted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The path, with its slash.
    pub at: String,
    /// What, in a sentence.
    pub note: String,
}

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// How many, folders aside.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Folders.
    #[serde(skip_serializing_if = "is_zero")]
    pub folders: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Share {
    /// Counts one more file.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    /// Counts one more entry.
    pub(crate) fn count(&mut self, is_folder: bool, bytes: u64) {
        if is_folder { self.folders += 1 } else { self.add(bytes) }
    }
}

impl std::iter::Sum for Share {
    fn sum<I: Iterator<Item = Share>>(shares: I) -> Share {
        shares.fold(Share::default(), |a, b| Share { files: a.files + b.files, bytes: a.bytes + b.bytes, folders: a.folders + b.folders })
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
    /// Files, folders that are in no package's list, and bytes.
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
    /// `build-dependency`, `rpm-database-key`, `duplicate`, `trailing`.
    pub rule: &'static str,
    /// Why it should not be there.
    pub reason: String,
}

/// Whether the programs and libraries above the base find what they need of each other.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LinkingReport {
    /// How many were judged.
    pub files: usize,
    /// What is missing.
    pub faults: Vec<Unlinked>,
    /// What is missing for plugins of others' packages. A package has plugins for what it only recommends: they are not
    /// loaded then.
    pub plugins: Vec<Unlinked>,
    /// What is missing and may be.
    pub allowed: usize,
}

/// A program or library, and what it asks for that is not there.
#[derive(Debug, Clone, Serialize)]
pub struct Unlinked {
    /// Its path, with its slash.
    pub at: String,
    /// The package that owns it.
    pub package: Option<String>,
    /// The program that loads it, if it is another one.
    pub program: Option<String>,
    /// `interpreter`, `library`, `version` or `symbols`.
    pub lacks: &'static str,
    /// The names of what is missing.
    pub names: Vec<String>,
    /// A sentence for people.
    pub reason: String,
}

impl Unlinked {
    pub(crate) fn of(package: Option<String>, fault: LinkFault) -> Unlinked {
        let (lacks, names, reason) = match fault.lacks {
            Lack::Interpreter(path) => ("interpreter", vec![path.clone()], format!("its dynamic linker {path} is not there")),
            Lack::Library { name, elsewhere: Some(path) } => {
                let reason = format!("it needs {name}, which is only at /{path}, where the linker does not look");
                ("library", vec![name], reason)
            }
            Lack::Library { name, elsewhere: None } => ("library", vec![name.clone()], format!("it needs {name}, which is not there")),
            Lack::Version { library, version } => {
                ("version", vec![version.clone()], format!("it needs version {version} of {library}, which that does not have"))
            }
            Lack::Symbols(names) => {
                let (some, rest) = names.split_at(names.len().min(TOP));
                let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                let all = count(names.len() as u64, "symbol");
                let reason = format!("nothing that it loads has {all} that it needs: {}{more}", some.join(", "));
                ("symbols", names, reason)
            }
        };
        Unlinked { at: format!("/{}", fault.file), package, program: fault.program.map(|path| format!("/{path}")), lacks, names, reason }
    }

    fn write(&self, text: &mut String) {
        let package = self.package.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let program = self.program.as_ref().map(|path| format!(", which {path} loads")).unwrap_or_default();
        let _ = writeln!(text, "    {}{}{}: {}", shown(&self.at), shown(&package), shown(&program), shown(&self.reason));
    }
}

impl Report {
    /// All residue: layer by layer in order of path, then history and configuration.
    pub fn residue(&self) -> impl Iterator<Item = &Residue> {
        self.layers.iter().flat_map(|layer| &layer.residue).chain(&self.config_residue)
    }

    /// Whether there is none, and nothing is missing for a program or library.
    pub fn is_clean(&self) -> bool {
        self.residue().next().is_none() && self.linking.faults.is_empty()
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
        if !self.replaces.is_empty() {
            let _ = writeln!(text, "in place of the distribution's: {}", shown(&self.replaces.join(", ")));
        }
        for layer in &self.layers {
            layer.write(&mut text, self.base_layers + self.layers.len());
        }
        if !self.config_residue.is_empty() {
            text.push_str("\nhistory and configuration\n");
            self.config_residue.iter().for_each(|residue| residue.write(&mut text, 0));
        }
        self.write_waste(&mut text);
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
        self.write_linking(&mut text);
        let _ = writeln!(text, "{}", self.verdict());
        text
    }

    /// What it comes to, in a line.
    pub(crate) fn verdict(&self) -> String {
        match self.residue().count() as u64 {
            0 if self.is_clean() => "clean: everything above the base is accounted for".into(),
            0 => "no residue, but a program or library lacks what it needs".into(),
            residue => format!("residue: {}, {}", count(residue, "entry"), size(self.residue().map(|r| r.bytes).sum())),
        }
    }
}

impl Report {
    fn write_linking(&self, text: &mut String) {
        let LinkingReport { files, faults, plugins, allowed } = &self.linking;
        if *files == 0 {
            return;
        }
        let files = if *files == 1 { "1 program or library".to_string() } else { format!("{files} programs and libraries") };
        let mut more = String::new();
        if *allowed > 0 {
            let _ = write!(more, "; {} of what may be missing is", count(*allowed as u64, "piece"));
        }
        if !plugins.is_empty() {
            let names: BTreeSet<&String> = plugins.iter().map(|plugin| &plugin.at).collect();
            let _ = write!(more, "; {} cannot be loaded (--json says why)", count(names.len() as u64, "plugin"));
        }
        if faults.is_empty() {
            let _ = writeln!(text, "linking: {files}, nothing is missing{more}");
            return;
        }
        let _ = writeln!(text, "linking: {files}, {}{more}", count(faults.len() as u64, "fault"));
        let (named, rest) = faults.split_at(faults.len().min(MOST_RESIDUE));
        named.iter().for_each(|fault| fault.write(text));
        if !rest.is_empty() {
            let _ = writeln!(text, "    … and {} more (--json names all)", rest.len());
        }
    }

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
        let row = |file: &Unseen| {
            (format!("layer {} {} ({})", file.layer, file.path, file.why.word()), Share { files: 1, bytes: file.bytes, folders: 0 })
        };
        table(text, "the largest", &self.waste.largest.iter().map(row).collect::<Vec<_>>());
    }
}

impl LayerReport {
    /// Every row. Each member of the layer's tar is in one of them.
    fn rows(&self) -> impl Iterator<Item = Share> {
        let packages = self.packages.iter().map(|package| package.share);
        let generated = self.generated.iter().map(|rule| rule.share);
        packages.chain(generated).chain([self.restored, self.marks, self.ignored]).chain(self.residue.iter().map(Residue::share))
    }

    /// Makes the totals what the rows say.
    pub(crate) fn add_up(&mut self) {
        let Share { files, bytes, folders } = self.rows().sum();
        (self.files, self.file_bytes, self.folders) = (files, bytes, folders);
    }

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
            rows.push((format!("{} more", rest.len()), rest.iter().map(|package| package.share).sum()));
        }
        table(text, "from packages", &rows);
        let rows: Vec<_> = self.generated.iter().map(|r| (r.rule.to_string(), r.share)).collect();
        table(text, "generated by packages, by rule", &rows);
        let rows = |rows: &[(&str, Share)]| -> Vec<(String, Share)> {
            rows.iter().filter(|(_, share)| *share != Share::default()).map(|(name, share)| (name.to_string(), *share)).collect()
        };
        table(text, "as in the base", &rows(&[("restored", self.restored)]));
        let of_tar = [("marks of folders that hide what is below", self.marks), ("members that are nothing once unpacked", self.ignored)];
        table(text, "of the tar itself", &rows(&of_tar));
        self.notes.iter().for_each(|note| {
            let _ = writeln!(text, "  note: {}: {}", shown(&note.at), note.note);
        });
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
    /// As a row of its layer. What is found inside of a file is no entry of its own.
    fn share(&self) -> Share {
        let mut share = Share::default();
        if !matches!(self.rule, "rpm-database-key" | "trailing") {
            share.count(self.kind == "folder", self.bytes);
        }
        share
    }

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
        let folders = if share.folders > 0 { format!("  {:>4} folders", share.folders) } else { String::new() };
        let folders = if share.folders == 1 { folders.replace("folders", "folder") } else { folders };
        let _ = writeln!(text, "    {name}{pad}  {:>6}  {:>9}{folders}", share.files, size(share.bytes));
    }
}
