//! `twostage rm IMAGE…`: takes names, or images, out of what is kept here without a daemon.

use crate::cli::Rm;
use crate::output::Output;
use twostage_engine::Freed;
use twostage_model::Result;
use twostage_model::shown::size;

pub async fn run(arguments: &Rm, output: &Output) -> Result<()> {
    let engine = arguments.store.connect().await?;
    let mut result = Ok(());
    for image in &arguments.images {
        // As with docker, the others are removed though one is not there.
        match engine.take_out(image).await {
            Ok(freed) => output.result(&to_text(&freed), &serde_json::json!({ "event": "removed", "image": image, "freed": freed })),
            Err(error) if result.is_ok() => result = Err(error),
            Err(error) => output.sink().note(image, error.to_string()),
        }
    }
    engine.settle().await;
    result
}

/// As docker says it.
fn to_text(freed: &Freed) -> String {
    let names = freed.names.iter().map(|name| format!("untagged: {name}"));
    let images = freed.images.iter().map(|id| format!("deleted: {id}"));
    let freed = (freed.bytes > 0).then(|| format!("freed {}", size(freed.bytes)));
    names.chain(images).chain(freed).collect::<Vec<_>>().join("\n")
}
