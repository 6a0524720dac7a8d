//! dnf's side of a closure: what it is asked, and what it answers.

use crate::Stored;
use crate::tools::{Chosen, newer_in_base};
use std::collections::BTreeSet;
use twostage_model::Hasher;
use twostage_package::rpm::compare_evr;

/// The name in `libgreet >= 1.0`, and the whole of `(gcc or clang)`.
pub(crate) fn bare_name(clause: &str) -> &str {
    if clause.starts_with('(') { clause } else { clause.split_whitespace().next().unwrap_or_default() }
}

/// What a build needs by the words of its spec file, and the spec file, which is the question. Only
/// rpm can say what macros and conditions make of these words; where there are any, a digest of
/// what they are made from stands among them, so that a change is seen.
pub(crate) fn build_question(spec: &str) -> (Vec<String>, String) {
    let mut roots = vec!["rpm-build".to_string()];
    let mut conditions = Hasher::default();
    let mut conditional = false;
    for line in spec.lines().map(str::trim) {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        if tag.eq_ignore_ascii_case("BuildRequires") || tag.eq_ignore_ascii_case("BuildConflicts") {
            conditional |= value.contains('%');
            roots.extend(clauses(value));
        } else if ["Name", "Version", "Release", "Epoch"].iter().any(|known| tag.eq_ignore_ascii_case(known)) {
            conditions.field(line.as_bytes());
        } else if ["%if", "%el", "%end", "%global", "%define", "%bcond", "%{"].iter().any(|start| line.starts_with(start)) {
            conditional |= line.starts_with("%if");
            conditions.field(line.as_bytes());
        }
    }
    if conditional {
        roots.push(format!("macros {}", conditions.finish().short()));
    }
    (roots, spec.to_string())
}

/// The packages of a spec file, but for those whose names are made of other macros than `%{name}`: only rpm knows these.
pub(crate) fn made(spec: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in spec.lines().map(str::trim) {
        let name = names.first().cloned();
        if let Some((tag, value)) = line.split_once(':')
            && tag.trim().eq_ignore_ascii_case("Name")
            && name.is_none()
        {
            names.push(value.trim().to_string());
        } else if let (Some(name), Some(words)) = (name, line.strip_prefix("%package ")) {
            let words: Vec<&str> = words.split_whitespace().collect();
            let full = match words.as_slice() {
                ["-n", full, ..] => (*full).to_string(),
                [part, ..] => format!("{name}-{part}"),
                [] => continue,
            };
            names.push(full.replace("%{name}", &name).replace("%{NAME}", &name));
        }
    }
    names.retain(|name| !name.contains('%'));
    names
}

/// `a`, `b >= 1` and `(c or d)` of `a, b >= 1 (c or d)`.
pub(crate) fn clauses(value: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut joins = false;
    let mut depth = 0usize;
    for word in value.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()) {
        let operator = word.chars().all(|c| "<>=".contains(c));
        match found.last_mut() {
            Some(last) if joins || operator || depth > 0 => {
                last.push(' ');
                last.push_str(word);
            }
            _ => found.push(word.to_string()),
        }
        depth = (depth + word.matches('(').count()).saturating_sub(word.matches(')').count());
        joins = operator;
    }
    found
}

/// What the closure script says of what dnf chose.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// Name and version to the repository it comes from.
    pub(crate) chosen: Chosen,
    /// Names and versions in the base that something chosen would replace.
    replaced: Vec<(String, String)>,
    /// A name that was asked for, and what provides it under another name.
    instead: Option<(String, String)>,
    /// `nothing provides …`, `No match for argument: …`.
    unmet: BTreeSet<String>,
}

