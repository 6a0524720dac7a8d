//! `twostage prune`: says what nothing needs of what is kept here without a daemon, and frees it with `--yes`.

use crate::cli::Prune;
use crate::output::Output;
use crate::session::tell_odd;
use std::time::SystemTime;
use twostage_engine::{Clearing, Fates, Freed};
use twostage_model::Result;
use twostage_model::shown::{count, size};

pub async fn run(arguments: &Prune, output: &Output) -> Result<()> {
    let engine = arguments.store.connect().await?;
    tell_odd(&engine.problems().await?, &output.sink());
    let clearing = Clearing { now: SystemTime::now(), older: arguments.older, all: arguments.all };
    let fates = engine.fates(clearing).await?;
    let mut lines = told(&fates, arguments);
    let mut value = if arguments.yes {
        let freed = engine.prune(clearing).await?;
        lines.extend(done(&freed));
        serde_json::json!({ "event": "pruned", "freed": freed })
    } else {
        lines.push(would_free(&fates));
        let goes: Vec<_> = fates.images.iter().filter(|fate| fate.goes).collect();
        serde_json::json!({ "event": "waste", "bytes": fates.bytes, "images": goes, "steps": fates.steps, "caches": fates.caches })
    };
    if arguments.why {
        value["stays"] = fates.images.iter().filter(|fate| !fate.goes).map(|fate| serde_json::json!(fate)).collect();
    }
    output.result(&lines.join("\n"), &value);
    engine.settle().await;
    Ok(())
}

/// A line for each image that goes, and for each that stays where that is asked for.
fn told(fates: &Fates, arguments: &Prune) -> Vec<String> {
    let stays = fates.images.iter().filter(|fate| !fate.goes && arguments.why);
    let mut lines: Vec<String> = stays.map(|fate| format!("stays  {}  {}", fate.image, fate.why)).collect();
    let verb = if arguments.yes { "freed" } else { "waste" };
    let goes = fates.images.iter().filter(|fate| fate.goes);
    lines.extend(goes.map(|fate| format!("{verb}  {}  {}  {}", fate.image, size(fate.bytes), fate.why)));
    lines
}

fn would_free(fates: &Fates) -> String {
    let numbers = [(fates.images.iter().filter(|fate| fate.goes).count(), "image"), (fates.steps, "step"), (fates.caches, "cache folder")];
    let parts: Vec<String> = numbers.iter().filter(|(number, _)| *number > 0).map(|(number, word)| count(*number, word)).collect();
    match parts.is_empty() {
        true => "nothing to free of images; `--why` says why each stays".into(),
        false => format!("{}: {}, `twostage prune --yes` frees it", parts.join(", "), size(fates.bytes)),
    }
}

fn done(freed: &Freed) -> Vec<String> {
    let mut lines: Vec<String> = freed.images.iter().map(|id| format!("deleted: {id}")).collect();
    if freed.steps > 0 {
        lines.push(format!("forgot {} of Dockerfiles", count(freed.steps, "step")));
    }
    if freed.caches > 0 {
        lines.push(format!("removed {} of RUN --mount=type=cache", count(freed.caches, "folder")));
    }
    lines.push(format!("freed {}", size(freed.bytes)));
    if freed.waiting > 0 {
        lines.push(format!(
            "{} that nothing needs stay until they are a day old: another program may be writing an image",
            size(freed.waiting)
        ));
    }
    lines
}
