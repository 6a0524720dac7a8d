//! Names that packages claim: a component's package must not pass for another component's, the base's or the
//! distribution's, unless its component says so with `replaces`.
//!
//! A package claims its own name, and what it says that it provides or replaces (`Provides`, `Replaces`; an rpm's
//! `Provides` and `Obsoletes`). The distribution's package manager says which names are taken, in a container of the base,
//! and the lock keeps its answer. A name that the lock calls free is compared with what this machine itself has read of the
//! base and its distribution ([`crate::taken`]). Packages of the distribution's own source package are the distribution's to
//! name.

use crate::base::BaseImage;
use crate::component::Built;
use crate::source::{Packing, add_file};
use crate::taken::{self, List, is_name};
use crate::tools::{Tools, is_symbols};
use crate::{Context, Stored, closure};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use twostage_model::project::{Component, Source};
use twostage_model::{Class, Error, Format, Lock, Project, Result, Sha256};

/// What a line starts with that names a taken name.
const TAKEN: &str = "twostage: taken ";
/// The line that says that all names were looked for.
const ANSWERED: &str = "twostage: claims answered";
/// What a line starts with that names packages of the distribution's index, many in a line.
pub(crate) const INDEX: &str = "twostage: index ";
/// What the line starts with that says how many names the index has.
const INDEX_ENDS: &str = "twostage: end of index ";
/// Names of an index that are believed.
const MOST_NAMES: usize = 1_000_000;

/// Leaves out every package that another component replaces.
///
/// # Errors
/// Class `Project`: two components leave a package of one name, and neither says that its own replaces the other's.
pub fn settle(project: &Project, built: BTreeMap<String, Built>) -> Result<BTreeMap<String, Built>> {
    let mut made_by: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (component, built) in &built {
        for name in built.packages.iter().map(|package| &package.id.name).collect::<BTreeSet<_>>() {
            made_by.entry(name.clone()).or_default().push(component);
        }
    }
    // What provides or replaces another component's package passes for it, too.
    let format = project.format;
    for (component, built) in &built {
        for package in &built.packages {
            for name in claimed(format, package).into_iter().filter(|name| *name != package.id.name) {
                let others = made_by.get(&name).into_iter().flatten().filter(|maker| *maker != component);
                if let (Some(other), false) = (others.copied().next(), replaces(project.component(component), &name)) {
                    let line = project.component(component).map_or(1, |component| component.name.line);
                    return Err(project
                        .error_at(
                            line,
                            format!(
                                "component `{component}` leaves {}, which takes the place of {name} of component `{other}`",
                                package.id.name
                            ),
                        )
                        .hint(format!(
                            "take {name} out of what the package provides and replaces, or add `replaces = [\"{name}\"]` to the component"
                        )));
                }
            }
        }
    }
    let mut replaced: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, makers) in made_by.iter().filter(|(_, makers)| makers.len() > 1) {
        let declared: Vec<&str> = makers.iter().copied().filter(|maker| replaces(project.component(maker), name)).collect();
        let [taken] = declared[..] else {
            let (first, second) = (makers[0], makers[1]);
            let line = project.component(second).map_or(1, |component| component.name.line);
            return Err(project.error_at(line, format!("component `{second}` leaves {name}, which component `{first}` makes, too")).hint(
                format!("rename one of the two packages, or add `replaces = [\"{name}\"]` to the one component whose package is meant"),
            ));
        };
        for maker in makers.iter().filter(|maker| **maker != taken) {
            replaced.entry((*maker).to_string()).or_default().insert(name.clone());
        }
    }
    let left = |(component, mut built): (String, Built)| {
        if let Some(names) = replaced.get(&component) {
            built.packages.retain(|package| !names.contains(&package.id.name));
        }
        (component, built)
    };
    Ok(built.into_iter().map(left).collect())
}

fn replaces(component: Option<&Component>, name: &str) -> bool {
    component.is_some_and(|component| component.replaces.iter().any(|replaced| replaced.value == name))
}

