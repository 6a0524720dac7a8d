//! One entry of `mirrors`: where a bootstrap gets its packages.
//!
//! The words come from a project file and go to `mmdebstrap`, which takes a word for an option, for a file of this
//! machine, or for text of its own `sources.list`, as the word happens to look. So an entry is read here by what it
//! means, sources.list(5), and written anew from what was understood:
//!
//! ```text
//! deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/debian bookworm main contrib
//! ```
//!
//! or the same in the fields of deb822(5) (`Types`, `URIs`, `Suites`, `Components`).
//!
//! The packages of a mirror run their scripts as root before anything else of theirs is checked, so the one thing that
//! an entry may not say is that their signatures do not count.

use crate::{Class, Error, Result, url};
use std::fmt;

/// Bytes of one entry.
const MAX_BYTES: usize = 4096;
/// Lines that the fields of one entry may stand for.
const MAX_LINES: usize = 64;
/// Bytes of a word.
const MAX_WORD: usize = 1024;

/// Where this machine's own keys of repositories are: whoever runs it has put them there.
const KEY_FOLDERS: [&str; 3] = ["/usr/share/keyrings/", "/etc/apt/keyrings/", "/etc/apt/trusted.gpg.d/"];

/// An entry of `mirrors`, understood: one line of a `sources.list`, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    lines: Vec<String>,
}

/// The parts of an entry, not checked yet.
#[derive(Default)]
struct Parts<'a> {
    types: Vec<&'a str>,
    /// Names in lower case, as one-line options are written.
    options: Vec<(String, String)>,
    uris: Vec<&'a str>,
    suites: Vec<&'a str>,
    components: Vec<&'a str>,
}

impl Mirror {
    /// Reads an entry.
    ///
    /// # Errors
    /// Class `Project`: it is neither a `deb` line nor deb822 fields, or names what no mirror may.
    pub fn parse(text: &str) -> Result<Mirror> {
        if text.len() > MAX_BYTES {
            return Err(refused(&text.chars().take(60).collect::<String>(), &format!("it has more than {MAX_BYTES} bytes")));
        }
        let text = text.trim_matches(['\n', ' ', '\t']);
        let one_line =
            text.starts_with("deb ") || text.starts_with("deb-src ") || text.starts_with("deb\t") || text.starts_with("deb-src\t");
        let parts = if one_line { Parts::of_line(text)? } else { Parts::of_fields(text)? };
        Ok(Mirror { lines: parts.lines().map_err(|why| refused(text, &why))? })
    }

    /// Its lines of a `sources.list`.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

/// An entry for a message: one line, without passwords.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(200).collect();
    text.split_whitespace().map(|word| url::shown(word).escape_debug().to_string()).collect::<Vec<_>>().join(" ")
}

fn refused(text: &str, why: &str) -> Error {
    Error::new(Class::Project, format!("the mirror `{}` is not taken: {why}", shown(text)))
        .hint("write a line of sources.list(5), such as \"deb http://deb.debian.org/debian bookworm main\"")
}

