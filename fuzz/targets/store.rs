//! An image's archive that is read from its place, flattened and written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twostage_image::{Compression, Limits, NewImage, Store, flatten, wanted};
use twostage_model::Result;

fn look(bytes: &[u8]) -> Result<()> {
    // (In memory, where there is such a place.)
    let shared = std::path::Path::new("/dev/shm");
    let place = if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(place).expect("a folder");
    let path = folder.path().join("image");
    std::fs::write(&path, bytes).expect("a file");
    let store = Store::open_within(&path, None, Limits { layer_bytes: 16 << 20, ..Limits::default() })?;
    let image = store.read(&wanted)?;
    let flat = flatten::flatten(&image, 1.min(image.layers.len()))?;
    let config = |diff_id| flat.config(diff_id);
    let (kept, delta) = (flat.parent, flat.delta.as_ref());
    let new = NewImage { store: &store, kept, delta, compression: Compression::None, name: None, config: &config };
    new.write_archive(&folder.path().join("flat.tar"))?;
    let names = std::fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(names, 2, "something else was written");
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let _ = look(bytes);
});
