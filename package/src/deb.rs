//! Reads one `.deb`, hashing it as it streams by: deb(5), deb-control(5), Debian policy 5.3.
//!
//! A package is taken only if every client can install it and every index can carry it: its
//! archives are whole, its paths stay below the root, and its stanza is one that apt parses. What can
//! be installed, but makes dpkg warn or needs what the package does not bring, is said beside it.

use crate::archive::{self, Entry, Facts, Kind, Orphans, Stop, Visit};
use crate::control::Control;
use crate::{Check, dpkg, relation, shown};
use std::collections::BTreeSet;
use std::io::Read;
use twostage_model::{Class, Error, PackageId, Result, Sha256};

/// Bytes of a control file.
const MAX_CONTROL_FILE: u64 = 4 << 20;

/// Bytes of a paragraph with the empty line behind it, of which apt reads fewer: its buffer grows to 1 MiB
/// (`pkgTagFile::Resize`), and of an index with a longer paragraph it reads nothing.
pub const MAX_PARAGRAPH: usize = 1 << 20;

/// Bytes of a package's own stanza. An index adds name, size and digest of the file to it, and dpkg's own database a line
/// for every conffile, for which there is some room here.
pub const MAX_STANZA: usize = MAX_PARAGRAPH - 4096;

/// Bytes of a list of MD5 sums: 100,000 files of linux-headers need 10 MB.
const MAX_SUMS: u64 = 64 << 20;

/// Fields that only an index or dpkg's own database may write. In a package's control they would
/// stand in our index beside the true ones, and a client would believe either.
const INDEX_FIELDS: [&str; 15] = [
    "Filename",
    "Size",
    "MD5sum",
    "SHA1",
    "SHA256",
    "SHA512",
    "MSDOS-Filename",
    "Description-md5",
    "Status",
    "Config-Version",
    "Conffiles",
    "Triggers-Awaited",
    "Triggers-Pending",
    "Package_Revision",
    "Directory",
];

/// What one `.deb` is and says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deb {
    /// Name, version, architecture.
    pub id: PackageId,
    /// All fields of its control file, in order.
    pub control: Control,
    /// Of all its bytes.
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970: the mtime of the `debian-binary` member, which dpkg-deb sets to the
    /// `SOURCE_DATE_EPOCH` of the build.
    pub date: i64,
    /// The source package: field `Source` without `(version)`, else the name.
    pub source: String,
    /// It is for Debian's installer and not for a system: `Package-Type: udeb`.
    pub is_udeb: bool,
    /// What whoever publishes it is to know: it can be installed, but not everywhere, or dpkg warns of it.
    pub notes: Vec<String>,
}

/// Reads a `.deb` to its end and checks all of it. `name_hint` names it in messages.
///
/// Memory stays below about 200 MiB whatever the input is: what a member unpacks to is never
/// kept, `control` is at most 4 MiB, xz and zstd windows at most 128 MiB.
///
/// # Errors
/// Class `Repository` with the reason for refusing it; class `System` if `input` cannot be read.
pub fn read(input: impl Read, name_hint: &str) -> Result<Deb> {
    let mut visitor = Members::default();
    let facts = archive::walk(input, &mut visitor).map_err(|stop| stopped(stop, name_hint))?;
    finish(visitor, &facts).map_err(|why| stopped(Stop::Refused(why), name_hint))
}

/// What a `.deb` says of itself, without a look at its payload: for a file that was read to its end before, and whose
/// digest and size are known since then.
///
/// # Errors
/// As [`read`], of what is in front of the payload.
pub fn describe(input: impl Read, sha256: Sha256, size: u64, name_hint: &str) -> Result<Deb> {
    let mut visitor = Described::default();
    let facts = archive::walk(input, &mut visitor).map_err(|stop| stopped(stop, name_hint))?;
    let facts = Facts { sha256, size, ..facts };
    finish(visitor.0, &facts).map_err(|why| stopped(Stop::Refused(why), name_hint))
}

/// [`Members`] of a package whose payload is not looked at.
#[derive(Default)]
struct Described(Members);

impl Visit for Described {
    fn control(&mut self, entry: &Entry, content: &mut dyn Read) -> Check<()> {
        self.0.control(entry, content)
    }

    fn data(&mut self, _: &Entry, _: &mut dyn Read) -> Check<()> {
        Ok(())
    }

    fn wants_data(&self) -> bool {
        false
    }

    fn wants_more_control(&self) -> bool {
        self.0.control.is_none()
    }
}