/// The names that a package claims, in the form that its package manager takes.
fn claimed(format: Format, package: &Stored) -> BTreeSet<String> {
    let (fields, separator) = match format {
        Format::Deb => (["Provides", "Replaces"], ','),
        Format::Rpm => (["Provides", "Obsoletes"], '\n'),
    };
    let listed = fields.iter().filter_map(|field| package.fields.get(*field)).flat_map(|list| list.split(separator));
    let bare = listed.flat_map(|clause| match format {
        // (Alternatives are none of these fields', but whoever writes one means each.)
        Format::Deb => {
            clause.split('|').filter_map(|clause| clause.trim().split(|c: char| c.is_whitespace() || c == '(' || c == ':').next()).collect()
        }
        // Sonames, configurations, architectures have a bracket: `libc.so.6()(64bit)`, `bash(x86-64)` beside `bash`.
        Format::Rpm => clause.split_whitespace().next().filter(|name| !name.contains('(')).into_iter().collect::<Vec<_>>(),
    });
    let names = std::iter::once(package.id.name.clone()).chain(bare.map(str::to_string));
    // (A file that an rpm provides is no name of a package.)
    // Debug symbols have archives of their own, and are never installed: their names are nobody's.
    names.filter(|name| format.check_name(name, None).is_ok() && !is_symbols(format, name)).collect()
}

/// The names that are not answered yet on a base.
pub(crate) fn unanswered(format: Format, lock: &Lock, base: &Sha256, packages: &[Stored]) -> Vec<String> {
    let answered = lock.names.get(base);
    let all: BTreeSet<String> = packages.iter().flat_map(|package| claimed(format, package)).collect();
    all.into_iter().filter(|name| answered.is_none_or(|answered| !answered.contains_key(name))).collect()
}

/// What the scripts answer about names.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    asked: Vec<String>,
    taken: BTreeSet<String>,
    answered: bool,
    index: BTreeSet<String>,
    /// How many names the index has, as its end says.
    index_count: Option<usize>,
}

impl Answers {
    pub(crate) fn to(asked: Vec<String>) -> Answers {
        Answers { asked, ..Answers::default() }
    }

    /// Packs what the scripts are asked: the names; and, if this machine has no list of today, for all names of the
    /// distribution.
    ///
    /// # Errors
    /// It cannot be packed.
    pub(crate) fn add_question(&self, context: &Context, base: &BaseImage, input: &mut Packing) -> Result<()> {
        let names: String = self.asked.iter().map(|name| format!("{name}\n")).collect();
        add_file(input, "var/cache/twostage/claims", 0o644, 0, names.as_bytes())?;
        if context.names.wants_index(&base.digest) {
            add_file(input, "var/cache/twostage/index", 0o644, 0, b"all\n")?;
        }
        Ok(())
    }

    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim_end();
        self.answered |= line == ANSWERED;
        self.taken.extend(line.strip_prefix(TAKEN).map(str::to_string));
        if let Some(count) = line.strip_prefix(INDEX_ENDS) {
            self.index_count = count.trim().parse().ok();
        } else if let Some(names) = line.strip_prefix(INDEX)
            && self.index.len() < MOST_NAMES
        {
            self.index.extend(names.split(' ').filter(|name| is_name(name)).map(String::from));
        }
    }

    /// Keeps the answers: the index, if it is whole, in this machine's cache, and the names in the lock.
    pub(crate) fn keep(mut self, context: &Context, base: &Sha256) -> bool {
        let index = std::mem::take(&mut self.index);
        if !index.is_empty() && self.index_count == Some(index.len()) {
            context.names.put(base, List::Distribution, index);
        }
        self.lock(&mut context.lock(), base)
    }

    /// That a name is taken is locked as soon as it was heard, that it is free only if all were looked for.
    fn lock(self, lock: &mut Lock, base: &Sha256) -> bool {
        let answers = self.asked.into_iter().map(|name| (self.taken.contains(&name), name)).map(|(taken, name)| (name, taken));
        let answers: Vec<(String, bool)> = answers.filter(|(_, taken)| *taken || self.answered).collect();
        if !answers.is_empty() {
            lock.names.entry(*base).or_default().extend(answers);
        }
        self.answered
    }
}

