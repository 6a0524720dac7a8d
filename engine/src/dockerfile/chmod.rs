//! `--chmod`: a number, or changes as chmod(1) knows them. BuildKit reads the latter with `dchapes-mode`, a form of BSD's
//! setmode(3), and without a umask.
//!
//! ```text
//! changes ─► clause,clause…      u=rwX,go=rX
//! clause  ─► who* action+        who: u g o a, none is all
//! action  ─► sign perm*          sign: + - =      perm: r w x X s t, or what u, g or o may now
//! ```
//!
//! `X` is `x` where anybody could execute before, or for a folder. `s` is set-user-ID for u and set-group-ID for g, and `t`
//! is for all; neither is o's.

use std::fmt;

const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const ALL: u32 = SET_IDS | 0o777;
const EXECUTE: u32 = 0o111;
/// Changes of one `--chmod`, at most.
const MAX_CHANGES: usize = 256;

/// What `--chmod` does to the mode of each file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// It becomes this one.
    Number(u32),
    /// It is changed.
    Changes {
        /// As written.
        text: String,
        /// What is done, in order.
        changes: Vec<Change>,
    },
}

/// One thing that is done to a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// These bits are set.
    Set(u32),
    /// These bits are cleared.
    Clear(u32),
    /// These bits are set for a folder, and where anybody could execute before.
    Execute(u32),
    /// What one class may, others may, or may not, too.
    Copy {
        /// How far right its bits are to be moved: 6 for u, 3 for g, 0 for o.
        from: u32,
        /// The lowest bit of each class that it is copied to.
        to: u32,
        /// The sign.
        sign: char,
    },
}

impl fmt::Display for Chmod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chmod::Number(mode) => write!(f, "{mode:04o}"),
            Chmod::Changes { text, .. } => f.write_str(text),
        }
    }
}

impl Chmod {
    /// Reads the value of the flag.
    ///
    /// # Errors
    /// It is no mode; the text says why.
    pub fn parse(text: &str) -> Result<Chmod, String> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let number = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return number.map(Chmod::Number).ok_or_else(|| "a number has octal digits and is 7777 at most".into());
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
            let who = clause[..clause.len() - rest.len()].chars().fold(0, |who, class| who | class_bits(class));
            let mut actions = rest.char_indices().filter(|(_, c)| is_sign(*c)).map(|(at, _)| at).peekable();
            if actions.peek() != Some(&0) {
                return Err(format!("{clause:?} has no sign: + - or ="));
            }
            while let Some(start) = actions.next() {
                let action = &rest[start..actions.peek().copied().unwrap_or(rest.len())];
                act(who, action, &mut changes)?;
                if changes.len() > MAX_CHANGES {
                    return Err(format!("there are more than {MAX_CHANGES} changes"));
                }
            }
        }
        Ok(Chmod::Changes { text: text.to_owned(), changes })
    }

    /// The mode that a file, or folder, gets whose mode it was.
    pub fn applied(&self, mode: u32, folder: bool) -> u32 {
        let changes = match self {
            Chmod::Number(number) => return *number,
            Chmod::Changes { changes, .. } => changes,
        };
        changes.iter().fold(mode, |now, change| match *change {
            Change::Set(bits) => now | bits,
            Change::Clear(bits) => now & !bits,
            Change::Execute(bits) if folder || mode & EXECUTE != 0 => now | bits,
            Change::Execute(_) => now,
            Change::Copy { from, to, sign } => {
                let may = (now >> from) & 7;
                match sign {
                    '+' => now | (may * to),
                    '-' => now & !(may * to),
                    _ => (now & !(7 * to)) | (may * to),
                }
            }
        })
    }
}

fn is_sign(c: char) -> bool {
    matches!(c, '+' | '-' | '=')
}

fn class_bits(class: char) -> u32 {
    match class {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => 0o7,
        _ => ALL,
    }
}

/// One sign and what follows it, as it is read.
struct Action<'c> {
    who: u32,
    sign: char,
    bits: u32,
    execute: u32,
    /// `=` has taken away what there was.
    cleared: bool,
    changes: &'c mut Vec<Change>,
}

