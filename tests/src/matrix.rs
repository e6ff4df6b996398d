//! Which machines a test runs on.

use std::env;
use std::process::Command;

use crate::machine::Machine;

/// A CPU model, a profile and an emulator (none: the default one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The CPU model.
    pub cpu: &'static str,
    /// Built without optimisation.
    pub debug: bool,
    /// The emulator.
    pub qemu: Option<String>,
}

impl Point {
    /// Release, on the default emulator.
    #[must_use]
    pub const fn of(cpu: &'static str) -> Self {
        Self {
            cpu,
            debug: false,
            qemu: None,
        }
    }

    /// The same without optimisation.
    #[must_use]
    pub fn debug(self) -> Self {
        Self {
            debug: true,
            ..self
        }
    }

    /// A machine of this config at this point.
    #[must_use]
    pub fn machine(&self, config: &str) -> Machine {
        Machine::of(config)
            .cpu(self.cpu)
            .debug(self.debug)
            .qemu(self.qemu.as_deref())
    }
}

/// True when everything is to run.
#[must_use]
pub fn full() -> bool {
    env::var("XDV_MATRIX").is_ok_and(|value| value == "full")
}

/// The points a test runs on: `quick` usually, every combination in the full matrix.
#[must_use]
pub fn points(quick: &[Point]) -> Vec<Point> {
    if !full() {
        return quick.to_vec();
    }
    let mut points = Vec::new();
    for qemu in emulators() {
        for cpu in ["max", "cortex-a57"] {
            for debug in [false, true] {
                points.push(Point {
                    cpu,
                    debug,
                    qemu: qemu.clone(),
                });
            }
        }
    }
    points
}

/// Every CPU model that Linux and firmware are promised to run on.
pub const MODELS: [&str; 6] = [
    "cortex-a53",
    "cortex-a57",
    "cortex-a72",
    "cortex-a76",
    "neoverse-n1",
    "max",
];

/// The default emulator; and QEMU 10 (`XDV_TEN` names one, else xtask gets it) unless the default is as new.
#[must_use]
pub fn emulators() -> Vec<Option<String>> {
    let default = env::var("XDV_QEMU").unwrap_or_else(|_| "qemu-system-aarch64".to_owned());
    if major(&default).is_none_or(|major| major >= 10) {
        return vec![None];
    }
    vec![None, Some(ten())]
}

/// What `--qemu` takes for QEMU 10.
#[must_use]
pub fn ten() -> String {
    env::var("XDV_TEN").unwrap_or_else(|_| "10".to_owned())
}

fn major(program: &str) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split("version ")
        .nth(1)?
        .split('.')
        .next()?
        .parse()
        .ok()
}
