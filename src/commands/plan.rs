//! `twostage plan IMAGES…`: what images cost together, and how they would cost less.

use crate::cli::Plan;
use crate::output::Output;
use crate::replaced;
use crate::session::write_atomically;
use twostage_builder::Context;
use twostage_image::plan::{self, Planned};
use twostage_image::wanted;
use twostage_model::Result;

pub async fn run(arguments: &Plan, output: &Output) -> Result<()> {
    arguments.html.iter().try_for_each(|path| replaced::check(path, replaced::Kind::Page))?;
    let mut images = Vec::new();
    for place in &arguments.images {
        let name = place.to_string();
        output.sink().started(&name, "reading it");
        let engine = place.engine(&arguments.engine).await?;
        let opened = place.open(engine.as_ref()).await?;
        let planned = Context::blocking(move || {
            let image = opened.store.read(&wanted)?;
            let wire = (0..opened.store.layers()).map(|layer| opened.store.wire(layer)).collect::<Result<_>>()?;
            Ok(Planned { name, image, wire })
        });
        images.push(planned.await?);
    }
    let plan = plan::plan(&images, arguments.budget)?;
    if let Some(path) = &arguments.html {
        write_atomically(path, plan.to_html().as_bytes())?;
        output.sink().note("plan", format!("the picture is {}", path.display()));
    }
    output.result(plan.to_text().trim_end(), &plan);
    Ok(())
}
