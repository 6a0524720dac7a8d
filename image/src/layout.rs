//! The folder of an OCI layout. It may be somebody else's, so no file of it is reached through a link: that could
//! lead to any file of this machine, to be read or to be written over. The folder itself is where the user says.

use crate::broken;
use crate::limits::{Budget, Limits};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use twostage_model::error::OrFail;
use twostage_model::{Class, Result};

/// What every layout has, or may have, besides its blobs; folders before what is in them.
const PARTS: [&str; 5] = ["oci-layout", "index.json", "manifest.json", "blobs", "blobs/sha256"];

/// Refuses a layout of which a part is a link. What is not there is fine.
pub fn without_links(folder: &Path) -> Result<()> {
    for part in PARTS {
        let path = folder.join(part);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                return Err(broken(format!("{} is a symbolic link", path.display()))
                    .because("in a layout it could lead to any file of this machine, so none is followed")
                    .hint(format!("copy the layout with what its links lead to: cp -rL {} NEW-FOLDER", folder.display())));
            }
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(error).or_fail(Class::System, || format!("cannot see what {} is", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether there is such a file, and no link on the way to it. (A pipe would never end.)
pub fn is_file(folder: &Path, name: &str) -> bool {
    let mut path = folder.to_path_buf();
    let mut folders = name.split('/');
    let last = folders.next_back();
    let real = folders.all(|name| {
        path.push(name);
        fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir())
    });
    path.extend(last);
    real && fs::symlink_metadata(&path).is_ok_and(|found| found.is_file())
}

/// What `index.json` holds; none if there is none.
pub fn index(folder: &Path) -> Result<Option<Vec<u8>>> {
    if !is_file(folder, "index.json") {
        return Ok(None);
    }
    let path = folder.join("index.json");
    let fail = || format!("cannot read {}", path.display());
    let file = File::open(&path).or_fail(Class::System, fail)?;
    let size = file.metadata().or_fail(Class::System, fail)?.len();
    Budget::new(&Limits::default()).json("index.json", size)?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes).or_fail(Class::System, fail)?;
    Ok(Some(bytes))
}
