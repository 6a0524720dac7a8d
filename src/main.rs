//! twostage: sources → packages → signed snapshots → one RUN → an audited image.
//!
//! The arms below are the flow. Each is one file in `commands/`.

mod cli;
mod commands;
mod images;
mod layout;
mod leaks;
mod output;
mod ports;
#[cfg(feature = "registry")]
mod registry;
mod remembered;
mod session;
mod source;
mod terminal;

use clap::Parser as _;
use cli::{Cli, Command};
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    twostage_engine::enter_sandbox();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json, cli.quiet, cli.verbose);
    let project = &cli.project;
    let mut status = ExitCode::SUCCESS;
    let result = match cli.command {
        Command::Init(arguments) => commands::init::run(&arguments, project, &output),
        Command::Lock(arguments) => commands::lock::run(&arguments, project, &output).await,
        Command::Outdated(arguments) => commands::outdated::run(&arguments, project, &output).await,
        Command::Update(arguments) => commands::update::run(&arguments, project, &output).await,
        Command::Repo(arguments) => commands::repo::run(&arguments, project, &output).await,
        Command::Publish(arguments) => commands::publish::run(&arguments, project, &output),
        Command::Channel(arguments) => commands::channel::run(&arguments, project, &output),
        Command::Serve(arguments) => commands::serve::run(&arguments, project, &output).await,
        Command::Runtime(arguments) => commands::runtime::run(&arguments, project, &output).await,
        Command::Run(arguments) => commands::run::run(&arguments, &output).await.map(|ended| status = ended),
        Command::Load(arguments) => commands::load::run(&arguments, project, &output).await,
        Command::Push(arguments) => commands::push::run(&arguments, project, &output).await,
        Command::Audit(arguments) => commands::audit::run(&arguments, project, &output).await,
        Command::Compile(arguments) => commands::compile::run(&arguments, &output).await,
        Command::Flatten(arguments) => commands::flatten::run(&arguments, &output).await,
        Command::Diff(arguments) => commands::diff::run(&arguments, &output).await,
        Command::Plan(arguments) => commands::plan::run(&arguments, &output).await,
        Command::Export(arguments) => commands::export::run(&arguments, project, &output),
        Command::Import(arguments) => commands::import::run(&arguments, project, &output),
        Command::Doctor(_) => commands::doctor::run(project, &output).await,
        Command::Completions(arguments) => commands::completions::run(&arguments),
    };
    output.close();
    match result {
        Ok(()) => status,
        Err(error) => output.error(&error),
    }
}
