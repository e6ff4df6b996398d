//! Everything a person types: `cargo xtask …`.
//!
//! Why a program and not scripts: it runs wherever Rust runs, its pure parts have tests, and what it
//! asks of the machine (targets, QEMU, a kernel) it gets by itself.
#![forbid(unsafe_code)]

mod apt;
mod bench;
mod build;
mod check;
mod ci;
mod cli;
mod coverage;
mod ctl;
mod debian;
mod doctor;
mod files;
mod fuzz;
mod initramfs;
mod kernel;
mod machine;
mod matrix;
mod packages;
mod process;
mod project;
mod qemu;
mod run;
mod say;
mod tidy;
mod toolchain;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::project::Project;

/// A config file was refused. The message is the whole diagnostic, already laid out for a person.
#[derive(Debug)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            if let Some(example) = cli::example(&error) {
                eprintln!("\nFor example: {example}");
            }
            // 0 for `--help`, 2 for what was refused.
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) => {
                eprintln!("{refused}");
                ExitCode::from(2)
            }
            None => {
                say::error(&format!("{error:#}"));
                ExitCode::FAILURE
            }
        },
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let project = Project::find(cli.yes)?;
    match cli.command {
        Command::Run(args) => run::run(&project, &args),
        Command::Build(args) => build::command(&project, &args),
        Command::Ctl(args) => ctl::ctl(&project, &args),
        Command::VirtioMatrix(args) => matrix::matrix(&project, &args),
        Command::Test(args) => ci::test(&project, &args),
        Command::Check(args) => check::check(&project, &args),
        Command::Bench(args) => bench::bench(&project, &args),
        Command::Doctor(args) => doctor::doctor(&project, &args),
        Command::Tidy => tidy::tidy(&project),
        Command::Coverage => coverage::coverage(&project),
        Command::Fuzz(args) => fuzz::fuzz(&project, &args),
        Command::Ci => ci::ci(&project),
    }
}
