//! Stanzas of fields in their order: deb822(5), Debian policy 5.1.
//!
//! ```text
//! Package: hello
//! Description: greets
//!  and goes
//!  .
//!  A second paragraph.
//! ```
//!
//! The value of `Description` here is `"greets\n and goes\n .\n A second paragraph."`: the
//! continuation lines stay as they were, blank before them included.
//!
//! Control characters are taken, as dpkg and apt take them: what a terminal must not get is for
//! whoever writes to one to escape. Two are not: NUL, where programs in C end the text, and a
//! carriage return inside a line, which makes apt lose the whole index. (At a line's end it is
//! taken off, as both do.)

use std::collections::BTreeSet;
use std::fmt;
use twostage_model::{Class, Error, PackageId, Result, Sha256};

/// Fields of one stanza. Real ones have at most about 60.
const MAX_FIELDS: usize = 1000;

/// One stanza: fields in order; names are compared without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control {
    fields: Vec<(String, String)>,
}

impl Control {
    /// Reads exactly one stanza. Empty lines around it are taken, inside it they are not.
    ///
    /// # Errors
    /// Class `Repository`, with the line: a field that is there twice, a bad field name, a missing
    /// colon, a comment, a continuation line without a field, a line of blanks, a NUL or a carriage
    /// return inside a line, no stanza or more than one.
    pub fn parse(text: &str) -> Result<Control> {
        let mut stanzas = Stanzas::new(text);
        let control = stanzas.next().unwrap_or_else(|| Err(wrong(1, "there is no field")))?;
        match stanzas.next() {
            None => Ok(control),
            Some(_) => Err(wrong(stanzas.first, "an empty line before this one ends the stanza, and there may be only one")),
        }
    }

    /// Reads stanzas with empty lines between them.
    ///
    /// # Errors
    /// As [`Control::parse`], but none and many are taken.
    pub fn parse_many(text: &str) -> Result<Vec<Control>> {
        Stanzas::new(text).collect()
    }

    /// The value of a field: first line without blanks around it, continuation lines as they were.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Sets a field: in its place if it is there, else as the last one.
    ///
    /// The value cannot break out of its field: lines after the first get the blank (an empty line
    /// the ` .`) that makes them continuation lines, control characters become blanks.
    pub fn set(&mut self, name: &str, value: &str) {
        let clean = |line: &str| line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect::<String>();
        let mut lines = value.lines();
        let mut stored = clean(lines.next().unwrap_or_default()).trim().to_string();
        for line in lines {
            let line = clean(line);
            stored.push('\n');
            if line.trim().is_empty() {
                stored.push_str(" .");
            } else {
                stored.extend((!line.starts_with([' ', '\t'])).then_some(' '));
                stored.push_str(&line);
            }
        }
        match self.fields.iter_mut().find(|(field, _)| field.eq_ignore_ascii_case(name)) {
            Some((_, value)) => *value = stored,
            None => self.fields.push((name.chars().filter(|c| c.is_ascii_graphic() && *c != ':').collect(), stored)),
        }
    }

    /// Fields and values in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Writes the stanza, each line with its newline, no empty line after it.
impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields.iter().try_for_each(|(name, value)| {
            let blank = if value.is_empty() || value.starts_with('\n') { "" } else { " " };
            writeln!(f, "{name}:{blank}{value}")
        })
    }
}

fn wrong(line: usize, why: &str) -> Error {
    Error::new(Class::Repository, format!("line {line}: {why}"))
}

/// Reads one stanza after the other.
struct Stanzas<'a> {
    lines: std::iter::Enumerate<std::str::Split<'a, char>>,
    /// The number of the first line of the stanza that was read last.
    first: usize,
}

impl<'a> Stanzas<'a> {
    fn new(text: &'a str) -> Self {
        Stanzas { lines: text.split('\n').enumerate(), first: 0 }
    }
}

