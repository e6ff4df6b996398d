//! Booted by hand, as any loader of arm64 Linux would: `Image` as the kernel, `bundle.cpio` as the initial RAM disk.
//! The image runs wherever it is put, and EL2 judges again what it is given.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use tests::machine::{self, GRACE, run, scratch, xtask};

/// Where the header of an arm64 `Image` keeps text_offset.
const TEXT_OFFSET: std::ops::Range<usize> = 8..16;

/// What `cargo xtask build` leaves.
struct Files {
    image: Vec<u8>,
    bundle: Vec<u8>,
}

fn build() -> anyhow::Result<Files> {
    let mut command = xtask();
    command.args(["build", "configs/one-guest.toml"]);
    let (status, text) = run(&mut command, "loader-build", GRACE)?;
    ensure!(status == Some(0), "building failed:\n{text}");
    let folder = machine::target().join("xdv/one-guest");
    Ok(Files {
        image: fs::read(folder.join("Image"))?,
        bundle: fs::read(folder.join("bundle.cpio"))?,
    })
}

fn keep(name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let path = scratch()?.join(name);
    fs::write(&path, bytes)?;
    Ok(path)
}

/// Boots an image, with a bundle or without.
fn boot(name: &str, image: &Path, bundle: Option<&Path>) -> anyhow::Result<String> {
    let program = env::var("XDV_QEMU").unwrap_or_else(|_| "qemu-system-aarch64".to_owned());
    let mut qemu = Command::new(program);
    qemu.args([
        "-M",
        "virt,virtualization=on,gic-version=3",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "512M",
    ])
    .args([
        "-nic",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-monitor",
        "none",
    ])
    .arg("-kernel")
    .arg(image);
    if let Some(bundle) = bundle {
        qemu.arg("-initrd").arg(bundle);
    }
    let (status, text) = run(&mut qemu, name, GRACE)?;
    ensure!(
        status == Some(0),
        "the machine did not switch itself off:\n{text}"
    );
    Ok(text)
}

#[test]
fn the_image_runs_at_any_address() -> anyhow::Result<()> {
    let Files { image, bundle } = build()?;
    let bundle = keep("loader-bundle", &bundle)?;
    // QEMU puts an image text_offset above the base of RAM, or a 2 MiB boundary above that where it is zero.
    for (offset, place) in [
        (0u64, "0x40200000"),
        (0x40_0000, "0x40400000"),
        (0x0740_0000, "0x47400000"),
    ] {
        let mut moved = image.clone();
        let field = moved
            .get_mut(TEXT_OFFSET)
            .ok_or_else(|| anyhow::anyhow!("the image has no header"))?;
        field.copy_from_slice(&offset.to_le_bytes());
        let path = keep("loader-image", &moved)?;
        let text = boot("loader-moved", &path, Some(&bundle))?;
        ensure!(
            text.contains(&format!("EL2 at {place}..")),
            "not at {place}:\n{text}"
        );
        ensure!(
            text.contains("xdv | all guests ended"),
            "at {place}:\n{text}"
        );
    }
    Ok(())
}

#[test]
fn without_a_bundle_or_with_a_damaged_one_it_says_why_and_switches_off() -> anyhow::Result<()> {
    let Files { image, bundle } = build()?;
    let image = keep("loader-image-plain", &image)?;
    let text = boot("loader-alone", &image, None)?;
    ensure!(
        text.contains("xdv | refused: there is no boot bundle"),
        "{text}"
    );

    // One bit of the plan: the first file of the archive, behind its 110-byte header and name.
    let mut damaged = bundle.clone();
    let byte = damaged
        .get_mut(160)
        .ok_or_else(|| anyhow::anyhow!("the bundle is too short"))?;
    *byte ^= 1;
    let damaged = keep("loader-damaged", &damaged)?;
    let text = boot("loader-bitflip", &image, Some(&damaged))?;
    ensure!(
        text.contains("xdv | refused: "),
        "a damaged plan was taken:\n{text}"
    );
    ensure!(!text.contains("started"), "{text}");

    let short = keep(
        "loader-short",
        bundle.get(..bundle.len() / 2).unwrap_or_default(),
    )?;
    let text = boot("loader-truncated", &image, Some(&short))?;
    ensure!(
        text.contains("xdv | refused: "),
        "half a bundle was taken:\n{text}"
    );
    Ok(())
}

/// Where the image keeps the vector that a guest's synchronous exceptions take: the table lies at 0x800.
const LOWER_SYNC: std::ops::Range<usize> = 0xC00..0xC04;

#[test]
fn a_fault_of_el2_itself_is_reported_and_ends_the_machine() -> anyhow::Result<()> {
    let Files { image, bundle } = build()?;
    let mut broken = image.clone();
    // UDF #0 in the vector: the first exit of a guest faults inside EL2.
    let vector = broken
        .get_mut(LOWER_SYNC)
        .ok_or_else(|| anyhow::anyhow!("the image has no vectors"))?;
    vector.fill(0);
    let (image, bundle) = (
        keep("loader-udf", &broken)?,
        keep("loader-udf-bundle", &bundle)?,
    );
    let text = boot("loader-fault", &image, Some(&bundle))?;
    for wanted in [
        "xdv | panic: undefined instruction in EL2",
        "xdv |   cpu 0, vm alpha",
        "xdv |   esr 0x02000000",
        "xdv |   backtrace 0xc00",
    ] {
        ensure!(text.contains(wanted), "no `{wanted}` in\n{text}");
    }
    Ok(())
}
