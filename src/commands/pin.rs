//! `twostage pin`, `twostage unpin`: snapshots that stay, whatever their channels do.

use crate::cli::{Pin, ProjectArgs, Unpin};
use crate::commands::channel::snapshot;
use crate::output::Output;
use crate::session::{Session, is_project};
use std::collections::BTreeMap;
use std::path::Path;
use twostage_model::names::SNAPSHOT_LABEL;
use twostage_model::{Class, Error, Result, Sha256, SnapshotId, date};
use twostage_reposerver::Repository;

pub fn run(arguments: &Pin, project: &ProjectArgs, output: &Output) -> Result<()> {
    let (Some(named), Some(reason)) = (&arguments.snapshot, &arguments.reason) else { return list(project, output) };
    let session = Session::open(project, output)?;
    let id = of(&session.repository, named)?;
    let new = session.repository.pin(&id, reason, session.now)?;
    let word = if new { "pinned" } else { "is pinned for that reason already" };
    output.result(
        &format!("@{}  {word}", id.short()),
        &serde_json::json!({ "event": "pinned", "snapshot": id, "reason": reason, "changed": new }),
    );
    Ok(())
}

pub fn unpin(arguments: &Unpin, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let id = of(&session.repository, &arguments.snapshot)?;
    let Some(pin) = session.repository.unpin(&id)? else {
        return Err(Error::new(Class::Repository, format!("snapshot @{} is not pinned", id.short())).hint("`twostage pin` lists the pins"));
    };
    output.result(
        &format!("@{}  not pinned any more; it was: {}", id.short(), pin.shown()),
        &serde_json::json!({ "event": "unpinned", "snapshot": id, "reasons": pin.reasons }),
    );
    Ok(())
}

fn list(project: &ProjectArgs, output: &Output) -> Result<()> {
    let repository = Session::open_shared(project, output)?.repository;
    let pins = repository.pins().all()?;
    let mut lines: Vec<String> = Vec::new();
    for (id, pin) in &pins {
        for reason in &pin.reasons {
            lines.push(format!("@{}  {}  {}", id.short(), date::release(reason.date), reason.text));
        }
    }
    if lines.is_empty() {
        lines.push("no snapshot is pinned; `twostage pin @SNAPSHOT --reason TEXT` pins one".into());
    }
    let values: Vec<_> = pins.values().map(|pin| serde_json::json!({ "snapshot": pin.snapshot, "reasons": pin.reasons })).collect();
    output.result(&lines.join("\n"), &serde_json::json!({ "event": "pins", "pins": values }));
    Ok(())
}

/// The snapshot of that name, or the one that a channel of that name is at.
fn of(repository: &Repository, named: &str) -> Result<SnapshotId> {
    if !named.starts_with('@')
        && let Some(channel) = repository.channels().get(named)?
    {
        return Ok(channel.snapshot);
    }
    snapshot(repository, "", named)
}

/// Pins what every channel is at: an archive has it now.
pub fn exported(session: &Session, archive: &Path, output: &Output) -> Result<()> {
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    for channel in session.repository.channels().names()? {
        if let Some(state) = session.repository.channels().get(&channel)? {
            let reason = line(&format!("channel {channel} was exported to {name}"));
            session.repository.pin(&state.snapshot, &reason, session.now)?;
            output.sink().note("pin", format!("@{} stays: {reason}", state.snapshot.short()));
        }
    }
    Ok(())
}

/// Pins the snapshot that an image was installed from, if it is one of the project's repository: the image is
/// somewhere else now. Where that cannot be, it is said; the image is there all the same.
pub fn shipped(labels: &BTreeMap<String, String>, reason: &str, project: &ProjectArgs, output: &Output) {
    let id = labels.get(SNAPSHOT_LABEL).and_then(|id| id.parse::<Sha256>().ok()).map(SnapshotId);
    let Some(id) = id.filter(|_| is_project(&project.path)) else { return };
    let reason = line(reason);
    let pinned = Session::open(project, output).and_then(|session| {
        let there = session.repository.snapshots().ids()?.contains(&id);
        if there { session.repository.pin(&id, &reason, session.now) } else { Ok(false) }
    });
    match pinned {
        Ok(true) => output.sink().note("pin", format!("@{} stays: {reason}", id.short())),
        Ok(false) => {}
        Err(error) => output.sink().note("pin", format!("snapshot @{} could not be pinned: {error}", id.short())),
    }
}

/// A reason is one short line, whatever an image is called.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(240).collect()
}
