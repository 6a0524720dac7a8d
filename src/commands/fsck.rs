//! `twostage fsck`: looks at every file of the repository, and mends what can be made again.

use crate::cli::{Fsck, ProjectArgs};
use crate::output::Output;
use crate::session::Session;
use twostage_model::shown::{count, size};
use twostage_model::{Class, Error, Result};
use twostage_reposerver::State;

pub fn run(arguments: &Fsck, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let checked = session.repository.fsck(arguments.channel.as_deref(), arguments.repair, session.now)?;
    for what in &checked.mended {
        output.sink().note("repository", what.clone());
    }
    let word = |state| match state {
        State::Damaged => "damaged",
        State::Mended => "mended",
        State::Quarantined => "moved to quarantine",
        State::Lost => "lost",
        State::Unread => "cannot be read",
    };
    let mut lines: Vec<String> = checked.found.iter().map(|found| format!("{}: {}", word(found.state), found.what)).collect();
    let states =
        [State::Damaged, State::Mended, State::Quarantined, State::Lost, State::Unread].map(|state| (checked.count(state), word(state)));
    let parts: Vec<String> = states.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    let all = if parts.is_empty() { "whole".to_string() } else { parts.join(", ") };
    lines.push(format!("{}, {}  {all}", count(checked.files, "file"), size(checked.bytes)));
    output.result(
        &lines.join("\n"),
        &serde_json::json!({
            "event": "checked", "channel": arguments.channel, "files": checked.files, "bytes": checked.bytes, "found": checked.found,
            "mended": checked.mended,
        }),
    );
    let first = |state| checked.found.iter().find(|found| found.state == state);
    if let Some(lost) = first(State::Lost) {
        let error = Error::new(Class::Repository, format!("{} lost: {}", things(checked.count(State::Lost)), lost.what));
        return Err(match &lost.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        });
    }
    if let Some(unread) = first(State::Unread) {
        let number = count(checked.count(State::Unread), "thing");
        let what = format!("{number} of the repository cannot be read: {}", unread.what);
        let error = Error::new(Class::System, what);
        return Err(match &unread.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        });
    }
    if first(State::Damaged).is_some() {
        let what = format!("{} damaged", things(checked.count(State::Damaged)));
        return Err(Error::new(Class::Verdict, what).hint("`twostage fsck --repair` mends what can be made again, and names the rest"));
    }
    Ok(())
}

fn things(number: usize) -> String {
    format!("{} of the repository {}", count(number, "thing"), if number == 1 { "is" } else { "are" })
}
