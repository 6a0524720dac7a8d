//! `twostage promote`: packages of one channel into another, the same bits.

use crate::changes::{Told, changes_text};
use crate::cli::{ProjectArgs, Promote};
use crate::commands::channel::{snapshot, tell_new, word};
use crate::commands::list::patterns;
use crate::commands::remove::until_repo;
use crate::output::Output;
use crate::session::Session;
use twostage_model::names::check_channel_name;
use twostage_model::{Class, Error, Result};
use twostage_reposerver::{Members, Repository, Selection};

pub fn run(arguments: &Promote, project: &ProjectArgs, output: &Output) -> Result<()> {
    let (from, to) = (&arguments.from, &arguments.to);
    if from == to && arguments.snapshot.is_none() {
        return Err(Error::new(Class::Usage, format!("{from} is both channels"))
            .hint("name another one, or with --snapshot the state that the packages are taken from"));
    }
    check_channel_name(to)?;
    let patterns = patterns(&arguments.packages)?;
    let session = if arguments.dry_run { Session::open_shared(project, output) } else { Session::open(project, output) }?;
    let repository = &session.repository;
    let (members, place) = source(repository, from, arguments.snapshot.as_deref())?;
    let what = match &arguments.component {
        Some(name) => Selection::Group(group(&members, name)),
        None if patterns.is_empty() => Selection::All,
        None => Selection::Packages(patterns),
    };
    let plan = repository.promotion(&members, to, &what, &place)?;
    let published = if arguments.dry_run { None } else { Some(repository.promote(&members, to, &what, &place, session.now)?) };
    let last = match &published {
        Some(published) => {
            if published.previous.is_none() {
                tell_new(repository, to, output)?;
            }
            format!("channel {to}  @{}  {}", published.snapshot.short(), word(published, "published", output))
        }
        None => format!("channel {to}  would have these changes; nothing was changed"),
    };
    if !plan.changes.is_empty() {
        until_repo(&session, to, &plan.members, output);
    }
    let told = Told::of("promoted", to, published.as_ref(), arguments.dry_run, &plan.changes);
    output.result(&format!("{}\n{last}", changes_text(&plan.changes)), &told);
    Ok(())
}

/// The groups that packages are taken from, and what they are called.
fn source(repository: &Repository, from: &str, at: Option<&str>) -> Result<(Members, String)> {
    let state = repository.channel_there(from)?;
    match at {
        None => Ok((state.members.clone(), format!("channel {from}"))),
        Some(text) => {
            let id = snapshot(repository, from, text)?;
            Ok((repository.groups_at(from, &id)?, format!("channel {from} at @{}", id.short())))
        }
    }
}

/// The group of a component, or the one of that name.
fn group(members: &Members, name: &str) -> String {
    if members.contains_key(name) { name.to_string() } else { format!("component:{name}") }
}
