//! A person's own kernel, without a machine file: as a whole repository that cargo builds, runs and tests, and under a
//! debugger.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tests::machine::{GRACE, root, run, scratch, target, xtask};
use tests::transcript::Transcript;

/// EL2 may have to be built first.
const PATIENCE: Duration = GRACE;

/// The files of `docs/own-kernel.md`: each block of code whose paragraph begins with the file's name.
fn repository(folder: &Path) -> anyhow::Result<()> {
    let page = fs::read_to_string(root().join("docs/own-kernel.md"))?;
    let (mut name, mut file): (Option<&str>, Option<String>) = (None, None);
    for line in page.lines() {
        if let Some(text) = &mut file {
            if line != "```" {
                text.push_str(line);
                text.push('\n');
                continue;
            }
            let path = folder.join(name.take().context("a block of code without a name")?);
            fs::create_dir_all(path.parent().context("no folder")?)?;
            fs::write(path, file.take().unwrap_or_default())?;
        } else if let Some(named) = line.strip_prefix('`').filter(|_| !line.starts_with("```")) {
            name = named.split('`').next();
        } else if line.starts_with("```") && line.len() > 3 && name.is_some() {
            file = Some(String::new());
        }
    }
    Ok(())
}

/// The program that a runner names.
fn program() -> anyhow::Result<PathBuf> {
    if let Some(program) = std::env::var_os("XDV_XTASK") {
        return Ok(program.into());
    }
    let (status, text) = run(xtask().arg("--version"), "own-xtask", PATIENCE)?;
    ensure!(status == Some(0), "{text}");
    Ok(target().join("debug/xtask"))
}

/// A repository of its own, outside of ours, whose runner is what was built here.
fn elsewhere(name: &str) -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("xdv-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    repository(&folder)?;
    let settings = folder.join(".cargo/config.toml");
    let program = program()?;
    let text = fs::read_to_string(&settings)?;
    let ours = text.replace(
        "/path/to/xdv/target/debug/xtask",
        &program.display().to_string(),
    );
    ensure!(text != ours, "the page names another runner");
    fs::write(settings, ours)?;
    Ok(folder)
}

/// A program in a folder, by nobody at a terminal.
fn called(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("NO_COLOR", "1")
        .env("CI", "true");
    command
}

/// Runs it to its end.
fn finished(command: &mut Command) -> anyhow::Result<Transcript> {
    match run(command, "own-kernel", PATIENCE)? {
        (Some(status), text) => Ok(Transcript::new(status, text)),
        (None, text) => bail!("it did not end:\n{text}"),
    }
}

/// What cargo does in that repository, with its own target folder.
fn cargo(folder: &Path, word: &str) -> anyhow::Result<Transcript> {
    finished(called("cargo", folder).args([word, "--target-dir", "target"]))
}

