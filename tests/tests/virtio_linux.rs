//! Disks, networks and what else virtio brings, as an unmodified Linux uses them: what the initramfs `debian-io` tests.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::machine::{Machine, run, scratch, target, xtask};
use tests::{archive, transcript::Transcript};

/// A machine file with one guest that does these tests.
fn config(name: &str, tests: &str, rest: &str) -> anyhow::Result<PathBuf> {
    let path = scratch()?.join(format!("virtio-linux-{name}.toml"));
    let text = format!(
        "[[guest]]\nname = \"linux\"\nkernel = \"debian\"\ninitrd = \"debian-io\"\nmemory = \"256M\"\nlanes = 2\ncmdline = \"console=ttyAMA0 xdv.io={tests}\"\n{rest}"
    );
    fs::write(&path, text)?;
    Ok(path)
}

fn machine(path: &Path) -> anyhow::Result<Machine> {
    let path = path.to_str().context("a path that is no text")?;
    Ok(Machine::of(path).seconds(180))
}

/// The tests are no tests if they pass without a device.
#[test]
fn a_test_of_a_device_that_is_not_there_fails() -> anyhow::Result<()> {
    let path = config("absent", "devices:block:net+disk+entropy", "")?;
    let transcript: Transcript = machine(&path)?.run()?;
    transcript.no_panic()?;
    transcript.well("linux")?;
    transcript.has("error: guest linux: self-test: FAILED: no block with a driver; no net with a driver; there is no /dev/vda; ")?;
    transcript.ended(1)
}

/// The same guest without a hypervisor, on QEMU's devices: what the tests say there is what they can be compared with.
#[test]
#[ignore = "says nothing of us"]
fn qemu_s_own_devices_pass_the_tests() -> anyhow::Result<()> {
    let tests = "devices:block:net:rng:console:balloon+disk+entropy+verify:5+fsx:5+latency";
    let path = config("bare", tests, "")?;
    let mut build = xtask();
    build.arg("build").arg(&path);
    let (status, text) = run(&mut build, "virtio-build", Duration::from_secs(240))?;
    ensure!(status == Some(0), "building failed:\n{text}");
    let bundle = fs::read(target().join("xdv/virtio-linux-bare/bundle.cpio"))?;
    let mut files = Vec::new();
    for name in ["kernel", "initrd"] {
        let bytes = archive::entry(&bundle, &format!("linux/{name}"))
            .with_context(|| format!("the bundle has no {name}"))?;
        let file = scratch()?.join(format!("virtio-linux-{name}"));
        fs::write(&file, bytes)?;
        files.push(file);
    }
    let disk = scratch()?.join("virtio-linux-disk");
    fs::File::create(&disk)?.set_len(64 << 20)?;
    let program = env::var("XDV_QEMU").unwrap_or_else(|_| "qemu-system-aarch64".to_owned());
    let mut qemu = Command::new(program);
    let words = "-M virt,gic-version=3 -cpu max,pauth-impdef=on -smp 2 -m 256 -display none -monitor none -nic none -global virtio-mmio.force-legacy=false -serial null -chardev stdio,id=out -device virtio-serial-device -device virtconsole,chardev=out -device virtio-rng-device -device virtio-balloon-device -netdev user,id=net -device virtio-net-device,netdev=net -device virtio-blk-device,drive=disk";
    qemu.args(words.split(' ')).arg("-drive").arg(format!(
        "if=none,id=disk,format=raw,file={}",
        disk.display()
    ));
    for (option, file) in ["-kernel", "-initrd"].iter().zip(&files) {
        qemu.arg(option).arg(file);
    }
    qemu.arg("-append")
        .arg(format!("console=hvc0 quiet xdv.selftest xdv.io={tests}"));
    let (_, text) = run(&mut qemu, "virtio-bare", Duration::from_secs(180))?;
    println!("{text}");
    ensure!(text.lines().any(|line| line == "selftest: ok"), "{text}");
    Ok(())
}
