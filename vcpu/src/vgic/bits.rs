//! Small total helpers: masked table look-ups and iteration over the set bits of a word.
//!
//! Every index in this module tree is masked to its table's power-of-two length, so that no guest value can panic
//! EL2 and the compiler drops the bounds check.

/// One word of 32 flags for each group of 32 INTIDs: private, SPI 32–63, SPI 64–95.
pub(super) type Words = [u32; 3];

/// The element of `table` at `index` modulo the table's length, which must be a power of two.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "the index is masked to the power-of-two length"
)]
pub(super) const fn at<T, const N: usize>(table: &[T; N], index: usize) -> &T {
    const { assert!(N.is_power_of_two()) };
    &table[index & (N - 1)]
}

/// The mutable form of [`at`].
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "the index is masked to the power-of-two length"
)]
pub(super) const fn at_mut<T, const N: usize>(table: &mut [T; N], index: usize) -> &mut T {
    const { assert!(N.is_power_of_two()) };
    &mut table[index & (N - 1)]
}

/// The low 32 bits.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "keeping the low half is the purpose"
)]
pub(super) const fn low32(value: u64) -> u32 {
    value as u32
}

/// The low 8 bits.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "keeping the low byte is the purpose"
)]
pub(super) const fn low8(value: u64) -> u8 {
    value as u8
}

/// The set bits of a word, lowest first.
pub(super) struct Ones(pub(super) u32);

impl Iterator for Ones {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

/// The flag of `lane` in a mask of lanes.
#[inline(always)]
pub(super) const fn lane_bit(lane: usize) -> u32 {
    1 << (lane & 7)
}