#[test]
fn another_repository_is_run_and_tested_by_cargo() -> anyhow::Result<()> {
    let folder = elsewhere("own")?;
    let ran = cargo(&folder, "run")?;
    ran.ended(0)?;
    ensure!(
        ran.lines_of("my-kernel")
            .any(|line| line == "my kernel runs; its device tree is at 0x40000000"),
        "{}",
        ran.text()
    );
    let tested = cargo(&folder, "test")?;
    tested.ended(0)?;
    tested.has("arithmetic | arithmetic: ok")?;

    // A test that fails is a failure of cargo's, and says why.
    let test = fs::read_to_string(folder.join("tests/arithmetic.rs"))?;
    fs::write(folder.join("tests/arithmetic.rs"), test.replace("42", "43"))?;
    let failed = cargo(&folder, "test")?;
    failed.ended(101)?;
    failed.has("arithmetic | panicked at tests/arithmetic.rs")?;
    failed.has("guest arithmetic: ended with code 101")?;

    // A code is the run's exit status, and what is too large for one is the largest.
    let main = fs::read_to_string(folder.join("src/main.rs"))?;
    for (code, status) in [("7", 7), ("256", 255)] {
        let exit = format!("exit({code})");
        fs::write(folder.join("src/main.rs"), main.replace("exit(0)", &exit))?;
        cargo(&folder, "run")?.ended(status)?;
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// A kernel of two instructions, in a folder of its own: it does nothing, without end.
fn idle(name: &str) -> anyhow::Result<PathBuf> {
    let folder = scratch()?.join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let path = folder.join("Idle_Kernel.elf");
    let code = [0xD503_207Fu32, 0x17FF_FFFF]; // wfi; b .-4
    fs::write(
        &path,
        tests::elf::linked(LINKED, &code.map(u32::to_le_bytes).concat()),
    )?;
    Ok(path)
}

/// Where EL2 begins too.
const LINKED: u64 = 0x4020_0000;

#[test]
fn the_machine_file_is_shown_and_means_the_same() -> anyhow::Result<()> {
    let kernel = idle("own-file")?;
    let folder = kernel.parent().context("no folder")?;
    let program = program()?;
    let run = |words: &[&str]| {
        let mut command = called(&program, folder);
        finished(command.arg("run").args(words))
    };
    let words = [
        "--kernel",
        "Idle_Kernel.elf",
        "-m",
        "4M",
        "--lanes",
        "2",
        "a=b",
        "c",
    ];
    let shown = run(&[words.as_slice(), &["--print-config"]].concat())?;
    shown.ended(0)?;
    let text = format!(
        "[[guest]]\nname = \"idle-kernel\"\nkernel = \"{}\"\nmemory = \"4M\"\nlanes = 2\ncmdline = \"a=b c\"\n",
        kernel.display()
    );
    let rest = shown.text().strip_prefix(&text);
    let remark = "# The guest's console is \"pl011\", a serial port, ";
    ensure!(
        rest.is_some_and(|rest| rest.starts_with(remark)),
        "{}",
        shown.text()
    );
    let file = folder.join("own.toml");
    fs::write(&file, text)?;

    for words in [&words[..], &["own.toml"]] {
        let ran = run(&[&["--timeout", "1"], words].concat())?;
        ran.ended(1)?;
        ran.has("xdv | guest idle-kernel: started, 2 lanes, 4 MiB")?;
        ran.has("guest idle-kernel: still running after 1000 ms: lane 0 at pc 0x4020000")?;
    }
    let both = run(&["own.toml", "--kernel", "Idle_Kernel.elf"])?;
    both.ended(2)?;
    both.has("a machine file (own.toml) and --kernel exclude each other")?;
    let none = run(&["--kernel", "none.elf"])?;
    none.ended(2)?;
    none.has("--> --print-config:3:10")?;
    Ok(())
}

/// gdb's end of its remote protocol.
struct Gdb(TcpStream);

impl Gdb {
    /// Waits for who listens there, until the machine is `over`.
    fn connect(port: u16, over: &AtomicBool) -> anyhow::Result<Self> {
        loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
                    return Ok(Self(stream));
                }
                Err(error) if over.load(Ordering::Relaxed) => return Err(error.into()),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Sends a packet and returns the answer.
    fn ask(&mut self, words: &str) -> anyhow::Result<String> {
        let sum = words.bytes().fold(0u8, u8::wrapping_add);
        write!(self.0, "${words}#{sum:02x}")?;
        let mut answer = Vec::new();
        let mut byte = [0];
        loop {
            self.0.read_exact(&mut byte)?;
            match byte {
                [b'+'] if answer.is_empty() => {}
                [b'#'] => break,
                [byte] => answer.push(byte),
            }
        }
        self.0.read_exact(&mut [0; 2])?;
        self.0.write_all(b"+")?;
        let answer = String::from_utf8(answer)?;
        Ok(answer.trim_start_matches('$').to_owned())
    }

    /// A register by its number in gdb's description of the CPU: x0 is 0, pc is 32, cpsr is 33.
    fn register(&mut self, number: u32) -> anyhow::Result<u64> {
        let bytes = self.ask(&format!("p{number:x}"))?;
        let byte = |at| u64::from_str_radix(bytes.get(at..at + 2).unwrap_or("x"), 16);
        let mut value = 0;
        for at in (0..bytes.len()).step_by(2).rev() {
            value = value << 8 | byte(at).with_context(|| bytes.clone())?;
        }
        Ok(value)
    }
}

/// What gdb does with a kernel: to its entry, and away. The exception levels at which the machine stood there.
fn debug(port: u16, over: &AtomicBool) -> anyhow::Result<Vec<u64>> {
    let mut gdb = Gdb::connect(port, over)?;
    // Who has not read what registers there are cannot ask for one.
    gdb.ask("qXfer:features:read:target.xml:0,400")?;
    ensure!(gdb.ask("?")?.starts_with('T'), "it does not stand still");
    let mut levels = Vec::new();
    while levels.last() != Some(&1) && levels.len() < 8 {
        // As gdb does it: away from where it stands by one step, and only then with the breakpoint.
        gdb.ask("s")?;
        let set = gdb.ask(&format!("Z1,{LINKED:x},4"))?;
        ensure!(set == "OK", "no breakpoint: {set}");
        ensure!(gdb.ask("c")?.starts_with('T'), "it does not stop");
        let pc = gdb.register(32)?;
        ensure!(pc == LINKED, "it stops at {pc:#x}");
        gdb.ask(&format!("z1,{LINKED:x},4"))?;
        levels.push(gdb.register(33)? >> 2 & 3);
    }
    // The device tree, as the guest sees it.
    ensure!(gdb.register(0)? == 0x4000_0000, "x0 is no device tree");
    ensure!(
        gdb.ask("m40000000,4")? == "d00dfeed",
        "nor is what it points at"
    );
    gdb.ask("D")?;
    Ok(levels)
}

/// A run for so many seconds under a debugger: what the debugger saw, and the run's end and words.
fn debugged(kernel: &Path, seconds: u32) -> anyhow::Result<(anyhow::Result<Vec<u64>>, Transcript)> {
    let free = TcpListener::bind("127.0.0.1:0")?;
    let port = free.local_addr()?.port();
    drop(free);
    let mut command = xtask();
    command.arg("run").arg("--kernel").arg(kernel);
    command.args([&format!("--gdb={port}"), "-m", "4M", "--timeout"]);
    command.arg(seconds.to_string());
    let over = AtomicBool::new(false);
    let (levels, ran) = thread::scope(|scope| {
        let debugger = scope.spawn(|| debug(port, &over));
        let ran = finished(&mut command);
        over.store(true, Ordering::Relaxed);
        (debugger.join(), ran)
    });
    let ran = ran?;
    let told = format!(
        "gdb-multiarch '{}' -ex 'target remote :{port}' -ex 'hbreak *0x40200000 if ($cpsr & 12) == 4' -ex continue",
        kernel.display()
    );
    ran.has(&told)?;
    Ok((levels.map_err(|_| anyhow::anyhow!("gdb"))?, ran))
}

#[test]
fn a_debugger_stops_a_kernel_at_its_entry() -> anyhow::Result<()> {
    let kernel = idle("own-gdb")?;
    // A host that stands still may have the first deadline pass while gdb is at work, and give its port to somebody else.
    for (seconds, is_last) in [(3, false), (30, false), (120, true)] {
        let (levels, ran) = debugged(&kernel, seconds)?;
        let still = format!("still running after {seconds}000 ms");
        let too_soon = levels.is_err() && ran.says(&still);
        if (too_soon || ran.says("Address already in use")) && !is_last {
            continue;
        }
        let levels = levels.with_context(|| ran.text().to_owned())?;
        // QEMU enters EL2 where this kernel is linked, which is why the condition is there.
        ensure!(
            levels == [2, 1],
            "exception levels {levels:?}:\n{}",
            ran.text()
        );
        ran.ended(1)?;
        ran.has(&still)?;
        break;
    }
    Ok(())
}