impl<'a> Parts<'a> {
    fn of_line(text: &'a str) -> Result<Parts<'a>> {
        if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(refused(text, &format!("it has the character {c:?}; a line is one line")));
        }
        let (kind, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let mut rest = rest.trim_start();
        let mut parts = Parts { types: vec![kind], ..Parts::default() };
        if let Some(options) = rest.strip_prefix('[') {
            let (options, after) = options.split_once(']').ok_or_else(|| refused(text, "its `[` has no `]`"))?;
            for option in options.split_whitespace() {
                let (name, value) = option.split_once('=').ok_or_else(|| refused(text, &format!("`{}` is no option", shown(option))))?;
                parts.options.push((name.to_ascii_lowercase(), value.to_string()));
            }
            rest = after;
        }
        let mut words = rest.split_whitespace();
        parts.uris.extend(words.next());
        parts.suites.extend(words.next());
        parts.components.extend(words);
        Ok(parts)
    }

    fn of_fields(text: &'a str) -> Result<Parts<'a>> {
        if let Some(c) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err(refused(text, &format!("it has the character {c:?}")));
        }
        let mut fields: Vec<(String, Vec<&'a str>)> = Vec::new();
        for line in text.split('\n') {
            if line.starts_with('#') {
                continue;
            }
            if line.trim().is_empty() {
                return Err(refused(text, "it has an empty line, behind which another one would begin; write that as an entry of its own"));
            }
            if line.starts_with([' ', '\t']) {
                let last = fields.last_mut().ok_or_else(|| refused(text, "it begins with a blank"))?;
                last.1.extend(line.split_whitespace());
                continue;
            }
            let (name, value) = line
                .split_once(':')
                .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
                .ok_or_else(|| refused(text, "it is neither a `deb` line nor `Types:`, `URIs:`, `Suites:` and `Components:`"))?;
            let name = name.to_ascii_lowercase();
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(refused(text, &format!("`{name}` is there twice")));
            }
            fields.push((name, value.split_whitespace().collect()));
        }
        let mut parts = Parts::default();
        for (name, words) in fields {
            match name.as_str() {
                "types" => parts.types = words,
                "uris" => parts.uris = words,
                "suites" => parts.suites = words,
                "components" => parts.components = words,
                "enabled" if words == ["yes"] => {}
                // A field has its words apart where an option has commas.
                _ => {
                    let option = match name.as_str() {
                        "architectures" => "arch".to_string(),
                        "languages" => "lang".to_string(),
                        _ => name,
                    };
                    parts.options.push((option, words.join(",")));
                }
            }
        }
        Ok(parts)
    }

    fn lines(&self) -> std::result::Result<Vec<String>, String> {
        for (what, words) in [("type", &self.types), ("URI", &self.uris), ("suite", &self.suites)] {
            if words.is_empty() {
                return Err(format!("it names no {what}"));
            }
        }
        if let Some(other) = self.types.iter().find(|kind| !matches!(**kind, "deb" | "deb-src")) {
            return Err(format!("`{}` is neither `deb` nor `deb-src`", shown(other)));
        }
        let mut options: Vec<String> = Vec::new();
        for (name, value) in &self.options {
            check_option(name, value)?;
            if options.iter().any(|option| option.split_once('=').is_some_and(|(known, _)| known == name)) {
                return Err(format!("the option `{name}` is there twice"));
            }
            options.push(format!("{name}={value}"));
        }
        self.uris.iter().try_for_each(|uri| check_uri(uri))?;
        for suite in &self.suites {
            check_word("suite", suite, "._~+/-")?;
            match (suite.ends_with('/'), self.components.is_empty()) {
                (true, false) => return Err(format!("the suite `{suite}` is a folder of its own, which has no components")),
                (false, true) => return Err("it names no component, such as `main`".into()),
                _ => {}
            }
        }
        self.components.iter().try_for_each(|component| check_word("component", component, "._+/-"))?;
        let options = if options.is_empty() { String::new() } else { format!("[{}] ", options.join(" ")) };
        let mut lines = Vec::new();
        for (kind, uri, suite) in
            self.types.iter().flat_map(|kind| self.uris.iter().flat_map(move |uri| self.suites.iter().map(move |suite| (kind, uri, suite))))
        {
            if lines.len() == MAX_LINES {
                return Err(format!("it stands for more than {MAX_LINES} lines"));
            }
            let words: Vec<&str> = std::iter::once(*suite).chain(self.components.iter().copied()).collect();
            lines.push(format!("{kind} {options}{uri} {}", words.join(" ")));
        }
        Ok(lines)
    }
}

/// The options whose meaning is known to be harmless (sources.list(5)). `check-valid-until=no`, which mirrors of an
/// earlier day need, lets old packages in, but none that the distribution has not signed.
fn check_option(name: &str, value: &str) -> std::result::Result<(), String> {
    let words = || value.split(',');
    let plain =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) && !word.starts_with('-');
    let fine = match name {
        "arch" | "lang" => words().all(plain),
        "by-hash" => matches!(value, "yes" | "no" | "force"),
        "pdiffs" | "check-valid-until" => matches!(value, "yes" | "no"),
        "signed-by" => words().all(is_key),
        "trusted" | "allow-insecure" | "allow-weak" | "allow-downgrade-to-insecure" => {
            return Err(format!("`{name}` would let packages in that nobody has signed, and their scripts run as root"));
        }
        _ => return Err(format!("the option `{}` is not known here", shown(name))),
    };
    match fine {
        true => Ok(()),
        false if name == "signed-by" => {
            Err(format!("its key `{}` is not one of this machine: a fingerprint, or a file in {}", shown(value), KEY_FOLDERS.join(", ")))
        }
        false => Err(format!("`{}` is no value of the option `{name}`", shown(value))),
    }
}

/// A fingerprint, or a file where keys of this machine are. (A project's own key would be as good as none.)
fn is_key(word: &str) -> bool {
    let fingerprint = word.trim_end_matches('!');
    if matches!(fingerprint.len(), 40 | 64) && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
        return true;
    }
    let name = KEY_FOLDERS.iter().find_map(|folder| word.strip_prefix(folder)).unwrap_or_default();
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(fine)
        && [".gpg", ".asc", ".pgp"].iter().any(|end| name.ends_with(end))
}

