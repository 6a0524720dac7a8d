//! Paths inside an image: text that keeps every name distinct, and never leads out.

use crate::broken;
use twostage_model::Result;

/// The longest path that Linux takes.
pub(crate) const MAX_PATH: usize = 4096;
/// The longest name of one file.
const MAX_NAME: usize = 255;
/// The deepest folder.
pub(crate) const MAX_DEPTH: usize = 1000;
/// A byte that is not UTF-8 is the private character at this offset: 0xff is U+F00FF.
const ESCAPE: u32 = 0xF0000;

/// The name as text. UTF-8 stays as it is. Every other byte becomes a private-use character
/// (U+F0080 to U+F00FF), and so does each byte of such a character in the name itself, so that two
/// names are the same text only if they are the same bytes.
pub fn from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let byte = |b: &u8| char::from_u32(ESCAPE + u32::from(*b)).unwrap_or(char::REPLACEMENT_CHARACTER);
    for chunk in bytes.utf8_chunks() {
        if chunk.valid().is_ascii() {
            text.push_str(chunk.valid());
        } else {
            for c in chunk.valid().chars() {
                if escaped(c).is_some() {
                    text.extend(c.encode_utf8(&mut [0; 4]).as_bytes().iter().map(byte));
                } else {
                    text.push(c);
                }
            }
        }
        text.extend(chunk.invalid().iter().map(byte));
    }
    text
}

/// The bytes that [`from_bytes`] made this text of.
pub fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match escaped(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn escaped(c: char) -> Option<u8> {
    (c as u32).checked_sub(ESCAPE).and_then(|b| u8::try_from(b).ok()).filter(|b| *b >= 0x80)
}

/// For people: on one line, with `\n`, `\\` and `\xff` for what does not print.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match (escaped(c), c) {
            (Some(byte), _) => out.push_str(&format!("\\x{byte:02x}")),
            (None, '\n') => out.push_str("\\n"),
            (None, '\\') => out.push_str("\\\\"),
            (None, c) if c.is_control() => out.push_str(&c.escape_default().to_string()),
            (None, c) => out.push(c),
        }
    }
    out
}

/// A path of a tar without its slashes at the ends, `.` and empty parts.
///
/// # Errors
/// `..`, a NUL, and what no file system takes.
pub fn clean(bytes: &[u8]) -> Result<String> {
    let refuse = |why: &str| {
        let shown = shown(&from_bytes(&bytes[..bytes.len().min(200)]));
        Err(broken(format!("the path {shown:?} {why}")))
    };
    if bytes.len() > MAX_PATH {
        return refuse(&format!("is longer than {MAX_PATH} bytes"));
    }
    if bytes.contains(&0) {
        return refuse("has a NUL in it");
    }
    let mut clean = Vec::with_capacity(bytes.len());
    let mut depth = 0;
    for part in bytes.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return refuse("leads out of the image"),
            _ if part.len() > MAX_NAME => return refuse(&format!("has a name longer than {MAX_NAME} bytes")),
            _ => {}
        }
        depth += 1;
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    if depth > MAX_DEPTH {
        return refuse(&format!("is deeper than {MAX_DEPTH} folders"));
    }
    Ok(from_bytes(&clean))
}

/// The folder of a path; the root's children have the empty one.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The last name of a path.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// `folder/name`, at the root too, and with nothing below.
pub fn join(folder: &str, name: &str) -> String {
    match (folder, name) {
        ("", name) => name.to_string(),
        (folder, "") => folder.to_string(),
        (folder, name) => format!("{folder}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_bytes_are_different_text_and_come_back() {
        let names: [&[u8]; 6] = [b"a\xff", "a\u{F00FF}".as_bytes(), "a\u{fffd}".as_bytes(), b"a\\xff", "\u{e4}".as_bytes(), b"\xe4"];
        let texts: std::collections::BTreeSet<String> = names.iter().map(|n| from_bytes(n)).collect();
        assert_eq!(texts.len(), names.len());
        assert!(names.iter().all(|n| to_bytes(&from_bytes(n)) == *n));
        assert_eq!(shown(&from_bytes(b"a\n\xff\\")), "a\\n\\xff\\\\");
    }

    #[test]
    fn no_path_leads_out() {
        assert_eq!(clean(b"./usr//bin/./x/").ok().as_deref(), Some("usr/bin/x"));
        assert_eq!(clean(b"./").ok().as_deref(), Some(""));
        assert_eq!(clean(b"/etc").ok().as_deref(), Some("etc"));
        for bad in [&b"../x"[..], b"a/../../x", b"..", b"a\0b", &[b'a'; 300], &b"a/".repeat(1500), &b"a/".repeat(3000)] {
            assert!(clean(bad).is_err());
        }
    }
}
