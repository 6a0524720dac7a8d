//! A report as one page that needs nothing else: a map of each layer, in which area is bytes and
//! colour is what accounts for them.

use crate::image::{Image, Kind};
use crate::path::shown;
use crate::report::Report;
use crate::waste::Why;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use twostage_model::Result;
use twostage_model::error::OrFail as _;
use twostage_model::shown::{count, size};

const TEMPLATE: &str = include_str!("page/page.html");
/// What is smaller than this part of its layer is shown as one with its neighbours.
const SMALLEST: u64 = 2000;

/// What accounts for a file: what its colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The base, which is not judged.
    Base,
    /// An installed package.
    Package,
    /// A rule of what packages generate.
    Generated,
    /// As in the base.
    Restored,
    /// Nothing.
    Residue,
    /// A layer above deletes or replaces it.
    Hidden,
}

/// What the audit says of one file, for the map.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its path.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// What accounts for it.
    pub class: Class,
    /// The package, the rule, or the reason.
    pub by: String,
}

#[derive(Serialize)]
struct Page {
    image: String,
    tags: Vec<String>,
    clean: bool,
    verdict: String,
    layers: Vec<LayerMap>,
    linking: Vec<(String, String)>,
    config: Vec<(String, String)>,
}

#[derive(Serialize)]
struct LayerMap {
    number: usize,
    base: bool,
    step: String,
    bytes: u64,
    hidden: u64,
    classes: Vec<(Class, u64)>,
    tree: Node,
    /// Path, bytes, reason.
    residue: Vec<(String, u64, String)>,
    more_residue: usize,
    /// Name and version, files, bytes.
    packages: Vec<(String, u64, u64)>,
}

/// A folder or a file of the map.
#[derive(Serialize, Default)]
struct Node {
    #[serde(rename = "n")]
    name: String,
    #[serde(rename = "b")]
    bytes: u64,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    class: Option<Class>,
    #[serde(rename = "t", skip_serializing_if = "String::is_empty")]
    by: String,
    #[serde(rename = "k", skip_serializing_if = "Vec::is_empty")]
    children: Vec<Node>,
}

/// Lines of a table that the page shows.
const ROWS: usize = 200;

impl Report {
    /// The report as a page. `image` is the one that was audited.
    ///
    /// # Errors
    /// It cannot be put into JSON.
    pub fn to_html(&self, image: &Image) -> Result<String> {
        let hidden: HashMap<(usize, &str), Why> =
            self.unseen.iter().filter(|file| file.why != Why::Twice).map(|file| ((file.layer, file.path.as_str()), file.why)).collect();
        let steps: Vec<&str> = image.config.history.iter().filter(|step| !step.empty_layer).map(|step| step.created_by.as_str()).collect();
        let mut layers = Vec::new();
        for (number, layer) in image.layers.iter().enumerate() {
            let judged = number.checked_sub(self.base_layers).and_then(|above| self.layers.get(above));
            let seen: Vec<Seen> = match judged {
                Some(judged) => judged.seen.clone(),
                None => {
                    let files = layer.entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).map(base_file);
                    let twice = layer.ignored.duplicates.iter().map(|one| Seen {
                        path: one.path.clone(),
                        bytes: one.bytes,
                        class: Class::Hidden,
                        by: Why::Twice.word().into(),
                    });
                    files.chain(twice).collect()
                }
            };
            let seen = seen.into_iter().map(|file| match hidden.get(&(number + 1, format!("/{}", file.path).as_str())) {
                Some(why) if file.class != Class::Residue => Seen { class: Class::Hidden, by: why.word().into(), ..file },
                _ => file,
            });
            let residue = judged.map(|judged| judged.residue.as_slice()).unwrap_or_default();
            let files: Vec<Seen> = seen.collect();
            layers.push(LayerMap {
                number: number + 1,
                base: judged.is_none(),
                step: if steps.len() == image.layers.len() { shorten(steps[number]) } else { String::new() },
                bytes: files.iter().map(|file| file.bytes).sum(),
                hidden: self.waste.by_layer.get(number).map_or(0, |share| share.bytes),
                classes: classes(&files),
                tree: tree(&files),
                residue: residue.iter().take(ROWS).map(|r| (shown(&r.at), r.bytes, r.reason.clone())).collect(),
                more_residue: residue.len().saturating_sub(ROWS),
                packages: judged
                    .map(|judged| {
                        let row = |p: &crate::report::PackageShare| (format!("{} {}", p.name, p.version), p.share.files, p.share.bytes);
                        judged.packages.iter().take(ROWS).map(row).collect()
                    })
                    .unwrap_or_default(),
            });
        }
        let wasted = self.waste.total();
        let mut verdict = self.verdict();
        if wasted.bytes > 0 {
            verdict = format!("{verdict} \u{b7} {} shipped that nobody can see", size(wasted.bytes));
        }
        let page = Page {
            image: self.image.clone(),
            tags: self.tags.clone(),
            clean: self.is_clean(),
            verdict,
            layers,
            linking: self.linking.faults.iter().take(ROWS).map(|fault| (shown(&fault.at), fault.reason.clone())).collect(),
            config: self.config_residue.iter().map(|r| (r.at.clone(), r.reason.clone())).collect(),
        };
        let json = serde_json::to_string(&page).or_fail(twostage_model::Class::System, || "cannot write the page".into())?;
        // Inside <script>, where only `<` could end it.
        Ok(TEMPLATE.replace("\"@DATA@\"", &json.replace('<', "\\u003c")))
    }
}

