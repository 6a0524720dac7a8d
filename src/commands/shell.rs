//! `twostage shell COMPONENT`: the container in which a component is built, to be looked at.

use crate::cli::{ProjectArgs, Shell};
use crate::commands::build::{component, with_needs};
use crate::commands::run::pass_through;
use crate::output::Output;
use crate::session::{Session, WorkOptions};
use crate::terminal::Terminal;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use twostage_builder::entered;
use twostage_engine::{Kind, Network};
use twostage_model::{Class, Error, Result};

/// Gives the exit status of the command, or of the shell.
pub async fn run(arguments: &Shell, project: &ProjectArgs, output: &Output) -> Result<ExitCode> {
    let session = Session::open(project, output)?;
    let context = session.context(&arguments.engine, WorkOptions { lock: true, ..WorkOptions::default() }).await?;
    let entered = enter(&session, &context, arguments, output).await;
    context.engine.settle().await;
    // (No program ends with more than a byte.)
    Ok(ExitCode::from(u8::try_from(entered?).unwrap_or(u8::MAX)))
}

async fn enter(session: &Session, context: &std::sync::Arc<twostage_builder::Context>, arguments: &Shell, output: &Output) -> Result<i64> {
    let name = arguments.component();
    let component = component(&session.project, name)?;
    let engine = &context.engine;
    let at_a_terminal = std::io::stdin().is_terminal();
    let command = arguments.command();
    if engine.kind() != Kind::Embedded && command.is_empty() {
        return Err(Error::new(Class::Usage, "a shell in a terminal is for the engine that needs no daemon")
            .hint(format!("use --engine embedded, or name a command: `twostage shell {name} COMMAND`")));
    }
    let failed = entered::failed(context, name);
    let prepared = if engine.image(&failed).await?.is_some() && !arguments.anew {
        context.events.note(name, "this is where its build failed; the next one that succeeds removes it".to_string());
        None
    } else {
        let preparing = async {
            let needs = with_needs(session, context, component).await?;
            twostage_builder::component::prepare(context, component, &needs).await
        };
        let image = session.locking(context, preparing).await?;
        context.events.note(name, "this is all that its build begins with".to_string());
        Some(image)
    };
    context.events.note(name, format!("what is changed here is lost; the build goes on with: {}", entered::resume(session.project.format)));
    let terminal = Terminal::open(command.is_empty() || !at_a_terminal, command.is_empty() && at_a_terminal)?;
    let cmd = entered::command(command);
    let request = twostage_engine::Run {
        user: Some(twostage_builder::ROOT),
        hostname: Some("builder"),
        network: Network::from(arguments.network),
        ..twostage_engine::Run::new(prepared.as_ref().unwrap_or(&failed), &cmd)
    };
    let ended = pass_through(engine, request, terminal, "name a program that its builder image has", output).await;
    if let Some(image) = &prepared {
        entered::forget(context, image).await?;
    }
    ended
}
