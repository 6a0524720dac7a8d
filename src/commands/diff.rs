//! `twostage diff A B`: of two images the packages that differ, then the files that these do not explain; of two snapshots
//! or channels of the repository their packages.

use crate::changes::changes_text;
use crate::cli::{Diff, ProjectArgs};
use crate::commands::channel::snapshot;
use crate::images::Place;
use crate::output::Output;
use crate::session::{Session, is_project};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use twostage_builder::Context;
use twostage_image::diff::Difference;
use twostage_image::{Image, read_archive, wanted};
use twostage_model::names::check_channel_name;
use twostage_model::{Class, Error, Result, SnapshotId};
use twostage_reposerver::{Change, Repository};

/// What differs between two sets of packages. Its serialised field names are stable.
#[derive(Serialize)]
struct Packages {
    event: &'static str,
    a: Side,
    b: Side,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Side {
    /// None for a snapshot that was named itself.
    channel: Option<String>,
    snapshot: SnapshotId,
    packages: usize,
}

pub async fn run(arguments: &Diff, project: &ProjectArgs, output: &Output) -> Result<()> {
    if let Some(repository) = of_packages(arguments, project, output)? {
        let [a, b] = [&arguments.a, &arguments.b].map(|word| side(&repository, word));
        let (a, b) = (a?, b?);
        let (from, to) = (repository.packages_of(&a.snapshot)?, repository.packages_of(&b.snapshot)?);
        let changes = repository.changes(&from, &to, true)?;
        let text = changes_text(&changes);
        let side = |side: Side, packages| Side { packages, ..side };
        output.result(&text, &Packages { event: "diff", a: side(a, from.len()), b: side(b, to.len()), changes });
        return Ok(());
    }
    let a = read(&arguments.a.parse()?, arguments, output).await?;
    let b = read(&arguments.b.parse()?, arguments, output).await?;
    let difference = Context::blocking(move || Difference::of(&a, &b)).await?;
    output.result(difference.to_text().trim_end(), &difference);
    Ok(())
}

/// The repository, where both words are snapshots or channels of it; nothing where they are images.
fn of_packages(arguments: &Diff, project: &ProjectArgs, output: &Output) -> Result<Option<Arc<Repository>>> {
    let words = [&arguments.a, &arguments.b];
    let snapshots = words.iter().filter(|word| word.starts_with('@')).count();
    if snapshots > 0 {
        return Ok(Some(Session::open_shared(project, output)?.repository));
    }
    // Images need no project, so one that cannot be opened says nothing of them.
    if words.iter().all(|word| check_channel_name(word).is_err()) || !is_project(&project.path) {
        return Ok(None);
    }
    let Ok(session) = Session::open_shared(project, output) else { return Ok(None) };
    let channels = session.repository.channels().names()?;
    let is_channel = |word: &&&String| channels.contains(word);
    let named: Vec<&&String> = words.iter().filter(is_channel).collect();
    let is_image = |word: &str| session.project.images.contains_key(word) || Path::new(word).exists();
    let images = "write an image as docker-daemon:NAME, containers-storage:NAME, NAME:TAG, or ./PATH";
    match named.as_slice() {
        [] => Ok(None),
        [one] => {
            let other = if words[0] == **one { words[1] } else { words[0] };
            Err(Error::new(Class::Usage, format!("{one} is a channel here, and {other} is none"))
                .hint(format!("two channels or snapshots are compared, or two images: {images}; write a snapshot as @ and its digits")))
        }
        _ => match named.iter().find(|word| is_image(word)) {
            Some(both) => Err(Error::new(Class::Usage, format!("{both} is a channel here, and an image, too"))
                .hint(format!("{images}; write the channels as the snapshots that `twostage channel` lists: @ and digits"))),
            None => Ok(Some(session.repository)),
        },
    }
}

fn side(repository: &Repository, word: &str) -> Result<Side> {
    if word.starts_with('@') {
        return Ok(Side { channel: None, snapshot: snapshot(repository, "", word)?, packages: 0 });
    }
    let state = repository.channel_there(word)?;
    Ok(Side { channel: Some(word.to_string()), snapshot: state.snapshot, packages: 0 })
}

async fn read(place: &Place, arguments: &Diff, output: &Output) -> Result<Image> {
    output.sink().started(&place.to_string(), "reading it");
    match (place, place.engine(&arguments.engine).await?) {
        (Place::Engine(_, name), Some(engine)) => {
            let stream = engine.save(name).await?;
            Context::blocking(move || read_archive(stream, &wanted)).await
        }
        (place, _) => {
            let opened = place.open(None).await?;
            Context::blocking(move || opened.store.read(&wanted)).await
        }
    }
}
