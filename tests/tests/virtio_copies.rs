//! What EL2 copies between a guest and a disk.

use tests::matrix::{self, Point};

/// Pieces of any length, from anywhere to anywhere, arrive whole, with nothing beside them changed; and the guest's vector
/// registers, with which EL2 copies, are its own afterwards.
#[test]
fn copies_of_any_length_and_place_arrive_and_leave_the_vector_registers() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        let transcript = point.machine("tests/configs/virtio-copies.toml").run()?;
        transcript.has("copies | copies: 0 of 1025 rounds went wrong")?;
        transcript.well("copies")?;
        transcript.no_panic()?;
    }
    Ok(())
}
