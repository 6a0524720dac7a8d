//! What a layer has to hold so that one tree becomes another, and that layer's tar.
//!
//! ```text
//! lower tree + upper tree ─► Delta: whiteouts, then folders, then all else ─► tar
//! ```

use crate::ahead::{self, Behind};
use crate::broken;
use crate::image::{Entry, Kind};
use crate::layer::WHITEOUT;
use crate::pack::{self, TarWriter};
use crate::path::{self, parent, shown};
use crate::store::Store;
use crate::tarball::Tarball;
use crate::tree::{Node, Tree};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Result, Sha256};

/// The difference of two trees.
#[derive(Debug, Default)]
pub struct Delta<'a> {
    /// Paths that are gone; what was below them is not named.
    pub gone: Vec<&'a str>,
    /// Paths that are new or other, in order, and what is there.
    pub there: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Delta<'a> {
    /// What leads from `lower` to `upper`.
    pub fn new(lower: &Tree<'a>, upper: &Tree<'a>) -> Delta<'a> {
        let mut delta = Delta::default();
        let is_folder = |path: &str| path.is_empty() || upper.get(path).is_some_and(Node::is_dir);
        for (path, _) in lower.iter() {
            // What was in a folder that is gone, or that is now something else, goes with it.
            if !path.is_empty() && upper.get(path).is_none() && is_folder(parent(path)) {
                delta.gone.push(path);
            }
        }
        for (path, node) in upper.iter() {
            if !lower.get(path).is_some_and(|below| unchanged(below, node)) {
                delta.there.insert(path, *node);
            }
        }
        // One file with several names stays one file: all its names are in the layer, or none.
        let (names_below, names) = (Names::of(lower), Names::of(upper));
        for group in names_below.0.values() {
            // Unchanged one by one, but no longer one file.
            let left: Vec<&str> = group.iter().copied().filter(|path| !delta.there.contains_key(path)).collect();
            let now: BTreeSet<_> = left.iter().filter_map(|path| upper.get(path)?.entry).map(key).collect();
            if now.len() > 1 {
                delta.add_all(&left, upper);
            }
        }
        for group in names.0.values() {
            if group.iter().any(|path| delta.there.contains_key(path)) || !names_below.one_file(group, lower) {
                delta.add_all(group, upper);
            }
        }
        // A folder that a layer does not state gets other rights, where a layer is unpacked on its own.
        let stated: Vec<&str> = delta.gone.iter().copied().chain(delta.there.keys().copied()).collect();
        for path in stated {
            let mut folder = parent(path);
            while let Some(node) = upper.get(folder)
                && !folder.is_empty()
                && delta.there.insert(folder, *node).is_none()
            {
                folder = parent(folder);
            }
        }
        delta
    }

    fn add_all(&mut self, group: &[&'a str], upper: &Tree<'a>) {
        self.there.extend(group.iter().filter_map(|path| Some((*path, *upper.get(path)?))));
    }

    /// Whether the trees are the same.
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.there.is_empty()
    }

    /// Bytes of the files that it holds, each once.
    pub fn file_bytes(&self) -> u64 {
        let mut seen = BTreeSet::new();
        self.there.values().filter_map(|node| node.entry).filter(|entry| seen.insert(key(entry))).map(Entry::size).sum()
    }

    /// Writes the tar of a layer. `place` tells in which layer of `store` an entry is. Gives the writer
    /// back, and digest and length of the tar. The same difference of the same image gives the same bytes.
    ///
    /// # Errors
    /// `store` is not what was read before, or it cannot be read, or `out` written.
    pub fn write<W: Write + Send>(&self, store: &Store, out: W) -> Result<(W, Sha256, u64)> {
        let Plan { folders, others, files } = self.plan()?;
        let fail = || "cannot write the layer".to_string();
        let mut failed = None;
        let written = ahead::writing(out, |out| {
            let mut tar = TarWriter::new(out);
            for (path, entry) in &folders {
                tar.entry(path, entry, &mut io::empty())?;
            }
            for path in &self.gone {
                tar.whiteout(path)?;
            }
            for (path, entry) in &others {
                tar.entry(path, entry, &mut io::empty())?;
            }
            for (layer, members) in &files {
                if let Err(cause) = copy(store, *layer, members, &mut tar) {
                    failed = Some(cause);
                    return Err(io::Error::other("a layer below could not be read"));
                }
            }
            tar.finish()?;
            Ok(())
        });
        match (failed, written) {
            (Some(cause), Err(_)) => Err(cause),
            (_, written) => written.or_fail(Class::System, fail).map(|((), out, digest, size)| (out, digest, size)),
        }
    }

    /// Bytes of the tar that [`Delta::write`] writes.
    ///
    /// # Errors
    /// As [`Delta::write`].
    pub fn length(&self) -> Result<u64> {
        let Plan { folders, others, files } = self.plan()?;
        let bare = folders.iter().chain(&others).map(|(path, entry)| pack::length(path, entry));
        let gone = self.gone.iter().map(|path| pack::whiteout_length(path));
        let members = files.values().flat_map(BTreeMap::values).flat_map(|member| {
            let first = member.names.first().map(|path| pack::length(path, member.entry));
            let target = member.names.first().copied().unwrap_or_default();
            first.into_iter().chain(member.names.iter().skip(1).map(move |path| pack::link_length(path, target, member.entry)))
        });
        Ok(bare.chain(gone).chain(members).sum::<u64>() + pack::END)
    }

    fn plan(&self) -> Result<Plan<'a>> {
        let mut plan = Plan::default();
        // (A leftover of aufs: its deletion would be one, too, and say nothing.)
        if let Some(path) = self.gone.iter().find(|path| path::name(path).starts_with(WHITEOUT)) {
            return Err(broken(format!("cannot write the deletion of {} into the layer", shown(path)))
                .because(format!("a name that begins with {WHITEOUT} stands for a deletion itself"))
                .hint("flatten the layer that has it, too"));
        }
        for (path, node) in &self.there {
            match node.entry {
                None => plan.folders.push((path, Entry::bare(Kind::Dir))),
                Some(entry) if entry.is_dir() => plan.folders.push((path, entry.clone())),
                Some(Entry { kind: Kind::Hardlink { target }, .. }) => {
                    return Err(broken(format!("cannot write {} into the layer", shown(path)))
                        .because(format!("it is another name of {}, which is not there", shown(target)))
                        .hint("the image lacks a file; build it again, or get it again"));
                }
                Some(entry) => {
                    let members = plan.files.entry(node.home).or_default();
                    members.entry(entry.number).or_insert_with(|| Member { entry, names: Vec::new() }).names.push(path);
                }
            }
        }
        for members in plan.files.values_mut() {
            members.retain(|_, member| {
                let stays = matches!(member.entry.kind, Kind::File { .. }) || member.names.len() > 1;
                if !stays {
                    plan.others.extend(member.names.iter().map(|path| (*path, member.entry.clone())));
                }
                stays
            });
        }
        plan.others.sort_by_key(|(path, _)| *path);
        Ok(plan)
    }
}

