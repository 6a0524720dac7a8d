//! What several images cost together, on a node that has them all and on the wire to it: as they are,
//! each flat, flat on the base that they share, and split into layers by what they have in common.
//!
//! A flat image that shares a large middle with others stores it once more; a split one shares it, and
//! has one layer more. Which is cheaper is a sum, and here it is.

use crate::audit::installed::Installed;
use crate::image::{Entry, Image, Kind};
use crate::pack;
use crate::tree::Tree;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use twostage_model::shown::{count, size};
use twostage_model::{Result, Sha256};

/// One image, and what one byte of each of its layers is on the wire.
pub struct Planned {
    /// What it is called.
    pub name: String,
    /// The image, read with [`crate::wanted`].
    pub image: Image,
    /// For each layer, the bytes that it has on the wire.
    pub wire: Vec<u64>,
}

/// A way to cut the images into layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// `as-they-are`, `flat`, `shared-base`, `split`.
    pub name: &'static str,
    /// Bytes of all layers' tars, each once.
    pub node: u64,
    /// Bytes of all layers, compressed, each once.
    pub wire: u64,
    /// The most layers that one image has.
    pub layers: usize,
    /// Whether that is within the budget.
    pub fits: bool,
}

/// A layer of the split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The images that have it: their numbers, from 0.
    pub images: Vec<usize>,
    /// Bytes of its tar.
    pub bytes: u64,
    /// Paths in it.
    pub paths: usize,
    /// The packages that it holds, most bytes first.
    pub packages: Vec<String>,
}

/// The sum. Its serialised field names are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Names of the images.
    pub images: Vec<String>,
    /// Layers that all images have below, and that stay.
    pub base_layers: usize,
    /// The ways, in this order: as they are, flat, shared base, split.
    pub choices: Vec<Choice>,
    /// The number of the cheapest way on a node that fits.
    pub best: usize,
    /// The layers of the split above the base, largest first.
    pub parts: Vec<Part>,
    /// The most layers that an image may have.
    pub budget: usize,
}

/// One path as some images have it.
struct Item<'a> {
    images: BTreeSet<usize>,
    bytes: u64,
    wire: u64,
    package: Option<&'a str>,
}

/// A layer of the split in the making.
#[derive(Default)]
struct Group<'a> {
    bytes: u64,
    wire: u64,
    paths: usize,
    packages: BTreeMap<&'a str, u64>,
}

impl<'a> Group<'a> {
    fn add(&mut self, item: &Item<'a>) {
        self.bytes += item.bytes;
        self.wire += item.wire;
        self.paths += 1;
        if let Some(package) = item.package {
            *self.packages.entry(package).or_default() += item.bytes;
        }
    }

    fn merge(&mut self, other: &Group<'a>) {
        self.bytes += other.bytes;
        self.wire += other.wire;
        self.paths += other.paths;
        other.packages.iter().for_each(|(name, bytes)| *self.packages.entry(name).or_default() += bytes);
    }
}

/// Plans images with at most `budget` layers each.
///
/// # Errors
/// A package database cannot be read.
pub fn plan(images: &[Planned], budget: usize) -> Result<Plan> {
    let base_layers = shared_layers(images);
    let as_they_are = as_they_are(images);
    let base = images.first().map(|first| layer_sum(first, 0..base_layers)).unwrap_or_default();
    let trees: Vec<Tree<'_>> = images.iter().map(|planned| Tree::new(&planned.image.layers)).collect();
    let installed = trees.iter().map(Installed::read).collect::<Result<Vec<_>>>()?;
    let whole = items(images, &trees, &installed, 0);
    let above = items(images, &trees, &installed, base_layers);
    // Images that hold the same share their one layer.
    let flat = alone(&whole, images.len());
    let on_base = alone(&above, images.len());
    let groups = split(&above, images.len(), budget.saturating_sub(base_layers));
    let choice = |name, (node, wire): (u64, u64), layers| Choice { name, node, wire, layers, fits: layers <= budget };
    let most = (0..images.len()).map(|image| groups.keys().filter(|group| group.contains(&image)).count()).max().unwrap_or(0);
    let sum = groups.values().fold(base, |(node, wire), group| (node + group.bytes, wire + group.wire));
    let choices = vec![
        choice("as-they-are", as_they_are, images.iter().map(|planned| planned.image.layers.len()).max().unwrap_or(0)),
        choice("flat", flat, 1),
        choice("shared-base", (base.0 + on_base.0, base.1 + on_base.1), base_layers + 1),
        choice("split", sum, base_layers + most),
    ];
    // Of equally cheap ones the one with fewer layers.
    let best = (0..choices.len()).filter(|n| choices[*n].fits).min_by_key(|n| (choices[*n].node, choices[*n].layers)).unwrap_or(1);
    let mut parts: Vec<Part> = groups.into_iter().map(|(images, group)| part(images, group)).collect();
    parts.sort_by(|a, b| (b.bytes, &a.images).cmp(&(a.bytes, &b.images)));
    Ok(Plan { images: images.iter().map(|planned| planned.name.clone()).collect(), base_layers, choices, best, parts, budget })
}

