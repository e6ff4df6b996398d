//! `cargo xtask coverage`: how many lines of the pure crates their tests run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::project::Project;
use crate::{process, say, toolchain};

/// The crates that are judged, by package and folder.
const PURE: [(&str, &str); 10] = [
    ("stage2-addr", "stage2/addr"),
    ("stage2", "stage2"),
    ("vcpu-board", "vcpu/board"),
    ("vcpu", "vcpu"),
    ("virtio", "virtio"),
    ("domain-hv", "domain-hv"),
    ("dustlib-k-abi", "dustlib-k/abi"),
    ("guest-kernel-core", "guest-kernel/core"),
    ("configs-plan", "configs/plan"),
    ("configs-compiler", "configs/compiler"),
];
/// Lines of a crate, in percent, that its tests must run.
const LEAST: f64 = 85.0;
/// Tests that try 2^32 values: counting each of their steps takes an hour and shows no line that others do not.
const EXHAUSTIVE: [&str; 2] = [
    "every_low_word_of_esr_has_one_right_meaning",
    "every_word_there_is",
];

/// Lines of a crate, and those that were run.
#[derive(Clone, Copy, Default)]
struct Lines {
    all: u64,
    run: u64,
}

impl Lines {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a crate has fewer than 2^52 lines"
    )]
    fn percent(self) -> f64 {
        if self.all == 0 {
            100.0
        } else {
            self.run as f64 * 100.0 / self.all as f64
        }
    }
}

/// Runs the pure crates' tests with every line counted, and judges.
pub fn coverage(project: &Project) -> anyhow::Result<ExitCode> {
    let tools = tools()?;
    let target = project.root.join("target/coverage");
    let counts = target.join("counts");
    if counts.exists() {
        fs::remove_dir_all(&counts)?;
    }
    fs::create_dir_all(&counts)?;
    let mut test = counted(project, &target, &counts);
    test.arg("--");
    for name in EXHAUSTIVE {
        test.args(["--skip", name]);
    }
    say::note("running the pure crates' tests with every line counted");
    if !process::in_the_open(&mut test)? {
        bail!("the tests fail");
    }
    let listing = process::output_of(
        counted(project, &target, &counts).args(["--no-run", "--message-format=json"]),
    )?;
    let report = report(&tools, &counts, &executables(&listing))?;
    let lines = by_crate(&project.root, &report);
    Ok(judge(&lines))
}

/// `cargo test` of the pure crates, instrumented.
fn counted(project: &Project, target: &Path, counts: &Path) -> Command {
    let mut test = toolchain::cargo();
    test.current_dir(&project.root)
        .env("RUSTFLAGS", "-Cinstrument-coverage")
        .env("LLVM_PROFILE_FILE", counts.join("%p-%m.profraw"))
        .args(["test", "--quiet", "--lib", "--tests", "--target-dir"])
        .arg(target);
    for (package, _) in PURE {
        test.args(["-p", package]);
    }
    test
}

/// Where the compiler's own llvm-profdata and llvm-cov are.
fn tools() -> anyhow::Result<PathBuf> {
    let sysroot = toolchain::sysroot()?;
    let found = || {
        let folders = fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
        folders
            .flatten()
            .map(|folder| folder.path().join("bin"))
            .find(|bin| bin.join("llvm-cov").exists())
    };
    if let Some(bin) = found() {
        return Ok(bin);
    }
    process::under_step(
        "adding llvm-tools",
        Command::new("rustup").args(["component", "add", "llvm-tools"]),
    )?;
    found().context("`rustup component add llvm-tools` ended well, but there is no llvm-cov")
}

/// The test programs that cargo built.
fn executables(listing: &str) -> Vec<OsString> {
    listing
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(OsString::from))
        .collect()
}

