//! stub
use crate::project::Project;
pub fn bench(_: &Project, _: &crate::cli::BenchArgs) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("stub")
}
