//! `twostage channel`: lists the channels and their snapshots, and moves one back (or forward again).

use crate::cli::{Channel, ProjectArgs};
use crate::commands::repo::REPLACING;
use crate::output::Output;
use crate::session::Session;
use std::collections::BTreeSet;
use twostage_model::shown::count;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId, date};
use twostage_reposerver::Repository;

pub fn run(arguments: &Channel, project: &ProjectArgs, output: &Output) -> Result<()> {
    match (&arguments.name, &arguments.to) {
        (Some(name), Some(to)) => move_to(name, to, project, output),
        (name, _) => list(name.as_deref(), project, output),
    }
}

fn list(name: Option<&str>, project: &ProjectArgs, output: &Output) -> Result<()> {
    let repository = Session::open_shared(project, output)?.repository;
    let names = match name {
        Some(name) => vec![name.to_string()],
        None => repository.channels()?,
    };
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for name in names {
        let channel = repository.channel(&name)?.ok_or_else(|| no_channel(&repository, &name))?;
        let states = std::iter::once((channel.snapshot, channel.date)).chain(channel.history.iter().map(|e| (e.snapshot, e.date)));
        let mut listed = Vec::new();
        for (place, (snapshot, dated)) in states.enumerate() {
            let packages = repository.snapshot_info(&snapshot)?.map_or(0, |info| info.manifest.len());
            let shown = if place == 0 { name.as_str() } else { "" };
            let width = name.len();
            lines.push(format!("{shown:width$}  @{}  {}  {}", snapshot.short(), count(packages, "package"), date::release(dated)));
            listed.push(serde_json::json!({ "snapshot": snapshot, "date": dated, "packages": packages }));
        }
        let replacing = replacing(&repository, &channel)?;
        if !replacing.is_empty() {
            lines.push(format!("{:width$}  in place of the distribution's: {}", "", replacing.join(", "), width = name.len()));
        }
        values.push(serde_json::json!({ "channel": name, "states": listed, "replaces": replacing }));
    }
    if lines.is_empty() {
        lines.push("no channel yet; `twostage repo` or `twostage publish FILES` makes one".into());
    }
    output.result(&lines.join("\n"), &serde_json::json!({ "event": "channels", "channels": values }));
    Ok(())
}

/// The names of a channel's packages that take the place of the base's or the distribution's.
fn replacing(repository: &Repository, channel: &twostage_reposerver::Channel) -> Result<Vec<String>> {
    let members = channel.members.get(REPLACING).into_iter().flatten();
    let names: BTreeSet<String> = members.map(|digest| Ok(repository.package(digest)?.id.name.clone())).collect::<Result<_>>()?;
    Ok(names.into_iter().collect())
}

fn move_to(name: &str, to: &str, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let repository = &session.repository;
    // A mistyped name would make a channel.
    if repository.channel(name)?.is_none() {
        return Err(no_channel(repository, name));
    }
    let moved = repository.move_channel(name, &snapshot(repository, name, to)?, session.now)?;
    output.result(
        &format!("channel {name}  @{}  {}", moved.snapshot.short(), if moved.changed { "moved" } else { "unchanged" }),
        &serde_json::json!({
            "event": "moved", "channel": name, "snapshot": moved.snapshot, "previous": moved.previous, "changed": moved.changed,
        }),
    );
    Ok(())
}

/// The snapshot of that name, or the only one of all channels whose name begins so.
fn snapshot(repository: &Repository, channel: &str, text: &str) -> Result<SnapshotId> {
    let word = text.strip_prefix('@').unwrap_or(text);
    if let Ok(whole) = word.parse::<Sha256>() {
        return Ok(SnapshotId(whole));
    }
    let mut known = BTreeSet::new();
    for name in repository.channels()? {
        if let Some(channel) = repository.channel(&name)? {
            known.insert(channel.snapshot);
            known.extend(channel.history.iter().map(|earlier| earlier.snapshot));
        }
    }
    let found: Vec<SnapshotId> = known.into_iter().filter(|id| !word.is_empty() && id.to_string().starts_with(word)).collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(Error::new(Class::Repository, format!("no channel has, or had, a snapshot {text}"))
            .hint(format!("`twostage channel {channel}` lists those of {channel}"))),
        several => {
            Err(Error::new(Class::Repository, format!("{} snapshots begin with {text}", several.len())).hint("write more of its name"))
        }
    }
}

fn no_channel(repository: &Repository, name: &str) -> Error {
    let names = repository.channels().unwrap_or_default();
    let near = twostage_model::project::near_miss(name, names.iter().map(String::as_str));
    Error::new(Class::Repository, format!("there is no channel {name}"))
        .hint(near.unwrap_or_else(|| "`twostage channel` lists all; `twostage repo` or `twostage publish FILES` makes one".into()))
}