impl Transaction {
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim();
        let words = |rest: &str| rest.split(' ').map(str::to_string).collect::<Vec<_>>();
        if let Some(rest) = line.strip_prefix("twostage: from ") {
            if let [repository, name, version] = words(rest).as_slice() {
                let known = self.chosen.entry((name.clone(), version.clone())).or_insert_with(|| repository.clone());
                // What is locked is offered by us too; it still comes from the distribution.
                if known.starts_with("twostage") {
                    known.clone_from(repository);
                }
            }
        } else if let Some(rest) = line.strip_prefix("twostage: installed ") {
            if let [name, version] = words(rest).as_slice() {
                self.replaced.push((name.clone(), version.clone()));
            }
        } else if let Some(rest) = line.strip_prefix("twostage: instead of ") {
            let (asked, providers) = rest.split_once(' ').unwrap_or((rest, ""));
            self.instead = Some((asked.to_string(), providers.split_whitespace().collect::<Vec<_>>().join(", ")));
        } else if line.contains("nothing provides ") || line.starts_with("No match for argument") {
            self.unmet.insert(line.trim_start_matches("- ").to_string());
        }
    }

    /// What dnf did that nobody asked for, and what to do.
    pub(crate) fn objection(&self, of: &str, own: &[Stored]) -> Option<(String, String)> {
        if let Some((asked, providers)) = &self.instead {
            let what = format!("{of}: {asked} is a virtual package; these provide it: {providers}");
            return Some((what, "name the one that is meant".into()));
        }
        // (The priority of our repository makes dnf prefer ours; where only another version fits, it takes that.)
        for package in own {
            let (name, ours) = (&package.id.name, &package.id.version);
            let mut taken = self.chosen.keys().filter(|(chosen, _)| chosen == name).map(|(_, version)| version).peekable();
            if let Some(other) = taken.peek().copied()
                && !taken.any(|version| version == ours)
            {
                let needs = own.iter().find_map(|needing| {
                    let clauses = needing.fields.get("Requires")?;
                    let clause = clauses.lines().find(|clause| bare_name(clause) == name && clause.contains(' '))?;
                    Some(format!("{} requires {clause}", needing.id.name))
                });
                let needs = needs.unwrap_or_else(|| format!("dnf would take {name} {other}"));
                let what = format!("{of}: {needs}, and the project's own {name} is {ours}");
                return Some((what, format!("no other {name} is taken; give ours a version that fits")));
            }
        }
        for (name, before) in &self.replaced {
            let older = self.chosen.keys().find(|(chosen, version)| chosen == name && compare_evr(before, version).is_gt());
            if let Some((_, asked)) = older {
                return Some(newer_in_base(of, name, before, asked, own));
            }
        }
        None
    }

    /// Why dnf gave up, where we know more than it says, and what to do.
    pub(crate) fn explain(&self, of: &str, own: &[Stored]) -> Option<(String, String)> {
        let needed =
            |line: &str| line.split_once("nothing provides ").and_then(|(_, rest)| rest.split_whitespace().next().map(String::from));
        let ours = self.unmet.iter().filter_map(|line| Some((line, needed(line)?)));
        ours.filter_map(|(line, name)| Some((line, own.iter().find(|package| package.id.name == name)?))).next().map(|(line, package)| {
            let what = format!("{of}: {line}, and the project's own {} is {}", package.id.name, package.id.version);
            (what, format!("no other {} is taken; give ours a version that fits", package.id.name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use twostage_model::{PackageId, Sha256};

    #[test]
    fn the_words_of_a_spec_file_tell_when_a_closure_no_longer_holds() {
        let spec = "Name: greet\nVersion: 1.0\nBuildRequires: gcc make >= 4, libgreet-devel\nBuildRequires:  (a or b)\n%prep\n";
        assert_eq!(build_question(spec).0, ["rpm-build", "gcc", "make >= 4", "libgreet-devel", "(a or b)"]);
        let with = |more: &str| build_question(&format!("{spec}{more}")).0.pop();
        assert_eq!(with("%global x 1\n").as_deref(), Some("(a or b)"), "a macro that no need is made of does not count");
        let (one, two) = (with("%global x 1\nBuildRequires: x >= %{x}\n"), with("%global x 2\nBuildRequires: x >= %{x}\n"));
        assert!(one.as_deref().is_some_and(|word| word.starts_with("macros ")) && one != two, "{one:?} {two:?}");
    }

    #[test]
    fn our_own_package_is_not_replaced_by_the_distributions() {
        let own = |name: &str, requires: &str| Stored {
            id: PackageId { name: name.into(), version: "1.0-1".into(), arch: "noarch".into() },
            sha256: Sha256::of(name.as_bytes()),
            size: 1,
            date: 0,
            fields: BTreeMap::from([("Requires".to_string(), requires.to_string())]),
        };
        let own = [own("demo", "/bin/sh\njq >= 1.5"), own("jq", "")];
        let chosen = |lines: &[&str]| {
            let mut transaction = Transaction::default();
            lines.iter().for_each(|line| transaction.line(line));
            transaction.objection("runtime:demo", &own)
        };
        assert_eq!(chosen(&["twostage: from twostage demo 1.0-1"]), None, "it is not needed at all");
        assert_eq!(chosen(&["twostage: from twostage jq 1.0-1", "twostage: from distribution oniguruma 6-1"]), None);
        let (what, hint) = chosen(&["twostage: from distribution jq 1.6-1"]).expect("another version");
        assert_eq!(what, "runtime:demo: demo requires jq >= 1.5, and the project's own jq is 1.0-1");
        assert_eq!(hint, "no other jq is taken; give ours a version that fits");
    }

    #[test]
    fn what_the_script_says_tells_origin_and_what_nobody_asked_for() {
        let mut transaction = Transaction::default();
        for line in [
            "twostage: from twostage-main libyaml 0.2.5-1\n",
            "twostage: from updates libyaml 0.2.5-1",
            "twostage: from updates bash 5.1-1",
            "twostage: installed bash 5.2-1",
        ] {
            transaction.line(line);
        }
        assert_eq!(transaction.chosen[&("libyaml".to_string(), "0.2.5-1".to_string())], "updates");
        let (what, _) = transaction.objection("runtime:demo", &[]).expect("a downgrade");
        assert_eq!(what, "runtime:demo: the base has bash 5.2-1, which is newer than 5.1-1");
        transaction.line("twostage: instead of mta exim postfix ");
        let (what, _) = transaction.objection("runtime:demo", &[]).expect("a virtual package");
        assert_eq!(what, "runtime:demo: mta is a virtual package; these provide it: exim, postfix");
    }
}
