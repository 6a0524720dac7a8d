//! An rpm header: a table of tagged values, in packages, in front of them, and in rpm's database.
//!
//! ```text
//! 8e ad e8 01 00 00 00 00     magic; rpm's database keeps headers without it
//! entries, bytes of data      two numbers of 32 bits, big endian as all are
//! tag, type, offset, count    16 bytes for every entry
//! data                        strings end with NUL, numbers are aligned to their size
//! ```
//!
//! The checks are those of rpm 4.18 (`hdrblobVerifyInfo` in `lib/header.c`). Values must follow one
//! another without overlap, so reading every value costs no more than the header's own bytes.

use crate::{Check, shown};
use std::fmt;
use twostage_model::{Class, Error, Result};

/// The numbers of rpm's tags (`include/rpm/rpmtag.h`).
#[allow(missing_docs, reason = "the names are rpm's own")]
pub mod tag {
    pub const HEADER_IMAGE: u32 = 61;
    pub const HEADER_SIGNATURES: u32 = 62;
    pub const HEADER_IMMUTABLE: u32 = 63;
    pub const HEADER_I18NTABLE: u32 = 100;
    pub const LONGARCHIVESIZE: u32 = 271;
    pub const NAME: u32 = 1000;
    pub const VERSION: u32 = 1001;
    pub const RELEASE: u32 = 1002;
    pub const EPOCH: u32 = 1003;
    pub const SUMMARY: u32 = 1004;
    pub const DESCRIPTION: u32 = 1005;
    pub const BUILDTIME: u32 = 1006;
    pub const BUILDHOST: u32 = 1007;
    pub const INSTALLTIME: u32 = 1008;
    pub const SIZE: u32 = 1009;
    pub const DISTRIBUTION: u32 = 1010;
    pub const VENDOR: u32 = 1011;
    pub const LICENSE: u32 = 1014;
    pub const PACKAGER: u32 = 1015;
    pub const GROUP: u32 = 1016;
    pub const URL: u32 = 1020;
    pub const OS: u32 = 1021;
    pub const ARCH: u32 = 1022;
    pub const PREIN: u32 = 1023;
    pub const POSTIN: u32 = 1024;
    pub const PREUN: u32 = 1025;
    pub const POSTUN: u32 = 1026;
    pub const OLDFILENAMES: u32 = 1027;
    pub const FILESIZES: u32 = 1028;
    pub const FILEMODES: u32 = 1030;
    pub const FILERDEVS: u32 = 1033;
    pub const FILEMTIMES: u32 = 1034;
    pub const FILEDIGESTS: u32 = 1035;
    pub const FILELINKTOS: u32 = 1036;
    pub const FILEFLAGS: u32 = 1037;
    pub const FILEUSERNAME: u32 = 1039;
    pub const FILEGROUPNAME: u32 = 1040;
    pub const SOURCERPM: u32 = 1044;
    pub const FILEVERIFYFLAGS: u32 = 1045;
    pub const ARCHIVESIZE: u32 = 1046;
    pub const PROVIDENAME: u32 = 1047;
    pub const REQUIREFLAGS: u32 = 1048;
    pub const REQUIRENAME: u32 = 1049;
    pub const REQUIREVERSION: u32 = 1050;
    pub const NOSOURCE: u32 = 1051;
    pub const NOPATCH: u32 = 1052;
    pub const CONFLICTFLAGS: u32 = 1053;
    pub const CONFLICTNAME: u32 = 1054;
    pub const CONFLICTVERSION: u32 = 1055;
    pub const RPMVERSION: u32 = 1064;
    pub const CHANGELOGTIME: u32 = 1080;
    pub const CHANGELOGNAME: u32 = 1081;
    pub const CHANGELOGTEXT: u32 = 1082;
    pub const OBSOLETENAME: u32 = 1090;
    pub const COOKIE: u32 = 1094;
    pub const FILEDEVICES: u32 = 1095;
    pub const FILEINODES: u32 = 1096;
    pub const FILELANGS: u32 = 1097;
    pub const SOURCEPACKAGE: u32 = 1106;
    pub const PROVIDEFLAGS: u32 = 1112;
    pub const PROVIDEVERSION: u32 = 1113;
    pub const OBSOLETEFLAGS: u32 = 1114;
    pub const OBSOLETEVERSION: u32 = 1115;
    pub const DIRINDEXES: u32 = 1116;
    pub const BASENAMES: u32 = 1117;
    pub const DIRNAMES: u32 = 1118;
    pub const OPTFLAGS: u32 = 1122;
    pub const PAYLOADFORMAT: u32 = 1124;
    pub const PAYLOADCOMPRESSOR: u32 = 1125;
    pub const PAYLOADFLAGS: u32 = 1126;
    pub const PLATFORM: u32 = 1132;
    pub const FILECOLORS: u32 = 1140;
    pub const FILECLASS: u32 = 1141;
    pub const CLASSDICT: u32 = 1142;
    pub const LONGFILESIZES: u32 = 5008;
    pub const LONGSIZE: u32 = 5009;
    pub const FILECAPS: u32 = 5010;
    pub const FILEDIGESTALGO: u32 = 5011;
    pub const BUGURL: u32 = 5012;
    pub const VCS: u32 = 5034;
    pub const RECOMMENDNAME: u32 = 5046;
    pub const RECOMMENDVERSION: u32 = 5047;
    pub const RECOMMENDFLAGS: u32 = 5048;
    pub const SUGGESTNAME: u32 = 5049;
    pub const SUGGESTVERSION: u32 = 5050;
    pub const SUGGESTFLAGS: u32 = 5051;
    pub const SUPPLEMENTNAME: u32 = 5052;
    pub const SUPPLEMENTVERSION: u32 = 5053;
    pub const SUPPLEMENTFLAGS: u32 = 5054;
    pub const ENHANCENAME: u32 = 5055;
    pub const ENHANCEVERSION: u32 = 5056;
    pub const ENHANCEFLAGS: u32 = 5057;
    pub const ENCODING: u32 = 5062;
    pub const PAYLOADDIGEST: u32 = 5092;
    pub const PAYLOADDIGESTALGO: u32 = 5093;
    pub const PAYLOADDIGESTALT: u32 = 5097;
}

