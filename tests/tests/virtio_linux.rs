//! Disks, networks and what else virtio brings, as an unmodified Linux uses them: what the initramfs `debian-io` tests.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};
use tests::machine::{GRACE, Machine, root, run, scratch, target, xtask};
use tests::transcript::Transcript;
use tests::{archive, matrix};

const PAIR: &str = "configs/linux-net-disk.toml";
const DISK: &str = "tests/configs/virtio-linux-disk.toml";
const VSOCK: &str = "tests/configs/virtio-linux-vsock.toml";
const KERNELS: &str = "tests/configs/virtio-linux-kernels.toml";
const FAULTS: &str = "tests/configs/virtio-linux-faults.toml";
const VERIFY: &str = "tests/configs/virtio-linux-verify.toml";
const FAULTY: &str = "tests/configs/virtio-linux-faulty-disks.toml";

/// Machine files so far, for their names.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A machine file with other tests on its guests' command lines.
fn with_tests(config: &str, tests: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
    let mut text = fs::read_to_string(root().join(config))?;
    for (old, new) in tests {
        ensure!(text.contains(old), "{config} has no `{old}`");
        text = text.replace(old, new);
    }
    let stem = Path::new(config).file_stem().context("no name")?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{}-{number}.toml", stem.display(), std::process::id());
    let path = scratch()?.join(name);
    fs::write(&path, text)?;
    Ok(path)
}

fn machine(path: &Path) -> anyhow::Result<Machine> {
    let path = path.to_str().context("a path that is no text")?;
    Ok(Machine::of(path).seconds(600))
}

/// Each guest passed its tests. The figures are for a person to read.
fn passed(transcript: &Transcript, guests: &[&str]) -> anyhow::Result<()> {
    transcript.no_panic()?;
    ensure!(
        !transcript.text().contains(": lint "),
        "a driver of Linux is complained about:\n{}",
        transcript.text()
    );
    for guest in guests {
        for line in transcript.lines_of(guest) {
            if line.starts_with("io: ") {
                println!("{guest}: {line}");
            }
        }
        ensure!(
            transcript
                .lines_of(guest)
                .any(|line| line == "selftest: ok"),
            "{guest} does not say that its tests passed:\n{}",
            transcript.text()
        );
        transcript.well(guest)?;
    }
    transcript.has("xdv | all guests ended")?;
    transcript.ended(0)
}

fn says(transcript: &Transcript, guest: &str, words: &str, times: usize) -> anyhow::Result<()> {
    let lines = transcript.lines_of(guest);
    let seen = lines.filter(|line| line.contains(words)).count();
    ensure!(
        seen == times,
        "{guest} says `{words}` {seen} times and not {times}:\n{}",
        transcript.text()
    );
    Ok(())
}

/// What a Linux makes of a disk in memory: blocks and a file of an ext4 are as models have them. Its console is a virtio
/// device, and so are its random numbers.
#[test]
fn blocks_and_files_are_as_models_have_them() -> anyhow::Result<()> {
    let transcript = machine(&root().join(DISK))?.run()?;
    passed(&transcript, &["linux"])?;
    says(&transcript, "linux", "io: fsck: clean", 1)?;
    says(&transcript, "linux", "io: entropy: 64 KiB", 1)?;
    says(&transcript, "linux", "as the model has it", 2)
}

/// On a disk of the machine's own an ext4 outlives the machine: what one run made another finds.
#[test]
#[ignore = "takes half a minute"]
fn an_ext4_on_the_machine_s_own_disk_outlives_the_machine() -> anyhow::Result<()> {
    let own = [
        ("size = \"32M\"", "machine = 0"),
        ("entropy+verify:2+fsx:2", "disk"),
    ];
    let path = with_tests(DISK, &own)?;
    let image = scratch()?.join(format!("virtio-linux-own-{}", std::process::id()));
    fs::File::create(&image)?.set_len(32 << 20)?;
    // Each life but the one that made it looks at it: two of the first run, and the only one of the second.
    for lives in [2, 1] {
        let transcript = machine(&path)?.disk(&image).run()?;
        passed(&transcript, &["linux"])?;
        says(&transcript, "linux", "io: fsck: clean", lives)?;
        says(
            &transcript,
            "linux",
            "files of the first life: equal",
            lives,
        )?;
    }
    let start = fs::read(&image)?;
    ensure!(
        start.get(1080..1082) == Some(&[0x53, 0xef]),
        "no ext4 is there"
    );
    fs::remove_file(image)?;
    Ok(())
}

