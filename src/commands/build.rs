//! `twostage build COMPONENT…`: builds components, and what they need, without publishing.

use crate::cli::{BuildOnly, ProjectArgs, cores};
use crate::output::Output;
use crate::session::Session;
use std::collections::BTreeSet;
use std::sync::Arc;
use twostage_builder::{Context, Stored, graph};
use twostage_model::project::{Component, no_such};
use twostage_model::{Project, Result};

pub async fn run(arguments: &BuildOnly, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    for name in &arguments.components {
        component(&session.project, name)?;
    }
    let context = session.building(&arguments.building).await?;
    let result = session.locking(&context, build(&session, &context, arguments, output)).await;
    context.engine.settle().await;
    result
}

async fn build(session: &Session, context: &Arc<Context>, arguments: &BuildOnly, output: &Output) -> Result<()> {
    twostage_builder::base::ensure(context, &session.project.base.value, false).await?;
    let wanted: BTreeSet<&str> = arguments.components.iter().map(String::as_str).collect();
    let built = session.build(context, arguments.building.jobs(), Some(&wanted)).await?;
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
    let names = || project.components.iter().map(|component| component.name.value.as_str());
    project.component(name).ok_or_else(|| no_such(&project.file, "component", name, names()))
}

/// Builds what a component needs. Gives the packages of that.
pub async fn with_needs(session: &Session, context: &Arc<Context>, component: &Component) -> Result<Vec<Stored>> {
    let needs: BTreeSet<&str> = component.needs.iter().map(|need| need.value.as_str()).collect();
    let built = session.build(context, cores(), Some(&needs)).await?;
    Ok(graph::packages_needed(&session.project, &component.name.value, &built))
}