impl Iterator for Stanzas<'_> {
    type Item = Result<Control>;

    fn next(&mut self) -> Option<Result<Control>> {
        let mut control = Control::default();
        let mut started = false;
        for (index, line) in self.lines.by_ref() {
            let number = index + 1;
            if line.is_empty() {
                if started {
                    break;
                }
                continue;
            }
            if !started {
                self.first = number;
                started = true;
            }
            if let Err(why) = control.line(line) {
                return Some(Err(wrong(number, &why)));
            }
        }
        started.then_some(Ok(control))
    }
}

impl Control {
    fn line(&mut self, line: &str) -> crate::Check<()> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if let Some(c) = line.chars().find(|c| matches!(c, '\0' | '\r')) {
            return Err(format!("the control character {c:?} is not allowed"));
        }
        if line.trim_matches(is_blank).is_empty() {
            return Err("a line of blanks only: some readers take it for the end of the stanza, some do not".into());
        }
        if line.starts_with([' ', '\t']) {
            let (_, value) = self.fields.last_mut().ok_or("a continuation line without a field before it")?;
            value.push('\n');
            value.push_str(line);
            return Ok(());
        }
        if line.starts_with('#') {
            return Err("a comment is not allowed here".into());
        }
        let (name, value) = line.split_once(':').ok_or_else(|| format!("{} has no colon", crate::shown(line)))?;
        let name = name.trim_end_matches(is_blank);
        // Policy 5.1: US-ASCII without controls, blank and colon; not starting with # or -.
        if name.is_empty() || name.starts_with('-') || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("{} is not a field name", crate::shown(name)));
        }
        if self.get(name).is_some() {
            return Err(format!("the field {name} is there twice"));
        }
        if self.fields.len() >= MAX_FIELDS {
            return Err(format!("more than {MAX_FIELDS} fields"));
        }
        self.fields.push((name.to_string(), value.trim_matches(is_blank).to_string()));
        Ok(())
    }
}

/// What separates words for dpkg (`c_isspace`) and apt. U+00A0 and the like are text.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0b' | '\x0c' | '\r')
}

/// What a `.dsc` says of its source package (Debian policy 5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dsc {
    /// All its fields, as a Sources index needs them.
    pub control: Control,
    /// Source package name, checked as a package name.
    pub source: String,
    /// Whole version, checked as a package's.
    pub version: String,
    /// The files that make up the source, without the `.dsc` itself, in its order.
    pub files: Vec<DscFile>,
}

/// One file of a source package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DscFile {
    /// A plain file name: no folder, no leading dot or dash.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// From `Checksums-Sha256`.
    pub sha256: Sha256,
}

/// Reads the text of a `.dsc`, with or without a clear-sign signature around it (RFC 4880, 7).
/// The signature is not verified.
///
/// # Errors
/// Class `Repository`: a broken envelope, a bad stanza, no `Source`, `Version` or
/// `Checksums-Sha256`, a file name that is not plain, lists that name different files, or a field
/// (`Package`, `Directory`) that would lie in a Sources index.
pub fn dsc_files(text: &str) -> Result<Dsc> {
    read_dsc(text).map_err(|why| Error::new(Class::Repository, format!("the .dsc is refused: {why}")))
}

fn read_dsc(text: &str) -> crate::Check<Dsc> {
    let control = Control::parse(&unwrap_clearsigned(text)?).map_err(|error| error.to_string())?;
    if let Some(field) = ["Package", "Directory"].into_iter().find(|field| control.get(field).is_some()) {
        return Err(format!("the field {field} is for the index to write"));
    }
    let field = |name: &str| control.get(name).ok_or_else(|| format!("it has no field {name}"));
    let (source, version) = (field("Source")?.to_string(), field("Version")?.to_string());
    PackageId::new(&source, &version, "source").map_err(|error| error.to_string())?;
    let files = checksums(&control)?;
    same_files(&control, "Files", &files)?;
    Ok(Dsc { control, source, version, files })
}