/// Reads one sign and what follows it.
fn act(who: u32, action: &str, changes: &mut Vec<Change>) -> Result<(), String> {
    let mut perms = action.chars();
    let sign = perms.next().unwrap_or('=');
    // (Those that are only o's have neither.)
    let special = who == 0 || who & !0o7 != 0;
    let mut action = Action { who, sign, bits: 0, execute: 0, cleared: false, changes };
    for perm in perms {
        match perm {
            'r' => action.bits |= 0o444,
            'w' => action.bits |= 0o222,
            'x' => action.bits |= EXECUTE,
            'X' if sign == '-' => action.bits |= EXECUTE,
            'X' => action.execute = EXECUTE,
            's' if special => action.bits |= SET_IDS,
            't' if special => {
                action.who |= STICKY;
                action.bits |= STICKY;
            }
            's' | 't' => {}
            'u' | 'g' | 'o' => action.copy(perm),
            other => return Err(format!("there is no permission {other:?}: r w x X s t, or u g o")),
        }
    }
    if sign == '=' && !action.cleared && action.bits == 0 {
        action.clear();
    }
    action.flush();
    Ok(())
}

impl Action<'_> {
    fn masked(&self, bits: u32) -> u32 {
        if self.who == 0 { bits } else { bits & self.who }
    }

    fn clear(&mut self) {
        self.cleared = true;
        self.changes.push(Change::Clear(if self.who == 0 { ALL } else { self.who }));
    }

    /// What was read so far is done before what comes next.
    fn flush(&mut self) {
        if self.bits != 0 {
            if self.sign == '=' {
                self.clear();
            }
            let bits = self.masked(self.bits);
            self.changes.push(if self.sign == '-' { Change::Clear(bits) } else { Change::Set(bits) });
        }
        if self.execute != 0 {
            self.changes.push(Change::Execute(self.masked(self.execute)));
        }
        (self.bits, self.execute) = (0, 0);
    }

    fn copy(&mut self, class: char) {
        self.flush();
        self.cleared = true;
        let from = match class {
            'u' => 6,
            'g' => 3,
            _ => 0,
        };
        let classes = [(0o400, 0o100), (0o40, 0o10), (0o4, 0o1)];
        let to = classes.iter().filter(|(bit, _)| self.who == 0 || self.who & bit != 0).map(|(_, lowest)| lowest).sum();
        self.changes.push(Change::Copy { from, to, sign: self.sign });
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_buildkit_changes_them() {
        // Each: what is written, the mode of a file before and after, and of a folder.
        for (text, file, after, folder, folder_after) in [
            ("755", 0o600, 0o755, 0o700, 0o755),
            ("04711", 0o600, 0o4711, 0o700, 0o4711),
            ("u+x", 0o644, 0o744, 0o755, 0o755),
            ("+x", 0o644, 0o755, 0o644, 0o755),
            ("a-w", 0o664, 0o444, 0o777, 0o555),
            ("u=rwX,go=rX", 0o600, 0o644, 0o700, 0o755),
            ("u=rwX,go=rX", 0o711, 0o755, 0o777, 0o755),
            ("go=", 0o777, 0o700, 0o755, 0o700),
            ("=", 0o7777, 0o1000, 0o755, 0),
            ("g=u", 0o640, 0o660, 0o750, 0o770),
            ("go=u-w", 0o640, 0o644, 0o750, 0o755),
            ("g+o", 0o604, 0o644, 0o705, 0o755),
            ("u-g", 0o660, 0o060, 0o770, 0o070),
            ("ug+s", 0o755, 0o6755, 0o755, 0o6755),
            ("o+st", 0o755, 0o755, 0o755, 0o755),
            ("u+s,g-s,+t", 0o2755, 0o5755, 0o2755, 0o5755),
            ("a=rwx", 0o4000, 0o777, 0, 0o777),
            ("u+r+w-x", 0o100, 0o600, 0o100, 0o600),
            ("-X", 0o755, 0o644, 0o755, 0o644),
            ("u=gr", 0o070, 0o470, 0o070, 0o470),
            ("u+", 0o644, 0o644, 0o755, 0o755),
        ] {
            let chmod = Chmod::parse(text).expect(text);
            let made = (chmod.applied(file, false), chmod.applied(folder, true));
            assert_eq!(made, (after, folder_after), "{text}: {:o} {:o}", made.0, made.1);
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for wrong in ["8", "0o755", "17777", "u", "x", "u+z", ",", "u+x,", "+7", "u+x 0", "ü+x", "u!x", "99999999999"] {
            assert!(Chmod::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Chmod::parse(&vec!["+x"; MAX_CHANGES + 1].join(",")).is_err());
    }
}
