//! `twostage images`: what is kept here without a daemon.

use crate::cli::Images;
use crate::output::Output;
use crate::session::tell_odd;
use serde::Serialize;
use twostage_engine::ImageInfo;
use twostage_model::Result;
use twostage_model::shown::size;

/// What there is. Its serialised field names are stable.
#[derive(Serialize)]
struct Listed {
    event: &'static str,
    store: String,
    images: Vec<Image>,
    /// What cannot be read, and is passed over.
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Image {
    /// None for one that lost its names.
    names: Vec<String>,
    /// Digests that registries know it by: `NAME@sha256:…`.
    digests: Vec<String>,
    id: String,
    /// Bytes of all its layers, unpacked.
    size: u64,
    layers: usize,
    architecture: String,
}

pub async fn run(arguments: &Images, output: &Output) -> Result<()> {
    let engine = arguments.store.connect().await?;
    let problems = engine.problems().await?;
    tell_odd(&problems, &output.sink());
    let mut images: Vec<Image> = engine.every_image().await?.into_iter().map(image).collect();
    images.sort_by(|a, b| (a.names.is_empty(), &a.names, &a.id).cmp(&(b.names.is_empty(), &b.names, &b.id)));
    let listed = Listed { event: "images", store: engine.address(), images, problems };
    output.result(&to_text(&listed), &listed);
    engine.settle().await;
    Ok(())
}

fn image(info: ImageInfo) -> Image {
    Image {
        names: info.tags,
        digests: info.repo_digests,
        id: info.id,
        size: u64::try_from(info.size).unwrap_or(0),
        layers: info.diff_ids.len(),
        architecture: info.architecture,
    }
}

fn to_text(listed: &Listed) -> String {
    if listed.images.is_empty() {
        return format!("no images in {}", listed.store);
    }
    let row = |name: &str, image: &Image| {
        let id = image.id.trim_start_matches("sha256:");
        [name.to_string(), id.get(..12).unwrap_or(id).to_string(), size(image.size)]
    };
    let mut rows = vec![["NAME", "ID", "SIZE"].map(String::from)];
    for image in &listed.images {
        match (&image.names[..], &image.digests[..]) {
            ([], []) => rows.push(row("(no name)", image)),
            ([], digests) => rows.extend(digests.iter().map(|name| row(name, image))),
            (names, _) => rows.extend(names.iter().map(|name| row(name, image))),
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (name, id) = (width(0), width(1));
    rows.iter().map(|row| format!("{:<name$}  {:<id$}  {:>8}", row[0], row[1], row[2])).collect::<Vec<_>>().join("\n")
}
