//! `twostage remove`: takes packages out of a channel, in a new snapshot. Nothing is deleted.

use crate::changes::{Told, changes_text};
use crate::cli::{ProjectArgs, Remove};
use crate::commands::channel::word;
use crate::commands::list::patterns;
use crate::output::Output;
use crate::session::Session;
use std::collections::{BTreeMap, BTreeSet};
use twostage_model::{Result, Sha256};
use twostage_reposerver::{Item, Members, Scope};

pub fn run(arguments: &Remove, project: &ProjectArgs, output: &Output) -> Result<()> {
    let patterns = patterns(&arguments.packages)?;
    let session = if arguments.dry_run { Session::open_shared(project, output) } else { Session::open(project, output) }?;
    let repository = &session.repository;
    let channel = arguments.channel.as_ref().unwrap_or(&session.project.repository.channel);
    let listing = repository.listing(Scope::Channel(channel))?;
    let items = listing.meant(&patterns, &format!("channel {channel}"))?;
    let gone: BTreeSet<Sha256> = items.iter().map(|item| item.sha256).collect();
    let changes = repository.changes(&gone, &BTreeSet::new(), false)?;
    let published = if arguments.dry_run { None } else { Some(repository.remove(channel, &gone, session.now)?) };
    if *channel == session.project.repository.channel {
        put_back(&session, channel, &items, output);
    }
    let last = match &published {
        Some(published) => format!("channel {channel}  @{}  {}", published.snapshot.short(), word(published, "published", output)),
        None => format!("channel {channel}  would be published without them; nothing was changed"),
    };
    let told = Told::of("removed", channel, published.as_ref(), arguments.dry_run, &changes);
    output.result(&format!("{}\n{last}", changes_text(&changes)), &told);
    Ok(())
}

/// Says what `twostage repo` would publish at once again.
fn put_back(session: &Session, channel: &str, items: &[&Item], output: &Output) {
    let mut again: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for item in items {
        for group in item.channels.get(channel).into_iter().flatten().filter(|group| is_of_project(session, group)) {
            again.entry(why(group)).or_default().insert(&item.name);
        }
    }
    for (why, names) in again {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        output.sink().note("remove", format!("the next `twostage repo` publishes {names} again: {why}"));
    }
}

/// Whether `repo` decides what is in a group.
fn is_of_project(session: &Session, group: &str) -> bool {
    match group.split_once(':') {
        Some(("component", name)) => session.project.component(name).is_some(),
        Some(("runtime" | "config", image)) => session.project.images.contains_key(image),
        _ => false,
    }
}

fn why(group: &str) -> String {
    match group.split_once(':') {
        Some(("component", name)) => format!("component {name} makes it; take that out of the project file, or change its version"),
        Some(("config", image)) => format!("image {image} has files; take them out of the project file"),
        Some((_, image)) => format!("image {image} needs it, as twostage.lock says"),
        None => group.to_string(),
    }
}

/// Says which groups of a channel `twostage repo` makes anew: what is changed in them lasts until then.
pub fn until_repo(session: &Session, channel: &str, members: &Members, output: &Output) {
    if channel != session.project.repository.channel {
        return;
    }
    let groups: Vec<&str> = members.keys().map(String::as_str).filter(|group| is_of_project(session, group)).collect();
    if !groups.is_empty() {
        output.sink().note("channel", format!("the next `twostage repo` makes these groups of {channel} anew: {}", groups.join(", ")));
    }
}