/// What a header in a package starts with.
pub(crate) const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
/// Magic, number of entries, bytes of data.
pub(crate) const INTRO: usize = 16;
/// Bytes of one entry of an index.
pub(super) const ENTRY: usize = 16;
/// Entries of one header: rpm's `hdrchkTags` takes fewer than 65536.
const MAX_ENTRIES: u32 = 0xffff;
/// Bytes of one header; rpm takes 256 MiB. 20,000 files need about 5 MiB.
pub(crate) const MAX_HEADER: u64 = 64 << 20;

/// A header whose values were all checked to lie where it says.
///
/// Asking for a tag that is not there, or as another type than it has, gives nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Sorted by tag; of a tag that is there twice only the last, as rpm takes it.
    entries: Vec<Entry>,
    /// A tag that was there twice.
    twice: Option<u32>,
    data: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u32,
    kind: u32,
    count: u32,
    start: usize,
    end: usize,
}

const CHAR: u32 = 1;
pub(super) const INT32: u32 = 4;
pub(super) const INT64: u32 = 5;
pub(super) const STRING: u32 = 6;
pub(super) const BIN: u32 = 7;
pub(super) const STRING_ARRAY: u32 = 8;
const I18NSTRING: u32 = 9;

/// Bytes of one number of a type: char and 8, 16, 32, 64 bits.
pub(super) fn width(kind: u32) -> usize {
    match kind {
        3 => 2,
        INT32 => 4,
        INT64 => 8,
        _ => 1,
    }
}

