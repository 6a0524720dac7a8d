//! The audit: every entry of every layer above the base against the image's own package database.
//!
//! An entry is accounted for, in this order, if
//! 1. it is as in the base (restored);
//! 2. an installed package's file list names it, of dpkg's or rpm's database, and where the database
//!    knows its content (rpm's does), that is what is there; or it is a folder that rpm made for such a file;
//! 3. a rule of what packages generate takes it, and no rule of residue does.
//!
//! All else is residue, and named. So is what only builders need (`leaks.rs`), whatever of 2 and 3 accounts for it. Programs and
//! libraries must find what they need of each other (`linking.rs`).

pub(crate) mod installed;
mod linking;
mod reading;
mod words;

use crate::image::{Config, Entry, Image, Kind, Layer, Want};
use crate::leaks::{Allowed, Leaks};
use crate::page::{self, Seen};
use crate::path::{self, join, name, parent, shown};
use crate::report::{LayerReport, LinkingReport, Note, PackageShare, Report, Residue, RuleShare, Share, Unlinked};
use crate::rules::{self, Check, RESIDUE, Rule, WHITEOUTS_ALLOWED};
use crate::tree::{Node, Tree};
use crate::waste::Waste;
use installed::{Installed, Package};
use linking::Links;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use twostage_model::names::{BASE_LABEL, REPLACES_LABEL};
use twostage_model::shown::{count, size};
use twostage_model::{Class, Error, Format, Result, Sha256};
use twostage_package::rpmdb::Expected;

/// What systemd writes into `/etc/machine-id` where it is to be made at the first start.
const NOT_YET: &[u8] = b"uninitialized\n";

/// Which layers are the base's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// So many, from the lowest.
    Layers(usize),
    /// All up to the one with this diff_id.
    DiffId(Sha256),
    /// As [`Base::DiffId`], which stands in the image's label `twostage.base`.
    Label,
    /// None: every layer is judged.
    None,
}

/// What the project file accounts for in the image's configuration.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Names of environment variables that it sets.
    pub env: BTreeSet<String>,
    /// Labels that it sets.
    pub labels: BTreeSet<String>,
    /// What only its builders need.
    pub leaks: Leaks,
    /// Names of packages that the project makes: their plugins must find what they need, and so must those that load theirs.
    pub own: BTreeSet<String>,
    /// Patterns of paths that may lack libraries, versions and symbols, as [`crate::rules::matches`] reads them.
    pub unlinked: Vec<String>,
}

pub use reading::audit_store;

/// The files whose contents an audit looks into: for [`crate::read_archive`]'s `keep`.
pub fn wanted(path: &str) -> Want {
    if looked_into(path) { Want::Content } else { Want::Facts }
}

fn looked_into(path: &str) -> bool {
    match path.strip_prefix("var/lib/dpkg/") {
        Some("status" | "diversions") => true,
        Some(rest) => match rest.split_once('/') {
            Some(("info", name)) => [".list", ".md5sums", ".conffiles", ".triggers"].iter().any(|ending| name.ends_with(ending)),
            Some(("alternatives" | "status.d", name)) => !name.contains('/'),
            _ => false,
        },
        None => {
            installed::wanted(path)
                || path == "etc/passwd"
                || linking::is_configuration(path)
                || path == "var/lib/ucf/registry"
                || (path.starts_with("usr/lib/tmpfiles.d/") && path.ends_with(".conf"))
        }
    }
}

/// Audits an image that was read with [`wanted`].
///
/// # Errors
/// A base that is not in the image, or a package database that cannot be read. Residue is no
/// error: it is in the report.
pub fn audit(image: &Image, base: Base) -> Result<Report> {
    audit_with(image, base, &Known::default())
}

/// [`audit`], with what the project file accounts for.
///
/// # Errors
/// As [`audit`].
pub fn audit_with(image: &Image, base: Base, known: &Known) -> Result<Report> {
    let base_layers = find_base(&image.config, base)?;
    let states = States::of(image, base_layers)?;
    report(image, base_layers, known, &states, Links::of(image, base_layers))
}

