//! `twostage run IMAGE [COMMAND…]`: tries an image; nothing of it is kept.

use crate::cli::Run;
use crate::output::Output;
use crate::session::{tell_cost, tell_network};
use crate::source::unknown;
use crate::terminal::Terminal;
use std::io::Write as _;
use std::process::ExitCode;
use twostage_engine::{Attach, Engine, ImageInfo, Kind, Network, Piece, Refusal};
use twostage_model::{Class, Error, Result};

/// Gives the exit status of the command.
pub async fn run(arguments: &Run, output: &Output) -> Result<ExitCode> {
    if let Some((option, instead)) = arguments.not_yet.first() {
        return Err(Error::new(Class::Usage, format!("{option} is not there yet")).hint(instead));
    }
    let env = variables(&arguments.env)?;
    let engine = arguments.engine.or_embedded().connect().await?;
    tell_cost(&engine, &output.sink());
    let Some(image) = engine.image(arguments.image()).await? else {
        return Err(unknown(&engine, arguments.image(), &[]).await);
    };
    let command = command(&image, arguments)?;
    let network: Network = arguments.network.into();
    only_embedded(&engine, arguments)?;
    let events = output.sink();
    let here = engine.architecture();
    if image.architecture != here {
        events.note(
            "run",
            format!("{} is an image for {}, and this machine is {here}: its programs may not run", arguments.image(), image.architecture),
        );
    }
    if network == Network::Bridge {
        tell_network(&engine, &events).await;
    }
    if network == Network::Host && !arguments.publish.is_empty() {
        return Err(Error::new(Class::Usage, "--publish says nothing on this machine's network: all that the command listens on is there")
            .hint("leave --publish away, or --network host"));
    }
    let ports = crate::ports::listen(&arguments.publish)?;
    for (listener, port) in &ports {
        if let Ok(at) = listener.local_addr() {
            events.note("run", format!("port {port} of the container is {at}"));
        }
    }
    let mounts = mounts(&arguments.volumes)?;
    let terminal = Terminal::open(arguments.interactive, arguments.tty)?;
    let request = twostage_engine::Run {
        env: &env,
        user: arguments.user.as_deref(),
        workdir: arguments.workdir.as_deref(),
        network,
        hostname: arguments.hostname.as_deref(),
        ports: &ports,
        mounts: &mounts,
        ..twostage_engine::Run::new(arguments.image(), &command)
    };
    let looks = format!("what is in it shows `twostage run --entrypoint ls {} -l /usr/bin`", arguments.image());
    let status = pass_through(&engine, request, terminal, &looks, output).await;
    engine.settle().await;
    // (No program ends with more than a byte.)
    Ok(ExitCode::from(u8::try_from(status?).unwrap_or(u8::MAX)))
}

/// Runs a command as if it ran here: what it is told and what it says pass through. The container is removed. Gives its exit
/// status. `looks` says how to look into an image that has no such program.
pub async fn pass_through(
    engine: &Engine,
    request: twostage_engine::Run<'_>,
    terminal: Terminal,
    looks: &str,
    output: &Output,
) -> Result<i64> {
    let run = twostage_engine::Run { attached: (engine.kind() == Kind::Embedded).then_some(&terminal.attached), ..request };
    // As it comes. A reader that has gone away is no reason to end the command: it may do more than write.
    let mut pass_on = |piece: Piece<'_>| match piece {
        Piece::Out(bytes) => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush()).unwrap_or_else(|error| output.refused(error));
        }
        Piece::Err(bytes) => drop(std::io::stderr().lock().write_all(bytes)),
    };
    let ended = if engine.kind() == Kind::Embedded {
        tokio::select! {
            ended = engine.run_raw(run, &mut pass_on) => ended,
            insisted = terminal.signals() => Err(insisted),
        }
    } else {
        tokio::select! {
            ended = engine.run_raw(run, &mut pass_on) => ended,
            stopped = super::compile::interrupted() => Err(stopped),
        }
    };
    drop(terminal);
    match ended {
        Ok(container) => {
            let status = container.exit_code;
            container.remove().await.map(|()| status)
        }
        Err(error) => match Refusal::of(&error) {
            // As docker ends then.
            Some(refusal) => {
                output.error(&error);
                Ok(refusal.status.into())
            }
            // A daemon's image has no such program, as a rule.
            None if engine.kind() != Kind::Embedded && error.class() == Class::Engine && error.hint_text().is_none() => {
                Err(error.hint(looks))
            }
            None => Err(error),
        },
    }
}