/// `http://host…` or `https://host…`, of characters that mean nothing to apt.
fn check_uri(uri: &str) -> std::result::Result<(), String> {
    let wrong = |why: &str| Err(format!("`{}` {why}", shown(uri)));
    if uri.len() > MAX_WORD {
        return wrong("is too long");
    }
    let Some(rest) = ["http://", "https://"].iter().find_map(|scheme| uri.strip_prefix(scheme)) else {
        return wrong(
            "is not an http or https URI; what lies on this machine can be served, or be a base with `archive`, `layout` or `rootfs`",
        );
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if host.contains('@') {
        return wrong("has a password in it, which would be in every image");
    }
    let (name, port) = match host.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                ("ip", port.strip_prefix(':').unwrap_or(if port.is_empty() { "80" } else { "" }))
            }
            _ => return wrong("has no host"),
        },
        None => host.split_once(':').unwrap_or((host, "80")),
    };
    let of_host = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.bytes().all(of_host) {
        return wrong("has no host");
    }
    if !port.bytes().all(|b| b.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return wrong("has no number for its port");
    }
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let fine = match byte {
            b'%' => {
                let digits = [bytes.next().unwrap_or_default(), bytes.next().unwrap_or_default()];
                let value = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                digits.iter().all(u8::is_ascii_hexdigit) && value.is_some_and(|value| value > b' ' && value != 0x7f)
            }
            _ => byte.is_ascii_alphanumeric() || b"/._~!$&()*+,;=:@-".contains(&byte),
        };
        if !fine {
            return wrong("has a character that no such URI has");
        }
    }
    if path.split('/').any(|part| part == "..") {
        return wrong("climbs with `..`");
    }
    Ok(())
}