/// A server of streams on the host's loopback, for as long as it is held.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .current_dir(root())
            .args(["build", "-q", "-p", "tests-linux"]);
        let (status, text) = run(&mut build, "probe-build", GRACE)?;
        ensure!(status == Some(0), "building failed:\n{text}");
        let mut child = Command::new(target().join("debug/probe"))
            .args(["serve", "0"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let port = line.trim().rsplit(' ').next().unwrap_or_default();
        let port = port.parse().with_context(|| format!("no port: {line}"))?;
        Ok(Self { child, port })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two of them on one network, each with a disk: an ext4 outlives two reboots in place, the second without unmounting; each
/// reaches a server of the host, and the other.
#[test]
fn two_guests_with_disks_meet_on_a_network_and_reach_the_host() -> anyhow::Result<()> {
    let server = Server::start()?;
    let mut changes = Vec::new();
    for me in ["10.0.2.15", "10.0.2.16"] {
        let tests = format!("disk+net:{me}");
        let more = format!("disk+uplink:{me}:10.0.2.2:{}+net:{me}", server.port);
        changes.push((tests, more));
    }
    let changes: Vec<(&str, &str)> = changes
        .iter()
        .map(|(old, new)| (old.as_str(), new.as_str()))
        .collect();
    let transcript = machine(&with_tests(PAIR, &changes)?)?.run()?;
    passed(&transcript, &["left", "right"])?;
    for guest in ["left", "right"] {
        says(&transcript, guest, "io: fsck: clean", 2)?;
        says(&transcript, guest, "files of the first life: equal", 2)?;
        says(&transcript, guest, "files of the second life: equal", 1)?;
        says(&transcript, guest, "every byte right", 2)?;
        says(&transcript, guest, "of 1000 lost", 1)?;
    }
    says(&transcript, "left", "io: iperf3", 6)
}

/// Sockets between two guests that name each other, and to the host's echo.
#[test]
fn two_guests_talk_by_sockets() -> anyhow::Result<()> {
    let transcript = machine(&root().join(VSOCK))?.run()?;
    passed(&transcript, &["left", "right"])?;
    says(&transcript, "left", "every byte right", 2)?;
    says(&transcript, "right", "every byte right", 2)
}

/// Each of Debian's kernels has a driver for a device of each kind, and gives the lint nothing to say.
#[test]
#[ignore = "takes a minute"]
fn every_kernel_has_drivers_for_all_devices() -> anyhow::Result<()> {
    for kernel in ["debian", "debian-generic", "debian-16k"] {
        let name = format!("kernel = \"{kernel}\"");
        let path = with_tests(KERNELS, &[("kernel = \"debian\"", &name)])?;
        let transcript = machine(&path)?.run()?;
        passed(&transcript, &["linux"]).context(kernel)?;
        says(
            &transcript,
            "linux",
            "virtio devices without a driver: none",
            1,
        )?;
        says(&transcript, "linux", "modules not loaded: none", 1)?;
    }
    Ok(())
}

/// The disk on every CPU model and emulator that is promised.
#[test]
#[ignore = "takes many minutes"]
fn disks_on_every_cpu_and_emulator() -> anyhow::Result<()> {
    for qemu in matrix::emulators() {
        for cpu in matrix::MODELS {
            let machine = machine(&root().join(DISK))?.cpu(cpu);
            let name = format!("{cpu}, {}", qemu.as_deref().unwrap_or("the system's QEMU"));
            let transcript = machine.qemu(qemu.as_deref()).run().context(name.clone())?;
            passed(&transcript, &["linux"]).context(name)?;
        }
    }
    Ok(())
}

/// Devices that fail now and then, the same way each time: what is asked for again comes right, and nothing is corrupted.
#[test]
#[ignore = "takes a minute"]
fn faults_are_answered_by_asking_again_and_corrupt_nothing() -> anyhow::Result<()> {
    let seconds = env::var("XDV_IO").unwrap_or_else(|_| "10".to_owned());
    let path = with_tests(FAULTS, &[("verify:10", &format!("verify:{seconds}"))])?;
    let seconds: u64 = seconds.parse().context("XDV_IO is a number of seconds")?;
    let transcript = machine(&path)?.seconds(2 * seconds + 240).run()?;
    passed(&transcript, &["left", "right"])?;
    says(&transcript, "left", " 0 errors answered by asking again", 0)?;
    says(&transcript, "left", "as the model has it", 1)?;
    says(&transcript, "left", "every byte right", 1)
}

/// Ten minutes of each, or `XDV_IO` seconds: blocks against a model, fio's verification, and files against a model.
#[test]
#[ignore = "takes half an hour"]
fn disks_are_verified_for_as_long_as_is_asked() -> anyhow::Result<()> {
    let seconds = env::var("XDV_IO").unwrap_or_else(|_| "600".to_owned());
    let words = format!("verify:{seconds}+fio:{seconds}+fsx:{seconds}");
    let path = with_tests(VERIFY, &[("verify:10", &words)])?;
    let seconds: u64 = seconds.parse().context("XDV_IO is a number of seconds")?;
    let transcript = machine(&path)?.seconds(4 * seconds + 240).run()?;
    passed(&transcript, &["linux"])?;
    says(&transcript, "linux", "as the model has it", 2)?;
    says(&transcript, "linux", "MiB written, 0 errors", 2)
}

/// The same at once, on disks that fail, are late and mix up the order: ten minutes, or `XDV_IO` seconds.
#[test]
#[ignore = "takes ten minutes"]
fn disks_that_fail_are_verified_for_as_long_as_is_asked() -> anyhow::Result<()> {
    let seconds = env::var("XDV_IO").unwrap_or_else(|_| "600".to_owned());
    let tests = ["verify", "fio", "fsx"].map(|test| {
        let old = format!("{test}:10");
        (old, format!("{test}:{seconds}"))
    });
    let tests = tests
        .each_ref()
        .map(|(old, new)| (old.as_str(), new.as_str()));
    let path = with_tests(FAULTY, &tests)?;
    let seconds: u64 = seconds.parse().context("XDV_IO is a number of seconds")?;
    let transcript = machine(&path)?.seconds(3 * seconds + 400).run()?;
    passed(&transcript, &["blocks", "fio", "files"])?;
    says(
        &transcript,
        "blocks",
        " 0 errors answered by asking again",
        0,
    )?;
    says(&transcript, "blocks", "as the model has it", 1)?;
    says(&transcript, "fio", "MiB written, 0 errors", 2)?;
    says(&transcript, "files", "as the model has it", 1)
}

/// The tests are no tests if they pass without a device.
#[test]
fn a_test_of_a_device_that_is_not_there_fails() -> anyhow::Result<()> {
    let path = with_tests(
        DISK,
        &[
            ("xdv.io=", "xdv.io=devices:net+entropy+nonsense "),
            ("rng = true", "rng = false"),
        ],
    )?;
    let transcript = machine(&path)?.run()?;
    transcript.no_panic()?;
    transcript.well("linux")?;
    transcript.has("error: guest linux: self-test: FAILED: no net with a driver; ")?;
    transcript.has("there is no test nonsense")?;
    transcript.ended(1)
}

/// The same guest without a hypervisor, on QEMU's devices: what the tests say there is what they can be compared with.
#[test]
#[ignore = "says nothing of us"]
fn qemu_s_own_devices_pass_the_tests() -> anyhow::Result<()> {
    let tests = "devices:block:net:rng:console:balloon+disk+entropy+verify:5+fsx:5+latency";
    let mut build = xtask();
    build.arg("build").arg(root().join(DISK));
    let (status, text) = run(&mut build, "virtio-build", GRACE)?;
    ensure!(status == Some(0), "building failed:\n{text}");
    let bundle = fs::read(target().join("xdv/virtio-linux-disk/bundle.cpio"))?;
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
    let (_, text) = run(&mut qemu, "virtio-bare", GRACE)?;
    println!("{text}");
    ensure!(text.lines().any(|line| line == "selftest: ok"), "{text}");
    Ok(())
}
