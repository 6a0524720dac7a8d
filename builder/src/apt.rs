//! apt's side of a closure: what it is asked, and what it answers.

use crate::Stored;
use crate::tools::{Chosen, newer_in_base};
use std::collections::BTreeSet;
use twostage_model::{Result, Sha256};
use twostage_package::control::Control;
use twostage_package::version::compare;

/// `libc6` of `libc6:any (>= 2.36) [amd64] <!nocheck>`.
pub(crate) fn bare_name(clause: &str) -> &str {
    let clause = clause.trim();
    let end = clause.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(clause.len());
    &clause[..end]
}

/// How a line of `closure.sh` begins that has the digest of a package which was not downloaded.
pub(crate) const KNOWN: &str = "twostage: known ";

/// How a line begins that names what is asked for and no package of the distribution has.
const MISSING: &str = "twostage: missing ";

/// What `apt-get --simulate` says: `Inst name [old] (version origin[, origin] [arch])`.
#[derive(Debug, Default)]
pub(crate) struct Simulation {
    inside: bool,
    /// Name and version to where it comes from.
    pub(crate) chosen: Chosen,
    /// The virtual package that was asked for, and the one that apt took for it.
    pub(crate) substituted: Option<(String, String)>,
    /// A virtual package that apt takes nothing for, and those that provide it.
    provided: Option<(String, Vec<String>)>,
    /// Name, version in the base, and the older version that was asked for.
    downgraded: Vec<(String, String, String)>,
    /// `greet : Depends: libgreet1 (>= 2)`.
    unmet: Vec<String>,
    /// What no package has: `pc glib-2.0`.
    missing: Vec<String>,
    /// Packages that belong to the answer and were not downloaded, as the repository has them.
    pub(crate) known: BTreeSet<Sha256>,
}

impl Simulation {
    pub(crate) fn line(&mut self, line: &str) {
        match line.trim_end() {
            "twostage: simulation begins" => self.inside = true,
            "twostage: simulation ends" => self.inside = false,
            line if self.inside => {
                if let Some((taken, asked)) = line.strip_prefix("Note, selecting '").and_then(|rest| rest.split_once("' instead of '")) {
                    self.substituted = Some((asked.trim_end_matches('\'').to_string(), taken.to_string()));
                }
                if let Some((name, version, origin)) = parse_inst(line) {
                    self.chosen.insert((name.to_string(), version.to_string()), origin.to_string());
                    let before = line.split_once(" [").and_then(|(_, rest)| rest.split_once("] (")).map(|(before, _)| before);
                    if let Some(before) = before.filter(|before| compare(before, version).is_gt()) {
                        self.downgraded.push((name.to_string(), before.to_string(), version.to_string()));
                    }
                }
                if let Some(name) = line.strip_prefix("Package ").and_then(|rest| rest.strip_suffix(" is a virtual package provided by:")) {
                    self.provided = Some((name.to_string(), Vec::new()));
                } else if let (Some((_, providers)), Some(provider)) = (&mut self.provided, line.strip_prefix("  ")) {
                    providers.extend(provider.split_whitespace().next().map(String::from));
                }
                if line.contains("epends: ") && line.starts_with(' ') {
                    self.unmet.push(line.trim().to_string());
                }
            }
            line if line.starts_with(MISSING) => self.missing.push(line[MISSING.len()..].to_string()),
            line => self.known.extend(line.strip_prefix(KNOWN).and_then(|digest| digest.parse::<Sha256>().ok())),
        }
    }

    /// Why apt gave up, where we know more than it says, and what to do.
    pub(crate) fn explain(&self, of: &str, own: &[Stored]) -> Option<(String, String)> {
        if let Some((kind, name)) = self.missing.first().and_then(|missing| missing.split_once(' ')) {
            let what = format!("{of}: no package of the distribution has what {kind}:{name} asks for");
            return Some((
                what,
                "if a component makes it, is that component in `needs`? Else the distribution has it by another name".into(),
            ));
        }
        if let Some((name, providers)) = &self.provided {
            let what = format!("{of}: {name} is a virtual package; these provide it: {}", providers.join(", "));
            return Some((what, "name the one that is meant".into()));
        }
        if let Some((name, before, asked)) = self.downgraded.first() {
            return Some(newer_in_base(of, name, before, asked, own));
        }
        let depends = |line: &str| line.split_once("epends: ").map(|(_, clause)| bare_name(clause).to_string());
        let ours = self.unmet.iter().filter_map(|line| Some((line, depends(line)?)));
        ours.filter_map(|(line, name)| Some((line, own.iter().find(|package| package.id.name == name)?))).next().map(|(line, package)| {
            let name = &package.id.name;
            let what = format!("{of}: {line}, and the project's own {name} is {}", package.id.version);
            let hint = format!(
                "no other {name} is taken, the distribution's least of all: give ours a version that fits, or its package another name"
            );
            (what, hint)
        })
    }
}

/// The package, its version and its origin in a line of a simulation.
pub(crate) fn parse_inst(line: &str) -> Option<(&str, &str, &str)> {
    let rest = line.strip_prefix("Inst ")?;
    let (name, rest) = rest.split_once(' ')?;
    let (_, rest) = rest.split_once('(')?;
    let (version, rest) = rest.split_once(' ')?;
    let (origin, _) = rest.split_once(" [").unwrap_or((rest.trim_end_matches([')', ' ']), ""));
    // A foreign architecture is written behind the name: `libc6:i386`.
    Some((name.split(':').next().unwrap_or(name), version, origin))
}

