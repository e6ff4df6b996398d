//! The program's words.

mod bench;
mod direct;
mod disk;
mod fsx;
mod latency;
mod ledger;
mod random;
mod talk;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

const USAGE: &str = "probe fsx FILE SECONDS [SEED]          a file against a model
probe disk DEVICE SECONDS [SEED]       a device's blocks against a model, several at once
probe ledger FILE SECONDS              batches of records, and those of an earlier life looked at
probe latency read|write DEVICE BYTES COUNT
probe serve [vsock:]PORT               for the rest of time
probe talk ADDRESS:PORT MIB            both ways, every byte compared, and round trips; vsock:CID:PORT
probe echo ADDRESS:PORT MIB            the same with a service that sends back whatever it gets
probe bye ADDRESS:PORT                 a server's file /run/bye says that its client is through
probe udp ADDRESS:PORT COUNT           round trips of datagrams
probe bench disk DEVICE                what one operation costs, as `bench NAME MEDIAN`
probe bench line|udp|stream|throughput NAME DEVICE|ADDRESS
probe bench answer PORT                sends datagrams back to the first who sends one";

/// Does what the command line says.
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("probe: not so: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> anyhow::Result<()> {
    match words {
        ["fsx", file, seconds] => fsx::run(Path::new(file), for_seconds(seconds)?, random::seed()),
        ["fsx", file, seconds, seed] => {
            fsx::run(Path::new(file), for_seconds(seconds)?, number(seed)?)
        }
        ["disk", file, seconds] => {
            disk::run(Path::new(file), for_seconds(seconds)?, random::seed())
        }
        ["disk", file, seconds, seed] => {
            disk::run(Path::new(file), for_seconds(seconds)?, number(seed)?)
        }
        ["ledger", file, seconds] => ledger::run(Path::new(file), for_seconds(seconds)?),
        ["latency", what, file, bytes, count] => {
            latency::run(what, Path::new(file), number(bytes)?, number(count)?)
        }
        ["serve", place] => talk::serve(place),
        ["talk", place, mib] => talk::talk(place, number(mib)?),
        ["echo", place, mib] => talk::echo(place, number(mib)?),
        ["bye", place] => talk::bye(place),
        ["udp", place, count] => talk::udp(place, number(count)?),
        ["bench", "disk", device] => bench::disk(device),
        ["bench", "line", name, device] => bench::line(name, device),
        ["bench", "answer", port] => bench::answer(port),
        ["bench", "udp", name, place] => bench::udp(name, place),
        ["bench", "stream", name, place] => bench::stream(name, place),
        ["bench", "throughput", name, place] => bench::throughput(name, place),
        _ => bail!("{USAGE}"),
    }
}

fn number(word: &str) -> anyhow::Result<u64> {
    word.parse().with_context(|| format!("{word} is no number"))
}

fn for_seconds(word: &str) -> anyhow::Result<Duration> {
    number(word).map(Duration::from_secs)
}
