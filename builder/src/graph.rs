//! All components, each after those that it needs, independent ones at the same time.

use crate::component::{self, Built};
use crate::makers::Makers;
use crate::{Context, Stored};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::JoinSet;
use twostage_engine::Pending;
use twostage_model::event::Outcome;
use twostage_model::project::Recipe;
use twostage_model::{Class, Error, Project, Result};

/// Builds what is new and returns the packages of every component, or of those that are wanted, and what they need.
/// `makers` says what each makes, as far as it is known.
///
/// # Errors
/// The first component that failed. Others that were being built are finished first, so that
/// their work is not lost.
pub fn build<'a>(
    context: &'a Arc<Context>,
    jobs: usize,
    wanted: Option<&'a BTreeSet<&str>>,
    makers: Makers,
) -> Pending<'a, Result<BTreeMap<String, Built>>> {
    Box::pin(build_now(context, jobs, wanted, makers))
}

async fn build_now(
    context: &Arc<Context>,
    jobs: usize,
    wanted: Option<&BTreeSet<&str>>,
    mut makers: Makers,
) -> Result<BTreeMap<String, Built>> {
    let mut done: BTreeMap<String, Built> = BTreeMap::new();
    let mut waiting: BTreeSet<String> = context.project.components.iter().map(|c| c.name.value.clone()).collect();
    if let Some(wanted) = wanted {
        let mut names = wanted.clone();
        wanted.iter().for_each(|name| collect_needs(&context.project, name, &mut names));
        waiting.retain(|name| names.contains(name.as_str()));
    }
    let mut running = JoinSet::new();
    let mut failure: Option<Error> = None;
    loop {
        let ready: Vec<String> = waiting.iter().filter(|name| is_ready(&context.project, name, &done)).cloned().collect();
        for name in ready {
            if failure.is_some() || running.len() >= jobs.max(1) {
                break;
            }
            waiting.remove(&name);
            let needs = packages_needed(&context.project, &name, &done);
            let (context, makers) = (context.clone(), makers.clone());
            running.spawn(async move {
                let Some(component) = context.project.component(&name) else {
                    return (name.clone(), Err(Error::new(Class::Project, format!("there is no component {name}"))));
                };
                let start = std::time::Instant::now();
                let result = component::build(&context, component, &needs, &makers).await;
                if let Err(error) = &result {
                    context.events.finished(&name, Outcome::Failed, error.to_string(), start);
                }
                (name, result)
            });
        }
        match running.join_next().await {
            None => break,
            Some(Ok((name, Ok(built)))) => {
                makers.learn(&name, &built.packages);
                done.insert(name, built);
                // What was not known when one of them was begun.
                failure = failure.or_else(|| done.keys().find_map(|name| checked(context, &makers, name).err()));
            }
            Some(Ok((_, Err(error)))) => failure = failure.or(Some(error)),
            Some(Err(cause)) => {
                failure = failure.or_else(|| Some(Error::new(Class::System, "a build ended without a result").because(cause)));
            }
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(done),
    }
}

fn checked(context: &Context, makers: &Makers, name: &str) -> Result<()> {
    let closure = context.lock().closures.get(&format!("build:{name}")).cloned();
    match (context.project.component(name), closure) {
        (Some(component), Some(closure)) if component.recipe == Recipe::Native => makers.check(&context.project, component, &closure),
        _ => Ok(()),
    }
}

fn is_ready(project: &Project, name: &str, done: &BTreeMap<String, Built>) -> bool {
    project.component(name).is_some_and(|component| component.needs.iter().all(|need| done.contains_key(&need.value)))
}

/// The packages of everything that a component needs, and of what that needs.
pub fn packages_needed(project: &Project, name: &str, done: &BTreeMap<String, Built>) -> Vec<Stored> {
    all_needs(project, name).into_iter().filter_map(|need| done.get(need)).flat_map(|built| built.packages.iter().cloned()).collect()
}

/// The components that one needs, and those that they need.
pub(crate) fn all_needs<'a>(project: &'a Project, name: &str) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    collect_needs(project, name, &mut names);
    names
}

fn collect_needs<'a>(project: &'a Project, name: &str, names: &mut BTreeSet<&'a str>) {
    for need in project.component(name).iter().flat_map(|component| &component.needs) {
        if names.insert(&need.value) {
            collect_needs(project, &need.value, names);
        }
    }
}
