//! Debian's builds of U-Boot and EDK2, unmodified: from flash to their prompts, and what they store is there after a
//! reset.

use std::fs;

use anyhow::{Context, ensure};
use tests::machine::{GRACE, Machine, run, scratch, target, xtask};
use tests::transcript::Transcript;
use tests::{archive, matrix};

/// Types these lines, each at a prompt. Lines end what counts down to something else; empty ones do nothing else.
fn typed(guest: &str, cpu: &str, qemu: Option<&str>, lines: &[&str]) -> anyhow::Result<Transcript> {
    let config = match guest {
        "u-boot" => "configs/u-boot.toml",
        _ => "configs/edk2.toml",
    };
    let transcript = Machine::of(config)
        .cpu(cpu)
        .qemu(qemu)
        .typed(&lines.concat())
        .seconds(600)
        .run()?;
    transcript.no_panic()?;
    let reset = format!("xdv | guest {guest}: restarting: it asked for a reset");
    transcript.has(&reset)?;
    transcript.well(guest)?;
    transcript.ended(0)?;
    Ok(transcript)
}

/// In how many of the guest's lines these words are, but for colours and places on a screen.
fn count(transcript: &Transcript, guest: &str, words: &str) -> usize {
    let lines = transcript.lines_of(guest).map(plain);
    lines.filter(|line| line.contains(words)).count()
}

/// A line without what EL2 shows a terminal's control sequences as: `\x1b[`, numbers, a letter.
fn plain(line: &str) -> String {
    let mut parts = line.split("\\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic());
        end.and_then(|end| part.get(end + 1..)).unwrap_or_default()
    });
    first + &rest.collect::<String>()
}

fn u_boot(cpu: &str, qemu: Option<&str>) -> anyhow::Result<()> {
    let lines = [
        // Keys that come while it writes to flash are lost: it looks for Ctrl-C meanwhile.
        "\n\n\nsetenv who i am here; saveenv; reset\n",
        "\n\n\nprintenv who\nversion\npoweroff\n",
    ];
    let transcript = typed("u-boot", cpu, qemu, &lines)?;
    for (words, times) in [
        // Twice when it starts, and once when it is asked.
        ("U-Boot 20", 3),
        // The flash is new at first.
        ("bad CRC", 1),
        ("who=i am here", 1),
        ("fw_cfg interface not found", 0),
    ] {
        let seen = count(&transcript, "u-boot", words);
        ensure!(
            seen == times,
            "`{words}` {seen} times:\n{}",
            transcript.text()
        );
    }
    Ok(())
}

fn edk2(cpu: &str, qemu: Option<&str>) -> anyhow::Result<()> {
    let lines = [
        "\n\n\nset who iamhere\nreset\n",
        "\n\n\nset who\nver\nreset -s\n",
    ];
    let transcript = typed("edk2", cpu, qemu, &lines)?;
    for (words, times) in [
        ("UEFI firmware", 2),
        // Twice when it starts, and once when it is asked.
        ("UEFI Interactive Shell", 3),
        ("who = iamhere", 1),
        ("Exception", 0),
    ] {
        let seen = count(&transcript, "edk2", words);
        ensure!(
            seen == times,
            "`{words}` {seen} times:\n{}",
            transcript.text()
        );
    }
    Ok(())
}

#[test]
fn u_boot_reaches_its_prompt_and_keeps_its_environment() -> anyhow::Result<()> {
    u_boot("cortex-a57", None)
}

#[test]
fn edk2_reaches_its_shell_and_keeps_its_variables() -> anyhow::Result<()> {
    edk2("max", None)
}

/// Debian's kernel and a small initrd, as they lie in the bundle of a machine that would start them itself.
fn debian() -> anyhow::Result<[Vec<u8>; 2]> {
    let text = "[[guest]]\nname = \"linux\"\nkernel = \"debian\"\ninitrd = \"debian-hello\"\nmemory = \"256M\"\n\
                lanes = 1\nrng = true\n";
    let config = scratch()?.join("u-boot-debian.toml");
    fs::write(&config, text)?;
    let mut build = xtask();
    build.arg("build").arg(&config);
    let (status, text) = run(&mut build, "u-boot-build", GRACE)?;
    ensure!(status == Some(0), "building failed:\n{text}");
    let bundle = fs::read(target().join("xdv/u-boot-debian/bundle.cpio"))?;
    let part = |name| {
        let bytes = archive::entry(&bundle, name).map(<[u8]>::to_vec);
        bytes.with_context(|| format!("the bundle has no {name}"))
    };
    Ok([part("linux/kernel")?, part("linux/initrd")?])
}

