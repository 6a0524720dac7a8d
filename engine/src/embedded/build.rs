//! A Dockerfile, built without a daemon.

use super::Session;
use crate::Build;
use twostage_model::{Class, Error, Result};

impl Session {
    pub(crate) async fn build(&self, build: Build<'_>, _on_line: &mut (dyn FnMut(&str) + Send)) -> Result<String> {
        Err(Error::new(Class::Engine, format!("cannot build {}: the embedded engine builds no Dockerfiles", build.dockerfile))
            .hint("`twostage compile` executes it in one pass; or name an engine that builds with `--engine docker`"))
    }
}
