//! `[base]`, and an image's own `base`.

use super::{BaseTable, Reader};
use crate::names::is_reference;
use crate::project::{At, Base, Mirror};
use crate::{Format, Result, url};
use serde_spanned::Spanned;

/// Entries of `mirrors`, at most.
const MAX_MIRRORS: usize = 64;

impl Reader<'_> {
    pub(super) fn base(&self, raw: Spanned<BaseTable>) -> Result<At<Base>> {
        let At { line, value: raw } = self.at(raw);
        let mut bases = Vec::new();
        if let Some(image) = &raw.image
            && !is_reference(image)
        {
            return Err(self
                .error(line, format!("`{}` is not a name of an image", image.escape_debug()))
                .hint("write it like \"debian:bookworm\" or \"registry.example/team/base@sha256:…\""));
        }
        bases.extend(raw.image.map(Base::Image));
        let below = |path: Option<Spanned<String>>| -> Result<Option<String>> {
            let Some(path) = path.map(|path| self.at(path)) else { return Ok(None) };
            self.check_relative(&path).map(|()| Some(path.value))
        };
        bases.extend(below(raw.layout)?.map(Base::Layout));
        bases.extend(below(raw.archive)?.map(Base::Archive));
        bases.extend(below(raw.rootfs)?.map(Base::Rootfs));
        let bootstrapped = raw.bootstrap.is_some();
        if let Some(bootstrap) = raw.bootstrap {
            let bootstrap = self.at(bootstrap);
            if self.format == Format::Rpm {
                return Err(self
                    .error(bootstrap.line, "`bootstrap` makes bases of deb packages, and this project makes rpms")
                    .hint("name a base of an rpm distribution with image, archive, layout or rootfs"));
            }
            let of_host = bootstrap.value == "host";
            let release = if of_host { (self.host)() } else { bootstrap.value.parse() };
            let release = release.map_err(|cause| self.error(bootstrap.line, &cause).hint(cause.hint_or_class()))?;
            bases.push(Base::Bootstrap { release, of_host, mirrors: Vec::new() });
        }
        // What it says is the base's sources.list, which is in every image.
        if let Some(mirror) = raw.mirrors.iter().find(|mirror| mirror.split_whitespace().any(url::has_password)) {
            let shown: Vec<String> = mirror.split_whitespace().map(url::shown).collect();
            return Err(self
                .error(line, format!("the mirror `{}` has a password in it, which would be in every image", shown.join(" ")))
                .hint("name a mirror that needs none, such as a cache on your own network that knows the password"));
        }
        if !raw.mirrors.is_empty() && !bootstrapped {
            return Err(self
                .error(line, "`mirrors` goes with `bootstrap` only")
                .hint("remove `mirrors`: an image brings its own apt sources"));
        }
        if raw.mirrors.len() > MAX_MIRRORS {
            return Err(self.error(line, format!("a base has {MAX_MIRRORS} mirrors at most")).hint("remove those that it does not need"));
        }
        let understood = raw.mirrors.iter().map(|mirror| Mirror::parse(mirror)).collect::<Result<Vec<_>>>();
        let understood = understood.map_err(|cause| self.error(line, &cause).hint(cause.hint_or_class()))?;
        if let Some(Base::Bootstrap { mirrors, .. }) = bases.last_mut() {
            *mirrors = understood;
        }
        match (bases.pop(), bases.is_empty()) {
            (Some(base), true) => Ok(At { line, value: base }),
            _ => Err(self
                .error(line, "a base needs exactly one of image, bootstrap, layout, archive, rootfs")
                .hint("write one of them, such as bootstrap = \"debian:bookworm\"")),
        }
    }
}
