//! `twostage outdated`: what the distribution has newer than the lock, security first.

use crate::cli::{Outdated, ProjectArgs};
use crate::commands::lock::relock;
use crate::output::Output;
use crate::session::{Session, WorkOptions};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use twostage_builder::closure::{Freshness, Newer, newer};
use twostage_builder::tools;
use twostage_model::{Class, Error, Format, Lock, Result};

/// One package that is not as locked any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// Sorts security updates first; a program reads `security`.
    #[serde(rename = "security", serialize_with = "negated")]
    not_security: bool,
    /// Package name.
    pub package: String,
    /// The locked version; none if it is needed newly.
    pub locked: Option<String>,
    /// The distribution's version; none if it is not needed any more.
    pub newest: Option<String>,
    /// Where the newest comes from.
    pub origin: String,
    /// Closures that hold it, or `base`.
    pub of: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn negated<S: serde::Serializer>(value: &bool, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_bool(!value)
}

impl Change {
    fn security(&self) -> bool {
        !self.not_security
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.security() { "security  " } else { "" };
        let absent = || "-".to_string();
        let (locked, newest) = (self.locked.clone().unwrap_or_else(absent), self.newest.clone().unwrap_or_else(absent));
        write!(f, "{kind}{} {locked} -> {newest}  ({})", self.package, self.of.join(", "))
    }
}

pub async fn run(arguments: &Outdated, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let context = session.context(&arguments.engine, WorkOptions { lock: true, ..WorkOptions::default() }).await?;
    let before = context.lock().clone();
    if before.bases.is_empty() {
        return Err(Error::new(Class::Project, "there is no lock that could be outdated").hint("run `twostage lock` first"));
    }
    let result = async {
        // Found on the locked base, so that what they need of it stays comparable. The lock's file
        // is not written.
        relock(&context, &session, Freshness::Newest, false).await?;
        let mut found = Newer::default();
        for base in session.bases() {
            let base = twostage_builder::base::ensure(&context, &base, false).await?;
            let Newer { upgrades, security } = newer(&context, &base).await?;
            found.upgrades.extend(upgrades);
            found.security.extend(security);
        }
        Ok::<_, Error>(found)
    }
    .await;
    context.engine.settle().await;
    let Newer { upgrades, security } = result?;
    let after = context.lock().clone();
    let format = session.project.format;
    let mut changes = changes(&before, &after);
    changes.extend(upgrades.into_iter().map(|upgrade| Change {
        not_security: !is_security(&upgrade.origin),
        package: upgrade.name,
        locked: Some(upgrade.installed),
        newest: Some(upgrade.newest),
        origin: upgrade.origin,
        of: vec!["base".into()],
    }));
    for change in &mut changes {
        change.not_security &= !is_advised(format, change, &security);
    }
    changes.sort();
    let text = if changes.is_empty() {
        "nothing is newer than the lock".to_string()
    } else {
        let security = changes.iter().filter(|change| change.security()).count();
        let lines: Vec<String> = changes.iter().map(Change::to_string).collect();
        format!("{}\n{} newer, {security} of them security; `twostage update` moves to them", lines.join("\n"), changes.len())
    };
    output.result(&text, &serde_json::json!({ "event": "outdated", "changes": changes }));
    Ok(())
}