/// The order in which a layer is written.
#[derive(Default)]
struct Plan<'a> {
    folders: Vec<(&'a str, Entry)>,
    /// Links, devices, pipes.
    others: Vec<(&'a str, Entry)>,
    /// What needs the bytes of a member, by layer and number.
    files: BTreeMap<usize, Members<'a>>,
}

type Members<'a> = BTreeMap<u64, Member<'a>>;

/// A member of a layer's tar, and all names that it gets.
struct Member<'a> {
    entry: &'a Entry,
    names: Vec<&'a str>,
}

/// Writes those members of a layer that are wanted, in the order of its tar.
fn copy(store: &Store, layer: usize, wanted: &Members<'_>, tar: &mut TarWriter<&mut Behind>) -> Result<()> {
    let mut left = wanted.len();
    ahead::reading(store.tar(layer)?, |data| -> Result<()> {
        let mut tarball = Tarball::new(data);
        let mut number = 0;
        while left > 0 {
            let Some(header) = tarball.next()? else { return Err(changed(layer)) };
            if let Some(Member { entry, names }) = wanted.get(&number) {
                let path = entry.written.as_deref().unwrap_or(&entry.path);
                if path::clean(&header.path)? != path || header.size != entry.size() && matches!(entry.kind, Kind::File { .. }) {
                    return Err(changed(layer));
                }
                let fail = || format!("cannot write {}", path::shown(&entry.path));
                let (first, others) = names.split_first().ok_or_else(|| broken("a file has no name"))?;
                tar.file(first, entry, &mut tarball).or_fail(Class::System, fail)?;
                for name in others {
                    tar.hard_link(name, first, entry).or_fail(Class::System, fail)?;
                }
                left -= 1;
            }
            number += 1;
        }
        Ok(())
    })
}

fn changed(layer: usize) -> Error {
    broken(format!("layer {} is no longer what it was a moment ago", layer + 1)).hint("leave the image alone while it is being read")
}

/// The entry itself, wherever it is named.
fn key(entry: &Entry) -> *const Entry {
    std::ptr::from_ref(entry)
}

/// All names of each file that has several.
struct Names<'a>(HashMap<*const Entry, Vec<&'a str>>);

impl<'a> Names<'a> {
    fn of(tree: &Tree<'a>) -> Self {
        let mut names: HashMap<*const Entry, Vec<&str>> = HashMap::new();
        let linked: BTreeSet<*const Entry> =
            tree.iter().filter(|(_, node)| node.linked).filter_map(|(_, node)| node.entry).map(key).collect();
        for (path, node) in tree.iter() {
            if let Some(entry) = node.entry.filter(|entry| linked.contains(&key(entry))) {
                names.entry(key(entry)).or_default().push(path);
            }
        }
        Names(names)
    }

    /// Whether all these are names of one file.
    fn one_file(&self, group: &[&str], tree: &Tree<'a>) -> bool {
        let Some(first) = group.first().and_then(|path| tree.get(path)?.entry) else { return false };
        self.0.get(&key(first)).is_some_and(|names| group.iter().all(|path| names.contains(path)))
    }
}

/// Whether a path is the same in both trees, so that no layer need say it again.
fn unchanged(below: &Node<'_>, node: &Node<'_>) -> bool {
    match (below.entry, node.entry) {
        (Some(below), Some(entry)) => std::ptr::eq(below, entry) || same(below, entry),
        // A folder that no layer states is whatever the one below is.
        (_, None) => below.is_dir(),
        (None, Some(_)) => false,
    }
}

/// Whether two entries are the same in everything that a layer can say.
fn same(a: &Entry, b: &Entry) -> bool {
    a.kind == b.kind && a.mode == b.mode && (a.uid, a.gid) == (b.uid, b.gid) && a.mtime == b.mtime && a.xattrs == b.xattrs
}
