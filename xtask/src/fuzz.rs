//! `cargo xtask fuzz`: libFuzzer over the targets of `tests/fuzz`.
//!
//! Why no cargo-fuzz: it wants a nightly compiler, and what it does for us is a few flags. What a run has learnt stays in
//! the cache, so that the next one goes on from there, and the runs of all times are counted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use crate::cli::FuzzArgs;
use crate::project::Project;
use crate::{process, say, toolchain};

/// Every branch counts itself, and comparisons tell what they compare; overflows end the program.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=yes -Coverflow-checks=yes";
/// What the program reads to know its target.
const VARIABLE: &str = "XDV_FUZZ_TARGET";
/// The longest input, in bytes.
const LONGEST: u32 = 1024;
/// The longest that one input may take, in seconds of the wall: a busy machine may let the fuzzer wait for many, and an input
/// without an end takes more than any.
const SLOWEST: u32 = 120;

/// What is kept of a target.
struct Kept {
    name: String,
    /// Inputs that reach what no other one does.
    corpus: PathBuf,
    /// Inputs that came through.
    findings: PathBuf,
    /// How many inputs were fed, in all runs.
    runs: PathBuf,
    log: PathBuf,
}

impl Kept {
    fn of(project: &Project, name: &str) -> anyhow::Result<Self> {
        let folder = project.cache.join("fuzz").join(name);
        let kept = Self {
            name: name.to_owned(),
            corpus: folder.join("corpus"),
            findings: folder.join("findings"),
            runs: folder.join("runs"),
            log: folder.join("last.log"),
        };
        fs::create_dir_all(&kept.corpus)?;
        fs::create_dir_all(&kept.findings)?;
        Ok(kept)
    }

    fn total(&self) -> u64 {
        let text = fs::read_to_string(&self.runs).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

/// Runs one target, or all of them.
pub fn fuzz(project: &Project, args: &FuzzArgs) -> anyhow::Result<ExitCode> {
    let committed = project.root.join("tests/fuzz/corpus");
    let known = names(&committed)?;
    let chosen = match &args.target {
        Some(name) if known.contains(name) => vec![name.clone()],
        Some(name) => bail!(
            "there is no target `{name}`; there are: {}",
            known.join(", ")
        ),
        None => known,
    };
    let program = build(project)?;
    if let (Some(file), [name]) = (&args.input, chosen.as_slice()) {
        let mut command = Command::new(program);
        command.env(VARIABLE, name).arg(file);
        let well = process::in_the_open(&mut command)?;
        return Ok(if well {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let mut code = ExitCode::SUCCESS;
    for name in chosen {
        let kept = Kept::of(project, &name)?;
        if !run(&program, &kept, &committed.join(&name), args.minutes)? {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// The targets: each has a corpus that is committed.
fn names(committed: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(committed)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Builds the fuzzer, with a target folder of its own. The target is named, so that no build script is instrumented.
fn build(project: &Project) -> anyhow::Result<PathBuf> {
    let version = process::output_of(toolchain::cargo().arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("cargo does not say what it runs on")?;
    let target = project.target.join("fuzz");
    process::under_step(
        "building the fuzzer",
        toolchain::cargo()
            .current_dir(&project.root)
            .env("RUSTFLAGS", FLAGS)
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
            .args(["build", "--release", "--package", "tests-fuzz-arch"])
            .args(["--target", host, "--target-dir"])
            .arg(&target),
    )?;
    Ok(target.join(host).join("release/tests-fuzz-arch"))
}

/// Feeds one target for a while. Whether it held.
fn run(program: &Path, kept: &Kept, committed: &Path, minutes: u64) -> anyhow::Result<bool> {
    say::note(&format!(
        "{}: {minutes} minutes; more in {}",
        kept.name,
        kept.log.display()
    ));
    let mut prefix = kept.findings.clone().into_os_string();
    prefix.push("/");
    let mut artifacts = std::ffi::OsString::from("-artifact_prefix=");
    artifacts.push(prefix);
    let log = File::create(&kept.log)?;
    let status = Command::new(program)
        .env(VARIABLE, &kept.name)
        .arg(format!("-max_total_time={}", minutes * 60))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-timeout={SLOWEST}"))
        .arg("-print_final_stats=1")
        .arg(artifacts)
        .args([kept.corpus.as_path(), committed])
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()?;
    let said = String::from_utf8_lossy(&fs::read(&kept.log)?).into_owned();
    let now = executed(&said);
    let total = kept.total() + now;
    fs::write(&kept.runs, total.to_string())?;
    let inputs = fs::read_dir(&kept.corpus)?.count();
    say::answer(&format!(
        "{}: {now} runs, {total} in all; {inputs} inputs kept; {}",
        kept.name,
        if status.success() {
            "nothing found"
        } else {
            "FOUND something"
        }
    ));
    if !status.success() {
        let tail: Vec<&str> = said.lines().rev().take(40).collect();
        for line in tail.into_iter().rev() {
            eprintln!("{line}");
        }
        say::error(&format!(
            "{}: see {}, and `cargo xtask fuzz {} --input FILE`",
            kept.name,
            kept.findings.display(),
            kept.name
        ));
    }
    Ok(status.success())
}

/// How many inputs were fed, as libFuzzer says at its end.
fn executed(said: &str) -> u64 {
    said.lines()
        .filter_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::executed;

    #[test]
    fn the_number_of_runs_is_read() {
        let said = "Done\nstat::number_of_executed_units: 604252\nstat::peak_rss_mb: 28\n";
        assert_eq!(executed(said), 604_252);
        assert_eq!(executed("==1== ERROR"), 0);
    }
}
