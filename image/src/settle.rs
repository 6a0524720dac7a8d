//! What the members of a layer leave behind, as for whoever unpacks the layer on its own, one member after another.
//!
//! ```text
//! real/            real/
//! l -> real   ─►   real/x      a member that passes through a link of its layer is where the link leads
//! l/x              l -> real
//! ```
//!
//! Docker and the embedded engine unpack each layer into a folder of its own, so that a link of the same layer leads
//! somewhere, a link of a layer below does not, and a later member takes the place of an earlier one. Everything that reads
//! layers as data gets their entries from here, and so sees the tree that containers see. What neither can unpack is refused.
//! One thing is read with more patience: a name of a file that is not in the layer, or comes later, stays a name.

use crate::broken;
use crate::image::{Duplicate, Entry, Kind};
use crate::path::{MAX_DEPTH, MAX_PATH, join, name, parent, shown};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use twostage_model::{Error, Result};

/// How many links one path may lead through (Linux, MAXSYMLINKS).
const MAX_LINKS: usize = 40;
/// How many names all links of a layer may lead through. A layer of a distribution has some thousands.
const MAX_STEPS: u64 = 20_000_000;

/// What is at one path.
struct Slot {
    is: Is,
    /// The member that states it; none for a folder that paths only need.
    stated: Option<usize>,
    /// The deletions that speak of this path.
    deletions: Vec<usize>,
    /// Whether a folder hides what the layers below have in it.
    opaque: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Folder,
    /// A symbolic link, and the member that made it: this one, or that of which it is another name.
    Link(usize),
    /// Anything else, and the member that made it.
    File(usize),
    /// Another name of something that is not in the layer so far.
    Elsewhere,
    /// Nothing: what the layers below have here is deleted.
    Deleted,
}

/// What became of the members.
pub struct Settled {
    /// Each path once, but for deletions, which may stand beside what is there; in the order of the tar.
    pub entries: Vec<Entry>,
    /// Members whose place a later one took, and deletions that no longer say anything; no folders.
    pub duplicates: Vec<Duplicate>,
    /// Folders that were stated again.
    pub folders_again: u64,
}

/// Settles the members of a layer, in the order of its tar.
pub fn settle(members: Vec<Entry>) -> Result<Settled> {
    let mut layer = Unpacked { slots: BTreeMap::new(), members, last: None, steps: 0 };
    layer.slots.insert(String::new(), Slot { is: Is::Folder, stated: None, deletions: Vec::new(), opaque: false });
    for number in 0..layer.members.len() {
        layer.member(number)?;
    }
    Ok(layer.finish())
}

struct Unpacked {
    slots: BTreeMap<String, Slot>,
    members: Vec<Entry>,
    /// The folder of the last member as it was written, and where it is: most often that of the next one, too.
    last: Option<(String, String)>,
    steps: u64,
}

impl Unpacked {
    fn member(&mut self, number: usize) -> Result<()> {
        let entry = &self.members[number];
        let (path, kind) = (entry.path.clone(), entry.kind.clone());
        let at = |cause: Error| Error::new(cause.class(), format!("{}: it cannot be unpacked", shown(&path))).because(cause);
        match kind {
            Kind::OpaqueWhiteout => {
                let folder = self.folder(&path).map_err(at)?;
                if let Some(slot) = self.slots.get_mut(&folder) {
                    slot.opaque = true;
                    slot.deletions.push(number);
                }
                Ok(())
            }
            Kind::Whiteout => {
                let real = self.place(&path).map_err(at)?;
                match self.slots.get_mut(&real) {
                    // It speaks of the layers below: what this one has here stays, and hides them.
                    Some(slot) => {
                        slot.opaque |= slot.is == Is::Folder;
                        slot.deletions.push(number);
                    }
                    None => self.put(real, Is::Deleted, None, vec![number], false),
                }
                Ok(())
            }
            _ if path.is_empty() => {
                if let Some(root) = self.slots.get_mut("") {
                    root.stated = Some(number);
                }
                Ok(())
            }
            Kind::Dir => {
                let real = self.place(&path).map_err(at)?;
                match self.slots.get_mut(&real) {
                    Some(slot) if slot.is == Is::Folder => slot.stated = Some(number),
                    _ => {
                        let (was_deleted, mut deletions) = self.clear(&real);
                        if !was_deleted {
                            // A folder in the place of something else hides nothing.
                            deletions.clear();
                        }
                        self.put(real, Is::Folder, Some(number), deletions, was_deleted);
                    }
                }
                Ok(())
            }
            // The device by which an overlay says that something is deleted (overlayfs.rst): Docker's are overlays.
            Kind::Char { major: 0, minor: 0 } => {
                let real = self.place(&path).map_err(at)?;
                self.members[number].kind = Kind::Whiteout;
                self.clear(&real);
                self.put(real, Is::Deleted, None, vec![number], false);
                Ok(())
            }
            Kind::Hardlink { target } => self.hard_link(number, &path, &target).map_err(at),
            kind => {
                let real = self.place(&path).map_err(at)?;
                let (_, deletions) = self.clear(&real);
                let is = if matches!(kind, Kind::Symlink { .. }) { Is::Link(number) } else { Is::File(number) };
                self.put(real, is, Some(number), deletions, false);
                Ok(())
            }
        }
    }

