//! The classic builder.

use super::Session;
use super::fault::{exit_status, fault, messages, shorten};
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
        let subject = name.as_deref().unwrap_or(build.dockerfile).to_string();
        let options = BuildImageOptions {
            dockerfile: build.dockerfile.to_string(),
            t: name,
            buildargs: Some(words(build.build_args)),
            labels: Some(words(build.labels)),
            networkmode: Some(build.network.name().to_string()),
            nocache: build.no_cache,
            pull: build.pull.then(|| "1".to_string()),
            target: build.target.unwrap_or_default().to_string(),
            rm: true,
            forcerm: true,
            version: BuilderVersion::BuilderV1,
            ..Default::default()
        };
        let answer = self.patient().build_image(options, None, Some(bollard::body_full(build.context.into())));
        let mut progress = messages(Box::pin(answer));

        let mut log = Log::default();
        let mut id = None;
        while let Some(step) = progress.next().await {
            let step = match step {
                Ok(step) => step,
                Err(ApiError::DockerStreamError { error }) => {
                    log.finish(on_line);
                    return Err(failed(&subject, log.step.as_deref(), &error));
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

fn failed(subject: &str, step: Option<&str>, message: &str) -> Error {
    let at = step.map_or(String::new(), |step| format!(" at step {}", shorten(step, 120)));
    let status = exit_status(message).map_or(String::new(), |status| format!(" (exit status {status})"));
    Error::new(Class::Build, format!("the build of {subject} failed{at}{status}")).because(shorten(message, 600))
}

/// The builder's log: two streams that must not mix within a line, and what it says of itself.
#[derive(Default)]
struct Log {
    plain: Lines,
    red: Lines,
    step: Option<String>,
    built: Option<String>,
}

impl Log {
    fn push(&mut self, text: &str, on_line: &mut (dyn FnMut(&str) + Send)) {
        if let Some(inner) = text.strip_prefix(RED).and_then(|text| text.strip_suffix(PLAIN)) {
            return self.red.push(inner.as_bytes(), on_line);
        }
        if let Some(step) = text.strip_prefix("Step ") {
            self.step = Some(step.trim().replacen(" : ", ", ", 1));
        }
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
