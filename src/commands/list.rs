//! `twostage list`: the packages of the channels, or all of the pool.

use crate::changes::{problems, table};
use crate::cli::{List, ProjectArgs};
use crate::output::Output;
use crate::session::Session;
use twostage_model::shown::size;
use twostage_model::{Error, Result};
use twostage_reposerver::{Item, Pattern, Scope};

pub fn run(arguments: &List, project: &ProjectArgs, output: &Output) -> Result<()> {
    let patterns = patterns(&arguments.patterns)?;
    let repository = Session::open_shared(project, output)?.repository;
    let scope = match &arguments.channel {
        Some(name) => Scope::Channel(name),
        None if arguments.all => Scope::Pool,
        None => Scope::Channels,
    };
    let listing = repository.listing(scope)?;
    let problems = problems(&listing);
    problems.iter().for_each(|problem| output.sink().note("repository", problem.clone()));
    let items = listing.select(&patterns);
    // (Asked one by one, each says what is near it.)
    for pattern in &patterns {
        if let Err(error) = listing.meant(std::slice::from_ref(pattern), "it") {
            let hint = error.hint_text().unwrap_or_default().to_string();
            output.sink().note("list", format!("nothing is called {pattern}: {hint}"));
        }
    }
    let text = match items.is_empty() {
        false => to_text(&items),
        true if listing.items.is_empty() => "no packages yet; `twostage repo` or `twostage publish FILES` adds some".to_string(),
        true => "no packages".to_string(),
    };
    output.result(&text, &serde_json::json!({ "event": "packages", "packages": items, "problems": problems }));
    Ok(())
}

/// The patterns that words say.
pub fn patterns(words: &[String]) -> Result<Vec<Pattern>> {
    words.iter().map(|word| word.parse::<Pattern>()).collect::<std::result::Result<_, Error>>()
}

fn to_text(items: &[&Item]) -> String {
    let mut rows = vec![["NAME", "VERSION", "ARCH", "SIZE", "SNAPSHOTS", "CHANNELS"].map(String::from).to_vec()];
    for item in items {
        let size = if item.present { size(item.size) } else { "lost".to_string() };
        let channels = channels(item);
        rows.push(vec![item.name.clone(), item.version.clone(), item.arch.clone(), size, item.snapshots.to_string(), channels]);
    }
    table(&rows)
}

/// The channels that have a package.
pub fn channels(item: &Item) -> String {
    let names: Vec<&str> = item.channels.keys().map(String::as_str).collect();
    if names.is_empty() { "-".to_string() } else { names.join(", ") }
}
