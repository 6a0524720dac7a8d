//! `twostage recipe`: what a recipe found in a component's tree, and where the files of its last build went.

use crate::cli::{ProjectArgs, ShowRecipe};
use crate::commands::build::component;
use crate::output::Output;
use crate::session::Session;
use std::collections::BTreeMap;
use twostage_builder::generated::found;
use twostage_builder::record::Records;
use twostage_model::project::Component;
use twostage_model::shown::count;
use twostage_model::{Class, Error, Result};
use twostage_recipe::Detected;

pub fn run(arguments: &ShowRecipe, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open_shared(project, output)?;
    let component = component(&session.project, &arguments.component)?;
    let detected = found(&session.files, &session.state, &session.project, component)?;
    let places = Records::of(&session.repository.root().join("builds"), &component.name.value).places().unwrap_or_default();
    let places: Vec<(&str, &str, &str)> = places.lines().filter_map(place).collect();
    if let Some(path) = &arguments.why {
        return why(component, path, &places, output);
    }
    let mut packages: BTreeMap<&str, usize> = BTreeMap::new();
    places.iter().for_each(|(package, _, _)| *packages.entry(package).or_default() += 1);
    let mut text = table(component, &detected);
    for (package, files) in &packages {
        let package = if *package == LEFT_OUT { "(left out)" } else { package };
        text.push_str(&format!("\n# {package}: {}", count(*files, "file")));
    }
    let needs =
        |needs: &std::collections::BTreeSet<twostage_model::project::BuildNeed>| needs.iter().map(ToString::to_string).collect::<Vec<_>>();
    let value = serde_json::json!({
        "event": "recipe", "component": component.name.value, "system": detected.system.word(), "version": detected.version,
        "licence": detected.licence, "wanted": needs(&detected.wanted), "required": needs(&detected.required), "packages": packages,
    });
    output.result(&text, &value);
    Ok(())
}

/// What stands for the package of a file that is in none.
const LEFT_OUT: &str = "-";

/// Package, rule and path of a line of the record.
fn place(line: &str) -> Option<(&str, &str, &str)> {
    let (package, rest) = line.split_once(' ')?;
    let (rule, path) = rest.split_once(' ')?;
    Some((package, rule, path))
}

fn why(component: &Component, path: &str, places: &[(&str, &str, &str)], output: &Output) -> Result<()> {
    let name = &component.name.value;
    let found = places.iter().find(|(_, _, known)| *known == path || known.trim_start_matches('/') == path);
    let Some((package, rule, path)) = found else {
        let error = Error::new(Class::Usage, format!("the last build of component `{name}` installed no {path}"));
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_string();
        let alike: Vec<&str> = places.iter().map(|(_, _, known)| *known).filter(|known| last(known) == last(path)).take(3).collect();
        return Err(match (places.is_empty(), alike.is_empty()) {
            (true, _) => error.hint(format!("`twostage build {name}` builds it")),
            (_, false) => error.hint(format!("it installed {}", alike.join(", "))),
            _ => error.hint("the path is that of the file where it is installed, such as /usr/bin/calc"),
        });
    };
    let text = match *package {
        LEFT_OUT => format!("{path} is left out by the rule {rule}"),
        package => format!("{path} is in {package} by the rule {rule}"),
    };
    let package = Some(package).filter(|package| **package != LEFT_OUT);
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
