//! `twostage prune`: says what nothing needs of what is kept here without a daemon, and frees it with `--yes`.

use crate::cli::Prune;
use crate::output::Output;
use crate::session::tell_odd;
use std::time::SystemTime;
use twostage_engine::{Freed, PruneOptions, PrunePlan};
use twostage_model::Result;
use twostage_model::shown::{count, size};

pub async fn run(arguments: &Prune, output: &Output) -> Result<()> {
    let engine = arguments.store.connect().await?;
    tell_odd(&engine.problems().await?, &output.sink());
    let options = PruneOptions { now: SystemTime::now(), older: arguments.older, all: arguments.all };
    let plan = engine.prune_plan(options).await?;
    let mut lines = told(&plan, arguments);
    let mut value = if arguments.yes {
        let freed = engine.prune(options).await?;
        lines.extend(done(&freed));
        serde_json::json!({ "event": "pruned", "freed": freed })
    } else {
        lines.push(would_free(&plan));
        let goes: Vec<_> = plan.images.iter().filter(|decision| decision.goes).collect();
        serde_json::json!({ "event": "waste", "bytes": plan.bytes, "images": goes, "steps": plan.steps, "caches": plan.caches })
    };
    if arguments.why {
        value["stays"] = plan.images.iter().filter(|decision| !decision.goes).map(|decision| serde_json::json!(decision)).collect();
    }
    output.result(&lines.join("\n"), &value);
    engine.settle().await;
    Ok(())
}

/// A line for each image that goes, and for each that stays where that is asked for.
fn told(plan: &PrunePlan, arguments: &Prune) -> Vec<String> {
    let stays = plan.images.iter().filter(|decision| !decision.goes && arguments.why);
    let mut lines: Vec<String> = stays.map(|decision| format!("stays  {}  {}", decision.image, decision.why)).collect();
    let verb = if arguments.yes { "freed" } else { "waste" };
    let goes = plan.images.iter().filter(|decision| decision.goes);
    lines.extend(goes.map(|decision| format!("{verb}  {}  {}  {}", decision.image, size(decision.bytes), decision.why)));
    lines
}

fn would_free(plan: &PrunePlan) -> String {
    let numbers =
        [(plan.images.iter().filter(|decision| decision.goes).count(), "image"), (plan.steps, "step"), (plan.caches, "cache folder")];
    let parts: Vec<String> = numbers.iter().filter(|(number, _)| *number > 0).map(|(number, word)| count(*number, word)).collect();
    match parts.is_empty() {
        true => "nothing to free of images; `--why` says why each stays".into(),
        false => format!("{}: {}, `twostage prune --yes` frees it", parts.join(", "), size(plan.bytes)),
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
