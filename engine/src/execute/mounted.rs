//! What the mounts of a RUN show.

use super::Remote;
use super::context::Context;
use super::stage::{self, From, Stage};
use crate::dockerfile::state::Source;
use crate::dockerfile::{Mount, Origin};
use crate::{Attach, Container, blocking};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Bytes of a secret, at most; BuildKit's limit.
const MAX_SECRET: u64 = 500 << 10;

/// What a mount shows, ready to be mounted.
pub enum Mounted {
    /// These files, of a container that is there only for them.
    Files(Box<Container>, String),
    Secret(Vec<u8>),
    /// What it says of itself.
    AsItIs,
    Nothing,
}

/// Whose files a mount shows, and which.
pub fn origin(mount: &Mount) -> Option<(&Origin, &str)> {
    match mount {
        Mount::Bind { origin, source, .. } => Some((origin, source)),
        Mount::Cache { .. } | Mount::Tmpfs { .. } | Mount::Secret { .. } => None,
    }
}

/// What files of the context are known by.
///
/// # Errors
/// Something is not there, or cannot be read.
pub async fn content(context: &Arc<Context>, source: &str) -> Result<Value> {
    let source = [Source::Path(source.to_string())];
    // (It is no URL, so nothing is fetched.)
    stage::content(&source, From::Context(context), &Remote::default(), None).await.map(|digest| json!(digest))
}

impl Mounted {
    /// Files of the context, put into an empty container.
    ///
    /// # Errors
    /// Something is not there, or cannot be read.
    pub async fn context(empty: Container, context: &Arc<Context>, source: &str) -> Result<Mounted> {
        let stage = Stage { container: empty };
        let path = stage.put_context(context, source).await?;
        Ok(Mounted::Files(Box::new(stage.container), path))
    }

    /// Files of a container.
    ///
    /// # Errors
    /// They are not there.
    pub async fn files(container: Container, source: &str) -> Result<Mounted> {
        let path = stage::place(&container, source).await?;
        Ok(Mounted::Files(Box::new(container), path))
    }

    /// What is none of anybody's files.
    ///
    /// # Errors
    /// A secret that must be there is not given, or cannot be read.
    pub async fn given(mount: &Mount, secrets: &BTreeMap<String, PathBuf>) -> Result<Mounted> {
        let Mount::Secret { id, required, .. } = mount else { return Ok(Mounted::AsItIs) };
        match secrets.get(id) {
            Some(path) => {
                let (name, path) = (id.clone(), path.clone());
                blocking(move || secret(&name, &path)).await.map(Mounted::Secret)
            }
            None if *required => {
                Err(Error::new(Class::Usage, format!("the secret {id} is not given"))
                    .hint("give it to the build, or leave `required` away"))
            }
            None => Ok(Mounted::Nothing),
        }
    }

    /// What is mounted; nothing for a secret that is not given.
    pub fn attach<'a>(&'a self, mount: &'a Mount) -> Option<Attach<'a>> {
        match (self, mount) {
            (Mounted::Files(of, path), Mount::Bind { target, writable, .. }) => {
                Some(Attach::Files { of, path, target, read_only: !writable })
            }
            (Mounted::Secret(bytes), Mount::Secret { target, owner, .. }) => Some(Attach::Secret { bytes, target, owner: *owner }),
            (Mounted::AsItIs, Mount::Cache { id, sharing, target, read_only, owner, .. }) => {
                Some(Attach::Cache { id, sharing: *sharing, target, read_only: *read_only, owner: *owner })
            }
            (Mounted::AsItIs, Mount::Tmpfs { target, size }) => Some(Attach::Tmpfs { target, size: *size }),
            _ => None,
        }
    }
}

fn secret(id: &str, path: &Path) -> Result<Vec<u8>> {
    let fail = || format!("cannot read the secret {id} from {}", path.display());
    let size = std::fs::metadata(path).or_fail(Class::Usage, fail)?.len();
    if size > MAX_SECRET {
        return Err(Error::new(Class::Usage, fail()).because(format!("it has more than {MAX_SECRET} bytes")).hint("give a smaller file"));
    }
    std::fs::read(path).or_fail(Class::Usage, fail)
}