/// What differs between two locks, by package.
pub fn changes(before: &Lock, after: &Lock) -> Vec<Change> {
    let mut found: BTreeMap<(String, Option<String>, Option<String>), Change> = BTreeMap::new();
    for (of, new) in &after.closures {
        let Some(old) = before.closures.get(of) else { continue };
        let versions = |closure: &twostage_model::lock::Closure| -> BTreeMap<(String, String), (String, String)> {
            closure.packages.iter().map(|p| ((p.id.name.clone(), p.id.arch.clone()), (p.id.version.clone(), p.origin.clone()))).collect()
        };
        let (old, new) = (versions(old), versions(new));
        for key in old.keys().chain(new.keys()).collect::<std::collections::BTreeSet<_>>() {
            let (locked, newest) = (old.get(key).map(|v| v.0.clone()), new.get(key).map(|v| v.0.clone()));
            if locked == newest {
                continue;
            }
            let origin = new.get(key).or(old.get(key)).map(|v| v.1.clone()).unwrap_or_default();
            let change = Change {
                not_security: !is_security(&origin),
                package: key.0.clone(),
                locked: locked.clone(),
                newest: newest.clone(),
                origin,
                of: Vec::new(),
            };
            found.entry((key.0.clone(), locked, newest)).or_insert(change).of.push(of.clone());
        }
    }
    for (component, new) in &after.sources {
        let Some(old) = before.sources.get(component).filter(|old| old.name != new.name || old.version != new.version) else { continue };
        let change = Change {
            not_security: true,
            package: format!("source {}", new.name),
            locked: Some(old.version.clone()),
            newest: Some(new.version.clone()),
            origin: String::new(),
            of: vec![component.clone()],
        };
        found.insert((change.package.clone(), change.locked.clone(), change.newest.clone()), change);
    }
    let mut changes: Vec<Change> = found.into_values().collect();
    changes.sort();
    changes
}

/// Whether an advisory names a version of the package that is newer than the locked one, up to the
/// newest.
fn is_advised(format: Format, change: &Change, advised: &[(String, String)]) -> bool {
    let (Some(locked), Some(newest)) = (&change.locked, &change.newest) else { return false };
    advised.iter().any(|(name, version)| {
        *name == change.package && tools::compare(format, locked, version).is_lt() && tools::compare(format, version, newest).is_le()
    })
}

/// Whether a version comes from a security pocket: Debian's label, or Ubuntu's suite.
fn is_security(origin: &str) -> bool {
    origin.contains("-Security:") || origin.contains("-security")
}

#[cfg(test)]
mod tests {
    use super::*;
    use twostage_model::lock::{Closure, LockedPackage};
    use twostage_model::{PackageId, Sha256};

    fn lock(packages: &[(&str, &str, &str)]) -> Lock {
        let packages = packages
            .iter()
            .map(|(name, version, origin)| LockedPackage {
                id: PackageId { name: (*name).into(), version: (*version).into(), arch: "amd64".into() },
                size: 1,
                sha256: Sha256::of(version.as_bytes()),
                origin: (*origin).into(),
            })
            .collect();
        let closure = Closure { base: Sha256::of(b""), asked: vec![], own: vec![], packages };
        Lock { closures: BTreeMap::from([("runtime:hello".into(), closure)]), ..Lock::default() }
    }

    #[test]
    fn security_updates_come_first() {
        let before = lock(&[("aaa", "1", "Debian:12/stable"), ("zlib", "1", "Debian:12/stable"), ("same", "1", "Debian:12/stable")]);
        let after = lock(&[
            ("aaa", "2", "Debian:12/stable"),
            ("zlib", "2", "Debian-Security:12/stable-security"),
            ("same", "1", "Debian:12/stable"),
        ]);
        let shown: Vec<String> = changes(&before, &after).iter().map(Change::to_string).collect();
        assert_eq!(shown, ["security  zlib 1 -> 2  (runtime:hello)", "aaa 1 -> 2  (runtime:hello)"]);
    }

    #[test]
    fn an_advisory_counts_for_those_who_do_not_have_its_version_yet() {
        let change = |locked: &str, newest: &str| Change {
            not_security: true,
            package: "inih".into(),
            locked: Some(locked.into()),
            newest: Some(newest.into()),
            origin: "updates".into(),
            of: vec![],
        };
        let advised = [("inih".to_string(), "56-1".to_string()), ("jq".to_string(), "99-1".to_string())];
        let is_advised = |locked, newest| super::is_advised(Format::Rpm, &change(locked, newest), &advised);
        assert!(is_advised("55-1", "56-1"), "the newest mends it");
        assert!(is_advised("55-1", "57-1"), "one in between did");
        assert!(!is_advised("56-1", "57-1"), "it was mended before");
        assert!(!is_advised("54-1", "55-1"), "it is still to be mended");
    }
}
