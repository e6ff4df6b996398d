//! `cargo xtask test` and `cargo xtask ci`: everything that must be green, with one summary at the end.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::cli::{BenchArgs, QemuArgs, TestArgs};
use crate::project::Project;
use crate::qemu::Qemu;
use crate::{bench, process, say, tidy, toolchain};

/// Crates of EL2; they are built apart from the guests', as `build` does.
const EL2: [&str; 2] = ["hypervisor", "hypervisor-arch"];
/// Crates that run below EL2.
const GUESTS: [&str; 4] = [
    "guest-kernel",
    "guest-kernel-arch",
    "tests-guests",
    "tests-arch",
];

/// One part of the whole.
struct Part<'a> {
    name: &'static str,
    run: Box<dyn Fn() -> anyhow::Result<bool> + 'a>,
}

/// How a part went.
struct Went {
    name: &'static str,
    well: bool,
    took: Duration,
}

/// `cargo xtask test`.
pub fn test(project: &Project, args: &TestArgs) -> anyhow::Result<ExitCode> {
    Ok(summary(&go(&parts(project, args)?)))
}

/// `cargo xtask ci`: the same, with the emulator that the environment names.
pub fn ci(project: &Project) -> anyhow::Result<ExitCode> {
    let qemu = QemuArgs {
        qemu: std::env::var("XDV_QEMU").ok(),
    };
    let args = TestArgs {
        qemu,
        ..TestArgs::default()
    };
    test(project, &args)
}

fn parts<'a>(project: &'a Project, args: &'a TestArgs) -> anyhow::Result<Vec<Part<'a>>> {
    toolchain::ensure(toolchain::TARGET)?;
    let mut parts = Vec::new();
    if !args.qemu_only {
        parts.extend(host(project, args));
    }
    if !args.host {
        let qemu = Qemu::ensure(project, args.qemu.qemu.as_deref())?;
        say::note(&format!(
            "end-to-end tests use QEMU {} ({})",
            qemu.version,
            qemu.program.display()
        ));
        parts.push(end_to_end(project, args, qemu));
        // A filter names tests, and a figure is none. The bench asks for QEMU 10 by itself, whatever the tests use.
        if args.filter.is_none() {
            parts.push(Part {
                name: "bench",
                run: Box::new(|| {
                    Ok(bench::bench(project, &BenchArgs::default())? == ExitCode::SUCCESS)
                }),
            });
        }
    }
    Ok(parts)
}

/// What needs no QEMU. With a filter only the tests: lints and laws have no names.
fn host<'a>(project: &'a Project, args: &'a TestArgs) -> Vec<Part<'a>> {
    let cargo = move |arguments: Vec<String>| in_the_open(project, arguments);
    let mut unit = words(&["test"]);
    unit.extend(args.filter.clone());
    let mut parts = vec![Part {
        name: "host tests",
        run: Box::new(move || cargo(unit.clone())),
    }];
    if args.filter.is_some() {
        return parts;
    }
    parts.push(Part {
        name: "formatting",
        run: Box::new(move || {
            toolchain::ensure_component("fmt", "rustfmt")?;
            cargo(words(&["fmt", "--all", "--check"]))
        }),
    });
    parts.push(Part {
        name: "laws (tidy)",
        run: Box::new(|| Ok(tidy::tidy(project)? == ExitCode::SUCCESS)),
    });
    parts.push(Part {
        name: "lints, host",
        run: Box::new(move || {
            toolchain::ensure_component("clippy", "clippy")?;
            Ok(cargo(clippy(&[], false))? && cargo(clippy(&["tests"], false))?)
        }),
    });
    parts.push(Part {
        name: "lints, EL2",
        run: Box::new(move || {
            let mut with_virtio = clippy(&EL2, true);
            with_virtio.splice(1..1, words(&["--features", "hypervisor/virtio"]));
            Ok(cargo(clippy(&EL2, true))? && cargo(with_virtio)?)
        }),
    });
    parts.push(Part {
        name: "lints, guests",
        run: Box::new(move || cargo(clippy(&GUESTS, true))),
    });
    parts
}

fn end_to_end<'a>(project: &'a Project, args: &'a TestArgs, qemu: Qemu) -> Part<'a> {
    Part {
        name: "end-to-end tests",
        run: Box::new(move || {
            let mut command = toolchain::cargo();
            command
                .current_dir(&project.root)
                .args(["test", "-p", "tests"])
                .args(&args.filter);
            // The tests start this very program for every machine they boot, with the same emulator.
            command.env("XDV_QEMU", &qemu.program);
            if let Ok(me) = std::env::current_exe() {
                command.env("XDV_XTASK", me);
            }
            announced(&mut command)
        }),
    }
}

/// Clippy on the given crates (none: the default members); bare-metal ones for their target.
fn clippy(packages: &[&str], bare_metal: bool) -> Vec<String> {
    let mut arguments = words(&["clippy", "--quiet"]);
    for package in packages {
        arguments.extend(words(&["-p", package]));
    }
    if bare_metal {
        arguments.extend(words(&["--target", toolchain::TARGET]));
    } else {
        arguments.push("--all-targets".to_owned());
    }
    arguments.extend(words(&["--", "-D", "warnings"]));
    arguments
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn in_the_open(project: &Project, arguments: Vec<String>) -> anyhow::Result<bool> {
    let mut command = toolchain::cargo();
    announced(command.current_dir(&project.root).args(arguments))
}

fn announced(command: &mut Command) -> anyhow::Result<bool> {
    let arguments: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    say::note(&format!("cargo {}", arguments.join(" ")));
    process::in_the_open(command)
}

/// Runs every part, also after one failed: a person wants to know all that is wrong.
fn go(parts: &[Part<'_>]) -> Vec<Went> {
    let one = |part: &Part<'_>| {
        let started = Instant::now();
        let well = (part.run)().unwrap_or_else(|error| {
            say::error(&format!("{error:#}"));
            false
        });
        Went {
            name: part.name,
            well,
            took: started.elapsed(),
        }
    };
    parts.iter().map(one).collect()
}

fn summary(all: &[Went]) -> ExitCode {
    let mut rows = vec![["", "part", "took"].map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|went| {
        vec![
            if went.well { "ok" } else { "FAILED" }.to_owned(),
            went.name.to_owned(),
            say::seconds(went.took),
        ]
    }));
    let failed = all.iter().filter(|went| !went.well).count();
    say::answer(&format!(
        "\n{}\n{} passed, {failed} failed",
        say::table(&rows),
        all.len() - failed
    ));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_metal_crates_are_linted_for_their_target_and_host_crates_with_their_tests() {
        let el2 = clippy(&EL2, true).join(" ");
        assert_eq!(
            el2,
            format!(
                "clippy --quiet -p hypervisor -p hypervisor-arch --target {} -- -D warnings",
                toolchain::TARGET
            )
        );
        assert_eq!(
            clippy(&[], false).join(" "),
            "clippy --quiet --all-targets -- -D warnings"
        );
    }

    #[test]
    fn one_failure_fails_the_whole() {
        let went = |well| Went {
            name: "x",
            well,
            took: Duration::ZERO,
        };
        assert_eq!(summary(&[went(true), went(true)]), ExitCode::SUCCESS);
        assert_eq!(summary(&[went(true), went(false)]), ExitCode::FAILURE);
    }
}
