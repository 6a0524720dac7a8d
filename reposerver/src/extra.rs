//! Whether a client can read what is passed on to it beside packages.
//!
//! A client reads these files with every update, and one that it cannot read costs it all packages of the
//! repository: zypper stops at an `updateinfo.xml` that is not well-formed, and dnf ends with an abort at a
//! `modules.yaml` that libmodulemd cannot parse. So they are parsed before they are taken, as strictly as the
//! strictest of expat, libxml2 and libmodulemd.
//!
//! ```text
//! comps.xml        <comps> … </comps>           XML 1.0, UTF-8, no declarations of its own
//! updateinfo.xml   <updates> … </updates>       the same
//! modules.yaml     document: modulemd           mappings, one after the other, of the kinds and
//!                  version: 2                   versions that libmodulemd knows
//!                  data: …
//! ```

use crate::pool::Extra;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use saphyr_parser::{Event as YamlEvent, Parser};

/// Elements in each other: libxml2 takes 256.
const MOST_DEPTH: usize = 200;

/// Checks one file.
///
/// # Errors
/// The reason, without the name of the file.
pub(crate) fn check(kind: Extra, text: &str) -> Result<(), String> {
    match kind {
        Extra::Group => xml(text, "comps"),
        Extra::UpdateInfo => xml(text, "updates"),
        Extra::Modules => yaml(text),
    }
}

/// What XML 1.0 has no place for (section 2.2).
fn is_forbidden(c: char) -> bool {
    (c < ' ' && !"\t\n\r".contains(c)) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

fn xml(text: &str, root: &str) -> Result<(), String> {
    if text.chars().any(is_forbidden) {
        return Err("it has characters that XML does not have".into());
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let (mut depth, mut seen) = (0_usize, false);
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|error| format!("it is not well-formed at byte {}: {error}", reader.error_position()))?;
        let wrong = |why: &str| Err(format!("it is not well-formed at byte {at}: {why}"));
        match event {
            Event::Decl(declaration) if at == 0 => match declaration.encoding() {
                None => {}
                Some(Ok(name)) if name.eq_ignore_ascii_case(b"utf-8") => {}
                Some(_) => return Err("it says that it is not UTF-8".into()),
            },
            Event::Decl(_) => return wrong("the declaration is not at the start"),
            // (Real ones name the DTD of comps.)
            Event::DocType(ref named) if !named.contains(&b'[') => {}
            Event::DocType(_) => return Err("its document type has declarations, and could name entities in them".into()),
            Event::Start(ref element) | Event::Empty(ref element) => {
                if depth == 0 && std::mem::replace(&mut seen, true) {
                    return wrong("there is more than one root");
                }
                if depth == 0 && element.name().as_ref() != root.as_bytes() {
                    return Err(format!("its root is not <{root}>"));
                }
                if let Err(why) = element_of(element) {
                    return wrong(&why);
                }
                depth += usize::from(matches!(event, Event::Start(_)));
                if depth > MOST_DEPTH {
                    return Err(format!("more than {MOST_DEPTH} elements are in each other"));
                }
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Text(words) => {
                if words.windows(3).any(|part| part == b"]]>") {
                    return wrong("`]]>` is in a text");
                }
                match words.unescape() {
                    Err(error) => return wrong(&error.to_string()),
                    Ok(plain) if plain.chars().any(is_forbidden) => return wrong("a reference to a character that XML does not have"),
                    Ok(_) if depth == 0 && !words.iter().all(u8::is_ascii_whitespace) => return wrong("text is outside of the root"),
                    Ok(_) => {}
                }
            }
            Event::CData(_) if depth == 0 => return wrong("text is outside of the root"),
            Event::PI(instruction) if instruction.target().eq_ignore_ascii_case(b"xml") || !is_name(instruction.target()) => {
                return wrong("a processing instruction has a bad name");
            }
            Event::CData(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof if !seen => return Err(format!("it has no <{root}>")),
            Event::Eof if depth > 0 => return Err(format!("it ends inside {depth} elements")),
            Event::Eof => return Ok(()),
        }
    }
}

fn element_of(element: &BytesStart<'_>) -> Result<(), String> {
    if !is_name(element.name().as_ref()) {
        return Err("an element has a bad name".into());
    }
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        if !is_name(attribute.key.as_ref()) || attribute.value.contains(&b'<') {
            return Err("an attribute has a bad name or value".into());
        }
        let value = attribute.unescape_value().map_err(|error| error.to_string())?;
        if value.chars().any(is_forbidden) {
            return Err("a reference to a character that XML does not have".into());
        }
    }
    Ok(())
}

/// A name, in the letters that these files use.
fn is_name(name: &[u8]) -> bool {
    name.first().is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, b'_' | b':'))
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_:.-".contains(byte))
}

