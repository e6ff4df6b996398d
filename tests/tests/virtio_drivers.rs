//! Our own kernel as somebody else's driver: the crate virtio-drivers against every device that a guest can have.

use std::fs;

use anyhow::{Context, ensure};
use tests::machine::{GRACE, Machine, run, scratch, xtask};
use tests::matrix::{Point, points};
use tests::transcript::Transcript;

/// A line of a guest that begins so.
fn said<'t>(transcript: &'t Transcript, guest: &'t str, start: &str) -> anyhow::Result<&'t str> {
    let mut lines = transcript.lines_of(guest);
    let line = lines.find(|line| line.starts_with(start));
    line.with_context(|| format!("{guest} does not say `{start}`:\n{}", transcript.text()))
}

/// The number before these words of a line.
fn number(line: &str, words: &str) -> anyhow::Result<u64> {
    let before = line.split(words).next().unwrap_or_default();
    let number = before
        .split(' ')
        .next_back()
        .and_then(|word| word.parse().ok());
    number.with_context(|| format!("no number before `{words}`: {line}"))
}

#[test]
fn disks_random_numbers_consoles_and_cards_are_driven() -> anyhow::Result<()> {
    for point in points(&[Point::of("max")]) {
        let transcript = point
            .machine("tests/configs/virtio-drivers.toml")
            .smp(2)
            .typed("hello, driver\n")
            .run()?;
        transcript.no_panic()?;
        for guest in ["alpha", "beta"] {
            transcript.well(guest)?;
            said(&transcript, guest, "virtio: console: line 3 of 3")?;
            let rng = said(&transcript, guest, "virtio: rng: ")?;
            ensure!(number(rng, " bytes")? == 4673, "{rng}");
            let blk = said(&transcript, guest, "virtio: blk ")?;
            ensure!(number(blk, " interrupts")? >= 100, "{blk}");
        }
        said(&transcript, "alpha", "virtio: blk left: 2048 sectors, ")?;
        said(&transcript, "alpha", "virtio: blk more: 6144 sectors, ")?;
        said(&transcript, "beta", "virtio: blk right: 128 sectors, ")?;
        transcript.has("virtio: console: heard 'hello, driver'")?;
        for (guest, other, rounds) in [("alpha", "beta", 300), ("beta", "alpha", 500)] {
            let net = said(&transcript, guest, "virtio: net ")?;
            ensure!(number(net, " pings")? == rounds, "{net}");
            ensure!(number(net, " interrupts")? > 10, "{net}");
            let answers = said(&transcript, other, "virtio: net ")?;
            ensure!(number(answers, " answered")? >= rounds, "{answers}");
        }
        ensure!(transcript.findings().is_empty(), "{}", transcript.text());
        transcript.ended(0)?;
    }
    Ok(())
}

/// The crate's drivers of all five kinds of devices give the lint nothing to say; the strict one only that the crate's own
/// transport does not look whether features were accepted. A disk that is asked for what is behind its end is beside them.
#[test]
fn all_drivers_are_silent_under_the_lint_and_the_strict_one_says_what_is_left_out()
-> anyhow::Result<()> {
    for point in points(&[Point::of("max")]) {
        let transcript = point
            .machine("tests/configs/virtio-lint-ranks.toml")
            .smp(2)
            .run()?;
        transcript.no_panic()?;
        for guest in ["looks", "asks", "plain", "strict"] {
            transcript.well(guest)?;
            for device in ["blk", "rng", "console", "net", "vsock"] {
                said(&transcript, guest, &format!("virtio: {device}"))?;
            }
        }
        let mut found = transcript.findings();
        found.sort_unstable();
        let mut wanted = vec![["asks", "lint", "blk-range"]];
        wanted.extend([["strict", "advice", "features-unread"]; 5]);
        ensure!(found == wanted, "{found:?}\n{}", transcript.text());
        transcript.ended(0)?;
    }
    Ok(())
}

