//! Debian's own arm64 kernel and a busybox to greet from: what `kernel = "debian"` and `initrd = "debian-hello"` mean.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use flate2::read::GzDecoder;

use crate::apt::{self, Apt, For};
use crate::files::{self, Hold};
use crate::initramfs::Initramfs;
use crate::project::Project;

/// The package that always depends on the newest kernel made for virtual machines.
const KERNEL: &str = "linux-image-cloud-arm64";
/// A busybox that needs no library.
const BUSYBOX: &str = "busybox-static";
/// What tells an initramfs of this program from one that an older version of it made.
const INIT: &str = include_str!("debian/init.sh");

/// The two files.
#[derive(Debug, Clone)]
pub struct Debian {
    /// An uncompressed arm64 `Image`.
    pub kernel: PathBuf,
    /// The initramfs that greets and powers off.
    pub initrd: PathBuf,
}

impl Debian {
    /// The files, from the cache or fetched.
    pub fn ensure(project: &Project) -> anyhow::Result<Self> {
        let folder = project.cache.join("debian-arm64");
        let debian = Self {
            kernel: folder.join("Image"),
            initrd: folder.join("hello.cpio"),
        };
        // Two runs side by side must not fetch into one folder.
        let _held = Hold::on(&project.cache)?;
        if !debian.kernel.is_file() || !folder.join("busybox").is_file() {
            fetch(project, &folder).with_context(|| {
                format!(
                    "Debian's arm64 kernel cannot be fetched here; put an arm64 Linux Image at {} and a static arm64 busybox at {}",
                    debian.kernel.display(),
                    folder.join("busybox").display()
                )
            })?;
        }
        // Cheap, so always made anew: an older checkout may have left another greeting.
        let greeting = hello(&fs::read(folder.join("busybox"))?)?;
        files::write_whole(&debian.initrd, &greeting)?;
        Ok(debian)
    }

    /// Whether the files are in the cache.
    pub fn is_cached(project: &Project) -> bool {
        let folder = project.cache.join("debian-arm64");
        folder.join("Image").is_file() && folder.join("busybox").is_file()
    }
}

fn fetch(project: &Project, folder: &Path) -> anyhow::Result<()> {
    let apt = Apt::set_up(project, &project.cache.join("apt-arm64"), For::Arm64Guest)?;
    let real = apt
        .depends(KERNEL)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"));
    let real = real.with_context(|| format!("{KERNEL} names no kernel"))?;
    let debs = apt.download(&[&format!("{real}:arm64"), &format!("{BUSYBOX}:arm64")])?;
    let unpacked = folder.join("unpacked");
    let _ = fs::remove_dir_all(&unpacked);
    apt::unpack(&debs, &unpacked)?;
    let kernel = first_file(&unpacked.join("boot"), "vmlinuz-")?;
    let busybox = ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| unpacked.join(path))
        .find(|path| path.is_file());
    let busybox = busybox.with_context(|| format!("{BUSYBOX} holds no busybox"))?;
    fs::copy(busybox, folder.join("busybox"))?;
    fs::write(folder.join("version"), &real)?;
    let part = folder.join("Image.part");
    fs::write(&part, plain_image(&fs::read(&kernel)?)?)?;
    fs::rename(part, folder.join("Image"))?;
    let _ = fs::remove_dir_all(&unpacked);
    Ok(())
}

fn first_file(folder: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(folder).with_context(|| format!("{} is missing", folder.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("no {prefix}* in {}", folder.display())
}

/// Unpacks a gzip'd kernel; Debian has shipped arm64 kernels both ways.
fn plain_image(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut image = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(bytes)
            .read_to_end(&mut image)
            .context("the kernel's gzip is broken")?;
    } else {
        image.extend_from_slice(bytes);
    }
    if image.get(56..60) != Some(b"ARM\x64") {
        bail!("the kernel is not an arm64 Image");
    }
    Ok(image)
}

/// The initramfs: busybox and an `/init` that says what it sees and powers off.
fn hello(busybox: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Initramfs::default();
    for folder in ["bin", "dev", "proc", "sys"] {
        archive.folder(folder)?;
    }
    archive
        .device("dev/console", 5, 1)?
        .program("bin/busybox", busybox)?
        .link("bin/sh", "busybox")?
        .program("init", INIT.as_bytes())?;
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn plain_and_gzipped_kernels_come_out_the_same() {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&image()).unwrap();
        assert_eq!(plain_image(&packed.finish().unwrap()).unwrap(), image());
        assert_eq!(plain_image(&image()).unwrap(), image());
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(plain_image(b"#!/bin/sh").is_err());
        assert!(plain_image(&[0x1f, 0x8b, 0, 0]).is_err());
    }

    #[test]
    fn the_greeting_powers_off() {
        assert!(INIT.starts_with("#!/bin/busybox sh\n"));
        assert!(INIT.contains("poweroff -f"));
        assert!(hello(b"x").unwrap().starts_with(b"070701"));
    }
}
