//! The device tree of the machine that QEMU emulates: which devices there are to give to guests.

use std::path::PathBuf;
use std::{fs, process as std_process};

use anyhow::Context;

use super::{MACHINE, Qemu};
use crate::process;
use crate::project::Project;

impl Qemu {
    /// Has QEMU write the device tree of the machine that `run` starts. Its devices are the same however many CPUs and
    /// however much memory that has.
    pub fn device_tree(&self, project: &Project) -> anyhow::Result<PathBuf> {
        let folder = project.target.join("xdv");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let version = &self.version;
        let path = folder.join(format!("virt-{version}.dtb"));
        // Several of us may do this at once: each writes a file of its own, and the last one stays.
        let draft = folder.join(format!("virt-{version}-{}.dtb", std_process::id()));
        let mut command = self.command();
        command
            .arg("-M")
            .arg(format!("{MACHINE},dumpdtb={}", draft.display()))
            .args(["-cpu", "max", "-nographic", "-nodefaults", "-nic", "none"]);
        process::output_of(&mut command)
            .and_then(|_| Ok(fs::rename(&draft, &path)?))
            .context("QEMU does not say which devices its machine has")?;
        Ok(path)
    }
}
