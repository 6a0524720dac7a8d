//! `twostage prune`: removes what nothing needs of what is kept here without a daemon.

use crate::cli::Prune;
use crate::output::Output;
use crate::session::tell_odd;
use twostage_engine::Freed;
use twostage_model::Result;
use twostage_model::shown::size;

pub async fn run(arguments: &Prune, output: &Output) -> Result<()> {
    let engine = arguments.store.connect().await?;
    tell_odd(&engine.problems().await?, &output.sink());
    let freed = engine.prune(arguments.all).await?;
    output.result(&to_text(&freed), &serde_json::json!({ "event": "pruned", "freed": freed }));
    engine.settle().await;
    Ok(())
}

fn to_text(freed: &Freed) -> String {
    let mut lines: Vec<String> = freed.images.iter().map(|id| format!("deleted: {id}")).collect();
    let count = |number: usize, one: &str| if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") };
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
    lines.join("\n")
}
