//! The members of a tar that comes from outside: from a builder container, or from another machine.
//!
//! A name of more than 100 bytes stands in a record before its member (GNU tar's `L`, POSIX' `x`). The
//! tar crate reads such records into memory as large as they say that they are, so here it
//! is only asked for what is literally there.

use std::io::{self, Read};
use tar::{Archive, EntryType, PaxExtensions};

/// Bytes of a record. A path has at most 4096, an attribute 64 KiB.
const MOST_RECORD: u64 = 1 << 20;

/// Bytes behind a tar's end. Writers fill up a block of 10 KiB, some one of a MiB.
const MOST_BEHIND: u64 = 16 << 20;

/// One member, its content not read yet.
pub struct Member<'a> {
    /// Its path as the tar has it, for people too.
    pub path: String,
    /// What it is.
    pub kind: EntryType,
    /// Bytes of its content.
    pub size: u64,
    /// Where a link leads, if it says so in fewer than 100 bytes.
    pub link: Option<String>,
    /// Its content; what is left of it is skipped.
    pub content: &'a mut dyn Read,
}

/// Shows each member to `each`, and reads the stream to its very end.
///
/// # Errors
/// `wrong` makes them, of what is not a good tar; and those of `each`.
pub fn for_each<E>(stream: impl Read, wrong: impl Fn(io::Error) -> E, mut each: impl FnMut(Member<'_>) -> Result<(), E>) -> Result<(), E> {
    let mut archive = Archive::new(stream);
    let (mut long, mut records) = (None, None);
    for entry in archive.entries().map_err(&wrong)?.raw(true) {
        let mut entry = entry.map_err(&wrong)?;
        let size = entry.size();
        match entry.header().entry_type() {
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader => {
                let kind = entry.header().entry_type();
                let record = record(&mut entry, size).map_err(&wrong)?;
                let held = match kind {
                    EntryType::GNULongName => long.replace(record),
                    EntryType::XHeader => records.replace(record),
                    // Whoever takes links takes no long ones.
                    _ => None,
                };
                if held.is_some() {
                    return Err(wrong(invalid("a member has two names")));
                }
            }
            kind => {
                let pax = pax(records.take().unwrap_or_default(), size).map_err(&wrong)?;
                let mut path = long.take().or(pax).unwrap_or_else(|| entry.path_bytes().into_owned());
                // (GNU tar ends its names with one.)
                path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(path.len()));
                let link = entry.header().link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
                each(Member { path: String::from_utf8_lossy(&path).into_owned(), kind, size, link, content: &mut entry })?;
            }
        }
    }
    // Only at its very end does an engine's stream tell whether it is whole.
    let behind = io::copy(&mut archive.into_inner().take(MOST_BEHIND + 1), &mut io::sink()).map_err(&wrong)?;
    match behind > MOST_BEHIND {
        true => Err(wrong(invalid(format!("more than {MOST_BEHIND} bytes stand behind its end")))),
        false => Ok(()),
    }
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// A record's content.
fn record(entry: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    if size > MOST_RECORD {
        return Err(invalid(format!("a record before a member has {size} bytes, and at most {MOST_RECORD} are read")));
    }
    let mut record = Vec::new();
    entry.read_to_end(&mut record)?;
    Ok(record)
}

/// The path in POSIX records. A size there that differs from the header's is one of more than 8 GiB,
/// more than any package has.
fn pax(records: Vec<u8>, size: u64) -> io::Result<Option<Vec<u8>>> {
    let mut path = None;
    for record in PaxExtensions::new(&records) {
        let record = record?;
        match record.key_bytes() {
            b"path" => path = Some(record.value_bytes().to_vec()),
            b"size" if record.value_bytes() != size.to_string().as_bytes() => return Err(invalid("a member has two sizes")),
            _ => {}
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member as its header and content are, nothing checked.
    fn raw(tar: &mut tar::Builder<Vec<u8>>, kind: EntryType, size: u64, content: &[u8]) {
        let mut header = crate::source::header(0);
        header.set_entry_type(kind);
        header.as_old_mut().name[..6].copy_from_slice(b"member");
        header.set_size(size);
        header.set_cksum();
        tar.append(&header, content).expect("into memory");
    }

    fn read(stream: &[u8]) -> Result<Vec<String>, String> {
        let mut seen = Vec::new();
        for_each(
            stream,
            |cause| cause.to_string(),
            |member| {
                let mut content = String::new();
                member.content.read_to_string(&mut content).map_err(|cause| cause.to_string())?;
                seen.push(format!("{} {content}", member.path));
                Ok(())
            },
        )?;
        Ok(seen)
    }

    #[test]
    fn long_names_are_read_as_gnu_and_posix_write_them() {
        let long = format!("out/{}.deb", "x".repeat(120));
        let mut tar = tar::Builder::new(Vec::new());
        crate::source::add_file(&mut tar, &long, 0o644, 0, b"").expect("GNU's way");
        tar.append_pax_extensions([("path", long.as_bytes()), ("size", b"3")]).expect("POSIX' way");
        raw(&mut tar, EntryType::Regular, 3, b"deb");
        raw(&mut tar, EntryType::Regular, 2, b"no");
        let stream = tar.into_inner().expect("in memory");
        assert_eq!(read(&stream), Ok(vec![format!("{long} "), format!("{long} deb"), "member no".to_string()]));
    }

    #[test]
    fn records_that_are_too_large_or_contradict_are_refused_before_they_are_read() {
        let refusal = |records: &[(EntryType, u64, &[u8])]| {
            let mut tar = tar::Builder::new(Vec::new());
            records.iter().for_each(|(kind, size, content)| raw(&mut tar, *kind, *size, content));
            raw(&mut tar, EntryType::Regular, 3, b"deb");
            read(&tar.into_inner().expect("in memory")).expect_err("refused")
        };
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let why = refusal(&[(kind, 1 << 40, b"a record that says that it has a terabyte")]);
            assert_eq!(why, "a record before a member has 1099511627776 bytes, and at most 1048576 are read");
        }
        assert_eq!(refusal(&[(EntryType::GNULongName, 1, b"a"), (EntryType::GNULongName, 1, b"b")]), "a member has two names");
        assert_eq!(refusal(&[(EntryType::XHeader, 13, b"13 size=4096\n")]), "a member has two sizes");
        refusal(&[(EntryType::XHeader, 5, b"rust\n")]);
    }
}
