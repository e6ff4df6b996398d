//! stub
use crate::project::Project;
pub fn tidy(_: &Project) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("stub")
}
