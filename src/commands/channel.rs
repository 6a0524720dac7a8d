//! `twostage channel`: lists the channels and their snapshots, moves one back (or forward again), and makes
//! whole what is damaged.

use crate::cli::{Channel, ProjectArgs};
use crate::commands::repo::REPLACING;
use crate::output::Output;
use crate::session::Session;
use std::collections::BTreeSet;
use twostage_model::shown::count;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId, date};
use twostage_reposerver::{Published, Repository, Withdrawn};

pub fn run(arguments: &Channel, project: &ProjectArgs, output: &Output) -> Result<()> {
    match (&arguments.name, &arguments.to) {
        _ if arguments.rekey => rekey(project, output),
        (Some(name), _) if arguments.redate => redate(name, project, output),
        (name, _) if arguments.renew => renew(name.as_deref(), project, output),
        (name, _) if arguments.repair => repair(name.as_deref(), project, output),
        (Some(name), Some(to)) => move_to(name, to, project, output),
        (name, _) => list(name.as_deref(), project, output),
    }
}

fn list(name: Option<&str>, project: &ProjectArgs, output: &Output) -> Result<()> {
    let repository = Session::open_shared(project, output)?.repository;
    let names = meant(&repository, name)?;
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    let mut broken = None;
    for name in names {
        // One that is broken is no reason not to tell of the others.
        let channel = match repository.channels().get(&name) {
            Ok(channel) => channel.ok_or_else(|| no_channel(&repository, &name))?,
            Err(error) => {
                lines.push(format!("{name}  cannot be read"));
                values.push(serde_json::json!({ "channel": name, "problem": in_full(&error) }));
                broken.get_or_insert(error);
                continue;
            }
        };
        let states = std::iter::once((channel.snapshot, channel.date)).chain(channel.history.iter().map(|e| (e.snapshot, e.date)));
        let mut listed = Vec::new();
        for (place, (snapshot, dated)) in states.enumerate() {
            let shown = if place == 0 { name.as_str() } else { "" };
            let width = name.len();
            let packages = repository.snapshots().info(&snapshot).and_then(|info| {
                let gone = || Error::new(Class::Repository, format!("snapshot {} of channel {name} is gone", snapshot.short()));
                let info = info.ok_or_else(|| gone().hint(format!("`twostage channel {name} --repair` makes it anew from the pool")))?;
                Ok(info.manifest.len())
            });
            let what = match &packages {
                Ok(packages) => count(*packages, "package"),
                Err(_) => "damaged".to_string(),
            };
            lines.push(format!("{shown:width$}  @{}  {what}  {}", snapshot.short(), date::release(dated)));
            let mut value = serde_json::json!({ "snapshot": snapshot, "date": dated });
            let withdrawn = repository.withdrawn_of(&snapshot)?;
            for gone in &withdrawn {
                lines.push(format!("{:width$}    {} was withdrawn: {}", "", gone.name, gone.reason));
            }
            if !withdrawn.is_empty() {
                let gone = |gone: &Withdrawn| serde_json::json!({ "package": gone.sha256, "name": gone.name, "reason": gone.reason });
                value["withdrawn"] = withdrawn.iter().map(gone).collect();
            }
            match packages {
                Ok(packages) => value["packages"] = packages.into(),
                Err(error) => {
                    value["problem"] = in_full(&error).into();
                    broken.get_or_insert(error);
                }
            }
            listed.push(value);
        }
        if let Some(suite) = &channel.suite {
            lines.push(format!("{:width$}  of the suite {suite}", "", width = name.len()));
        }
        let replacing = replacing(&repository, &channel)?;
        if !replacing.is_empty() {
            lines.push(format!("{:width$}  in place of the distribution's: {}", "", replacing.join(", "), width = name.len()));
        }
        if let Some(until) = channel.valid_until() {
            lines.push(format!("{:width$}  good until {}", "", date::release(until), width = name.len()));
        }
        values.push(serde_json::json!({ "channel": name, "states": listed, "replaces": replacing, "valid_until": channel.valid_until(), "suite": channel.suite }));
    }
    if lines.is_empty() {
        lines.push("no channel yet; `twostage repo` or `twostage publish FILES` makes one".into());
    }
    output.result(&lines.join("\n"), &serde_json::json!({ "event": "channels", "channels": values }));
    broken.map_or(Ok(()), Err)
}