#[test]
fn images_and_disks_of_the_machine_are_driven() -> anyhow::Result<()> {
    let folder = scratch()?;
    let image: Vec<u8> = (0..256 * 1024u32)
        .map(|at| (at / 512 * 7 + at).to_le_bytes()[0])
        .collect();
    let file = folder.join("drivers.img");
    fs::write(&file, &image)?;
    let machine = folder.join("drivers-machine.img");
    fs::write(&machine, vec![0; 1 << 20])?;
    let disk = |name: &str, more: &str| format!("[[disk]]\nname = \"{name}\"\n{more}\n");
    let guest = |name: &str| {
        format!(
            "[[guest]]\nname = \"{name}\"\nkernel = \"guest-kernel\"\nmemory = \"64M\"\nlanes = 1\n\
             cmdline = \"selfcheck=none virtio=blk rounds=50 beyond\"\ndisks = [\"fixed\", \"own\"{}]\n",
            if name == "one" { ", \"kept\"" } else { "" }
        )
    };
    let text = [
        disk("fixed", "image = \"drivers.img\"\nreadonly = true"),
        disk("own", "image = \"drivers.img\"\nsnapshot = true"),
        disk("kept", "machine = 0\nfirst_sector = 512\nsectors = 1024"),
        guest("one"),
        guest("two"),
    ];
    let config = folder.join("drivers.toml");
    fs::write(&config, text.concat())?;
    let mut command = xtask();
    command.arg("run").arg(&config).arg("--disk").arg(&machine);
    command.args(["--headless", "--timeout", "300"]);
    let (status, text) = run(&mut command, "virtio-disks", GRACE)?;
    let transcript = Transcript::new(status.context("it did not end")?, text);
    for guest in ["one", "two"] {
        transcript.well(guest)?;
        let fixed = said(&transcript, guest, "virtio: blk fixed: 512 sectors, ")?;
        ensure!(
            number(fixed, " writes")? == 0 && number(fixed, " reads")? == 100,
            "{fixed}"
        );
        let own = said(&transcript, guest, "virtio: blk own: 512 sectors, ")?;
        ensure!(number(own, " writes")? >= 16, "{own}");
    }
    said(&transcript, "one", "virtio: blk kept: 1024 sectors, ")?;
    transcript.ended(0)?;
    // What was written is in its part of the file and nowhere else.
    let bytes = fs::read(&machine)?;
    let (before, rest) = bytes.split_at(512 * 512);
    let (part, after) = rest.split_at(1024 * 512);
    ensure!(
        before.iter().chain(after).all(|byte| *byte == 0),
        "the disk is written elsewhere"
    );
    ensure!(
        part.chunks(512)
            .next()
            .is_some_and(|sector| sector.iter().any(|byte| *byte != 0))
    );
    ensure!(
        part.chunks(512)
            .next_back()
            .is_some_and(|sector| sector.iter().any(|byte| *byte != 0))
    );
    ensure!(fs::read(&file)? == image, "the image has changed");
    Ok(())
}

#[test]
fn sockets_are_driven_between_guests_and_to_the_host() -> anyhow::Result<()> {
    for point in points(&[Point::of("max")]) {
        let transcript = point
            .machine("tests/configs/virtio-sockets.toml")
            .smp(2)
            .run()?;
        transcript.no_panic()?;
        for (guest, cid) in [("server", 3), ("client", 4), ("caller", 5)] {
            transcript.well(guest)?;
            let line = said(&transcript, guest, &format!("virtio: vsock {cid}: "))?.to_owned();
            ensure!(number(&line, " bytes there and back")? == 51_200, "{line}");
        }
        transcript.ended(0)?;
    }
    Ok(())
}

/// Every combination of features with queues of this size: status, and what came of each.
fn matrix(size: &str) -> anyhow::Result<(i32, Vec<serde_json::Value>)> {
    let mut command = xtask();
    command.args([
        "virtio-matrix",
        "--kernel",
        "guest-kernel",
        "--timeout",
        "120",
    ]);
    command.args(["--json", "--queue-sizes", size]);
    command.args(["selfcheck=none", "virtio=rng,blk", "rounds=20"]);
    let (status, text) = run(&mut command, "virtio-matrix", GRACE)?;
    let json = text.lines().filter(|line| !line.starts_with("xtask:"));
    let json = json.collect::<Vec<_>>().join("\n");
    let rows = serde_json::from_str(&json).with_context(|| text.clone())?;
    Ok((status.context("it did not end")?, rows))
}

#[test]
fn a_matrix_says_what_worked() -> anyhow::Result<()> {
    let (status, rows) = matrix("16")?;
    ensure!(status == 0 && rows.len() == 16, "{status}: {rows:?}");
    for row in &rows {
        ensure!(row["works"] == true && row["queue_size"] == 16, "{row}");
    }
    for feature in ["packed", "indirect", "event_idx", "in_order"] {
        let with = rows.iter().filter(|row| row[feature] == true);
        ensure!(with.count() == 8, "{feature}");
    }
    // The random numbers' driver wants 8 descriptors, the disk's 16.
    let (status, rows) = matrix("8")?;
    ensure!(status == 1 && rows.len() == 16, "{status}: {rows:?}");
    for row in &rows {
        let why = row["why"].as_str().unwrap_or_default();
        ensure!(
            row["works"] == false && why.contains("blk FAILED: its driver gave up"),
            "{row}"
        );
    }
    Ok(())
}