/// Checks that no package claims a name of the base or its distribution without its component's saying so. Gives the
/// packages that replace one.
///
/// # Errors
/// Class `Project`: one does; or the lock has no answer and may not change.
pub async fn check(context: &Arc<Context>, bases: &[BaseImage], built: &BTreeMap<String, Built>) -> Result<BTreeSet<Sha256>> {
    let (project, format) = (&context.project, context.project.format);
    let mut replacing = BTreeSet::new();
    let packages: Vec<Stored> = own(project, built).map(|(_, package)| package.clone()).collect();
    // What nobody claims any more leaves the lock.
    let all: BTreeSet<String> = packages.iter().flat_map(|package| claimed(format, package)).collect();
    context.lock().names.retain(|base, names| {
        names.retain(|name, _| all.contains(name));
        bases.iter().any(|known| known.digest == *base)
    });
    for base in bases {
        let asked = unanswered(format, &context.lock(), &base.digest, &packages);
        if !asked.is_empty() {
            ask(context, base, asked).await?;
        }
        let taken = taken(context, base, &all).await?;
        for (component, package) in own(project, built) {
            for name in claimed(format, package).intersection(&taken) {
                if !replaces(Some(component), name) {
                    return Err(impersonation(project, component, package, name));
                }
                replacing.insert(package.sha256);
            }
        }
        // The distribution's own source package needs no such word.
        for (component, built) in built {
            let of_distribution = project.component(component).is_some_and(is_distributions);
            replacing.extend(built.packages.iter().filter(|_| of_distribution).map(|package| package.sha256));
        }
    }
    Ok(replacing)
}

/// Which of the names are taken on a base: as the lock says, and as this machine has read it. Its own word goes into the
/// lock, where that may change.
async fn taken(context: &Arc<Context>, base: &BaseImage, all: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let installed = taken::installed(context, base).await?;
    let index = context.names.get(&base.digest, List::Distribution).unwrap_or_default();
    let mut lock = context.lock();
    let mut locked = lock.names.get(&base.digest).cloned().unwrap_or_default();
    locked.extend(all.iter().filter(|name| installed.contains(*name) || index.contains(*name)).map(|name| (name.clone(), true)));
    let taken = locked.iter().filter(|(_, taken)| **taken).map(|(name, _)| name.clone()).collect();
    if context.may_lock && !locked.is_empty() {
        lock.names.insert(base.digest, locked);
    }
    Ok(taken)
}

fn impersonation(project: &Project, component: &Component, package: &Stored, name: &str) -> Error {
    let component_name = &component.name.value;
    let how = if package.id.name == *name {
        format!("component `{component_name}` leaves {}, a package that the base or its distribution has", package.id)
    } else {
        format!(
            "component `{component_name}` leaves {}, which takes the place of {name}, a package that the base or its distribution has",
            package.id
        )
    };
    project
        .error_at(component.name.line, how)
        .hint(format!("rename the package, or, if it is meant to take that place, add `replaces = [\"{name}\"]` to the component"))
}

fn is_distributions(component: &Component) -> bool {
    matches!(component.source.value, Source::Distribution { .. })
}

/// Every package, except those of the distribution's own sources.
fn own<'a>(project: &'a Project, built: &'a BTreeMap<String, Built>) -> impl Iterator<Item = (&'a Component, &'a Stored)> {
    let components = project.components.iter().filter(|component| !is_distributions(component));
    components.flat_map(|component| {
        let packages = built.get(&component.name.value).into_iter().flat_map(|built| &built.packages);
        packages.map(move |package| (component, package))
    })
}

