//! `cargo xtask check`: the machine that a config file describes, without running it.

use std::process::ExitCode;

use crate::build::Profile;
use crate::cli::CheckArgs;
use crate::machine::{Asked, Machine};
use crate::project::Project;
use crate::say;

/// Shows the machine, or why there is none.
pub fn check(project: &Project, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let compiled = Machine::load(project, &args.config, Profile::Release)?.compile(Asked {
        cpus: args.smp,
        memory: args.memory,
        ..Asked::default()
    })?;
    say::answer(&compiled.summary.to_string());
    Ok(ExitCode::SUCCESS)
}
