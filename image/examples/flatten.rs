//! `cargo run -p twostage-image --example flatten -- ARCHIVE PARENT-LAYERS TO`: what `twostage flatten` makes of a file.

use std::path::Path;
use twostage_image::{Compression, NewImage, Store, flatten};

fn main() -> twostage_model::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let archive = arguments.next().unwrap_or_default();
    let parent = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let to = arguments.next().unwrap_or_default();
    let store = Store::open(Path::new(&archive), None)?;
    let image = store.read_to_flatten()?;
    let flat = flatten::flatten(&image, parent)?;
    let config = |diff_id| flat.config(diff_id);
    let new =
        NewImage { store: &store, kept: parent, delta: flat.delta.as_ref(), compression: Compression::None, name: None, config: &config };
    println!("{}", new.write_archive(Path::new(&to))?.id);
    Ok(())
}