/// Asks in a container of its own, for names that no closure has answered.
async fn ask(context: &Arc<Context>, base: &BaseImage, asked: Vec<String>) -> Result<()> {
    if !context.may_lock {
        return Err(Error::new(Class::Project, format!("the lock does not say whether the distribution has {}", asked.join(", ")))
            .hint("run `twostage lock` and commit twostage.lock"));
    }
    let manager = Tools::of(context.project.format).manager;
    context.events.started("names", &format!("asking {manager} which of {} names it has", asked.len()));
    let mut answers = Answers::to(asked);
    let heard = closure::ask_names(context, base, &mut answers).await;
    let answered = answers.keep(context, &base.digest);
    match heard {
        Err(cause) if !answered => {
            let why = std::iter::once(cause.to_string()).chain(cause.causes()).collect::<Vec<_>>().join(": ");
            context.events.note("names", format!("{manager} cannot say which names the distribution has: {why}"));
            Ok(())
        }
        heard => heard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twostage_model::PackageId;
    use twostage_model::event::Outcome;

    fn package(name: &str, fields: &[(&str, &str)]) -> Stored {
        let fields = fields.iter().map(|(field, value)| ((*field).to_string(), (*value).to_string())).collect();
        let id = PackageId::new(name, "1-1", "amd64").expect("an id");
        Stored { id, sha256: Sha256::of(name.as_bytes()), size: 0, date: 0, fields }
    }

    fn project(replaces: &str) -> Project {
        let text = format!(
            "[project]\nname = \"demo\"\n[base]\nimage = \"debian\"\n[[component]]\nname = \"aa\"\nsource = \"aa\"\n\
             [[component]]\nname = \"bb\"\nsource = \"bb\"\n{replaces}\n"
        );
        Project::parse(&text, "twostage.toml", &|| unreachable!("no bootstrap")).expect("a project")
    }

    fn built(names: &[&str]) -> Built {
        Built { packages: names.iter().map(|name| package(name, &[])).collect(), sources: Vec::new(), outcome: Outcome::Done }
    }

    #[test]
    fn two_components_may_not_leave_a_package_of_one_name() {
        let both = || BTreeMap::from([("aa".to_string(), built(&["tool", "libx"])), ("bb".to_string(), built(&["tool"]))]);
        let refused = settle(&project(""), both()).expect_err("two tools");
        assert!(refused.to_string().contains("twostage.toml:9: component `bb` leaves tool, which component `aa` makes, too"), "{refused}");
        let settled = settle(&project("replaces = [\"tool\"]"), both()).expect("bb's is meant");
        let names = |component: &str| settled[component].packages.iter().map(|p| p.id.name.clone()).collect::<Vec<_>>();
        assert_eq!((names("aa"), names("bb")), (vec!["libx".to_string()], vec!["tool".to_string()]));
    }

    #[test]
    fn what_provides_another_components_package_is_refused() {
        let evil = Built { packages: vec![package("evil", &[("Provides", "tool (= 999)")])], ..built(&[]) };
        let both = || BTreeMap::from([("aa".to_string(), built(&["tool"])), ("bb".to_string(), evil.clone())]);
        let refused = settle(&project(""), both()).expect_err("evil passes for tool").to_string();
        assert!(refused.ends_with("component `bb` leaves evil, which takes the place of tool of component `aa`"), "{refused}");
        assert!(settle(&project("replaces = [\"tool\"]"), both()).is_ok());
        let own = Built { packages: vec![package("tool2", &[("Provides", "tool")]), package("tool", &[])], ..built(&[]) };
        assert!(settle(&project(""), BTreeMap::from([("aa".to_string(), own)])).is_ok(), "a component may provide its own");
    }

    #[test]
    fn a_package_claims_what_it_provides_and_replaces() {
        let fields = [("Provides", "libsystemd0\t(= 999),\n awk"), ("Replaces", "libc6:amd64, util-linux(<< 3)"), ("Depends", "bash")];
        let names: Vec<String> = claimed(Format::Deb, &package("evil", &fields)).into_iter().collect();
        assert_eq!(names, ["awk", "evil", "libc6", "libsystemd0", "util-linux"]);
        let fields =
            [("Provides", "evil = 1-1\nlibc.so.6()(64bit)\nbash = 999\nbash(x86-64) = 999\n/bin/sh"), ("Obsoletes", "systemd-libs < 999")];
        let names: Vec<String> = claimed(Format::Rpm, &package("evil", &fields)).into_iter().collect();
        assert_eq!(names, ["bash", "evil", "systemd-libs"]);
    }

    #[test]
    fn only_what_was_looked_for_is_answered() {
        let (mut lock, base) = (Lock::default(), Sha256::of(b"base"));
        let mut silent = Answers::to(vec!["bash".into(), "tool".into()]);
        silent.line("twostage: taken bash\n");
        assert!(!silent.lock(&mut lock, &base), "the mirror did not answer");
        assert_eq!(lock.names[&base], BTreeMap::from([("bash".into(), true)]), "what the base has is known all the same");
        lock.names.clear();
        let mut heard = Answers::to(vec!["libsystemd0".into(), "tool".into()]);
        ["twostage: taken libsystemd0", "twostage: taken other", "twostage: claims answered"].iter().for_each(|line| heard.line(line));
        assert!(heard.lock(&mut lock, &base));
        assert_eq!(lock.names[&base], BTreeMap::from([("libsystemd0".into(), true), ("tool".into(), false)]));
        assert_eq!(unanswered(Format::Deb, &lock, &base, &[package("tool", &[]), package("new", &[])]), ["new"]);
    }
}
