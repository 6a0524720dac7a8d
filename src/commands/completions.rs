//! `twostage completions SHELL`.

use crate::cli::{Cli, Completions};
use clap::CommandFactory as _;
use twostage_model::Result;

pub fn run(arguments: &Completions) -> Result<()> {
    clap_complete::generate(arguments.shell, &mut Cli::command(), "twostage", &mut std::io::stdout());
    Ok(())
}