    fn hard_link(&mut self, number: usize, path: &str, target: &str) -> Result<()> {
        let real = self.place(path)?;
        let (_, deletions) = self.clear(&real);
        // Its last name is not followed, if that is a link.
        let target = match self.resolve(parent(target))? {
            Some(folder) => join(&folder, name(target)),
            None => target.to_string(),
        };
        let is = match self.slots.get(&target).map(|slot| slot.is) {
            Some(Is::Folder) => return Err(broken(format!("it is another name of the folder {}, and a folder has one", shown(&target)))),
            Some(Is::Deleted) => {
                self.members[number].kind = Kind::Whiteout;
                self.put(real, Is::Deleted, None, vec![number], false);
                return Ok(());
            }
            Some(is) => is,
            None => Is::Elsewhere,
        };
        if let Is::Link(made) | Is::File(made) = is {
            self.restate(made, number);
        }
        if let Is::Elsewhere = is {
            self.members[number].kind = Kind::Hardlink { target };
        }
        self.put(real, is, Some(number), deletions, false);
        Ok(())
    }

    /// One more name of a file states the file's owner, mode and time anew, as Docker unpacks it. A link keeps its time.
    fn restate(&mut self, made: usize, number: usize) {
        let Entry { mode, uid, gid, mtime, xattrs, .. } = self.members[number].clone();
        let file = &mut self.members[made];
        (file.uid, file.gid) = (uid, gid);
        if !matches!(file.kind, Kind::Symlink { .. }) {
            (file.mode, file.mtime) = (mode, mtime);
        }
        // A new owner takes a file's capabilities away (capabilities(7)); other attributes stay.
        file.xattrs.remove("security.capability");
        file.xattrs.extend(xattrs);
    }

    fn put(&mut self, real: String, is: Is, stated: Option<usize>, deletions: Vec<usize>, opaque: bool) {
        self.slots.insert(real, Slot { is, stated, deletions, opaque });
    }

    /// Removes what is at a path, and all below. Says whether that was only a deletion, and which ones spoke of it.
    fn clear(&mut self, real: &str) -> (bool, Vec<usize>) {
        let Some(slot) = self.slots.remove(real) else { return (false, Vec::new()) };
        if slot.is == Is::Folder {
            let start = format!("{real}/");
            let below = self.slots.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
            let below: Vec<String> = below.map(|(path, _)| path).take_while(|path| path.starts_with(&start)).cloned().collect();
            for path in below {
                self.slots.remove(&path);
            }
        }
        // It may have been on the way to the last member.
        self.last = None;
        (slot.is == Is::Deleted, slot.deletions)
    }

    /// Where a member of this path is to be: its folder is found, or made, and its last name is no link that is followed.
    fn place(&mut self, path: &str) -> Result<String> {
        let (folder, name) = (parent(path), name(path));
        if self.last.as_ref().is_none_or(|(written, _)| written != folder) {
            let real = self.folder(folder)?;
            self.last = Some((folder.to_string(), real));
        }
        let real = join(self.last.as_ref().map_or("", |(_, real)| real), name);
        if real.len() > MAX_PATH || real.matches('/').count() > MAX_DEPTH {
            return Err(broken("its links lead to a path that is too long"));
        }
        Ok(real)
    }

    /// The real path of a folder, which is made if it is missing.
    fn folder(&mut self, path: &str) -> Result<String> {
        let real = match self.resolve(path)? {
            Some(real) => real,
            None => self.real(path)?,
        };
        let mut missing = real.as_str();
        while !self.slots.contains_key(missing) {
            let slot = Slot { is: Is::Folder, stated: None, deletions: Vec::new(), opaque: false };
            self.slots.insert(missing.to_string(), slot);
            missing = parent(missing);
        }
        match self.slots.get(missing) {
            Some(slot) if slot.is == Is::Folder => Ok(real),
            _ => Err(no_folder(missing)),
        }
    }

