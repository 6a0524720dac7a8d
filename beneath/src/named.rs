//! A text that a person named by its path, wherever it is: bounded, and told apart from what is none.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// The bytes of a file, `most` of them at most. A pipe or a device is read like a file.
///
/// # Errors
/// Of `class`: it cannot be read, or has more bytes.
pub fn read_bytes(path: &Path, most: u64, class: Class) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes));
    read.or_fail(class, || format!("cannot read {}", path.display()))?;
    match bytes.len() as u64 > most {
        true => Err(Error::new(class, format!("cannot use {}", path.display()))
            .because(format!("it has more than {most} bytes"))
            .hint("name another file: this one is larger than any of its kind")),
        false => Ok(bytes),
    }
}

/// The same of a text.
///
/// # Errors
/// As [`read_bytes`]; and it is not UTF-8.
pub fn read_text(path: &Path, most: u64, class: Class) -> Result<String> {
    String::from_utf8(read_bytes(path, most, class)?).map_err(|cause| {
        Error::new(class, format!("cannot use {}", path.display()))
            .because(format!("it is no text: the byte {} is not UTF-8", cause.utf8_error().valid_up_to() + 1))
            .hint("name a file of text")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_text_is_bounded_and_is_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key.asc");
        let read = |most| read_text(&path, most, Class::Repository).map_err(|error| (error.class(), error.causes().join("; ")));
        assert!(read(9).is_err(), "it is not there");
        std::fs::write(&path, "nine chars").expect("written");
        assert_eq!(read(10), Ok("nine chars".to_string()));
        assert_eq!(read(9), Err((Class::Repository, "it has more than 9 bytes".to_string())));
        std::fs::write(&path, b"ab\xff").expect("written");
        assert_eq!(read(9), Err((Class::Repository, "it is no text: the byte 3 is not UTF-8".to_string())));
        let zeros = read_text(Path::new("/dev/zero"), 9, Class::Usage).map_err(|error| error.class());
        assert_eq!(zeros, Err(Class::Usage), "a device that never ends");
    }
}
