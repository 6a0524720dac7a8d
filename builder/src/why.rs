//! Why a package is in a closure: who needs it, from one that was asked for.

use crate::Stored;
use crate::tools::{clause_names, names, needs};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use twostage_model::Format;

/// The shortest chain of packages from one that is asked for to `target`, both in it; nothing where none of those that are
/// asked for leads there. `roots` are names, or clauses as a package has them.
pub fn chain(format: Format, members: &[Stored], roots: &[String], target: &str) -> Option<Vec<String>> {
    let mut givers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        for name in names(format, member) {
            givers.entry(name).or_default().push(at);
        }
    }
    let givers_of = |name: &str| givers.get(name).cloned().unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut left: VecDeque<Vec<usize>> = VecDeque::new();
    for at in roots.iter().flat_map(|root| clause_names(format, root)).flat_map(givers_of) {
        if seen.insert(at) {
            left.push_back(vec![at]);
        }
    }
    while let Some(way) = left.pop_front() {
        let Some(member) = way.last().and_then(|at| members.get(*at)) else { continue };
        if member.id.name == target {
            return Some(way.iter().filter_map(|at| members.get(*at)).map(|member| member.id.name.clone()).collect());
        }
        for next in needs(format, member).flat_map(givers_of) {
            if seen.insert(next) {
                left.push_back(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

/// A chain as people read it: `hello needs libgreet1, which needs libyaml-0-2`.
pub fn sentence(chain: &[String]) -> String {
    match chain {
        [] => String::new(),
        [only] => format!("{only} was asked for"),
        [first, second, rest @ ..] => {
            let more: String = rest.iter().map(|name| format!(", which needs {name}")).collect();
            format!("{first} needs {second}{more}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::tests::own;

    #[test]
    fn the_shortest_chain_is_told() {
        let members = [
            own("panel", "libgtk-3-0, dconf | gsettings-backend"),
            own("libgtk-3-0", "libgtk-3-common"),
            own("libgtk-3-common", "dconf"),
            own("dconf", "dbus-session"),
            own("dbus-user-session", "libpam-systemd (>= 252), dbus-session"),
            own("libpam-systemd", "panel"),
        ];
        let mut members = members.to_vec();
        members[4].fields.insert("Provides".into(), "dbus-session".into());
        let why = |target: &str| chain(Format::Deb, &members, &["panel (= 1)".into()], target);
        let told = why("libpam-systemd").map(|chain| sentence(&chain));
        assert_eq!(told.as_deref(), Some("panel needs dconf, which needs dbus-user-session, which needs libpam-systemd"));
        assert_eq!(why("panel").map(|chain| sentence(&chain)).as_deref(), Some("panel was asked for"));
        assert_eq!(why("other"), None);
    }

    #[test]
    fn what_a_build_asks_for_may_be_a_capability_or_an_alternative() {
        let mut cairo = own("cairo-devel", "");
        cairo.fields = BTreeMap::from(
            [("Provides", "pkgconfig(cairo) = 1.18"), ("Requires", "libX11")].map(|(name, value)| (name.to_string(), value.to_string())),
        );
        let rpms = [cairo, own("libX11", "")];
        let told = |roots: &[&str]| chain(Format::Rpm, &rpms, &roots.iter().map(|root| (*root).to_string()).collect::<Vec<_>>(), "libX11");
        for root in ["pkgconfig(cairo) >= 1.10", "(pkgconfig(cairo) or gtk)"] {
            assert_eq!(told(&[root]), Some(vec!["cairo-devel".into(), "libX11".into()]), "{root}");
        }
        let debs = [own("mailcap", "")];
        assert!(chain(Format::Deb, &debs, &["mime-support | mailcap (>= 3)".into()], "mailcap").is_some());
    }
}
