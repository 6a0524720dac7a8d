//! Containers: run, copy out, commit, remove, sweep.

use super::Session;
use super::fault::{fault, is_missing};
use crate::lines::Piece;
use crate::reference::Reference;
use crate::stream::{TarReader, file_stream, from_start, read_tar};
use crate::{Run, ServerTrial, Tried};
use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::models::{ContainerConfig, ContainerCreateBody, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    AttachContainerOptions, CommitContainerOptions, CreateContainerOptions, DownloadFromContainerOptions, InspectContainerOptions,
    InspectNetworkOptions, KillContainerOptions, ListContainersOptions, RemoveContainerOptions, StartContainerOptions,
    WaitContainerOptions,
};
use futures_util::{Stream, StreamExt};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::time::Duration;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// How long output may still come once the container has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long an engine may take to clean up after a container that has ended.
const CLEANUP: Duration = Duration::from_secs(60);

/// What a container writes, as it comes.
type ContainerOutput = Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, ApiError>> + Send>>;

/// A container of Docker's or Podman's, for [`crate::Container`]. Dropping it removes it in the background.
#[derive(Debug)]
pub(crate) struct Container {
    pub id: String,
    pub exit_code: i64,
    pub oom_killed: bool,
    session: Session,
    labels: Vec<String>,
    removed: bool,
}

impl Container {
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) async fn copy_out(&self, path: &str) -> Result<TarReader> {
        let options = DownloadFromContainerOptions { path: path.to_string() };
        let archive = self.session.patient().download_from_container(&self.id, Some(options));
        read_tar(Box::pin(archive)).await.map_err(|error| fault(format!("cannot copy {path} out of the container"), error))
    }

    pub(crate) async fn commit(&self, reference: &str, changes: &[String]) -> Result<String> {
        let name = Reference::parse(reference)?;
        // The engine gives the container's labels to the image, and the image's to its containers: a
        // sweep would then take containers that are none of ours. A label cannot be taken away, so
        // it is emptied.
        let emptied = self.labels.iter().map(|key| format!("LABEL \"{key}\"=\"\""));
        let changes: Vec<String> =
            self.session.dialect().before_changes().into_iter().chain(emptied).chain(changes.iter().cloned()).collect();
        let options = CommitContainerOptions {
            container: Some(self.id.clone()),
            repo: Some(name.repository.clone()),
            tag: Some(name.writable_tag()?.to_string()),
            changes: (!changes.is_empty()).then(|| changes.join("\n")),
            ..Default::default()
        };
        let committed = self.session.patient().commit_container(options, ContainerConfig::default()).await;
        committed
            .map(|image| self.session.dialect().id(image.id))
            .map_err(|error| fault(format!("cannot commit the container as {reference}"), error))
    }

    pub(crate) async fn remove(mut self) -> Result<()> {
        let result = self.session.remove_container(&self.id).await;
        self.removed = true;
        result
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.removed {
            self.session.remove_later(std::mem::take(&mut self.id));
        }
    }
}