/// What llvm-cov says of all of them together.
fn report(tools: &Path, counts: &Path, programs: &[OsString]) -> anyhow::Result<Value> {
    let merged = counts.join("merged.profdata");
    let raw = fs::read_dir(counts)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "profraw")
        });
    process::output_of(
        Command::new(tools.join("llvm-profdata"))
            .args(["merge", "-sparse", "-o"])
            .arg(&merged)
            .args(raw),
    )?;
    let mut export = Command::new(tools.join("llvm-cov"));
    export
        .args(["export", "-summary-only", "-instr-profile"])
        .arg(&merged);
    for program in programs {
        export.arg("-object").arg(program);
    }
    Ok(serde_json::from_str(&process::output_of(&mut export)?)?)
}

/// Adds the files of a report up by crate. Tests are not counted: they run by definition.
fn by_crate(root: &Path, report: &Value) -> BTreeMap<&'static str, Lines> {
    let mut crates: BTreeMap<&'static str, Lines> = PURE
        .iter()
        .map(|(package, _)| (*package, Lines::default()))
        .collect();
    let files = report.pointer("/data/0/files").and_then(Value::as_array);
    for file in files.into_iter().flatten() {
        let name = file.get("filename").and_then(Value::as_str).map(Path::new);
        let Some(path) = name.and_then(|name| name.strip_prefix(root).ok()) else {
            continue;
        };
        let Some((package, _)) = PURE
            .iter()
            .find(|(_, folder)| path.starts_with(Path::new(folder).join("src")))
        else {
            continue;
        };
        if path.iter().any(|part| {
            ["tests", "tests.rs", "rig", "rig.rs", "fake.rs", "fakes.rs"]
                .iter()
                .any(|one| part == *one)
        }) {
            continue;
        }
        let number = |key: &str| {
            file.pointer(&format!("/summary/lines/{key}"))
                .and_then(Value::as_u64)
                .unwrap_or(0)
        };
        let lines = crates.entry(package).or_default();
        lines.all += number("count");
        lines.run += number("covered");
    }
    crates
}

fn judge(crates: &BTreeMap<&'static str, Lines>) -> ExitCode {
    let mut rows = vec![["crate", "lines", "run", ""].map(str::to_owned).to_vec()];
    for (name, lines) in crates {
        let low = if lines.percent() < LEAST {
            "too few"
        } else {
            ""
        };
        rows.push(vec![
            (*name).to_owned(),
            lines.all.to_string(),
            format!("{:.1} %", lines.percent()),
            low.to_owned(),
        ]);
    }
    say::answer(&say::table(&rows));
    let low = crates
        .iter()
        .filter(|(_, lines)| lines.percent() < LEAST || lines.all == 0);
    let low: Vec<&str> = low.map(|(name, _)| *name).collect();
    if low.is_empty() {
        return ExitCode::SUCCESS;
    }
    say::error(&format!(
        "coverage: less than {LEAST} % of the lines of {}",
        low.join(", ")
    ));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_are_added_up_by_crate_and_tests_left_out() {
        let file = |name: &str, count: u64, covered: u64| json!({"filename": format!("/p/{name}"), "summary": {"lines": {"count": count, "covered": covered}}});
        let report = json!({"data": [{"files": [
            file("vcpu/src/exit.rs", 100, 90),
            file("vcpu/src/exit/tests.rs", 1000, 1000),
            file("vcpu/board/src/map.rs", 10, 5),
            file("stage2/addr/src/lib.rs", 4, 4),
            file("xtask/src/main.rs", 50, 0),
        ]}]});
        let crates = by_crate(Path::new("/p"), &report);
        assert_eq!((crates["vcpu"].all, crates["vcpu"].run), (100, 90));
        assert_eq!(
            (crates["vcpu-board"].all, crates["vcpu-board"].run),
            (10, 5)
        );
        assert_eq!(crates["stage2-addr"].run, 4);
        assert_eq!(
            judge(&crates),
            ExitCode::FAILURE,
            "half of the board is too few"
        );
    }

    #[test]
    fn test_programs_are_found_in_cargos_messages() {
        let listing = "{\"reason\":\"compiler-artifact\",\"executable\":\"/t/a\"}\nnoise\n{\"executable\":null}\n";
        assert_eq!(executables(listing), ["/t/a"]);
    }
}
