//! `twostage audit IMAGE`: every file above the base, accounted for or named.

use crate::cli::Audit;
use crate::output::Output;
use std::path::Path;
use twostage_builder::Context;
use twostage_engine::Engine;
use twostage_image::{Base, Known, Report, Store, audit};
use twostage_model::{Class, Error, Result};

pub async fn run(arguments: &Audit, output: &Output) -> Result<()> {
    let base = arguments.base_layers.map_or(Base::Label, Base::Layers);
    let path = Path::new(&arguments.image);
    // A folder of the image's name is no image, unless it is a layout or written as a path.
    let is_path = path.is_file() || path.join("index.json").is_file() || arguments.image.starts_with(['.', '/']);
    let report = if is_path {
        let path = path.to_path_buf();
        Context::blocking(move || audit::audit(&Store::open(&path, None)?.read(&audit::wanted)?, base)).await?
    } else {
        let engine = arguments.engine.connect().await?;
        audit_engine_image(&engine, &arguments.image, base, Known::default()).await?
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