#[test]
fn every_operation_on_a_queue_can_be_read() -> anyhow::Result<()> {
    let file = scratch()?.join("traced.img");
    fs::write(&file, vec![0; 1 << 20])?;
    let mut command = xtask();
    command.args([
        "run",
        "--kernel",
        "guest-kernel",
        "--trace",
        "virtio",
        "--disk",
    ]);
    command.arg(&file).args(["--headless", "--timeout", "300"]);
    command.args(["selfcheck=none", "virtio=blk", "rounds=4", "beyond"]);
    let (status, text) = run(&mut command, "virtio-trace", GRACE)?;
    ensure!(status == Some(0), "{text}");
    let transcript = Transcript::new(0, text);
    let traced = transcript.lines_of("xdv").filter_map(|line| {
        let said = line.trim_start().strip_prefix("guest-kernel: ")?;
        said.split_once(" us disk0")
            .map(|(_, said)| said.trim_start_matches(": "))
    });
    let traced: Vec<&str> = traced.collect();
    let times = |words: &str| traced.iter().filter(|line| line.contains(words)).count();
    let blk = said(&transcript, "guest-kernel", "virtio: blk disk0: ")?;
    let requests = number(blk, " reads")? + number(blk, " writes")? + number(blk, " flushes")?;
    // Besides: its name, and six requests beyond the end.
    let requests = usize::try_from(requests)? + 7;
    ensure!(
        times("queue 0: device takes ") == requests,
        "{}",
        transcript.text()
    );
    ensure!(
        times("queue 0: device gives ") == requests,
        "{}",
        transcript.text()
    );
    ensure!(times("driver writes QueueNotify 0x0") == requests);
    ensure!(times("device interrupts for used buffers") >= requests - 10);
    ensure!(times("driver writes QueueSize 0x10") == 1 && times("driver writes Status 0xf") == 1);
    let first = traced.iter().position(|line| line.contains("device takes"));
    let ready = traced
        .iter()
        .position(|line| line.contains("driver writes QueueReady 0x1"));
    ensure!(ready.is_some() && ready < first, "{}", transcript.text());
    Ok(())
}

#[test]
fn a_device_that_is_not_there_is_missed() -> anyhow::Result<()> {
    let text = "[[guest]]\nname = \"none\"\nkernel = \"guest-kernel\"\nmemory = \"64M\"\nlanes = 1\n\
                cmdline = \"selfcheck=none virtio=blk\"\n";
    let config = scratch()?.join("drivers-none.toml");
    fs::write(&config, text)?;
    let transcript = Machine::of(&config.display().to_string()).run()?;
    said(
        &transcript,
        "none",
        "self-check: blk FAILED: there is no such device",
    )?;
    transcript.has("guest none: ended with code 19")?;
    transcript.ended(1)
}

#[test]
fn devices_do_wrong_on_purpose() -> anyhow::Result<()> {
    let transcript = Point::of("max")
        .machine("tests/configs/virtio-faults.toml")
        .smp(2)
        .run()?;
    transcript.no_panic()?;
    // One is served late and out of order, and well all the same.
    transcript.well("patient")?;
    let blk = said(&transcript, "patient", "virtio: blk slow: 2048 sectors, ")?;
    ensure!(number(blk, " writes")? >= 50, "{blk}");
    said(&transcript, "patient", "virtio: rng: ")?;
    // The other's driver says so.
    transcript.has("victim | self-check: blk FAILED: what it should do it refused, at 0")?;
    transcript.has("guest victim: ended with code 19")?;
    transcript.ended(1)
}

/// Each fault of a script strikes the request that it names, and no other one, twice the same; the driver goes on. By the
/// wall clock a slow host may need longer for the driver's look at a request than a late one is late.
#[test]
fn devices_do_wrong_by_script() -> anyhow::Result<()> {
    for _ in 0..2 {
        let transcript = Point::of("max")
            .machine("tests/configs/virtio-script.toml")
            .icount()
            .run()?;
        transcript.no_panic()?;
        transcript.well("patient")?;
        let said: Vec<_> = transcript.lines_of("patient").collect();
        for nth in 1..=16 {
            let outcome = match nth {
                3 | 4 | 15 => "failed",
                6 => "lost",
                8 => "late",
                10 => "well, not told",
                12 => "reset",
                _ => "well",
            };
            let line = format!("request {nth}: {outcome}");
            ensure!(said.contains(&line.as_str()), "no `{line}`: {said:?}");
        }
    }
    Ok(())
}
