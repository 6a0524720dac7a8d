//! twostage: sources → packages → signed snapshots → one RUN → an audited image.
//!
//! The arms below are the flow. Each is one file in `commands/`.

mod changes;
mod check;
mod cli;
mod commands;
mod fetch;
mod images;
mod layout;
mod leaks;
mod log;
mod offered;
mod output;
mod ports;
mod registry;
mod remembered;
mod replaced;
mod session;
mod source;
mod terminal;
mod threads;

use clap::Parser as _;
use cli::{Cli, Command};
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    twostage_engine::enter_sandbox();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return output::usage(&said),
    };
    let output = Output::new(cli.json, cli.quiet, cli.verbose > 0);
    let result = log::start(cli.log_level(), cli.log_format, &output)
        .and_then(|()| threads::guarded(|| threads::runtime()?.block_on(run(cli, &output))));
    log::flush();
    output.close();
    match result.and_then(|status| output.written().map(|()| status)) {
        Ok(status) => status,
        Err(error) => output.error(&error),
    }
}

async fn run(cli: Cli, output: &Output) -> twostage_model::Result<ExitCode> {
    let project = &cli.project;
    let mut status = ExitCode::SUCCESS;
    match cli.command {
        Command::Init(arguments) => commands::init::run(&arguments, &project.path, output),
        Command::Lock(arguments) => commands::lock::run(&arguments, project, output).await,
        Command::Outdated(arguments) => commands::outdated::run(&arguments, project, output).await,
        Command::Update(arguments) => commands::update::run(&arguments, project, output).await,
        Command::Repo(arguments) => commands::repo::run(&arguments, project, output).await,
        Command::Build(arguments) => commands::build::run(&arguments, project, output).await,
        Command::Recipe(arguments) => commands::recipe::run(&arguments, project, output),
        Command::Shell(arguments) => commands::shell::run(&arguments, project, output).await.map(|ended| status = ended),
        Command::Publish(arguments) => commands::publish::run(&arguments, project, output),
        Command::Channel(arguments) => commands::channel::run(&arguments, project, output),
        Command::List(arguments) => commands::list::run(&arguments, project, output),
        Command::Search(arguments) => commands::search::run(&arguments, project, output),
        Command::Why(arguments) => commands::why::run(&arguments, project, output),
        Command::Show(arguments) => commands::show::run(&arguments, project, output),
        Command::Remove(arguments) => commands::remove::run(&arguments, project, output),
        Command::Promote(arguments) => commands::promote::run(&arguments, project, output),
        Command::Rollback(arguments) => commands::rollback::run(&arguments, project, output),
        Command::Pin(arguments) => commands::pin::run(&arguments, project, output),
        Command::Unpin(arguments) => commands::pin::unpin(&arguments, project, output),
        Command::Gc(arguments) => commands::gc::run(&arguments, project, output),
        Command::Withdraw(arguments) => commands::withdraw::run(&arguments, project, output),
        Command::Fsck(arguments) => commands::fsck::run(&arguments, project, output),
        Command::Serve(arguments) => commands::serve::run(&arguments, project, output).await,
        Command::Runtime(arguments) => commands::runtime::run(&arguments, project, output).await,
        Command::Run(arguments) => commands::run::run(&arguments, output).await.map(|ended| status = ended),
        Command::Load(arguments) => commands::load::run(&arguments, project, output).await,
        Command::Push(arguments) => commands::push::run(&arguments, project, output).await,
        Command::Images(arguments) => commands::images::run(&arguments, output).await,
        Command::Rm(arguments) => commands::rm::run(&arguments, output).await,
        Command::Tag(arguments) => commands::tag::run(&arguments, output).await,
        Command::Prune(arguments) => commands::prune::run(&arguments, output).await,
        Command::ImportImage(arguments) => commands::import_image::run(&arguments, output).await,
        Command::Audit(arguments) => commands::audit::run(&arguments, project, output).await,
        Command::Compile(arguments) => commands::compile::run(&arguments, output).await,
        Command::Flatten(arguments) => commands::flatten::run(&arguments, output).await,
        Command::Diff(arguments) => commands::diff::run(&arguments, project, output).await,
        Command::Plan(arguments) => commands::plan::run(&arguments, output).await,
        Command::Export(arguments) => commands::export::run(&arguments, project, output),
        Command::Import(arguments) => commands::import::run(&arguments, project, output),
        Command::ImportFrom(arguments) => commands::import_from::run(&arguments, project, output),
        Command::Doctor(_) => commands::doctor::run(&project.path, output).await,
        Command::Completions(arguments) => commands::completions::run(&arguments, output),
    }?;
    Ok(status)
}
