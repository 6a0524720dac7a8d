//! What the mounts of a RUN show.

use super::Remote;
use super::context::Context;
use super::stage::{self, From, Stage, Wanted};
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
    Agent(PathBuf),
    /// What it says of itself.
    AsItIs,
    Nothing,
}

/// What whoever builds gives to RUNs, by its ids.
#[derive(Clone, Copy)]
pub struct Given<'g> {
    pub secrets: &'g BTreeMap<String, PathBuf>,
    pub agents: &'g BTreeMap<String, PathBuf>,
}

/// Whose files a mount shows, and which.
pub fn origin(mount: &Mount) -> Option<(&Origin, &str)> {
    match mount {
        Mount::Bind { origin, source, .. } => Some((origin, source)),
        Mount::Cache { .. } | Mount::Tmpfs { .. } | Mount::Secret { .. } | Mount::Ssh { .. } => None,
    }
}

/// What files of the context are known by.
///
/// # Errors
/// Something is not there, or cannot be read.
pub async fn content(context: &Arc<Context>, source: &str) -> Result<Value> {
    let source = [Source::Path(source.to_string())];
    // (It is no URL, so nothing is fetched.)
    stage::content(Wanted { sources: &source, exclude: &[], checksum: None }, From::Context(context), &Remote::default())
        .await
        .map(|digest| json!(digest))
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
    /// A secret or agent that must be there is not given, or cannot be read.
    pub async fn given(mount: &Mount, given: Given<'_>) -> Result<Mounted> {
        match mount {
            Mount::Secret { id, required, env, .. } => match given.secrets.get(id) {
                Some(path) => {
                    let (name, path) = (id.clone(), path.clone());
                    let bytes = blocking(move || secret(&name, &path)).await?;
                    if env.is_some() && (bytes.contains(&0) || std::str::from_utf8(&bytes).is_err()) {
                        return Err(Error::new(Class::Usage, format!("the secret {id} is no text, which a variable has to be"))
                            .hint("write target= instead of env=: then it is a file"));
                    }
                    Ok(Mounted::Secret(bytes))
                }
                None if *required => Err(Error::new(Class::Usage, format!("the secret {id} is not given"))
                    .hint(format!("give it to the build, --secret id={id},src=FILE, or leave `required` away"))),
                None => Ok(Mounted::Nothing),
            },
            Mount::Ssh { id, required, .. } => match given.agents.get(id) {
                Some(socket) => Ok(Mounted::Agent(socket.clone())),
                None if *required => Err(Error::new(Class::Usage, format!("the SSH agent {id} is not forwarded"))
                    .hint(format!("give it to the build, --ssh {id}, or leave `required` away"))),
                None => Ok(Mounted::Nothing),
            },
            _ => Ok(Mounted::AsItIs),
        }
    }

    /// The variable that a secret is in.
    pub fn variable(&self, mount: &Mount) -> Option<(String, String)> {
        match (self, mount) {
            (Mounted::Secret(bytes), Mount::Secret { env: Some(name), .. }) => Some((name.clone(), String::from_utf8(bytes.clone()).ok()?)),
            _ => None,
        }
    }

    /// What is mounted; nothing for a secret that is not given.
    pub fn attach<'a>(&'a self, mount: &'a Mount) -> Option<Attach<'a>> {
        match (self, mount) {
            (Mounted::Files(of, path), Mount::Bind { target, writable, .. }) => {
                Some(Attach::Files { of, path, target, read_only: !writable })
            }
            (Mounted::Secret(bytes), Mount::Secret { target: Some(target), owner, .. }) => {
                Some(Attach::Secret { bytes, target, owner: *owner })
            }
            (Mounted::Agent(agent), Mount::Ssh { target, owner, .. }) => Some(Attach::Agent { agent, target, owner: *owner }),
            (Mounted::AsItIs, Mount::Cache { id, sharing, target, read_only, owner, .. }) => {
                Some(Attach::Cache { id, sharing: *sharing, target, read_only: *read_only, owner: *owner })
            }
            (Mounted::AsItIs, Mount::Tmpfs { target, size }) => Some(Attach::Tmpfs { target, size: *size }),
            _ => None,
        }
    }
}

fn secret(id: &str, path: &Path) -> Result<Vec<u8>> {
    twostage_beneath::read_bytes(path, MAX_SECRET, Class::Usage).or_fail(Class::Usage, || format!("cannot take the secret {id}"))
}