impl Session {
    pub(crate) async fn run(&self, mut run: Run<'_>, on_piece: &mut (dyn FnMut(Piece<'_>) + Send)) -> Result<Container> {
        let mut container = self.prepare(&mut run).await?;
        let output = self.start(&container, &run).await?;
        let (exit_code, oom_killed) = self.wait(&container, output, &run, on_piece).await?;
        (container.exit_code, container.oom_killed) = (exit_code, oom_killed);
        Ok(container)
    }

    /// Runs a server until it answers, and ends it.
    pub(crate) async fn try_server(
        &self,
        mut run: Run<'_>,
        until: ServerTrial<'_>,
        on_piece: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<Tried> {
        let container = self.prepare(&mut run).await?;
        let output = self.start(&container, &run).await?;
        let running = async { self.wait(&container, output, &run, on_piece).await.map(|(exit_code, _)| exit_code) };
        let end = async {
            // One that has ended hears nothing.
            let signal = KillContainerOptions { signal: "SIGTERM".into() };
            let _ = self.quick().kill_container(&container.id, Some(signal)).await;
        };
        let tried = until.watch(running, || container.ask(until), end).await;
        container.remove().await?;
        tried
    }

    async fn prepare(&self, run: &mut Run<'_>) -> Result<Container> {
        if run.cmd.is_empty() {
            return Err(Error::new(Class::Engine, format!("cannot run a container of {}: no command is given", run.image)));
        }
        let body = ContainerCreateBody {
            image: Some(Reference::check(run.image)?.to_string()),
            // One empty word is Docker's way to say: not the image's own entrypoint.
            entrypoint: Some(vec![String::new()]),
            cmd: Some(run.cmd.to_vec()),
            env: Some(run.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            hostname: run.hostname.map(str::to_string),
            user: run.user.map(str::to_string),
            working_dir: run.workdir.map(str::to_string),
            labels: Some(run.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            host_config: Some(HostConfig {
                network_mode: Some(run.network.name().to_string()),
                // The output goes to us as it comes; the engine need not keep it on disk.
                log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let container = self.create_container(body).await?;
        if let Some(input) = run.input.take() {
            let what = format!("cannot copy files into a container of {}", run.image);
            let input = from_start(input).or_fail(Class::System, || what.clone())?;
            let put = container.put(file_stream(tokio::fs::File::from_std(input)), true).await;
            put.map_err(|error| Error::new(error.class(), what).because(error))?;
        }
        Ok(container)
    }

    pub(crate) async fn create(&self, image: &str) -> Result<Container> {
        let body = ContainerCreateBody {
            image: Some(Reference::check(image)?.to_string()),
            // An image may have no command of its own, and the engine wants one.
            entrypoint: Some(vec!["/never-started".into()]),
            cmd: Some(Vec::new()),
            network_disabled: Some(true),
            ..Default::default()
        };
        self.create_container(body).await
    }

    /// In a task of its own: when the caller goes away meanwhile, the container that nobody
    /// receives is dropped there, and so removed.
    pub(super) async fn create_container(&self, mut body: ContainerCreateBody) -> Result<Container> {
        let labels = body.labels.get_or_insert_default();
        for (key, value) in self.labels.iter() {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let mut labels: Vec<String> = labels.keys().cloned().collect();
        labels.sort();
        let session = self.clone();
        let what = format!("cannot make a container of {}", body.image.as_deref().unwrap_or_default());
        let creation = tokio::spawn(async move {
            let created = session.patient().create_container(None::<CreateContainerOptions>, body).await?;
            Ok::<_, ApiError>(Container { id: created.id, exit_code: 0, oom_killed: false, session, labels, removed: false })
        });
        match creation.await {
            Ok(created) => created.map_err(|error| fault(what, error)),
            Err(stopped) => Err(Error::new(Class::Engine, what).because(stopped)),
        }
    }

    /// Starts a container; gives what it writes.
    async fn start(&self, container: &Container, run: &Run<'_>) -> Result<ContainerOutput> {
        let (id, program) = (&container.id, run.cmd.first().map_or("", String::as_str));
        let attach = AttachContainerOptions { stream: true, stdout: true, stderr: true, ..Default::default() };
        let attached = self.quick().attach_container(id, Some(attach)).await;
        let output = attached.map_err(|error| fault(format!("lost sight of a container of {}", run.image), error))?.output;
        let started = self.patient().start_container(id, None::<StartContainerOptions>).await;
        started.map_err(|error| fault(format!("cannot start {program} in a container of {}", run.image), error))?;
        Ok(output)
    }

    /// Waits for a container's end; gives its exit status, and whether the kernel killed something in it for want of memory.
    async fn wait(
        &self,
        container: &Container,
        mut output: ContainerOutput,
        run: &Run<'_>,
        on_piece: &mut (dyn FnMut(Piece<'_>) + Send),
    ) -> Result<(i64, bool)> {
        let (id, program) = (container.id.clone(), run.cmd.first().map_or("", String::as_str));
        let lost = |error| fault(format!("lost sight of a container of {}", run.image), error);
        let waiting = self.until_ended(&id);
        tokio::pin!(waiting);
        let (mut talking, mut running) = (true, true);
        // Far enough away for a run without a limit.
        let deadline = tokio::time::sleep(run.timeout.unwrap_or(Duration::from_secs(365 * 24 * 3600)));
        tokio::pin!(deadline);
        while talking || running {
            tokio::select! {
                piece = output.next(), if talking => match piece {
                    Some(Ok(LogOutput::StdErr { message })) => on_piece(Piece::Err(&message)),
                    Some(Ok(LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message })) => {
                        on_piece(Piece::Out(&message));
                    }
                    Some(Err(_)) | None => talking = false,
                },
                ended = &mut waiting, if running => {
                    ended.map_err(lost)?;
                    running = false;
                }
                () = &mut deadline, if running => {
                    let limit = run.timeout.unwrap_or_default();
                    return Err(Error::new(Class::Build, format!("{program} did not end within {limit:?} and was killed"))
                        .hint("see its last lines for what it waited for"));
                },
                () = tokio::time::sleep(LAST_WORDS), if !running => talking = false,
            }
        }

        let state = self.quick().inspect_container(&id, None::<InspectContainerOptions>).await.map_err(lost)?.state.unwrap_or_default();
        if state.running.unwrap_or_default() {
            return Err(Error::new(Class::Engine, format!("lost sight of a container of {}", run.image))
                .because("the engine stopped telling while the container ran".to_string())
                .hint("see whether the engine was restarted, and try again"));
        }
        // One that somebody stops or removes has an exit status of 0 meanwhile, whatever becomes of its program.
        use ContainerStateStatusEnum::{DEAD, REMOVING, STOPPING};
        if matches!(state.status, Some(STOPPING | REMOVING | DEAD)) {
            return Err(Error::new(Class::Engine, format!("a container of {} was stopped or removed before it had ended", run.image))
                .hint("leave the engine's containers alone while this runs, and try again"));
        }
        Ok((state.exit_code.unwrap_or_default(), state.oom_killed.unwrap_or_default()))
    }

    pub(super) async fn until_ended(&self, id: &str) -> std::result::Result<(), ApiError> {
        let Some(pause) = self.dialect().polls() else {
            let options = WaitContainerOptions { condition: "not-running".into() };
            return match self.patient().wait_container(id, Some(options)).next().await {
                // bollard calls a non-zero exit an error; one without words is only that.
                Some(Err(ApiError::DockerContainerWaitError { error, .. })) if error.is_empty() => Ok(()),
                Some(Err(error)) => Err(error),
                Some(Ok(_)) | None => Ok(()),
            };
        };
        // What is ending may take its time, but not for ever.
        let most = CLEANUP.as_millis() / pause.as_millis();
        let mut ending = 0;
        loop {
            match self.quick().inspect_container(id, None::<InspectContainerOptions>).await {
                Ok(found) => {
                    let state = found.state.unwrap_or_default();
                    let stopping = state.status == Some(ContainerStateStatusEnum::STOPPING) && ending < most;
                    if !state.running.unwrap_or_default() && !stopping {
                        return Ok(());
                    }
                    ending += u128::from(stopping);
                }
                Err(error) if self.dialect().is_ending(&error) && ending < most => ending += 1,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) async fn remove_container(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
        match self.patient().remove_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            // 409: someone else is removing it.
            Err(error) if is_missing(&error) || matches!(&error, ApiError::DockerResponseServerError { status_code: 409, .. }) => Ok(()),
            Err(error) => Err(fault(format!("cannot remove container {}", &id[..id.len().min(12)]), error)),
        }
    }

    pub(crate) async fn sweep(&self, label: &str) -> Result<usize> {
        let filters = HashMap::from([("label".to_string(), vec![label.to_string()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let listed = self.quick().list_containers(Some(options)).await;
        let left = listed.map_err(|error| fault(format!("cannot list the containers labelled {label}"), error))?;
        let ids: Vec<String> = left.into_iter().filter_map(|container| container.id).collect();
        for id in &ids {
            self.remove_container(id).await?;
        }
        Ok(ids.len())
    }

    pub(crate) async fn gateway(&self) -> Result<Option<IpAddr>> {
        let network = match self.quick().inspect_network("bridge", None::<InspectNetworkOptions>).await {
            Ok(network) => network,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(fault("cannot inspect the engine's bridge network", error)),
        };
        let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let addresses: Vec<IpAddr> =
            configs.iter().filter_map(|config| gateway(config.gateway.as_deref(), config.subnet.as_deref())).collect();
        Ok(addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied())
    }
}

/// A gateway that the engine does not name is the first address of the subnet.
fn gateway(gateway: Option<&str>, subnet: Option<&str>) -> Option<IpAddr> {
    // Some versions write the prefix length behind the gateway.
    let named = gateway.and_then(|gateway| gateway.split('/').next()?.parse().ok());
    named.or_else(|| {
        let network: Ipv4Addr = subnet?.split('/').next()?.parse().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(u32::from(network).checked_add(1)?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_named_or_the_first_of_its_subnet() {
        let address = |text: &str| text.parse::<IpAddr>().ok();
        assert_eq!(gateway(Some("172.17.0.1"), Some("172.17.0.0/16")), address("172.17.0.1"));
        assert_eq!(gateway(Some("172.17.0.1/16"), None), address("172.17.0.1"));
        assert_eq!(gateway(None, Some("10.1.0.0/16")), address("10.1.0.1"));
        assert_eq!(gateway(Some(""), None), None);
    }
}