/// Entries and bytes of data, from the two numbers behind the magic.
pub(crate) fn sizes(numbers: &[u8], most: u64) -> Check<(u32, u32)> {
    let (entries, data) = (be32(numbers, 0), be32(numbers, 4));
    if entries > MAX_ENTRIES {
        return Err(format!("it has {entries} entries, and {MAX_ENTRIES} are allowed"));
    }
    if u64::from(entries) * ENTRY as u64 + u64::from(data) > most {
        return Err(format!("it has {data} bytes of data, and {} MiB are allowed", most >> 20));
    }
    Ok((entries, data))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |bytes| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

impl Header {
    /// Takes the bytes of one header, with its magic of 8 bytes or without, and nothing behind it.
    ///
    /// # Errors
    /// Class `Repository` with what does not hold: sizes, order, alignment, ends of strings, lists
    /// of files or dependencies that differ in length.
    pub fn parse(blob: &[u8]) -> Result<Header> {
        let check = || {
            let header = Header::parse_blob(blob)?;
            super::contents::check(&header).map(|()| header)
        };
        check().map_err(|why: String| Error::new(Class::Repository, format!("an rpm header is refused: {why}")))
    }

    /// The same without a look at what belongs together.
    pub(crate) fn parse_blob(blob: &[u8]) -> Check<Header> {
        let blob = blob.strip_prefix(&MAGIC).unwrap_or(blob);
        let (numbers, rest) = blob.split_at_checked(8).ok_or("it ends before its sizes")?;
        let (count, size) = sizes(numbers, MAX_HEADER)?;
        let (index, data) = rest.split_at_checked(count as usize * ENTRY).ok_or("it ends inside its index")?;
        if data.len() != size as usize {
            return Err(format!("it has {} bytes of data where it says {size}", data.len()));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(count as usize);
        let mut behind = 0;
        for raw in index.chunks_exact(ENTRY) {
            let (tag, kind, offset, count) = (be32(raw, 0), be32(raw, 4), be32(raw, 8) as usize, be32(raw, 12));
            let entry = place(data, tag, kind, offset, count).map_err(|why| format!("tag {tag}: {why}"))?;
            // Numbers are signed in rpm.
            if !(tag::HEADER_IMAGE..=tag::HEADER_IMMUTABLE).contains(&tag) && !(tag::HEADER_I18NTABLE..1 << 31).contains(&tag) {
                return Err(format!("tag {tag} cannot be one"));
            }
            if matches!(tag, tag::HEADER_IMAGE..=tag::HEADER_IMMUTABLE) {
                // The trailer of a region lies behind the values that it covers.
                if (entry.kind, entry.count) != (BIN, ENTRY as u32) {
                    return Err(format!("tag {tag}: it is not the end of a region"));
                }
            } else if entry.start < behind {
                return Err(format!("tag {tag}: its value begins inside the one before it"));
            } else {
                behind = entry.end;
            }
            entries.push(entry);
        }
        // Stable, so that of equal tags the last one stays last.
        entries.sort_by_key(|entry| entry.tag);
        let twice = entries.windows(2).find_map(|pair| match pair {
            [a, b] if a.tag == b.tag => Some(a.tag),
            _ => None,
        });
        if twice.is_some() {
            entries.reverse();
            entries.dedup_by_key(|entry| entry.tag);
            entries.reverse();
        }
        Ok(Header { entries, twice, data: data.to_vec() })
    }

    /// A tag that was there twice. rpm's database does that on purpose; in a package two readers
    /// may see two different packages.
    pub(crate) fn twice(&self) -> Option<u32> {
        self.twice
    }

    /// Checks what holds for the main header of a package, though not in rpm's database: no tag is
    /// there twice, the region, if there is one, covers everything (`hdrblobVerifyRegion`), values are of
    /// their tags' types (`hdrchkTagType`), and between them are no bytes of nobody (`regionSwab`).
    pub(crate) fn check_whole(&self) -> Check<()> {
        if let Some(tag) = self.twice {
            return Err(format!("it has tag {tag} twice"));
        }
        let is_region = |entry: &&Entry| matches!(entry.tag, tag::HEADER_IMAGE..=tag::HEADER_IMMUTABLE);
        let mut by_place: Vec<&Entry> = self.entries.iter().collect();
        by_place.sort_by_key(|entry| (is_region(entry), entry.start));
        let mut end = 0_usize;
        for entry in by_place {
            let gap = if is_region(&entry) { entry.start != end } else { entry.start != end.next_multiple_of(width(entry.kind)) };
            if gap {
                return Err(format!("tag {}: its value begins at {} where {end} was to come", entry.tag, entry.start));
            }
            end = entry.end;
        }
        if end != self.data.len() {
            return Err(format!("behind its last value there are {} bytes", self.data.len() - end));
        }
        if self.has(tag::HEADER_IMAGE) || self.has(tag::HEADER_IMMUTABLE) {
            for entry in &self.entries {
                let right = type_of(entry.tag).is_none_or(|kind| kind == entry.kind || is_text(kind) && is_text(entry.kind));
                if !right {
                    return Err(format!("tag {}: its type is {}", entry.tag, entry.kind));
                }
            }
        }
        for tag in [tag::HEADER_IMAGE, tag::HEADER_IMMUTABLE] {
            let Some(region) = self.entry(tag) else { continue };
            // Its value looks like an entry; the offset is that of the first entry, from the last.
            let trailer = self.data.get(region.start..region.end).unwrap_or_default();
            let covered = be32(trailer, 8).wrapping_neg();
            let good = (region.kind, trailer.len(), be32(trailer, 0)) == (BIN, ENTRY, tag)
                && u64::from(covered) == (self.entries.len() * ENTRY) as u64
                && region.end == self.data.len();
            if !good {
                return Err(format!("its region {tag} does not cover all of it"));
            }
        }
        Ok(())
    }

    /// Whether the header has the tag, of whatever type.
    pub fn has(&self, tag: u32) -> bool {
        self.entry(tag).is_some()
    }

    /// All tags, in order.
    pub fn tags(&self) -> impl Iterator<Item = u32> {
        self.entries.iter().map(|entry| entry.tag)
    }

    /// A string; of a list, or of translations, the first. Not UTF-8: see [`readable`].
    pub fn text(&self, tag: u32) -> Option<String> {
        self.strings(tag).next().map(readable)
    }

    /// All strings of a list; empty when there is none.
    pub fn texts(&self, tag: u32) -> Vec<String> {
        self.strings(tag).map(readable).collect()
    }

    /// The strings of a tag as the bytes that they are, without copying them.
    pub fn strings(&self, tag: u32) -> impl Iterator<Item = &[u8]> {
        let entry = self.entry(tag).filter(|entry| matches!(entry.kind, STRING | STRING_ARRAY | I18NSTRING));
        let bytes = entry.and_then(|entry| self.data.get(entry.start..entry.end)).and_then(|bytes| bytes.strip_suffix(b"\0"));
        bytes.into_iter().flat_map(|bytes| bytes.split(|byte| *byte == 0))
    }

    /// The numbers of a tag, of whatever width; empty when there is none.
    pub fn numbers(&self, tag: u32) -> Vec<u64> {
        self.each_number(tag).collect()
    }

    /// The same, one after another.
    pub(crate) fn each_number(&self, tag: u32) -> impl Iterator<Item = u64> {
        let entry = self.entry(tag).filter(|entry| (CHAR..=INT64).contains(&entry.kind));
        let bytes = entry.and_then(|entry| self.data.get(entry.start..entry.end)).unwrap_or_default();
        let width = entry.map_or(1, |entry| width(entry.kind));
        bytes.chunks_exact(width).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The first number of a tag.
    pub fn number(&self, tag: u32) -> Option<u64> {
        self.each_number(tag).next()
    }

    /// The bytes of a binary tag.
    pub fn binary(&self, tag: u32) -> Option<&[u8]> {
        self.entry(tag).filter(|entry| entry.kind == BIN).and_then(|entry| self.data.get(entry.start..entry.end))
    }

    /// How many values a tag has; 0 when it is not there.
    pub(crate) fn count(&self, tag: u32) -> usize {
        self.entry(tag).map_or(0, |entry| entry.count as usize)
    }

    /// The type of a tag and its bytes as they are.
    pub(crate) fn raw(&self, tag: u32) -> Option<(u32, &[u8])> {
        let entry = self.entry(tag)?;
        Some((entry.kind, self.data.get(entry.start..entry.end)?))
    }

    fn entry(&self, tag: u32) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&tag, |entry| entry.tag).ok()?;
        self.entries.get(at)
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({} tags, {} bytes)", self.entries.len(), self.data.len())
    }
}

fn is_text(kind: u32) -> bool {
    matches!(kind, STRING | STRING_ARRAY | I18NSTRING)
}

/// The type of the values of a tag that rpm knows (`rpmTagGetTagType`; the comments in
/// `include/rpm/rpmtag.h` of 4.18). Of texts it is any of the three: rpm lets them differ.
fn type_of(tag: u32) -> Option<u32> {
    Some(match tag {
        1029 => CHAR,
        1030 | 1033 => 3,
        257 | 277 | 1003 | 1006 | 1008..=1009 | 1028 | 1034 | 1037 | 1045..=1046 | 1048 | 1051..=1053 | 1068..=1069 | 1080 => INT32,
        1095..=1096 | 1106 | 1112 | 1114 | 1116 | 1119 | 1127..=1129 | 1134 | 1140..=1141 | 1143..=1145 | 1158 | 1161 | 1195 => INT32,
        5011 | 5017..=5027 | 5032..=5033 | 5037 | 5045 | 5048 | 5051 | 5054 | 5057 | 5068 | 5070 | 5072 | 5078 | 5080 | 5082 => INT32,
        5084..=5085 | 5091 | 5093 => INT32,
        270..=271 | 5008..=5009 => INT64,
        259 | 261..=262 | 267..=268 | 1012..=1013 | 1043 | 1146 => BIN,
        100 | 266 | 269 | 273 | 276 | 1000..=1002 | 1004..=1005 | 1007 | 1010..=1011 | 1014..=1016 | 1018..=1027 => STRING,
        1035..=1036 | 1039..=1040 | 1044 | 1047 | 1049..=1050 | 1054..=1055 | 1059..=1062 | 1064..=1067 | 1079 => STRING,
        1081..=1082 | 1085..=1092 | 1094 | 1097..=1099 | 1113 | 1115 | 1117..=1118 | 1120..=1126 | 1132..=1133 => STRING,
        1135 | 1142 | 1147..=1157 | 1159..=1160 | 1196 | 5000..=5002 | 5005..=5007 | 5010 | 5012..=5016 | 5030..=5031 => STRING,
        5034..=5036 | 5040..=5044 | 5046..=5047 | 5049..=5050 | 5052..=5053 | 5055..=5056 | 5058..=5062 | 5066..=5067 => STRING,
        5069 | 5071 | 5076..=5077 | 5079 | 5081 | 5086..=5090 | 5092 | 5096..=5101 => STRING,
        _ => return None,
    })
}

/// Finds the end of one value and checks all of it.
fn place(data: &[u8], tag: u32, kind: u32, start: usize, count: u32) -> Check<Entry> {
    let rest = data.get(start..).ok_or("its value lies behind the data")?;
    if count == 0 || count as usize > data.len() {
        return Err(format!("it has {count} values"));
    }
    let length = match kind {
        STRING if count != 1 => return Err(format!("it is one string and has {count}")),
        STRING | STRING_ARRAY | I18NSTRING => {
            let mut ends = memchr::memchr_iter(0, rest);
            ends.nth(count as usize - 1).map(|last| last + 1)
        }
        CHAR..=BIN => {
            if !start.is_multiple_of(width(kind)) {
                return Err(format!("its numbers lie at {start}, which is not aligned"));
            }
            (count as usize).checked_mul(width(kind)).filter(|length| *length <= rest.len())
        }
        _ => return Err(format!("its type is {kind}")),
    };
    let length = length.ok_or("its value does not end inside the data")?;
    Ok(Entry { tag, kind, count, start, end: start + length })
}

/// Text as createrepo_c writes it (`cr_latin1_to_utf8` in `src/xml_dump.c`): UTF-8, or else Latin-1
/// without control characters and without 0x80 to 0xbf, which most often are the rest of cp1252.
///
/// UTF-8 keeps its control characters: what a file format does not take is its writer's to escape.
pub fn readable(bytes: &[u8]) -> String {
    let kept = |byte: &&u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..0x80 | 0xc0..);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => bytes.iter().filter(kept).map(|byte| char::from(*byte)).collect(),
    }
}

/// Text that must be UTF-8, because something is decided by it.
pub(crate) fn strict(header: &Header, tag: u32, name: &str) -> Check<Option<String>> {
    let Some(bytes) = header.strings(tag).next() else {
        return if header.has(tag) { Err(format!("its tag {name} is not text")) } else { Ok(None) };
    };
    let text = std::str::from_utf8(bytes).map_err(|_| format!("its tag {name} is {}, which is not UTF-8", shown(bytes)))?;
    Ok(Some(text.to_string()))
}
