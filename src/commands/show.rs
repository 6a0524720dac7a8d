//! `twostage show`: all that is known of a package.

use crate::changes::problems;
use crate::cli::{ProjectArgs, Show};
use crate::output::{Output, printable};
use crate::session::Session;
use twostage_model::shown::{count, size};
use twostage_model::{Result, date};
use twostage_reposerver::{About, Pattern, Scope, Signature};

/// Snapshots that are named; all are with `--json`.
const NAMED: usize = 8;

pub fn run(arguments: &Show, project: &ProjectArgs, output: &Output) -> Result<()> {
    let pattern: Pattern = arguments.package.parse()?;
    let repository = Session::open_shared(project, output)?.repository;
    let patterns = std::slice::from_ref(&pattern);
    let mut listing = repository.listing(Scope::Channels)?;
    if listing.select(patterns).is_empty() {
        listing = repository.listing(Scope::Pool)?;
    }
    problems(&listing).into_iter().for_each(|problem| output.sink().note("repository", problem));
    let all = listing.meant(patterns, "the repository")?.into_iter().map(|item| repository.about(item)).collect::<Result<Vec<About>>>()?;
    let text = all.iter().map(to_text).collect::<Vec<_>>().join("\n\n");
    output.result(&text, &serde_json::json!({ "event": "package", "packages": all }));
    Ok(())
}

fn to_text(about: &About) -> String {
    let item = &about.item;
    let mut lines = vec![item.shown()];
    let mut say = |name: &str, value: &str| lines.push(format!("  {name:<10} {value}"));
    let files = about.files.map(|files| format!(", {}", count(files, "file"))).unwrap_or_default();
    say("size", &format!("{}{files}", size(item.size)));
    say("sha256", &item.sha256.to_string());
    if !about.source.is_empty() && about.source != item.name {
        say("source", &about.source);
    }
    if about.date > 0 {
        say("made", &date::release(about.date));
    }
    let mut name = "channels";
    for (channel, groups) in &item.channels {
        say(name, &format!("{channel}, as {}", groups.iter().map(String::as_str).collect::<Vec<_>>().join(" and ")));
        name = "";
    }
    if item.channels.is_empty() {
        say("channels", "none");
    }
    let named: Vec<String> = about.in_snapshots.iter().take(NAMED).map(|id| format!("@{}", id.short())).collect();
    let more = if about.in_snapshots.len() > NAMED { " …" } else { "" };
    say("snapshots", format!("{}  {}{more}", about.in_snapshots.len(), named.join(" ")).trim_end());
    about.pinned.iter().for_each(|(id, why)| say("pinned", &format!("@{}: {why}", id.short())));
    say("signed", &signed(&about.signature));
    about.source_files.iter().for_each(|file| say("with", &format!("{}, {}", file.name, size(file.size))));
    about.notes.iter().for_each(|note| say("note", note));
    about.problem.iter().for_each(|problem| say("damaged", problem));
    if !about.fields.is_empty() {
        lines.push(String::new());
    }
    for (name, value) in &about.fields {
        let value =
            value.trim_end().lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect::<Vec<_>>().join("\n    ");
        lines.push(format!("  {name}: {value}"));
    }
    // Whoever made the package wrote it.
    printable(&lines.join("\n"))
}

fn signed(signature: &Signature) -> String {
    match signature {
        Signature::Index => "by the signed index of its snapshots, as every deb".to_string(),
        Signature::Ours { fingerprint: Some(fingerprint) } => format!("by this repository, with the key {fingerprint}"),
        Signature::Ours { fingerprint: None } => "not yet; by this repository when it is published".to_string(),
        Signature::Theirs { signers, checked } => {
            let signers = signers.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
            let how = if *checked { "and that was checked" } else { "which was not checked: it was never published" };
            format!("before it came here, by {signers}, {how}")
        }
    }
}
