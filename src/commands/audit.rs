//! `twostage audit IMAGE`: every file above the base, accounted for or named.

use crate::cli::Audit;
use crate::images::Place;
use crate::output::Output;
use twostage_builder::Context;
use twostage_engine::Engine;
use twostage_image::{Base, Known, Report, audit};
use twostage_model::{Class, Error, Result};

pub async fn run(arguments: &Audit, output: &Output) -> Result<()> {
    let base = arguments.base_layers.map_or(Base::Label, Base::Layers);
    let engine = arguments.image.engine(&arguments.engine).await?;
    let report = match (&arguments.image, &engine) {
        (Place::Engine(_, name), Some(engine)) => audit_engine_image(engine, name, base, Known::default()).await?,
        (place, _) => {
            let image = place.open(None).await?;
            Context::blocking(move || audit::audit(&image.store.read(&audit::wanted)?, base)).await?
        }
    };
    output.result(&output.with_verdict(&report.to_text(), report.is_clean()), &report);
    if report.is_clean() {
        Ok(())
    } else {
        Err(Error::new(Class::Verdict, format!("{} has residue", arguments.image))
            .hint("remove it in the RUN that makes it: a later RUN only hides it"))
    }
}

/// Audits an image that the engine has, as it streams out of it.
pub async fn audit_engine_image(engine: &Engine, image: &str, base: Base, known: Known) -> Result<Report> {
    let stream = engine.save(image).await?;
    Context::blocking(move || audit::audit_with(&twostage_image::read_archive(stream, &audit::wanted)?, base, &known)).await
}
