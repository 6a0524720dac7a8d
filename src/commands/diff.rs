//! `twostage diff A B`: packages that differ, then the files that these do not explain.

use crate::cli::Diff;
use crate::images::Place;
use crate::output::Output;
use twostage_builder::Context;
use twostage_image::diff::Difference;
use twostage_image::{Image, read_archive, wanted};
use twostage_model::Result;

pub async fn run(arguments: &Diff, output: &Output) -> Result<()> {
    let a = read(&arguments.a, arguments, output).await?;
    let b = read(&arguments.b, arguments, output).await?;
    let difference = Context::blocking(move || Difference::of(&a, &b)).await?;
    output.result(difference.to_text().trim_end(), &difference);
    Ok(())
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