fn base_file(entry: &crate::Entry) -> Seen {
    Seen { path: entry.path.clone(), bytes: entry.size(), class: Class::Base, by: String::new() }
}

/// An instruction, as it was written, cut to a line.
fn shorten(step: &str) -> String {
    let step = step.trim_start_matches("/bin/sh -c ").trim_start_matches("#(nop) ").trim();
    let words = step.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() > 160 { format!("{}\u{2026}", words.chars().take(160).collect::<String>()) } else { words }
}

fn classes(files: &[Seen]) -> Vec<(Class, u64)> {
    [Class::Base, Class::Package, Class::Generated, Class::Restored, Class::Hidden, Class::Residue]
        .into_iter()
        .map(|class| (class, files.iter().filter(|file| file.class == class).map(|file| file.bytes).sum()))
        .filter(|(_, bytes)| *bytes > 0)
        .collect()
}

#[derive(Default)]
struct Folder<'a> {
    files: Vec<(&'a str, &'a Seen)>,
    folders: BTreeMap<&'a str, Folder<'a>>,
}

fn tree(files: &[Seen]) -> Node {
    let mut root = Folder::default();
    for file in files.iter().filter(|file| file.bytes > 0) {
        let mut folder = &mut root;
        let mut rest = file.path.as_str();
        while let Some((first, below)) = rest.split_once('/') {
            folder = folder.folders.entry(first).or_default();
            rest = below;
        }
        folder.files.push((rest, file));
    }
    let all = files.iter().map(|file| file.bytes).sum::<u64>();
    root.node("", all / SMALLEST)
}

impl Folder<'_> {
    fn node(&self, name: &str, smallest: u64) -> Node {
        let mut children: Vec<Node> = self.folders.iter().map(|(name, folder)| folder.node(name, smallest)).collect();
        children.extend(self.files.iter().map(|(name, file)| Node {
            name: shown(name),
            bytes: file.bytes,
            class: Some(file.class),
            by: file.by.clone(),
            children: Vec::new(),
        }));
        let bytes = children.iter().map(|child| child.bytes).sum();
        // Small ones of one colour become one.
        let (mut kept, small): (Vec<Node>, Vec<Node>) = children.into_iter().partition(|child| child.bytes > smallest);
        let mut rest: Vec<(Class, u64, u64)> = Vec::new();
        small.iter().for_each(|node| node.sum(&mut rest));
        kept.extend(rest.into_iter().map(|(class, files, bytes)| Node {
            name: count(files, "smaller file"),
            bytes,
            class: Some(class),
            ..Node::default()
        }));
        kept.sort_by(|a, b| (b.bytes, &a.name).cmp(&(a.bytes, &b.name)));
        // A folder with one folder in it is one step.
        if let [only] = &mut kept[..]
            && only.class.is_none()
            && !name.is_empty()
        {
            let only = std::mem::take(only);
            return Node { name: format!("{}/{}", shown(name), only.name), ..only };
        }
        Node { name: shown(name), bytes, class: None, by: String::new(), children: kept }
    }
}

impl Node {
    fn sum(&self, into: &mut Vec<(Class, u64, u64)>) {
        if let Some(class) = self.class {
            // (What is one already was counted in its name.)
            let files = self.name.strip_suffix(" smaller files").and_then(|n| n.parse().ok()).unwrap_or(1);
            match into.iter_mut().find(|(other, ..)| *other == class) {
                Some((_, count, bytes)) => (*count, *bytes) = (*count + files, *bytes + self.bytes),
                None => into.push((class, files, self.bytes)),
            }
        }
        self.children.iter().for_each(|child| child.sum(into));
    }
}