pub fn in_full(error: &Error) -> String {
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

/// The names of a channel's packages that take the place of the base's or the distribution's.
fn replacing(repository: &Repository, channel: &twostage_reposerver::Channel) -> Result<Vec<String>> {
    let members = channel.members.get(REPLACING).into_iter().flatten();
    let name = |digest: &Sha256| match repository.pool().package(digest) {
        Ok(package) => Ok(package.id.name.clone()),
        Err(error) if error.is_unread() => Err(error),
        // One that is lost is no reason not to tell of the others.
        Err(_) => Ok(digest.short()),
    };
    let names: BTreeSet<String> = members.map(name).collect::<Result<_>>()?;
    Ok(names.into_iter().collect())
}

fn move_to(name: &str, to: &str, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let repository = &session.repository;
    let moved = repository.move_channel(name, &snapshot(repository, name, to)?, session.now)?;
    if moved.previous.is_none() {
        tell_new(repository, name, output)?;
    }
    let word = word(&moved, if moved.previous.is_some() { "moved" } else { "made" }, output);
    output.result(
        &format!("channel {name}  @{}  {word}", moved.snapshot.short()),
        &serde_json::json!({
            "event": "moved", "channel": name, "snapshot": moved.snapshot, "previous": moved.previous, "changed": moved.changed,
            "mended": moved.mended,
        }),
    );
    Ok(())
}

/// A mistyped name makes a channel, too: says so where it is near another one's.
pub fn tell_new(repository: &Repository, name: &str, output: &Output) -> Result<()> {
    let others = repository.channels().names()?.into_iter().filter(|other| other != name).collect::<Vec<_>>();
    if twostage_model::project::near_miss(name, others.iter().map(String::as_str)).is_some() {
        output.sink().note("channel", format!("{name} is new; these were there before: {}", others.join(", ")));
    }
    Ok(())
}

/// The word for what was done to a channel: `changed` where clients see something new. What was damaged, and is whole
/// again, is told first.
pub fn word(published: &Published, changed: &'static str, output: &Output) -> &'static str {
    for what in &published.mended {
        output.sink().note("repository", what.clone());
    }
    match (published.changed, published.mended.is_empty()) {
        (true, _) => changed,
        (false, true) => "unchanged",
        (false, false) => "mended",
    }
}

/// Signs channels anew whose release would soon be too old for clients.
fn renew(name: Option<&str>, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let repository = &session.repository;
    let names = meant(repository, name)?;
    let (mut lines, mut values, mut broken) = (Vec::new(), Vec::new(), None);
    for name in names {
        // One channel that is broken keeps no other from its signature.
        let there = repository.channels().get(&name).and_then(|channel| channel.ok_or_else(|| no_channel(repository, &name)));
        let renewed = match there.and_then(|_| repository.renew(&name, session.now)) {
            Ok(renewed) => renewed,
            Err(error) => {
                lines.push(format!("channel {name}  is not renewed"));
                values.push(serde_json::json!({ "channel": name, "problem": in_full(&error) }));
                broken.get_or_insert(error);
                continue;
            }
        };
        let until = repository.channels().get(&name)?.and_then(|channel| channel.valid_until());
        let end =
            until.map_or("for ever: the project file has no `valid_days`".into(), |until| format!("good until {}", date::release(until)));
        lines.push(format!("channel {name}  @{}  {}, {end}", renewed.snapshot.short(), word(&renewed, "renewed", output)));
        values.push(serde_json::json!({ "channel": name, "snapshot": renewed.snapshot, "changed": renewed.changed, "valid_until": until }));
    }
    output.result(&lines.join("\n"), &serde_json::json!({ "event": "renewed", "channels": values }));
    broken.map_or(Ok(()), Err)
}

fn redate(name: &str, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let redated = session.repository.redate(name, session.now)?;
    let word = word(&redated, "dated by the clock", output);
    if redated.changed {
        let note = "a client that took the release from the future keeps that until it forgets it: `rm -r /var/lib/apt/lists/*` there";
        output.sink().note("repository", note);
    }
    output.result(
        &format!("channel {name}  @{}  {word}", redated.snapshot.short()),
        &serde_json::json!({ "event": "redated", "channel": name, "snapshot": redated.snapshot, "changed": redated.changed }),
    );
    Ok(())
}

fn rekey(project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let (fingerprint, channels) = session.repository.rekey(session.now)?;
    let text = format!("{} signed with the key {fingerprint}; clients need its public part: key.asc of the server", channels.join(", "));
    let text = if channels.is_empty() { format!("no channel yet; the key is {fingerprint}") } else { text };
    output.result(&text, &serde_json::json!({ "event": "rekeyed", "fingerprint": fingerprint, "channels": channels }));
    Ok(())
}

fn repair(name: Option<&str>, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let repository = &session.repository;
    let names = meant(repository, name)?;
    let (mut lines, mut values, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for name in &names {
        let repaired = repository.repair(name, session.now)?;
        for what in &repaired.mended {
            output.sink().note("repository", what.clone());
        }
        let word = match (repaired.lost.len(), repaired.mended.len()) {
            (0, 0) => "whole".to_string(),
            (0, count) => format!("mended in {count} place{}", if count == 1 { "" } else { "s" }),
            (count, _) => format!("{count} thing{} lost", if count == 1 { "" } else { "s" }),
        };
        lines.push(format!("channel {name}  {}  {word}", count(repaired.files, "file")));
        let problems: Vec<String> = repaired.lost.iter().map(in_full).collect();
        for problem in &problems {
            output.sink().note("repository", problem.clone());
        }
        values.push(serde_json::json!({ "channel": name, "files": repaired.files, "mended": repaired.mended, "lost": problems }));
        lost.extend(repaired.lost);
    }
    if lines.is_empty() {
        lines.push("no channel yet; `twostage repo` or `twostage publish FILES` makes one".into());
    }
    output.result(&lines.join("\n"), &serde_json::json!({ "event": "repaired", "channels": values }));
    lost.into_iter().next().map_or(Ok(()), Err)
}

/// The snapshot of that name, or the only one of all channels whose name begins so.
pub fn snapshot(repository: &Repository, channel: &str, text: &str) -> Result<SnapshotId> {
    let word = text.strip_prefix('@').unwrap_or(text);
    if let Ok(whole) = word.parse::<Sha256>() {
        return Ok(SnapshotId(whole));
    }
    let pinned = match repository.pins().all() {
        Err(error) if error.is_unread() => return Err(error),
        pins => pins.unwrap_or_default().into_keys(),
    };
    let known: BTreeSet<SnapshotId> = repository.snapshots().ids()?.into_iter().chain(named(repository)?).chain(pinned).collect();
    let found: Vec<SnapshotId> = known.into_iter().filter(|id| !word.is_empty() && id.to_string().starts_with(word)).collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let near =
                if repository.channels().get(channel).is_ok_and(|there| there.is_some()) { format!(" {channel}") } else { String::new() };
            Err(Error::new(Class::Repository, format!("the repository has no snapshot {text}"))
                .hint(format!("`twostage channel{near}` lists those of {}", if near.is_empty() { "all channels" } else { channel })))
        }
        several => {
            Err(Error::new(Class::Repository, format!("{} snapshots begin with {text}", several.len())).hint("write more of its name"))
        }
    }
}

/// The snapshots that channels name. One whose folder is gone can be made anew.
fn named(repository: &Repository) -> Result<BTreeSet<SnapshotId>> {
    let mut named = BTreeSet::new();
    for name in repository.channels().names()? {
        match repository.channels().get(&name) {
            Ok(Some(channel)) => {
                named.insert(channel.snapshot);
                named.extend(channel.history.iter().map(|earlier| earlier.snapshot));
            }
            Err(error) if error.is_unread() => return Err(error),
            // The snapshots of a damaged one are named by their folders.
            _ => {}
        }
    }
    Ok(named)
}

/// The channel that is named, or all.
fn meant(repository: &Repository, name: Option<&str>) -> Result<Vec<String>> {
    name.map_or_else(|| repository.channels().names(), |name| Ok(vec![name.to_string()]))
}

fn no_channel(repository: &Repository, name: &str) -> Error {
    let names = repository.channels().names().unwrap_or_default();
    let near = twostage_model::project::near_miss(name, names.iter().map(String::as_str));
    Error::new(Class::Repository, format!("there is no channel {name}"))
        .hint(near.unwrap_or_else(|| "`twostage channel` lists all; `twostage repo` or `twostage publish FILES` makes one".into()))
}
