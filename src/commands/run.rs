//! `twostage run IMAGE [COMMAND…]`: tries an image; nothing of it is kept.

use crate::cli::Run;
use crate::output::Output;
use crate::session::tell_cost;
use crate::source::unknown;
use std::io::Write as _;
use std::process::ExitCode;
use twostage_engine::{ImageInfo, Piece};
use twostage_model::{Class, Error, Result};

/// Gives the exit status of the command.
pub async fn run(arguments: &Run, output: &Output) -> Result<ExitCode> {
    let env = variables(&arguments.env)?;
    let engine = arguments.engine.or_embedded().connect().await?;
    tell_cost(&engine, &output.sink());
    let Some(image) = engine.image(arguments.image()).await? else {
        return Err(unknown(&engine, arguments.image(), &[]).await);
    };
    let command = command(&image, arguments)?;
    let run = twostage_engine::Run {
        env: &env,
        user: arguments.user.as_deref(),
        workdir: arguments.workdir.as_deref(),
        network: arguments.network.into(),
        ..twostage_engine::Run::new(arguments.image(), &command)
    };
    // As it comes. A reader that has gone away is no reason to end the command: it may do more than write.
    let mut pass_on = |piece: Piece<'_>| match piece {
        Piece::Out(bytes) => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush()).unwrap_or_else(|error| output.refused(error));
        }
        Piece::Err(bytes) => drop(std::io::stderr().lock().write_all(bytes)),
    };
    let ended = tokio::select! {
        ended = engine.run_raw(run, &mut pass_on) => ended,
        stopped = super::compile::interrupted() => Err(stopped),
    };
    let removed = match ended {
        Ok(container) => {
            let status = container.exit_code;
            container.remove().await.map(|()| status)
        }
        // The image has no such program, as a rule.
        Err(error) if error.class() == Class::Engine && error.hint_text().is_none() => {
            Err(error.hint(format!("what is in it shows `twostage run --entrypoint ls {} -l /usr/bin`", arguments.image())))
        }
        Err(error) => Err(error),
    };
    engine.settle().await;
    let status = removed?;
    // (No program ends with more than a byte.)
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
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
            crate::cli::Command::Run(run) => run,
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