/// The kinds of documents of libmodulemd 2.14, their versions, and what of `data` must be there for it to say nothing.
const MODULES: [(&str, &[&str], &[&str]); 5] = [
    ("modulemd", &["1", "2"], &["summary", "description", "license"]),
    ("modulemd-packager", &["2", "3"], &["summary", "description", "license"]),
    ("modulemd-defaults", &["1"], &["module"]),
    ("modulemd-translations", &["1"], &["module", "stream"]),
    ("modulemd-obsoletes", &["1"], &["module", "stream"]),
];

/// One document of a `modules.yaml` as it is read.
#[derive(Default)]
struct Document {
    /// The keys that lead to where the reader is; of a list, none.
    keys: Vec<Option<String>>,
    kind: Option<String>,
    version: Option<String>,
    /// The keys of `data`.
    data: Option<Vec<String>>,
}

impl Document {
    /// Takes a scalar: as a key, where one is awaited, else as the value of the last key.
    fn scalar(&mut self, mapping: bool, text: &str) -> Result<bool, String> {
        let depth = self.keys.len();
        let Some(last) = self.keys.last_mut() else { return Err("a document is no mapping".into()) };
        if mapping && last.is_none() {
            *last = Some(text.to_string());
            if depth == 2 && self.keys.first().is_some_and(|key| key.as_deref() == Some("data")) {
                self.data.get_or_insert_default().push(text.to_string());
            }
            return Ok(false);
        }
        match (depth, last.as_deref()) {
            (1, Some("document")) => self.kind = Some(text.to_string()),
            (1, Some("version")) => self.version = Some(text.to_string()),
            (1, Some("data")) => return Err("the data of a document are no mapping".into()),
            _ => {}
        }
        Ok(true)
    }

    fn check(&self) -> Result<(), String> {
        let kind = self.kind.as_deref().unwrap_or_default();
        let Some((_, versions, needed)) = MODULES.iter().find(|(known, ..)| *known == kind) else {
            return Err(format!("a document is of the kind {kind:?}, which dnf does not know"));
        };
        let version = self.version.as_deref().unwrap_or_default();
        if !versions.contains(&version) {
            return Err(format!("a document {kind} is of version {version:?}, and dnf knows {}", versions.join(" and ")));
        }
        let data = self.data.as_deref().unwrap_or_default();
        match needed.iter().find(|key| !data.iter().any(|there| there == *key)) {
            Some(key) => Err(format!("the data of a document {kind} have no {key}")),
            None => Ok(()),
        }
    }
}

