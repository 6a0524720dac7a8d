//! `cargo run -p twostage-image --example audit -- ARCHIVE [BASE-LAYERS]`: what `twostage audit` says of a file.

use std::path::Path;
use twostage_image::{Base, Store, audit, wanted};

fn main() -> twostage_model::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let archive = arguments.next().unwrap_or_default();
    let base = arguments.next().and_then(|n| n.parse().ok()).map_or(Base::None, Base::Layers);
    let start = std::time::Instant::now();
    let image = Store::open(Path::new(&archive), None)?.read(&wanted)?;
    let read = start.elapsed();
    let report = audit(&image, base)?;
    print!("{}", report.to_text());
    eprintln!("read {:.2} s, audit {:.2} s", read.as_secs_f64(), (start.elapsed() - read).as_secs_f64());
    Ok(())
}
