//! Sizes, as an operator types them: as machine files have them.

use super::Complaint;

/// Bytes of what a balloon is counted in.
const PAGE: u64 = 4096;

/// The bytes that a word says, if there is one.
pub(super) fn size(word: Option<&str>) -> Result<Option<u64>, Complaint<'_>> {
    let size = |word| bytes(word).ok_or(Complaint::NoSize(word));
    word.map(size).transpose()
}

fn bytes(word: &str) -> Option<u64> {
    let (digits, shift) = match word.as_bytes() {
        b"0" => (word, 0),
        [.., b'K'] => (word.strip_suffix('K')?, 10),
        [.., b'M'] => (word.strip_suffix('M')?, 20),
        [.., b'G'] => (word.strip_suffix('G')?, 30),
        _ => return None,
    };
    // A number's own parser would take a sign.
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    bytes.is_multiple_of(PAGE).then_some(bytes)
}
