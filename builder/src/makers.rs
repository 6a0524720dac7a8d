//! Which component makes which package, so that none is built against the distribution's where the project makes it.
//!
//! It is known as soon as possible: before anything is built by the sources that are here, `debian/control` and spec files
//! as the patches leave them, else by the last build; then by what was built.

use crate::component::{read_patches, stored};
use crate::graph::all_needs;
use crate::patches::{CONTROL, Patch, applied, source_package_control};
use crate::record::Records;
use crate::source::{folder_here, spec_of};
use crate::tools::{clause_names, is_development, made, source_control};
use crate::{Context, Stored};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use twostage_model::lock::Closure;
use twostage_model::project::{Component, Recipe, Source};
use twostage_model::{Format, Project, Result};

/// Bytes of a control or spec file, at most.
const MAX_TEXT: u64 = 16 << 20;

/// The names of the packages of each component, as far as they are known.
#[derive(Debug, Clone, Default)]
pub struct Makers(BTreeMap<String, BTreeSet<String>>);

impl Makers {
    /// What is known before anything is built. Nothing is fetched for it.
    ///
    /// # Errors
    /// A thread ended early.
    pub async fn known(context: &Arc<Context>) -> Result<Makers> {
        let context = context.clone();
        Context::blocking(move || {
            let names = |component: &Component| {
                // (What cannot be read is told by whoever builds it.)
                by_source(&context, component).ok().flatten().or_else(|| by_last_build(&context, component).ok().flatten())
            };
            let components = context.project.components.iter();
            Ok(Makers(components.filter_map(|component| Some((component.name.value.clone(), names(component)?))).collect()))
        })
        .await
    }

    /// Takes what a component has left.
    pub fn learn(&mut self, component: &str, packages: &[Stored]) {
        self.0.insert(component.to_string(), packages.iter().map(|package| package.id.name.clone()).collect());
    }

    /// Refuses a closure of build dependencies in which a package is the distribution's although a component makes it that
    /// could be built before: one that the component asks for itself, or one that others are built against. A library that
    /// only a tool of the build needs may be the distribution's.
    ///
    /// # Errors
    /// Class `Project`, with the line to write.
    pub fn check(&self, project: &Project, component: &Component, closure: &Closure) -> Result<()> {
        let (format, name) = (project.format, component.name.value.as_str());
        let needed = all_needs(project, name);
        let asked: BTreeSet<&str> = closure.asked.iter().flat_map(|clause| clause_names(format, clause)).collect();
        let mut missing: BTreeMap<&str, &str> = BTreeMap::new();
        for package in closure.packages.iter().map(|package| package.id.name.as_str()) {
            if !asked.contains(package) && !is_development(format, package) {
                continue;
            }
            let makers: Vec<&str> = self.0.iter().filter(|(_, made)| made.contains(package)).map(|(maker, _)| maker.as_str()).collect();
            if makers.iter().any(|maker| *maker == name || needed.contains(maker)) {
                continue;
            }
            // One that is itself built with this component's packages cannot come first.
            let mut before = makers.into_iter().filter(|maker| !all_needs(project, maker).contains(name)).peekable();
            let replaces = |maker: &str| project.component(maker).is_some_and(|maker| maker.replaces.iter().any(|at| at.value == package));
            let first = before.peek().copied();
            if let Some(maker) = before.find(|maker| replaces(maker)).or(first) {
                missing.entry(maker).or_insert(package);
            }
        }
        let Some((maker, package)) = missing.first_key_value() else { return Ok(()) };
        let line = component.needs.first().map_or(component.name.line, |need| need.line);
        let needs = component.needs.iter().map(|need| need.value.as_str()).chain(missing.keys().copied());
        let needs: Vec<String> = needs.map(|need| format!("\"{need}\"")).collect();
        Err(project
            .error_at(line, format!("component `{name}` is built against the distribution's {package}, and component `{maker}` makes that"))
            .hint(format!("write needs = [{}] in component `{name}`: then it is built after it, against its packages", needs.join(", "))))
    }
}

