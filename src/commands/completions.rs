//! `twostage completions SHELL`.

use crate::cli::{Cli, Completions};
use crate::output::Output;
use clap::CommandFactory as _;
use twostage_model::Result;

pub fn run(arguments: &Completions, output: &Output) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "twostage", &mut script);
    output.print_out(script.trim_ascii_end());
    Ok(())
}
