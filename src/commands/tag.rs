//! `twostage tag IMAGE NAME`: gives an image that is kept here without a daemon one more name.

use crate::cli::Tag;
use crate::output::Output;
use twostage_model::Result;

pub async fn run(arguments: &Tag, output: &Output) -> Result<()> {
    let engine = arguments.store.connect().await?;
    engine.tag(&arguments.image, &arguments.name).await?;
    let id = engine.image(&arguments.name).await?.map(|image| image.id).unwrap_or_default();
    let text = format!("{} is {}", arguments.name, id.get(..19).unwrap_or(&id));
    output.result(&text, &serde_json::json!({ "event": "tagged", "image": arguments.image, "name": arguments.name, "id": id }));
    engine.settle().await;
    Ok(())
}
