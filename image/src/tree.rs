//! Layers merged into one tree, as the OCI image specification says (layer.md): a layer's
//! deletions apply to the layers below it, then its entries replace what is there; a folder over
//! a folder keeps what is inside.

use crate::image::{Entry, Kind, Layer};
use crate::path::{join, parent, shown};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use twostage_model::Sha256;

/// How many links are followed before a path is called endless; as Linux.
const MAX_LINKS: usize = 40;

/// What is at one path.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// The entry that made it; for a second name, that of the file it names. None for a folder
    /// that no layer states but that paths need.
    pub entry: Option<&'a Entry>,
    /// Whether it is a second name of a file.
    pub linked: bool,
    /// The number of the layer that made it, from 0.
    pub layer: usize,
    /// The number of the layer that `entry` is in: for a second name, where the file is.
    pub home: usize,
}

/// A merged view of layers.
#[derive(Debug, Clone, Default)]
pub struct Tree<'a> {
    nodes: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Node<'a> {
    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.entry.is_none_or(Entry::is_dir)
    }

    /// The target, if it is a symbolic link.
    pub fn symlink(&self) -> Option<&'a str> {
        match self.entry.map(|entry| &entry.kind) {
            Some(Kind::Symlink { target }) => Some(target),
            _ => None,
        }
    }
}

impl<'a> Tree<'a> {
    /// Merges layers, lowest first.
    pub fn new(layers: &'a [Layer]) -> Self {
        let mut tree = Tree::default();
        layers.iter().enumerate().for_each(|(number, layer)| tree.apply(layer, number));
        tree
    }

    /// Puts one more layer on top.
    pub fn apply(&mut self, layer: &'a Layer, number: usize) {
        // Deletions first: they speak of the layers below only, wherever they stand in the tar.
        for entry in &layer.entries {
            match entry.kind {
                Kind::Whiteout => self.remove(&entry.path),
                Kind::OpaqueWhiteout => self.remove_below(&entry.path),
                _ => {}
            }
        }
        let mut links = Vec::new();
        for entry in &layer.entries {
            match &entry.kind {
                // The folders in which something is deleted are there.
                Kind::Whiteout => self.folders(parent(&entry.path), number),
                Kind::OpaqueWhiteout => self.folders(&entry.path, number),
                Kind::Hardlink { target } => match self.nodes.get(target.as_str()) {
                    Some(node @ Node { entry: Some(file), .. }) if !file.is_dir() => {
                        let node = Node { linked: true, layer: number, ..*node };
                        self.put(&entry.path, node);
                    }
                    _ => links.push((entry, target)),
                },
                _ => self.put(&entry.path, Node { entry: Some(entry), linked: false, layer: number, home: number }),
            }
        }
        // A name may stand before the file it names.
        for (entry, target) in links {
            let file = self.nodes.get(target.as_str()).filter(|node| !node.is_dir()).copied();
            let node = file.unwrap_or(Node { entry: Some(entry), linked: true, layer: number, home: number });
            self.put(&entry.path, Node { linked: true, layer: number, ..node });
        }
    }

    /// Makes the folders of a path that no layer states.
    fn folders(&mut self, mut folder: &'a str, layer: usize) {
        while !folder.is_empty() {
            match self.nodes.get(folder) {
                Some(there) if there.is_dir() => break,
                Some(_) | None => self.nodes.insert(folder, Node { entry: None, linked: false, layer, home: layer }),
            };
            folder = parent(folder);
        }
    }

    fn put(&mut self, path: &'a str, node: Node<'a>) {
        self.folders(parent(path), node.layer);
        if !node.is_dir() {
            self.remove_below(path);
        }
        self.nodes.insert(path, node);
    }

    fn remove(&mut self, path: &str) {
        self.remove_below(path);
        self.nodes.remove(path);
    }

    fn remove_below(&mut self, path: &str) {
        if path.is_empty() {
            self.nodes.clear();
            return;
        }
        let below: Vec<&'a str> = self.below(path).map(|(path, _)| path).collect();
        for path in below {
            self.nodes.remove(path);
        }
    }

