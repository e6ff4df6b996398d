//! stub
use crate::project::Project;
pub fn test(_: &Project, _: &crate::cli::TestArgs) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("stub")
}
pub fn ci(_: &Project) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("stub")
}