/// Reads the text of a `.changes` (deb-changes(5)), which names the files of one upload, with or without a
/// clear-sign signature around it. The signature is not verified.
///
/// # Errors
/// Class `Repository`: a broken envelope, a bad stanza, no `Checksums-Sha256`, a file name that is not
/// plain, or lists that name different files.
pub fn changes_files(text: &str) -> Result<Vec<DscFile>> {
    let read = || {
        let control = Control::parse(&unwrap_clearsigned(text)?).map_err(|error| error.to_string())?;
        let files = checksums(&control)?;
        // Between size and name of this one are section and priority.
        let names = |list: &str| list.lines().filter_map(|line| line.split_ascii_whitespace().nth(4)).map(str::to_string).collect();
        let said: Option<BTreeSet<String>> = control.get("Files").map(names);
        if said.is_some_and(|said| said != files.iter().map(|file| file.name.clone()).collect()) {
            return Err("Files and Checksums-Sha256 name different files".into());
        }
        Ok(files)
    };
    read().map_err(|why: String| Error::new(Class::Repository, format!("the .changes is refused: {why}")))
}

/// The files of `Checksums-Sha256`, which `Checksums-Sha1` names, too.
fn checksums(control: &Control) -> crate::Check<Vec<DscFile>> {
    let list = control.get("Checksums-Sha256").ok_or("it has no field Checksums-Sha256")?;
    let mut files = Vec::new();
    for (name, size, digest) in file_list(list)? {
        let sha256 = digest.parse().map_err(|error: Error| error.to_string())?;
        files.push(DscFile { name: name.to_string(), size, sha256 });
    }
    same_files(control, "Checksums-Sha1", &files)?;
    Ok(files)
}

/// Checks that a list of another kind names the same files.
fn same_files(control: &Control, field: &str, files: &[DscFile]) -> crate::Check<()> {
    let Some(list) = control.get(field) else { return Ok(()) };
    let said: BTreeSet<_> = file_list(list)?.into_iter().map(|(name, size, _)| (name, size)).collect();
    if said != files.iter().map(|file| (file.name.as_str(), file.size)).collect() {
        return Err(format!("{field} and Checksums-Sha256 name different files or sizes"));
    }
    Ok(())
}

/// The lines `digest size name` of a list of files.
fn file_list(value: &str) -> crate::Check<Vec<(&str, u64, &str)>> {
    let mut files = Vec::new();
    let mut names = BTreeSet::new();
    for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_ascii_whitespace();
        let (Some(digest), Some(size), Some(name), None) = (words.next(), words.next(), words.next(), words.next()) else {
            return Err(format!("{} is not `digest size name`", crate::shown(line)));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-._~:%".contains(c);
        if name.len() > 255 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
            return Err(format!("{} is not a plain file name", crate::shown(name)));
        }
        let size = decimal(size).ok_or_else(|| format!("{} is not a size", crate::shown(size)))?;
        if !names.insert(name) {
            return Err(format!("the file {name} is there twice"));
        }
        files.push((name, size, digest));
    }
    if files.is_empty() { Err("a list of files is empty".into()) } else { Ok(files) }
}

/// A number of digits only; `parse` alone would take a sign too.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The text of a clear-signed message, without its signature, which is not verified.
///
/// # Errors
/// Class `Repository`: the envelope is not whole.
pub fn unwrap_clear_signed(text: &str) -> Result<String> {
    unwrap_clearsigned(text).map_err(|why| Error::new(Class::Repository, why))
}

