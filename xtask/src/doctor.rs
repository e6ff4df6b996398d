//! stub
use crate::project::Project;
pub fn doctor(_: &Project, _: &crate::cli::DoctorArgs) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("stub")
}
