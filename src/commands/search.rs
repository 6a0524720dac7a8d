//! `twostage search`: packages by words of their names and descriptions.

use crate::changes::{problems, table};
use crate::cli::{ProjectArgs, Search};
use crate::commands::list::channels;
use crate::output::{Output, printable};
use crate::session::Session;
use twostage_model::Result;
use twostage_reposerver::{Item, Scope};

pub fn run(arguments: &Search, project: &ProjectArgs, output: &Output) -> Result<()> {
    let repository = Session::open_shared(project, output)?.repository;
    let listing = repository.listing(if arguments.all { Scope::Pool } else { Scope::Channels })?;
    let problems = problems(&listing);
    problems.iter().for_each(|problem| output.sink().note("repository", problem.clone()));
    let words: Vec<String> = arguments.words.iter().flat_map(|word| word.split_whitespace()).map(str::to_lowercase).collect();
    let items: Vec<&Item> = listing.items.iter().collect();
    let found: Vec<(&Item, (String, String))> = items
        .iter()
        .copied()
        .zip(repository.descriptions(&items)?)
        .filter(|(item, (summary, description))| {
            let text = format!("{}\n{summary}\n{description}", item.name).to_lowercase();
            words.iter().all(|word| text.contains(word))
        })
        .collect();
    let mut rows = Vec::new();
    // The newest of each name stands for all: they follow each other.
    for versions in found.chunk_by(|(a, _), (b, _)| a.name == b.name) {
        let Some((item, (summary, _))) = versions.last() else { continue };
        let version = match versions.len() {
            1 => item.version.clone(),
            more => format!("{} and {} more", item.version, more - 1),
        };
        rows.push(vec![item.name.clone(), version, channels(item), printable(summary)]);
    }
    let elsewhere = if arguments.all { "" } else { "; --all looks at all of the pool" };
    let text = if rows.is_empty() { format!("nothing has these words{elsewhere}") } else { table(&rows) };
    let value = |(item, (summary, description)): &(&Item, (String, String))| serde_json::json!({ "package": item, "summary": summary, "description": description });
    let values: Vec<_> = found.iter().map(value).collect();
    output.result(&text, &serde_json::json!({ "event": "found", "packages": values, "problems": problems }));
    Ok(())
}