/// U-Boot's own drivers of disks, network cards and random numbers, and a kernel that it boots from a disk; under the strict
/// lint, to which only what docs/virtio.md says of it is known.
#[test]
fn u_boot_drives_virtio_and_boots_from_a_disk() -> anyhow::Result<()> {
    let [kernel, initrd] = debian()?;
    let sectors = |bytes: &[u8]| bytes.len().div_ceil(512);
    let mut image = kernel.clone();
    image.resize(sectors(&kernel) * 512, 0);
    image.extend(&initrd);
    image.resize(image.len().next_multiple_of(512), 0);
    fs::write(scratch()?.join("u-boot.img"), &image)?;
    let text = "[[disk]]\nname = \"root\"\nimage = \"u-boot.img\"\nreadonly = true\n\
                [[disk]]\nname = \"blank\"\nsize = \"1M\"\n\
                [[network]]\nname = \"lan\"\necho = \"10.0.0.1\"\n\
                [[guest]]\nname = \"u-boot\"\nkernel = \"u-boot\"\nmemory = \"256M\"\nlanes = 1\n\
                disks = [\"root\", \"blank\"]\nnetworks = [\"lan\"]\nrng = true\n\
                [guest.lint]\nvirtio = \"strict\"\n";
    let config = scratch()?.join("u-boot-virtio.toml");
    fs::write(&config, text)?;
    let (first, second) = (sectors(&kernel), sectors(&initrd));
    let typed = [
        "\n\n\nvirtio scan\nvirtio info\n".to_owned(),
        // A part of the first disk to the second, and back to elsewhere.
        "virtio device 0\nvirtio read 0x44000000 0 0x80\ncrc32 0x44000000 0x10000\n".to_owned(),
        "virtio device 1\nvirtio write 0x44000000 0x33 0x80\n".to_owned(),
        "mw.b 0x46000000 0 0x10000\nvirtio read 0x46000000 0x33 0x80\n".to_owned(),
        "cmp.b 0x44000000 0x46000000 0x10000\n".to_owned(),
        "setenv ipaddr 10.0.0.2\nsetenv netmask 255.255.255.0\nping 10.0.0.1\n".to_owned(),
        "virtio device 0\nsetenv bootargs console=ttyAMA0 quiet\n".to_owned(),
        format!("virtio read ${{kernel_addr_r}} 0 {first:x}\n"),
        format!("virtio read ${{ramdisk_addr_r}} {first:x} {second:x}\n"),
        format!(
            "booti ${{kernel_addr_r}} ${{ramdisk_addr_r}}:{:x} ${{fdtcontroladdr}}\n",
            initrd.len()
        ),
    ];
    let machine = Machine::of(&config.display().to_string());
    let transcript = machine
        .cpu("max")
        .typed(&typed.concat())
        .seconds(600)
        .run()?;
    transcript.no_panic()?;
    transcript.well("u-boot")?;
    let megabytes = format!("({} x 512)", image.len() / 512);
    for (words, times) in [
        (megabytes.as_str(), 3),
        ("(2048 x 512)", 2),
        ("128 blocks read: OK", 2),
        ("128 blocks written: OK", 1),
        ("Total of 65536 byte(s) were the same", 1),
        ("host 10.0.0.1 is alive", 1),
        (&format!("{first} blocks read: OK"), 1),
        (&format!("{second} blocks read: OK"), 1),
        ("hello from user space", 1),
        ("goodbye from user space", 1),
    ] {
        let seen = count(&transcript, "u-boot", words);
        ensure!(
            seen == times,
            "`{words}` {seen} times:\n{}",
            transcript.text()
        );
    }
    let mut found = transcript.findings();
    found.sort_unstable();
    let mut wanted = vec![["u-boot", "advice", "no-acknowledge"]; 4];
    wanted.extend([["u-boot", "advice", "no-reset"]; 4]);
    ensure!(found == wanted, "{found:?}\n{}", transcript.text());
    transcript.ended(0)
}

/// EDK2's drivers of disks and random numbers, in the same way: it looks for something to boot on each disk, and shows them.
#[test]
fn edk2_drives_virtio() -> anyhow::Result<()> {
    let text = "[[disk]]\nname = \"root\"\nsize = \"2M\"\n\
                [[disk]]\nname = \"blank\"\nsize = \"1M\"\n\
                [[guest]]\nname = \"edk2\"\nkernel = \"edk2\"\nmemory = \"256M\"\nlanes = 1\n\
                disks = [\"root\", \"blank\"]\nrng = true\n\
                [guest.lint]\nvirtio = \"strict\"\n";
    let config = scratch()?.join("edk2-virtio.toml");
    fs::write(&config, text)?;
    // What ends its wait for a key loses that key, and more may be taken before; one line that is whole is enough.
    let typed = "\n".repeat(4) + &"reset -s\n".repeat(3);
    let transcript = Machine::of(&config.display().to_string())
        .cpu("max")
        .typed(&typed)
        .seconds(600)
        .run()?;
    transcript.no_panic()?;
    transcript.well("edk2")?;
    for words in ["BLK0:", "BLK1:"] {
        ensure!(
            count(&transcript, "edk2", words) > 0,
            "no `{words}`:\n{}",
            transcript.text()
        );
    }
    let wanted = [["edk2", "advice", "register-legacy"]; 3];
    let found = transcript.findings();
    ensure!(found == wanted, "{found:?}\n{}", transcript.text());
    transcript.ended(0)
}

/// Both on every CPU model and emulator that is promised.
#[test]
#[ignore = "takes some minutes"]
fn both_on_every_cpu_and_emulator() -> anyhow::Result<()> {
    for qemu in matrix::emulators() {
        for cpu in matrix::MODELS {
            u_boot(cpu, qemu.as_deref()).with_context(|| format!("U-Boot, {cpu}, {qemu:?}"))?;
            edk2(cpu, qemu.as_deref()).with_context(|| format!("EDK2, {cpu}, {qemu:?}"))?;
        }
    }
    Ok(())
}
