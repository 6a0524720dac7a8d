//! Image references: `[host[:port]/]path[:tag][@digest]`, or an id.

use twostage_model::{Class, Error, Result};

/// A reference in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Host and path: `localhost:5000/team/base`.
    pub repository: String,
    /// `latest` when neither tag nor digest is written.
    pub tag: Option<String>,
    /// `sha256:…`
    pub digest: Option<String>,
}

impl Reference {
    /// Splits a reference.
    ///
    /// # Errors
    /// It holds what no reference may hold. This is strict because references become paths of the
    /// engine's HTTP API.
    pub fn parse(text: &str) -> Result<Reference> {
        let wrong = |why: &str| {
            Error::new(Class::Engine, format!("{text:?} is not an image reference"))
                .because(why.to_string())
                .hint("write it as name:tag, host:port/name:tag or name@sha256:…")
        };
        if text.len() > 512 {
            return Err(wrong("it is longer than 512 bytes"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash belongs to the host's port.
        let path = name.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match name[path..].split_once(':') {
            Some((last, tag)) => (&name[..path + last.len()], Some(tag)),
            None => (name, None),
        };
        for (index, part) in repository.split('/').enumerate() {
            let is_host = index == 0 && repository.contains('/');
            let name = if is_host { without_port(part) } else { part };
            if !name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) || name.contains("..") {
                return Err(wrong("each part of a name starts with a letter or a digit"));
            }
            let allowed =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b) || (is_host && b.is_ascii_uppercase());
            if !name.bytes().all(allowed) {
                return Err(wrong("a name is made of a-z, 0-9, dots, dashes and underscores"));
            }
        }
        if let Some(tag) = tag {
            let start = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !start || tag.len() > 128 || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
                return Err(wrong("a tag is made of letters, digits, dots, dashes and underscores"));
            }
        }
        if let Some(digest) = digest {
            let hex = digest.split_once(':').map(|(_, hex)| hex);
            if hex.is_none_or(|hex| hex.len() < 32) || !digest.bytes().all(|b| b.is_ascii_alphanumeric() || b"+._-:".contains(&b)) {
                return Err(wrong("a digest is sha256: and 64 hex digits"));
            }
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_string()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_string()),
        };
        Ok(Reference { repository: repository.to_string(), tag, digest: digest.map(str::to_string) })
    }

    /// Passes a reference or an id (`sha256:…`) on, once it is known to be one.
    pub(crate) fn check(text: &str) -> Result<&str> {
        match text.strip_prefix("sha256:") {
            Some(hex) if !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(text),
            _ => Reference::parse(text).map(|_| text),
        }
    }

    /// What the API's `tag` is for a pull: the digest wins, as it does for `docker pull`.
    pub(crate) fn tag_or_digest(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The tag of a name that an image is to get.
    pub(crate) fn writable_tag(&self) -> Result<&str> {
        match (&self.digest, &self.tag) {
            (None, Some(tag)) => Ok(tag),
            _ => Err(Error::new(Class::Engine, format!("{} cannot be given to an image: it names a digest", self.repository))
                .hint("name the image as name:tag")),
        }
    }
}

/// The host of `host:5000`.
fn without_port(part: &str) -> &str {
    part.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(part, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, Option<String>, Option<String>) {
        let reference = Reference::parse(text).expect(text);
        (reference.repository, reference.tag, reference.digest)
    }

    #[test]
    fn a_port_is_no_tag_and_a_digest_needs_none() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(parts("debian"), ("debian".into(), Some("latest".into()), None));
        assert_eq!(parts("debian:bookworm-slim"), ("debian".into(), Some("bookworm-slim".into()), None));
        assert_eq!(parts("localhost:5000/team/base"), ("localhost:5000/team/base".into(), Some("latest".into()), None));
        assert_eq!(parts("localhost:5000/base:1.0"), ("localhost:5000/base".into(), Some("1.0".into()), None));
        assert_eq!(parts(&format!("debian@{digest}")), ("debian".into(), None, Some(digest.clone())));
        assert_eq!(parts(&format!("h:1/debian:12@{digest}")), ("h:1/debian".into(), Some("12".into()), Some(digest)));
    }

    #[test]
    fn a_reference_cannot_leave_its_place_in_a_url() {
        for text in
            ["", "a b", "../containers", "a/../b", "a?force=1", "a#b", "a%2e", "/a", "a/", "a:", "a@", "a@sha256:..", "Debian", "-a"]
        {
            assert!(Reference::parse(text).is_err(), "{text:?} was taken");
        }
        assert!(Reference::check(&format!("sha256:{}", "0".repeat(64))).is_ok());
        assert!(Reference::check("sha256:../x").is_err());
    }
}