fn yaml(text: &str) -> Result<(), String> {
    let mut document = Document::default();
    // Whether each collection that is open is a mapping.
    let mut open: Vec<bool> = Vec::new();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| format!("it is no YAML: {error}"))?;
        // Whether a value ends here, so that the next scalar of a mapping is a key.
        let ends = match event {
            YamlEvent::Alias(_) => return Err("it has aliases, which libmodulemd does not read".into()),
            YamlEvent::DocumentStart(_) => {
                document = Document::default();
                false
            }
            YamlEvent::DocumentEnd => {
                document.check()?;
                documents += 1;
                false
            }
            YamlEvent::MappingStart(..) | YamlEvent::SequenceStart(..) => {
                let mapping = matches!(event, YamlEvent::MappingStart(..));
                match (open.last(), document.keys.last()) {
                    (None, _) if !mapping => return Err("a document is no mapping".into()),
                    (Some(true), Some(None)) => return Err("a key is no text".into()),
                    (Some(true), Some(Some(key))) if open.len() == 1 && key == "data" && !mapping => {
                        return Err("the data of a document are no mapping".into());
                    }
                    (Some(true), Some(Some(key))) if open.len() == 1 && key != "data" => {
                        return Err(format!("the value of {key:?} in a document is no text"));
                    }
                    _ => {}
                }
                if open.len() >= MOST_DEPTH {
                    return Err(format!("more than {MOST_DEPTH} lists are in each other"));
                }
                open.push(mapping);
                document.keys.push(None);
                false
            }
            YamlEvent::MappingEnd | YamlEvent::SequenceEnd => {
                open.pop();
                document.keys.pop();
                true
            }
            YamlEvent::Scalar(text, ..) => document.scalar(open.last() == Some(&true), &text)?,
            _ => false,
        };
        if ends && let Some(last) = document.keys.last_mut() {
            *last = None;
        }
    }
    if documents == 0 { Err("it has no document".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "---\ndocument: modulemd\nversion: 2\ndata:\n  name: x\n  stream: \"1\"\n  version: 1\n  context: c\n  arch: noarch\n  \
        summary: s\n  description: >-\n    d\n    e\n  license:\n    module: [MIT]\n  profiles:\n    default:\n      rpms: [a, b]\n...\n";

    #[test]
    fn what_clients_read_is_taken() {
        let comps = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- a -->\n<comps>\n <group a='1'><id>a &amp; &#233;</id><x:y/></group><![CDATA[ < ]]></comps>\n";
        assert_eq!(check(Extra::Group, comps), Ok(()));
        assert_eq!(check(Extra::UpdateInfo, "<updates/>"), Ok(()));
        assert_eq!(check(Extra::Modules, MODULE), Ok(()));
        let defaults = "document: modulemd-defaults\nversion: 1\ndata:\n  module: x\n  stream: \"1\"\n";
        assert_eq!(check(Extra::Modules, &format!("{MODULE}---\n{defaults}")), Ok(()));
    }

    /// Each of these makes dnf, zypper or libxml2 stop, or could.
    #[test]
    fn what_makes_a_client_stop_is_refused() {
        for text in [
            "",
            "<comps>",
            "<comps></comp>",
            "<comps/><comps/>",
            "<comps/>x",
            "x<comps/>",
            "<other><comps/></other>",
            "<comps>a & b</comps>",
            "<comps>&odd;</comps>",
            "<comps>&#1;</comps>",
            "<comps>&#xffff;</comps>",
            "<comps>]]></comps>",
            "<comps a=1/>",
            "<comps a='1' a='2'/>",
            "<comps a='<'/>",
            "<comps a='&'/>",
            "<comps><1/></comps>",
            "<comps><!-- a -- b --></comps>",
            "<comps><?xml version='1.0'?></comps>",
            " <?xml version='1.0'?><comps/>",
            "<?xml version='1.0' encoding='latin1'?><comps/>",
            "<!DOCTYPE comps [<!ENTITY a 'b'>]><comps>&a;</comps>",
            "<comps>\u{ffff}</comps>",
            "<comps>\x01</comps>",
            &format!("<comps>{}{}</comps>", "<a>".repeat(300), "</a>".repeat(300)),
        ] {
            assert!(check(Extra::Group, text).is_err(), "{text}");
        }
        for text in [
            "",
            "a",
            "- a\n",
            "document: modulemd\n data: x\n",
            "document: odd\nversion: 2\ndata:\n  name: x\n",
            "document: modulemd\nversion: [1]\ndata: 5\n",
            "document: modulemd\nversion: 2\ndata: x\n",
            "document: modulemd\nversion: 2\ndata: [x\n",
            "a: 1\ndocument: *x\n",
            &MODULE.replace("version: 2", "version: 99"),
            &MODULE.replace("version: 2", "version: two"),
            &MODULE.replace("  summary: s\n", ""),
            &MODULE.replace("  name: x", "  name: &x x\n  other: *x"),
            &format!("{MODULE}---\n- a\n"),
        ] {
            assert!(check(Extra::Modules, text).is_err(), "{text}");
        }
    }
}