/// The files that a `.deb` brings and their MD5, as its control archive says; conffiles are not among
/// them. Only the control archive is unpacked. Empty when it has no `md5sums`.
///
/// # Errors
/// Class `Repository` if the control archive cannot be read; class `System` if `input` cannot be.
pub fn md5sums(input: impl Read, name_hint: &str) -> Result<Vec<(Vec<u8>, [u8; 16])>> {
    let mut visitor = Sums::default();
    match archive::walk(input, &mut visitor) {
        Err(stop) if !(visitor.done && matches!(stop, Stop::Refused(_))) => return Err(stopped(stop, name_hint)),
        _ => {}
    }
    let sums = dpkg::md5sums(&visitor.bytes, "md5sums")?;
    Ok(sums.into_iter().filter_map(|(path, md5)| Some((path, dpkg::md5(&md5)?))).collect())
}

#[derive(Default)]
struct Sums {
    bytes: Vec<u8>,
    /// The control archive is behind us.
    done: bool,
}

impl Visit for Sums {
    fn control(&mut self, entry: &Entry, content: &mut dyn Read) -> Check<()> {
        if entry.path == b"md5sums" {
            if entry.size > MAX_SUMS {
                return Err(format!("{} bytes are too many", entry.size));
            }
            content.take(MAX_SUMS).read_to_end(&mut self.bytes).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn data(&mut self, _: &Entry, _: &mut dyn Read) -> Check<()> {
        self.done = true;
        Err("the rest is not wanted".into())
    }
}

/// How many files a `.deb` brings: plain files and links, not folders. All of it is unpacked.
///
/// # Errors
/// As [`read`], as far as its archives go.
pub fn count_files(input: impl Read, name_hint: &str) -> Result<u64> {
    let mut visitor = Counted(0);
    archive::walk(input, &mut visitor).map_err(|stop| stopped(stop, name_hint))?;
    Ok(visitor.0)
}

struct Counted(u64);

impl Visit for Counted {
    fn control(&mut self, _: &Entry, _: &mut dyn Read) -> Check<()> {
        Ok(())
    }

    fn data(&mut self, entry: &Entry, _: &mut dyn Read) -> Check<()> {
        self.0 += u64::from(entry.kind != Kind::Dir);
        Ok(())
    }
}

/// The error for a walk that ended early.
pub(crate) fn stopped(stop: Stop, name: &str) -> Error {
    let name: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
    match stop {
        Stop::Refused(why) => Error::new(Class::Repository, format!("{name} is refused: {why}"))
            .hint("mend the package where it is built; if it was fetched, it may have been cut or changed on the way: fetch it again"),
        Stop::Unreadable(error) => Error::system(format!("{name} cannot be read"), error),
    }
}

/// What is read of a package's archives.
#[derive(Default)]
struct Members {
    control: Option<Control>,
    /// Bytes of dpkg's list of conffiles in its database.
    conffiles: usize,
    /// Paths that are to be gone after the upgrade.
    removed: BTreeSet<Vec<u8>>,
}

impl Visit for Members {
    fn control(&mut self, entry: &Entry, content: &mut dyn Read) -> Check<()> {
        match entry.path.as_slice() {
            b"control" => self.control = Some(read_control(entry, content)?),
            b"conffiles" => {
                let bytes = read_member(entry, content)?;
                self.removed = members::removed_conffiles(&bytes)?;
                // Behind each path come a blank, its MD5 and a line break.
                self.conffiles = bytes.len() + 34 * bytes.iter().filter(|byte| **byte == b'\n').count();
            }
            b"triggers" => members::check_triggers(&read_member(entry, content)?)?,
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, entry: &Entry, _: &mut dyn Read) -> Check<()> {
        if entry.kind != Kind::Dir && self.removed.contains(&entry.path) {
            return Err("is among the conffiles to be removed on upgrade".into());
        }
        Ok(())
    }
}

/// Reads a small file of the control archive.
fn read_member(entry: &Entry, content: &mut dyn Read) -> Check<Vec<u8>> {
    if entry.size > MAX_CONTROL_FILE {
        return Err(format!("{} bytes are too many", entry.size));
    }
    let mut bytes = Vec::new();
    content.take(MAX_CONTROL_FILE).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Reads the text of a control file.
pub(crate) fn read_control(entry: &Entry, content: &mut dyn Read) -> Check<Control> {
    let text = String::from_utf8(read_member(entry, content)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        format!("not UTF-8 (byte 0x{byte:02x} at offset {at}; is it Latin-1?), which Debian policy 5.1 demands")
    })?;
    if text.starts_with('\n') {
        return Err("it starts with an empty line, behind which apt finds no package".into());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("its last line has no line break at its end, which dpkg refuses".into());
    }
    let control = Control::parse(&text).map_err(|error| error.to_string())?;
    if let Some((name, "")) = control.fields().last() {
        return Err(format!("its last field, {name}, is empty, which dpkg takes for a file that is cut off"));
    }
    Ok(control)
}

fn finish(members: Members, facts: &Facts) -> Check<Deb> {
    let control = members.control.ok_or("there is no control file in it")?;
    let stanza = control.to_string().len() + members.conffiles;
    if stanza > MAX_STANZA {
        return Err(format!(
            "its control file, with the list of its conffiles, is {stanza} bytes long; apt reads paragraphs below 1 MiB \
             ({MAX_STANZA} bytes are taken), and loses all packages of an index that has a longer one"
        ));
    }
    let Checked { id, source, mut notes } = check(&control)?;
    let Orphans { count, first } = &facts.orphans;
    if *count > 0 {
        let others = if *count == 1 { String::new() } else { format!(" and {} others", count - 1) };
        notes.push(format!(
            "it has no entry for the folder of {}{others} before that: dpkg unpacks it only where the folder is there already",
            shown([b"/", first.as_slice()].concat())
        ));
    }
    let is_udeb = control.get("Package-Type") == Some("udeb");
    Ok(Deb { id, control, sha256: facts.sha256, size: facts.size, date: facts.date, source, is_udeb, notes })
}

/// What the fields of a binary package say.
pub(crate) struct Checked {
    pub(crate) id: PackageId,
    /// The name of its source.
    pub(crate) source: String,
    pub(crate) notes: Vec<String>,
}

/// Checks the fields of a binary package.
pub(crate) fn check(control: &Control) -> Check<Checked> {
    if let Some((name, _)) = control.fields().find(|(name, _)| INDEX_FIELDS.iter().any(|index| index.eq_ignore_ascii_case(name))) {
        return Err(format!("its control has the field {name}, which only an index or dpkg may write"));
    }
    let field = |name: &str| match control.get(name) {
        None => Err(format!("its control has no field {name}")),
        Some("") => Err(format!("its field {name} is empty")),
        Some(value) => Ok(value),
    };
    let id = PackageId::new(field("Package")?, field("Version")?, field("Architecture")?).map_err(|error| error.to_string())?;
    // Wildcards and `source` are for source packages (policy 5.6.8).
    if id.arch == "source" || id.arch.split('-').any(|part| part == "any") {
        return Err(format!("its architecture {} is not one of a binary package", id.arch));
    }
    field("Description")?;
    let source = source(control.get("Source"), &id)?;
    let mut notes = Vec::new();
    for (name, alternatives) in relation::FIELDS {
        if let Some(value) = control.get(name) {
            let old = relation::check(name, value, alternatives).map_err(|why| format!("its field {name} cannot be parsed: {why}"))?;
            notes
                .extend(old.map(|old| format!("its field {name} has {}: dpkg warns of the operators < and >, write <= or <<", shown(old))));
        }
    }
    if control.get("Maintainer").is_none_or(str::is_empty) {
        notes.push("its control has no Maintainer, and dpkg warns of that".into());
    }
    let one_of = |name: &str, allowed: &[&str]| match control.get(name) {
        Some(value) if !allowed.contains(&value) => {
            Err(format!("its field {name} is {} and not one of {}", shown(value), allowed.join(", ")))
        }
        _ => Ok(()),
    };
    for name in ["Essential", "Protected", "Important"] {
        // dpkg and apt compare these without case, and Multi-Arch only dpkg.
        let known = |value: &str| ["yes", "no"].iter().any(|word| word.eq_ignore_ascii_case(value));
        if !control.get(name).is_none_or(known) {
            one_of(name, &["yes", "no"])?;
        }
    }
    one_of("Multi-Arch", &["no", "same", "foreign", "allowed"])?;
    if id.arch == "all" && control.get("Multi-Arch") == Some("same") {
        return Err("it is Multi-Arch: same and Architecture: all, which dpkg refuses".into());
    }
    // KiB; twelve digits are a petabyte, and stay below 2^63 when apt makes bytes of them.
    if let Some(size) = control.get("Installed-Size")
        && (size.len() > 12 || size.is_empty() || !size.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(format!("its field Installed-Size is {} and not a number of KiB", shown(size)));
    }
    Ok(Checked { id, source, notes })
}

/// `name` or `name (version)` (policy 5.6.1).
fn source(value: Option<&str>, id: &PackageId) -> Check<String> {
    let Some(value) = value else { return Ok(id.name.clone()) };
    let (name, version) = match value.split_once('(') {
        None => (value, None),
        Some((name, rest)) => (name.trim_end(), Some(rest.strip_suffix(')').ok_or("its field Source has no closing parenthesis")?)),
    };
    PackageId::new(name, version.unwrap_or(&id.version).trim(), "source")
        .map(|source| source.name)
        .map_err(|error| format!("its field Source: {error}"))
}

mod members;
#[cfg(test)]
mod tests;
