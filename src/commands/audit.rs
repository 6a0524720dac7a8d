//! `twostage audit IMAGE`: every file above the base, accounted for or named.

use crate::cli::{Audit, ProjectArgs};
use crate::commands::runtime::own_names;
use crate::images::Place;
use crate::leaks;
use crate::output::Output;
use crate::replaced;
use crate::session::{Session, is_project, write_atomically};
use twostage_builder::Context;
use twostage_engine::{Engine, Kind};
use twostage_image::{Base, Image, Known, Report, audit};
use twostage_model::{Class, Error, Result};

pub async fn run(arguments: &Audit, project: &ProjectArgs, output: &Output) -> Result<()> {
    arguments.html.iter().try_for_each(|path| replaced::check(path, replaced::Kind::Page))?;
    // Where there is a project, what its builders need is looked for.
    let name = match &arguments.image {
        Place::Engine(_, name) => Some(name.strip_suffix(":latest").unwrap_or(name)),
        _ => None,
    };
    let mut known = Known::default();
    if is_project(&project.path) {
        let session = Session::open_shared(project, output)?;
        known.leaks = leaks::of(&session, name)?;
        if let Some(image) = name.and_then(|name| session.project.images.get(name)) {
            known.own = own_names(&session.read_lock()?, &image.name.value);
            known.unlinked.clone_from(&image.unlinked);
        }
    }
    let base = arguments.base_layers.map_or(Base::Label, Base::Layers);
    let engine = arguments.image.engine(&arguments.engine).await?;
    let html = arguments.html.is_some();
    let (report, page) = match (&arguments.image, &engine) {
        (Place::Engine(_, name), Some(engine)) => audited(engine, name, base, known, html).await?,
        (place, _) => {
            let image = place.open(None).await?;
            Context::blocking(move || paged(audit::audit_store(&image.store, base, &known)?, html)).await?
        }
    };
    if let (Some(path), Some(page)) = (&arguments.html, page) {
        write_atomically(path, page.as_bytes())?;
        output.sink().note(&arguments.image.to_string(), format!("the page is {}", path.display()));
    }
    output.result(&output.with_verdict(&report.to_text(), report.is_clean()), &report);
    if report.is_clean() {
        Ok(())
    } else {
        let (what, hint) = match report.residue().next() {
            Some(_) => ("has residue", "remove it in the RUN that makes it: a later RUN only hides it"),
            None => ("has a program or library that lacks what it needs", "install what has it in the RUN that installs the program"),
        };
        Err(Error::new(Class::Verdict, format!("{} {what}", arguments.image)).hint(hint))
    }
}

/// The report, and the page if it is wanted.
fn paged((image, report): (Image, Report), html: bool) -> Result<(Report, Option<String>)> {
    let page = html.then(|| report.to_html(&image)).transpose()?;
    Ok((report, page))
}

/// Audits an image of an engine: as it streams out of a daemon, or where it is, if the engine is this program.
async fn audited(engine: &Engine, name: &str, base: Base, known: Known, html: bool) -> Result<(Report, Option<String>)> {
    if engine.kind() == Kind::Embedded {
        let saved = engine.open(name).await?;
        return Context::blocking(move || paged(audit::audit_store(&saved.store, base, &known)?, html)).await;
    }
    let stream = engine.save(name).await?;
    Context::blocking(move || {
        let image = twostage_image::read_archive(stream, &audit::wanted)?;
        let report = audit::audit_with(&image, base, &known)?;
        paged((image, report), html)
    })
    .await
}

/// Audits an image that the engine has.
pub async fn audit_engine_image(engine: &Engine, image: &str, base: Base, known: Known) -> Result<Report> {
    audited(engine, image, base, known, false).await.map(|(report, _)| report)
}