/// What a build needs, and the `debian/control` that asks apt for it, of a `debian/control` or `.dsc`.
///
/// # Errors
/// It cannot be read.
pub(crate) fn build_question(control: &str) -> Result<(Vec<String>, String)> {
    let stanza = source_stanza(control)?;
    let mut roots = vec!["build-essential".to_string()];
    let fields =
        ["Build-Depends", "Build-Depends-Arch", "Build-Depends-Indep", "Build-Conflicts", "Build-Conflicts-Arch", "Build-Conflicts-Indep"];
    for field in fields {
        roots.extend(stanza.get(field).map(|clauses| clauses.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    Ok((roots, control_for_apt(&stanza)))
}

/// The packages of a `debian/control`, one a stanza, or of a `.dsc`, which lists them. (Line by line: `Control` refuses what
/// dpkg takes in other fields, and no name is to be missed for that.)
pub(crate) fn made(control: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut listed = false;
    for line in control.lines() {
        if !line.starts_with([' ', '\t']) {
            listed = false;
        }
        let (field, value) = line.split_once(':').unwrap_or(("", ""));
        if field.eq_ignore_ascii_case("Package") {
            names.push(value.trim().to_string());
        } else if field.eq_ignore_ascii_case("Binary") {
            listed = true;
            names.extend(value.split(',').map(|name| name.trim().to_string()));
        } else if listed {
            names.extend(line.split(',').map(|name| name.trim().to_string()));
        }
    }
    names
}

/// The first stanza of a `debian/control`, which may have comments, or of a `.dsc`.
fn source_stanza(control: &str) -> Result<Control> {
    let lines: String = control.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let first = lines.trim_start().split("\n\n").next().unwrap_or_default();
    Control::parse(&format!("{}\n", first.trim_end()))
}

/// A `debian/control` with only what `apt-get build-dep` reads of it.
fn control_for_apt(stanza: &Control) -> String {
    let mut text = format!("Source: {}\n", stanza.get("Source").unwrap_or("unnamed"));
    for (field, value) in stanza.fields() {
        if field.starts_with("Build-") {
            text.push_str(&format!("{field}: {}\n", value.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    text.push_str("\nPackage: unnamed\nArchitecture: any\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::tests::own;

    #[test]
    fn what_apt_says_before_it_gives_up_is_explained() {
        let explain = |lines: &str, own: &[Stored]| {
            let mut simulation = Simulation::default();
            "twostage: simulation begins\n".lines().chain(lines.lines()).for_each(|line| simulation.line(line));
            simulation.explain("runtime:demo", own).map(|(what, _)| what).unwrap_or_default()
        };
        let ours = [own("greet", "")];
        let said = "Package mta is a virtual package provided by:\n  postfix 3.7\n  exim4 4.96 (= 4)\nYou should explicitly select one to install.\n";
        assert_eq!(explain(said, &[]), "runtime:demo: mta is a virtual package; these provide it: postfix, exim4");
        let said = "Inst greet [9.9] (1.0 demo:twostage [all])\n";
        assert_eq!(explain(said, &ours), "runtime:demo: the base has greet 9.9, which is newer than 1.0");
        assert_eq!(explain("Inst greet [0.9] (1.0 demo:twostage [all])\n", &ours), "");
        let said = " app : Depends: greet (>= 2.0)\n app : Depends: other\n";
        assert_eq!(explain(said, &ours), "runtime:demo: app : Depends: greet (>= 2.0), and the project's own greet is 1");
        assert_eq!(explain(" app : Depends: other\n", &ours), "");
    }

    #[test]
    fn apts_simulation_tells_version_and_origin() {
        assert_eq!(
            parse_inst("Inst libicu72 (72.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])"),
            Some(("libicu72", "72.1-3+deb12u1", "Debian:12.15/oldstable, Debian-Security:12/oldstable-security"))
        );
        assert_eq!(
            parse_inst("Inst libc6 [2.36-9] (2.36-9+deb12u14 Debian:12.15/oldstable [amd64]) []"),
            Some(("libc6", "2.36-9+deb12u14", "Debian:12.15/oldstable"))
        );
        assert_eq!(parse_inst("Conf libc6 (2.36-9 Debian:12.15/oldstable [amd64])"), None);
        assert_eq!(parse_inst("Inst libc6"), None);
    }

    #[test]
    fn what_the_repository_has_is_known_by_its_digest_and_only_outside_of_the_simulation() {
        let mut simulation = Simulation::default();
        let digest = Sha256::of(b"package");
        for line in ["twostage: simulation begins", &format!("{KNOWN}{}", Sha256::of(b"other")), "twostage: simulation ends"] {
            simulation.line(line);
        }
        simulation.line(&format!("{KNOWN}{digest}"));
        simulation.line(&format!("{KNOWN}not-a-digest"));
        assert_eq!(simulation.known, BTreeSet::from([digest]));
    }

    #[test]
    fn control_files_with_comments_and_more_stanzas_give_their_build_dependencies() {
        let text = "# who\nSource: greet\nBuild-Depends: debhelper-compat (= 13),\n# why\n               libgreet-dev\n\nPackage: greet\nArchitecture: any\n";
        let (_, for_apt) = build_question(text).expect("it is right");
        assert!(for_apt.contains("Build-Depends: debhelper-compat (= 13), libgreet-dev\n"), "{for_apt}");
    }
}
