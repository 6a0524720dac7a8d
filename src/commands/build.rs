//! `twostage build COMPONENT…`: builds components, and what they need, without publishing.

use crate::cli::{Build, ProjectArgs};
use crate::output::Output;
use crate::session::{Session, WorkOptions};
use std::collections::BTreeSet;
use std::sync::Arc;
use twostage_builder::{Context, Stored, graph};
use twostage_model::project::Component;
use twostage_model::{Class, Error, Project, Result};

pub async fn run(arguments: &Build, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    for name in &arguments.components {
        component(&session.project, name)?;
    }
    let context = session.context(&arguments.engine, WorkOptions { lock: !arguments.locked, keep_failed: arguments.keep_failed }).await?;
    let result = session.locking(&context, build(&session, &context, arguments, output)).await;
    context.engine.settle().await;
    result
}

async fn build(session: &Session, context: &Arc<Context>, arguments: &Build, output: &Output) -> Result<()> {
    twostage_builder::base::ensure(context, &session.project.base.value, false).await?;
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let wanted: BTreeSet<&str> = arguments.components.iter().map(String::as_str).collect();
    let built = session.build(context, jobs, Some(&wanted)).await?;
    for name in wanted {
        let Some(built) = built.get(name) else { continue };
        for package in &built.packages {
            let text = format!("{name}  {} {} {}", package.id.name, package.id.version, package.id.arch);
            let value = serde_json::json!({
                "event": "built", "component": name, "package": package.id.name, "version": package.id.version, "sha256": package.sha256,
            });
            output.result(&text, &value);
        }
    }
    Ok(())
}

/// The component of that name.
pub fn component<'p>(project: &'p Project, name: &str) -> Result<&'p Component> {
    project.component(name).ok_or_else(|| {
        let names = || project.components.iter().map(|component| component.name.value.as_str());
        let hint = twostage_model::project::near_miss(name, names());
        Error::new(Class::Usage, format!("{} names no component {name}", project.file))
            .hint(hint.unwrap_or_else(|| format!("its components are: {}", names().collect::<Vec<_>>().join(", "))))
    })
}

/// Builds what a component needs. Gives the packages of that.
pub async fn with_needs(session: &Session, context: &Arc<Context>, name: &str) -> Result<Vec<Stored>> {
    let needs: BTreeSet<&str> = component(&session.project, name)?.needs.iter().map(|need| need.value.as_str()).collect();
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let built = session.locking(context, session.build(context, jobs, Some(&needs))).await?;
    Ok(graph::packages_needed(&session.project, name, &built))
}