/// What is installed in the base, and after each layer above it that changes that.
struct States {
    before: Installed,
    /// With the number of the layer, from 0.
    after: Vec<(usize, Installed)>,
}

impl States {
    fn of(image: &Image, base_layers: usize) -> Result<States> {
        let (below, above) = image.layers.split_at(base_layers);
        let mut tree = Tree::new(below);
        let mut states = States { before: Installed::read(&tree)?, after: Vec::new() };
        for (number, layer) in (base_layers..).zip(above) {
            tree.apply(layer, number);
            if !installed::changed(layer).is_empty() {
                states.after.push((number, Installed::read(&tree)?));
            }
        }
        Ok(states)
    }

    fn all(&self) -> impl Iterator<Item = &Installed> {
        self.after.iter().map(|(_, state)| state).chain([&self.before])
    }

    /// The last one, and those before it that a layer made.
    fn now(&self) -> (&Installed, Vec<&Installed>) {
        match self.after.split_last() {
            Some(((_, now), earlier)) => (now, earlier.iter().map(|(_, state)| state).collect()),
            None => (&self.before, Vec::new()),
        }
    }

    /// Keys in the rpm database that a layer brings.
    fn keys(&self, number: usize) -> Vec<Residue> {
        let Some(at) = self.after.iter().position(|(of, _)| *of == number) else { return Vec::new() };
        let before = at.checked_sub(1).map_or(&self.before, |earlier| &self.after[earlier].1);
        self.after[at].1.keys(before, number + 1)
    }
}

fn report(image: &Image, base_layers: usize, known: &Known, states: &States, links: Links) -> Result<Report> {
    let (below, above) = image.layers.split_at(base_layers);
    let base_tree = Tree::new(below);
    let mut tree = base_tree.clone();
    (base_layers..).zip(above).for_each(|(number, layer)| tree.apply(layer, number));
    let before = &states.before;
    let (now, earlier) = states.now();
    let leaks = known.leaks.without(&allowed(below, states.all(), &known.leaks));
    let view = View { leaks, ..View::new(&base_tree, &tree, now, before, &earlier) };
    let mut lower = base_tree.clone();
    let mut layers = Vec::new();
    for (number, layer) in (base_layers..).zip(above) {
        layers.push(view.layer(layer, number + 1, &lower, states.keys(number)));
        lower.apply(layer, number);
    }
    let had: BTreeSet<_> = before.packages().iter().map(Package::identity).collect();
    let (waste, unseen) = Waste::and_files(&image.layers, 0);
    Ok(Report {
        image: image.id.to_string(),
        tags: image.tags.clone(),
        base_layers,
        packages_installed: view.packages.len(),
        packages_added: view.packages.iter().filter(|package| !had.contains(&package.identity())).count(),
        layers,
        replaces: image.config.labels.get(REPLACES_LABEL).into_iter().flat_map(|names| names.split(' ')).map(String::from).collect(),
        looked_for: known.leaks.looked_for(),
        linking: view.linking(links, known),
        config_residue: words::residue(&image.config, base_layers, known),
        waste,
        unseen,
    })
}

/// Contents that the base has, or that a package brings which images may have.
fn allowed<'i>(below: &[Layer], states: impl Iterator<Item = &'i Installed>, leaks: &Leaks) -> Allowed {
    let mut allowed = Allowed::default();
    if leaks.looked_for().is_none() {
        return allowed;
    }
    below.iter().flat_map(|layer| &layer.entries).for_each(|entry| allowed.entry(entry));
    for package in states.flat_map(Installed::packages).filter(|package| !leaks.has(package.format, package.name)) {
        package.files().iter().filter_map(|(_, expected)| expected.as_ref()).for_each(|expected| allowed.expected(expected));
    }
    allowed
}

