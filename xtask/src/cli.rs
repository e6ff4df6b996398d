//! What a person may type. Every command and flag is described here and nowhere else.

mod fuzz;
mod kernel;
mod matrix;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::fuzz::FuzzArgs;
pub use self::kernel::KernelArgs;
pub use self::matrix::{MatrixArgs, QueueSize};

/// XDV: a type-1 hypervisor for AArch64, built, run and judged from one place.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
#[command(after_help = "Examples:
  cargo xtask run configs/two-guests.toml            build everything and watch two guests run
  cargo xtask run configs/one-guest.toml --smp 2 --cpu cortex-a57
  cargo xtask run configs/linux.toml                 Debian's kernel, and a shell in it
  cargo xtask run --kernel my-kernel.elf             a kernel of your own, without a machine file
  cargo xtask check configs/two-guests.toml          show the machine without running it
  cargo xtask test                                   everything that must be green
  cargo xtask doctor                                 what is missing, and how it will be got

Exit status: 0 all well; 1 something failed, and it was named; 2 the command line or a config file was refused.
Environment: XDV_QEMU (the emulator to use), XDV_CACHE (where downloads are kept),
CI=true (never ask), NO_COLOR (no colours).")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Never ask: install what is missing through the system's package manager (also: CI=true, or being root).
    #[arg(long, short = 'y', global = true)]
    pub yes: bool,
}

/// A whole command line of the kind that was begun, when it lacks something.
pub fn example(error: &clap::Error) -> Option<&'static str> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return None;
    }
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else {
        return None;
    };
    let usage = usage.to_string();
    let examples = [
        (" run ", "cargo xtask run configs/two-guests.toml"),
        (" check ", "cargo xtask check configs/two-guests.toml"),
        (
            " virtio-matrix ",
            "cargo xtask virtio-matrix --kernel my-kernel.elf",
        ),
        (" ctl ", "cargo xtask ctl list"),
    ];
    let mut examples = examples.into_iter();
    examples
        .find(|(word, _)| usage.contains(word))
        .map(|(_, example)| example)
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build everything, boot the machine that CONFIG describes, or a machine for one kernel, in QEMU and show its console.
    #[command(after_help = "Examples:
  cargo xtask run configs/two-guests.toml
  cargo xtask run configs/two-guests.toml --smp 8 --cpu cortex-a57
  cargo xtask run configs/two-guests.toml --headless --timeout 60 --log run.log
  cargo xtask run configs/linux.toml                 Debian's kernel, and a shell in it
  echo poweroff | cargo xtask run configs/linux.toml
  cargo xtask run configs/one-guest.toml --qemu 10 -- -d int -D qemu.log
  cargo xtask run --kernel my-kernel.elf --memory 32M --lanes 2 --cmdline 'verbose=1'
  cargo xtask run --kernel my-kernel.elf --gdb       wait for a debugger

On a terminal every key goes to the attached guest, Ctrl-C among them; Ctrl-] opens the hypervisor's
prompt, and Ctrl-] Ctrl-D ends the run. Lines piped in are typed one by one, each when a guest waits
at a prompt (or nothing was said for 5 s). `cargo xtask ctl` commands the run from elsewhere.

Where a guest stopped is shown with the names of its functions: those of an ELF kernel, those that a Linux
Image carries of itself, or those of the file that `symbols = \"System.map\"` names in CONFIG.

Exit status 0 when every guest ended well; otherwise 1, and the guest and its reason are named. With
--kernel it is the kernel's own exit code, and at most 255.

As a Cargo runner, in .cargo/config.toml of a kernel's own repository:
  [target.aarch64-unknown-none]
  runner = [\"/path/to/xdv/target/debug/xtask\", \"run\", \"--kernel\"]")]
    Run(Box<RunArgs>),

    /// Run a machine again and again, each time with other virtio features and queue sizes, and show what worked.
    #[command(after_help = "Examples:
  cargo xtask virtio-matrix --kernel my-kernel.elf
  cargo xtask virtio-matrix --kernel my-kernel.elf --queue-sizes 256,8 --timeout 5
  cargo xtask virtio-matrix configs/two-drivers.toml --json > matrix.json

Split and packed rings, with and without indirect descriptors, event indices and in-order use, for each
queue size: what the devices offer, of which a driver accepts what it knows. A kernel without --disk and
--net has an empty disk in memory, a network card and random numbers. What a driver does against the
specification is counted. Every option of `run` may be given.

