//! `cargo run -p twostage-image --example audit -- ARCHIVE [BASE-LAYERS [FOLDER]]`: what `twostage audit` says of a file. What
//! is in the base's layers is remembered in the folder, as the embedded engine does it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use twostage_image::audit::audit_store;
use twostage_image::{Base, Known, Remember, Remembered, Store};
use twostage_model::Sha256;

struct Folder(PathBuf);

impl Remember for Folder {
    fn get(&self, diff_id: &Sha256) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(diff_id.to_string())).ok()
    }

    fn put(&self, diff_id: &Sha256, bytes: &[u8]) {
        // What cannot be kept is read again.
        let _ = std::fs::write(self.0.join(diff_id.to_string()), bytes);
    }
}

fn main() -> twostage_model::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let archive = arguments.next().unwrap_or_default();
    let base = arguments.next().and_then(|n| n.parse().ok()).map_or(Base::None, Base::Layers);
    let store = Store::open(Path::new(&archive), None)?;
    let store = match arguments.next() {
        Some(folder) => store.remembering(Remembered(Arc::new(Folder(folder.into())))),
        None => store,
    };
    let start = std::time::Instant::now();
    let (_, report) = audit_store(&store, base, &Known::default())?;
    print!("{}", report.to_text());
    eprintln!("{:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}