    /// The real path of a folder that is there, as the kernel finds it.
    fn resolve(&mut self, path: &str) -> Result<Option<String>> {
        // (Most folders are there and are reached through no link.)
        if self.slots.get(path).is_some_and(|slot| slot.is == Is::Folder) {
            return Ok(Some(path.to_string()));
        }
        self.walk(path, true)
    }

    /// The real path, where names that are missing lead nowhere else.
    fn real(&mut self, path: &str) -> Result<String> {
        Ok(self.walk(path, false)?.unwrap_or_default())
    }

    /// `strict`: none, if a name is missing.
    fn walk(&mut self, path: &str, strict: bool) -> Result<Option<String>> {
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
            if here.len() > MAX_PATH {
                return Err(broken("its links lead to a path that is too long"));
            }
            match self.slots.get(&here).map(|slot| slot.is) {
                None if strict => return Ok(None),
                None | Some(Is::Folder) => real = here,
                Some(Is::Link(number)) => {
                    links += 1;
                    let Kind::Symlink { target } = &self.members[number].kind else { return Err(no_folder(&here)) };
                    self.steps += 1 + target.matches('/').count() as u64;
                    if links > MAX_LINKS || self.steps > MAX_STEPS {
                        return Err(broken(format!("the link {} leads through too many others", shown(&here))));
                    }
                    if target.starts_with('/') {
                        real.clear();
                    }
                    todo.extend(target.split('/').rev().map(str::to_string));
                }
                Some(_) => return Err(no_folder(&here)),
            }
        }
        Ok(Some(real))
    }

    fn finish(self) -> Settled {
        let mut members: Vec<Option<Entry>> = self.members.into_iter().map(Some).collect();
        let mut entries = Vec::with_capacity(members.len());
        let mut names: HashMap<usize, Vec<(String, usize)>> = HashMap::new();
        for (path, slot) in self.slots {
            // A folder that took the place of something else, of which a deletion spoke, hides nothing.
            if slot.is != Is::Folder || slot.opaque {
                slot.deletions.iter().for_each(|number| entries.extend(take(&mut members, *number, &path)));
            }
            match (slot.is, slot.stated) {
                (Is::Link(made) | Is::File(made), Some(stated)) => names.entry(made).or_default().push((path, stated)),
                (_, Some(stated)) => entries.extend(take(&mut members, stated, &path)),
                (_, None) => {}
            }
        }
        for (made, mut names) in names {
            // A file is where its member says, or under another name of it, if that place was taken.
            let first = names.iter().position(|(_, stated)| *stated == made).unwrap_or(0);
            let (target, stated) = names.swap_remove(first);
            let file = take(&mut members, made, &target);
            if let (Some(file), Some(Some(name))) = (&file, members.get_mut(stated)) {
                // What is left over is the name that was taken.
                name.path = file.written.as_deref().unwrap_or(&file.path).to_string();
            }
            let Some(file) = file else { continue };
            for (path, stated) in names {
                let Some(mut name) = take(&mut members, stated, &path) else { continue };
                name.kind = Kind::Hardlink { target: target.clone() };
                (name.mode, name.uid, name.gid, name.mtime) = (file.mode, file.uid, file.gid, file.mtime);
                name.xattrs.clone_from(&file.xattrs);
                entries.push(name);
            }
            entries.push(file);
        }
        entries.sort_by_key(|entry| entry.number);
        let (folders, others): (Vec<Entry>, Vec<Entry>) = members.into_iter().flatten().partition(Entry::is_dir);
        let mut duplicates: Vec<Duplicate> = others.into_iter().map(|entry| Duplicate { bytes: entry.size(), path: entry.path }).collect();
        duplicates.sort();
        Settled { entries, duplicates, folders_again: folders.len() as u64 }
    }
}

/// A member as the entry of a path, if it is not one already.
fn take(members: &mut [Option<Entry>], number: usize, path: &str) -> Option<Entry> {
    let entry = members.get_mut(number).and_then(Option::take)?;
    let written = if entry.path == path { None } else { Some(entry.path.into_boxed_str()) };
    Some(Entry { path: path.to_string(), written, ..entry })
}

fn no_folder(path: &str) -> Error {
    broken(format!("{} is no folder in this layer", shown(path)))
}
