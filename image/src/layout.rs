//! A folder that is an OCI layout: only the blobs that its image needs are read.

use crate::archive::{Blob, Is, Member, read_blob};
use crate::config::{self, OciDocument};
use crate::limits::Budget;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use twostage_model::error::OrFail;
use twostage_model::{Class, Result, Sha256};

/// Where a blob is in a layout.
pub fn blob_name(digest: &Sha256) -> String {
    format!("blobs/sha256/{digest}")
}

/// Reads what the index leads to. What is missing is found out by whoever needs it.
pub fn read(dir: &Path, keep: &dyn Fn(&str) -> bool, budget: &mut Budget<'_>) -> Result<BTreeMap<String, Member>> {
    let mut members = BTreeMap::new();
    let mut name = "index.json".to_string();
    for _ in 0..9 {
        let document = match blob(dir, &name, keep, budget)? {
            Some(blob @ Blob { is: Is::Json(_), .. }) => {
                let Is::Json(json) = &blob.is else { break };
                let document: OciDocument = config::parse(json, &name)?;
                members.insert(name.clone(), Member::Blob(blob));
                document
            }
            _ => break,
        };
        if let Some(config) = &document.config {
            for descriptor in std::iter::once(config).chain(document.layers.iter().take(budget.limits.layers)) {
                let name = blob_name(&config::digest(&descriptor.digest)?);
                if !members.contains_key(&name)
                    && let Some(blob) = blob(dir, &name, keep, budget)?
                {
                    members.insert(name, Member::Blob(blob));
                }
            }
            break;
        }
        name = blob_name(&config::digest(&config::choose(&document.manifests, &name)?.digest)?);
    }
    Ok(members)
}

fn blob(dir: &Path, name: &str, keep: &dyn Fn(&str) -> bool, budget: &mut Budget<'_>) -> Result<Option<Blob>> {
    let path = dir.join(name);
    // Only plain files: a link could name any file of this machine, a pipe would never end.
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() => {
            let file = File::open(&path).or_fail(Class::System, || format!("cannot read {}", path.display()))?;
            read_blob(file, name, found.len(), keep, budget).map(Some)
        }
        _ => Ok(None),
    }
}
