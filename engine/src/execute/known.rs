//! What a planned step, and a whole file, is known by: the keys under which what was made of them is kept.

use super::ready::Ready;
use super::stage::{self, From, Wanted};
use super::{Job, mounted, named};
use crate::Network;
use crate::dockerfile::state::{CopyStep, RunStep, Source};
use crate::dockerfile::{Base, Mount, Origin, RunNetwork, Step, values};
use serde_json::{Value, json};
use twostage_model::{Class, Error, Result, Sha256};

/// Part of the key of a file: what is kept under keys of another meaning is not found.
const VERSION: u32 = 1;

/// A WORKDIR.
pub fn workdir(path: &str, user: &str) -> Value {
    json!({ "workdir": path, "user": user })
}

/// A COPY or ADD. (A file that is fetched is known by its name and content, wherever it is.)
pub fn copy(copy: &CopyStep) -> Value {
    let source = |source: &Source| match source {
        Source::Path(path) => json!(path),
        Source::Parents { root, only } => json!({ "parents": root, "only": only }),
        Source::Url(url) => json!({ "url": values::url_name(url) }),
    };
    let sources: Vec<Value> = copy.sources.iter().map(source).collect();
    json!({
        "copy": sources, "documents": copy.documents, "to": copy.destination, "unpack": copy.unpack, "chown": copy.chown,
        "chmod": copy.chmod.as_ref().map(ToString::to_string), "exclude": copy.exclude,
    })
}

/// A RUN; `mounts` is what its mounts are known by. Proxies do not count, as in Docker's cache.
pub fn run(run: &RunStep, network: Network, mounts: &[Value]) -> Value {
    let script = run.script.as_ref().map(|script| (&script.path, &script.text));
    json!({
        "run": run.argv, "env": run.env, "user": run.user, "workdir": run.workdir, "network": network.name(), "script": script,
        "mounts": mounts,
    })
}

/// What a RUN reaches, in a build that may reach `all`.
pub fn network(run: &RunStep, all: Network) -> Network {
    match run.network {
        RunNetwork::Default | RunNetwork::Host => all,
        RunNetwork::None => Network::None,
    }
}

/// A mount of a RUN; `from` is what the files are known by that it shows.
pub fn mount(mount: &Mount, from: &Value) -> Value {
    match mount {
        Mount::Bind { source, target, writable, .. } => json!({ "bind": from, "source": source, "target": target, "writable": writable }),
        Mount::Cache { id, target, read_only, .. } => json!({ "cache": id, "target": target, "read_only": read_only }),
        Mount::Tmpfs { target, size } => json!({ "tmpfs": target, "size": size }),
        // What a secret says makes no other image.
        Mount::Secret { id, target, env, owner, .. } => {
            json!({ "secret": id, "target": target, "env": env, "owner": [owner.mode, owner.uid, owner.gid] })
        }
        Mount::Ssh { id, target, owner, .. } => json!({ "agent": id, "target": target, "owner": [owner.mode, owner.uid, owner.gid] }),
    }
}

impl Job<'_> {
    /// The digest of all that the image is made of, but for what RUNs fetch and when it is made: the bases, what every step
    /// asks for, the files that are copied and fetched, the configuration, the version of this program, and the engine,
    /// since that keeps the image.
    ///
    /// # Errors
    /// A file is not there or cannot be read, with its line.
    pub async fn key(&self, stages: &[Ready<'_>]) -> Result<Sha256> {
        let mut known = Vec::new();
        for ready in stages {
            let base = match &ready.base {
                Base::Stage(index) => json!({ "stage": index }),
                Base::Image(_) | Base::Scratch => json!({ "image": ready.root.image }),
            };
            let mut steps = Vec::new();
            for (located, step) in &ready.steps {
                steps.push(match step {
                    // (It is in the configuration, or in what other steps see.)
                    Step::Configuration => continue,
                    Step::Workdir { path, user } => workdir(path, user),
                    Step::Run(step) => {
                        let mounts = self.mounts(step).await.map_err(|error| named(&located.at, error))?;
                        run(step, network(step, self.network), &mounts)
                    }
                    Step::Copy(step) => {
                        let taken = match self.folder(&step.origin) {
                            Some(context) => {
                                let from = From::Context(context);
                                stage::content(Wanted::of(step), from, &self.remote).await.map(|digest| json!(digest))
                            }
                            None => self.source(&step.origin).await,
                        };
                        json!([copy(step), taken.map_err(|error| named(&located.at, error))?])
                    }
                });
            }
            known.push(json!([ready.index, base, steps]));
        }
        let configuration = match stages.last() {
            Some(target) => Sha256::of(&target.state.image.to_json()?),
            None => Sha256::of(b""),
        };
        let engine = [self.engine.kind().to_string(), self.engine.address()];
        Ok(Sha256::of(json!([VERSION, env!("CARGO_PKG_VERSION"), engine, self.epoch, configuration, known]).to_string().as_bytes()))
    }

    async fn mounts(&self, run: &RunStep) -> Result<Vec<Value>> {
        let mut mounts = Vec::new();
        for step in &run.mounts {
            let from = match mounted::origin(step) {
                Some((origin, source)) => match self.folder(origin) {
                    Some(context) => mounted::content(context, source).await?,
                    None => self.source(origin).await?,
                },
                None => Value::Null,
            };
            mounts.push(mount(step, &from));
        }
        Ok(mounts)
    }

    /// What a stage or image is known by. (The steps of a stage are in the key themselves.)
    async fn source(&self, origin: &Origin) -> Result<Value> {
        Ok(match origin {
            Origin::Stage(index) => json!({ "stage": index }),
            Origin::Image(name) => match self.engine.image(name).await? {
                Some(image) => json!({ "image": image.id }),
                None => return Err(Error::new(Class::Engine, format!("the image {name} was removed meanwhile")).hint("try again")),
            },
            Origin::Context | Origin::Folder(_) | Origin::Scratch => Value::Null,
        })
    }
}
