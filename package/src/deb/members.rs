//! Files of the control archive that dpkg parses when it unpacks a package, and refuses it for.
//!
//! ```text
//! conffiles   /etc/app.conf                      (deb-conffiles(5))
//!             remove-on-upgrade /etc/gone.conf
//! triggers    interest-noawait /usr/share/app    (deb-triggers(5))
//!             activate app-trigger   # a comment
//! ```

use crate::{Check, shown};
use std::collections::BTreeSet;

/// Bytes of a line of conffiles with its line break: dpkg's `MAXCONFFILENAME`.
const MAX_LINE: usize = 1000;

/// Checks a list of conffiles as `deb_parse_conffiles` does; gives the paths that are to be removed on
/// upgrade, without their slash, and which the package must not have.
pub(super) fn removed_conffiles(bytes: &[u8]) -> Check<BTreeSet<Vec<u8>>> {
    let mut removed = BTreeSet::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else {
            return Err(format!("its line {} has no line break at its end, which dpkg refuses", shown(line)));
        };
        if line.len() >= MAX_LINE {
            return Err(format!("its line {} has {} bytes, and dpkg reads {MAX_LINE}", shown(line), line.len()));
        }
        let text = text.trim_ascii_end();
        if text.is_empty() {
            continue;
        }
        let (flag, path) = match text.iter().position(u8::is_ascii_whitespace) {
            Some(at) if !text.starts_with(b"/") => {
                let (flag, rest) = text.split_at(at);
                (flag, rest.trim_ascii_start())
            }
            _ => (&b""[..], text),
        };
        if !path.starts_with(b"/") {
            return Err(format!("its line {} is no absolute path, and dpkg refuses it", shown(text)));
        }
        match flag {
            b"" if text.starts_with(b"/") => {}
            b"remove-on-upgrade" => {
                removed.insert(path.trim_ascii_start().strip_prefix(b"/").unwrap_or(path).to_vec());
            }
            flag => return Err(format!("its line {} has the flag {}, which dpkg does not know", shown(text), shown(flag))),
        }
    }
    Ok(removed)
}

/// Checks a list of triggers as `trig_parse_ci` does.
pub(super) fn check_triggers(bytes: &[u8]) -> Check<()> {
    for line in bytes.split(|byte| *byte == b'\n') {
        let text = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if text.is_empty() {
            continue;
        }
        let (directive, name) = text.split_at(text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len()));
        let known = ["interest", "interest-await", "interest-noawait", "activate", "activate-await", "activate-noawait"];
        if !known.iter().any(|word| word.as_bytes() == directive) {
            return Err(format!("its line {} has the directive {}, which dpkg does not know", shown(text), shown(directive)));
        }
        let name = name.trim_ascii_start();
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return Err(format!("its line {} names no trigger that dpkg takes", shown(text)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_parses_is_taken() -> Check<()> {
        let removed = removed_conffiles(b"/etc/a\n/etc/with blank \n\nremove-on-upgrade /etc/gone\n")?;
        assert_eq!(removed.into_iter().collect::<Vec<_>>(), [b"etc/gone".to_vec()]);
        check_triggers(b"# odd\n\ninterest /usr/share/x # why\nactivate-noawait\tx\n activate y")
    }

    #[test]
    fn what_dpkg_does_not_parse_is_refused() {
        let long = [b"/etc/".as_slice(), &[b'a'; 995], b"\n"].concat();
        for lines in [b"/etc/a".as_slice(), b"etc/a\n", b" /etc/a\n", b"odd /etc/a\n", b"remove-on-upgrade\n", &long] {
            assert!(removed_conffiles(lines).is_err(), "{}", shown(lines));
        }
        for lines in ["odd x\n", "interest\n", "interest a b\n", "interest \u{e9}\n", "interest# x\n"] {
            assert!(check_triggers(lines.as_bytes()).is_err(), "{lines:?}");
        }
    }
}
