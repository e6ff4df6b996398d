//! How long one request to a disk takes, one at a time and past the page cache.

use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::time::Instant;

use anyhow::{bail, ensure};

use super::direct::{self, Buffer};
use super::random::Random;

/// Times so many requests at random places of the first MiBs, and says how they spread, in nanoseconds. Under an emulator
/// that counts instructions as nanoseconds those are instructions.
pub fn run(what: &str, path: &Path, bytes: u64, count: u64) -> anyhow::Result<()> {
    let file = direct::open(path, false)?;
    let size = (&file).seek(SeekFrom::End(0))?;
    ensure!(bytes > 0 && size >= bytes && count > 0, "nothing to do");
    let mut buffer = Buffer::new(usize::try_from(bytes)?);
    let mut random = Random::new(1);
    let mut times = Vec::new();
    for _ in 0..count {
        let at = random.below(size / bytes) * bytes;
        let begin = Instant::now();
        match what {
            "read" => buffer.read(&file, at)?,
            "write" => buffer.write(&file, at)?,
            _ => bail!("{what} is neither read nor write"),
        }
        times.push(begin.elapsed().as_nanos());
    }
    println!("latency: {what} of {bytes} bytes: {}", spread(times));
    Ok(())
}

/// The least, the median, nine of ten, and the most.
pub fn spread(mut times: Vec<u128>) -> String {
    times.sort_unstable();
    let at = |tenths: usize| times.get((times.len().saturating_sub(1)) * tenths / 10);
    let [least, half, most] = [at(0), at(5), at(10)].map(|time| time.copied().unwrap_or(0));
    let nine = at(9).copied().unwrap_or(0);
    format!(
        "least {least} ns, half {half}, nine of ten {nine}, most {most}, of {}",
        times.len()
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_is_in_the_middle() {
        let text = super::spread(vec![5, 1, 9, 3, 7]);
        assert_eq!(text, "least 1 ns, half 5, nine of ten 7, most 9, of 5");
    }
}