/// What a daemon is not asked for here.
fn only_embedded(engine: &Engine, arguments: &Run) -> Result<()> {
    let asked = [
        (!arguments.publish.is_empty(), "--publish"),
        (!arguments.volumes.is_empty(), "--volume"),
        (arguments.interactive, "--interactive"),
        (arguments.tty, "--tty"),
    ];
    match asked.into_iter().find(|(given, _)| *given) {
        Some((_, option)) if engine.kind() != Kind::Embedded => {
            Err(Error::new(Class::Usage, format!("{option} is for the engine that needs no daemon"))
                .hint(format!("use --engine embedded, or `{} run`", engine.kind())))
        }
        _ => Ok(()),
    }
}

/// Files and folders of this machine, which are there.
fn mounts(volumes: &[crate::cli::Volume]) -> Result<Vec<Attach<'_>>> {
    let mount = |volume: &'_ crate::cli::Volume| {
        std::fs::metadata(&volume.source).map_err(|cause| {
            let what = format!("cannot mount {} at {}", volume.source.display(), volume.target);
            Error::new(Class::Usage, what).because(cause).hint("make it first: docker would make a folder of root's")
        })
    };
    volumes.iter().try_for_each(|volume| mount(volume).map(drop))?;
    Ok(volumes
        .iter()
        .map(|volume| Attach::Machine { source: &volume.source, target: &volume.target, read_only: volume.read_only })
        .collect())
}

/// What is run: the image's entrypoint, then the command that is given, or else the image's.
fn command(image: &ImageInfo, arguments: &Run) -> Result<Vec<String>> {
    let entrypoint = match &arguments.entrypoint {
        Some(named) if named.is_empty() => Vec::new(),
        Some(named) => vec![named.clone()],
        None => image.entrypoint.clone(),
    };
    // As with docker: another entrypoint knows nothing of the image's command.
    let own = if arguments.entrypoint.is_some() { &[][..] } else { &image.cmd[..] };
    let given = if arguments.command().is_empty() { own } else { arguments.command() };
    let whole: Vec<String> = entrypoint.iter().chain(given).cloned().collect();
    if whole.is_empty() {
        return Err(Error::new(Class::Usage, format!("{} says no command, and none is given", arguments.image()))
            .hint(format!("name one: `twostage run {} COMMAND`", arguments.image())));
    }
    Ok(whole)
}

/// `NAME=VALUE`, or only NAME: what the environment says, if it says something.
fn variables(given: &[String]) -> Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for text in given {
        match text.split_once('=') {
            Some(("", _)) => return Err(Error::new(Class::Usage, format!("--env {text} has no name")).hint("write NAME=VALUE")),
            Some((name, value)) => variables.push((name.to_string(), value.to_string())),
            None => variables.extend(std::env::var(text).ok().map(|value| (text.clone(), value))),
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn run(more: &[&str]) -> Run {
        let cli = crate::cli::Cli::parse_from([&["twostage", "run"], more].concat());
        match cli.command {
            crate::cli::Command::Run(run) => *run,
            _ => unreachable!("run was said"),
        }
    }

    #[test]
    fn a_command_is_put_together_as_docker_does() {
        let list = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let image = |entrypoint: &[&str], cmd: &[&str]| ImageInfo {
            id: String::new(),
            diff_ids: Vec::new(),
            labels: Default::default(),
            architecture: String::new(),
            size: 0,
            repo_digests: Vec::new(),
            tags: Vec::new(),
            env: Vec::new(),
            entrypoint: list(entrypoint),
            cmd: list(cmd),
            user: String::new(),
            workdir: String::new(),
        };
        let of = |entrypoint: &[&str], cmd: &[&str], more: &[&str]| command(&image(entrypoint, cmd), &run(more)).ok();
        assert_eq!(of(&["serve"], &["--all"], &["app"]), Some(list(&["serve", "--all"])));
        assert_eq!(of(&["serve"], &["--all"], &["app", "-v", "--json"]), Some(list(&["serve", "-v", "--json"])));
        assert_eq!(of(&["serve"], &["--all"], &["--entrypoint", "sh", "app"]), Some(list(&["sh"])));
        assert_eq!(of(&["serve"], &[], &["--entrypoint", "", "app", "ls", "/"]), Some(list(&["ls", "/"])));
        assert_eq!(of(&[], &[], &["app"]), None);
    }
}
