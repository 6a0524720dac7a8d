//! The classic builder.

use super::Session;
use super::dialect::Dialect;
use super::fault::{fault, messages, shorten};
use crate::Build;
use crate::lines::Lines;
use crate::reference::Reference;
use bollard::errors::Error as ApiError;
use bollard::query_parameters::{BuildImageOptions, BuilderVersion};
use futures_util::StreamExt;
use std::collections::{BTreeMap, HashMap};
use twostage_model::{Class, Error, Result};

/// The daemon marks what a step writes to stderr with a colour.
const RED: &str = "\u{1b}[91m";
const PLAIN: &str = "\u{1b}[0m";

impl Session {
    pub(crate) async fn build(&self, build: Build<'_>, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<String> {
        let name = match build.tag {
            Some(tag) => {
                let reference = Reference::parse(tag)?;
                Some(format!("{}:{}", reference.repository, reference.writable_tag()?))
            }
            None => None,
        };
        if !build.agents.is_empty() {
            return Err(Error::new(Class::Engine, format!("cannot build {}: this engine's builder takes no SSH agents", build.dockerfile))
                .hint("use --engine embedded"));
        }
        if !build.secrets.is_empty() {
            return Err(Error::new(Class::Engine, format!("cannot build {}: this engine's builder takes no secrets", build.dockerfile))
                .hint("name the embedded engine, with `--engine embedded`"));
        }
        let subject = name.as_deref().unwrap_or(build.dockerfile).to_string();
        let options = BuildImageOptions {
            dockerfile: build.dockerfile.to_string(),
            t: name,
            buildargs: Some(words(build.build_args)),
            labels: Some(words(build.labels)),
            networkmode: Some(build.network.name().to_string()),
            nocache: self.dialect().no_cache(build.no_cache),
            rm: true,
            forcerm: true,
            version: BuilderVersion::BuilderV1,
            ..Default::default()
        };
        let answer = self.patient().build_image(options, None, Some(bollard::body_full(build.context.into())));
        let mut progress = messages(Box::pin(answer));

        let mut log = Log::of(self.dialect());
        let mut id = None;
        while let Some(step) = progress.next().await {
            let step = match step {
                Ok(step) => step,
                Err(ApiError::DockerStreamError { error }) => {
                    log.finish(on_line);
                    return Err(failed(&subject, &log, &error));
                }
                Err(error) => return Err(fault(format!("cannot build {subject}"), error)),
            };
            if let Some(text) = &step.stream {
                log.push(text, on_line);
            }
            // A base that the daemon pulls for the build tells of itself in `status`.
            if let (Some(status), None) = (&step.status, &step.progress_detail) {
                on_line(status);
            }
            id = step.aux.and_then(|aux| aux.id).or(id);
        }
        log.finish(on_line);
        match (id, log.built) {
            (Some(id), _) => Ok(id),
            (None, Some(short)) => self.image(&short).await?.map(|image| image.id).ok_or_else(|| no_image(&subject)),
            (None, None) => Err(no_image(&subject)),
        }
    }
}

fn words(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn no_image(subject: &str) -> Error {
    Error::new(Class::Engine, format!("cannot build {subject}")).because("the engine ended the build without naming an image".to_string())
}

fn failed(subject: &str, log: &Log, message: &str) -> Error {
    let at = log.step.as_deref().map_or(String::new(), |step| format!(" at step {}", shorten(step, 120)));
    let status = log.dialect.exit_status(message).map_or(String::new(), |status| format!(" (exit status {status})"));
    Error::new(Class::Build, format!("the build of {subject} failed{at}{status}")).because(shorten(message, 600))
}

/// The builder's log: two streams that must not mix within a line, and what it says of itself.
struct Log {
    dialect: Dialect,
    plain: Lines,
    red: Lines,
    step: Option<String>,
    built: Option<String>,
}

impl Log {
    fn of(dialect: Dialect) -> Log {
        Log { dialect, plain: Lines::default(), red: Lines::default(), step: None, built: None }
    }

    fn push(&mut self, text: &str, on_line: &mut (dyn FnMut(&str) + Send)) {
        if let Some(inner) = text.strip_prefix(RED).and_then(|text| text.strip_suffix(PLAIN)) {
            return self.red.push(inner.as_bytes(), on_line);
        }
        self.step = self.dialect.step(text).or(self.step.take());
        if let Some(built) = text.strip_prefix("Successfully built ") {
            self.built = Some(built.trim().to_string());
        }
        self.plain.push(text.as_bytes(), on_line);
    }

    fn finish(&mut self, on_line: &mut (dyn FnMut(&str) + Send)) {
        self.plain.finish(on_line);
        self.red.finish(on_line);
    }
}
