//! `twostage rollback`: a channel to a state of before, told by its packages.

use crate::changes::{Told, changes_text};
use crate::cli::{ProjectArgs, Rollback};
use crate::commands::channel::{snapshot, word};
use crate::commands::remove::until_repo;
use crate::output::Output;
use crate::session::Session;
use twostage_model::{Class, Error, Result};
use twostage_reposerver::{Members, Repository};

pub fn run(arguments: &Rollback, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = if arguments.dry_run { Session::open_shared(project, output) } else { Session::open(project, output) }?;
    let repository = &session.repository;
    let (channel, to) = meant(&arguments.words, repository, &session.project.repository.channel)?;
    let channel = channel.as_str();
    let id = match &to {
        To::Back(count) => repository.earlier(channel, *count)?,
        To::Snapshot(text) => {
            repository.channel_there(channel)?;
            snapshot(repository, channel, text)?
        }
    };
    let before = repository.channel_there(channel)?;
    let after = repository.groups_at(channel, &id)?;
    let all = |members: &Members| members.values().flatten().copied().collect();
    let changes = repository.changes(&all(&before.members), &all(&after), false)?;
    let published = if arguments.dry_run { None } else { Some(repository.move_channel(channel, &id, session.now)?) };
    let last = match &published {
        Some(published) => format!("channel {channel}  @{}  {}", published.snapshot.short(), word(published, "rolled back", output)),
        None => format!("channel {channel}  would be @{}; nothing was changed", id.short()),
    };
    if !changes.is_empty() {
        until_repo(&session, channel, &after, output);
    }
    let told = Told::of("rolled-back", channel, published.as_ref(), arguments.dry_run, &changes);
    let told = Told { snapshot: Some(id), previous: Some(before.snapshot), ..told };
    output.result(&format!("{}\n{last}", changes_text(&changes)), &told);
    Ok(())
}

/// Where a channel goes.
#[derive(Debug, PartialEq, Eq)]
enum To {
    /// So many changes of its packages ago.
    Back(usize),
    Snapshot(String),
}

/// What `[CHANNEL] [N|@SNAPSHOT]` says.
fn meant(words: &[String], repository: &Repository, default: &str) -> Result<(String, To)> {
    let to = |word: &str| match (word.strip_prefix('@'), word.parse::<usize>()) {
        (Some(_), _) => Some(To::Snapshot(word.to_string())),
        (None, Ok(count)) => Some(To::Back(count)),
        _ => None,
    };
    let (channel, to) = match words {
        [] => (default.to_string(), To::Back(1)),
        // (A channel may be called as a number is.)
        [one] => match to(one).filter(|_| repository.channels().get(one).is_ok_and(|channel| channel.is_none())) {
            Some(to) => (default.to_string(), to),
            None => (one.clone(), To::Back(1)),
        },
        [channel, word, ..] => {
            let to = to(word).ok_or_else(|| {
                Error::new(Class::Usage, format!("{word:?} is neither a number of states nor a snapshot"))
                    .hint("write 2, or @ and its digits")
            })?;
            (channel.clone(), to)
        }
    };
    match to {
        To::Back(0) => Err(Error::new(Class::Usage, "0 states back is where the channel is").hint("1, or nothing, is the state before")),
        to => Ok((channel, to)),
    }
}
