//! `twostage update`: moves the lock to what the distribution has now.

use crate::cli::{ProjectArgs, Update};
use crate::commands::lock::{relock, report};
use crate::output::Output;
use crate::session::{Session, WorkOptions};
use twostage_builder::closure::Freshness;
use twostage_model::Result;

pub async fn run(arguments: &Update, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let context = session.context(&arguments.engine, WorkOptions { lock: true, ..WorkOptions::default() }).await?;
    let before = context.lock().clone();
    let result = relock(&context, &session, Freshness::Newest, true).await;
    context.engine.settle().await;
    result?;
    let after = context.lock().clone();
    for (name, base) in &after.bases {
        if before.bases.get(name).is_some_and(|earlier| earlier.digest != base.digest) {
            context.events.note("base", format!("{name} moved to {}", base.digest.short()));
        }
    }
    for change in super::outdated::changes(&before, &after) {
        context.events.note("update", change.to_string());
    }
    report(&session, &context, output)
}