    /// Everything below a folder, in order.
    pub fn below(&self, folder: &str) -> impl Iterator<Item = (&'a str, &Node<'a>)> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let start = prefix.clone();
        self.nodes
            .range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded))
            .map(|(path, node)| (*path, node))
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .filter(|(path, _)| !path.is_empty())
    }

    /// The names directly in a folder, in order.
    pub fn names(&self, folder: &str) -> Vec<&'a str> {
        let cut = if folder.is_empty() { 0 } else { folder.len() + 1 };
        self.below(folder).filter_map(|(path, _)| path.get(cut..)).filter(|name| !name.contains('/')).collect()
    }

    /// All paths in order of their bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &Node<'a>)> {
        self.nodes.iter().map(|(path, node)| (*path, node))
    }

    /// What is at exactly this path; no link is followed.
    pub fn get(&self, path: &str) -> Option<&Node<'a>> {
        self.nodes.get(path)
    }

    /// What a path leads to, all links followed, and its real path.
    pub fn resolve(&self, path: &str) -> Option<(String, Node<'a>)> {
        let real = self.walk(path, true)?;
        let node = *self.nodes.get(real.as_str())?;
        Some((real, node))
    }

    /// The path with its folders' links followed (`lib/x` is `usr/lib/x` where `lib` is a link to
    /// `usr/lib`). What is not there stays as it is written.
    pub fn canonical(&self, path: &str) -> String {
        self.walk(path, false).unwrap_or_else(|| path.to_string())
    }

    /// None for endless links.
    fn walk(&self, path: &str, follow_last: bool) -> Option<String> {
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_string).collect();
        let mut real = String::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    real.truncate(parent(&real).len());
                    continue;
                }
                _ => {}
            }
            let here = join(&real, &part);
            match self.nodes.get(here.as_str()).and_then(Node::symlink) {
                Some(target) if follow_last || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if target.starts_with('/') {
                        real.clear();
                    }
                    todo.extend(target.split('/').rev().map(str::to_string));
                }
                _ => real = here,
            }
        }
        Some(real)
    }

    /// The tree as text, one line a path, so that two trees are compared by reading:
    ///
    /// ```text
    /// /bin: symlink -> usr/bin
    /// /etc/: dir 0755 0:0
    /// /etc/hosts: file 0644 0:0 5 cc55e2ecabcd
    /// ```
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Of a file's names the first in order is the file, however the layers said it.
        let mut first: BTreeMap<*const Entry, &str> = BTreeMap::new();
        for (path, node) in &self.nodes {
            if let Some(entry) = node.entry {
                first.entry(std::ptr::from_ref(entry)).or_insert(path);
            }
        }
        for (path, node) in &self.nodes {
            let slash = if node.is_dir() && !path.is_empty() { "/" } else { "" };
            let _ = write!(text, "/{}{slash}: ", shown(path));
            let Some(entry) = node.entry else {
                text.push_str("dir, stated by no layer\n");
                continue;
            };
            let owner = format!("{:04o} {}:{}", entry.mode, entry.uid, entry.gid);
            let _ = match &entry.kind {
                Kind::File { size, sha256 } => write!(text, "file {owner} {size} {}", sha256.short()),
                Kind::Dir => write!(text, "dir {owner}"),
                Kind::Symlink { target } => write!(text, "symlink -> {}", shown(target)),
                Kind::Hardlink { target } => write!(text, "link to {}, which is not there", shown(target)),
                Kind::Char { major, minor } => write!(text, "char {owner} {major},{minor}"),
                Kind::Block { major, minor } => write!(text, "block {owner} {major},{minor}"),
                Kind::Fifo => write!(text, "fifo {owner}"),
                Kind::Whiteout | Kind::OpaqueWhiteout => write!(text, "whiteout"),
            };
            if let Some(first) = first.get(&std::ptr::from_ref(entry)).filter(|first| *first != path) {
                let _ = write!(text, " = /{}", shown(first));
            }
            for (name, value) in &entry.xattrs {
                let _ = write!(text, " +{}={}", shown(name), Sha256::of(value).short());
            }
            text.push('\n');
        }
        text
    }
}
