//! JSON files that tell when a byte of them changed.
//!
//! ```json
//! {"snapshot":"ab12…","date":1767413106,…,"seal":"<digest of the file without ,"seal":"…">"}
//! ```
//!
//! A file without a seal was written before there were any, and is read as it is. Nothing of one that lost its
//! seal passes for such a file: every type here refuses fields that it does not know.

use serde::Serialize;
use serde::de::DeserializeOwned;
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Hasher, Result, Sha256};

const MARK: &[u8] = b",\"seal\":\"";
const END: &[u8] = b"\"}";
/// Hex digits of a digest.
const DIGITS: usize = 64;

/// The bytes of a file that holds `value`, an object with at least one field.
pub(crate) fn close(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value).or_fail(Class::System, || "cannot write JSON".into())?;
    let digest = Sha256::of(&bytes);
    bytes.pop();
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(digest.to_string().as_bytes());
    bytes.extend_from_slice(END);
    Ok(bytes)
}

/// The value in such a file.
///
/// # Errors
/// The file is not as it was written, or is no JSON of that type.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let damaged = || Error::new(Class::Repository, "it is not as it was written");
    let body = bytes.len().checked_sub(MARK.len() + DIGITS + END.len());
    let sealed = body.map(|body| bytes.split_at(body)).filter(|(_, seal)| seal.starts_with(MARK) && seal.ends_with(END));
    let Some((body, seal)) = sealed else {
        return serde_json::from_slice(bytes).map_err(|cause| damaged().because(cause));
    };
    let mut hasher = Hasher::default();
    hasher.update(body);
    hasher.update(b"}");
    if hasher.finish().to_string().as_bytes() != &seal[MARK.len()..MARK.len() + DIGITS] {
        return Err(damaged());
    }
    let mut json = body.to_vec();
    json.push(b'}');
    serde_json::from_slice(&json).map_err(|cause| damaged().because(cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        name: String,
        date: i64,
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let thing = Thing { name: "greet".into(), date: 5 };
        let bytes = close(&thing).unwrap_or_default();
        assert_eq!(open::<Thing>(&bytes).ok(), Some(thing));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1 << bit;
                assert!(open::<Thing>(&wrong).is_err(), "bit {bit} of byte {at}");
            }
            assert!(open::<Thing>(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(open::<Thing>(b"{\"name\":\"old\",\"date\":1}").ok(), Some(Thing { name: "old".into(), date: 1 }));
    }
}