/// The signed text of a clear-signed message, or the text itself.
fn unwrap_clearsigned(text: &str) -> crate::Check<String> {
    if !text.starts_with("-----BEGIN PGP SIGNED MESSAGE-----") {
        return Ok(text.to_string());
    }
    let mut lines = text.lines().map(str::trim_end).skip(1);
    // Armor headers (`Hash: SHA512`) up to the empty line are not signed.
    lines.by_ref().find(|line| line.is_empty()).ok_or("its signature's header does not end")?;
    let mut body = String::new();
    loop {
        match lines.next().ok_or("it says that it is signed, but there is no signature")? {
            "-----BEGIN PGP SIGNATURE-----" => break,
            line if line.starts_with('-') && !line.starts_with("- ") => {
                return Err("an armor line is in the middle of the signed text".into());
            }
            line => {
                body.push_str(line.strip_prefix("- ").unwrap_or(line));
                body.push('\n');
            }
        }
    }
    lines.find(|line| *line == "-----END PGP SIGNATURE-----").ok_or("its signature does not end")?;
    if lines.any(|line| !line.is_empty()) {
        return Err("there is text after its signature".into());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "Package: hello\nVersion: 2.10-3\nDescription: greets\n and goes\n .\n  * kept  as it was\nTag:\n one,\n two\n";

    #[test]
    fn what_is_read_is_written_as_it_was() -> Result<()> {
        let control = Control::parse(HELLO)?;
        assert_eq!(control.to_string(), HELLO);
        assert_eq!(control.get("pAcKaGe"), Some("hello"));
        assert_eq!(control.get("Description"), Some("greets\n and goes\n .\n  * kept  as it was"));
        assert_eq!(control.get("Tag"), Some("\n one,\n two"));
        assert_eq!(control.fields().map(|(name, _)| name).collect::<Vec<_>>(), ["Package", "Version", "Description", "Tag"]);
        assert_eq!(Control::parse_many(&format!("\n{HELLO}\n\n{HELLO}\n"))?.len(), 2);
        assert_eq!(Control::parse_many("")?.len(), 0);
        Ok(())
    }

    #[test]
    fn set_keeps_the_place_and_cannot_be_broken_out_of() -> Result<()> {
        let mut control = Control::parse(HELLO)?;
        control.set("version", "3");
        control.set("Filename", "pool/x\nSize: 1\n\nPackage: evil\r\n");
        let again = Control::parse(&control.to_string())?;
        assert_eq!(again, control);
        assert_eq!(again.get("Version"), Some("3"));
        assert_eq!(again.get("Size"), None);
        assert_eq!(again.fields().nth(1), Some(("Version", "3")));
        Ok(())
    }

    #[test]
    fn what_dpkg_takes_for_text_is_text() -> Result<()> {
        let control = Control::parse("A : a\u{85}b\x1b[1m\r\nD: \u{a0}\n \u{a0}\n \u{85}\u{2028}\x07\x7f\x0c.\r\n")?;
        assert_eq!(control.get("A"), Some("a\u{85}b\x1b[1m"));
        assert_eq!(control.get("D"), Some("\u{a0}\n \u{a0}\n \u{85}\u{2028}\x07\x7f\x0c."));
        assert_eq!(Control::parse(&control.to_string())?, control);
        Ok(())
    }

    #[test]
    fn errors_name_the_line() {
        for (text, expected) in [
            ("", "line 1: there is no field"),
            ("A: 1\na: 2\n", "line 2: the field a is there twice"),
            ("A 1\n", "line 1: \"A 1\" has no colon"),
            ("A: 1\n: x\n", "line 2: \"\" is not a field name"),
            ("-A: 1\n", "line 1: \"-A\" is not a field name"),
            ("A b: 1\n", "line 1: \"A b\" is not a field name"),
            ("Ä: 1\n", "line 1: \"Ä\" is not a field name"),
            (" x\n", "line 1: a continuation line"),
            ("A: 1\n \nB: 2\n", "line 2: a line of blanks"),
            ("A: 1\n\nB: 2\n", "line 3: an empty line before"),
            ("A: 1\n# end\n", "line 2: a comment"),
            ("A: 1\r2\n", "line 1: the control character '\\r'"),
            ("A: 1\n \r\n", "line 2: a line of blanks"),
            ("A: 1\n x\0y\n", "line 2: the control character '\\0'"),
        ] {
            let error = Control::parse(text).map(|_| ()).map_err(|e| e.to_string());
            assert!(error.as_ref().is_err_and(|e| e.starts_with(expected)), "{text:?}: {error:?}");
        }
        let many: String = (0..2000).map(|i| format!("F{i}:\n")).collect();
        assert!(Control::parse(&many).is_err());
    }

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn dsc(files: &str, more: &str) -> String {
        format!("Format: 3.0 (quilt)\nSource: greet\nBinary: greet,\n libgreet1\nVersion: 1:1.0-1\nChecksums-Sha256:\n{files}{more}")
    }

    #[test]
    fn a_dsc_is_read_with_and_without_signature() -> Result<()> {
        let files = format!(" {SHA} 10 greet_1.0.orig.tar.xz\n {SHA} 20 greet_1.0-1.debian.tar.xz\n");
        let plain = dsc(&files, "Files:\n x 10 greet_1.0.orig.tar.xz\n y 20 greet_1.0-1.debian.tar.xz\n");
        let signed = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{plain}\n-----BEGIN PGP SIGNATURE-----\n\niQ==\n=x\n-----END PGP SIGNATURE-----\n"
        );
        let read = dsc_files(&signed)?;
        assert_eq!(read, dsc_files(&plain)?);
        assert_eq!((read.source.as_str(), read.version.as_str()), ("greet", "1:1.0-1"));
        assert_eq!(
            read.files.iter().map(|f| (f.name.as_str(), f.size)).collect::<Vec<_>>(),
            [("greet_1.0.orig.tar.xz", 10), ("greet_1.0-1.debian.tar.xz", 20)]
        );
        for broken in
            [signed.replace("-----END", "----END"), format!("{signed}Source: other\n"), signed.replace("-----BEGIN PGP SIGNATURE", "x")]
        {
            assert!(dsc_files(&broken).is_err());
        }
        Ok(())
    }

    #[test]
    fn a_changes_is_read_and_one_that_lies_or_climbs_is_refused() -> Result<()> {
        let changes = |sums: &str, files: &str| format!("Format: 1.8\nSource: greet\nChecksums-Sha256:\n{sums}Files:\n{files}");
        let good = changes(&format!(" {SHA} 10 greet_1.dsc\n"), " x 10 misc optional greet_1.dsc\n");
        assert_eq!(changes_files(&good)?, [DscFile { name: "greet_1.dsc".into(), size: 10, sha256: Sha256::of(b"") }]);
        for (sums, files) in [
            (format!(" {SHA} 10 ../greet_1.dsc\n"), " x 10 misc optional ../greet_1.dsc\n"),
            (format!(" {SHA} 10 /etc/shadow\n"), " x 10 misc optional /etc/shadow\n"),
            (format!(" {SHA} 10 a\n"), " x 10 misc optional b\n"),
            (format!(" {SHA} 10 a\n {SHA} 10 a\n"), " x 10 misc optional a\n"),
            (" abc 10 a\n".into(), " x 10 misc optional a\n"),
        ] {
            assert!(changes_files(&changes(&sums, files)).is_err(), "{sums} {files}");
        }
        assert!(changes_files("Format: 1.8\nFiles:\n x 10 misc optional a\n").is_err());
        Ok(())
    }

    #[test]
    fn a_dsc_that_lies_or_climbs_is_refused() {
        let good = format!(" {SHA} 10 a.tar.xz\n");
        assert!(dsc_files(&dsc(&good, "")).is_ok());
        for (files, more) in [
            (format!(" {SHA} 10 ../a.tar.xz\n"), ""),
            (format!(" {SHA} 10 .a\n"), ""),
            (format!(" {SHA} +10 a\n"), ""),
            (format!(" {SHA} 10 a\n {SHA} 10 a\n"), ""),
            (" abc 10 a\n".to_string(), ""),
            (String::new(), ""),
            (good.clone(), "Files:\n x 11 a.tar.xz\n"),
            (good.clone(), "Checksums-Sha1:\n x 10 b.tar.xz\n"),
            (good.clone(), "Directory: pool/elsewhere\n"),
        ] {
            assert!(dsc_files(&dsc(&files, more)).is_err(), "{files} {more}");
        }
    }
}