Exit status 0 when all guests ended well every time; otherwise 1.")]
    VirtioMatrix(Box<MatrixArgs>),

    /// Build the hypervisor and the guests; with CONFIG, leave an Image and a bundle.cpio that any loader of arm64 Linux boots.
    #[command(after_help = "Examples:
  cargo xtask build                                  compile EL2 and the guest kernel
  cargo xtask build configs/two-guests.toml          target/xdv/two-guests/{Image,bundle.cpio}
  cargo xtask build configs/two-guests.toml --debug")]
    Build(BuildArgs),

    /// Everything that must be green: host tests, lints, formatting, the laws, the end-to-end tests in QEMU, and the
    /// figures of `bench` against their limits and the committed baseline.
    #[command(after_help = "Examples:
  cargo xtask test                                   all of it
  cargo xtask test --host                            only what needs no QEMU
  cargo xtask test --qemu-only isolation             only the end-to-end tests whose name contains `isolation`")]
    Test(TestArgs),

    /// Send a command to the hypervisor of a run, and show its answer.
    #[command(after_help = "Examples:
  cargo xtask ctl list                               the guests of the last run and what they are doing
  cargo xtask ctl stop alpha beta                    end two guests
  cargo xtask ctl balloon alpha 64M                  ask a guest with a balloon for 64 MiB of its memory
  cargo xtask ctl --socket /tmp/machine restart alpha

Exit status 0 when the hypervisor did what was asked; otherwise 1, and its reason is shown.")]
    Ctl(CtlArgs),

    /// Judge CONFIG and show the resulting machine as a table and a memory map. Only the kernels it names are built.
    #[command(after_help = "Examples:
  cargo xtask check configs/two-guests.toml
  cargo xtask check configs/two-guests.toml --smp 2  would it fit a machine with two CPUs?")]
    Check(CheckArgs),

    /// Count the instructions a VM exit costs and set them beside the peers' figures and the limits.
    #[command(after_help = "Examples:
  cargo xtask bench
  cargo xtask bench --json > figures.json
  cargo xtask bench --update-baseline                accept today's figures as the new baseline

Beside the instructions of an operation: the accesses to system registers, the barriers, and the
operations on TLBs and caches that the hypervisor executes in it.

The rows `linux_to_init` boot Debian's kernel, which is fetched when it is not in the cache; where
it cannot be had, they are left out, and the bench says so.

Fails when a figure passes its limit or grows by more than 2 % over the committed baseline.")]
    Bench(BenchArgs),

    /// Say what is missing on this machine and how it will be got.
    Doctor(DoctorArgs),

    /// Check the laws of the architecture: dependencies, unsafe code, sizes, configs without a test.
    Tidy,

    /// Run the pure crates' tests with every line counted; fails where fewer than 85 % of a crate's lines are run.
    Coverage,

    /// Feed TARGET with bytes that a fuzzer makes up, and go on from where the last run stopped.
    #[command(after_help = "Examples:
  cargo xtask fuzz ring-split --minutes 30
  cargo xtask fuzz --all                             a minute for each target
  cargo xtask fuzz ring-split --input FILE           one input again

What a run has learnt is kept in the cache, and the runs of all times are counted. Needs a C++ compiler.")]
    Fuzz(FuzzArgs),

    /// Exactly what continuous integration runs: `test`, with the emulator that XDV_QEMU names, if it names one.
    Ci,
}

/// Which profile the bare-metal crates are built with.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ProfileArgs {
    /// Build without optimisation and with every check (the default is release).
    #[arg(long, conflicts_with = "release")]
    pub debug: bool,
    /// Build optimised; this is the default.
    #[arg(long)]
    pub release: bool,
}

/// Which emulator to run.
#[derive(Debug, Clone, Default, Args)]
pub struct QemuArgs {
    /// The emulator: a path, or `10` for QEMU 10.x, fetched into the cache when the system has none.
    #[arg(long, value_name = "PATH|10", env = "XDV_QEMU", hide_env_values = true)]
    pub qemu: Option<String>,
}

/// Reads an amount of memory as QEMU does (a number without a unit counts MiB), in bytes.
fn memory_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (text.get(..at), 1 << 10),
        Some((at, 'M' | 'm')) => (text.get(..at), 1 << 20),
        Some((at, 'G' | 'g')) => (text.get(..at), 1 << 30),
        _ => (Some(text), 1u64 << 20),
    };
    let bytes = digits
        .filter(|digits| digits.chars().all(|c| c.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u64>().ok())
        .ok_or("write a whole number and K, M or G, such as 512M")?
        .checked_mul(unit)
        .ok_or("this is more than any machine has")?;
    if bytes == 0 || !bytes.is_multiple_of(1 << 20) {
        return Err("a machine's memory comes in whole MiB, and is not zero".to_owned());
    }
    Ok(bytes)
}

