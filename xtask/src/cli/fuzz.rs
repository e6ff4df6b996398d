//! What may be typed after `fuzz`.

use std::path::PathBuf;

use clap::Args;

/// The arguments of `fuzz`.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// The target: a folder of tests/fuzz/corpus.
    #[arg(required_unless_present = "all")]
    pub target: Option<String>,
    /// Every target, one after the other.
    #[arg(long, conflicts_with = "target")]
    pub all: bool,
    /// How long, for each target.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub minutes: u64,
    /// Feed this one input, such as a finding, and nothing else.
    #[arg(long, value_name = "FILE", requires = "target")]
    pub input: Option<PathBuf>,
}
