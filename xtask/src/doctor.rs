//! `cargo xtask doctor`: what is missing on this machine, and how it will be got.

use std::process::{Command, ExitCode};

use crate::cli::DoctorArgs;
use crate::debian::Debian;
use crate::packages::{self, Package};
use crate::project::Project;
use crate::qemu::{Qemu, Version};
use crate::{process, say, toolchain};

/// One thing that is needed.
struct Finding {
    what: String,
    state: State,
    detail: String,
}

#[derive(PartialEq, Eq)]
enum State {
    /// It is there.
    Ok,
    /// It is not, and the command that needs it gets it.
    Later,
    /// It is not, and a person must act.
    Missing,
}

/// Looks, shows a table, and with `--fix` gets what is missing.
pub fn doctor(project: &Project, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    if args.fix {
        toolchain::ensure(toolchain::TARGET)?;
        Qemu::ensure(project, args.qemu.qemu.as_deref())?;
    }
    let findings = [
        rust(),
        target()?,
        linker(),
        qemu(args.qemu.qemu.as_deref()),
        qemu_ten(project),
        debian(project),
        cache(project),
    ];
    let mut rows = vec![
        ["", "what", "found, or how it will be got"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(findings.iter().map(|finding| {
        let mark = match finding.state {
            State::Ok => "ok",
            State::Later => "later",
            State::Missing => "MISSING",
        };
        vec![
            mark.to_owned(),
            finding.what.clone(),
            finding.detail.clone(),
        ]
    }));
    say::answer(&say::table(&rows));
    let missing = findings
        .iter()
        .filter(|finding| finding.state == State::Missing)
        .count();
    if missing > 0 {
        say::error(&format!(
            "{missing} thing(s) missing that you must act on; see above"
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn rust() -> Finding {
    let version = process::output_of(toolchain::cargo().arg("--version"));
    match version {
        Ok(version) => Finding {
            what: "Rust".into(),
            state: State::Ok,
            detail: version.trim().to_owned(),
        },
        Err(error) => Finding {
            what: "Rust".into(),
            state: State::Missing,
            detail: format!("{error:#}"),
        },
    }
}

fn target() -> anyhow::Result<Finding> {
    let what = format!("target {}", toolchain::TARGET);
    Ok(if toolchain::has_target(toolchain::TARGET)? {
        Finding {
            what,
            state: State::Ok,
            detail: "installed".into(),
        }
    } else if process::which("rustup").is_some() {
        Finding {
            what,
            state: State::Later,
            detail: format!(
                "`rustup target add {}`, by the first build",
                toolchain::TARGET
            ),
        }
    } else {
        Finding {
            what,
            state: State::Missing,
            detail: "there is no rustup to add it: install Rust from https://rustup.rs".into(),
        }
    })
}

fn linker() -> Finding {
    let found = ["cc", "gcc", "clang"]
        .iter()
        .find_map(|name| process::which(name));
    match found {
        Some(path) => Finding {
            what: "C compiler (links host programs)".into(),
            state: State::Ok,
            detail: path.display().to_string(),
        },
        None => Finding {
            what: "C compiler (links host programs)".into(),
            state: State::Missing,
            detail: "install your distribution's gcc or clang".into(),
        },
    }
}

fn qemu(asked: Option<&str>) -> Finding {
    let what = format!("QEMU {} or newer", Version::OLDEST);
    let found = match asked {
        Some(path) if path != "10" => Some(Qemu::at(path.as_ref())),
        _ => Qemu::system(),
    };
    match found {
        Some(Ok(qemu)) if qemu.version >= Version::OLDEST => Finding {
            what,
            state: State::Ok,
            detail: format!("{} at {}", qemu.version, qemu.program.display()),
        },
        Some(Ok(qemu)) => Finding {
            what,
            state: State::Missing,
            detail: format!(
                "{} at {} is too old: pass `--qemu 10` or `--qemu PATH`",
                qemu.version,
                qemu.program.display()
            ),
        },
        Some(Err(error)) => Finding {
            what,
            state: State::Missing,
            detail: format!("{error:#}"),
        },
        None if packages::Manager::of_this_machine() == Some(packages::Manager::Apt) => Finding {
            what,
            state: State::Later,
            detail: "apt-get install qemu-system-arm, by the first run (asks before sudo)".into(),
        },
        None => Finding {
            what,
            state: State::Missing,
            detail: packages::advice(Package::Qemu),
        },
    }
}

fn qemu_ten(project: &Project) -> Finding {
    let what = "QEMU 10 (all rows of bench)".to_owned();
    let system = Qemu::system()
        .and_then(Result::ok)
        .filter(|qemu| qemu.version.major >= 10);
    match system.or_else(|| Qemu::cached_ten(project)) {
        Some(qemu) => Finding {
            what,
            state: State::Ok,
            detail: format!("{} at {}", qemu.version, qemu.program.display()),
        },
        None => Finding {
            what,
            state: State::Later,
            detail: "from Debian's backports into the cache, by the first bench or `--qemu 10`"
                .into(),
        },
    }
}

fn debian(project: &Project) -> Finding {
    let what = "Debian's arm64 kernel (configs/linux.toml)".to_owned();
    if Debian::is_cached(project) {
        Finding {
            what,
            state: State::Ok,
            detail: "in the cache".into(),
        }
    } else if process::which("apt-get").is_some() {
        Finding {
            what,
            state: State::Later,
            detail: "from Debian's archive into the cache, by the first config that names it"
                .into(),
        }
    } else {
        Finding {
            what,
            state: State::Later,
            detail: "there is no apt here: a config that names it says which files to give".into(),
        }
    }
}

fn cache(project: &Project) -> Finding {
    let used =
        process::output_of(Command::new("du").arg("-sh").arg(&project.cache)).unwrap_or_default();
    let used = used.split_whitespace().next().unwrap_or("empty").to_owned();
    Finding {
        what: "cache (XDV_CACHE)".into(),
        state: State::Ok,
        detail: format!("{} ({used})", project.cache.display()),
    }
}
