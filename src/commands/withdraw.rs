//! `twostage withdraw`: what must not be served any more goes, whatever names it.

use crate::cli::{ProjectArgs, Withdraw};
use crate::commands::channel::in_full;
use crate::output::Output;
use crate::session::Session;
use twostage_model::shown::size;
use twostage_model::{Class, Error, Result};

pub fn run(arguments: &Withdraw, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let repository = &session.repository;
    let things = repository.to_withdraw(&arguments.what)?;
    let shown = |digest: &dyn std::fmt::Display, name: &str| if name.is_empty() { digest.to_string() } else { format!("{name}  {digest}") };
    if !arguments.yes {
        let mut lines: Vec<String> = things.iter().map(|(digest, name)| format!("would go: {}", shown(digest, name))).collect();
        lines.push("nothing is done yet".into());
        let values: Vec<_> = things.iter().map(|(digest, name)| serde_json::json!({ "digest": digest, "name": name })).collect();
        output.result(&lines.join("\n"), &serde_json::json!({ "event": "to withdraw", "things": values }));
        return Err(Error::new(Class::Usage, format!("{} is not withdrawn yet", arguments.what))
            .hint("a withdrawal cannot be undone; if that is what is above, say it again with --yes"));
    }
    let done = repository.withdraw(&things, &arguments.reason, session.now)?;
    let mut lines: Vec<String> = done.things.iter().map(|thing| format!("withdrawn: {}", shown(&thing.sha256, &thing.name))).collect();
    lines.extend(done.channels.iter().map(|(name, id)| format!("channel {name}  @{}  goes on without", id.short())));
    lines.extend(done.snapshots.iter().map(|id| format!("snapshot @{} had it, and says so", id.short())));
    lines.push(format!("freed {}; images, caches and exports that have it are not reached", size(done.bytes)));
    let problems: Vec<String> = done.broken.iter().map(in_full).collect();
    let things: Vec<_> = done.things.iter().map(|thing| serde_json::json!({ "digest": thing.sha256, "name": thing.name })).collect();
    let channels: Vec<_> = done.channels.iter().map(|(name, id)| serde_json::json!({ "channel": name, "snapshot": id })).collect();
    output.result(
        &lines.join("\n"),
        &serde_json::json!({
            "event": "withdrawn", "things": things, "reason": arguments.reason, "channels": channels, "snapshots": done.snapshots,
            "bytes": done.bytes, "problems": problems,
        }),
    );
    done.broken.into_iter().next().map_or(Ok(()), Err)
}
