//! What a planned step is known by, without what it takes in: part of the key under which what it made is kept.

use crate::Network;
use crate::dockerfile::state::{CopyStep, RunStep, Source};
use crate::dockerfile::values;
use serde_json::{Value, json};

/// A WORKDIR.
pub fn workdir(path: &str, user: &str) -> Value {
    json!({ "workdir": path, "user": user })
}

/// A COPY or ADD. (A file that is fetched is known by its name and content, wherever it is.)
pub fn copy(copy: &CopyStep) -> Value {
    let source = |source: &Source| match source {
        Source::Path(path) => json!(path),
        Source::Url(url) => json!({ "url": values::url_name(url) }),
    };
    let sources: Vec<Value> = copy.sources.iter().map(source).collect();
    json!({
        "copy": sources, "documents": copy.documents, "to": copy.destination, "unpack": copy.unpack, "chown": copy.chown, "chmod": copy.chmod,
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
