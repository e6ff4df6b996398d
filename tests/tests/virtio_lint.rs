//! What EL2 says of a virtio driver that makes mistakes.

use tests::matrix::{self, Point};

/// Each mistake is named once, with its section, its queue, and the function that made it; the device needs a reset then,
/// and nobody else is the worse for it.
#[test]
fn mistakes_of_a_driver_are_named_with_the_place_in_its_code() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        let transcript = point.machine("tests/configs/virtio-lint.toml").run()?;
        for (rule, words) in [
            ("register-read-only", "(virtio 1.3, 4.2.2)"),
            (
                "notify-early",
                "queue 0: a notification was sent before DRIVER_OK (virtio 1.3, 3.1.1)",
            ),
            (
                "avail-jump",
                "queue 0: the available index jumped over more entries than the queue has",
            ),
        ] {
            let line = format!("xdv |   careless: lint {rule}: rng");
            transcript.has(&line)?;
            let said: Vec<_> = transcript
                .text()
                .lines()
                .filter(|said| said.starts_with(&line))
                .collect();
            anyhow::ensure!(said.len() == 1, "{rule} was said {} times", said.len());
            for part in [words, "pc 0x", "<"] {
                anyhow::ensure!(said.iter().all(|said| said.contains(part)), "{said:?}");
            }
        }
        transcript.has("careless | careless: the device needs a reset: true")?;
        transcript.well("careless")?;
        transcript.no_panic()?;
    }
    Ok(())
}