fn part(images: BTreeSet<usize>, group: Group<'_>) -> Part {
    let mut packages: Vec<(&str, u64)> = group.packages.into_iter().collect();
    packages.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
    Part {
        images: images.into_iter().collect(),
        bytes: group.bytes,
        paths: group.paths,
        packages: packages.into_iter().map(|(name, _)| name.to_string()).collect(),
    }
}

/// How many of the lowest layers all images have.
fn shared_layers(images: &[Planned]) -> usize {
    let Some((first, others)) = images.split_first() else { return 0 };
    let same = |other: &Planned| {
        let pairs = first.image.config.diff_ids.iter().zip(&other.image.config.diff_ids);
        pairs.take_while(|(a, b)| a == b).count()
    };
    others.iter().map(same).min().unwrap_or(0)
}

fn layer_sum(planned: &Planned, layers: std::ops::Range<usize>) -> (u64, u64) {
    let node = planned.image.layers.get(layers.clone()).unwrap_or_default().iter().map(|layer| layer.size).sum();
    (node, planned.wire.get(layers).unwrap_or_default().iter().sum())
}

fn as_they_are(images: &[Planned]) -> (u64, u64) {
    let mut seen: HashMap<Sha256, (u64, u64)> = HashMap::new();
    for planned in images {
        for (layer, wire) in planned.image.layers.iter().zip(&planned.wire) {
            seen.insert(layer.diff_id, (layer.size, *wire));
        }
    }
    seen.values().fold((0, 0), |sum, (node, wire)| (sum.0 + node, sum.1 + wire))
}

/// All that the images hold above their lowest `from` layers, each path once for all images that have the
/// same there. (Deletions take a header each, which no sum here sees.)
fn items<'a>(images: &'a [Planned], trees: &[Tree<'a>], installed: &'a [Installed], from: usize) -> Vec<Item<'a>> {
    let mut all: BTreeMap<(&str, String), Item<'_>> = BTreeMap::new();
    for (number, (planned, tree)) in images.iter().zip(trees).enumerate() {
        let owners = owners(&installed[number]);
        for (path, node) in tree.iter().filter(|(path, node)| node.layer >= from && !path.is_empty()) {
            let Some(entry) = node.entry else { continue };
            let bytes = if node.linked { pack::link_length(path, &entry.path, entry) } else { pack::length(path, entry) };
            let size = planned.image.layers.get(node.home).map_or(1, |layer| layer.size.max(1));
            let wire = planned.wire.get(node.home).map_or(bytes, |wire| (u128::from(bytes) * u128::from(*wire) / u128::from(size)) as u64);
            let item = all.entry((path, identity(entry))).or_insert_with(|| Item {
                images: BTreeSet::new(),
                bytes,
                wire,
                package: owners.get(path.as_bytes()).copied(),
            });
            item.images.insert(number);
        }
    }
    all.into_values().collect()
}

fn owners(installed: &Installed) -> HashMap<&[u8], &str> {
    installed.packages().iter().flat_map(|package| package.files().into_iter().map(|(path, _)| (path, package.name))).collect()
}

/// What makes two entries of one path the same. Times do not count: a layer made anew has one of them.
fn identity(entry: &Entry) -> String {
    let what = match &entry.kind {
        Kind::File { sha256, .. } => sha256.known().map(|digest| digest.to_string()).unwrap_or_default(),
        other => format!("{other:?}"),
    };
    format!("{what} {:o} {}:{} {:?}", entry.mode, entry.uid, entry.gid, entry.xattrs)
}

