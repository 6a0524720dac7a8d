//! `twostage recipe`: what a recipe found in a component's tree, and where the files of its last build went.

use crate::cli::{ProjectArgs, ShowRecipe};
use crate::commands::build::component;
use crate::output::Output;
use crate::session::Session;
use std::collections::{BTreeMap, BTreeSet};
use twostage_builder::generated::found;
use twostage_builder::record::{FilePlace, Records};
use twostage_model::project::{BuildNeed, Component};
use twostage_model::shown::count;
use twostage_model::{Class, Error, Result};
use twostage_recipe::Detected;

pub fn run(arguments: &ShowRecipe, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open_shared(project, output)?;
    let component = component(&session.project, &arguments.component)?;
    let detected = found(&session.files, &session.state, &session.project, component)?;
    let last_build = Records::of(&session.repository.root().join("builds"), &component.name.value).current();
    let places = last_build.map(|record| record.places).unwrap_or_default();
    if let Some(path) = &arguments.why {
        return why(component, path, &places, output);
    }
    let mut packages: BTreeMap<&str, usize> = BTreeMap::new();
    places.iter().for_each(|file| *packages.entry(file.package.as_deref().unwrap_or(LEFT_OUT)).or_default() += 1);
    let mut text = table(component, &detected);
    for (package, files) in &packages {
        text.push_str(&format!("\n# {package}: {}", count(*files, "file")));
    }
    let needs = |needs: &BTreeSet<BuildNeed>| needs.iter().map(ToString::to_string).collect::<Vec<_>>();
    let value = serde_json::json!({
        "event": "recipe", "component": component.name.value, "system": detected.system.word(), "version": detected.version,
        "licence": detected.licence, "wanted": needs(&detected.wanted), "required": needs(&detected.required), "packages": packages,
    });
    output.result(&text, &value);
    Ok(())
}

/// What stands for the package of files that are in none.
const LEFT_OUT: &str = "(left out)";

fn why(component: &Component, path: &str, places: &[FilePlace], output: &Output) -> Result<()> {
    let name = &component.name.value;
    let wanted = path.trim_start_matches('/');
    let Some(FilePlace { path, package, rule }) = places.iter().find(|file| file.path == wanted) else {
        let error = Error::new(Class::Usage, format!("the last build of component `{name}` installed no {path}"));
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_string();
        let alike = places.iter().filter(|file| last(&file.path) == last(wanted)).map(|file| format!("/{}", file.path));
        let alike: Vec<String> = alike.take(3).collect();
        return Err(match (places.is_empty(), alike.is_empty()) {
            (true, _) => error.hint(format!("`twostage build {name}` builds it")),
            (_, false) => error.hint(format!("it installed {}", alike.join(", "))),
            _ => error.hint("the path is that of the file where it is installed, such as /usr/bin/calc"),
        });
    };
    let text = match package {
        None => format!("/{path} is left out by the rule {rule}"),
        Some(package) => format!("/{path} is in {package} by the rule {rule}"),
    };
    let path = format!("/{path}");
    output.result(&text, &serde_json::json!({ "event": "place", "path": path, "package": package, "rule": rule }));
    Ok(())
}

/// What was found, as the project file would say it.
fn table(component: &Component, detected: &Detected) -> String {
    let mut text = format!(
        "[[component]]\nname = \"{}\"\nrecipe = \"{}\"\nversion = \"{}\"\n",
        component.name.value,
        detected.system.word(),
        detected.version
    );
    let needs: Vec<String> = detected.required.iter().chain(&detected.wanted).map(|need| format!("\"{need}\"")).collect();
    text.push_str(&format!("build = [{}]", needs.join(", ")));
    if let Some(licence) = &detected.licence {
        text.push_str(&format!("\n# licence: {licence}"));
    }
    text
}