/// What can be traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Traced {
    /// Stores to the registers of virtio devices, and what is taken from queues and given back.
    Virtio,
}

/// How closely guests' drivers are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Linted {
    /// What breaks the specification and can do harm here.
    Errors,
    /// Also what does no harm with these devices, and may with others.
    Strict,
}

/// The arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The machine file; with --kernel, words for the kernel's command line.
    #[arg(value_name = "CONFIG", required_unless_present = "kernel")]
    pub words: Vec<OsString>,
    /// A machine without a machine file.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// With nobody at the keyboard: plain output and no input, and Debian guests test themselves and power off.
    #[arg(long)]
    pub headless: bool,
    /// Take commands at this Unix socket; default: one that `cargo xtask ctl` finds by itself.
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// Let the hypervisor stop everything and report after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub timeout: Option<u32>,
    /// The emulated CPU.
    #[arg(long, default_value = "max")]
    pub cpu: String,
    /// How many CPUs the machine has; default: as the file states, else the smallest machine that fits.
    #[arg(long, value_name = "N")]
    pub smp: Option<u32>,
    /// Memory of the machine (`512M`, `2G`), with --kernel of the guest; default: as the file states, else the smallest
    /// machine that fits; 64M for a guest.
    #[arg(long, short = 'm', value_name = "SIZE", value_parser = memory_size)]
    pub memory: Option<u64>,
    /// Let the machine wait for a debugger at this port, and say what to type there.
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "1234",
        value_parser = clap::value_parser!(u16).range(1..))]
    pub gdb: Option<u16>,
    /// Say everything that guests' drivers and devices do: with `virtio`, each operation on a queue.
    #[arg(long, value_name = "WHAT")]
    pub trace: Vec<Traced>,
    /// Say what guests' drivers do against virtio's specification, in machine files `[guest.lint]`.
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "errors")]
    pub lint: Option<Linted>,
    /// Count instructions instead of time: the same run again and again.
    #[arg(long)]
    pub icount: bool,
    /// Give the machine a disk with what is in FILE, raw; each time it is said another one: `machine = 0` is the first.
    #[arg(long = "disk", value_name = "FILE")]
    pub disks: Vec<PathBuf>,
    /// The network that the machine's card is on, as QEMU's `-netdev` names it, or `none`; default: `user` where a network
    /// of the machine file has the uplink. With --kernel the guest is on it, and has each --disk.
    #[arg(long, value_name = "NETDEV")]
    pub net: Option<String>,
    /// Also write the console, without colours, to FILE.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Which emulator.
    #[command(flatten)]
    pub qemu: QemuArgs,
    /// Which profile.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Passed on to QEMU as they are.
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    pub extra: Vec<String>,
}

/// What the hypervisor can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Verb {
    /// The guests, and what each is doing.
    List,
    /// Give the keyboard to a guest.
    Attach,
    /// End guests at once.
    Stop,
    /// Start guests that have ended.
    Start,
    /// End guests and start them anew.
    Restart,
    /// Let guests stand still.
    Pause,
    /// Let them go on.
    Resume,
    /// Exits by reason and time by lane.
    Stats,
    /// Ask a guest's balloon for memory (`64M`; 0: none); without a size, what it has given, and says of its memory.
    Balloon,
}

/// The arguments of `ctl`.
#[derive(Debug, Args)]
pub struct CtlArgs {
    /// Where the run listens; default: where the last one does.
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<PathBuf>,
    /// What to do.
    pub verb: Verb,
    /// The guests to do it to; `balloon` has one guest, and perhaps a size.
    #[arg(value_name = "NAME", required_if_eq_any([
        ("verb", "attach"), ("verb", "stop"), ("verb", "start"),
        ("verb", "restart"), ("verb", "pause"), ("verb", "resume"),
        ("verb", "balloon"),
    ]))]
    pub names: Vec<String>,
}

impl CtlArgs {
    /// The commands for the hypervisor, one for each guest; all words are one where the second is a size.
    pub fn commands(&self) -> Vec<String> {
        use clap::ValueEnum;
        let verb = self.verb.to_possible_value();
        let verb = verb.as_ref().map_or("", |value| value.get_name());
        if self.names.is_empty() {
            return vec![verb.to_owned()];
        }
        if self.verb == Verb::Balloon {
            return vec![format!("{verb} {}", self.names.join(" "))];
        }
        let command = |name| format!("{verb} {name}");
        self.names.iter().map(command).collect()
    }
}