/// The names of what the last build left.
fn by_last_build(context: &Context, component: &Component) -> Result<Option<BTreeSet<String>>> {
    let Some(record) = Records::of(&context.records, &component.name.value).current() else { return Ok(None) };
    let built = stored(context, &record)?;
    Ok(built.map(|built| built.packages.into_iter().map(|package| package.id.name).collect()))
}

/// The names that a component's source tells, if it is here and tells them.
fn by_source(context: &Context, component: &Component) -> Result<Option<BTreeSet<String>>> {
    if component.recipe != Recipe::Native {
        return Ok(None);
    }
    let format = context.project.format;
    let patches = read_patches(&context.files, &context.project, component)?;
    let control = match (&component.source.value, format) {
        (Source::Distribution { name, version }, Format::Deb) => by_locked_source(context, component, name, version.as_deref(), &patches)?,
        // (Which packages a source rpm makes stands in no header of it.)
        (Source::Distribution { .. }, Format::Rpm) => None,
        (source, _) => match folder_here(&context.files, &context.state, source)? {
            None => None,
            Some(folder) => {
                let path = match format {
                    Format::Deb => CONTROL.to_string(),
                    Format::Rpm => spec_of(&folder)?,
                };
                Some(applied(&patches, &path, folder.read_text(&path, MAX_TEXT)?)?)
            }
        },
    };
    Ok(control.map(|control| made(format, &control)))
}

