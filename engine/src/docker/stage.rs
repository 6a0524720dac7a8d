//! A container that is there for a whole stage of a Dockerfile: files are put into it, commands run in it, and
//! between them nothing runs.

use super::fault::{fault, is_missing};
use super::{Container, Session};
use crate::dockerfile::ImageConfig;
use crate::lines::Lines;
use crate::reference::Reference;
use crate::stream::{ByteStream, FirstError};
use crate::{Exec, Found, Hold};
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    ContainerArchiveInfoOptions, InspectContainerOptions, KillContainerOptions, StartContainerOptions, UploadToContainerOptions,
};
use futures_util::StreamExt;
use std::time::{Duration, Instant};
use twostage_model::error::OrFail;
use twostage_model::{Class, Error, Result};

/// What keeps a container running: a shell that waits for a line that never comes, so that an image needs nothing else.
const WAIT: [&str; 3] = ["/bin/sh", "-c", "read line"];
/// How often to ask whether a command has ended: what it leaves in the background may keep its output open.
const ASK: Duration = Duration::from_millis(100);
/// How long output may still come once everything in the container was ended.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Go's bits of a folder and of a symbolic link in a mode.
const GO_FOLDER: u32 = 1 << 31;
const GO_LINK: u32 = 1 << 27;

impl Session {
    pub(crate) async fn hold(&self, hold: Hold<'_>) -> Result<Container> {
        let body = ContainerCreateBody {
            image: Some(Reference::check(hold.image)?.to_string()),
            entrypoint: Some(vec![String::new()]),
            cmd: Some(WAIT.map(String::from).to_vec()),
            hostname: hold.hostname.map(str::to_string),
            user: Some("0".into()),
            working_dir: Some("/".into()),
            open_stdin: Some(true),
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
            host_config: Some(HostConfig {
                network_mode: Some(hold.network.name().to_string()),
                log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.create_container(body).await
    }

    /// The configuration of an image as its engine knows it, without the history, of which only the length is told.
    pub(crate) async fn config(&self, reference: &str) -> Result<Option<(ImageConfig, usize)>> {
        let what = || format!("cannot inspect image {reference}");
        let found = match self.quick().inspect_image(Reference::check(reference)?).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(fault(what(), error)),
        };
        let steps = self.quick().image_history(reference).await.map_err(|error| fault(what(), error))?.len();
        let json = serde_json::json!({
            "architecture": found.architecture, "author": found.author, "config": found.config,
            "os": found.os, "os.version": found.os_version.filter(|version| !version.is_empty()),
            "variant": found.variant.filter(|variant| !variant.is_empty()),
        });
        let json = serde_json::to_vec(&json).or_fail(Class::Engine, what)?;
        let mut config = ImageConfig::from_json(&json).map_err(|error| {
            let hint = error.hint_or_class().to_string();
            Error::new(error.class(), format!("cannot start from {reference}")).because(error).hint(hint)
        })?;
        // What says nothing is not there.
        config.config.healthcheck = config.config.healthcheck.filter(|check| *check != crate::dockerfile::config::Health::default());
        Ok(Some((config, steps)))
    }
}

impl Container {
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Found>> {
        let options = ContainerArchiveInfoOptions { path: path.to_string() };
        match self.session().quick().get_container_archive_info(&self.id, Some(options)).await {
            Ok(found) => Ok(Some(Found {
                folder: found.file_mode & GO_FOLDER != 0,
                link: (found.file_mode & GO_LINK != 0).then_some(found.link_target),
            })),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(fault(format!("cannot look for {path} in the container"), error)),
        }
    }

    pub(crate) async fn put(&self, tar: ByteStream, replace: bool) -> Result<()> {
        let what = "cannot put files into the container";
        let refuse = (!replace).then(|| "true".to_string());
        let options = UploadToContainerOptions { path: "/".into(), no_overwrite_dir_non_dir: refuse, copy_uidgid: None };
        let source = FirstError::default();
        let body = bollard::body_try_stream(source.watch(tar));
        let uploaded = self.session().patient().upload_to_container(&self.id, Some(options), body).await;
        match (source.take(), uploaded) {
            (Some(broken), _) => Err(Error::new(Class::System, what).because(broken)),
            (None, uploaded) => uploaded.map_err(|error| fault(what, error)),
        }
    }

    pub(crate) async fn exec(&self, exec: Exec<'_>, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<i64> {
        if !exec.mounts.is_empty() || exec.network.is_some() {
            let what = "cannot run a command with mounts or a network of its own: this engine gives a container those only when it is made";
            return Err(Error::new(Class::Engine, what).hint("name the embedded engine, with `--engine embedded`"));
        }
        let started = self.session().patient().start_container(&self.id, None::<StartContainerOptions>).await;
        started.map_err(|error| fault("cannot start a container for the stage", error))?;
        if let Some((path, text)) = exec.script {
            let script = "mkdir -p /dev/pipes && printf %s \"$1\" > \"$2\" && chmod 0755 \"$2\"";
            let cmd = ["/bin/sh", "-c", script, "sh", text, path].map(String::from);
            let made = self.command(&Exec { cmd: &cmd, ..Exec::default() }, false, on_line).await?;
            if made != 0 {
                return Err(Error::new(Class::Build, format!("cannot write the script {path}")));
            }
        }
        let ended = self.command(&exec, true, on_line).await;
        self.end().await?;
        ended
    }

    /// `last`: nothing else is run before the container ends.
    pub(super) async fn command(&self, exec: &Exec<'_>, last: bool, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<i64> {
        let Some(program) = exec.cmd.first() else {
            return Err(Error::new(Class::Engine, "cannot run a command: there is none"));
        };
        let failed = |error| fault(format!("cannot run {program} in the container"), error);
        let given = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            env: Some(exec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            cmd: Some(exec.cmd.to_vec()),
            user: given(exec.user),
            working_dir: given(exec.workdir),
            ..Default::default()
        };
        let api = self.session().patient();
        let id = api.create_exec(&self.id, options).await.map_err(failed)?.id;
        let StartExecResults::Attached { mut output, input: _input } =
            api.start_exec(&id, None::<StartExecOptions>).await.map_err(failed)?
        else {
            return Err(Error::new(Class::Engine, format!("cannot run {program} in the container: the engine gives no output")));
        };
        let mut lines = [Lines::default(), Lines::default()];
        let mut code = None;
        loop {
            let piece = tokio::select! {
                piece = output.next() => piece,
                () = tokio::time::sleep(if code.is_some() { LAST_WORDS } else { ASK }) => {
                    if code.is_some() {
                        break;
                    }
                    let state = api.inspect_exec(&id).await.map_err(failed)?;
                    if let (Some(false), Some(ended)) = (state.running, state.exit_code) {
                        code = Some(ended);
                        if !last {
                            break;
                        }
                        // What is still running keeps the output open.
                        self.end().await?;
                    }
                    continue;
                }
            };
            match piece {
                Some(Ok(LogOutput::StdErr { message })) => lines[1].push(&message, on_line),
                Some(Ok(LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message })) => {
                    lines[0].push(&message, on_line);
                }
                Some(Err(_)) | None => break,
            }
        }
        lines.iter_mut().for_each(|lines| lines.finish(on_line));
        // A command may close its output and go on.
        let mut end = Instant::now() + LAST_WORDS;
        while code.is_none() && Instant::now() < end {
            let state = api.inspect_exec(&id).await.map_err(failed)?;
            match (state.running, state.exit_code) {
                (Some(true), _) => end = Instant::now() + LAST_WORDS,
                (_, ended) => code = ended,
            }
            if code.is_none() {
                tokio::time::sleep(ASK).await;
            }
        }
        code.ok_or_else(|| {
            Error::new(Class::Engine, format!("lost sight of {program} in the container"))
                .because("the engine does not say what it ended with".to_string())
                .hint("see whether the engine was restarted, and try again")
        })
    }

    /// Ends everything in the container; its files stay.
    async fn end(&self) -> Result<()> {
        let failed = |error| fault("cannot end what runs in the container", error);
        let api = self.session().patient();
        if let Err(error) = api.kill_container(&self.id, Some(KillContainerOptions { signal: "SIGKILL".into() })).await {
            // A command may have ended it itself, and the engines have different words for that.
            let state = self
                .session()
                .quick()
                .inspect_container(&self.id, None::<InspectContainerOptions>)
                .await
                .ok()
                .and_then(|found| found.state);
            return match state {
                Some(state) if !state.running.unwrap_or_default() => Ok(()),
                _ => Err(failed(error)),
            };
        }
        self.session().until_ended(&self.id).await.map_err(failed)
    }
}