fn find_base(config: &Config, base: Base) -> Result<usize> {
    let diff_ids = &config.diff_ids;
    let up_to = |wanted: Sha256| {
        let at = diff_ids.iter().position(|diff_id| *diff_id == wanted);
        at.map(|at| at + 1).ok_or_else(|| {
            Error::new(Class::Usage, format!("the image is not built on that base: no layer has the diff_id {wanted}"))
                .hint("name the base that the image was built on, or audit every layer")
        })
    };
    match base {
        Base::None => Ok(0),
        Base::Layers(count) if count <= diff_ids.len() => Ok(count),
        Base::Layers(count) => {
            Err(Error::new(Class::Usage, format!("the image has {} layers, so {count} cannot be its base's", diff_ids.len())))
        }
        Base::DiffId(diff_id) => up_to(diff_id),
        Base::Label => match config.labels.get(BASE_LABEL) {
            Some(diff_id) => up_to(diff_id.parse()?),
            None => Err(Error::new(Class::Usage, format!("the image has no label {BASE_LABEL}, so its base is not known"))
                .hint("name the base, or audit every layer")),
        },
    }
}

/// What is said of one entry.
enum Verdict {
    /// As in the base.
    Restored,
    /// A folder that only stands above other entries.
    Folder,
    /// A mark that deletes nothing that an image should have.
    Mark,
    /// Of the package with this number.
    Package(usize),
    /// A folder that was made for a file of the package with this number, and a word on that.
    Made(usize, String),
    /// Generated.
    Rule(&'static Rule),
    /// Nothing accounts for it: rule and reason.
    Residue(&'static str, String),
}

/// Everything that an entry is judged by.
struct View<'v, 'a> {
    base: &'v Tree<'a>,
    tree: &'v Tree<'a>,
    packages: Vec<Package<'v>>,
    /// Real path to who has it.
    owners: HashMap<String, Owner>,
    /// Folders above files of rpms that are in no package's list, to the first of those files and its package.
    made: HashMap<String, (usize, String)>,
    /// Real paths that packages own but do not bring.
    ghosts: BTreeSet<String>,
    /// Packages that are in the base in the same version.
    unchanged: BTreeSet<usize>,
    /// Real paths of files of packages that are gone, to their names.
    gone: HashMap<String, (Format, &'v str)>,
    /// `info/` names of installed packages.
    info: BTreeSet<&'v str>,
    /// Paths of alternatives' links.
    alternatives: BTreeSet<String>,
    homes: BTreeSet<String>,
    /// Paths in ucf's registry, of installed packages.
    ucf: BTreeSet<String>,
    /// Paths that packages' tmpfiles.d name.
    tmpfiles: BTreeSet<String>,
    /// The rules whose packages are installed.
    rules: Vec<&'static Rule>,
    /// What only builders need, without what else has the same content.
    leaks: Leaks,
}

/// Who has a path.
struct Owner {
    /// The number of the package; of several, the first.
    package: usize,
    /// What one of them expects there; empty if one does not say.
    expected: Vec<Expected>,
}

impl<'v, 'a> View<'v, 'a> {
    fn new(base: &'v Tree<'a>, tree: &'v Tree<'a>, now: &'v Installed, before: &'v Installed, earlier: &[&'v Installed]) -> Self {
        let packages = now.packages();
        let mut real = Canonical::new(tree);
        let mut owners: HashMap<String, Owner> = HashMap::new();
        let mut ghosts = BTreeSet::new();
        for (number, package) in packages.iter().enumerate() {
            for (file, expected) in package.files() {
                let diverted = now.dpkg.diversions.iter().find(|d| d.from == *file && d.by.as_deref() != Some(package.name));
                // dpkg's diversions are nothing to rpm.
                let file = diverted.filter(|_| package.format == Format::Deb).map_or(file, |d| &d.to);
                match owners.entry(real.path(&path::from_bytes(file))) {
                    Slot::Vacant(slot) => {
                        slot.insert(Owner { package: number, expected: expected.into_iter().collect() });
                    }
                    Slot::Occupied(mut slot) => match expected {
                        Some(expected) if !slot.get().expected.is_empty() => slot.get_mut().expected.push(expected),
                        _ => slot.get_mut().expected.clear(),
                    },
                }
            }
            ghosts.extend(package.ghosts().map(|path| real.path(&path::from_bytes(path))));
        }
        let mut made: HashMap<String, (usize, String)> = HashMap::new();
        let mut brought: Vec<(&String, usize)> = owners.iter().map(|(path, owner)| (path, owner.package)).collect();
        brought.retain(|(path, package)| packages[*package].format == Format::Rpm && tree.get(path).is_some());
        brought.sort();
        for (path, package) in brought {
            let mut folder = parent(path);
            while !folder.is_empty() && !owners.contains_key(folder) && !made.contains_key(folder) {
                made.insert(folder.to_string(), (package, path.clone()));
                folder = parent(folder);
            }
        }
        let had: BTreeSet<_> = before.packages().iter().map(|package| (package.identity(), package.version)).collect();
        let unchanged = packages.iter().enumerate().filter(|(_, package)| had.contains(&(package.identity(), package.version)));
        let mut gone = HashMap::new();
        for package in earlier.iter().flat_map(|state| state.packages()).chain(before.packages()) {
            let files = package.files().into_iter().map(|(file, _)| path::from_bytes(file));
            for file in files.chain(package.info().1) {
                let file = real.path(&file);
                if !owners.contains_key(&file) {
                    gone.entry(file).or_insert((package.format, package.name));
                }
            }
        }
        let mut alternatives = BTreeSet::new();
        for (link, at) in now.dpkg.alternatives.iter().flat_map(|group| &group.links).chain(&now.rpm_links) {
            alternatives.insert(format!("etc/alternatives/{link}"));
            alternatives.insert(real.path(&path::from_bytes(at)));
        }
        let text = |path: &str| {
            let bytes = tree.resolve(path).and_then(|(_, node)| node.entry?.content.as_deref()).unwrap_or_default();
            String::from_utf8_lossy(bytes)
        };
        // "openssh-server      /etc/ssh/sshd_config"
        let registry = text("var/lib/ucf/registry");
        let named = registry.lines().filter_map(|line| line.split_once(char::is_whitespace));
        let named = named.filter(|(package, _)| packages.iter().any(|p| p.name == *package));
        let ucf = named.map(|(_, path)| real.path(path.trim().trim_start_matches('/'))).collect();
        let passwd = text("etc/passwd");
        let homes = passwd.lines().filter_map(|line| line.split(':').nth(5)).filter(|home| home.len() > 1);
        let mut tmpfiles = BTreeSet::new();
        for (_, node) in tree.below("usr/lib/tmpfiles.d").filter(|(path, _)| owners.contains_key(*path)) {
            let text = String::from_utf8_lossy(node.entry.and_then(|entry| entry.content.as_deref()).unwrap_or_default());
            for line in text.lines() {
                // "d /var/lib/x 0755 root root -": a letter for what, marks, a path.
                let mut words = line.split_whitespace();
                if let (Some(what), Some(at)) = (words.next(), words.next())
                    && what.starts_with(['d', 'D', 'v', 'q', 'Q', 'L'])
                    && let Some(at) = at.strip_prefix('/')
                {
                    tmpfiles.insert(real.path(at.trim_end_matches('/')));
                }
            }
        }
        let installed = |rule: &&Rule| packages.iter().any(|p| rule.by.iter().any(|by| rules::name_matches(by, p.name)));
        View {
            unchanged: unchanged.map(|(number, _)| number).collect(),
            info: packages.iter().filter_map(|p| Some([p.info().0?, p.name])).flatten().collect(),
            homes: homes.map(|home| real.path(home.trim_matches('/'))).collect(),
            rules: rules::generated().filter(installed).collect(),
            base,
            tree,
            packages,
            owners,
            made,
            ghosts,
            gone,
            alternatives,
            tmpfiles,
            ucf,
            leaks: Leaks::default(),
        }
    }

    /// What is missing for programs and libraries, but for those that may lack something.
    fn linking(&self, links: Links, known: &Known) -> LinkingReport {
        let owner = |path: &str| self.owners.get(path).map(|owner| self.packages[owner.package].name);
        let is_own = |path: &String| owner(path).is_some_and(|name| known.own.contains(name));
        let mut report = LinkingReport { files: links.judged, ..LinkingReport::default() };
        for fault in links.faults {
            let is_allowed = known.unlinked.iter().any(|pattern| rules::matches(pattern.trim_start_matches('/'), &fault.file));
            let is_others = !fault.plugin.is_empty() && !fault.plugin.iter().any(is_own);
            let unlinked = Unlinked::of(owner(&fault.file).map(String::from), fault);
            match (is_allowed, is_others) {
                (true, _) => report.allowed += 1,
                (false, true) => report.plugins.push(unlinked),
                (false, false) => report.faults.push(unlinked),
            }
        }
        report
    }

    fn layer(&self, layer: &'a Layer, number: usize, lower: &Tree<'a>, keys: Vec<Residue>) -> LayerReport {
        let mut report = LayerReport {
            layer: number,
            diff_id: layer.diff_id.to_string(),
            bytes: layer.size,
            formats: installed::changed(layer),
            residue: keys,
            ..LayerReport::default()
        };
        let mut packages: BTreeMap<usize, Share> = BTreeMap::new();
        let mut generated: BTreeMap<&str, (Share, &Rule)> = BTreeMap::new();
        let own = Tree::new(std::slice::from_ref(layer));
        for entry in &layer.entries {
            let (folder, bytes) = (entry.is_dir(), entry.size());
            let verdict = match entry.kind {
                Kind::Whiteout | Kind::OpaqueWhiteout => whiteout(entry, lower),
                _ => self.judge(entry, self.file_of(entry, &own)),
            };
            let verdict = self.gate(entry, verdict);
            if let Kind::File { size, .. } = entry.kind {
                report.seen.push(self.seen(&entry.path, size, &verdict));
            }
            match verdict {
                Verdict::Restored | Verdict::Folder => report.restored.count(folder, bytes),
                Verdict::Mark => report.marks.add(bytes),
                Verdict::Package(number) => packages.entry(number).or_default().count(folder, bytes),
                Verdict::Made(number, note) => {
                    packages.entry(number).or_default().count(folder, bytes);
                    report.notes.push(Note { at: format!("/{}", entry.path), note });
                }
                Verdict::Rule(rule) => generated.entry(rule.name).or_insert((Share::default(), rule)).0.count(folder, bytes),
                Verdict::Residue(rule, reason) => report.residue.push(residue(number, entry, rule, reason)),
            }
        }
        report.ignored = Share { files: layer.ignored.notes, bytes: 0, folders: layer.ignored.folders_again };
        if layer.ignored.trailing > 0 {
            report.residue.push(Residue {
                layer: Some(number),
                at: "/".into(),
                kind: "file",
                bytes: layer.ignored.trailing,
                rule: "trailing",
                reason: "bytes stand behind the end of the layer's tar, where nobody looks".into(),
            });
        }
        for one in &layer.ignored.duplicates {
            report.residue.push(Residue {
                layer: Some(number),
                at: format!("/{}", one.path),
                kind: "file",
                bytes: one.bytes,
                rule: "duplicate",
                reason: "the layer's tar holds it more than once, and only the last is ever seen".into(),
            });
            report.seen.push(Seen {
                path: one.path.clone(),
                bytes: one.bytes,
                class: page::Class::Residue,
                by: "twice in one layer".into(),
            });
        }
        report.residue.sort_by(|a, b| (&a.at, a.rule).cmp(&(&b.at, b.rule)));
        report.packages = packages
            .into_iter()
            .filter_map(|(number, share)| {
                let package = self.packages.get(number)?;
                Some(PackageShare {
                    name: package.name.into(),
                    version: package.version.into(),
                    arch: package.arch.into(),
                    format: package.format,
                    share,
                })
            })
            .collect();
        report.packages.sort_by(|a, b| (b.share.bytes, &a.name, &a.arch).cmp(&(a.share.bytes, &b.name, &b.arch)));
        report.generated = generated.into_values().map(|(share, rule)| RuleShare { rule: rule.name, what: rule.what, share }).collect();
        report.add_up();
        report
    }

    /// The verdict, unless the entry is of something that only builders need.
    fn gate(&self, entry: &Entry, verdict: Verdict) -> Verdict {
        const RULE: &str = "build-dependency";
        match &verdict {
            // The base is as it was chosen; and a deletion ships nothing.
            Verdict::Restored | Verdict::Folder | Verdict::Mark | Verdict::Made(..) => return verdict,
            _ if matches!(entry.kind, Kind::Whiteout | Kind::OpaqueWhiteout) => return verdict,
            Verdict::Package(number) => {
                let leaked = self.packages.get(*number).filter(|package| self.leaks.has(package.format, package.name));
                if let Some(package) = leaked.filter(|_| !entry.is_dir() && !self.unchanged.contains(number)) {
                    let reason = format!("belongs to {} {}, which only a builder needs", package.name, package.version);
                    return Verdict::Residue(RULE, reason);
                }
            }
            Verdict::Residue(..) => {
                let gone = self.gone.get(&entry.path).filter(|(format, name)| self.leaks.has(*format, name));
                if let Some((_, name)) = gone.filter(|_| !entry.is_dir() && self.leaks.owner_of(entry).is_none()) {
                    return Verdict::Residue(RULE, format!("belonged to {name}, which only a builder needs"));
                }
            }
            Verdict::Rule(_) => {}
        }
        match self.leaks.owner_of(entry) {
            Some((package, path)) if path == entry.path => {
                Verdict::Residue(RULE, format!("is a file of {package}, which only a builder needs"))
            }
            Some((package, path)) => {
                Verdict::Residue(RULE, format!("has the content of /{} of {package}, which only a builder needs", shown(path)))
            }
            None => verdict,
        }
    }

    /// For the page.
    fn seen(&self, path: &str, bytes: u64, verdict: &Verdict) -> Seen {
        let (class, by) = match verdict {
            Verdict::Restored | Verdict::Folder | Verdict::Mark => (page::Class::Restored, String::new()),
            Verdict::Package(number) | Verdict::Made(number, _) => {
                let package = self.packages.get(*number);
                (page::Class::Package, package.map(|package| format!("{} {}", package.name, package.version)).unwrap_or_default())
            }
            Verdict::Rule(rule) => (page::Class::Generated, rule.name.to_string()),
            Verdict::Residue(_, reason) => (page::Class::Residue, reason.clone()),
        };
        Seen { path: path.to_string(), bytes, class, by }
    }

    /// The file that a hard link names: in its own layer, else in the image.
    fn file_of<'e>(&self, entry: &'e Entry, own: &Tree<'e>) -> &'e Entry
    where
        'a: 'e,
    {
        match &entry.kind {
            Kind::Hardlink { target } => {
                let in_tree = |tree: &Tree<'e>| tree.get(target)?.entry.filter(|file| matches!(file.kind, Kind::File { .. }));
                in_tree(own).or_else(|| in_tree(self.base)).or_else(|| in_tree(self.tree)).unwrap_or(entry)
            }
            _ => entry,
        }
    }

    /// `file` is the entry, or for a hard link what it names.
    fn judge(&self, entry: &Entry, file: &Entry) -> Verdict {
        let path = entry.path.as_str();
        let below = self.base.get(path);
        if below.is_some_and(|node| same(node, file)) || path.is_empty() {
            return if entry.is_dir() { Verdict::Folder } else { Verdict::Restored };
        }
        if let Some(owner) = self.owners.get(path) {
            let package = self.packages[owner.package].name;
            let (rule, reason) = if below.is_some() && self.unchanged.contains(&owner.package) && !entry.is_dir() {
                ("base-file-changed", format!("changed a file of {package}, which the base had installed already"))
            } else if !installed::as_expected(&owner.expected, file) {
                ("package-file-changed", format!("is not what {package} brought"))
            } else {
                return Verdict::Package(owner.package);
            };
            return self.rule(entry, file).map_or(Verdict::Residue(rule, reason), Verdict::Rule);
        }
        let tmpfiles = |rule: &&Rule| rule.check == Check::Tmpfiles && self.check(rule.check, entry, file);
        if let Some(rule) = self.rules.iter().copied().find(|rule| tmpfiles(rule)) {
            return Verdict::Rule(rule);
        }
        for rule in RESIDUE {
            // An empty folder is no log.
            if rule.files_only && entry.is_dir() {
                continue;
            }
            if rules::any(rule.paths, path) && !rules::any(rule.except, path) && !(rule.content_only && is_blank(file)) {
                return Verdict::Residue(rule.name, rule.reason.into());
            }
        }
        if let Some(rule) = self.rule(entry, file) {
            return Verdict::Rule(rule);
        }
        if below.is_none()
            && let Some((package, file)) = self.made_for(entry)
        {
            let Package { name, version, .. } = self.packages[package];
            return Verdict::Made(package, format!("no package lists it; rpm made it for {} of {name} {version}", shown(&file)));
        }
        match (below, self.gone.get(path)) {
            (Some(node), _) if node.is_dir() && entry.is_dir() => {
                Verdict::Residue("base-file-changed", "changed the owner or the rights of a folder of the base".into())
            }
            (Some(_), _) => Verdict::Residue("base-file-changed", "changed a file of the base".into()),
            (None, Some((_, package))) => {
                Verdict::Residue("package-gone", format!("belongs to {package}, which is no longer installed, but still shipped"))
            }
            (None, None) => Verdict::Residue("unaccounted", "no installed package, rule or project file accounts for it".into()),
        }
    }

    /// The rpm, and its file, for which a folder was made that no package lists: with root's rights, as rpm makes such.
    fn made_for(&self, entry: &Entry) -> Option<(usize, String)> {
        let as_made = entry.is_dir() && entry.mode == 0o755 && (entry.uid, entry.gid) == (0, 0) && entry.xattrs.is_empty();
        let (package, file) = self.made.get(&entry.path).filter(|_| as_made)?;
        Some((*package, format!("/{file}")))
    }

    fn rule(&self, entry: &Entry, file: &Entry) -> Option<&'static Rule> {
        self.rules.iter().copied().find(|rule| rules::any(rule.paths, &entry.path) && self.check(rule.check, entry, file))
    }

    fn check(&self, check: Check, entry: &Entry, file: &Entry) -> bool {
        let path = entry.path.as_str();
        let is_file = matches!(file.kind, Kind::File { .. });
        let target = match &entry.kind {
            Kind::Symlink { target } => Some(target.as_str()),
            _ => None,
        };
        match check {
            Check::Anything => true,
            Check::File => is_file,
            Check::Folder => entry.is_dir(),
            Check::Empty => is_file && is_blank(file),
            Check::LinkToOwned => target.is_some() && self.tree.resolve(path).is_some_and(|(real, _)| self.owners.contains_key(&real)),
            Check::LinkToNull => target == Some("/dev/null"),
            Check::DpkgInfo => name(path).rsplit_once('.').is_some_and(|(package, _)| self.info.contains(package)),
            Check::Alternative => target.is_some() && self.alternatives.contains(path),
            Check::ByteCode => self.is_byte_code(entry),
            Check::FolderOwned => is_file && self.owners.contains_key(parent(path)),
            Check::UnitState => {
                let unit = name(path).trim_end_matches(".dsh-also");
                let places = ["usr/lib/systemd/system", "usr/lib/systemd/user", "etc/systemd/system", "etc/init.d"];
                places.iter().any(|place| self.owners.contains_key(&self.tree.canonical(&join(place, unit))))
                    || self.tree.resolve(&format!("etc/systemd/system/{unit}")).is_some_and(|(real, _)| self.owners.contains_key(&real))
            }
            Check::Home => entry.is_dir() && self.homes.contains(path),
            Check::Skeleton => {
                let home = self.homes.iter().find_map(|home| path.strip_prefix(home.as_str())?.strip_prefix('/'));
                let skeleton = home.and_then(|rest| self.tree.get(&format!("etc/skel/{rest}"))).and_then(|node| node.entry);
                skeleton.is_some_and(|skeleton| same_content(skeleton, file))
            }
            Check::Ghost => self.ghosts.contains(path),
            Check::Ucf => is_file && self.ucf.contains(path),
            // What is in /run is made anew at each start, so that none of it needs to be in an image.
            Check::Tmpfiles => (entry.is_dir() || target.is_some()) && !path.starts_with("run/") && self.tmpfiles.contains(path),
            Check::SameAsOriginal => {
                let original = path.strip_suffix('-').and_then(|path| self.tree.get(path)).and_then(|node| node.entry);
                is_file && original.is_some_and(|original| same_content(original, file))
            }
        }
    }

    /// `x/__pycache__/m.cpython-311.pyc` is of `x/m.py`; the folder is if `x` is a package's.
    fn is_byte_code(&self, entry: &Entry) -> bool {
        let path = entry.path.as_str();
        if entry.is_dir() {
            return name(path) == "__pycache__" && self.owners.contains_key(parent(path));
        }
        let module = name(path).split('.').next().unwrap_or_default();
        let source = join(parent(parent(path)), &format!("{module}.py"));
        path.ends_with(".pyc") && name(parent(path)) == "__pycache__" && self.owners.contains_key(&source)
    }
}

/// A deletion. overlayfs marks every new folder opaque, so that engines write such marks where
/// there is nothing below: these delete nothing and are no residue.
fn whiteout(entry: &Entry, lower: &Tree<'_>) -> Verdict {
    let path = entry.path.as_str();
    let hidden: Vec<&Node<'_>> = match entry.kind {
        Kind::Whiteout => lower.get(path).into_iter().chain(lower.below(path).map(|(_, node)| node)).collect(),
        _ => lower.below(path).map(|(_, node)| node).collect(),
    };
    if rules::any(WHITEOUTS_ALLOWED, path) || (hidden.is_empty() && entry.kind == Kind::OpaqueWhiteout) {
        return Verdict::Mark;
    }
    let bytes: u64 = hidden.iter().filter_map(|node| node.entry).map(Entry::size).sum();
    Verdict::Residue("whiteout", format!("deletes what a layer below still ships ({}, {})", count(hidden.len(), "path"), size(bytes)))
}

/// Real paths of many files; each folder is looked up once.
pub(crate) struct Canonical<'t, 'a> {
    tree: &'t Tree<'a>,
    folders: HashMap<String, String>,
}

impl<'t, 'a> Canonical<'t, 'a> {
    pub(crate) fn new(tree: &'t Tree<'a>) -> Self {
        Canonical { tree, folders: HashMap::new() }
    }

    pub(crate) fn path(&mut self, path: &str) -> String {
        let folder = parent(path);
        if folder.is_empty() {
            return path.to_string();
        }
        if !self.folders.contains_key(folder) {
            // A name below makes the folder's own link be followed too.
            let real = self.tree.canonical(&format!("{folder}/x"));
            self.folders.insert(folder.to_string(), parent(&real).to_string());
        }
        join(self.folders.get(folder).map_or(folder, String::as_str), name(path))
    }
}

/// Whether the base has this entry with the same content, owner and rights. Times do not count.
fn same(node: &Node<'_>, entry: &Entry) -> bool {
    let Some(there) = node.entry else { return entry.is_dir() };
    let rights = |e: &Entry| (e.mode, e.uid, e.gid);
    let link = matches!(entry.kind, Kind::Symlink { .. });
    same_content(there, entry) && there.xattrs == entry.xattrs && (link || rights(there) == rights(entry))
}

/// Whether both are the same thing, whatever its rights. (Of one file with two names the digest may not be known.)
fn same_content(a: &Entry, b: &Entry) -> bool {
    std::ptr::eq(a, b) || a.kind == b.kind
}

/// Whether a file says nothing: empty, or systemd's word for "not yet".
fn is_blank(file: &Entry) -> bool {
    match &file.kind {
        Kind::File { size, sha256 } => *size == 0 || (*size == NOT_YET.len() as u64 && *sha256 == Sha256::of(NOT_YET)),
        Kind::Symlink { .. } => true,
        _ => false,
    }
}

fn residue(layer: usize, entry: &Entry, rule: &'static str, reason: String) -> Residue {
    let kind = match entry.kind {
        Kind::File { .. } => "file",
        Kind::Dir => "folder",
        Kind::Symlink { .. } | Kind::Hardlink { .. } => "link",
        Kind::Char { .. } | Kind::Block { .. } | Kind::Fifo => "device",
        Kind::Whiteout | Kind::OpaqueWhiteout => "whiteout",
    };
    let reason = match &entry.kind {
        Kind::Symlink { target } => format!("{reason} (-> {})", shown(target)),
        _ => reason,
    };
    Residue { layer: Some(layer), at: format!("/{}", entry.path), kind, bytes: entry.size(), rule, reason }
}