/// The `.dsc` of the source package that is locked, or its `debian/control` where a patch changes that.
fn by_locked_source(
    context: &Context,
    component: &Component,
    name: &str,
    version: Option<&str>,
    patches: &[Patch],
) -> Result<Option<String>> {
    let locked = context.lock().sources.get(&component.name.value).cloned();
    let Some(locked) = locked.filter(|locked| locked.name == name && version.is_none_or(|version| version == locked.version)) else {
        return Ok(None);
    };
    let blob = |(file, (_, digest)): (&String, &(u64, twostage_model::Sha256))| Some((file.clone(), context.packages.blob(digest)?));
    let files: Option<BTreeMap<String, std::path::PathBuf>> = locked.files.iter().map(blob).collect();
    let Some(files) = files else { return Ok(None) };
    if patches.iter().any(|patch| patch.touches(|path| path == CONTROL)) {
        return applied(patches, CONTROL, source_package_control(&files)?).map(Some);
    }
    let described = files.iter().find(|(file, _)| file.ends_with(".dsc"));
    described.map(|(_, path)| source_control(Format::Deb, path)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use twostage_model::{Lock, Sha256};

    const PROJECT: &str = "[project]\nname = \"demo\"\nformat = \"FORMAT\"\n[base]\nimage = \"base\"\n\
        [[component]]\nname = \"cairo\"\nsource = \"cairo\"\n[[component]]\nname = \"pango\"\nsource = \"pango\"\nneeds = [\"cairo\"]\n\
        [[component]]\nname = \"gtk\"\nsource = \"gtk\"\nneeds = [\"pango\"]\n[[component]]\nname = \"panel\"\nsource = \"panel\"\n";

    /// What is said of `component` when its closure asks for this and takes these of the distribution.
    fn said(format: &str, component: &str, asked: &[&str], taken: &[&str]) -> String {
        let project = PROJECT.replace("FORMAT", format);
        let project =
            Project::parse(&project, "twostage.toml", &|| Err(twostage_model::Error::new(twostage_model::Class::Project, "none")));
        let project = project.expect("it is right");
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_string()).collect::<BTreeSet<_>>();
        let makers = Makers(BTreeMap::from([
            ("cairo".into(), names(&["libcairo2", "libcairo2-dev", "cairo-devel"])),
            ("gtk".into(), names(&["libgtk-3-0", "libgtk-3-dev", "gtk-tool"])),
        ]));
        let version = if format == "deb" { "1" } else { "1-1" };
        let arch = if format == "deb" { "amd64" } else { "x86_64" };
        let digest = Sha256::of(b"x");
        let packages: String = taken.iter().map(|name| format!("  \"{name} {version} {arch} 1 {digest} somewhere\",\n")).collect();
        let asked: Vec<String> = asked.iter().map(|clause| format!("\"{clause}\"")).collect();
        let lock = format!(
            "version = 1\n\n[[closure]]\nof = \"build:{component}\"\nbase = \"{digest}\"\nasked = [{}]\nown = []\npackages = [\n{packages}]\n",
            asked.join(", ")
        );
        let lock = Lock::parse(&lock, "twostage.lock").expect("a lock");
        let closure = lock.closures.values().next().expect("a closure");
        let checked = makers.check(&project, project.component(component).expect("a component"), closure);
        checked.map_or_else(|error| format!("{error} | {}", error.hint_text().unwrap_or_default()), |()| String::new())
    }

    #[test]
    fn a_missing_need_is_told_with_the_line_to_write() {
        let expected = "twostage.toml:18: component `panel` is built against the distribution's libcairo2-dev, and component `cairo` makes that \
                        | write needs = [\"cairo\", \"gtk\"] in component `panel`: then it is built after it, against its packages";
        assert_eq!(said("deb", "panel", &["libcairo2-dev (>= 1.10)", "gtk-tool | other"], &["gtk-tool", "libcairo2-dev"]), expected);
        let said_of_rpms = said("rpm", "panel", &["pkgconfig(cairo)"], &["cairo-devel"]);
        assert!(said_of_rpms.contains("the distribution's cairo-devel, and component `cairo` makes that"), "{said_of_rpms}");
    }

    #[test]
    fn a_need_that_is_there_or_cannot_be_or_is_not_meant_is_not_told() {
        // Needed through another one.
        assert_eq!(said("deb", "gtk", &["libcairo2-dev"], &["libcairo2-dev"]), "");
        // A circle: the distribution's is what the first build stands on.
        assert_eq!(said("deb", "cairo", &["libgtk-3-dev"], &["libgtk-3-dev"]), "");
        // Its own.
        assert_eq!(said("deb", "cairo", &["libcairo2-dev"], &["libcairo2-dev"]), "");
        // A library that a tool of the build needs, and a package that the closure does not take.
        assert_eq!(said("deb", "panel", &["graphviz", "libcairo2-dev | libother-dev"], &["graphviz", "libcairo2", "libother-dev"]), "");
        // What others are built against counts wherever it comes from.
        assert!(said("deb", "panel", &["librsvg2-dev"], &["libcairo2-dev", "librsvg2-dev"]).contains("needs = [\"cairo\"]"));
    }

    #[test]
    fn what_a_source_makes_is_read_of_control_dsc_and_spec_files() {
        let of = |format, text: &str| made(format, text).into_iter().collect::<Vec<_>>().join(" ");
        let control = "Source: cairo\nBuild-Depends: x\n\nPackage: libcairo2\nArchitecture: any\nDescription: x\n Package: y\n\n# no\nPackage:libcairo2-dev\n";
        assert_eq!(of(Format::Deb, control), "libcairo2 libcairo2-dev");
        let dsc =
            "Source: cairo\nBinary: libcairo2, libcairo2-dev,\n cairo-perf-utils\nPackage-List:\n libcairo2 deb libs optional arch=any\n";
        assert_eq!(of(Format::Deb, dsc), "cairo-perf-utils libcairo2 libcairo2-dev");
        let spec = "%global x 1\nName:  cairo\nVersion: 1\n%description\nName: no\n%package devel\nSummary: x\n%package -n lib%{name}2\n\
                    %package -n %{x}\n%package  -n  python3-cairo\n";
        assert_eq!(of(Format::Rpm, spec), "cairo cairo-devel libcairo2 python3-cairo");
        assert_eq!(of(Format::Rpm, "no spec"), "");
    }
}
