//! Bytes of a stream: each follows from its place, so that one that is lost, doubled or moved is found.

use super::Wrong;
use crate::pattern::mix;

/// The byte at a place.
#[must_use]
pub fn byte(at: u64) -> u8 {
    let [byte, ..] = mix(at / 8).to_le_bytes();
    byte.wrapping_add((at % 8).to_le_bytes()[0])
}

/// Fills in what comes from this place on.
pub fn fill(at: u64, bytes: &mut [u8]) {
    bytes
        .iter_mut()
        .zip(at..)
        .for_each(|(into, at)| *into = byte(at));
}

/// Judges what came from this place on.
///
/// # Errors
/// The first place that has another byte.
pub fn judge(at: u64, bytes: &[u8]) -> Result<(), Wrong> {
    let mut places = bytes.iter().zip(at..);
    match places.find(|(found, at)| **found != byte(*at)) {
        Some((_, at)) => Err(Wrong::Changed(at)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_or_moved_is_found() {
        let mut bytes = [0; 300];
        fill(1000, &mut bytes);
        assert_eq!(judge(1000, &bytes), Ok(()));
        assert_eq!(judge(1007, &bytes[7..]), Ok(()));
        for at in [999, 1001, 1008, 2000] {
            assert!(judge(at, &bytes).is_err(), "{at}");
        }
        bytes[299] ^= 1;
        assert_eq!(judge(1000, &bytes), Err(Wrong::Changed(1299)));
    }
}
