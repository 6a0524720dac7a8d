//! `twostage completions SHELL`.

use crate::cli::{Cli, Completions};
use clap::CommandFactory as _;
use std::io::Write as _;
use twostage_model::Result;

pub fn run(arguments: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "twostage", &mut script);
    // A reader that has gone away (`| head`) is no error.
    let _ = std::io::stdout().write_all(&script);
    Ok(())
}