/// The arguments of `build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The machine file to make a bundle of.
    pub config: Option<PathBuf>,
    /// Let the hypervisor stop everything and report after so many seconds (goes into the plan).
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub timeout: Option<u32>,
    /// Which profile.
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// The arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The machine file.
    pub config: PathBuf,
    /// Judge it for a machine with so many CPUs.
    #[arg(long, value_name = "N")]
    pub smp: Option<u32>,
    /// Judge it for a machine with so much memory (`512M`, `2G`).
    #[arg(long, short = 'm', value_name = "SIZE", value_parser = memory_size)]
    pub memory: Option<u64>,
}

/// The arguments of `test`.
#[derive(Debug, Default, Args)]
pub struct TestArgs {
    /// Only what runs on the host: tests, lints, formatting, laws.
    #[arg(long, conflicts_with = "qemu_only")]
    pub host: bool,
    /// Only the end-to-end tests in QEMU.
    #[arg(long)]
    pub qemu_only: bool,
    /// Only tests whose name contains this.
    pub filter: Option<String>,
    /// Which emulator the end-to-end tests use.
    #[command(flatten)]
    pub qemu: QemuArgs,
}

/// The arguments of `bench`.
#[derive(Debug, Default, Args)]
pub struct BenchArgs {
    /// Print figures as JSON on standard output.
    #[arg(long)]
    pub json: bool,
    /// Accept the figures as the new baseline.
    #[arg(long)]
    pub update_baseline: bool,
    /// Which emulator; default: QEMU 10.x, fetched when absent.
    #[command(flatten)]
    pub qemu: QemuArgs,
}

/// The arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Get what is missing, too.
    #[arg(long)]
    pub fix: bool,
    /// Which emulator to look at.
    #[command(flatten)]
    pub qemu: QemuArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_qemu_reads_it() {
        for (text, mib) in [("512M", 512), ("2G", 2048), ("2048k", 2), ("256", 256)] {
            assert_eq!(memory_size(text), Ok(mib << 20), "{text}");
        }
        for text in [
            "",
            "M",
            "0",
            "1K",
            "+1M",
            "1.5G",
            "64MB",
            "99999999999999999999",
            "18446744073709551615G",
            "６４M",
        ] {
            assert!(memory_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn who_leaves_something_out_is_shown_a_whole_command() {
        let example = |words: &[&str]| {
            let words = ["xtask"].iter().chain(words);
            example(&Cli::try_parse_from(words).unwrap_err())
        };
        assert_eq!(
            example(&["run"]),
            Some("cargo xtask run configs/two-guests.toml")
        );
        assert_eq!(
            example(&["run", "--headless"]),
            Some("cargo xtask run configs/two-guests.toml")
        );
        assert_eq!(
            example(&["check"]),
            Some("cargo xtask check configs/two-guests.toml")
        );
        assert_eq!(example(&["ctl"]), Some("cargo xtask ctl list"));
        assert_eq!(example(&["run", "a.toml", "--nonsense"]), None);
    }

    #[test]
    fn a_command_for_the_hypervisor_is_made_for_each_guest() {
        let commands = |words: &[&str]| {
            let words = ["xtask", "ctl"].iter().chain(words);
            let Command::Ctl(args) = Cli::try_parse_from(words).ok()?.command else {
                return None;
            };
            Some(args.commands())
        };
        let is = |list: &[&str]| Some(list.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(commands(&["list"]), is(&["list"]));
        assert_eq!(commands(&["stop", "a", "b"]), is(&["stop a", "stop b"]));
        assert_eq!(commands(&["stats", "a"]), is(&["stats a"]));
        assert_eq!(commands(&["balloon", "a", "64M"]), is(&["balloon a 64M"]));
        assert_eq!(commands(&["balloon"]), None);
        assert_eq!(commands(&["stop"]), None);
        assert_eq!(commands(&["explode"]), None);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["xtask", "check", "a.toml", "-m", "1G", "--smp", "9"]);
        let Ok(Command::Check(args)) = cli.map(|cli| cli.command) else {
            panic!("it is a `check`");
        };
        assert_eq!((args.memory, args.smp), (Some(1 << 30), Some(9)));
    }
}
