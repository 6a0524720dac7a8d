//! `twostage lock`: pins what the project takes from the distribution, keeping what is pinned.

use crate::cli::{Lock, ProjectArgs};
use crate::commands::repo::{check_claims, lock_images};
use crate::output::Output;
use crate::session::{Session, WorkOptions};
use std::sync::Arc;
use twostage_builder::closure::Freshness;
use twostage_builder::makers::Makers;
use twostage_builder::{Context, component};
use twostage_model::Result;
use twostage_model::shown::count;

pub async fn run(arguments: &Lock, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let context = session.context(&arguments.engine, WorkOptions { lock: true, ..WorkOptions::default() }).await?;
    let result = relock(&context, &session, Freshness::Keep, false).await;
    context.engine.settle().await;
    result?;
    report(&session, &context, output)
}

/// Finds every closure that can be found: those of components whose needs have been built.
/// `new_base` moves to the distribution's newest base first.
pub async fn relock(context: &Arc<Context>, session: &Session, freshness: Freshness, new_base: bool) -> Result<()> {
    for base in session.bases() {
        twostage_builder::base::ensure(context, &base, new_base).await?;
    }
    let built = session.built(context)?;
    let makers = Makers::known(context).await?;
    let mut all = true;
    for name in session.in_order() {
        let Some(component) = session.project.component(&name) else { continue };
        if component.needs.iter().any(|need| !built.contains_key(&need.value)) {
            all = false;
            context.events.note(&name, "what it needs has not been built yet: `twostage repo` will lock its build dependencies");
            continue;
        }
        component::lock(context, component, &session.packages_needed(&name, &built), &makers, freshness).await?;
    }
    if all && session.project.components.iter().all(|component| built.contains_key(&component.name.value)) {
        lock_images(session, context, &built, freshness).await?;
        check_claims(session, context, &built).await?;
    } else {
        context.events.note("lock", "not all components have been built yet: `twostage repo` will lock what the images install");
    }
    Ok(())
}

/// Writes the lock and says what is in it.
pub fn report(session: &Session, context: &Context, output: &Output) -> Result<()> {
    let lock = context.lock().clone();
    session.write_lock(&lock)?;
    let packages = lock.packages().len();
    output.result(
        &format!("{}, {} of the distribution locked", count(lock.closures.len(), "closure"), count(packages, "package")),
        &serde_json::json!({ "event": "locked", "closures": lock.closures.len(), "packages": packages }),
    );
    Ok(())
}