/// One layer an image, which images that hold the same share.
fn alone(items: &[Item<'_>], images: usize) -> (u64, u64) {
    let mut layers: BTreeMap<Vec<usize>, (u64, u64)> = BTreeMap::new();
    for image in 0..images {
        let of: Vec<usize> = (0..items.len()).filter(|item| items[*item].images.contains(&image)).collect();
        let sum = of.iter().fold((0, 0), |sum, item| (sum.0 + items[*item].bytes, sum.1 + items[*item].wire));
        if !of.is_empty() {
            layers.insert(of, (sum.0 + pack::END, sum.1));
        }
    }
    layers.values().fold((0, 0), |all, sum| (all.0 + sum.0, all.1 + sum.1))
}

/// Layers by the set of images that hold the same: while an image has more than `budget`, the one that costs
/// the least to store several times goes into its images' own.
fn split<'a>(items: &[Item<'a>], images: usize, budget: usize) -> BTreeMap<BTreeSet<usize>, Group<'a>> {
    let mut groups: BTreeMap<BTreeSet<usize>, Group<'a>> = BTreeMap::new();
    for item in items {
        groups.entry(item.images.clone()).or_default().add(item);
    }
    groups.values_mut().for_each(|group| group.bytes += pack::END);
    loop {
        let layers = |image: usize| groups.keys().filter(|group| group.contains(&image)).count();
        let over: BTreeSet<usize> = (0..images).filter(|image| layers(*image) > budget.max(1)).collect();
        let shared = groups.iter().filter(|(of, _)| of.len() > 1 && !of.is_disjoint(&over));
        let cheapest = shared.min_by_key(|(of, group)| (group.bytes * (of.len() as u64 - 1), (*of).clone()));
        let Some(of) = cheapest.map(|(of, _)| of.clone()) else { return groups };
        let Some(group) = groups.remove(&of) else { return groups };
        for image in of {
            groups.entry(BTreeSet::from([image])).or_default().merge(&group);
        }
    }
}

impl Plan {
    /// A table for people, without colours.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let (images, base) = (count(self.images.len() as u64, "image"), count(self.base_layers as u64, "layer"));
        let _ = writeln!(text, "{images}; they share {base} below; at most {} an image\n", count(self.budget, "layer"));
        let _ = writeln!(text, "{:<14}{:>12}{:>14}{:>9}", "", "on a node", "on the wire", "layers");
        for (number, choice) in self.choices.iter().enumerate() {
            let note = match (number == self.best, choice.fits) {
                (true, _) => "  the cheapest",
                (_, false) => "  more layers than allowed",
                _ => "",
            };
            let name = choice.name.replace('-', " ");
            let _ = writeln!(text, "{name:<14}{:>12}{:>14}{:>9}{note}", size(choice.node), size(choice.wire), choice.layers);
        }
        if !self.parts.is_empty() {
            let _ = writeln!(text, "\nthe split, above the base");
            for part in &self.parts {
                let who = match &part.images[..] {
                    all if all.len() == self.images.len() => "all images".to_string(),
                    [one] => self.images.get(*one).cloned().unwrap_or_default(),
                    some => count(some.len() as u64, "image"),
                };
                let mut packages = part.packages.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
                if part.packages.len() > 4 {
                    let _ = write!(packages, " and {} more", part.packages.len() - 4);
                }
                let _ = writeln!(text, "  {:>9}  {who}  {packages}", size(part.bytes));
            }
        }
        text
    }

    /// The same as a picture: one bar a way, and for the split who has which layer.
    pub fn to_html(&self) -> String {
        let most = self.choices.iter().map(|choice| choice.node).max().unwrap_or(1).max(1);
        let mut rows = String::new();
        for (number, choice) in self.choices.iter().enumerate() {
            let width = |bytes: u64| bytes as f64 * 100.0 / most as f64;
            let class = if number == self.best { " class=\"best\"" } else { "" };
            let _ = write!(
                rows,
                "<tr{class}><th>{}</th><td class=\"bars\"><div class=\"node\" style=\"width:{:.2}%\"></div><div class=\"wire\" style=\"width:{:.2}%\"></div></td>\
                 <td>{}</td><td>{}</td><td>{} layers</td></tr>",
                choice.name.replace('-', " "),
                width(choice.node),
                width(choice.wire),
                size(choice.node),
                size(choice.wire),
                choice.layers
            );
        }
        let mut matrix = String::new();
        for part in &self.parts {
            let cells: String = (0..self.images.len())
                .map(|image| if part.images.contains(&image) { "<td class=\"has\"></td>" } else { "<td></td>" })
                .collect();
            let packages = escape(&part.packages.iter().take(6).cloned().collect::<Vec<_>>().join(", "));
            let _ = write!(matrix, "<tr><th>{}</th>{cells}<td class=\"what\">{packages}</td></tr>", size(part.bytes));
        }
        let heads: String = self.images.iter().map(|name| format!("<th><span>{}</span></th>", escape(name))).collect();
        include_str!("page/plan.html").replace("@ROWS@", &rows).replace("@HEADS@", &heads).replace("@MATRIX@", &matrix).replace(
            "@TITLE@",
            &format!("{}, {} shared below", count(self.images.len() as u64, "image"), count(self.base_layers as u64, "layer")),
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
