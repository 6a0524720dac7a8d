//! `twostage publish FILES…`: packages that someone else built, into the channel.

use crate::cli::Publish;
use crate::output::Output;
use crate::session::Session;
use std::path::Path;
use twostage_builder::parallel::in_parallel;
use twostage_model::{Class, Error, Result};

/// The group of a channel's members that `publish` adds to and `repo` leaves alone.
pub const GROUP: &str = "published";

pub fn run(arguments: &Publish, project: &Path, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let repository = &session.repository;
    // All are checked before the first is published: a wrong one publishes none.
    let packages = in_parallel(&arguments.files, |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let package = if name.ends_with(".dsc") { repository.ingest_source(path) } else { repository.ingest_file(path) };
        package.map_err(|cause| Error::new(Class::Repository, format!("{} is not published", path.display())).because(cause))
    })?;
    let shown: Vec<String> = packages.iter().map(|package| package.id.to_string()).collect();
    let channel = arguments.channel.as_ref().unwrap_or(&session.project.repository.channel);
    let published = repository.publish(channel, session.now, |members| {
        members.entry(GROUP.to_string()).or_default().extend(packages.iter().map(|package| package.sha256));
    })?;
    let text = format!(
        "{}\nchannel {channel}  @{}  {}",
        shown.join("\n"),
        published.snapshot.short(),
        if published.changed { "published" } else { "unchanged" }
    );
    let value = serde_json::json!({
        "event": "published", "channel": channel, "snapshot": published.snapshot, "changed": published.changed, "packages": shown,
    });
    output.result(&text, &value);
    Ok(())
}
