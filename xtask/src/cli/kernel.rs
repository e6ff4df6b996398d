//! What may be typed instead of a machine file.

use std::path::PathBuf;

use clap::Args;

/// A machine of one guest, as `run --kernel` describes it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Without a machine file")]
pub struct KernelArgs {
    /// Run this kernel in a machine of its own: a file in any format that a machine file may name, or a built-in one. Its
    /// console is a serial port; that of Debian's kernels a virtio device.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Its virtual CPUs; default 1.
    #[arg(long, value_name = "N", requires = "kernel")]
    pub lanes: Option<u32>,
    /// Its command line, before the words that follow FILE.
    #[arg(long, value_name = "WORDS", requires = "kernel")]
    pub cmdline: Option<String>,
    /// Its initrd.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// Only print the machine file that all this amounts to, to go on from.
    #[arg(long, requires = "kernel")]
    pub print_config: bool,
}