fn check_word(what: &str, word: &str, also: &str) -> std::result::Result<(), String> {
    let starts = word.starts_with(|c: char| c.is_ascii_alphanumeric()) || word.starts_with("./") || word == "/";
    let fine = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
    if word.len() <= MAX_WORD && starts && word.chars().all(fine) && !word.split('/').any(|part| part == "..") {
        return Ok(());
    }
    Err(format!("`{}` is no {what}", shown(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> std::result::Result<Vec<String>, String> {
        Mirror::parse(text).map(|mirror| mirror.lines).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_that_apt_takes_are_taken_and_written_in_one_way() {
        for (text, line) in [
            ("deb http://deb.debian.org/debian bookworm main", "deb http://deb.debian.org/debian bookworm main"),
            ("deb\thttps://h:8443/debian/  bookworm-updates\tmain contrib ", "deb https://h:8443/debian/ bookworm-updates main contrib"),
            (
                "deb [ arch=amd64,i386 by-hash=force ] http://h/ubuntu noble main universe",
                "deb [arch=amd64,i386 by-hash=force] http://h/ubuntu noble main universe",
            ),
            (
                "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://h/d sid main",
                "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://h/d sid main",
            ),
            (
                "deb [check-valid-until=no] http://snapshot.debian.org/archive/debian/20240101T000000Z/ bookworm main",
                "deb [check-valid-until=no] http://snapshot.debian.org/archive/debian/20240101T000000Z/ bookworm main",
            ),
            ("deb http://[::1]:3142/debian bookworm main", "deb http://[::1]:3142/debian bookworm main"),
            ("deb http://h/flat ./", "deb http://h/flat ./"),
            ("deb-src http://h/d bookworm/updates main/debian-installer", "deb-src http://h/d bookworm/updates main/debian-installer"),
        ] {
            assert_eq!(lines(text), Ok(vec![line.to_string()]), "{text}");
            assert_eq!(lines(line), Ok(vec![line.to_string()]), "{line}");
        }
    }

    #[test]
    fn fields_are_taken_and_become_lines() {
        let text = "Types: deb deb-src\nURIs: http://h/debian\n# why\nSuites: bookworm\n bookworm-updates\nComponents: main\nArchitectures: amd64 i386\nEnabled: yes\n";
        let line = |kind: &str, suite: &str| format!("{kind} [arch=amd64,i386] http://h/debian {suite} main");
        assert_eq!(
            lines(text),
            Ok(vec![
                line("deb", "bookworm"),
                line("deb", "bookworm-updates"),
                line("deb-src", "bookworm"),
                line("deb-src", "bookworm-updates")
            ])
        );
    }

    #[test]
    fn what_is_an_option_a_file_or_a_second_line_is_refused() {
        for text in [
            "--setup-hook=touch /tmp/x",
            "-o=x",
            "-",
            "",
            "/etc/shadow",
            "sources.list",
            "http://h/debian",
            "--aptopt=APT::Get::AllowUnauthenticated \"true\"",
            "deb",
            "deb ",
            "deb http://h/d",
            "deb http://h/d bookworm",
            "deb http://h/d bookworm main\ndeb http://evil/d bookworm main",
            "deb http://h/d bookworm main\r",
            "deb http://h/d bookworm main\u{85}x",
            "deb http://h/d bookworm main\u{0}",
            "deb http://h/d \"bookworm\" main",
            "deb http://h/d bookworm --setup-hook=x",
            "deb http://h/d -x main",
            "deb http://h/d ../x main",
            "deb http://h/d ./ main",
            "deb http://h/d bookworm main #x",
            "deb http://h/d bookworm main [trusted=yes]",
            "deb-x http://h/d bookworm main",
            "rpm http://h/d bookworm main",
            "deb file:/srv/debian bookworm main",
            "deb file:///srv/debian bookworm main",
            "deb copy:/srv/debian bookworm main",
            "deb cdrom:[x]/ bookworm main",
            "deb ssh://h/d bookworm main",
            "deb mirror+http://h/d bookworm main",
            "deb tor+http://h/d bookworm main",
            "deb ext::sh bookworm main",
            "deb HTTP://h/d bookworm main",
            "deb http:///d bookworm main",
            "deb http://-h/d bookworm main",
            "deb http://h:x/d bookworm main",
            "deb http://h:+80/d bookworm main",
            "deb http://h:0/d bookworm main",
            "deb http://h/d' bookworm main",
            "deb http://h/d%0adeb bookworm main",
            "deb http://h/d%20x bookworm main",
            "deb http://h/d%zz bookworm main",
            "deb http://h/d%+1 bookworm main",
            "deb http://h/$(id)` bookworm main",
            "deb http://h/../x bookworm main",
            "deb http://me:secret@h/d bookworm main",
            "deb http://me@h/d bookworm main",
        ] {
            assert!(lines(text).is_err(), "{text:?}: {:?}", lines(text));
        }
    }

    #[test]
    fn what_would_let_unsigned_packages_in_is_refused_however_it_is_written() {
        for option in [
            "trusted=yes",
            "Trusted=yes",
            "TRUSTED=YES",
            "trusted=1",
            "trusted=no",
            "arch=amd64 trusted=yes",
            "trusted+=yes",
            "trusted=\"yes\"",
            "\"trusted\"=yes",
            "trusted%3dyes",
            "allow-insecure=yes",
            "allow-weak=yes",
            "allow-downgrade-to-insecure=yes",
            "signed-by=/tmp/evil.gpg",
            "signed-by=/usr/share/keyrings/../../../tmp/evil.gpg",
            "signed-by=evil.gpg",
            "signed-by=/usr/share/keyrings/x.gpg,/tmp/evil.gpg",
            "signed-by=",
            "signed-by=/etc/shadow",
            "inrelease-path=../x",
            "snapshot=x",
            "arch=-x",
            "arch=amd64 arch=i386",
            "arch",
        ] {
            let text = format!("deb [{option}] http://h/d bookworm main");
            assert!(lines(&text).is_err(), "{text}");
        }
        let stanza = "Types: deb\nURIs: http://h/d\nSuites: bookworm\nComponents: main\n";
        assert!(lines(stanza).is_ok());
        for field in [
            "Trusted: yes",
            "trusted: yes",
            "Trusted:\n yes",
            "Allow-Insecure: yes",
            "Signed-By: /tmp/evil.gpg",
            "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n x",
            "Types: deb",
            "Enabled: no",
            "\nTypes: deb\nURIs: http://evil/d\nSuites: x\nComponents: main\nTrusted: yes",
            "X: y",
            "Suites-Add: x",
            "URIs : x",
        ] {
            let text = format!("{stanza}{field}\n");
            assert!(lines(&text).is_err(), "{text}");
        }
        assert!(lines(" Types: deb\n").is_err());
    }

    #[test]
    fn a_refusal_is_one_line_without_a_password() {
        let said = lines("deb http://me:secret@h/d bookworm main\n--hook=\u{1b}[2Jx").expect_err("two lines");
        assert!(!said.contains("secret") && !said.contains('\n') && !said.contains('\u{1b}'), "{said}");
    }
}
